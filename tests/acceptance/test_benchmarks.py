"""The benchmarks still work; what they measure is for `make bench`."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
GOALS = {
    "acknowledge": 2,
    "end_to_end": 4,
    "limit": 2,
    "growth": 10,
    "waiting": 4,
    "burst": 2,
    "documents": 2,
    "pages": 7,
    "start": 2,
    "signup_to_approved": 0,
}


def test_everything_that_is_to_be_measured_is_measured(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "benchmarks", tmp_path / "benchmarks", ignore=shutil.ignore_patterns("*.json"))

    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--short"],
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )

    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    kept = {path.stem: json.loads(path.read_text("utf-8")) for path in (tmp_path / "benchmarks").glob("*.json")}
    assert {name: len(figures["goals"]) for name, figures in kept.items()} == GOALS
    for name, figures in kept.items():
        assert figures["rows"], name
        assert all(value >= 0 for row in figures["rows"] for value in row.values() if isinstance(value, float)), name
    assert kept["burst"]["rows"][0]["webhooks"] == kept["burst"]["goals"][1]["measured"] == 100
    assert all(goal["met"] for goal in kept["burst"]["goals"] + kept["documents"]["goals"])
    assert kept["limit"]["goals"][1]["met"], "never eleven in a second"
