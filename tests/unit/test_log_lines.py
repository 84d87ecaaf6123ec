"""Each log line has one name, and the documents explain every name."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
LEVELS = {"debug", "info", "warning", "error", "critical", "exception"}
FOREIGN = {"gunicorn"}


def _names() -> dict[str, set[str]]:
    """Of each module of ours that logs, the names of its lines; ours are logged through `telemetry.logger` alone."""
    found: dict[str, set[str]] = {}
    for path in (ROOT / "orchestrator").rglob("*.py"):
        text = path.read_text("utf-8")
        if "sandbox" in path.parts or not ("telemetry import" in text or "getLogger(" in text):
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name):
                name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
                first = node.args[0] if node.args else None
                if name in LEVELS | {"tell"} and isinstance(first, ast.Constant):
                    found.setdefault(path.name, set()).add(str(first.value))
    return found


def test_exactly_the_names_there_are_are_documented() -> None:
    chapter = (ROOT / "docs" / "operating.md").read_text("utf-8").split("## The log")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`.*?) \|", chapter, re.MULTILINE)
    told = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    there = set().union(*_names().values())

    assert len(there) > 12
    assert told == there | FOREIGN
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", name) for name in told)


def test_nothing_of_ours_logs_past_the_one_way() -> None:
    past = re.compile(r"logging\.getLogger\(__name__\)|logging\.(debug|info|warning|error)\(")
    modules = [path for path in (ROOT / "orchestrator").rglob("*.py") if "sandbox" not in path.parts]

    assert [path.name for path in modules if past.search(path.read_text("utf-8"))] == []


def logged(script: str) -> list[dict[str, Any]]:
    """The lines of a process that logs in JSON (pytest reads along in its own)."""
    begin = "import logging\nfrom orchestrator import telemetry\ntelemetry.configure('INFO', 'json')\n"
    command = [sys.executable, "-c", begin + textwrap.dedent(script)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_a_line_says_what_it_is_about_until_something_else_begins() -> None:
    first, second = logged(
        """
        log = telemetry.logger("a_test")
        telemetry.begin(request_id="req_1")
        telemetry.about("onb_1")
        log.info("first", code="x")
        telemetry.begin(request_id="req_2")
        log.warning("second")
        log.debug("third")
        """
    )

    assert (first["request_id"], first["onboarding_id"], first["code"]) == ("req_1", "onb_1", "x")
    assert (second["event"], second["level"], second["request_id"]) == ("second", "warning", "req_2")
    assert "onboarding_id" not in second


def test_lines_of_other_software_have_its_name_and_stay_one_line() -> None:
    booted, failed, started = logged(
        """
        other = logging.getLogger("gunicorn.error")
        other.handlers, other.propagate = [telemetry.handler("json")], False
        other.setLevel("INFO")
        other.info("Booting worker with pid: %s\\nand more", 7)
        try:
            raise ValueError("x")
        except ValueError:
            other.exception("Error handling a request")
        logging.getLogger("orchestrator.supervisor").info("process_started", extra={"child": "web", "pid": 7})
        """
    )

    assert (booted["event"], booted["says"]) == ("gunicorn", "Booting worker with pid: 7\nand more")
    assert "ValueError" in failed["exception"]
    assert (started["event"], started["child"], started["pid"]) == ("process_started", "web", 7)
