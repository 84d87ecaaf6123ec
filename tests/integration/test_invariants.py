"""Whatever happens, in whatever order, to two processes over one database: what must always hold does hold."""

from __future__ import annotations

import itertools
import json
import random
import sys
import tempfile
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from orchestrator.errors import Conflict, InvalidInput, MalformedCallback, NotFound, OrchestratorError, Unauthenticated
from orchestrator.machine import CLOSED, SETTLED, SUBMITS, State
from orchestrator.onboarding import advance, chain, collect, look, operate, receive, signup
from orchestrator.onboarding.context import Context
from orchestrator.records import Lane, Onboarding, ShareOutcome, Verdict
from orchestrator.signatures import osl_sign
from orchestrator.store import LeaseLost
from tests import figures
from tests.interleaved import (
    DAY,
    HOUR,
    MINUTE,
    ROOM,
    SECOND,
    MerchantEnd,
    Run,
    World,
    steady_sandbox,
)
from tests.sandbox_process import APP_ID, SandboxProcess, rsa_key
from tests.service import Bench

USERS = range(3)
STATUSES = ("PROCESS", "REVIEW", "REJECT", "FINAL_REJECT", "PASS")
LANES = {
    State.UPLOADING: Lane.UPLOAD,
    State.SHARING: Lane.SHARE,
    State.CONFIRMING: Lane.CONFIRM,
    State.AWAITING_CALLBACK: Lane.POLL,
    State.IN_REVIEW: Lane.POLL,
}
NOTICES = {
    State.COLLECTING: "onboarding.resubmission_required",
    State.IN_REVIEW: "onboarding.in_review",
    State.APPROVED: "onboarding.approved",
    State.REJECTED: "onboarding.rejected",
    State.NEEDS_ATTENTION: "onboarding.needs_attention",
    State.CANCELLED: "onboarding.cancelled",
    State.EXPIRED: "onboarding.expired",
}
AT_REST = SETTLED | CLOSED | {State.NEEDS_ATTENTION}
FAULTS: Mapping[str, tuple[dict[str, Any], ...]] = {
    "btse.upload": (
        {"status": 503},
        {"status": 400},
        {"status": 401},
        {"reset": "after"},
        {"status": 500, "act": True},
    ),
    "osl.upload": (
        {"status": 503},
        {"code": "00002"},
        {"reset": "after"},
        {"status": 429, "headers": {"Retry-After": "7"}},
    ),
    "osl.share": (
        {"status": 500, "act": True},
        {"reset": "after"},
        {"reset": "before"},
        {"reset": "midBody"},
        {"body": "what?", "act": True},
        {"status": 504},
        {"status": 503},
        {"status": 429},
        {"code": "00001"},
        {"code": "00002"},
        {"code": "99999"},
    ),
    "osl.status": ({"status": 503}, {"status": 401}, {"code": "00001"}, {"reset": "after"}, {"code": "00002"}),
}
OPERATIONS = tuple((operation, fault) for operation, faults in FAULTS.items() for fault in faults)
JUMPS = (
    *(1, SECOND, 6 * SECOND, 31 * SECOND, 61 * SECOND, 3 * MINUTE, 11 * MINUTE) * 3,
    *(-1, -300, -3 * SECOND, HOUR, HOUR, 5 * HOUR, DAY, 4 * DAY, 31 * DAY),
)
QUIET_WITHIN = 4_000
"""Steps that the end of an example may take at most."""

PROFILE = {
    "firstName": "Ana",
    "lastName": "Lee",
    "idType": "PASSPORT",
    "nationality": "HKG",
    "residentialCountry": "HKG",
    "accountPurpose": "savings",
    "monthSpend": "some",
    "sourceFunds": "salary",
    "occupation": "baker",
    "ip": "203.0.113.7",
    "deviceId": "d-1",
}
EDITS: tuple[dict[str, Any], ...] = (
    {"occupation": "cook"},
    {"occupation": "smith"},
    {"firstName": None},
    {"firstName": "Ana"},
    {"idType": "ID_CARD"},
    {"idType": "PASSPORT"},
    {"idNumber": "changed"},
    {"deviceId": None},
    {"deviceId": "d-2"},
)
CHANGES: tuple[Any, ...] = (
    *EDITS,
    *((kind, version) for kind in ("idFileFront", "idFileBack", "selfie", "amlReport") for version in (0, 1, 2)),
)
VERBS = ("edit", "submit", "submit_whole", "retry", "cancel", "resubmission", "link", "resend")
SENSIBLE = {
    State.COLLECTING: ("submit_whole", "submit_whole", "submit", "edit"),
    State.NEEDS_ATTENTION: ("retry", "retry", "edit", "submit", "submit_whole", "resubmission"),
    State.AWAITING_CALLBACK: ("resubmission", "link", "resend", "cancel"),
}
REFUSED = ("bad signature", "bad timestamp", "bad token", "bad body")
LOSSES: Mapping[str, dict[str, Any]] = {
    "answer lost": {"status": 500, "act": True},
    "share lost": {"reset": "before"},
    "share refused": {"code": "00002"},
}
_AWAITING = ("sign up", "submit", "awaiting_callback")
_REJECTED = (*_AWAITING, "REJECT", "collecting", "PROCESS")
STAGES: Mapping[str, tuple[str, ...]] = {
    "absent": (),
    "collecting": ("sign up",),
    "submitted": ("sign up", "submit"),
    "sharing": ("sign up", "submit", "sharing"),
    "answer lost": ("sign up", "answer lost", "submit", "lost"),
    "answer lost, arrival unseen": ("sign up", "unseen", "answer lost", "submit", "lost"),
    "share lost": ("sign up", "share lost", "submit", "lost"),
    "refused": ("sign up", "share refused", "submit", "needs_attention"),
    "awaiting": _AWAITING,
    "in review": (*_AWAITING, "REVIEW"),
    "confirming": (*_AWAITING, "PASS"),
    "approved": (*_AWAITING, "PASS", "approved"),
    "rejected": (*_AWAITING, "FINAL_REJECT", "rejected"),
    "round 2": _REJECTED,
    "round 2, awaiting": (*_REJECTED, "submit", "awaiting_callback"),
    "round 2, answer lost": (*_REJECTED, "answer lost", "submit", "lost"),
}
"""How far users are when an example begins: what was done, or what they came to."""
_examples = itertools.count(1)
_steps = itertools.count()

