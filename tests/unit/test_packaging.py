"""One version, two lock files that are in step with what the project asks for, and a changelog that knows both."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from orchestrator import __version__

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
PARTS = {"botocore": "boto3", "psycopg_pool": "psycopg"}
"""What is imported and comes as a part of something that is asked for."""
RUN, ALL = ROOT / "requirements.lock", ROOT / "requirements-dev.lock"


def pins(lock: Path) -> dict[str, set[str]]:
    """The versions of each library; several where they differ by Python's version."""
    found: dict[str, set[str]] = {}
    for name, pinned in re.findall(r"^([\w.-]+)==([^ \n]+)", lock.read_text("utf-8"), re.MULTILINE):
        found.setdefault(name, set()).add(pinned)
    return found


def asked(*extras: str) -> list[Requirement]:
    """What the project asks for itself."""
    lines = [*PROJECT["dependencies"], *(line for extra in extras for line in PROJECT["optional-dependencies"][extra])]
    return [Requirement(line) for line in lines if not line.startswith(PROJECT["name"])]


def test_there_is_one_version_and_the_changelog_has_a_chapter_for_it() -> None:
    assert PROJECT["dynamic"] == ["version"]
    assert version(PROJECT["name"]) == __version__
    assert re.search(
        rf"^## \[{re.escape(__version__)}\] - \d{{4}}-\d\d-\d\d$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE
    )


@pytest.mark.parametrize(
    ("lock", "extras"), [(RUN, ("postgres", "s3")), (ALL, ("postgres", "s3", "docs", "dev"))], ids=["run", "dev"]
)
def test_a_lock_file_has_a_fitting_version_of_all_that_is_asked_for(lock: Path, extras: tuple[str, ...]) -> None:
    pinned = pins(lock)
    wrong = {
        str(requirement): pinned.get(requirement.name.lower())
        for requirement in asked(*extras)
        if not all(requirement.specifier.contains(one) for one in pinned.get(requirement.name.lower(), {"0"}))
    }

    assert wrong == {}, "run `make lock`"


def test_every_library_that_is_imported_is_asked_for_itself() -> None:
    """Not only by another that could do without it one day."""
    imported: set[str] = set()
    for path in (ROOT / "orchestrator").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {name.name.partition(".")[0] for name in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                imported.add(node.module.partition(".")[0])
    foreign = {PARTS.get(name, name) for name in imported - sys.stdlib_module_names - {"orchestrator"}}
    there = {requirement.name.lower() for requirement in asked("postgres", "s3")}
    providers = packages_distributions()

    def is_asked_for(name: str) -> bool:
        return any(found.lower().replace("_", "-") in there for found in providers.get(name, []))

    assert len(foreign) > 10
    assert sorted(name for name in foreign if not is_asked_for(name)) == []


def test_what_runs_is_locked_in_the_versions_that_are_tested() -> None:
    tested = pins(ALL)

    assert {name: found for name, found in pins(RUN).items() if name != "pip" and found != tested[name]} == {}


def test_what_runs_is_locked_with_hashes_and_no_lock_file_names_a_host() -> None:
    assert all("--hash=sha256:" in entry for entry in re.split(r"\n(?=\w)", RUN.read_text("utf-8"))[1:])
    assert not any(re.search(r"://|--(?:extra-)?index|--find-links", lock.read_text("utf-8")) for lock in (RUN, ALL))
