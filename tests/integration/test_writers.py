"""Many writers of one SQLite file: processes and threads at once, one of them killed, connections coming and going."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from orchestrator.machine import Event
from orchestrator.onboarding.apply import Step, apply
from orchestrator.records import Onboarding
from orchestrator.store import SqliteDriver
from tests.service import Bench

THREADS = 4
SECONDS = 10.0
LONGEST_WAIT = 1.0

WRITER = """
import json, os, sys, threading, time
from pathlib import Path
from orchestrator.bootstrap import build
from orchestrator.config import Config
from orchestrator.machine import Event
from orchestrator.onboarding.apply import Step, apply


ids, seconds, threads, notes = json.loads(sys.argv[1])
context = build(Config.from_env()).context
ends = time.monotonic() + seconds
longest, failures = 0.0, []
commit = context.store.commit

def measured(change):
    global longest
    began = time.monotonic()
    stored = commit(change)
    longest = max(longest, time.monotonic() - began)
    return stored

context.store.commit = measured

def decide(row):
    return [Step(Event.EDITED, "writer", changes={"share_losses": row.share_losses + 1})]

def write(number):
    with open(f"{notes}-{number}", "a", buffering=1) as acknowledged:
        while time.monotonic() < ends:
            for onboarding_id in ids:
                try:
                    row = apply(context, onboarding_id, decide)
                except Exception as error:
                    failures.append(repr(error))
                    return
                acknowledged.write(f"{onboarding_id} {row.share_losses}\\n")

workers = [threading.Thread(target=write, args=(number,)) for number in range(threads)]
for worker in workers: worker.start()
for worker in workers: worker.join()
print(json.dumps({"longest": longest, "failures": failures}), flush=True)
"""


class Writers:
    """A process of threads that each read a row, decide, and write it one higher, again and again."""

    def __init__(self, bench: Bench, ids: list[str], seconds: float, name: str, threads: int = THREADS) -> None:
        self._notes = bench.folder / f"acknowledged-{name}"
        self.process = subprocess.Popen(
            [sys.executable, "-c", WRITER, json.dumps([ids, seconds, threads, str(self._notes)])],
            env={**os.environ, **bench.environ(), "ORCHESTRATOR_LOG_LEVEL": "ERROR"},
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
            text=True,
        )

    def acknowledged(self) -> list[tuple[str, int]]:
        """What `apply` said is stored: id and the value it wrote."""
        found = []
        for notes in self._notes.parent.glob(f"{self._notes.name}-*"):
            lines = notes.read_text().split("\n")[:-1]  # what was killed in mid line was not noted
            found += [(line.split()[0], int(line.split()[1])) for line in lines]
        return found

    def result(self) -> tuple[float, list[str]]:
        """How long the slowest write took, in seconds, and what failed."""
        output, _ = self.process.communicate(timeout=60)
        said = json.loads(output)
        return said["longest"], said["failures"]

    def wait_for(self, writes: int, seconds: float = 20.0) -> None:
        ends = time.monotonic() + seconds
        while len(self.acknowledged()) < writes:
            assert time.monotonic() < ends, "nothing is written"
            time.sleep(0.02)


def come_and_go(bench: Bench, until: threading.Event) -> None:
    """Connections and whole drivers that open, look, migrate, write and close."""
    while not until.is_set():
        driver = SqliteDriver(bench.database)
        driver.migrate()
        driver.read(lambda session: session.rows("counts"))
        driver.write(lambda session: session.run("stop_worker", id=""))
        driver.close()
        with closing(sqlite3.connect(bench.database)) as plain:
            plain.execute("select count(*) from onboardings").fetchall()


@contextlib.contextmanager
def coming_and_going(bench: Bench) -> Iterator[None]:
    until = threading.Event()
    threads = [threading.Thread(target=come_and_go, args=(bench, until)) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        until.set()
        for thread in threads:
            thread.join()


def one_more(row: Onboarding) -> list[Step]:
    return [Step(Event.EDITED, "test", changes={"share_losses": row.share_losses + 1})]


def nothing_lost(bench: Bench, rows: list[Onboarding], acknowledged: list[tuple[str, int]]) -> None:
    """Every acknowledged value was written once, each chain is whole, and the file is sound."""
    assert len(set(acknowledged)) == len(acknowledged), "two writers were told the same value: an update was lost"
    for row in rows:
        now = bench.row(row)
        values = {value for onboarding_id, value in acknowledged if onboarding_id == row.id}
        assert values <= set(range(1, now.share_losses + 1)), "what was acknowledged is stored"
        assert now.version - row.version == now.seq - row.seq == now.share_losses
        assert bench.chain_faults(row) == []
    with closing(sqlite3.connect(bench.database)) as database:
        assert database.execute("pragma integrity_check").fetchone() == ("ok",)
        assert database.execute("pragma foreign_key_check").fetchall() == []


def test_two_processes_of_four_threads_lose_nothing_and_wait_for_less_than_a_second(bench: Bench) -> None:
    rows = [bench.sign_up() for _ in range(3)]
    ids = [row.id for row in rows]
    processes = [Writers(bench, ids, SECONDS, name) for name in ("a", "b")]
    with coming_and_going(bench):
        results = [process.result() for process in processes]
    assert [failures for _, failures in results] == [[], []], "no 'database is locked', nor anything else"
    acknowledged = [note for process in processes for note in process.acknowledged()]
    nothing_lost(bench, rows, acknowledged)
    assert len(acknowledged) == sum(bench.row(row).share_losses for row in rows)
    assert len(acknowledged) > 200
    for process in processes:
        assert len(process.acknowledged()) > 0.2 * len(acknowledged), "none is starved"
    assert max(longest for longest, _ in results) < LONGEST_WAIT


def test_a_process_killed_in_the_middle_holds_up_nobody_and_loses_nothing(bench: Bench) -> None:
    rows = [bench.sign_up() for _ in range(3)]
    ids = [row.id for row in rows]
    lasting = Writers(bench, ids, 4.0, "lasting")
    killed = []
    for number in range(4):
        writers = Writers(bench, ids, 60.0, f"killed-{number}")
        killed.append(writers)
        writers.wait_for(20)
        writers.process.send_signal(signal.SIGKILL)
        assert writers.process.wait(10) == -signal.SIGKILL
        if writers.process.stdout:
            writers.process.stdout.close()
    began = time.monotonic()
    apply(bench.context, ids[0], one_more)
    assert time.monotonic() - began < LONGEST_WAIT, "the kernel gave the locks back"
    longest, failures = lasting.result()
    assert failures == []
    assert longest < LONGEST_WAIT
    acknowledged = [note for process in (lasting, *killed) for note in process.acknowledged()]
    nothing_lost(bench, rows, acknowledged)
    stored = sum(bench.row(row).share_losses for row in rows)
    # What was stored but not noted any more: at most what each killed thread had under way, and ours.
    assert 0 <= stored - len(acknowledged) <= len(killed) * THREADS + 1


def test_a_process_killed_while_it_holds_the_lock_gives_it_back(bench: Bench) -> None:
    script = """
