"""`kill -9` right before and right after every write of a command or of the worker's own round, and what follows."""

from __future__ import annotations

import base64
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from orchestrator.bootstrap import build
from orchestrator.config import Config
from orchestrator.machine import State
from orchestrator.onboarding import audit, operate
from orchestrator.records import DeliveryStatus, Onboarding, ShareOutcome
from orchestrator.store import SqliteDriver, Store
from tests.forge import Forge, forge
from tests.kill_matrix import AGAIN, COMMANDS, Asked
from tests.kill_points import AFTER, BEFORE, KILLS, arm, has_died, nameless
from tests.launch import AHEAD
from tests.merchant_end import MerchantEnd
from tests.sandbox_process import SandboxProcess
from tests.service import DAY, ENCRYPTION_KEY, NOTIFY_SECRET, SECOND, Bench, Clock
from tests.waiting import until

SIDES = (BEFORE, AFTER)
ARCHIVED = [row for row in COMMANDS if row.process in ("backup", "restore")]
"""What is left to the database's own tools on PostgreSQL."""
NEW_KEY = base64.b64encode(b"another key, of thirty-two bytes").decode()
AT_ONCE = {"RETAIN_DOCUMENTS_DAYS": "0.0000001", "RETAIN_PROFILE_DAYS": "0.0000001"}
MONTH = 31 * DAY
LEASE_OVER = 60 * SECOND


class Going(Clock):
    """Goes by itself on PostgreSQL, as the clocks of the processes that are killed do."""

    goes = True


@pytest.fixture(scope="module")
def smith() -> Iterator[Forge]:
    with forge() as running:
        yield running


class Killing:
    """A service, and commands over it that die where the row says."""

    def __init__(self, row: Asked, side: str, bench: Bench, smith: Forge) -> None:
        self.row, self.side, self.bench, self.smith = row, side, bench, smith
        self.kills = bench.folder / "kills"
        self._passed = 0

    @property
    def again(self) -> str:
        """What the same is to say when it is done again."""
        return self.row.again[self.side == AFTER]

    def run(self, *arguments: str | Path, **environ: str) -> tuple[int, str]:
        given = {**self.bench.environ(), KILLS: str(self.kills), **environ}
        return self.smith.run(given, self.bench.folder, *arguments)

    def kill(self, *arguments: str | Path, whose: str = "", **environ: str) -> None:
        """The command, until it is killed."""
        self.die_at(self.side, self.row.name, *arguments, whose=whose, **environ)

    def die_at(self, side: str, name: str, *arguments: str | Path, whose: str = "", **environ: str) -> None:
        process = "worker" if arguments[0] == "worker" else "command"
        arm(self.kills, process, [(side, name, whose)])
        status, said = self.run(*arguments, **environ)
        assert status == -signal.SIGKILL, said
        assert has_died(self.kills, process)

    def later(self, milliseconds: int) -> dict[str, str]:
        """So much time passes: for the database, and for a process that is given this."""
        self.bench.clock.advance(milliseconds)
        self._passed += milliseconds
        return {AHEAD: str(self._passed)}

    def repeat(self, *arguments: str | Path, **environ: str) -> str:
        """The same once more: done, or refused in words, as the row says; what it said."""
        status, said = self.run(*arguments, **environ)
        assert status == (1 if self.again.startswith("exit 1") else 0), said
        assert not status or said.startswith("Error: "), said
        return said


def _migrate(killing: Killing, tmp_path: Path) -> None:
    server = killing.bench.server
    url = server.new_database() if server else f"sqlite:///{tmp_path}/new/orchestrator.db"
    new = {"ORCHESTRATOR_DATABASE_URL": url}
    killing.kill("migrate", **new)
    said = killing.repeat("migrate", **new)
    assert ("applied" in said) is (killing.side == BEFORE)
    with closing(build(Config.from_env(killing.bench.environ() | new))) as service:
        assert service.driver.pending_migrations() == []


def _add_token(killing: Killing, tmp_path: Path) -> None:
    words = ("token", "create", "--role", "viewer", "--name", "ana")
    killing.kill(*words)
    said = killing.repeat(*words)
    assert said.startswith("orc_") if killing.side == BEFORE else "choose another name" in said
    assert [token.name for token in killing.bench.context.access.tokens()] == ["ana"]


