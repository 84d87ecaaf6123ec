"""What long runs counted, kept until `docs/make_guarantees.py --figures` writes it into the page."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path

KEPT = Path(__file__).parent.parent / "soak-figures.json"


def add(run: str, **counted: int | float) -> None:
    """Add to what was counted under these names of a run, such as `SQLite`; the runs of one `make soak` add up."""
    with KEPT.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        kept = json.loads(KEPT.read_text("utf-8")) if KEPT.exists() else {}
        figures = kept.setdefault(run, {})
        for name, number in counted.items():
            figures[name] = figures.get(name, 0) + number
        KEPT.write_text(json.dumps(kept, indent=1), "utf-8")
    print(f"{run}: {counted}")
