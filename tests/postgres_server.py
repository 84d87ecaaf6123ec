"""A real PostgreSQL for tests, from the installed binaries, on a free port of loopback."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.installation import free_port
from tests.waiting import until

OLDEST = 15
HOW_TO_INSTALL = f"no PostgreSQL {OLDEST} or later: install it with `apt-get install postgresql`, or run .ci/packages"
_USER = "postgres"


class PostgresServer:
    """One running server; databases of its own for each test."""

    def __init__(self, binaries: Path) -> None:
        self._binaries = binaries
        self._folder = Path(tempfile.mkdtemp(prefix="orchestrator-postgres-"))
        # PostgreSQL refuses to run as root.
        self._as: dict[str, Any] = {"user": _USER, "group": _USER, "extra_groups": []} if os.geteuid() == 0 else {}
        if self._as:
            shutil.chown(self._folder, _USER, _USER)
        self.port = free_port()
        self.made = 0
        """Databases made so far for the tests of this process."""
        self._process: subprocess.Popen[bytes] | None = None
        self._run("initdb", "-D", "data", "-U", _USER, "-A", "trust", "-E", "UTF8", "--no-sync", "--no-locale")

    def start(self) -> None:
        """Start it, on the same port each time, and wait until it answers."""
        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "fsync": "off",
            "deadlock_timeout": "100ms",
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with (self._folder / "log").open("ab") as log:
            command = [self._binaries / "postgres", "-D", "data", "-p", str(self.port), *options]
            self._process = subprocess.Popen(command, cwd=self._folder, stdout=log, stderr=log, **self._as)

        def answers() -> bool:
            try:
                self.execute("select 1")
            except psycopg.OperationalError as error:
                raise AssertionError(str(error)) from error
            return True

        until(answers)

    def kill(self) -> None:
        """End every connection at once, as a crash does."""
        self._end(signal.SIGQUIT)

    def stop(self) -> None:
        """End it and remove what it stored."""
        self._end(signal.SIGINT)
        shutil.rmtree(self._folder)

    def url(self, database: str = _USER) -> str:
        """For ORCHESTRATOR_DATABASE_URL."""
        return f"postgresql://{_USER}@127.0.0.1:{self.port}/{database}"

    def new_database(self, template: str = "template1") -> str:
        """The URL of a new database, empty or a copy of another."""
        self.made += 1
        name = f"test_{self.made}"
        self.execute(f"create database {name} template {template} strategy file_copy")
        return self.url(name)

    def execute(self, sql: str, database: str | None = None) -> list[tuple[Any, ...]]:
        """What a statement gives, on a connection of its own."""
        with closing(psycopg.connect(database or self.url(), autocommit=True, connect_timeout=5)) as connection:
            cursor = connection.execute(sql.encode())
            return cursor.fetchall() if cursor.description else []

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(20)
            self._process = None

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [self._binaries / program, *arguments], cwd=self._folder, check=True, capture_output=True, **self._as
        )


def installed() -> Path | None:
    """The newest binaries that are new enough."""
    found = {
        int(path.parent.parent.name): path.parent for path in Path("/usr/lib/postgresql").glob("[0-9]*/bin/initdb")
    }
    newest = max(found, default=0)
    return found[newest] if newest >= OLDEST else None


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One server for all tests of this process. In CI it must be there."""
    binaries = installed()
    if binaries is None:
        if os.environ.get("CI") == "true":
            pytest.fail(HOW_TO_INSTALL)
        pytest.skip(HOW_TO_INSTALL)
    server = PostgresServer(binaries)
    try:
        server.start()
        yield server
    finally:
        server.stop()
