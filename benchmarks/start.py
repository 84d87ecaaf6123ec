"""How long the command line takes to help, and `serve` to answer."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import requests

from benchmarks.measuring import Goal, report, rounds
from benchmarks.processes import Processes, Settings
from orchestrator.cli.demo_installation import free_port

_ROUNDS = 5


def measure(*, short: bool = False) -> Sequence[Goal]:
    """Run it and report."""
    number = 1 if short else _ROUNDS
    times = rounds(number, lambda _: (_help(), _serve()))
    table = [
        {"round": str(place + 1), "--help s": help_, "serve s": serve} for place, (help_, serve) in enumerate(times)
    ]
    goals = [
        Goal("orchestrator --help", statistics.median(each[0] for each in times), "at most", 0.3, "s"),
        Goal("serve answers", statistics.median(each[1] for each in times), "at most", 2.5, "s"),
    ]
    return report("start", "From nothing to an answer", table, goals)


def _help() -> float:
    began = time.perf_counter()
    command = str(Path(sys.executable).with_name("orchestrator"))
    subprocess.run([command, "--help"], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def _serve() -> float:
    with tempfile.TemporaryDirectory() as folder, Processes(Path(folder)) as processes:
        settings = Settings(processes.folder)
        port = free_port()
        began = time.perf_counter()
        processes.spawn("serve", "orchestrator", "serve", "--port", str(port), environ=settings.environ)
        wait_for_answer(port)
        return time.perf_counter() - began


def wait_for_answer(port: int, path: str = "/healthz") -> None:
    """Until the service answers 200. Raises TimeoutError."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        try:
            if requests.get(f"http://127.0.0.1:{port}{path}", timeout=5).status_code == 200:
                return
        except requests.RequestException:
            pass
        time.sleep(0.01)
    raise TimeoutError(f"{path} did not answer")