import os, sys
from pathlib import Path
from orchestrator.store import SqliteDriver
def never(session):
    session.run("stop_worker", id="")
    print("inside", flush=True)
    sys.stdin.read()
SqliteDriver(Path(sys.argv[1])).write(never)
"""
    holder = subprocess.Popen(
        [sys.executable, "-c", script, str(bench.database)],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout
    assert holder.stdin
    assert holder.stdout.readline() == "inside\n"
    done = threading.Event()
    writing = threading.Thread(target=lambda: (bench.context.schedule.check_writable(), done.set()))
    writing.start()
    assert not done.wait(0.3), "it waits for its turn"
    holder.kill()
    assert done.wait(LONGEST_WAIT)
    writing.join()
    holder.wait()
    holder.stdin.close()
    holder.stdout.close()


def test_one_that_reads_for_long_holds_up_no_writer(bench: Bench) -> None:
    row = bench.sign_up()
    with closing(sqlite3.connect(bench.database, isolation_level=None)) as reader:
        reader.execute("begin")
        assert reader.execute("select version from onboardings").fetchone() == (row.version,)
        began = time.monotonic()
        apply(bench.context, row.id, lambda row: [Step(Event.EDITED, "test")])
        assert time.monotonic() - began < LONGEST_WAIT
        assert reader.execute("select version from onboardings").fetchone() == (row.version,), "its snapshot stands"
        reader.execute("commit")


@pytest.mark.parametrize("threads", [8])
def test_threads_of_one_process_that_change_the_same_row_all_get_through(bench: Bench, threads: int) -> None:
    row = bench.sign_up()

    def write() -> None:
        for _ in range(20):
            apply(bench.context, row.id, one_more)

    workers = [threading.Thread(target=write) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert bench.row(row).share_losses == threads * 20
