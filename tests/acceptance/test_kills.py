"""`kill -9` at every point of a story: what was acknowledged survives, and each round is shared exactly once."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import Install
from tests.installation import SHORT, Installation, User
from tests.waiting import until

# A lease lasts 2.5 s. OSL Pay is asked about a lost share 0.4 s, 2.4 s and 5 s after the loss is found: scaled down
# from the product's 5 s, 30 s and 2 min, as are the lags of the status query from 20 s.
TIMINGS = {**SHORT, "lease_margin": 500, "lost_questions": [400, 2_400, 5_000]}
SETTINGS = {
    "ORCHESTRATOR_PROVIDER_DEADLINE_SECONDS": "2",
    "CALLBACK_PATIENCE_SECONDS": "2",
    "RETRY_HORIZON_HOURS": "0.02",
}
LEASE = 2.5
LAG = 1.2
"""Longer than until the first question, shorter than until the second."""


@pytest.fixture(scope="module")
def running(installed: Install) -> Installation:
    return installed(timings=TIMINGS, settings=SETTINGS)


@pytest.fixture
def site(running: Installation) -> Iterator[Installation]:
    """The module's installation, whole again."""
    assert running.web
    assert running.worker
    assert running.sandbox
    if running.web.poll() is not None:
        running.start_web()
    if running.worker.poll() is not None:
        running.start_worker()
    yield running
    running.sandbox.clear_faults()
    running.merchant.answer = lambda kind, data: 204


def met_fault(site: Installation, operation: str, user: User | None) -> bool:
    """Whether a call of this user is in the middle of an injected fault, or was."""
    assert site.sandbox
    calls = site.sandbox.requests(operation, user.name if user else None)
    return any(call["fault"] for call in calls if user is not None or call["outcome"]["status"] is None)


def kill_worker_in(site: Installation, operation: str, user: User | None) -> None:
    """Kill it while that call hangs, and start another at once."""
    until(lambda: met_fault(site, operation, user), every=0.02)
    site.kill_worker()
    site.start_worker()


def check_approved(site: Installation, user: User, *told: str, shares: int = 1) -> None:
    site.wait_for(user, "approved", number=shares)
    site.wait_until_told(user, *(told or ("submitted", "approved")))
    assert site.shares(user) == [1] * shares
    site.check(user)


def events(site: Installation, user: User) -> list[str]:
    return [row["event"] for row in site.items(user, "transitions")]


POINTS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "while BTSE Pay has not got the files": ("btse.upload", "pass", {"hangBefore": 1.5, "act": False, "status": 503}),
    "while BTSE Pay has the files and has not answered": ("btse.upload", "pass", {"hangAfter": 1.5}),
    "while a share never gets there": ("osl.share", "silent", {"hangBefore": 1.5, "act": False, "status": 503}),
    "while a share gets there only later": ("osl.share", "silent", {"hangBefore": 1.5}),
    "while a share is there and not answered": ("osl.share", "silent", {"hangAfter": 1.5}),
    "while a share is there and its webhooks follow": ("osl.share", "pass", {"hangAfter": 1.5}),
    "while a share's webhook came before its answer": ("osl.share", "early", {"hangAfter": 1.5}),
    "while a claim is being confirmed": ("osl.status", "review", {"hangBefore": 1.5}),
    "while a poll is answered": ("osl.status", "silent", {"hangAfter": 1.5}),
}


@pytest.mark.parametrize("point", POINTS)
def test_a_worker_killed_at_any_point_of_a_call_leaves_one_share(site: Installation, point: str) -> None:
    operation, story, fault = POINTS[point]
    assert site.sandbox
    user = site.collect(story)
    site.sandbox.fault(operation, user.name, **fault)
    site.submit(user)
    kill_worker_in(site, operation, user)
    told = ("submitted", "in_review", "approved") if story == "review" else ()
    check_approved(site, user, *told)
    if operation == "btse.upload":
        assert len(site.calls(user, "btse.upload")) == 2


def test_a_worker_killed_between_two_files_uploads_at_most_one_again(site: Installation) -> None:
    assert site.sandbox
    user = site.collect("pass", idType="ID_CARD")
    site.sandbox.fault("osl.upload", skip=1, hangAfter=1.5)
    site.submit(user)
    kill_worker_in(site, "osl.upload", None)
    check_approved(site, user)
    assert len(site.uploads(user)) == 4


@pytest.mark.parametrize("story", ["silent", "pass"])
def test_a_status_query_that_lags_does_not_lead_to_a_second_share(site: Installation, story: str) -> None:
    assert site.sandbox
    user = site.collect(story)
    site.sandbox.status_lag(LEASE + LAG, user.name)
    site.sandbox.fault("osl.share", user.name, hangAfter=1.5)
    site.submit(user)
    kill_worker_in(site, "osl.share", user)
    check_approved(site, user)
    assert events(site, user).count("share_lost") == events(site, user).count("share_found") == 1


def test_a_share_whose_answer_is_reset_is_found_by_a_status_query_that_lags(site: Installation) -> None:
    assert site.sandbox
    user = site.collect("silent")
    site.sandbox.status_lag(LAG, user.name)
    site.sandbox.fault("osl.share", user.name, reset="after")
    site.submit(user)
    check_approved(site, user)
    assert events(site, user).count("share_found") == 1
    assert len(site.calls(user, "osl.status")) >= 3


