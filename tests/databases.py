"""The same tests on both databases: a test gets a SQLite file, or a PostgreSQL whose clock it moves as well."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import psycopg
import pytest

from orchestrator.store.postgres import PostgresDriver
from tests.postgres_server import PostgresServer

ON_POSTGRESQL = os.environ.get("TESTS_ON") == "postgresql"
"""Everything that runs on both runs on PostgreSQL alone: `make test-postgresql`."""
ON_BOTH = ("test_store", "test_schedule")
"""Modules whose tests run on both in every run."""
_BENCHES = {"bench", "played", "web", "played_web"}
# Leases and slots follow the server's clock, so that is passed in as well: what stands in front of the server's own
# function says what the test's clock says.
_CLOCK = """
create table test_clock (at timestamptz not null);
insert into test_clock values (now());
create function public.clock_timestamp() returns timestamptz language sql volatile as 'select at from public.test_clock'
"""
_BEFORE_ITS_OWN = "?options=-c%20search_path%3Dpublic,pg_catalog"


class Plain(Protocol):
    """A connection of the test's own, beside the service's."""

    def execute(self, statement: str, values: Sequence[Any] = ()) -> Any:
        """`?` marks a value, on either database."""


class _OnPostgresql:
    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection

    def execute(self, statement: str, values: Sequence[Any] = ()) -> Any:
        text = statement.replace("%", "%%").replace("?", "%s") if values else statement
        return self._connection.execute(text.encode(), values or None)


class Postgresql:
    """One new database for one test; `tell(now)` sets its clock (unix ms)."""

    def __init__(self, server: PostgresServer) -> None:
        self.url = server.new_database(_template(server)) + _BEFORE_ITS_OWN
        self._clock = psycopg.connect(self.url, autocommit=True)

    def tell(self, now: int) -> None:
        self._clock.execute("update test_clock set at = to_timestamp(%s / 1000.0)", (now,))

    def close(self) -> None:
        self._clock.close()


@cache
def _template(server: PostgresServer) -> str:
    url = server.new_database()
    server.execute(_CLOCK, url)
    with closing(PostgresDriver(url)) as driver:
        driver.migrate()
    return url.rpartition("/")[2]


@contextmanager
def connected(url: str) -> Iterator[Plain]:
    """A plain connection; what was done is committed at the end."""
    if url.startswith("sqlite:"):
        with closing(sqlite3.connect(Path(url.removeprefix("sqlite:///")))) as database, database:
            yield database
    else:
        with psycopg.connect(url) as connection:
            yield _OnPostgresql(connection)


def parametrise(metafunc: pytest.Metafunc) -> None:
    """On which databases a test runs: on SQLite, unless it is of a module that runs on both or all of it is on
    PostgreSQL. What is about SQLite itself is marked so."""
    module = metafunc.module.__name__.rpartition(".")[2]
    uses_one = bool(_BENCHES & set(metafunc.fixturenames)) or hasattr(metafunc.module, "Bench")
    about_sqlite = metafunc.definition.get_closest_marker("sqlite") is not None
    names = ["sqlite"]
    if uses_one and not about_sqlite and ON_POSTGRESQL:
        names = ["postgresql"]
    elif uses_one and not about_sqlite and module in ON_BOTH:
        names = ["sqlite", "postgresql"]
    if names != ["sqlite"]:
        metafunc.parametrize("database", names, indirect=True)


def only_on_postgresql(items: list[pytest.Item]) -> tuple[list[pytest.Item], list[pytest.Item]]:
    """Of a run on PostgreSQL: the tests that use it, and the others, which `make test` runs."""
    using = [item for item in items if "database" in getattr(item, "callspec", _Bare).params]
    return using, [item for item in items if item not in using]


class _Bare:
    params: Mapping[str, object] = {}
