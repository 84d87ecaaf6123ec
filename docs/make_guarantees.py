"""Writes docs/guarantees.md: what becomes of a user when a call goes wrong, from the matrix that the tests bring about.

`python docs/make_guarantees.py` writes the tables between the markers; with `--check` it only says whether they are out
of date (exit status 1).
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs/guarantees.md"
sys.path.insert(0, str(ROOT))

from tests.integration.fault_matrix import CHAPTERS, DELIVERY, NONE, Row  # noqa: E402 - the checkout is no package

_COLUMNS = "call, fault, kind, next step after, then, calls until then, carried out, other users, the operator reads"
_HEAD = [f"| {_COLUMNS.replace(', ', ' | ')} |", f"|{' --- |' * 9}"]
_PLURALS = {"try": "tries"}


def tables() -> str:
    """One table for each chapter of the matrix."""
    return "\n\n".join("\n".join([f"### {title}\n", *_HEAD, *map(_line, rows)]) for title, rows in CHAPTERS)


def page(text: str) -> str:
    """The page with its tables written anew."""
    block = f"<!-- matrix -->\n{tables()}\n<!-- /matrix -->"
    return re.sub(r"<!-- matrix -->.*<!-- /matrix -->", lambda _: block, text, flags=re.DOTALL)


def _line(row: Row) -> str:
    then = f"`{row.then}`" if row.operation is not DELIVERY else f"{row.then}"
    reads = "; ".join([row.reads or NONE, *([f"timeline: {row.timeline}"] if row.timeline else [])])
    cells = [row.operation, row.fault, row.kind, _wait(row), then, _calls(row), _times(row.done), row.others, reads]
    return f"| {' | '.join(cells)} |"


def _wait(row: Row) -> str:
    return NONE if row.waits is None else f"{row.waits:g} s"


def _calls(row: Row) -> str:
    return ", ".join(f"{number} {_many(name, number)}" for name, number in row.calls.items())


def _many(name: str, number: int) -> str:
    return name if number == 1 else _PLURALS.get(name, f"{name}s")


def _times(number: int) -> str:
    return {0: "never", 1: "once", 2: "twice"}.get(number, f"{number} times")


def main() -> None:
    """Write, or check."""
    text = PAGE.read_text("utf-8")
    wanted = page(text)
    if "--check" in sys.argv:
        sys.exit(f"{PAGE.relative_to(ROOT)} is out of date: run `make docs`" if wanted != text else 0)
    PAGE.write_text(wanted, "utf-8")


if __name__ == "__main__":
    main()