users = st.sampled_from(USERS)
processes = st.sampled_from((0, 1))
picks = st.integers(0, 11)
seldom = st.sampled_from((False,) * 7 + (True,))
stops = st.sampled_from((None, None, None, 0, 1, 2, 3))


class _AllRules:
    def is_enabled(self, name: str) -> bool:
        return True


def put_document(context: Context, onboarding_id: str, kind: str, content: bytes, actor: str) -> Onboarding:
    """Find and put, as the API does."""
    return collect.put_document(context, look.find(context, onboarding_id), kind, content, actor)


class Onboardings(RuleBasedStateMachine):
    """Everybody who touches the service, and a model of what they were told."""

    def __init__(self, sandbox: SandboxProcess, end: MerchantEnd, swarm: bool = False) -> None:
        """`swarm`: each example does without some of the rules, which few examples are too few for."""
        super().__init__()
        if not swarm:
            self._rules_strategy.enabled_rules_strategy = st.just(_AllRules())
        self.sandbox, self.end = sandbox, end
        self.example = next(_examples)
        self.world: World
        self.first: dict[str, str] = {}
        self.sent: dict[tuple[str | None, int], tuple[int, bytes, Mapping[str, str]]] = {}
        self.earlier: list[tuple[str | None, Mapping[str, str], bytes]] = []
        self.looked_at: dict[str, tuple[int, int]] = {}
        self.resent = False

    @initialize(
        budget=st.sampled_from((2, 5, 10)),
        stages=st.tuples(*[st.sampled_from(tuple(STAGES))] * len(USERS)),
    )
    def begin(self, budget: int, stages: tuple[str, ...]) -> None:
        """Some users are on their way already."""
        self.folder = tempfile.TemporaryDirectory()
        self.world = World(self.sandbox, self.end, Path(self.folder.name), budget, Bench.server)
        for user, stage in enumerate(stages):
            self._bring(user, stage)

    def _bring(self, user: int, stage: str) -> None:
        for step in STAGES[stage]:
            if step == "sign up":
                self._sign_up(user, 0, None, True, None)
                self._fill(self._newest(user))
            elif step == "submit":
                self._verb(collect.submit, 0, self._newest(user), "merchant")
            elif step == "unseen":
                self.world.pin(self._name(user), None)
            elif step in STATUSES:
                self.webhook(self._index(user), 0, step, True, 0, None)
            elif step in LOSSES:
                self.sandbox.fault("osl.share", self._name(user), 1, **LOSSES[step])
            else:
                self._work_until(self._newest(user), step)

    def _work_until(self, onboarding_id: str, wanted: str) -> None:
        while wanted not in ((row := self.world.onboarding(onboarding_id)).state, row.share):
            self.world.set_clock(SECOND)
            self._claim(0, ROOM, None)

    # Merchants, users, operators --------------------------------------------------------------------------------

    @rule(
        user=users, process=processes, webhook=st.sampled_from((None, "w-1", "w-2")), filled=st.booleans(), stop=stops
    )
    def sign_up(self, user: int, process: int, webhook: str | None, filled: bool, stop: int | None) -> None:
        if webhook is not None:
            user = int(webhook[-1])
        self._sign_up(user, process, webhook, filled, stop)

    @rule(
        which=picks,
        process=processes,
        verb=st.integers(0, 59),
        wild=seldom,
        change=st.sampled_from(CHANGES),
        stop=stops,
    )
    def act(self, which: int, process: int, verb: int, wild: bool, change: Any, stop: int | None) -> None:
        """A merchant or an operator does what makes sense in this state, or anything at all."""
        row = self._pick(which)
        if row is None:
            return
        verbs = VERBS if wild else SENSIBLE.get(row.state, VERBS)
        getattr(self, f"_{verbs[verb % len(verbs)]}")(process, row.id, change, stop)

    def _edit(self, process: int, target: str, change: Any, stop: int | None) -> None:
        if isinstance(change, dict):
            self._verb(collect.edit, process, target, change, "merchant", stop=stop)
        elif change[1]:
            content = f"%PDF-1.7 {change[0]} {change[1]}".encode()
            self._verb(put_document, process, target, change[0], content, "merchant", stop=stop)
        else:
            self._verb(collect.remove_document, process, target, change[0], "merchant", stop=stop)

    def _submit(self, process: int, target: str, change: Any, stop: int | None) -> None:
        self._verb(collect.submit, process, target, "merchant", stop=stop)

    def _submit_whole(self, process: int, target: str, change: Any, stop: int | None) -> None:
        self._fill(target)
        self._submit(process, target, change, stop)

    def _retry(self, process: int, target: str, change: Any, stop: int | None) -> None:
        self._verb(operate.retry, process, target, "operator", stop=stop)

    def _cancel(self, process: int, target: str, change: Any, stop: int | None) -> None:
        self._verb(operate.cancel, process, target, "merchant", stop=stop)

    def _resubmission(self, process: int, target: str, change: Any, stop: int | None) -> None:
        self._verb(operate.ask_for_resubmission, process, target, "blurred", "operator", stop=stop)

    def _link(self, process: int, target: str, change: Any, stop: int | None) -> None:
        self._verb(collect.renew_link, process, target, "operator", stop=stop)

    def _resend(self, process: int, target: str, change: Any, stop: int | None) -> None:
        found = self.world.rows("select id from deliveries where onboarding_id = ? order by seq", target)
        if found:
            self.resent = True
            self._verb(operate.resend_delivery, process, found[0]["id"], stop=stop)

    # OSL Pay ----------------------------------------------------------------------------------------------------

    @rule(which=picks, status=st.sampled_from((*STATUSES, "PASS", None, None, "WHATEVER")))
    def osl_pay_says(self, which: int, status: str | None) -> None:
        row = self._pick(which)
        if row is not None:
            self.world.pin(row.merchant_user_id, status, "it was not legible")

    @rule(
        which=picks,
        process=processes,
        status=st.sampled_from((*STATUSES, "REJECT", "PASS")),
        agrees=st.booleans(),
        back=st.sampled_from((0, 0, 0, 1)),
        stop=stops,
    )
    def webhook(self, which: int, process: int, status: str, agrees: bool, back: int, stop: int | None) -> None:
        """An honest one, at the callbackUrl of this round or of the one before."""
        row = self._pick(which)
        token = self._token(row, back)
        if row is None or token is None:
            return
        if agrees:
            self.world.pin(row.merchant_user_id, status, "it was not legible")
        self._receive(process, token, self._timestamp(token), self._change(row, status), stop)

    @rule(
        which=picks,
        process=processes,
        addressed=st.booleans(),
        back=st.integers(0, 2),
        age=st.sampled_from((0, 0, 0, 1, -2_000, 2 * HOUR, -10 * MINUTE)),
        who=st.sampled_from((*["right", "nameless", "wrong id", "wrong name", "nobody"] * 3, *REFUSED)),
        status=st.sampled_from((*STATUSES, "PASS", "WHATEVER", "another type")),
        stop=stops,
    )
    def odd_webhook(
        self, which: int, process: int, addressed: bool, back: int, age: int, who: str, status: str, stop: int | None
    ) -> None:
        """A signed one that may be early, late, of an earlier round, unaddressed, or about somebody else."""
        row = self._pick(which)
        token = self._token(row, back) if addressed else None
        if row is None or (addressed and token is None):
            return
        if who in REFUSED:
            if token is not None:
                self._refused_webhook(process, row, who, token)
            return
        body = self._change(row, status, who)
        if status == "another type":
            body["type"] = "order_status_change"
        self._receive(process, token, self.world.now - age, body, stop)

    @precondition(lambda self: self.earlier)
    @rule(process=processes, which=st.integers(0, 50), change=st.sampled_from((None, None, *STATUSES)), stop=stops)
    def webhook_again(self, process: int, which: int, change: str | None, stop: int | None) -> None:
        """The same once more, or its headers over another body."""
        token, headers, body = self.earlier[-1 - which % len(self.earlier)]
        if change is not None:
            value = json.loads(body)
            value["data"]["kycStatus"] = change
            body = json.dumps(value).encode()
        self._receive_raw(process, token, headers, body, stop)

    @rule(what=st.sampled_from(OPERATIONS), which=picks, everybody=seldom, times=st.sampled_from((1, 1, 2, 4, 9)))
    def fail(self, what: tuple[str, dict[str, Any]], which: int, everybody: bool, times: int) -> None:
        """A provider answers wrongly for a while."""
        operation, fault = what
        row = self._pick(which)
        match = "*" if everybody or row is None or operation == "osl.upload" else row.merchant_user_id
        self.sandbox.fault(operation, match, times, **fault)

    @rule(merchant_down=st.sampled_from((0, 0, 1, 3, 12)), providers=seldom)
    def mend(self, merchant_down: int, providers: bool) -> None:
        self.end.refusals = merchant_down
        if providers:
            self.sandbox.clear_faults()
            self.world.set_clock(0)

    # Time and workers -------------------------------------------------------------------------------------------

    @rule(step=st.sampled_from(JUMPS))
    def later(self, step: int) -> None:
        self.world.set_clock(step)

    @rule(process=processes, count=st.sampled_from((1, 2, 5)), wait=st.sampled_from((0, MINUTE, HOUR)))
    def work(self, process: int, count: int, wait: int) -> None:
        """A worker does what is due, and waits for what will be due soon."""
        for _ in range(count):
            due = advance.next_due(self._context(process)).first
            if due is not None and self.world.now < due <= self.world.now + wait:
                self.world.set_clock(due - self.world.now)
            if not self._claim(process, ROOM, None):
                return
            self._look_for_broken()

    @rule(process=processes, stop=st.integers(0, 3), lane=st.sampled_from((*Lane, None, None)))
    def begin_to_work(self, process: int, stop: int, lane: Lane | None) -> None:
        """A worker claims and is held up, maybe for ever."""
        self._claim(process, dict.fromkeys(Lane, 1) if lane is None else {lane: 1}, stop)

    @rule(process=processes, count=st.sampled_from((1, 4)), wait=st.sampled_from((0, MINUTE, HOUR)))
    def work_on(self, process: int, count: int, wait: int) -> None:
        self.work(process, count, wait)

    @rule(process=processes, stop=st.sampled_from((None, None, 0, 1)))
    def deliver(self, process: int, stop: int | None) -> None:
        self._claim_deliveries(process, 2, stop)

    @precondition(lambda self: self._runs())
    @rule(which=st.integers(0, 10), stop=st.sampled_from((None, None, 0, 1)))
    def go_on(self, which: int, stop: int | None) -> None:
        run = self.world.runs[which % len(self.world.runs)]
        self.world.go_on(run, stop)
        self._judge(run)

    @precondition(lambda self: self._runs())
    @rule(which=st.integers(0, 10), all_of_them=seldom, process=processes)
    def die(self, which: int, all_of_them: bool, process: int) -> None:
        """One is never heard of again; or all are, and a process starts anew."""
        if not all_of_them:
            self.world.kill(self.world.runs[which % len(self.world.runs)])
            return
        for run in tuple(self.world.runs):
            self.world.kill(run)
        self.world.restart(process)

    # What must always hold ----------------------------------------------------------------------------------------

    @invariant()
    def promises_hold(self) -> None:
        if not hasattr(self, "world"):
            return
        next(_steps)
        self._look_for_broken()
        rows = self.world.onboardings()
        counts = Counter(row.state for row in rows)
        kept = {row["state"]: row["onboardings"] for row in self.world.rows("select * from state_counts")}
        assert {state: number for state, number in kept.items() if number} == counts
        live = Counter(row.merchant_user_id for row in rows if row.state not in CLOSED)
        assert max(live.values(), default=0) <= 1, live
        for row in rows:
            _check_row(row)
            if self.looked_at.get(row.id) != (row.version, row.seq):
                self.looked_at[row.id] = (row.version, row.seq)
                problems = chain.faults(self.world.transitions(row.id), row.state, row.seq, row.hash)
                assert not problems, (row.id, problems)
                self._check_notifications(row)
            self._check_deliveries(row)
        self._check_webhooks()
        self._check_shares()
        assert len(self.world.rows("select * from slots")) == self.world.budget

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        try:
            if sys.exc_info()[0] is None:
                self._come_to_rest()
        finally:
            self.world.close()
            self.folder.cleanup()

    def _come_to_rest(self) -> None:
        """All faults end, OSL Pay passes everybody: nothing may stay stuck."""
        for run in tuple(self.world.runs):
            self.world.kill(run)
        self.mend(0, True)
        for user in USERS:
            self.world.pin(self._name(user), "PASS")
        for turn in range(QUIET_WITHIN):
            process = turn % 2
            context = self._context(process)
            due = advance.next_due(context).first
            worked = False
            if due is not None and due <= self.world.now:
                worked = self._claim_deliveries(process, 8, None) + self._claim(process, ROOM, None) > 0
            if not worked:
                later = self._next_moment(due)
                if later is None:
                    break
                self.world.set_clock(later - self.world.now)
            self._look_for_broken()
        else:
            raise AssertionError(f"it never comes to rest: {self._what_is_due()}")
        self.promises_hold()
        context = self._context(0)
        # Where nothing is due any more nobody waits for the lease of a worker that died: it ends by itself.
        lease_over = self.world.now + context.rules.deadline_ms + context.timings.lease_margin
        for row in self.world.onboardings():
            assert row.state in AT_REST, (row.id, row.state, row.due_at)
            assert row.due_at is None, (row.id, row.state, row.lane, row.due_at)
            assert row.lease_until is None or row.lease_until <= lease_over
        assert not self.world.rows("select * from slots where free_at > ?", lease_over)
        pending = self.world.rows("select * from deliveries where status = 'pending'")
        assert not pending, pending

    def _what_is_due(self) -> list[Any]:
        due = [
            (row.state, row.lane, row.due_at, row.ask_at, row.claim) for row in self.world.onboardings() if row.due_at
        ]
        return [self.world.now, *due, *self.world.rows("select * from providers"), self.world.calls[-1][1]]

    def _next_moment(self, due: int | None) -> int | None:
        """The next time at which something can change by itself."""
        now = self.world.now
        times = [
            row["at"]
            for row in self.world.rows(
                "select lease_until as at from onboardings where due_at is not null union all "
                "select lease_until from deliveries where due_at is not null union all "
                "select free_at from slots union all select next_probe_at from providers"
            )
        ]
        times.append(due)
        return min((time for time in times if time is not None and time > now), default=None)

    def _look_for_broken(self) -> None:
        assert not self.world.broken, self.world.broken

    def _check_webhooks(self) -> None:
        same = self.world.rows(
            "select count(*) as rows from callbacks where verdict <> 'forged' and onboarding_id is not null "
            "group by onboarding_id, token_hash, app_id, timestamp having count(*) > 1"
        )
        assert not same
        forged = self.world.rows(
            "select count(*) as number from callbacks where verdict = 'forged' group by onboarding_id"
        )
        assert all(row["number"] <= receive.FORGED_KEPT for row in forged)
        strays = self.world.rows("select count(*) as number from callbacks where onboarding_id is null")
        assert strays[0]["number"] <= 1_000

    def _check_shares(self) -> None:
        for user, urls in self.world.acted.items():
            assert max(Counter(urls).values(), default=0) <= 2, (user, urls)
            known = {
                url: (row.id, number)
                for row in self.world.onboardings()
                for number, url in enumerate(self.world.tokens(row.id))
            }
            assert {url.rsplit("/", 1)[1] for url in urls} <= set(known), (user, urls)

    def _check_notifications(self, row: Onboarding) -> None:
        told, number, expected = State.COLLECTING, 1, []
        for transition in self.world.transitions(row.id):
            state = transition.to_state
            if state is State.CONFIRMING or (state is told and transition.round == number):
                number = transition.round
                continue
            notice = "onboarding.submitted" if transition.event in SUBMITS else NOTICES.get(state)
            expected += [(notice, state, told, transition.round)] if notice else []
            told, number = state, transition.round
        found = self.world.rows("select type from deliveries where onboarding_id = ? order by seq", row.id)
        assert [delivery["type"] for delivery in found] == [notice for notice, *_ in expected], row.id

    def _check_deliveries(self, row: Onboarding) -> None:
        found = self.world.rows("select * from deliveries where onboarding_id = ? order by seq", row.id)
        assert [delivery["seq"] for delivery in found] == list(range(1, len(found) + 1))
        waiting = [delivery for delivery in found if delivery["status"] == "pending"]
        assert sum(delivery["due_at"] is not None for delivery in waiting) == bool(waiting)
        assert all(delivery["due_at"] is None for delivery in found if delivery["status"] != "pending")
        self._check_told(row, [delivery["id"] for delivery in found])

    def _check_told(self, row: Onboarding, order: list[str]) -> None:
        if self.resent:
            return
        came = [
            order.index(told.delivery_id)
            for told in self.world.told
            if told.onboarding_id == row.id and not told.overdue
        ]
        assert came == sorted(came), came

    def _refused_webhook(self, process: int, row: Onboarding, fault: str, token: str) -> None:
        before = self.world.receipts()
        headers = self._headers(self.world.now)
        body = json.dumps(self._change(row, "PASS")).encode()
        if fault == "bad signature":
            headers["signature"] = self._headers(self.world.now + 1)["signature"]
        elif fault == "bad timestamp":
            headers["timestamp"] = f"{self.world.now}0"
        elif fault == "bad token":
            token = f"{token}x"
        else:
            body = b'{"type": "kyc_status_change"}'
        run = self.world.run("webhook", lambda: receive.receive(self._context(process), token, headers, body))
        assert isinstance(run.error, Unauthenticated | NotFound | MalformedCallback), run.error
        assert self.world.receipts() == before

    # How things are done --------------------------------------------------------------------------------------------

    def _context(self, process: int) -> Any:
        return self.world.context(process)

    def _name(self, user: int) -> str:
        return f"u-{self.example}-{user}"

    def _newest(self, user: int) -> str:
        found = [row.id for row in self.world.onboardings() if row.merchant_user_id == self._name(user)]
        return found[-1] if found else "onb_none"

    def _sign_up(self, user: int, process: int, webhook: str | None, filled: bool, stop: int | None) -> Run:
        context = self._context(process)
        profile = {**PROFILE, "idNumber": f"K{self.example}-{user}"} if filled else {}
        email = f"silent+{self.example}-{user}@example.com"
        data = {"merchantUserId": self._name(user), "email": email, "profile": profile}
        checked = signup.checked_signup(context, data)
        run = self.world.run("signup", lambda: signup.sign_up(context, checked, "merchant", webhook), stop)
        run.webhook = webhook  # type: ignore[attr-defined]
        self._judge(run)
        return run

    def _fill(self, onboarding_id: str) -> None:
        if onboarding_id == "onb_none":
            return
        user = int(self.world.onboarding(onboarding_id).merchant_user_id.rsplit("-", 1)[1])
        self._verb(collect.edit, 0, onboarding_id, {**PROFILE, "idNumber": f"K{self.example}-{user}"}, "merchant")
        for kind in ("idFileFront", "selfie"):
            content = f"%PDF-1.7 {kind} 1".encode()
            self._verb(put_document, 0, onboarding_id, kind, content, "merchant")

    def _verb(self, verb: Callable[..., Any], process: int, *arguments: Any, stop: int | None = None) -> Run:
        context = self._context(process)
        run = self.world.run("verb", lambda: verb(context, *arguments), stop)
        self._judge(run)
        return run

    def _runs(self) -> list[Run]:
        return self.world.runs if hasattr(self, "world") else []

    def _pick(self, which: int) -> Onboarding | None:
        """A live onboarding, seldom any."""
        rows = self.world.onboardings()
        live = [row for row in rows if row.state not in CLOSED]
        chosen = live if live and which < 11 else rows
        return chosen[which % len(chosen)] if chosen else None

    def _index(self, user: int) -> int:
        """How `_pick` finds the onboarding of this user."""
        return [row.merchant_user_id for row in self.world.onboardings()].index(self._name(user))

    def _token(self, row: Onboarding | None, back: int) -> str | None:
        """The secret of a callbackUrl that OSL Pay knows: nobody could call another one."""
        if row is None:
            return None
        known = {url.rsplit("/", 1)[1] for url in self.world.acted[row.merchant_user_id]}
        tokens = [token for token in self.world.tokens(row.id) if token in known]
        return tokens[-1 - back % len(tokens)] if tokens else None

    def _timestamp(self, token: str) -> int:
        """One that was not used before."""
        used = [int(headers["timestamp"]) for other, headers, _ in self.earlier if other == token]
        return max([self.world.now, *(time + 1 for time in used if time >= self.world.now)])

    def _change(self, row: Onboarding, status: str, who: str = "right") -> dict[str, Any]:
        user_id = self.world.user_ids.get(row.merchant_user_id, "unknown")
        if who in ("wrong id", "nobody"):
            user_id = "4711"
        data = {"userId": user_id, "kycStatus": status, "kycShareFailedReason": "blurred"}
        if who in ("right", "wrong id"):
            data["merchantUserId"] = row.merchant_user_id
        elif who in ("wrong name", "nobody"):
            data["merchantUserId"] = "somebody else"
        return {"type": "kyc_status_change", "data": data}

    def _headers(self, timestamp: int) -> dict[str, str]:
        signature = osl_sign(rsa_key("osl"), APP_ID, str(timestamp))
        return {"appId": APP_ID, "timestamp": str(timestamp), "signature": signature}

    def _receive(self, process: int, token: str | None, timestamp: int, body: dict[str, Any], stop: int | None) -> None:
        headers, raw = self._headers(timestamp), json.dumps(body).encode()
        self.earlier.append((token, headers, raw))
        self._receive_raw(process, token, headers, raw, stop)

    def _receive_raw(
        self, process: int, token: str | None, headers: Mapping[str, str], body: bytes, stop: int | None
    ) -> None:
        before = self.world.receipts()
        context = self._context(process)
        run = self.world.run("webhook", lambda: receive.receive(context, token, headers, body), stop)
        if run.done:
            unkept = run.value is Verdict.IGNORED and token is None
            if not unkept and not self._ring_is_full():
                assert self.world.receipts() == before + 1, (run.value, run.error)
        self._judge(run)

    def _ring_is_full(self) -> bool:
        return False

    def _claim(self, process: int, room: Mapping[Lane, int], stop: int | None) -> int:
        context = self._context(process)
        claims = advance.claim(context, room)
        held = {
            run.claim.onboarding.id: run
            for run in self.world.runs
            if run.claim and (run.lease_until or 0) > self.world.now
        }
        for claim in claims:
            assert claim.onboarding.id not in held, "a row was claimed while another worker held it"
            run = self.world.run("step", lambda claim=claim: advance.advance(context, claim), stop, claim)
            self._judge(run)
        return len(claims)

    def _claim_deliveries(self, process: int, limit: int, stop: int | None) -> int:
        context = self._context(process)
        taken = deque(advance.claim_deliveries(context, limit))
        tried = 0
        while taken:
            tried += 1
            delivery = taken.popleft()
            work = partial(advance.deliver, context, delivery, lambda more=tried < limit: more)
            run = self.world.run("delivery", work, stop, delivery=delivery)
            self._judge(run)
            if run.done and run.value is not None:
                taken.append(run.value)
        return tried

    def _judge(self, run: Run) -> None:
        """What may come of a run that ended."""
        if not run.done:
            return
        allowed: dict[str, tuple[type[OrchestratorError], ...]] = {
            "step": (LeaseLost,),
            "verb": (Conflict, InvalidInput, NotFound),
            "webhook": (Unauthenticated,),
        }
        if run.error is not None and not isinstance(run.error, allowed.get(run.kind, ())):
            raise AssertionError(f"a {run.kind} ended in {run.error!r}") from run.error
        if run.kind == "step" and run.error is not None:
            assert (run.lease_until or 0) <= self.world.now, "a lease was lost before it was over"
        if run.kind == "signup":
            webhook = run.webhook  # type: ignore[attr-defined]
            if webhook is not None:
                assert self.first.setdefault(webhook, run.value[0].id) == run.value[0].id


