"""A SQLite database taken as a whole: copied from, copied to, closed."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from sqlite_utils import Database

from orchestrator.store.driver import Contents


class SqliteWhole:
    """See Whole."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: sqlite3.Connection = database.conn

    def contents(self, table: str) -> Contents:
        """See Whole.contents."""
        cursor = self._connection.execute(f"select * from {table}")  # noqa: S608 - a name of ours
        return Contents(table, [column[0] for column in cursor.description], cursor)

    def count(self, table: str) -> int:
        """See Whole.count."""
        rows: int = self._connection.execute(f"select count(*) from {table}").fetchone()[0]  # noqa: S608 - ours
        return rows

    def replace(self, tables: Sequence[str], contents: Iterable[Contents], place: str, now: int) -> None:
        """See Whole.replace."""
        with self._transaction():
            for table in reversed(tables):
                self._connection.execute(f"delete from {table}")  # noqa: S608 - a name of ours
            for each in contents:
                marks = ", ".join("?" * len(each.columns))
                insert = f"insert into {each.table} ({', '.join(each.columns)}) values ({marks})"  # noqa: S608
                self._connection.executemany(insert, each.rows)
            self._note("here", place, now)

    def moves(self) -> Mapping[str, str]:
        """See Whole.moves."""
        if not self._database["moves"].exists():
            return {}
        return dict(self._connection.execute("select direction, place from moves").fetchall())

    def move_away(self, place: str, now: int) -> None:
        """See Whole.move_away."""
        with self._transaction():
            self._note("away", place, now)

    def arrive(self) -> None:
        """See Whole.arrive."""
        with self._transaction():
            self._connection.execute("delete from moves")

    def _note(self, direction: str, place: str, now: int) -> None:
        self._connection.execute("insert or replace into moves values (?, ?, ?)", (direction, place, now))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("begin immediate")
        try:
            yield
        except BaseException:
            self._connection.execute("rollback")
            raise
        self._connection.execute("commit")
