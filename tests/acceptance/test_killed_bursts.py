"""A burst of webhooks, many in one transaction: each is stored once, however often gunicorn is killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from benchmarks import stored
from benchmarks.processes import Processes, Settings, family
from benchmarks.webhooks import passes
from tests.databases import connected
from tests.installation import Installation
from tests.waiting import until

WEBHOOKS, SENDERS, KILLS, BETWEEN = 2_000, 32, 4, 300
DATABASE = "ORCHESTRATOR_DATABASE_URL"

pytestmark = pytest.mark.long


class Burst:
    """Each webhook is sent, on a connection of its own, until it is acknowledged."""

    def __init__(self, port: int, webhooks: Sequence[bytes]) -> None:
        self._port = port
        self._waiting = iter(webhooks)
        self._lock = threading.Lock()
        self.acknowledged = 0

    def send_all(self) -> None:
        while (data := self._next()) is not None:
            while not self._is_acknowledged(data):
                time.sleep(0.02)
            with self._lock:
                self.acknowledged += 1

    def _is_acknowledged(self, data: bytes) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self._port), timeout=5) as client:
            client.sendall(data)
            return client.recv(200).startswith(b"HTTP/1.1 200")
        return False

    def _next(self) -> bytes | None:
        with self._lock:
            return next(self._waiting, None)


def kill(web: subprocess.Popen[bytes]) -> None:
    for pid in family(web):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    web.wait()


def _move(settings: Settings, place: str) -> None:
    command = [sys.executable, "-m", "orchestrator", "copy", "--to", place]
    subprocess.run(command, env={**os.environ, **settings.environ}, check=True, capture_output=True)
    settings.environ[DATABASE] = place


def test_every_webhook_of_a_burst_is_stored_once_though_gunicorn_is_killed_in_it(tmp_path: Path) -> None:
    settings = Settings(tmp_path)
    stored.store_waiting(settings, WEBHOOKS, whole=WEBHOOKS)
    if Installation.server is not None:
        _move(settings, Installation.server.new_database())
    burst = Burst(settings.port, list(passes(settings, range(WEBHOOKS))))
    with Processes(tmp_path) as processes, ThreadPoolExecutor(SENDERS) as pool:
        web = processes.gunicorn("orchestrator.wsgi:app", settings.port, settings.environ)
        sending = [pool.submit(burst.send_all) for _ in range(SENDERS)]
        for number in range(1, KILLS + 1):
            until(lambda number=number: burst.acknowledged >= number * BETWEEN, 60, 0.01)
            kill(web)
            web = processes.gunicorn("orchestrator.wsgi:app", settings.port, settings.environ)
        for each in sending:
            each.result()
    assert burst.acknowledged == WEBHOOKS
    with connected(settings.environ[DATABASE]) as database:
        rows = database.execute(
            "select merchant_user_id, callbacks.verdict, onboardings.state, callbacks.seen from callbacks "
            "join onboardings on onboardings.id = callbacks.onboarding_id"
        ).fetchall()
        states = dict(database.execute("select state, count(*) from onboardings group by state").fetchall())
        counts = dict(database.execute("select state, onboardings from state_counts where onboardings > 0").fetchall())
        tallied = dict(database.execute("select word, number from tallies where what = 'verdicts'").fetchall())
    twice = sum(seen - 1 for *_, seen in rows)
    print(f"{WEBHOOKS} acknowledged, {twice} of them stored and sent again")
    assert sorted(name for name, *_ in rows) == sorted(stored.name(number) for number in range(WEBHOOKS))
    assert {(verdict, state) for _, verdict, state, _ in rows} == {("applied", "confirming")}
    assert states == counts == {"confirming": WEBHOOKS}
    assert tallied["applied"] == WEBHOOKS
    assert tallied.get("duplicate", 0) == twice
