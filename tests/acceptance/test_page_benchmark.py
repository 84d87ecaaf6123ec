"""How long the operators' pages take is still measured; what comes out is for who runs it in full."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.long

ROOT = Path(__file__).parent.parent.parent


def test_how_long_the_pages_take_is_measured(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "benchmarks", tmp_path / "benchmarks")

    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.pages", "--short"],
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert done.returncode == 0, done.stderr
    measured = json.loads((tmp_path / "benchmarks/pages.json").read_text("utf-8"))
    assert {"overview", "list", "one onboarding"} <= {row["page"] for row in measured["rows"]}
    assert all(0 < row["p50 ms"] <= row["p99 ms"] for row in measured["rows"])
