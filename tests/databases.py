"""The same tests on both databases: a test gets a SQLite file, or a PostgreSQL whose clock it moves as well."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import psycopg
import pytest

from orchestrator.store.postgres import PostgresDriver
from tests.postgres_server import PostgresServer

ON_BOTH = ("test_store",)
"""Modules whose tests run on both each time."""
LONG_ON_BOTH = (
    *("test_api", "test_bulk", "test_callbacks", "test_doctor", "test_documents", "test_fault_matrix", "test_keeping"),
    *("test_pages", "test_roles", "test_schedule", "test_service_steps", "test_sign_in", "test_signup_hook"),
    *("test_status_lists", "test_upload_page", "test_stories", "test_trouble", "test_kill_points", "test_kills"),
    *("test_audit", "test_rotation", "test_metrics", "test_status_cases", "test_invariants"),
    *("test_commands", "test_rotations", "test_watching", "test_user_page", "test_load"),
    *("test_worker", "test_killed_writes", "test_killed_commands", "test_killed_bursts", "test_callback_attacks"),
    "test_example_merchant",
)
"""Modules whose tests run on PostgreSQL too, but there only among the long ones."""
# Leases and slots follow the server's clock, so that is passed in as well: what stands in front of the server's own
# function says what the test's clock says.
_CLOCK = """
create table test_clock (at timestamptz not null, goes_since timestamptz);
insert into test_clock values (now());
create function public.clock_timestamp() returns timestamptz language sql volatile as
    'select at + coalesce(pg_catalog.clock_timestamp() - goes_since, interval ''0'') from public.test_clock'
"""
_BEFORE_ITS_OWN = "?options=-c%20search_path%3Dpublic,pg_catalog"


class Plain(Protocol):
    """A connection of the test's own, beside the service's."""

    def execute(self, statement: str, values: Sequence[Any] = ()) -> Any:
        """`?` marks a value, on either database."""

    def close(self) -> None:
        """End it."""


class _OnPostgresql:
    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection

    def execute(self, statement: str, values: Sequence[Any] = ()) -> Any:
        text = statement.replace("%", "%%").replace("?", "%s") if values else statement
        return self._connection.execute(text.encode(), values or None)

    def close(self) -> None:
        self._connection.close()


class Postgresql:
    """One new database for one test; `tell(now)` sets its clock (unix ms), which then stands still or `goes`."""

    def __init__(self, server: PostgresServer, *, goes: bool) -> None:
        self.url = server.new_database(_template(server)) + _BEFORE_ITS_OWN
        self._goes = goes
        self._clock = psycopg.connect(self.url, autocommit=True)

    def tell(self, now: int) -> None:
        since = "pg_catalog.clock_timestamp()" if self._goes else "null"
        self._clock.execute(f"update test_clock set at = to_timestamp(%s / 1000.0), goes_since = {since}", (now,))

    def close(self) -> None:
        self._clock.close()


@cache
def _template(server: PostgresServer) -> str:
    url = server.new_database()
    server.execute(_CLOCK, url)
    with closing(PostgresDriver(url)) as driver:
        driver.migrate()
    return url.rpartition("/")[2]


def opened(url: str) -> Plain:
    """A plain connection for any thread, until it is closed; what is done is committed at once."""
    if url.startswith("sqlite:"):
        return sqlite3.connect(_path(url), isolation_level=None, check_same_thread=False)
    return _OnPostgresql(psycopg.connect(url, autocommit=True))


@contextmanager
def connected(url: str) -> Iterator[Plain]:
    """A plain connection; what was done is committed at the end."""
    if url.startswith("sqlite:"):
        with closing(sqlite3.connect(_path(url))) as database, database:
            yield database
    else:
        with psycopg.connect(url) as connection:
            yield _OnPostgresql(connection)


def _path(url: str) -> Path:
    return Path(url.removeprefix("sqlite:///"))


def unguarded(database: Plain) -> None:
    """From here on rows may name others that are not there, as SQLite lets a plain connection write them anyway."""
    if isinstance(database, _OnPostgresql):
        database.execute("set session_replication_role = replica")


def unmigrated(database: Plain, *names: str) -> None:
    """These migrations are pending again; what they did is still there."""
    table = "migrations" if isinstance(database, _OnPostgresql) else "_sqlite_migrations"
    for name in names:
        assert database.execute(f"delete from {table} where name = ?", (name,)).rowcount == 1


def plan(database: Plain, query: str, values: Sequence[Any] = ()) -> str:
    """How the database would run it, were there many rows."""
    how = "explain query plan"
    if isinstance(database, _OnPostgresql):
        how = "explain"
        database.execute("set enable_seqscan = off")
        database.execute("set enable_bitmapscan = off")
    return "\n".join(str(step[-1]) for step in database.execute(f"{how} {query}", values).fetchall())


def tables(database: Plain) -> list[str]:
    """The names of all tables."""
    query = "select name from sqlite_master where type = 'table'"
    if isinstance(database, _OnPostgresql):
        query = "select tablename from pg_tables where schemaname = 'public'"
    return [name for (name,) in database.execute(query).fetchall()]


def dump(database: Plain) -> str:
    """Every row of every table, as text."""
    return "\n".join(
        repr(row) for table in tables(database) for row in database.execute(f"select * from {table}").fetchall()
    )


@contextmanager
def used(server: PostgresServer) -> Iterator[None]:
    """What is said to run on PostgreSQL must not run on something else."""
    before = server.made
    yield
    assert server.made > before, "this made no database on PostgreSQL: have it made there, or mark it `sqlite`"


def parametrise(metafunc: pytest.Metafunc) -> None:
    """A test runs on SQLite; one of a module that runs on both also on PostgreSQL, unless it is marked `sqlite`."""
    module = metafunc.module.__name__.rpartition(".")[2]
    if metafunc.definition.get_closest_marker("sqlite") is not None:
        return
    if module in ON_BOTH + LONG_ON_BOTH:
        marks = [pytest.mark.long] if module in LONG_ON_BOTH else []
        both = ["sqlite", pytest.param("postgresql", marks=marks)]
        metafunc.parametrize("database", both, indirect=True, scope="module")