@pytest.mark.parametrize("fault", [{"hangAfter": 1.5}, {"hangBefore": 1.5, "act": False, "status": 503}])
def test_a_worker_killed_while_it_shares_the_second_round_leaves_one_share_of_it(
    site: Installation, fault: dict[str, Any]
) -> None:
    assert site.sandbox
    user = site.begin("reject")
    site.wait_for(user, "collecting", number=2)
    site.sandbox.status_lag(LEASE + LAG, user.name)
    site.sandbox.fault("osl.share", user.name, **fault)
    site.submit(user)
    kill_worker_in(site, "osl.share", user)
    told = ("submitted", "resubmission_required", "submitted", "approved")
    check_approved(site, user, *told, shares=2)
    assert events(site, user).count("share_lost") == 1


def test_a_worker_killed_after_the_share_while_it_waits_goes_on(site: Installation) -> None:
    user = site.begin("silent")
    site.wait_for(user, "awaiting_callback")
    site.kill_worker()
    site.start_worker()
    check_approved(site, user)


def test_a_worker_killed_while_it_tells_the_merchant_tells_it_again_under_the_same_id(site: Installation) -> None:
    told = threading.Event()
    go_on = threading.Event()

    def answer(kind: str, data: dict[str, Any]) -> int:
        if kind == "onboarding.submitted" and not told.is_set():
            told.set()
            go_on.wait(30)
        return 204

    site.merchant.answer = answer
    user = site.begin("pass")
    assert told.wait(20)
    site.kill_worker()
    site.start_worker()
    check_approved(site, user)
    go_on.set()
    ids = [notice.id for notice in until(lambda: _thrice(site, user))]
    assert len(set(ids)) == 2
    assert len(site.items(user, "deliveries")) == 2


def _thrice(site: Installation, user: User) -> list[Any]:
    """The first notification arrived twice, the second once."""
    arrived = site.merchant.arrived(user.name)
    assert len(arrived) == 3, f"{len(arrived)} arrived"
    return arrived


def test_a_merchant_that_refuses_for_long_is_told_everything_in_order_in_the_end(site: Installation) -> None:
    refused = []

    def answer(kind: str, data: dict[str, Any]) -> int:
        refused.append(kind)
        return 500

    site.merchant.answer = answer
    user = site.begin("review")
    site.wait_for(user, "approved")
    until(lambda: len(refused) > 2)
    site.kill_worker()
    assert set(refused) == {"onboarding.submitted"}
    site.merchant.answer = lambda kind, data: 204
    site.start_worker()
    check_approved(site, user, "submitted", "in_review", "approved")


@pytest.mark.parametrize("step", ["verified and not stored", "stored and not answered"])
def test_a_webhook_is_not_lost_when_gunicorn_is_killed_while_it_takes_it(install: Install, step: str) -> None:
    # OSL Pay's webhooks come a second apart, and again two seconds after a failure.
    site = install(timings=TIMINGS, settings=SETTINGS | {"CALLBACK_PATIENCE_SECONDS": "60"}, sandbox={"pace": 2.0})
    assert site.sandbox
    user = site.begin("review")
    site.wait_for(user, "in_review")
    with site.database_held():
        # The webhook is on its way into the store, and cannot get there.
        time.sleep(1.6)
        if step == "verified and not stored":
            site.kill_web()
    if step == "stored and not answered":
        until(lambda: len(site.rows("select id from callbacks")) == 2, every=0.001)
        site.kill_web()
    assert len(site.rows("select id from callbacks")) == (1 if step == "verified and not stored" else 2)
    site.start_web()
    check_approved(site, user, "submitted", "in_review", "approved")

    def taken() -> list[dict[str, Any]]:
        assert site.sandbox
        sent = [row for row in site.sandbox.webhooks(user.name) if row["kycStatus"] == "PASS"]
        assert sent, "it was not sent yet"
        assert sent[-1]["status"] == 200, "it was not sent again yet"
        return sent

    sent = until(taken)
    if step == "verified and not stored":
        assert [row["status"] for row in sent] == [None, 200]
    assert site.verdicts(user) == [("applied", 1), ("applied", len(sent) if step == "stored and not answered" else 1)]


def test_users_get_through_while_everything_is_killed_again_and_again(install: Install) -> None:
    site = install(timings=TIMINGS, settings=SETTINGS, sandbox={"pace": 1.0})
    stories = ["pass", "review", "duplicate", "early", "pass", "review", "pass", "silent"]
    users = [site.collect(story) for story in stories]
    for user in users:
        site.submit(user)
    for number in range(6):
        time.sleep(0.35)
        for pid in _children(site)[: 1 + number % 2]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if number % 2:
            site.kill_worker()
            site.start_worker()
        if number == 3:
            site.kill_web()
            site.start_web(wait=False)
    site.wait_for_web()
    for user in users:
        site.wait_for(user, "approved", seconds=60)
        assert site.shares(user) == [1]
    site.check(*users)


def _children(site: Installation) -> list[int]:
    """gunicorn's web processes."""
    assert site.web
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, IndexError):
            fields = path.read_text().rsplit(")", 1)[1].split()
            if int(fields[1]) == site.web.pid:
                found.append(int(path.parent.name))
    return found
