"""PostgreSQL, through psycopg and its pool: the same statements, with any number of processes on any machines."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from typing import Any, LiteralString, TypeVar, cast

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import dict_row, tuple_row
from psycopg_pool import ConnectionPool, PoolTimeout

from orchestrator.errors import ConfigurationError, OrchestratorError, SettingFault, StoreUnavailable
from orchestrator.store.driver import (
    BEING_COPIED,
    BUSY,
    Contents,
    Counts,
    Duplicate,
    Row,
    check_open,
    migrations,
    statements,
)

T = TypeVar("T")

_MARKS = {"int": "bigint", "bytes": "bytea", "strict": ""}
_QUERY_MARKS = {"skip_locked": "for update skip locked", "for_update": "for update"}
_PARAMETER = re.compile(r"(?<![:\w]):(\w+)")
_MIGRATION_LOCK = 7_236_911_055_281
_PRESENCE_LOCK = 7_236_911_055_282
"""Every connection has a share in it; who wants to be alone has it whole."""
_TRIES = 20
_CHUNK = 500
_UNAVAILABLE = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.InternalError,  # a standby after a switch, a server that lets nobody write, a damaged page
    psycopg.errors.InsufficientPrivilege,
    psycopg.errors.UndefinedTable,
    PoolTimeout,
)
_SETTING = "ORCHESTRATOR_DATABASE_URL"
_SAID = {
    "refused": f"the database server refuses this user or password: check those in {_SETTING}",
    "unlisted": f"the database server lets this user in from elsewhere only: list this machine in its pg_hba.conf, or "
    f"check the user and the host in {_SETTING}",
    "missing": f"there is no such database on the server: create it, or check the name in {_SETTING}",
    "rights": f"the user of {_SETTING} may not do that: make this user the owner of the database and its tables",
    "read only": f"the database takes no writes: is it a standby? {_SETTING} must name the server that takes them",
    "unmigrated": "the database lacks tables: run `orchestrator migrate` first",
}
_BY_STATE = {
    **dict.fromkeys(("28P01", "28000"), "refused"),
    **{"3D000": "missing", "42501": "rights", "25006": "read only", "42P01": "unmigrated"},
}
# Of a connection that was refused there is only a text. It may quote what the setting holds, so it is not repeated.
_BY_TEXT = (
    (re.compile(r"pg_hba\.conf"), "unlisted"),
    (
        re.compile(r"authentication failed|no password supplied|role .* does not exist|not permitted to log in"),
        "refused",
    ),
    (re.compile(r"database .* does not exist"), "missing"),
    (re.compile(r"permission denied for database"), "rights"),
)
_KNOWN = "create table if not exists migrations (name text primary key not null, applied_at timestamptz not null)"
_Connection = psycopg.Connection[dict[str, Any]]
_SETTINGS: dict[str, Any] = {"autocommit": True, "row_factory": dict_row, "connect_timeout": 5}
# What the pool says of a failed connection may quote what the setting holds; what matters of it is raised.
logging.getLogger("psycopg.pool").setLevel(logging.CRITICAL)


class _Session:
    def __init__(self, connection: _Connection) -> None:
        self._connection = connection
        self.counts = Counts()

    def rows(self, name: str, /, **parameters: Any) -> list[Row]:
        return cast(list[Row], self._connection.execute(_sql(name), _storable(parameters)).fetchall())

    def run(self, name: str, /, **parameters: Any) -> int:
        return self._connection.execute(_sql(name), _storable(parameters)).rowcount

    def count(self, name: str, difference: int, /, **key: Any) -> None:
        self.counts.add(name, difference, key)

    def now(self, local: int) -> int:
        del local
        return int(_answer(self._connection, "select (extract(epoch from clock_timestamp()) * 1000)::bigint"))


class PostgresDriver:
    """A PostgreSQL database. `connections`: how many this process uses at most.

    Raises ConfigurationError when `url` is none that PostgreSQL takes.
    """

    commits_together = False

    def __init__(self, url: str, connections: int = 16) -> None:
        _check(url)
        self._url = url
        self._is_alone = False
        self._refusal: OrchestratorError | None = None
        self._pool: ConnectionPool[_Connection] = ConnectionPool(
            url,
            connection_class=_Connection,
            kwargs=_SETTINGS,
            # One connection always stands, so that whoever wants to be alone sees that this process is there.
            min_size=1,
            max_size=connections,
            timeout=5,
            open=False,
            check=ConnectionPool.check_connection,
            configure=self._join,
        )

    def open(self) -> None:
        """See Driver.open."""
        with _translated(), closing(_Connection.connect(self._url, **_SETTINGS)) as connection:
            self._join(connection)
        with self._connection():
            """From here on one of the pool's connections stands."""

    @contextmanager
    def alone(self) -> Iterator[_Whole]:
        """See Driver.alone; the driver is closed afterwards."""
        with _translated(), closing(_Connection.connect(self._url, **_SETTINGS)) as connection:
            if not _answer(connection, "select pg_try_advisory_lock(%s)", _PRESENCE_LOCK):
                raise StoreUnavailable(BUSY)
            self._is_alone = True
            try:
                yield _Whole(connection)
            finally:
                self.close()

    def read(self, work: Callable[[_Session], T]) -> T:
        """See Driver.read."""
        with self._connection() as connection:
            connection.execute("begin isolation level repeatable read read only")
            try:
                return work(_Session(connection))
            finally:
                connection.execute("commit")

    def rows(self, name: str, /, **parameters: Any) -> list[Row]:
        """See Driver.rows."""
        return self.read(lambda session: session.rows(name, **parameters))

    def write(self, work: Callable[[_Session], T]) -> T:
        """See Driver.write."""

        def write(connection: _Connection) -> T:
            session = _Session(connection)
            value = work(session)
            session.counts.write(session)
            return value

        return self._transaction(write)

    def migrate(self) -> list[str]:
        """See Driver.migrate; an advisory lock lets one process do it, beside others that read and write."""
        self.open()
        return self._transaction(_migrate)

    def pending_migrations(self) -> list[str]:
        """See Driver.pending_migrations."""
        with self._connection() as connection:
            if _answer(connection, "select to_regclass('migrations')") is None:
                return [name for name, _ in migrations(**_MARKS)]
            return [name for name, _ in _pending(connection)]

    def backup(self, target: Path) -> None:
        """Raises StoreUnavailable: a server is backed up by its own tool."""
        raise StoreUnavailable("with PostgreSQL use pg_dump, and back the bucket or folder of documents up beside it")

    def restore(self, source: Path, check: Callable[[], None]) -> None:
        """Raises StoreUnavailable: a server is restored by its own tool."""
        raise StoreUnavailable("with PostgreSQL use pg_restore, then run `orchestrator restore --in-place`")

    def close(self) -> None:
        """See Driver.close."""
        self._pool.close()

    def _join(self, connection: _Connection) -> None:
        """What each connection does before it is used."""
        try:
            if not self._is_alone:
                with _translated():
                    if not _answer(connection, "select pg_try_advisory_lock_shared(%s)", _PRESENCE_LOCK):
                        raise StoreUnavailable(BEING_COPIED)
                    check_open(_moves(connection))
        except OrchestratorError as error:
            self._refusal = error
            raise
        self._refusal = None
        # Who vanishes in the middle of a transaction must not hold its rows for as long as TCP takes to notice.
        connection.execute("set idle_in_transaction_session_timeout = '30s'")
        if _answer(connection, "show synchronous_commit") == "off":
            # What is acknowledged is on disk, whatever the server's default.
            connection.execute("set synchronous_commit = on")

    def _transaction(self, work: Callable[[_Connection], T]) -> T:
        """Work that the server undid, because two transactions waited for each other, is done again."""
        for _ in range(_TRIES):
            try:
                with self._connection() as connection, connection.transaction():
                    return work(connection)
            except (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure):
                continue
        raise StoreUnavailable("the database undid a write again and again: it is overloaded")

    @contextmanager
    def _connection(self) -> Iterator[_Connection]:
        with _translated():
            self._pool.open()
            try:
                with self._pool.connection() as connection:
                    yield connection
            except PoolTimeout:
                if self._refusal is not None:
                    raise self._refusal from None
                raise


