"""PostgreSQL, through psycopg and its pool: the same statements, with any number of processes on any machines."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import psycopg
from psycopg.rows import dict_row
from psycopg_pool import ConnectionPool, PoolTimeout

from orchestrator.errors import StoreUnavailable
from orchestrator.store.driver import Duplicate, Row, migrations, statements

T = TypeVar("T")

_MARKS = {"int": "bigint", "bytes": "bytea", "strict": ""}
_QUERY_MARKS = {"skip_locked": "for update skip locked", "for_update": "for update"}
_PARAMETER = re.compile(r"(?<![:\w]):(\w+)")
_MIGRATION_LOCK = 7_236_911_055_281
_TRIES = 20
_KNOWN = "create table if not exists migrations (name text primary key not null, applied_at timestamptz not null)"
_Connection = psycopg.Connection[dict[str, Any]]


class _Session:
    def __init__(self, connection: _Connection) -> None:
        self._connection = connection

    def rows(self, name: str, /, **parameters: Any) -> list[Row]:
        return cast(list[Row], self._connection.execute(_sql(name), _storable(parameters)).fetchall())

    def run(self, name: str, /, **parameters: Any) -> int:
        return self._connection.execute(_sql(name), _storable(parameters)).rowcount

    def now(self, local: int) -> int:
        del local
        row = self._connection.execute(
            "select (extract(epoch from clock_timestamp()) * 1000)::bigint as now"
        ).fetchone()
        return int(row["now"]) if row is not None else 0


class PostgresDriver:
    """A PostgreSQL database. `connections`: how many this process uses at most."""

    def __init__(self, url: str, connections: int = 16) -> None:
        self._pool: ConnectionPool[_Connection] = ConnectionPool(
            url,
            connection_class=_Connection,
            kwargs={"autocommit": True, "row_factory": dict_row, "connect_timeout": 5},
            min_size=0,
            max_size=connections,
            timeout=5,
            open=False,
            check=ConnectionPool.check_connection,
        )

    def read(self, work: Callable[[_Session], T]) -> T:
        """See Driver.read: here each statement has a snapshot of its own."""
        with self._connection() as connection:
            return work(_Session(connection))

    def rows(self, name: str, /, **parameters: Any) -> list[Row]:
        """See Driver.rows."""
        return self.read(lambda session: session.rows(name, **parameters))

    def write(self, work: Callable[[_Session], T]) -> T:
        """See Driver.write. Work that the server undid, because two writers waited for each other, is done again."""
        for _ in range(_TRIES):
            try:
                with self._connection() as connection, connection.transaction():
                    return work(_Session(connection))
            except (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure):
                continue
        raise StoreUnavailable("the database undid a write again and again: it is overloaded")

    def migrate(self) -> list[str]:
        """See Driver.migrate; an advisory lock lets one process do it."""
        with self._connection() as connection, connection.transaction():
            connection.execute("select pg_advisory_xact_lock(%s)", (_MIGRATION_LOCK,))
            connection.execute(_KNOWN)
            pending = _pending(connection)
            for name, sql in pending:
                connection.execute(sql)
                connection.execute("insert into migrations (name, applied_at) values (%s, now())", (name,))
        return [name for name, _ in pending]

    def pending_migrations(self) -> list[str]:
        """See Driver.pending_migrations."""
        with self._connection() as connection:
            known = connection.execute("select to_regclass('migrations') as found").fetchone()
            if known is None or known["found"] is None:
                return [name for name, _ in migrations(**_MARKS)]
            return [name for name, _ in _pending(connection)]

    def backup(self, target: Path) -> None:
        """Raises StoreUnavailable: a server is backed up by its own tool."""
        raise StoreUnavailable("with PostgreSQL use pg_dump, and the versioning of the bucket or folder of documents")

    def restore(self, source: Path) -> None:
        """Raises StoreUnavailable: a server is restored by its own tool."""
        raise StoreUnavailable(
            "with PostgreSQL use pg_restore, and the versioning of the bucket or folder of documents"
        )

    def close(self) -> None:
        """See Driver.close."""
        self._pool.close()

    @contextmanager
    def _connection(self) -> Iterator[_Connection]:
        try:
            self._pool.open()
            with self._pool.connection() as connection:
                yield connection
        except psycopg.errors.UniqueViolation as error:
            raise Duplicate("the row is already there") from error
        except (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure):
            raise
        except (psycopg.OperationalError, psycopg.InterfaceError, PoolTimeout, psycopg.errors.UndefinedTable) as error:
            raise StoreUnavailable(
                f"the database could not be used ({type(error).__name__}): check that the server runs and "
                "ORCHESTRATOR_DATABASE_URL names it"
            ) from error


def _storable(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """PostgreSQL refuses texts with NUL; what we store has none, so what is asked for with one is not there."""
    return {
        name: value.replace("\0", "\ufffd") if isinstance(value, str) else value for name, value in parameters.items()
    }


def _pending(connection: _Connection) -> list[tuple[str, str]]:
    applied = {row["name"] for row in connection.execute("select name from migrations").fetchall()}
    return [(name, sql) for name, sql in migrations(**_MARKS) if name not in applied]


@cache
def _sql(name: str) -> str:
    return _PARAMETER.sub(r"%(\1)s", statements(**_QUERY_MARKS)[name])
