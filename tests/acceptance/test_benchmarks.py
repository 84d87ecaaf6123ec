"""The benchmarks still work; what they measure is for `make bench`."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def test_how_long_a_user_takes_is_measured(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "benchmarks", tmp_path / "benchmarks")

    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.signup_to_approved", "--users", "2"],
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "benchmarks/signup_to_approved.json").read_text("utf-8"))
    assert figures["users"] == 2
    assert 0 < figures["p50Ms"] <= figures["p99Ms"] == figures["worstMs"]