class _Whole:
    """See Whole; over a connection of its own, in which nothing else goes on."""

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection

    def contents(self, table: str) -> Contents:
        """See Whole.contents."""
        names = self._connection.execute(sql.SQL("select * from {} limit 0").format(sql.Identifier(table)))
        return Contents(table, [column.name for column in names.description or ()], self._rows(table))

    def count(self, table: str) -> int:
        """See Whole.count."""
        found = self._connection.execute(sql.SQL("select count(*) as rows from {}").format(sql.Identifier(table)))
        return int(found.fetchall()[0]["rows"])

    def replace(self, tables: Sequence[str], contents: Iterable[Contents], place: str, now: int) -> None:
        """See Whole.replace."""
        with self._connection.transaction():
            self._connection.execute(sql.SQL("truncate {}").format(sql.SQL(", ").join(map(sql.Identifier, tables))))
            for each in contents:
                columns = sql.SQL(", ").join(map(sql.Identifier, each.columns))
                copying = sql.SQL("copy {} ({}) from stdin").format(sql.Identifier(each.table), columns)
                with self._connection.cursor() as cursor, cursor.copy(copying) as copy:
                    for row in each.rows:
                        copy.write_row(row)
            self._note("here", place, now)

    def moves(self) -> Mapping[str, str]:
        """See Whole.moves."""
        return _moves(self._connection)

    def move_away(self, place: str, now: int) -> None:
        """See Whole.move_away."""
        self._note("away", place, now)

    def arrive(self) -> None:
        """See Whole.arrive."""
        self._connection.execute("delete from moves")

    def _rows(self, table: str) -> Iterator[Sequence[Any]]:
        with self._connection.transaction(), self._connection.cursor("contents", row_factory=tuple_row) as cursor:
            cursor.itersize = _CHUNK
            yield from cursor.execute(sql.SQL("select * from {}").format(sql.Identifier(table)))

    def _note(self, direction: str, place: str, now: int) -> None:
        self._connection.execute(
            "insert into moves (direction, place, at) values (%s, %s, %s) "
            "on conflict (direction) do update set place = excluded.place, at = excluded.at",
            (direction, place, now),
        )


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except psycopg.errors.UniqueViolation as error:
        raise Duplicate("the row is already there") from error
    except (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure):
        raise
    except _UNAVAILABLE as error:
        raise StoreUnavailable(_words(error)) from error


