"""A burst of webhooks, many in one transaction: what was acknowledged is stored, however often gunicorn is killed."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

from benchmarks import stored
from benchmarks.processes import Processes, Settings, family
from benchmarks.webhooks import passes

WEBHOOKS, SENDERS, KILLS = 2_500, 32, 4


class Burst:
    """Each webhook is sent once, on a connection of its own, whether somebody answers or not."""

    def __init__(self, port: int, webhooks: Sequence[bytes]) -> None:
        self._port = port
        self._waiting = iter(enumerate(webhooks))
        self._lock = threading.Lock()
        self.acknowledged: set[int] = set()

    def send_all(self) -> None:
        while sent := self._next():
            number, data = sent
            with suppress(OSError), socket.create_connection(("127.0.0.1", self._port), timeout=5) as client:
                client.sendall(data)
                if client.recv(200).startswith(b"HTTP/1.1 200"):
                    self._acknowledge(number)
                    continue
            time.sleep(0.02)  # whoever is started again has a chance to be there for the rest

    def _next(self) -> tuple[int, bytes] | None:
        with self._lock:
            return next(self._waiting, None)

    def _acknowledge(self, number: int) -> None:
        with self._lock:
            self.acknowledged.add(number)


def kill(web: subprocess.Popen[bytes]) -> None:
    for pid in family(web):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    web.wait()


def test_what_was_acknowledged_in_a_burst_is_stored_once_though_gunicorn_is_killed_in_it(tmp_path: Path) -> None:
    settings = Settings(tmp_path)
    stored.store_waiting(settings, WEBHOOKS, whole=WEBHOOKS)
    burst = Burst(settings.port, list(passes(settings, range(WEBHOOKS))))
    with Processes(tmp_path) as processes, ThreadPoolExecutor(SENDERS) as pool:
        web = processes.gunicorn("orchestrator.wsgi:app", settings.port, settings.environ)
        sending = [pool.submit(burst.send_all) for _ in range(SENDERS)]
        for _ in range(KILLS):
            before = len(burst.acknowledged)
            while len(burst.acknowledged) < before + 100 and not all(each.done() for each in sending):
                time.sleep(0.01)
            kill(web)
            web = processes.gunicorn("orchestrator.wsgi:app", settings.port, settings.environ)
        for each in sending:
            each.result()
    assert len(burst.acknowledged) > KILLS * 100
    with closing(sqlite3.connect(settings.database)) as database:
        rows = database.execute(
            "select merchant_user_id, callbacks.verdict, onboardings.state from callbacks "
            "join onboardings on onboardings.id = callbacks.onboarding_id"
        ).fetchall()
        counts = dict(database.execute("select state, onboardings from state_counts where onboardings > 0"))
        states = dict(database.execute("select state, count(*) from onboardings group by state"))
        (applied,) = database.execute(
            "select number from tallies where what = 'verdicts' and word = 'applied'"
        ).fetchone()
    kept = [name for name, _, _ in rows]
    print(f"{len(burst.acknowledged)} of {WEBHOOKS} acknowledged, {len(kept)} stored")
    assert {stored.name(number) for number in burst.acknowledged} <= set(kept)
    assert len(kept) == len(set(kept))
    assert {(verdict, state) for _, verdict, state in rows} == {("applied", "confirming")}
    assert counts == states
    assert applied == len(kept)
