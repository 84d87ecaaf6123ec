"""The page of guarantees says what the fault matrix says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from orchestrator.machine import State
from orchestrator.records import DeliveryStatus
from tests import kill_matrix, kill_points
from tests.integration import fault_matrix as matrix

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/guarantees.md").read_text("utf-8")


def test_the_page_of_guarantees_is_the_one_that_the_matrix_gives() -> None:
    checked = subprocess.run(
        [sys.executable, "docs/make_guarantees.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert checked.returncode == 0, checked.stderr


def test_every_row_of_the_matrix_is_a_line_of_the_page() -> None:
    rows = [*matrix.ROWS, *matrix.FOR_ALL]

    assert [row for row in rows if f"| {row.operation} | {row.fault} | {row.kind} |" not in PAGE] == []
    assert PAGE.split("<!-- matrix -->")[1].split("<!-- /matrix -->")[0].count("\n| ") == len(rows) + 2 * len(
        matrix.CHAPTERS
    )


def test_the_matrix_uses_words_that_the_service_has() -> None:
    states, statuses = {state.value for state in State}, {status.value for status in DeliveryStatus}

    for row in [*matrix.ROWS, *matrix.FOR_ALL]:
        assert row.then in (statuses if row.operation is matrix.DELIVERY else states), row
        assert bool(row.timeline) is (row.then == State.NEEDS_ATTENTION), row
        assert (row.kind in (matrix.NONE, matrix.REFUSED)) <= (row.waits is None), row


def test_the_matrix_keeps_the_rules_of_a_share() -> None:
    """Never more than two; a second one only after three questions, unless it is known that the first was not done."""
    for row in matrix.ROWS:
        if row.operation is not matrix.SHARE:
            continue
        assert row.done <= 1, row
        if row.kind is matrix.UNKNOWN and row.calls["share"] > 1:
            assert row.calls["question"] == 3 * (row.calls["share"] - (row.then != State.NEEDS_ATTENTION)), row


def test_every_write_of_the_service_is_a_kill_point() -> None:
    """Each method that opens a write transaction, each event, and what leaves no row in the chain."""
    rows = [*kill_matrix.PROVIDED, *kill_matrix.WEB_WRITES, *kill_matrix.COMMANDS]

    assert {row.name.split(" ")[0] for row in rows} == kill_points.NAMES
    assert len({row.name for row in rows}) == len(rows)


def test_every_kill_point_is_a_line_of_the_page() -> None:
    rows = [*kill_matrix.PROVIDED, *kill_matrix.WEB_WRITES, *kill_matrix.COMMANDS]

    assert [row.name for row in rows if f"| `{row.name}` | {row.does} | {row.process} |" not in PAGE] == []


def test_a_kill_costs_no_second_share_and_one_more_upload_at_most() -> None:
    for row in kill_matrix.PROVIDED:
        for again in (row.before, row.after):
            assert all(number == 1 or name == kill_matrix.QUESTION for name, number in again.items()), row
            assert kill_matrix.SHARE not in again or row.end == kill_matrix.PARKED, row
