"""Habits that can be checked by reading the source."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import orchestrator

PACKAGE = Path(orchestrator.__file__).parent
ROOT = PACKAGE.parent
SOURCES = sorted(path.relative_to(ROOT).as_posix() for path in PACKAGE.rglob("*.py"))
TESTS = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("*.py"))
NAMELESS = ("util", "utils", "helper", "helpers", "manager", "managers", "misc", "common", "base", "tools", "stuff")
AT_THE_START = ("orchestrator/cli/", "orchestrator/wsgi.py")
# Words put together, so that this file does not find itself.
LEFT_OVER = re.compile(r"\b(?:" + "|".join(["TO" + "DO", "FIX" + "ME", "HA" + "CK"]) + r")\b")

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@cache
def tree_of(path: str) -> ast.Module:
    return ast.parse((ROOT / path).read_text("utf-8"))


def public(node: ast.AST) -> Iterator[Definition]:
    """Functions and classes that others may use; what is inside a function or a private class is not public."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Definition):
            if not child.name.startswith("_"):
                yield child
                if isinstance(child, ast.ClassDef):
                    yield from public(child)
        elif isinstance(child, ast.If | ast.Try):
            yield from public(child)


def test_every_module_and_every_public_class_and_function_says_what_it_is_for() -> None:
    silent = [path for path in SOURCES if tree_of(path).body and not ast.get_docstring(tree_of(path))]
    silent += [
        f"{path}:{node.lineno} {node.name}"
        for path in SOURCES
        for node in public(tree_of(path))
        if not ast.get_docstring(node)
    ]

    assert silent == []


def test_no_module_is_named_after_nothing() -> None:
    words = {path: {word for part in Path(path).with_suffix("").parts for word in part.split("_")} for path in SOURCES}

    assert [path for path, found in words.items() if found & set(NAMELESS)] == []


def test_no_class_is_named_after_nothing() -> None:
    names = [node.name for path in SOURCES for node in ast.walk(tree_of(path)) if isinstance(node, ast.ClassDef)]

    assert len(names) > 50
    assert [name for name in names if re.search(r"(?:Manager|Helper|Util|Utils|Handler|Processor)$", name)] == []


def test_nothing_is_left_to_be_done_in_a_comment() -> None:
    patterns = ("orchestrator/**/*.sql", "orchestrator/**/*.toml", "templates/*.html", "docs/*.md", "*.md")
    others = [path.relative_to(ROOT).as_posix() for pattern in patterns for path in ROOT.glob(pattern)]

    left = {path: LEFT_OVER.findall((ROOT / path).read_text("utf-8")) for path in [*SOURCES, *TESTS, *others]}

    assert {path: found for path, found in left.items() if found} == {}


def test_no_code_is_kept_in_comments() -> None:
    code = re.compile(r"^\s*#\s*(?:def |class |import \w+$|from \w+ import|return\b.*[()\]]|\w+ = .+\)|if .+:$)")
    kept = [line for path in SOURCES for line in (ROOT / path).read_text("utf-8").splitlines() if code.match(line)]

    assert kept == []


def test_nothing_is_printed_but_by_what_is_started() -> None:
    printing = {
        path
        for path in SOURCES
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("print", "pprint")
    }

    assert [path for path in printing if not path.startswith(AT_THE_START)] == []


def test_no_default_of_a_parameter_can_change() -> None:
    changing = []
    for path in SOURCES:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                defaults = [*node.args.defaults, *(default for default in node.args.kw_defaults if default)]
                wrong = [value for value in defaults if isinstance(value, ast.List | ast.Dict | ast.Set | ast.ListComp)]
                changing += [f"{path}:{value.lineno}" for value in wrong]

    assert changing == []


def test_the_name_of_a_unit_test_is_a_sentence() -> None:
    for path in [path for path in TESTS if re.match(r"tests/unit/test_\w+\.py", path)]:
        functions = [node.name for node in ast.walk(tree_of(path)) if isinstance(node, ast.FunctionDef)]
        names = [name for name in functions if name.startswith("test_")]

        assert len(names) == len(set(names)), f"in {path} one hides another"
        assert [name for name in names if len(name.split("_")) < 5 or name != name.lower()] == [], path


def test_no_unit_test_sleeps() -> None:
    calls = [
        ast.unparse(node.func)
        for path in TESTS
        if path.startswith("tests/unit/")
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Call)
    ]

    assert [call for call in calls if call.split(".")[-1] == "sleep"] == []


def test_warnings_are_errors_in_every_ring() -> None:
    options = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["pytest"]["ini_options"]

    assert options["filterwarnings"] == ["error"]
