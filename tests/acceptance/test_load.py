"""Under load: slow senders, a mountain of overdue polls, and OSL Pay's ten requests a second."""

from __future__ import annotations

import os
import socket
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path

import pytest

from tests.acceptance.conftest import Install
from tests.databases import connected
from tests.installation import Installation, User, http
from tests.waiting import until

pytestmark = pytest.mark.long

OVERDUE = 100_000
PATIENT = {"CALLBACK_PATIENCE_SECONDS": "600"}


def test_a_webhook_is_answered_within_a_second_while_64_connections_wait_after_one_byte(install: Install) -> None:
    site = install(settings=PATIENT)
    assert site.sandbox
    user = site.begin("silent")
    site.wait_for(user, "awaiting_callback")
    url = site.callback_url(user)
    with ExitStack() as stack:
        for _ in range(64):
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", int(site.url.rsplit(":", 1)[1]))))
            sock.sendall(b"P")
        took = []
        for _ in range(5):
            headers = site.sandbox.sign() | {"Content-Type": "application/json"}
            data = {"merchantUserId": user.name, "userId": "9001", "kycStatus": "PROCESS", "kycShareFailedReason": ""}
            began = time.monotonic()
            answer = http("POST", url, headers=headers, json={"type": "kyc_status_change", "data": data})
            took.append(time.monotonic() - began)
            assert answer.json() == {"code": "00000", "msg": "success"}
    assert max(took) < 1.0
    assert site.verdicts(user) == [("applied", 1)] * 5


def test_a_submit_is_shared_within_three_seconds_in_spite_of_100_000_overdue_polls(
    install: Install, database: str
) -> None:
    site = install(settings=PATIENT | {"OSL_REQUESTS_PER_SECOND": "10"})
    assert site.sandbox
    first = site.begin("silent")
    site.wait_for(first, "awaiting_callback")
    users = [site.collect("pass") for _ in range(3)]
    # Who writes for so long beside the product must hold a SQLite database, or the product gives up waiting.
    with site.database_held() if database == "sqlite" else nullcontext():
        pile_up_overdue_polls(site, first)
    until(lambda: polls(site) > 20)
    for user in users:
        before = polls(site)
        submitted = time.time()
        site.submit(user)
        shared = until(lambda user=user: [call for call in site.calls(user, "osl.share") if call["acted"]])
        assert shared[0]["at"] / 1000 - submitted < 3.0
        site.wait_for(user, "approved", seconds=10)
        until(lambda before=before: polls(site) > before, 10)
    assert site.sandbox.summary()["mostOslRequestsInASecond"] <= 10
    assert len(site.get("/readyz").json()["warnings"]) == 0
    assert site.rows("select max(polls) as most from onboardings")[0]["most"] == 1, "nobody was asked about twice"


def pile_up_overdue_polls(site: Installation, user: User) -> None:
    """So many copies of a user whom OSL Pay does not know, all due an hour ago."""
    names = list(site.rows("select * from onboardings where id = :id", id=user.id)[0])
    made = {
        "id": "'onb_copy' || n",
        "merchant_user_id": "'copy-' || n",
        "link_hash": "'link-' || n",
        "osl_user_id": "null",
        "due_at": "created_at - 3600000 + n",
        "step_at": "created_at - 3600000 + n",
    }
    columns = ", ".join(made.get(name, name) for name in names)
    with connected(site.environ["ORCHESTRATOR_DATABASE_URL"]) as database:
        database.execute(
            f"with recursive numbers (n) as (select 1 union all select n + 1 from numbers where n < {OVERDUE}) "
            f"insert into onboardings ({', '.join(names)}) select {columns} from numbers, onboardings where id = ?",
            (user.id,),
        )
        database.execute(
            "update state_counts set onboardings = onboardings + ? where state = 'awaiting_callback'", (OVERDUE,)
        )


def polls(site: Installation) -> int:
    assert site.sandbox
    found: int = site.sandbox.summary()["operations"].get("osl.status", 0)
    return found


def test_40_users_at_once_never_cost_more_than_ten_requests_in_any_second(install: Install) -> None:
    site = install(settings=PATIENT, sandbox={"rate": 10})
    assert site.sandbox
    with ThreadPoolExecutor(8) as pool:
        users = list(pool.map(lambda _: site.collect("pass"), range(40)))
        began = time.monotonic()
        list(pool.map(site.submit, users))
    for user in users:
        site.wait_for(user, "approved", seconds=60)
    took = time.monotonic() - began
    summary = site.sandbox.summary()
    assert summary["mostOslRequestsInASecond"] <= 10
    assert summary["rateViolations"] == 0
    requests = sum(count for name, count in summary["operations"].items() if name.startswith("osl."))
    assert requests == 4 * len(users), "two files, a share and one question each"
    assert took < requests / 10 * 2.5, "the budget is used"
    assert all(row["count"] == 1 for row in summary["shares"])
    site.check(*users[:3])
    assert not any("429" in str(call["outcome"]) for call in site.sandbox.requests())


def test_idle_processes_hardly_use_the_processor(install: Install) -> None:
    site = install(settings=PATIENT)
    user = site.begin("silent")
    site.wait_for(user, "awaiting_callback")
    site.wait_until_told(user, "submitted")
    assert site.worker
    assert site.web
    used = []
    for _ in range(3):
        with processor_seconds(site.worker.pid) as worker, processor_seconds(site.web.pid) as web:
            time.sleep(1.0)
        used.append((worker[0], web[0]))
    assert statistics.median(worker for worker, _ in used) < 0.15
    assert statistics.median(web for _, web in used) < 0.1


@contextmanager
def processor_seconds(pid: int) -> Iterator[list[float]]:
    """Yields a list that holds the processor's seconds afterwards."""
    before, used = _times(pid), [0.0]
    yield used
    used[0] = _times(pid) - before


def _times(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
