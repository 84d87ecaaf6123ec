"""What the acceptance tests share: installations that end with the test, and shows played once a run."""

from __future__ import annotations

import fcntl
import itertools
import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests import databases
from tests.installation import Installation
from tests.postgres_server import postgres_server

__all__ = ["postgres_server"]

Install = Callable[..., Installation]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    databases.parametrise(metafunc)


@pytest.fixture(scope="module", autouse=True)
def database(request: pytest.FixtureRequest) -> Iterator[str]:
    """Installations are made on the database that the test is run on."""
    name: str = getattr(request, "param", "sqlite")
    if name == "sqlite":
        yield name
        return
    server = request.getfixturevalue("postgres_server")
    Installation.server = server
    with databases.used(server):
        yield name
    Installation.server = None


@pytest.fixture
def install(tmp_path: Path, database: str) -> Iterator[Install]:
    """Starts an installation: `install(timings=…, settings=…, sandbox=…)`."""
    numbers = itertools.count(1)
    with ExitStack() as stack:

        def start(**how: Any) -> Installation:
            return stack.enter_context(Installation(tmp_path / f"installation-{next(numbers)}", **how)).start()

        yield start


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, database: str) -> Iterator[Install]:
    """The same, for a whole module."""
    with ExitStack() as stack:

        def start(**how: Any) -> Installation:
            return stack.enter_context(Installation(tmp_path_factory.mktemp("installation"), **how)).start()

        yield start


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory, database: str) -> Callable[[str, Callable[[], Any]], Any]:
    """`once(name, play)`: what `play()` gives (JSON), played by one of the test processes for all of them; on each
    database once."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent

    def played(name: str, play: Callable[[], Any]) -> Any:
        name = f"{name}-{database}"
        kept = folder / f"{name}.json"
        with (folder / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not kept.exists():
                kept.write_text(json.dumps(play()))
            elif Installation.server is not None:
                Installation.server.made += 1  # by another process, for this one as well
            return json.loads(kept.read_text())

    return played
