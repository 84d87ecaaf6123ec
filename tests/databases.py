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
"""Modules whose tests run on both."""
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
    """A test runs on SQLite; one of a module that runs on both also on PostgreSQL, unless it is marked `sqlite`."""
    module = metafunc.module.__name__.rpartition(".")[2]
    if module in ON_BOTH and metafunc.definition.get_closest_marker("sqlite") is None:
        metafunc.parametrize("database", ["sqlite", "postgresql"], indirect=True)
