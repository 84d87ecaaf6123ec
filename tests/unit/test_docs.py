"""The documents say what the code does: links, settings, states, routes, commands and rooms."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import click
import pytest
from werkzeug.routing import Map, Rule

from orchestrator import notify
from orchestrator.cli import cli
from orchestrator.config import Config
from orchestrator.machine import Event, State
from orchestrator.onboarding.profile import DOCUMENT_KINDS, ProfileRules
from orchestrator.providers.dialect import load_dialects
from orchestrator.records import DeliveryStatus, Lane, Verdict
from orchestrator.sandbox import stories
from orchestrator.web.app import create_app
from tests.service import Bench

ROOT = Path(__file__).parents[2]
DOCS = {
    path.relative_to(ROOT).as_posix(): path.read_text("utf-8")
    for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md"))
}
PACKAGE = ROOT / "orchestrator"
README, HTTP, DESIGN, PROVIDERS, GO_LIVE = (
    DOCS[name]
    for name in ("README.md", "docs/http.md", "docs/design.md", "docs/providers.md", "docs/how-to/go-live.md")
)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^ *```(\w*)[^\n]*\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
_ROW = re.compile(r"^\| ([BOW][0-9]+) \| (.*) \| ([^|]*) \| ([^|]*) \|$", re.MULTILINE)


# Links -----------------------------------------------------------------------------------------------------------


def _links() -> list[tuple[str, str]]:
    return [
        (name, link) for name, text in DOCS.items() for link in _LINK.findall(_FENCE.sub("", text)) if "://" not in link
    ]


@pytest.mark.parametrize(("name", "link"), _links())
def test_a_link_leads_to_a_file_and_a_heading_that_are_there(name: str, link: str) -> None:
    path, _, anchor = link.partition("#")
    target = (ROOT / name).parent / path if path else ROOT / name

    assert target.exists(), f"{name} links to {link}"
    if name.startswith("docs/"):
        assert (ROOT / "docs") in target.resolve().parents, f"{name} links to {link}, which is no page of the site"
    if anchor:
        assert anchor in _anchors(target.read_text("utf-8")), f"{name} links to {link}"


def _anchors(text: str) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.+)$", _FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_no_two_headings_of_the_reference_have_the_same_anchor() -> None:
    """A link to a shape would lead to the chapter of that name."""
    headings = re.findall(r"^#+ (.+)$", DOCS["docs/api.md"], re.MULTILINE)

    assert len(_anchors(DOCS["docs/api.md"])) == len(headings)


def test_every_page_is_in_the_menu_of_the_site() -> None:
    menu = (ROOT / "mkdocs.yml").read_text("utf-8")

    assert {name for name in DOCS if name.startswith("docs/") and f"{name[5:]}\n" not in menu} == set()


def test_the_generated_pages_are_those_that_the_code_gives() -> None:
    checked = subprocess.run(
        [sys.executable, "docs/make_reference.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert checked.returncode == 0, checked.stderr


# What the code has, the documents name -----------------------------------------------------------------------------


@pytest.mark.parametrize("setting", [item.metadata for item in fields(Config)], ids=lambda setting: setting["name"])
def test_every_setting_is_documented_with_its_twin(setting: Any) -> None:
    assert f"`{setting['name']}`" in DOCS["docs/settings.md"]
    assert (f"`{setting['name']}_FILE`" in DOCS["docs/settings.md"]) is setting["secret"]


def test_what_has_no_default_is_in_the_readme_with_its_command() -> None:
    for item in fields(Config):
        setting = item.metadata
        if setting["default"] is None and not setting["optional"]:
            assert f"`{setting['name']}`" in README


def test_every_setting_that_a_document_names_exists() -> None:
    names = {item.metadata["name"] for item in fields(Config)}
    names |= {f"{name}_FILE" for name in names} | {"SANDBOX_OSL_PRIVATE_KEY", "SANDBOX_OSL_PRIVATE_KEY_FILE"}
    names.add("CALLBACK_ID")  # an argument of a command
    named = re.compile(r"\b(?:ORCHESTRATOR|BTSE|OSL|CALLBACK|RETAIN|RETRY|COLLECT|SANDBOX)_[A-Z_]+[A-Z]\b")

    for name, text in DOCS.items():
        assert set(named.findall(text)) <= names, name


@pytest.mark.parametrize("word", [*State, *Event])
def test_every_state_and_event_is_explained(word: State | Event) -> None:
    assert f"| `{word.value}` | {word.meaning} |" in DOCS["docs/states.md"]


@pytest.mark.parametrize("state", list(State))
def test_every_state_tells_operators_what_to_do(state: State) -> None:
    table = DOCS["docs/operating.md"].split("## What each state asks of you")[1].split("##")[0]

    assert f"`{state}`" in table


def test_verdicts_kinds_notifications_fields_lanes_and_stories_are_documented() -> None:
    told = {*notify._NOTICES.values(), notify.SUBMITTED}
    names = ProfileRules(load_dialects().osl).names
    played = {story.name for story in stories._ALL}

    assert {
        word for word in (*Verdict, *DOCUMENT_KINDS, *told, *names, *DeliveryStatus) if f"`{word}`" not in HTTP
    } == set()
    assert {lane for lane in Lane if f"| `{lane}` |" not in DESIGN} == set()
    assert {story for story in played if f"| `{story}` |" not in DOCS["docs/operating.md"]} == set()


# Routes ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def routes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Map]:
    """The routes of the application over a service of generated settings."""
    bench = Bench(tmp_path_factory.mktemp("docs"))
    yield create_app(bench.service).url_map
    bench.close()


def _documented(rule: Rule) -> str:
    """`/u/<token>` as `/u/{token}`, ids as `{id}`."""
    path = re.sub(r"<(?:\w+:)?(\w+)>", lambda found: "{" + found[1] + "}", rule.rule)
    return re.sub(r"\{\w+_id\}", "{id}", path)


def _methods(rule: Rule) -> set[str]:
    return (rule.methods or set()) - {"HEAD", "OPTIONS"}


def test_exactly_the_routes_there_are_are_documented(routes: Map) -> None:
    there = {f"{method} {_documented(rule)}" for rule in routes.iter_rules() for method in _methods(rule)}
    told = set(re.findall(r"^(?:### |\| )`((?:GET|POST|PUT|PATCH|DELETE) /[^`]*)`", HTTP, re.MULTILINE))

    assert told == there


def test_every_curl_example_calls_a_route_that_there_is(routes: Map) -> None:
    adapter = routes.bind("localhost")
    examples = [line for _, block in _FENCE.findall(HTTP) for line in block.splitlines() if line.startswith("curl ")]
    assert len(examples) >= 10

    for line in examples:
        found = re.search(r'"\$BASE([^"?]*)', line)
        assert found, line
        method = re.search(r"-X (\w+)", line)
        sends = "POST" if re.search(r" (--json|-d) ", line) else "PUT" if " -T " in line else "GET"
        adapter.match(found[1].replace("$ID", "onb_1"), method=method[1] if method else sends)


# Commands --------------------------------------------------------------------------------------------------------


def _commands(group: click.Group, path: str) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from _commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


@pytest.mark.parametrize("command", [path for path, _ in _commands(cli, "orchestrator")])
def test_every_command_is_documented(command: str) -> None:
    assert command in {" ".join(words[: command.count(" ") + 1]) for _, words in _command_lines()}


@cache
def _command_lines() -> list[tuple[str, list[str]]]:
    """Every `orchestrator …` in code, but for the written reference: which document, and the words of the line."""
    lines = []
    for name, text in DOCS.items():
        if name == "docs/commands.md":
            continue
        code = [line for _, block in _FENCE.findall(text) for line in block.splitlines()]
        code += re.findall(r"`([^`\n]+)`", _FENCE.sub("", text))
        for line in code:
            found = re.search(r"(?:^|\$\(|/)(orchestrator [a-z][^|)&>]*)", line)
            if found and "gunicorn" not in line:
                lines.append((name, shlex.split(found[1], comments=True)))
    return lines


@pytest.mark.parametrize(
    ("name", "words"), _command_lines(), ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_every_command_line_in_a_document_can_be_typed(name: str, words: list[str], tmp_path: Path) -> None:
    """Its options and arguments are taken; nothing is run."""
    command: click.Command = cli
    rest = words[1:]
    while isinstance(command, click.Group):
        found = command.get_command(click.Context(command), rest[0])
        assert found is not None, f"{name}: {' '.join(words)}"
        command, rest = found, rest[1:]
    files = {word for word in rest if word == "FILE" or word.endswith(".tar")}
    for number, file in enumerate(files):
        (tmp_path / str(number)).touch()
        rest = [str(tmp_path / str(number)) if word == file else word for word in rest]

    if rest:  # else it only names the command
        command.make_context(words[1], rest)


# Providers -------------------------------------------------------------------------------------------------------


def _assumed() -> list[str]:
    return [row for row, _, certainty, _ in _ROW.findall(PROVIDERS) if re.search(r"\bA\b", certainty)]


def test_the_assumptions_are_found() -> None:
    assert len(_assumed()) > 15


@pytest.mark.parametrize("row", _assumed())
def test_every_assumption_is_on_the_list_before_going_live(row: str) -> None:
    for page, title in ((GO_LIVE, "## 4. Check the assumptions"), (README, "## Before you go live")):
        chapter = page.split(title)[1].split("\n## ")[0]

        assert re.search(rf"\b{row}\b", chapter), title


def test_every_fact_that_code_names_is_a_row() -> None:
    rows = {row for row, *_ in _ROW.findall(PROVIDERS)}
    named = {
        row
        for path in (*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.toml"))
        for place in re.findall(r"providers\.md, ([^.\n)]*)", path.read_text("utf-8"))
        for row in re.findall(r"\b[BOW][0-9]+\b", place)
    }

    assert named
    assert named <= rows


# The design ------------------------------------------------------------------------------------------------------


def test_the_points_of_the_design_are_numbered_and_those_that_code_names_are_there() -> None:
    chapter = DESIGN.split("## What must always hold")[1].split("\n## ")[0]
    numbers = [int(number) for number in re.findall(r"^([0-9]+)\. \*\*", chapter, re.MULTILINE)]
    named = {
        int(number)
        for path in PACKAGE.rglob("*.py")
        for number in re.findall(r"design\.md, point ([0-9]+)", path.read_text("utf-8"))
    }

    assert numbers == list(range(1, 14))
    assert named <= set(numbers)


def _rooms() -> dict[str, set[str]]:
    """The table of rooms: each room and what it may import of ours."""
    chapter = DESIGN.split("## Rooms, and who may import whom")[1].split("\n## ")[0]
    table = re.findall(r"^\| ((?:`\w+` ?)+)\| (.*) \|$", chapter, re.MULTILINE)
    rooms: dict[str, set[str]] = {}
    for names, allowed in table:
        for name in re.findall(r"`(\w+)`", names):
            rooms.setdefault(name, set(re.findall(r"`(\w+)`", allowed)))
    return rooms


def _imports(path: Path) -> set[str]:
    """The rooms of ours that a module names in its imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "orchestrator":
            found |= {alias.name for alias in node.names if not alias.name.startswith("__")}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("orchestrator."):
            found.add((node.module or "").split(".")[1])
    return found


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_a_module_imports_what_the_design_lets_its_room_import(path: Path) -> None:
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if room.startswith("__"):
        return
    rooms = _rooms()

    assert room in rooms, f"docs/design.md has no row for {room}"
    assert _imports(path) - {room} <= rooms[room]


@pytest.mark.parametrize("room", ["onboarding", "web"])
def test_every_module_of_the_larger_rooms_is_explained(room: str) -> None:
    modules = {path.stem for path in (PACKAGE / room).glob("*.py")} - {"__init__"}

    assert {name for name in modules if f"`{name}`" not in DESIGN} == set()
