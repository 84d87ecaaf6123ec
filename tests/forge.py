"""Real processes of the command line that are forked from one that has imported everything already."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.command_line import CHECKOUT


class Forge:
    """One at a time: `run` waits for the end of what it started."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, environ: Mapping[str, str], folder: Path, *arguments: str | Path) -> tuple[int, str]:
        """`orchestrator arguments…`: its exit status (negative: the signal that killed it) and what it printed."""
        given = {"PATH": os.environ["PATH"], "PYTHONPATH": str(CHECKOUT), **environ}
        order = {"arguments": [str(word) for word in arguments], "environ": given, "folder": str(folder)}
        assert self._process.stdin
        assert self._process.stdout
        print(json.dumps(order), file=self._process.stdin, flush=True)
        done = json.loads(self._process.stdout.readline())
        assert "Traceback" not in done["said"], done["said"]
        return done["status"], done["said"]

    def children(self) -> list[int]:
        """What it started and is still running."""
        pids = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text("utf-8").split()
        return [int(pid) for pid in pids]


@contextmanager
def forge() -> Iterator[Forge]:
    """A forge, until the block ends."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.launch", "forge"],
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield Forge(process)
    finally:
        process.kill()
        process.communicate()