def _check_row(row: Onboarding) -> None:
    """Fields that belong together."""
    where = (row.id, row.state, row.lane, row.due_at, row.step_at, row.ask_at, row.claim, row.resume, row.share)
    assert (row.lane is None) == (row.due_at is None), where
    assert (row.claim is None) == (row.claim_callback is None), where
    if row.state in LANES:
        assert (row.lane, row.due_at) == (LANES[row.state], row.step_at), where
    elif row.state in SETTLED and row.claim is not None:
        assert (row.lane, row.due_at) == (Lane.CONFIRM, row.step_at), where
    elif row.state is State.COLLECTING:
        asked = row.ask_at is not None and row.ask_at < (row.step_at or 0)
        assert (row.lane, row.due_at) == ((Lane.POLL, row.ask_at) if asked else (Lane.LOCAL, row.step_at)), where
    elif row.ask_at is not None:
        assert (row.lane, row.due_at) == (Lane.POLL, row.ask_at), where
    else:
        assert row.lane is None, where
    if row.state in CLOSED:
        assert (row.lane, row.ask_at, row.claim, row.doubted_at) == (None,) * 4, where
    if row.state in (State.AWAITING_CALLBACK, State.IN_REVIEW):
        assert row.ask_at is None or row.lease is not None, where
    may_claim = row.state is State.CONFIRMING or row.state in SETTLED or row.state is State.NEEDS_ATTENTION
    assert row.claim is None or may_claim, where
    assert row.claim is not None or row.state is not State.CONFIRMING, where
    assert (row.doubted_at is not None) == (row.state in SETTLED and row.claim is not None), where
    assert (row.settled_at is not None) == (row.state in SETTLED), where
    assert (row.closed_at is not None) == (row.state in CLOSED), where
    if row.state is State.CONFIRMING:
        waiting = (State.AWAITING_CALLBACK, State.IN_REVIEW, State.NEEDS_ATTENTION)
        assert row.claim_resume in waiting, (*where, row.claim_resume)
    if row.state is State.NEEDS_ATTENTION:
        open_states = (*LANES,)
        assert row.resume in open_states, where
        assert (row.resume is not State.CONFIRMING) or row.claim is not None, where
    if row.state in (State.AWAITING_CALLBACK, State.IN_REVIEW, State.CONFIRMING):
        assert row.share is ShareOutcome.ARRIVED, where
    if row.share is not ShareOutcome.NONE:
        assert row.share_sent_at is not None, where
    assert row.share_losses <= 2, where


