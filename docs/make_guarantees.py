"""Writes docs/guarantees.md: what becomes of a user when a call goes wrong or a process is killed.

Both tables are written from the matrices that the tests bring about and compare.

`python docs/make_guarantees.py` writes the tables between the markers; with `--check` it only says whether they are out
of date (exit status 1); with `--figures` it writes what `make soak` counted instead.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs/guarantees.md"
sys.path.insert(0, str(ROOT))

from tests.figures import KEPT  # noqa: E402
from tests.integration.fault_matrix import CHAPTERS, DELIVERY, NONE, Row  # noqa: E402 - the checkout is no package
from tests.kill_matrix import COMMANDS, PROVIDED, WEB_WRITES, Asked, Provided  # noqa: E402

_COLUMNS = "call, fault, kind, next step after, then, calls until then, carried out, other users, the operator reads"
_HEAD = [f"| {_COLUMNS.replace(', ', ' | ')} |", f"|{' --- |' * 9}"]
_KILL_COLUMNS = "write, what it stores, process, killed right before it, killed right after it, end"
_KILL_HEAD = [f"| {_KILL_COLUMNS.replace(', ', ' | ')} |", f"|{' --- |' * 6}"]
_FIGURES = {
    "seconds": "seconds",
    "signups": "signups acknowledged",
    "documents": "documents acknowledged",
    "webhooks": "webhooks acknowledged",
    "kills": "kills",
    "faults": "faults",
    "lost": "**lost**",
    "shares": "shares",
    "beyond": "**shares beyond the guarantee**",
    "inputs": "generated inputs",
    "server_errors": "**5xx**",
}
_PLURALS = {"try": "tries"}
_STATUS = re.compile(r"[0-9]{3}")


def tables() -> str:
    """One table for each chapter of the matrix."""
    return "\n\n".join("\n".join([f"### {title}\n", *_HEAD, *map(_line, rows)]) for title, rows in CHAPTERS)


def kills() -> str:
    """One table for the worker's writes on a user's way, one for what is asked for over HTTP, one for commands."""
    chapters = {
        "The worker, on a user's way": [_provided(row) for row in PROVIDED],
        "The web process": [_asked(row) for row in WEB_WRITES],
        "Commands, and the worker's own round": [_asked(row) for row in COMMANDS],
    }
    return "\n\n".join("\n".join([f"### {title}\n", *_KILL_HEAD, *lines]) for title, lines in chapters.items())


def page(text: str) -> str:
    """The page with its tables written anew."""
    for name, table in (("matrix", tables()), ("kills", kills())):
        block = f"<!-- {name} -->\n{table}\n<!-- /{name} -->"
        text = re.sub(rf"<!-- {name} -->.*<!-- /{name} -->", lambda _, block=block: block, text, flags=re.DOTALL)
    return text


def figures() -> str:
    """One line for each run of the last `make soak`."""
    head = [f"| run | {' | '.join(_FIGURES.values())} |", f"|{' --- |' * (len(_FIGURES) + 1)}"]
    runs: Mapping[str, Mapping[str, int]] = json.loads(KEPT.read_text("utf-8"))
    lines = [
        f"| {run} | {' | '.join(f'{counted[name]:,}' if name in counted else NONE for name in _FIGURES)} |"
        for run, counted in runs.items()
    ]
    return "\n".join([*head, *lines])


def with_figures(text: str) -> str:
    """The page with what was counted."""
    return re.sub(
        r"<!-- soak -->.*<!-- /soak -->", lambda _: f"<!-- soak -->\n{figures()}\n<!-- /soak -->", text, flags=re.DOTALL
    )


def _provided(row: Provided) -> str:
    again = [f"{_many_of(calls)} again" if calls else NONE for calls in (row.before, row.after)]
    return f"| {' | '.join([f'`{row.name}`', row.does, row.process, *again, _end(row.end)])} |"


def _asked(row: Asked) -> str:
    again = [_STATUS.sub(lambda found: f"`{found[0]}`", word) for word in row.again]
    return f"| {' | '.join([f'`{row.name}`', row.does, row.process, *again, _end(row.end)])} |"


def _end(end: tuple[str, int] | None) -> str:
    if end is None:
        return NONE
    return f"`{end[0]}`" + (f", round {end[1]}" if end[1] > 1 else "")


def _many_of(calls: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {_many(name, number)}" for name, number in calls.items())


def _line(row: Row) -> str:
    then = f"`{row.then}`" if row.operation is not DELIVERY else f"{row.then}"
    reads = "; ".join([row.reads or NONE, *([f"timeline: {row.timeline}"] if row.timeline else [])])
    cells = [row.operation, row.fault, row.kind, _wait(row), then, _calls(row), _times(row.done), row.others, reads]
    return f"| {' | '.join(cells)} |"


def _wait(row: Row) -> str:
    return NONE if row.waits is None else f"{row.waits:g} s"


def _calls(row: Row) -> str:
    return _many_of(row.calls)


def _many(name: str, number: int) -> str:
    return name if number == 1 else _PLURALS.get(name, f"{name}s")


def _times(number: int) -> str:
    return {0: "never", 1: "once", 2: "twice"}.get(number, f"{number} times")


def main() -> None:
    """Write, or check."""
    text = PAGE.read_text("utf-8")
    wanted = with_figures(text) if "--figures" in sys.argv else page(text)
    if "--check" in sys.argv:
        sys.exit(f"{PAGE.relative_to(ROOT)} is out of date: run `make docs`" if wanted != text else 0)
    PAGE.write_text(wanted, "utf-8")


if __name__ == "__main__":
    main()
