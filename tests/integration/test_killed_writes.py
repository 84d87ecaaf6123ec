"""`kill -9` in the middle of a transaction: between any two of its statements, and right before its commit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

from tests.databases import dump
from tests.launch import NO_DEPRECATED
from tests.service import Bench

WRITER = """
import json, os, signal, sys
from orchestrator.bootstrap import build
from orchestrator.config import Config
from tests.integration.test_store import everything

onboarding_id, last = json.loads(sys.argv[1])
service = build(Config.from_env())
run, statements = 0, []

class Dying:
    def __init__(self, session):
        self._session = session

    def __getattr__(self, name):
        return getattr(self._session, name)

    def run(self, name, /, **parameters):
        changed = self._session.run(name, **parameters)
        statements.append(name)
        if len(statements) == last:
            os.kill(os.getpid(), signal.SIGKILL)
        return changed

class Driver:
    def write(self, work):
        return service.driver.write(lambda session: work(Dying(session)))

store = service.context.store
row = store.onboarding(onboarding_id)
store._driver = Driver()
assert store.commit(everything(row, row))
print(json.dumps(statements))
"""


def write(bench: Bench, onboarding_id: str, last: int) -> tuple[int, list[str]]:
    """A change that writes to every table, killed after its `last` statement; status, and all of its statements."""
    ended = subprocess.run(
        [sys.executable, "-c", WRITER, json.dumps([onboarding_id, last])],
        env={**os.environ, **bench.environ(), **NO_DEPRECATED},
        capture_output=True,
        check=False,
        timeout=60,
    )
    return ended.returncode, json.loads(ended.stdout or b"[]")


def everything_stored(bench: Bench) -> str:
    bench.context.tally.flush()
    with bench.connected() as database:
        return dump(database)


def test_of_a_transaction_that_is_killed_in_the_middle_nothing_is_there(bench: Bench) -> None:
    row = bench.sign_up()
    before = everything_stored(bench)
    killed = 0
    while (ended := write(bench, row.id, killed + 1))[0] == -signal.SIGKILL:
        killed += 1
        assert everything_stored(bench) == before, f"killed after statement {killed}"
    status, statements = ended
    assert status == 0
    print(f"killed after each of {killed} statements: {', '.join(statements)}")
    assert killed == len(statements)
    assert {"update_onboarding", "insert_transition", "put_callback", "insert_delivery"} < set(statements)
    assert bench.row(row).version == row.version + 1
