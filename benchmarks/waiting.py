"""What 20,000 onboardings cost that only wait: memory, threads, the processor, and the time of a restart."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import stored
from benchmarks.measuring import Goal, report
from benchmarks.processes import Processes, Settings, family, memory_mb, processor_seconds, threads
from benchmarks.start import wait_for_answer

_SETTLING = 3.0
"""Seconds until a process that was started is idle."""


@dataclass(frozen=True)
class _Idle:
    memory: float
    threads: int
    processor: float
    """Of a core."""
    restart: float


def measure(*, short: bool = False) -> Sequence[Goal]:
    """Run it and report."""
    count, watched = (200, 1.0) if short else (20_000, 10.0)
    few, many = (_watch(stored_, watched) for stored_ in (10, count))
    table = [
        {
            "waiting": waiting,
            "memory MB": idle.memory,
            "threads": idle.threads,
            "of a core": idle.processor,
            "ready again s": idle.restart,
        }
        for waiting, idle in ((10, few), (count, many))
    ]
    goals = [
        Goal("more memory of web and worker", many.memory - few.memory, "at most", 5, "MB"),
        Goal("more threads", many.threads - few.threads, "at most", 0),
        Goal("processor while idle, of a core", many.processor, "at most", 0.02),
        Goal("ready again after a restart", many.restart, "at most", 2.5, "s"),
    ]
    return report("waiting", f"{count:,} onboardings that wait", table, goals)


def _watch(count: int, seconds: float) -> _Idle:
    with tempfile.TemporaryDirectory() as folder, Processes(Path(folder)) as processes:
        settings = Settings(processes.folder)
        stored.store_waiting(settings, count, whole=count)
        running = _start(processes, settings)
        time.sleep(_SETTLING)
        before = processor_seconds(*running)
        time.sleep(seconds)
        used = (processor_seconds(*running) - before) / seconds
        pids = [pid for process in running for pid in family(process)]
        memory, number = sum(map(memory_mb, pids)), sum(map(threads, pids))
        for process in running:
            processes.stop(process)
        began = time.perf_counter()
        _start(processes, settings)
        return _Idle(memory, number, used, time.perf_counter() - began)


def _start(processes: Processes, settings: Settings) -> list[subprocess.Popen[bytes]]:
    """Web and worker, ready."""
    worker = processes.worker(settings.environ)
    web = processes.gunicorn("orchestrator.wsgi:app", settings.port, settings.environ, workers=1)
    wait_for_answer(settings.port, "/readyz")
    return [web, worker]