def _revoke_token(killing: Killing, tmp_path: Path) -> None:
    killing.run("token", "create", "--role", "viewer", "--name", "ana")
    killing.kill("token", "revoke", "ana")
    killing.repeat("token", "revoke", "ana")
    [token] = killing.bench.context.access.tokens()
    assert token.revoked_at is not None


def _doctor(killing: Killing, tmp_path: Path) -> None:
    killing.kill("doctor", "--json")
    _, said = killing.run("doctor", "--json")
    lines = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    findings = {line["check"]: line["level"] for line in lines}
    assert findings["OSL Pay"] == "ok"
    with_slot = "select 1 from slots where free_at > ?"
    assert len(_rows(killing.bench, with_slot, killing.bench.clock.now)) <= 2, "no more than were taken"


def _erase(killing: Killing, tmp_path: Path) -> None:
    row = killing.bench.collected()
    killing.kill("erase", row.id)
    assert row.id in killing.bench.context.documents.shelf.erasures()
    killing.repeat("erase", row.id)
    now = killing.bench.row(row)
    assert (now.erased_at is not None, killing.bench.context.identity(now)) == (True, ("", {}))
    assert killing.bench.context.store.documents(row.id) == []


def _erasure_noted(killing: Killing, tmp_path: Path) -> None:
    row = killing.bench.collected()
    killing.kill("erase", row.id)
    assert killing.bench.row(row).erased_at is None, "nobody is told that it was done"
    assert len(killing.bench.context.store.documents(row.id)) == 2
    killing.repeat("erase", row.id)
    assert killing.bench.row(row).erased_at is not None


def _purge(killing: Killing, tmp_path: Path) -> None:
    row = operate.cancel(killing.bench.context, killing.bench.collected().id, "test")
    killing.kill("purge", **AT_ONCE)
    killing.repeat("purge", **AT_ONCE)
    now = killing.bench.row(row)
    assert killing.bench.context.store.documents(row.id) == []
    assert now.profile_deleted_at is not None


def _reseal(killing: Killing, tmp_path: Path) -> None:
    bench = killing.bench
    row = bench.shared_on_paper()
    collecting = bench.collected()
    killing.bench.settings["ORCHESTRATOR_ENCRYPTION_KEYS"] = f"{NEW_KEY},{ENCRYPTION_KEY}"
    killing.kill("reseal")
    killing.repeat("reseal")
    said = json.loads(killing.run("reseal", "--json")[1].splitlines()[-1])
    assert said == {"onboardings": 0, "documents": 0, "bodies": 0, "gone": []}, "nothing is left to be sealed"
    bench.settings["ORCHESTRATOR_ENCRYPTION_KEYS"] = NEW_KEY
    bench.context = bench.open().context
    for each in (row, collecting):
        assert bench.context.identity(bench.row(each))[0].startswith("silent")
        assert [bench.context.documents.get(item)[:5] for item in bench.context.store.documents(each.id)] == [
            b"%PDF-"
        ] * 2
    assert bench.callback_secret(row)
    operate.cancel(bench.context, row.id, "test")
    assert bench.state(collecting) is State.COLLECTING


def _backup(killing: Killing, tmp_path: Path) -> None:
    killing.bench.collected()
    archive = tmp_path / "archive.tar"
    killing.kill("backup", archive)
    assert not archive.exists(), "half an archive has no name"
    killing.repeat("backup", archive)
    restored = _restored(killing, tmp_path, archive)
    assert killing.run("restore", archive, **restored)[0] == 0


def _restored(killing: Killing, tmp_path: Path, archive: Path) -> dict[str, str]:
    """The settings of a new installation."""
    return {
        "ORCHESTRATOR_DATABASE_URL": f"sqlite:///{tmp_path}/restored/orchestrator.db",
        "ORCHESTRATOR_DOCUMENTS_URL": f"file:{tmp_path}/restored/documents",
    }


def _restore(killing: Killing, tmp_path: Path) -> None:
    bench = killing.bench
    rows = [bench.shared_on_paper(state=State.SHARING), bench.collected()]
    archive = tmp_path / "archive.tar"
    assert bench.folder.exists()
    assert killing.run("backup", archive)[0] == 0
    new = _restored(killing, tmp_path, archive)
    killing.kill("restore", archive, **new)
    store = Store(SqliteDriver(tmp_path / "restored" / "orchestrator.db"))
    whole = killing.row.name == "restore" and killing.side == AFTER
    assert store.is_empty() is not whole, "what is there to be worked on has been settled"
    killing.repeat("restore", archive, **new)
    for row in rows:
        now = store.onboarding(row.id)
        assert now
        assert (now.share, now.share_losses) == (ShareOutcome.LOST, 1), "it is asked about before it is sent again"
    named = {document.location for row in rows for document in store.documents(row.id)}
    documents = tmp_path / "restored" / "documents"
    assert {str(path.relative_to(documents)) for path in documents.glob("*/*")} == named