@pytest.fixture(scope="session")
def muted_sandbox() -> Iterator[SandboxProcess]:
    with steady_sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def merchant_end() -> Iterator[MerchantEnd]:
    end = MerchantEnd()
    yield end
    end.close()


COMMON = {
    "deadline": None,
    "database": None,
    "suppress_health_check": list(HealthCheck),
    "print_blob": True,
}


def test_what_must_always_hold_does_whatever_happens(muted_sandbox: SandboxProcess, merchant_end: MerchantEnd) -> None:
    def begin() -> Onboardings:
        return Onboardings(muted_sandbox, merchant_end)

    examples = 12 if Bench.server else 25
    run_state_machine_as_test(
        begin, settings=settings(**COMMON, derandomize=True, max_examples=examples, stateful_step_count=40)
    )


@pytest.mark.soak
def test_what_must_always_hold_does_for_a_long_time(muted_sandbox: SandboxProcess, merchant_end: MerchantEnd) -> None:
    number, before = random.SystemRandom().getrandbits(32), next(_steps)
    print(f"seed {number}")

    def begin() -> Onboardings:
        return Onboardings(muted_sandbox, merchant_end, swarm=bool(number % 2))

    examples = 200 if Bench.server else 1_000
    run_state_machine_as_test(
        seed(number)(begin), settings=settings(**COMMON, max_examples=examples, stateful_step_count=60)
    )
    figures.add("generated stories, on two processes", inputs=next(_steps) - before - 1)


