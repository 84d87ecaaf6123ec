"""What a whole onboarding costs, from signup to the merchant told: beside the same job on DBOS Transact."""

from __future__ import annotations

import sqlite3
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import click

from benchmarks.job import Client, start_stub
from benchmarks.measuring import Goal, ratio, report, rounds
from benchmarks.processes import Processes, Settings, memory_mb, processor_seconds

_LONGEST = 300.0


@dataclass(frozen=True)
class Run:
    """What one run took. `processor`: seconds of web and worker; `disk`: bytes of the database."""

    users: int
    seconds: float
    processor: float
    memory: float
    disk: int


def measure(*, short: bool = False) -> Sequence[Goal]:
    """Run it and report."""
    users, number = (8, 1) if short else (2_000, 3)
    # All of them go at the end: ext4 looks for long before it makes a file where thousands were just deleted.
    with tempfile.TemporaryDirectory() as folder:

        def both_once(_: int) -> tuple[Run, Run]:
            return _run(folder, _start_ours, users, _settled), _run(folder, _start_dbos, users, _done_in_dbos)

        both = rounds(number, both_once)
    ours, theirs = [one for one, _ in both], [other for _, other in both]
    table = [
        {
            "what": name,
            "users": run.users,
            "seconds": run.seconds,
            "users/s": run.users / run.seconds,
            "CPU ms": run.processor / run.users * 1000,
            "memory MB": run.memory,
            "kB on disk": run.disk / run.users / 1000,
        }
        for name, runs in (("orchestrator", ours), ("DBOS Transact", theirs))
        for run in runs
    ]
    speeds = [[run.users / run.seconds for run in runs] for runs in (ours, theirs)]
    goals = [
        Goal(
            "CPU of web and worker per onboarding",
            statistics.median(run.processor / run.users * 1000 for run in ours),
            "at most",
            15,
            "ms",
        ),
        Goal("onboardings per second", statistics.median(speeds[0]), "at least", 60),
        Goal("of DBOS Transact's per second", ratio(*speeds), "at least", 3),
        Goal(
            "on disk per settled onboarding",
            statistics.median(run.disk / run.users / 1000 for run in ours),
            "at most",
            8,
            "kB",
        ),
    ]
    return report("end_to_end", "Onboardings from signup to the merchant told", table, goals)


Start = Callable[[Processes, Settings], tuple[str, list[subprocess.Popen[bytes]]]]


def _run(folder: str, start: Start, users: int, done: Callable[[Settings], int]) -> Run:
    """Start web and worker, let the client begin all users, and wait until the last of them is told of."""
    with Processes(Path(tempfile.mkdtemp(dir=folder))) as processes:
        _, settings = start_stub(processes)
        token, running = start(processes, settings)
        client = Client(settings.port, token)
        client.begin(range(-2, 0))
        _wait(settings, 2, done)
        before, began = processor_seconds(*running), time.monotonic()
        client.begin(range(users))
        _wait(settings, users + 2, done)
        took, used = time.monotonic() - began, processor_seconds(*running) - before
        memory = sum(memory_mb(process.pid) for process in running)
        return Run(users, took, used, memory, _disk(settings))


def _start_ours(processes: Processes, settings: Settings) -> tuple[str, list[subprocess.Popen[bytes]]]:
    token = settings.token()
    web = processes.gunicorn("orchestrator.wsgi:app", settings.port, settings.environ)
    return token, [web, processes.worker(settings.environ)]


def _start_dbos(processes: Processes, settings: Settings) -> tuple[str, list[subprocess.Popen[bytes]]]:
    settings.environ["BENCHMARK_DBOS_DATABASE"] = f"sqlite:///{settings.database.with_name('dbos.db')}"
    web = processes.gunicorn("benchmarks.on_dbos:app", settings.port, settings.environ, workers=1, threads=16)
    return "none", [web]


def _wait(settings: Settings, users: int, done: Callable[[Settings], int]) -> None:
    until = time.monotonic() + _LONGEST
    while done(settings) < users:
        if time.monotonic() > until:
            raise click.ClickException(f"{done(settings)} of {users} were done after {_LONGEST:.0f} s")
        time.sleep(0.05)


def _settled(settings: Settings) -> int:
    """How many onboardings are approved, and everything told."""
    with closing(sqlite3.connect(f"file:{settings.database}?mode=ro", uri=True, timeout=10)) as connection:
        (approved,) = connection.execute(
            "select coalesce(sum(onboardings), 0) from state_counts where state = 'approved'"
        ).fetchone()
        (pending,) = connection.execute(
            "select coalesce(sum(number), 0) from tallies where what = 'deliveries' and word = 'pending'"
        ).fetchone()
    return int(approved) if pending == 0 else 0


def _done_in_dbos(settings: Settings) -> int:
    """How many workflows are over."""
    path = settings.database.with_name("dbos.db")
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as connection:
        (done,) = connection.execute("select count(*) from workflow_status where status = 'SUCCESS'").fetchone()
    return int(done)


def _disk(settings: Settings) -> int:
    """Bytes of the database, its log written back."""
    if not settings.database.exists():
        return sum(path.stat().st_size for path in settings.database.parent.glob("dbos.db*"))
    with closing(sqlite3.connect(settings.database, timeout=10)) as connection:
        connection.execute("pragma wal_checkpoint")
        (pages,) = connection.execute("pragma page_count").fetchone()
        (free,) = connection.execute("pragma freelist_count").fetchone()
        (size,) = connection.execute("pragma page_size").fetchone()
    return int((pages - free) * size)