def _check(url: str) -> None:
    """Raises ConfigurationError when PostgreSQL's own library cannot read `url`, which it would quote."""
    try:
        conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        problem = "it is no URL that PostgreSQL takes: check its options, and that no character needs a % code"
        raise ConfigurationError(
            [SettingFault(_SETTING, problem, "postgresql://user:password@host/database")]
        ) from None


def _words(error: Exception) -> str:
    """What is wrong and what to do, without anything that the server or its library says."""
    state = error.sqlstate if isinstance(error, psycopg.Error) else None
    case = _BY_STATE.get(state or "")
    if state is None:
        case = next((case for text, case in _BY_TEXT if text.search(str(error))), None)
    if case is not None:
        return _SAID[case]
    return (
        f"the database could not be used ({type(error).__name__}): check that the server runs and {_SETTING} names it"
    )


def _answer(connection: _Connection, question: LiteralString, *values: object) -> Any:
    row = connection.execute(question, values).fetchone()
    return None if row is None else next(iter(row.values()))


def _moves(connection: _Connection) -> Mapping[str, str]:
    if _answer(connection, "select to_regclass('moves')") is None:
        return {}
    return {row["direction"]: row["place"] for row in connection.execute("select direction, place from moves")}


def _storable(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """PostgreSQL refuses texts with NUL; what we store has none, so what is asked for with one is not there."""
    return {
        name: value.replace("\0", "\ufffd") if isinstance(value, str) else value for name, value in parameters.items()
    }


def _migrate(connection: _Connection) -> list[str]:
    connection.execute("select pg_advisory_xact_lock(%s)", (_MIGRATION_LOCK,))
    connection.execute(_KNOWN)
    pending = _pending(connection)
    for name, text in pending:
        connection.execute(text)
        connection.execute("insert into migrations (name, applied_at) values (%s, now())", (name,))
    return [name for name, _ in pending]


def _pending(connection: _Connection) -> list[tuple[str, str]]:
    applied = {row["name"] for row in connection.execute("select name from migrations").fetchall()}
    return [(name, sql) for name, sql in migrations(**_MARKS) if name not in applied]


@cache
def _sql(name: str) -> str:
    return _PARAMETER.sub(r"%(\1)s", statements(**_QUERY_MARKS)[name])