# What was found, one by one --------------------------------------------------------------------------------------


@pytest.fixture
def driver(muted_sandbox: SandboxProcess, merchant_end: MerchantEnd) -> Iterator[Callable[..., Onboardings]]:
    """Begins with users brought so far; at the end everything must come to rest."""
    begun: list[Onboardings] = []

    def begin(*stages: str) -> Onboardings:
        begun.append(Onboardings(muted_sandbox, merchant_end))
        begun[0].begin(budget=5, stages=(*stages, *("absent",) * (len(USERS) - len(stages))))
        return begun[0]

    yield begin
    begun[0].promises_hold()
    begun[0].teardown()


def _row(driver: Onboardings) -> Onboarding:
    return driver.world.onboarding(driver._newest(0))


def _work_until(driver: Onboardings, done: Callable[[Onboarding], bool]) -> Onboarding:
    for _ in range(100):
        if done(row := _row(driver)):
            return row
        if not driver._claim_deliveries(0, 8, None) + driver._claim(0, ROOM, None):
            due = driver._next_moment(advance.next_due(driver._context(0)).first)
            driver.world.set_clock((due or driver.world.now + SECOND) - driver.world.now)
    raise AssertionError(f"stays in {row.state}")


def _share_whose_arrival_is_unproven(begin: Callable[..., Onboardings]) -> Onboardings:
    driver = begin("collecting")
    driver.world.pin(driver._name(0), None)
    driver.sandbox.fault("osl.share", driver._name(0), 1, status=500, act=True)
    driver._submit(0, driver._newest(0), None, None)
    _work_until(driver, lambda row: row.share is ShareOutcome.LOST)
    return driver