def _set_budget(killing: Killing, tmp_path: Path) -> None:
    fewer = {"OSL_REQUESTS_PER_SECOND": "7"}
    killing.kill("worker", **fewer)
    killing.die_at(AFTER, "beat", "worker", **fewer)
    assert len(_rows(killing.bench, "select id from slots")) == 7


def _beat(killing: Killing, tmp_path: Path) -> None:
    killing.kill("worker")
    killing.die_at(AFTER, "beat", "worker")
    assert killing.bench.context.schedule.last_beat()


def _take_chore(killing: Killing, tmp_path: Path) -> None:
    row = operate.cancel(killing.bench.context, killing.bench.collected().id, "test")
    killing.kill("worker", **AT_ONCE)
    if killing.side == AFTER:
        # One process of the installation has it for this day.
        killing.die_at(AFTER, "beat", "worker", **AT_ONCE)
        assert len(killing.bench.context.store.documents(row.id)) == 2
    ahead = killing.later(MONTH) if killing.side == AFTER else {}
    killing.die_at(AFTER, "documents_deleted", "worker", **AT_ONCE, **ahead)
    assert killing.bench.context.store.documents(row.id) == []


def _claim(killing: Killing, tmp_path: Path) -> None:
    row = killing.bench.submitted()
    killing.kill("worker", whose=row.id if killing.side == AFTER else "")
    assert killing.bench.sandbox
    now = _rows(killing.bench, "select lease from onboardings where id = ?", row.id)[0][0]
    assert (now is not None) is (killing.side == AFTER)
    if now:
        killing.bench.sandbox.clock_offset(LEASE_OVER)
    killing.die_at(AFTER, "uploaded", "worker", whose=row.id, **(killing.later(LEASE_OVER) if now else {}))
    killing.bench.clock.advance(2 * 60 * SECOND)
    killing.bench.run_to(row, State.APPROVED, 2 * 60 * 60 * SECOND)
    assert [share["count"] for share in _shares(killing.bench, row)] == [1]


def _count(killing: Killing, tmp_path: Path) -> None:
    row = killing.bench.submitted()
    killing.kill("worker")
    killing.bench.clock.advance(2 * 60 * SECOND)
    killing.bench.run_to(row, State.APPROVED, 2 * 60 * 60 * SECOND)
    assert [share["count"] for share in _shares(killing.bench, row)] == [1]


def _claim_deliveries(killing: Killing, tmp_path: Path) -> None:
    bench = killing.bench
    merchant = MerchantEnd()
    try:
        told = {"ORCHESTRATOR_NOTIFY_URL": merchant.url, "ORCHESTRATOR_NOTIFY_SECRET": NOTIFY_SECRET}
        merchant.secret = NOTIFY_SECRET
        bench.settings |= told
        bench.context = bench.open().context
        row = bench.submitted()
        killing.kill("worker", whose=row.id if killing.side == AFTER else "")
        assert merchant.arrived(row.merchant_user_id) == []
        ahead = killing.later(LEASE_OVER) if killing.side == AFTER else {}
        killing.die_at(AFTER, "settle_delivery", "worker", whose=row.id, **ahead)
        assert [notice.type for notice in merchant.told(row.merchant_user_id)] == ["onboarding.submitted"]
        [delivery] = bench.context.store.deliveries(row.id)[:1]
        assert delivery.status is DeliveryStatus.DELIVERED
        bench.clock.advance(2 * 60 * SECOND)
        bench.run_to(row, State.APPROVED, 2 * 60 * 60 * SECOND)
    finally:
        merchant.stop()


def _time_ran_out(killing: Killing, tmp_path: Path) -> None:
    row = killing.bench.collected()
    killing.kill("worker", whose=row.id, **killing.later(MONTH))
    if killing.side == BEFORE:
        assert killing.bench.state(row) is State.COLLECTING
        killing.die_at(AFTER, "time_ran_out", "worker", whose=row.id, **killing.later(DAY))
    assert killing.bench.state(row) is State.EXPIRED


