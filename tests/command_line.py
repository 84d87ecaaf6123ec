"""The real command line in a process of its own, over the settings of a test's service."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.launch import NO_DEPRECATED

CHECKOUT = Path(__file__).parent.parent
_KEPT = ("PATH", "HOME", "LANG", "TMPDIR")


def orchestrator(
    environ: Mapping[str, str], folder: Path, *arguments: str | Path, expect: int = 0
) -> subprocess.CompletedProcess[str]:
    """`orchestrator arguments…` in `folder`; `expect`: its exit status. It never shows a traceback."""
    kept = {name: value for name, value in os.environ.items() if name in _KEPT or name.startswith("COVERAGE_")}
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator", *map(str, arguments)],
        env={**kept, "PYTHONPATH": str(CHECKOUT), **NO_DEPRECATED, **environ},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    said = f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
    assert done.returncode == expect, said
    assert "Traceback" not in done.stderr, said
    return done