def test_a_webhook_after_the_last_question_proves_the_share_before_it_is_sent_again(driver: Any) -> None:
    begun = _share_whose_arrival_is_unproven(driver)
    _work_until(begun, lambda row: row.share is ShareOutcome.NONE)
    begun.webhook(which=0, process=1, status="PROCESS", agrees=True, back=0, stop=None)
    assert _work_until(begun, lambda row: row.state is not State.SHARING).state is State.AWAITING_CALLBACK
    assert len(begun.world.acted[begun._name(0)]) == 1


def test_a_webhook_that_overtakes_the_intent_to_share_again_proves_the_share(driver: Any) -> None:
    begun = _share_whose_arrival_is_unproven(driver)
    _work_until(begun, lambda row: row.share is ShareOutcome.NONE)
    begun.begin_to_work(process=0, stop=0, lane=Lane.SHARE)
    begun.webhook(which=0, process=1, status="PROCESS", agrees=True, back=0, stop=None)
    begun.go_on(which=0, stop=None)
    assert _work_until(begun, lambda row: row.state is not State.SHARING).state is State.AWAITING_CALLBACK
    assert len(begun.world.acted[begun._name(0)]) == 1


def test_a_stale_webhook_at_the_callback_url_proves_a_lost_share(driver: Any) -> None:
    begun = _share_whose_arrival_is_unproven(driver)
    begun.odd_webhook(
        which=0, process=1, addressed=True, back=0, age=2 * HOUR, who="right", status="PROCESS", stop=None
    )
    assert _work_until(begun, lambda row: row.state is not State.SHARING).state is State.AWAITING_CALLBACK
    assert len(begun.world.acted[begun._name(0)]) == 1


