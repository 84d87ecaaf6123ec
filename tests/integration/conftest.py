"""Fixtures of the whole service, for every test here that asks for them, and on which databases they run."""

import pytest

from tests import databases
from tests.postgres_server import postgres_server
from tests.service import bench, database, played, played_web, sandbox, sandbox_process, web

__all__ = ["bench", "database", "played", "played_web", "postgres_server", "sandbox", "sandbox_process", "web"]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    databases.parametrise(metafunc)
