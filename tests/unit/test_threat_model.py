"""Each claim of the threat model names tests, and each of these tests exists."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "threat-model.md").read_text("utf-8")
_CLAIM = re.compile(r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)
_TEST = re.compile(r"`((?:unit|integration|acceptance)/test_\w+\.py)::(\w+)`")
_HEADINGS = ("attack", "---")


def claims() -> list[tuple[str, str]]:
    """What is claimed of which attack, and the cell that names the tests."""
    return [(attack, tests) for attack, _, tests in _CLAIM.findall(PAGE) if attack not in _HEADINGS]


@cache
def functions_of(path: str) -> frozenset[str]:
    tree = ast.parse((ROOT / "tests" / path).read_text("utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef))


def test_there_are_claims_about_every_attacker() -> None:
    chapters = re.findall(r"^## (.+)$", PAGE, re.MULTILINE)

    assert len(claims()) > 40
    assert chapters[-1] == "What is accepted"
    for chapter in chapters[2:-1]:
        assert _CLAIM.search(PAGE.split(f"## {chapter}\n")[1].split("\n## ")[0]), chapter


@pytest.mark.parametrize(("attack", "named"), claims(), ids=[attack for attack, _ in claims()])
def test_every_claim_names_tests_and_nothing_else(attack: str, named: str) -> None:
    del attack
    assert re.sub(_TEST, "", named).strip(" ,") == ""
    assert _TEST.search(named)


@pytest.mark.parametrize(("path", "name"), sorted(set(_TEST.findall(PAGE))))
def test_every_test_that_is_named_exists(path: str, name: str) -> None:
    assert name.startswith("test_")
    assert (ROOT / "tests" / path).is_file()
    assert name in functions_of(path)


def test_it_is_found_from_the_readme_and_from_the_page_about_reporting() -> None:
    assert "(docs/threat-model.md)" in (ROOT / "README.md").read_text("utf-8")
    assert "(docs/threat-model.md)" in (ROOT / "SECURITY.md").read_text("utf-8")