def test_who_is_cancelled_while_a_dead_worker_holds_them_is_at_rest(driver: Any) -> None:
    begun = driver("collecting")
    begun._submit(0, begun._newest(0), None, None)
    begun.begin_to_work(process=0, stop=0, lane=Lane.UPLOAD)
    begun.die(which=0, all_of_them=False, process=0)
    begun._cancel(0, _row(begun).id, None, None)
    assert _row(begun).state is State.CANCELLED
    assert _row(begun).lease_until > begun.world.now


def _parked_from_confirming(begin: Callable[..., Onboardings]) -> Onboardings:
    driver = begin("awaiting")
    driver.webhook(which=0, process=0, status="PASS", agrees=False, back=0, stop=None)
    driver.sandbox.fault("osl.status", driver._name(0), 1, code="00002")
    assert _work_until(driver, lambda row: row.state is not State.CONFIRMING).resume is State.CONFIRMING
    return driver


def test_a_retry_works_after_a_second_claim_replaced_a_parked_one_and_was_contradicted(driver: Any) -> None:
    begun = _parked_from_confirming(driver)
    begun.world.set_clock(SECOND)
    begun.webhook(which=0, process=0, status="REJECT", agrees=False, back=0, stop=None)
    row = _work_until(begun, lambda row: row.state is not State.CONFIRMING)
    assert (row.state, row.claim, row.resume) == (State.NEEDS_ATTENTION, None, State.AWAITING_CALLBACK)
    begun._retry(0, row.id, None, None)
    assert _row(begun).state is State.AWAITING_CALLBACK