def _stop_worker(killing: Killing, tmp_path: Path) -> None:
    arm(killing.kills, "worker", [(killing.side, "stop_worker", "")])
    ended: list[tuple[int, str]] = []
    thread = threading.Thread(target=lambda: ended.append(killing.run("worker")))
    thread.start()
    until(lambda: killing.bench.context.schedule.last_beat() is not None)
    [pid] = killing.smith.children()
    os.kill(pid, signal.SIGTERM)
    thread.join()
    assert [status for status, _ in ended] == [-signal.SIGKILL]
    assert (killing.bench.context.schedule.last_beat() is None) is (killing.side == AFTER)
    killing.die_at(AFTER, "beat", "worker")


PLAYS: dict[str, Callable[[Killing, Path], None]] = {
    "migrate": _migrate,
    "add_token": _add_token,
    "revoke_token": _revoke_token,
    "take_slot": _doctor,
    "free_slot": _doctor,
    "erasure_noted": _erasure_noted,
    "erased": _erase,
    "forget_hours": _purge,
    "documents_deleted": _purge,
    "profile_deleted": _purge,
    "document_resealed": _reseal,
    "resealed": _reseal,
    "replace_body": _reseal,
    "backup": _backup,
    "restored": _restore,
    "restore": _restore,
    "set_budget": _set_budget,
    "beat": _beat,
    "take_chore": _take_chore,
    "count": _count,
    "claim": _claim,
    "claim_deliveries": _claim_deliveries,
    "time_ran_out": _time_ran_out,
    "stop_worker": _stop_worker,
}


def _rows(bench: Bench, sql: str, *values: Any) -> list[Any]:
    with bench.connected() as database:
        found: list[Any] = database.execute(sql, values).fetchall()
    return found


def _shares(bench: Bench, row: Onboarding) -> list[dict[str, Any]]:
    assert bench.sandbox
    return [share for share in bench.sandbox.summary()["shares"] if share["merchantUserId"] == row.merchant_user_id]


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("row", [row for row in COMMANDS if row not in ARCHIVED], ids=lambda row: row.name)
def test_a_command_killed_at_a_write_can_be_given_again(
    row: Asked, side: str, tmp_path: Path, sandbox: SandboxProcess, smith: Forge
) -> None:
    play(row, side, tmp_path, sandbox, smith)


@pytest.mark.sqlite
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("row", ARCHIVED, ids=lambda row: row.name)
def test_a_backup_or_restore_killed_at_a_write_can_be_given_again(
    row: Asked, side: str, tmp_path: Path, sandbox: SandboxProcess, smith: Forge
) -> None:
    play(row, side, tmp_path, sandbox, smith)


def play(row: Asked, side: str, tmp_path: Path, sandbox: SandboxProcess, smith: Forge) -> None:
    """A row on one side, in a service of its own, and what must hold in the end."""
    site = tmp_path / "site"
    site.mkdir()
    with closing(Bench(site, sandbox, clock=Going())) as bench:
        killing = Killing(row, side, bench, smith)
        PLAYS[row.name](killing, tmp_path)
        assert not nameless(killing.kills)
        assert list(audit.faults(bench.context)) == []
        if row.end is not None:
            ends = {(now.state.value, now.round) for now in map(bench.row, _ids(bench))}
            assert row.end in ends
        check_files(killing)


def _ids(bench: Bench) -> list[str]:
    return [onboarding_id for onboarding_id, *_ in bench.context.store.heads()]


def check_files(killing: Killing) -> None:
    """No row without its file; once a purge has looked, a day later, no file without a row."""
    bench = killing.bench
    named = {document.location for each in _ids(bench) for document in bench.context.store.documents(each)}
    folder = bench.folder / "documents"
    there = {str(path.relative_to(folder)) for path in folder.glob("*/*")}
    assert named <= there
    for path in folder.glob("*/*"):
        os.utime(path, (time.time() - 200_000,) * 2)
    assert killing.run("purge")[0] == 0
    assert {str(path.relative_to(folder)) for path in folder.glob("*/*")} == named


@pytest.mark.sqlite
def test_every_command_that_writes_is_played() -> None:
    assert list(PLAYS) == [row.name for row in COMMANDS]
    assert {word for row in COMMANDS for word in row.again if word.startswith("exit")} >= {"exit 1: it is erased"}
    assert AGAIN == "done"
