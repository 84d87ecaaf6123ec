"""`kill -9` at every point of a story: what was acknowledged survives, and each round is shared exactly once."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import Install
from tests.installation import SHORT, Installation, User, rebuilt
from tests.waiting import until

pytestmark = pytest.mark.long

# OSL Pay is asked about a lost share 0.4 s, 2.4 s and 5 s after the loss is found: scaled down from the product's 5 s,
# 30 s and 2 min, as are the lags of the status query from 20 s.
TIMINGS = {**SHORT, "lost_questions": [400, 2_400, 5_000]}
SETTINGS = {"CALLBACK_PATIENCE_SECONDS": "2", "RETRY_HORIZON_HOURS": "0.02"}
QUICK_LEASES = SETTINGS | {"ORCHESTRATOR_PROVIDER_DEADLINE_SECONDS": "2"}
LAG = 1.2
"""Longer than until the first question, shorter than until the second."""

# Where all calls hang at the same time, until the worker is killed in all of them.
DEADLINE, HANG = 12.0, 10.0
LEASE = DEADLINE + SHORT["lease_margin"] / 1000
NEVER = {"hangBefore": HANG, "act": False, "status": 503}
NOT_YET = {"hangBefore": HANG}
UNANSWERED = {"hangAfter": HANG}


@dataclass(frozen=True)
class Point:
    """Where the worker is killed: in which call of which story, and how that call hangs. `lag`: seconds for which
    the status query does not know of the share once it is asked. `tried`: how many calls of that kind there must be.
    """

    operation: str
    story: str
    fault: Mapping[str, Any]
    lag: float = 0.0
    round: int = 1
    tried: int | None = None
    told: tuple[str, ...] = ("submitted", "approved")
    profile: Mapping[str, str] = field(default_factory=dict)


AGAIN = ("submitted", "resubmission_required", "submitted", "approved")
POINTS = {
    "BTSE Pay has not got the files": Point("btse.upload", "pass", NEVER, tried=2),
    "BTSE Pay has the files and has not answered": Point("btse.upload", "pass", UNANSWERED, tried=2),
    "OSL Pay has the second of three files and has not answered": Point(
        "osl.upload", "pass", UNANSWERED, tried=4, profile={"idType": "ID_CARD"}
    ),
    "a share never gets there": Point("osl.share", "silent", NEVER, tried=2),
    "a share gets there only later": Point("osl.share", "silent", NOT_YET, tried=1),
    "a share is there and not answered": Point("osl.share", "silent", UNANSWERED, tried=1),
    "a share is there and its webhooks follow": Point("osl.share", "pass", UNANSWERED, tried=1),
    "a share is there and its webhook came before": Point("osl.share", "early", UNANSWERED, tried=1),
    "a share is there and the status query lags": Point("osl.share", "silent", UNANSWERED, LAG, tried=1),
    "a share is there, told by webhook, and the status query lags": Point(
        "osl.share", "pass", UNANSWERED, LAG, tried=1
    ),
    "a second round's share is there and not answered": Point(
        "osl.share", "reject", UNANSWERED, round=2, tried=2, told=AGAIN
    ),
    "a second round's share is there and the status query lags": Point(
        "osl.share", "reject", UNANSWERED, LAG, round=2, tried=2, told=AGAIN
    ),
    "a second round's share never gets there": Point("osl.share", "reject", NEVER, round=2, tried=3, told=AGAIN),
    "a claim is being confirmed": Point(
        "osl.status", "review", NOT_YET, tried=2, told=("submitted", "in_review", "approved")
    ),
    "a poll is answered and the answer not read": Point("osl.status", "silent", UNANSWERED, tried=2),
}


def play(folder: Path) -> dict[str, Any]:
    """One kill in the midst of all these calls at once; what became of each user."""
    settings = SETTINGS | {"ORCHESTRATOR_PROVIDER_DEADLINE_SECONDS": str(DEADLINE)}
    with Installation(folder, timings=TIMINGS, settings=settings, worker_threads=40) as site:
        site.start()
        users = {name: site.collect(point.story, **point.profile) for name, point in POINTS.items()}
        assert site.sandbox
        later = [users[name] for name, point in POINTS.items() if point.round == 2]
        for user in later:
            site.submit(user)
        for user in later:
            site.wait_for(user, "collecting", number=2)
        for name, point in sorted(POINTS.items(), key=lambda item: item[1].operation != "osl.upload"):
            if point.lag:
                site.sandbox.status_lag(LEASE + point.lag, users[name].name)
            if point.operation == "osl.upload":
                # This call names nobody: it goes first, while nobody else uploads.
                site.sandbox.fault(point.operation, skip=1, **point.fault)
                site.submit(users[name])
                until(lambda name=name, point=point: _is_hanging(site, users[name], point))
            else:
                site.sandbox.fault(point.operation, users[name].name, **point.fault)
                site.submit(users[name])
        for name, point in POINTS.items():
            until(lambda name=name, point=point: _is_hanging(site, users[name], point))
        site.kill_worker()
        site.start_worker()
        with suppress(AssertionError):
            until(lambda: all(_is_over(site, users[name], point) for name, point in POINTS.items()), 75)
        audit = site.command("audit", "verify", expect=None)
        seen = {name: _seen(site, users[name], point) for name, point in POINTS.items()}
        return {"points": seen, "audit": audit.stdout, "faults": site.merchant.faults}


def _is_hanging(site: Installation, user: User, point: Point) -> bool:
    calls = site.uploads(user) if point.operation == "osl.upload" else site.calls(user, point.operation)
    assert any(call["fault"] for call in calls), f"{user.name} is not in the midst of {point}"
    return True


def _is_over(site: Installation, user: User, point: Point) -> bool:
    told = len(site.merchant.told(user.name)) == len(point.told)
    return told and site.onboarding(user)["state"] == "approved"


def _seen(site: Installation, user: User, point: Point) -> dict[str, Any]:
    calls = site.uploads(user) if point.operation == "osl.upload" else site.calls(user, point.operation)
    return {
        "row": site.onboarding(user),
        "transitions": site.items(user, "transitions"),
        "tried": len(calls),
        "hung": any(call["fault"] for call in calls),
        "shares": site.shares(user),
        "told": [notice.type.removeprefix("onboarding.") for notice in site.merchant.told(user.name)],
    }


@pytest.fixture(scope="module")
def killed(once: Callable[[str, Callable[[], Any]], Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    played: dict[str, Any] = once("kills", lambda: play(tmp_path_factory.mktemp("kills")))
    return played


@pytest.mark.parametrize("name", POINTS)
def test_a_worker_killed_while_a_call_is_under_way_leaves_one_share_a_round(killed: dict[str, Any], name: str) -> None:
    point, seen = POINTS[name], killed["points"][name]
    row, transitions = seen["row"], seen["transitions"]
    assert seen["hung"]
    assert (row["state"], row["round"], row["lastError"]) == ("approved", point.round, None)
    assert rebuilt(transitions) == ("approved", point.round)
    assert seen["shares"] == [1] * point.round
    assert tuple(seen["told"]) == point.told
    assert seen["tried"] >= (point.tried or 0)
    if point.operation != "osl.status":
        assert seen["tried"] == point.tried
    events = [row["event"] for row in transitions]
    if point.operation == "osl.share" and point.fault is NEVER:
        assert (events.count("share_lost"), events.count("share_unproven"), events.count("share_found")) == (1, 1, 0)
    elif point.operation == "osl.share":
        assert (events.count("share_unproven"), events.count("share_found")) == (0, 1)


def test_no_chain_breaks_and_every_notification_is_signed_when_a_worker_is_killed(killed: dict[str, Any]) -> None:
    assert (killed["audit"], killed["faults"]) == ("every chain is whole\n", [])


def test_a_share_whose_answer_is_reset_is_found_by_a_status_query_that_lags(install: Install) -> None:
    site = install(timings=TIMINGS, settings=SETTINGS)
    assert site.sandbox
    user = site.collect("silent")
    site.sandbox.status_lag(LAG, user.name)
    site.sandbox.fault("osl.share", user.name, reset="after")
    site.submit(user)
    check_approved(site, user)
    events = [row["event"] for row in site.items(user, "transitions")]
    assert (events.count("share_lost"), events.count("share_found")) == (1, 1)
    assert len(site.calls(user, "osl.status")) >= 3


def check_approved(site: Installation, user: User, *told: str) -> None:
    site.wait_for(user, "approved")
    site.wait_until_told(user, *(told or ("submitted", "approved")))
    assert site.shares(user) == [1]
    site.check(user)


def test_a_worker_killed_while_it_tells_the_merchant_tells_it_again_under_the_same_id(install: Install) -> None:
    site = install(timings=TIMINGS, settings=QUICK_LEASES)
    told, go_on = threading.Event(), threading.Event()

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

    def arrived() -> list[str]:
        ids = [notice.id for notice in site.merchant.arrived(user.name)]
        assert len(ids) == 3, f"{len(ids)} arrived"
        return ids

    assert len(set(until(arrived))) == len(site.items(user, "deliveries")) == 2


def test_a_merchant_that_refuses_for_long_is_told_everything_in_order_in_the_end(install: Install) -> None:
    site = install(timings=TIMINGS, settings=QUICK_LEASES)
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


@pytest.mark.sqlite
@pytest.mark.parametrize("step", ["verified and not stored", "stored and not answered"])
def test_a_webhook_is_not_lost_when_gunicorn_is_killed_while_it_takes_it(install: Install, step: str) -> None:
    # OSL Pay's webhooks come a second apart, and again two seconds after a failure.
    settings = QUICK_LEASES | {"CALLBACK_PATIENCE_SECONDS": "60"}
    site = install(timings=TIMINGS, settings=settings, sandbox={"pace": 2.0})
    user = site.begin("review")
    site.wait_for(user, "in_review")
    with site.database_held():
        until(lambda: _waits_for_the_database(site), every=0.02)
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
        assert len(sent) > 1
        assert site.verdicts(user) == [("applied", 1), ("applied", 1)]
    else:
        assert site.verdicts(user) == [("applied", 1), ("applied", 1 if len(sent) == 1 else 2)]


def _waits_for_the_database(site: Installation) -> bool:
    """Whether a web process stands in line to write."""
    waiting = [line.split() for line in Path("/proc/locks").read_text().splitlines() if "->" in line]
    return any(int(words[words.index("WRITE") + 1]) in _children(site) for words in waiting if "WRITE" in words)


def test_users_get_through_while_everything_is_killed_again_and_again(install: Install) -> None:
    site = install(timings=TIMINGS, settings=QUICK_LEASES, sandbox={"pace": 1.0})
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