def test_a_question_about_a_parked_claim_that_fails_is_put_again_later(driver: Any) -> None:
    begun = _parked_from_confirming(driver)
    begun.odd_webhook(which=0, process=1, addressed=True, back=0, age=HOUR, who="right", status="PASS", stop=None)
    begun.sandbox.fault("osl.status", begun._name(0), 1, status=503, headers={"Retry-After": "7"})
    begun.work(process=0, count=1, wait=0)
    assert _row(begun).due_at == begun.world.now + 7 * SECOND


def test_twins_of_an_orphan_that_came_at_the_same_moment_do_not_keep_the_share_from_being_stored(driver: Any) -> None:
    begun = driver("collecting")
    begun._submit(0, begun._newest(0), None, None)
    _work_until(begun, lambda row: row.state is State.SHARING)
    run = begun.world.run  # the share is acted upon, its answer not yet read
    begun._claim(0, ROOM, None)
    begun._claim(0, ROOM, None)
    begun.begin_to_work(process=0, stop=2, lane=Lane.SHARE)
    assert begun.world.user_ids, "the share was not sent yet"
    data = {"userId": begun.world.user_ids[begun._name(0)], "kycStatus": "PASS"}
    body = json.dumps({"type": "kyc_status_change", "data": data}).encode()
    headers = begun._headers(begun.world.now)
    for process in (0, 1):
        context = begun._context(process)
        run("webhook", lambda context=context: receive.receive(context, None, headers, body), 0)
    for _ in range(2):
        begun.go_on(which=1, stop=None)
    begun.go_on(which=0, stop=None)
    assert _row(begun).share is ShareOutcome.ARRIVED


def test_a_webhook_id_gives_one_onboarding_though_the_live_one_was_closed_meanwhile(driver: Any) -> None:
    begun = driver("collecting")
    begun.sign_up(user=0, process=0, webhook="w-0", filled=True, stop=0)
    begun._cancel(1, begun._newest(0), None, None)
    begun.sign_up(user=0, process=1, webhook="w-0", filled=True, stop=None)
    begun.go_on(which=0, stop=None)


def test_a_collecting_user_is_not_expired_when_others_prove_that_osl_pay_lets_us_in_again(driver: Any) -> None:
    begun = driver("round 2", "awaiting", "awaiting")
    begun.odd_webhook(which=0, process=0, addressed=True, back=0, age=HOUR, who="right", status="PASS", stop=None)
    begun.sandbox.fault("osl.status", "*", 4, status=401)
    begun.world.set_clock(HOUR + SECOND)
    assert begun._claim(0, {Lane.POLL: 1}, None) == 1, "whoever collects again was due first, and will be"
    begun.world.set_clock(1)
    assert begun._claim(0, ROOM, None) == 2
    begun.world.set_clock(MINUTE)
    begun.begin_to_work(process=0, stop=1, lane=Lane.POLL)
    assert begun.world.runs[0].claim.onboarding.id == _row(begun).id  # type: ignore[union-attr]
    begun.world.set_clock(5 * SECOND)
    begun.go_on(which=0, stop=None)
    begun.world.set_clock(55 * SECOND)
    for _ in range(4):
        begun._claim(0, ROOM, None)
        begun.world.set_clock(SECOND)
    assert _row(begun).state is State.COLLECTING
