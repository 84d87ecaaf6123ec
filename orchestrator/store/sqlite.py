"""SQLite, through sqlite-utils: one writing connection a process that commits in groups, and a queue between processes.

SQLite's own busy handler starves writers: with a few processes contending some wait for seconds and fail with
"database is locked". Here a process has one writing connection; what threads want written while it is in use waits
and is committed together. Between processes two file locks make a fair turnstile: whoever gives the database away has
to queue behind those that wait.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from sqlite_utils import Database, Migrations

from orchestrator.errors import StoreUnavailable
from orchestrator.store.driver import BEING_COPIED, BUSY, Counts, Duplicate, Row, check_open, migrations, statements
from orchestrator.store.groups import Groups, Job
from orchestrator.store.presence import Presence
from orchestrator.store.sqlite_faults import translated
from orchestrator.store.sqlite_whole import SqliteWhole
from orchestrator.store.turnstile import Turnstile
from orchestrator.turns import do_together

T = TypeVar("T")

_MARKS = {"int": "integer", "bytes": "blob", "strict": "strict"}
_QUERY_MARKS = {"skip_locked": "", "for_update": ""}
_BUSY_MS = 5_000


class _Session:
    def __init__(self, database: Database) -> None:
        self.database = database
        self._statements = statements(**_QUERY_MARKS)
        self.counts = Counts()

    def rows(self, name: str, /, **parameters: Any) -> list[Row]:
        cursor = self._execute(name, parameters)
        names = [column[0] for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def now(self, local: int) -> int:
        return local

    def run(self, name: str, /, **parameters: Any) -> int:
        return self._execute(name, parameters).rowcount

    def count(self, name: str, difference: int, /, **key: Any) -> None:
        self.counts.add(name, difference, key)

    def _execute(self, name: str, parameters: dict[str, Any]) -> sqlite3.Cursor:
        try:
            # Not through `Database.execute`, which looks at each statement's text first.
            return self.database.conn.execute(self._statements[name], parameters)
        except sqlite3.IntegrityError as error:
            if error.sqlite_errorcode in (
                sqlite3.SQLITE_CONSTRAINT_UNIQUE,
                sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY,
            ):
                raise Duplicate(f"{name}: the row is already there") from error
            raise


class SqliteDriver:
    """One SQLite file in WAL mode, `synchronous=FULL`: what was committed survives a power loss."""

    commits_together = True

    def __init__(self, path: Path) -> None:
        self._path = path
        self._local = threading.local()
        self._groups = Groups(self._commit)
        self._writer: _Writer | None = None
        self._readers: list[Database] = []
        self._presence = Presence(path)
        self._opened = False

    def open(self) -> None:
        """See Driver.open."""
        if self._opened:
            return
        with translated():
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not self._presence.share():
                raise StoreUnavailable(BEING_COPIED)
            try:
                with closing(self._open()) as database:
                    check_open(SqliteWhole(database).moves())
            except BaseException:
                self._presence.end()
                raise
        self._opened = True

    @contextmanager
    def alone(self) -> Iterator[SqliteWhole]:
        """See Driver.alone."""
        with translated():
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not self._presence.alone():
                raise StoreUnavailable(BUSY)
            self._opened = True
            database = self._open()
            try:
                yield SqliteWhole(database)
            finally:
                database.close()
                self.close()

    def read(self, work: Callable[[_Session], T]) -> T:
        """See Driver.read."""
        session = self._reader()
        execute = session.database.conn.execute
        with translated():
            execute("begin")
            try:
                return work(session)
            finally:
                execute("commit")

    def rows(self, name: str, /, **parameters: Any) -> list[Row]:
        """See Driver.rows: a statement alone has a snapshot of its own."""
        session = self._reader()
        with translated():
            return session.rows(name, **parameters)

    def write(self, work: Callable[[_Session], T]) -> T:
        """See Driver.write."""
        self.open()
        job = Job(work)
        do_together(job, self._groups.write)
        result: T = job.result()
        return result

    def migrate(self) -> list[str]:
        """See Driver.migrate."""
        self.open()
        with translated():
            turnstile = Turnstile(self._path)
            try:
                with turnstile.turn():
                    return self._migrate_alone()
            finally:
                turnstile.close()

    def _migrate_alone(self) -> list[str]:
        database = self._open()
        try:
            database.execute("pragma journal_mode = wal")
            known = _known_migrations()
            names = [migration.name for migration in known.pending(database)]
            known.apply(database)
            return names
        finally:
            database.close()

    def pending_migrations(self) -> list[str]:
        """See Driver.pending_migrations."""
        with translated():
            return [migration.name for migration in _known_migrations().pending(self._reader().database)]

    def backup(self, target: Path) -> None:
        """See Driver.backup."""
        os.close(os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        with translated():
            copy = sqlite3.connect(target)
            try:
                self._reader().database.conn.backup(copy)
            finally:
                copy.close()

    def restore(self, source: Path, check: Callable[[], None]) -> None:
        """See Driver.restore."""
        self.open()
        turnstile = Turnstile(self._path)
        try:
            with translated(), turnstile.turn():
                check()
                database, copy = self._open(), sqlite3.connect(source)
                try:
                    copy.backup(database.conn)
                finally:
                    copy.close()
                    database.close()
        finally:
            turnstile.close()

    def close(self) -> None:
        """See Driver.close."""
        with self._groups.alone:
            self._close_writer()
        for database in self._readers:
            with suppress(sqlite3.Error):
                database.close()
        self._readers.clear()
        self._presence.end()
        self._opened = False

    def _reader(self) -> _Session:
        session: _Session | None = getattr(self._local, "session", None)
        if session is None:
            self.open()
            with translated():
                session = _Session(self._open())
            self._local.session = session
            self._readers.append(session.database)
        return session

    def _open(self) -> Database:
        # Only ever created, never opened and closed beside SQLite: closing any descriptor of the file would drop
        # the locks that this process's other connections hold on it.
        with suppress(FileExistsError):
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        connection = sqlite3.connect(self._path, timeout=_BUSY_MS / 1000, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("pragma synchronous = full")
            connection.execute("pragma foreign_keys = on")
        except BaseException:
            connection.close()
            raise
        return Database(connection)

    def _commit(self, group: Sequence[Job]) -> None:
        with translated():
            self._writer = self._writer or _Writer(self._open(), Turnstile(self._path))
            try:
                self._writer.commit(group)
            except BaseException:
                self._close_writer()
                raise

    def _close_writer(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()


class _Writer:
    """The one writing connection of a process."""

    def __init__(self, database: Database, turnstile: Turnstile) -> None:
        self._database = database
        self._execute = database.conn.execute
        self._session = _Session(database)
        self._turnstile = turnstile

    def commit(self, group: Sequence[Job]) -> None:
        """All jobs in one transaction; a job that fails is undone alone."""
        with self._turnstile.turn():
            try:
                self._execute("begin immediate")
                if not all(job.run(self._session) for job in group):
                    # Rare enough that a mark to go back to, before each of them, would cost more.
                    self._roll_back()
                    if len(group) == 1:
                        return
                    self._execute("begin immediate")
                    for job in group:
                        self._run_apart(job)
                self._session.counts.write(self._session)
                self._execute("commit")
            except BaseException:
                with suppress(sqlite3.Error):
                    if self._database.conn.in_transaction:
                        self._roll_back()
                raise

    def close(self) -> None:
        """Give connection and locks back."""
        self._database.close()
        self._turnstile.close()

    def _run_apart(self, job: Job) -> None:
        counted = self._session.counts.kept()
        self._execute("savepoint job")
        if not job.run(self._session):
            self._execute("rollback to job")
            self._session.counts.forget(counted)
        self._execute("release job")

    def _roll_back(self) -> None:
        self._session.counts.forget()
        self._execute("rollback")


def _known_migrations() -> Migrations:
    known = Migrations("orchestrator")
    for name, sql in migrations(**_MARKS):
        known(name=name)(_applying(sql))
    return known


def _applying(sql: str) -> Callable[[Database], None]:
    def apply(database: Database) -> None:
        statement = ""
        for line in sql.splitlines():
            statement += line + "\n"
            if sqlite3.complete_statement(statement):
                database.execute(statement)
                statement = ""

    return apply
