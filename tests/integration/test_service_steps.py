"""The worker's steps one by one, with a clock that is moved by hand and the sandbox over real HTTP."""

from __future__ import annotations

import dataclasses
import itertools
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest
from structlog.testing import capture_logs

from orchestrator.errors import Conflict, ProviderError, Unauthenticated
from orchestrator.machine import Event, State
from orchestrator.onboarding import collect, look, operate, receive, signup
from orchestrator.onboarding.apply import Step, apply
from orchestrator.onboarding.work import SLOT_SLACK
from orchestrator.providers.answers import Answer
from orchestrator.providers.osl_pay import KycStatus
from orchestrator.records import DeliveryStatus, Onboarding, ShareOutcome, Verdict
from orchestrator.store import LeaseLost
from tests.databases import dump
from tests.sandbox_process import SandboxProcess
from tests.service import DAY, HOUR, MINUTE, NOTIFY_SECRET, SECOND, Bench, pdf, signed, status_change

QUESTIONS = [5 * SECOND, 30 * SECOND, 2 * MINUTE]
CONTRADICTIONS = [5 * SECOND, 30 * SECOND, 2 * MINUTE, 10 * MINUTE]
LEASE = 40 * SECOND
"""The deadline of the bench's provider calls, and 30 s."""


class Killed(BaseException):
    """The process that did a step is no more."""


def fault(bench: Bench, row: Onboarding, operation: str, times: int | None = 1, **how: Any) -> None:
    assert bench.sandbox
    bench.sandbox.fault(operation, match=row.merchant_user_id, times=times, **how)


def says(bench: Bench, row: Onboarding, status: str | None, reason: str = "") -> None:
    """From now on the status query says this; None: the user is not known."""
    assert bench.sandbox
    bench.sandbox.pin_status(row.merchant_user_id, status, reason)


def count(bench: Bench, row: Onboarding, operation: str) -> int:
    return len(bench.requests(row, operation))


def shares(bench: Bench, row: Onboarding) -> list[bool]:
    """For every share that reached OSL Pay, whether it was acted upon."""
    return [request["acted"] for request in bench.requests(row, "osl.share")]


def questions(bench: Bench, row: Onboarding) -> int:
    return count(bench, row, "osl.status")


def next_round(bench: Bench, row: Onboarding) -> Onboarding:
    """The user hands in once more and all but the share is done."""
    row = collect.put_document(
        bench.context, look.find(bench.context, row.id), "selfie", pdf(f"again {bench.clock()}"), "test"
    )
    collect.submit(bench.context, row.id, "test")
    return bench.all_but_the_share(row)


def rejected_once(bench: Bench) -> Onboarding:
    """Round 1 ended with a REJECT that the status query confirmed; in round 2 only the share is missing."""
    row = bench.shared()
    says(bench, row, "REJECT", "the photo is blurred")
    assert bench.receive(row, "REJECT") is Verdict.APPLIED
    row = bench.run_to(row, State.COLLECTING)
    assert (row.round, row.prior_reject) == (2, True)
    return next_round(bench, row)


def asked_once_more(bench: Bench) -> Onboarding:
    """Round 1 ended because an operator asked for more; in round 2 only the share is missing."""
    row = bench.shared()
    operate.ask_for_resubmission(bench.context, row.id, "one more page, please", "test")
    assert bench.row(row).prior_reject is False
    return next_round(bench, row)


def approved(bench: Bench) -> Onboarding:
    row = bench.shared()
    says(bench, row, "PASS")
    bench.receive(row, "PASS")
    return bench.run_to(row, State.APPROVED)


# A share whose answer is lost ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "loss",
    [
        {"reset": "after"},
        {"reset": "midBody"},
        {"status": 500, "act": True},
        {"status": 502, "act": True},
        {"status": 504, "act": True},
        {"body": "<html>what?", "contentType": "text/html", "act": True},
        {"body": '{"data": {}}', "act": True},
    ],
    ids=str,
)
def test_a_share_that_arrived_though_its_answer_was_lost_is_found_and_not_repeated(
    played: Bench, loss: dict[str, Any]
) -> None:
    row = played.to_share()
    fault(played, row, "osl.share", **loss)
    played.step()
    assert played.row(row).share is ShareOutcome.LOST
    assert played.run(QUESTIONS[0] - 1) == [], "nothing is asked before five seconds"
    played.run(1)
    after = played.row(row)
    assert (after.state, after.share) == (State.AWAITING_CALLBACK, ShareOutcome.ARRIVED)
    assert after.osl_user_id is not None, "the status query names it"
    assert (shares(played, row), questions(played, row)) == ([True], 1)
    assert played.events(row)[-3:] == [Event.SHARE_INTENDED, Event.SHARE_LOST, Event.SHARE_FOUND]


def test_a_share_that_timed_out_is_lost(tmp_path: Any, sandbox: SandboxProcess) -> None:
    bench = Bench(tmp_path, sandbox, ORCHESTRATOR_PROVIDER_DEADLINE_SECONDS="0.5")
    row = bench.to_share()
    fault(bench, row, "osl.share", hangAfter=0.8)
    bench.step()
    assert bench.row(row).share is ShareOutcome.LOST
    bench.run_to(row, State.AWAITING_CALLBACK)
    assert shares(bench, row) == [True]
    bench.close()


def test_a_user_whom_osl_pay_does_not_know_is_shared_again_after_three_questions(played: Bench) -> None:
    row = played.to_share()
    fault(played, row, "osl.share", reset="before")
    played.step()
    lost_at = played.clock()
    asked = played.run(QUESTIONS[-1] - 1)
    assert [at - lost_at for at in asked] == QUESTIONS[:2]
    assert shares(played, row) == [False]
    played.run(1)
    assert (questions(played, row), shares(played, row)) == (3, [False, True])
    assert played.state(row) is State.AWAITING_CALLBACK
    urls = {request["fields"]["callbackUrl"] for request in played.requests(row, "osl.share")}
    assert len(urls) == 1, "all attempts of a round send the same callbackUrl"


def test_a_status_query_that_lags_behind_costs_no_second_share(played: Bench) -> None:
    row = played.to_share()
    fault(played, row, "osl.share", reset="after")
    played.step()
    says(played, row, None)
    played.run(QUESTIONS[0])
    says(played, row, "PROCESS")
    played.run(QUESTIONS[1] - QUESTIONS[0])
    assert played.state(row) is State.AWAITING_CALLBACK
    assert (questions(played, row), shares(played, row)) == (2, [True])


def test_a_question_without_an_answer_is_put_again_and_does_not_count(tmp_path: Any, sandbox: SandboxProcess) -> None:
    bench = Bench(tmp_path, sandbox, RETRY_HORIZON_HOURS="0.001")
    row = bench.to_share()
    fault(bench, row, "osl.share", reset="before")
    bench.step()
    fault(bench, row, "osl.status", times=8, status=503)
    bench.run(30 * MINUTE)
    after = bench.row(row)
    assert after.state is State.AWAITING_CALLBACK, "the horizon does not run for questions"
    assert (questions(bench, row), shares(bench, row)) == (8 + 3, [False, True])
    bench.close()


def test_the_second_loss_without_proof_parks_and_no_retry_shares_a_third_time(played: Bench) -> None:
    row = played.to_share()
    fault(played, row, "osl.share", times=None, reset="before")
    played.run(2 * QUESTIONS[-1])
    assert played.state(row) is State.NEEDS_ATTENTION
    assert (shares(played, row), questions(played, row)) == ([False, False], 6)
    for number in range(1, 4):
        operate.retry(played.context, row.id, "test")
        played.run(HOUR)
        assert played.state(row) is State.NEEDS_ATTENTION
        assert len(shares(played, row)) == 2, "never more than two"
        assert questions(played, row) == 6 + 3 * number
    collect.put_document(played.context, look.find(played.context, row.id), "selfie", pdf("another"), "test")
    operate.retry(played.context, row.id, "test")
    played.run(HOUR)
    collect.submit(played.context, row.id, "test")
    played.run(HOUR)
    assert (played.state(row), len(shares(played, row))) == (State.NEEDS_ATTENTION, 2)


def test_after_a_second_loss_a_retry_finds_the_share_once_osl_pay_knows_the_user(played: Bench) -> None:
    row = played.to_share()
    fault(played, row, "osl.share", times=2, reset="before")
    played.run(2 * QUESTIONS[-1])
    says(played, row, "PROCESS")
    operate.retry(played.context, row.id, "test")
    played.run(MINUTE)
    assert (played.state(row), len(shares(played, row))) == (State.AWAITING_CALLBACK, 2)


def test_after_a_second_loss_a_webhook_is_believed_and_a_new_round_may_share(played: Bench) -> None:
    row = played.to_share()
    fault(played, row, "osl.share", times=2, reset="before")
    played.run(2 * QUESTIONS[-1])
    says(played, row, "PASS")
    assert played.receive(row, "PASS") is Verdict.APPLIED
    assert played.run_to(row, State.APPROVED).share is ShareOutcome.ARRIVED


@pytest.mark.parametrize("status", ["PROCESS", "PASS"])
def test_an_early_webhook_proves_that_a_lost_share_arrived(played: Bench, status: str) -> None:
    row = played.to_share()
    fault(played, row, "osl.share", reset="before")
    played.step()
    played.clock.advance(SECOND)
    assert played.receive(row, status) is Verdict.EARLY
    played.step()
    after = played.row(row)
    assert after.share is ShareOutcome.ARRIVED
    assert after.state is (State.AWAITING_CALLBACK if status == "PROCESS" else State.CONFIRMING)
    assert (played.verdicts(row), questions(played, row)) == ([Verdict.APPLIED], 0)
    played.run(HOUR - MINUTE)
    assert shares(played, row) == [False]


def test_a_forged_webhook_is_no_proof_that_a_lost_share_arrived(played: Bench) -> None:
    row = played.to_share()
    fault(played, row, "osl.share", reset="before")
    played.step()
    sent = signed(played.clock(), status_change("9001", "somebody-else", "PROCESS"))
    with pytest.raises(Unauthenticated):
        receive.receive(played.context, played.callback_secret(row), sent.headers, sent.body)
    assert played.verdicts(row) == [Verdict.FORGED]
    played.run(QUESTIONS[-1])
    assert shares(played, row) == [False, True]


def test_a_worker_that_dies_after_sending_costs_no_second_share(played: Bench) -> None:
    row = played.to_share()

    def share_and_die(real: Any, **how: Any) -> None:
        real.share(**how)
        raise Killed

    with pytest.raises(Killed):
        played.advance(played.claim(), played.with_osl(share=share_and_die))
    assert played.row(row).share is ShareOutcome.INTENDED
    assert played.run(LEASE - 1) == [], "nobody touches it while the lease lasts"
    played.run_to(row, State.AWAITING_CALLBACK)
    assert shares(played, row) == [True]
    assert Event.SHARE_LOST in played.events(row)


def test_a_worker_that_dies_before_sending_shares_with_the_same_url(played: Bench) -> None:
    row = played.to_share()

    def die(real: Any, **how: Any) -> None:
        raise Killed

    with pytest.raises(Killed):
        played.advance(played.claim(), played.with_osl(share=die))
    secret = played.callback_secret(row)
    played.run_to(row, State.AWAITING_CALLBACK)
    assert shares(played, row) == [True]
    assert played.callback_secret(row) == secret
    assert played.requests(row, "osl.share")[0]["fields"]["callbackUrl"].endswith(secret)


def test_a_worker_that_lost_its_lease_changes_nothing(played: Bench) -> None:
    row = played.to_share()
    slow = played.claim()
    played.clock.advance(LEASE + SECOND)
    fast = played.claim()
    assert [claim.onboarding.id for claim in slow] == [claim.onboarding.id for claim in fast] == [row.id]
    with pytest.raises(LeaseLost):
        played.advance(slow)
    assert shares(played, row) == [], "the intent was not stored, so nothing was sent"
    played.advance(fast)
    assert (played.state(row), shares(played, row)) == (State.AWAITING_CALLBACK, [True])


@pytest.mark.parametrize("refusal", [{"status": 429}, {"status": 503}, {"status": 429, "code": "99999"}])
def test_an_answer_that_says_not_now_is_no_loss(played: Bench, refusal: dict[str, Any]) -> None:
    row = played.to_share()
    fault(played, row, "osl.share", times=3, **refusal)
    played.run(20 * SECOND)
    after = played.row(row)
    assert (after.state, after.share_losses) == (State.AWAITING_CALLBACK, 0)
    assert (shares(played, row), questions(played, row)) == ([False, False, False, True], 0)


@pytest.mark.parametrize("answer", [{"code": "99999"}, {"code": "47110"}, {"status": 501}, {"status": 500}])
@pytest.mark.parametrize("acts", [True, False])
def test_an_answer_that_leaves_open_whether_it_was_done_is_asked_about_before_a_second_share(
    played: Bench, answer: dict[str, Any], acts: bool
) -> None:
    row = played.to_share()
    fault(played, row, "osl.share", act=acts, **answer)
    played.run(4 * SECOND)
    lost = played.row(row)
    assert (lost.share, lost.share_losses, shares(played, row)) == (ShareOutcome.LOST, 1, [acts])
    played.run(3 * MINUTE)
    assert shares(played, row) == ([True] if acts else [False, True])
    assert questions(played, row) >= (1 if acts else 3)


def test_a_code_that_is_listed_as_not_now_is_no_loss(tmp_path: Any, sandbox: SandboxProcess) -> None:
    own = tmp_path / "providers.toml"
    own.write_text('[osl.faults]\ncode_later = ["47110"]\n')
    bench = Bench(tmp_path, sandbox, ORCHESTRATOR_PROVIDERS_FILE=str(own))
    row = bench.to_share()
    fault(bench, row, "osl.share", code="47110")
    bench.run(2 * SECOND)
    assert (bench.row(row).share_losses, shares(bench, row), questions(bench, row)) == (0, [False, True], 0)
    bench.close()


def test_a_refused_connection_is_no_loss(tmp_path: Any, sandbox: SandboxProcess) -> None:
    bench = Bench(tmp_path, sandbox)
    row = bench.to_share()
    bench.settings["OSL_BASE_URL"] = "http://127.0.0.1:9/osl"
    elsewhere = bench.open().context
    bench.advance(bench.claim(), elsewhere)
    after = bench.row(row)
    assert (after.state, after.share, after.share_losses, after.attempts) == (
        State.SHARING,
        ShareOutcome.NONE,
        0,
        1,
    )
    bench.close()


# Later rounds


@pytest.mark.parametrize(("status", "proof"), [("PROCESS", True), ("PASS", True), ("REJECT", False), (None, False)])
def test_after_a_reject_its_absence_proves_that_the_next_share_arrived(
    played: Bench, status: str | None, proof: bool
) -> None:
    row = rejected_once(played)
    before = questions(played, row)
    fault(played, row, "osl.share", reset="before")
    says(played, row, status)
    played.step()
    played.run(QUESTIONS[-1])
    assert played.state(row) is State.AWAITING_CALLBACK
    assert len(shares(played, row)) == (2 if proof else 3)
    assert questions(played, row) - before == (1 if proof else 3)


def test_after_a_reject_an_answer_without_a_status_proves_nothing(played: Bench) -> None:
    row = rejected_once(played)
    fault(played, row, "osl.share", reset="before")
    said = {"code": "00000", "data": {"userId": row.osl_user_id, "kycStatus": None}}
    fault(played, row, "osl.status", times=3, body=json.dumps(said))
    played.step()
    played.run(QUESTIONS[-1])
    assert shares(played, row) == [True, False, True]


def test_a_later_round_that_no_reject_ended_has_only_the_webhook_as_proof(played: Bench) -> None:
    row = asked_once_more(played)
    fault(played, row, "osl.share", times=None, reset="after")
    played.run(2 * QUESTIONS[-1])
    assert played.state(row) is State.NEEDS_ATTENTION
    assert shares(played, row) == [True, True, True], "one in round 1, two in round 2"
    assert questions(played, row) == 0, "the query would say nothing about this round"
    assert played.receive(row, "PROCESS") is Verdict.APPLIED
    assert played.row(row).share is ShareOutcome.ARRIVED


def test_a_webhook_proves_the_share_of_a_later_round(played: Bench) -> None:
    row = asked_once_more(played)
    fault(played, row, "osl.share", reset="after")
    played.step()
    assert played.receive(row, "PROCESS", number=2) is Verdict.EARLY
    played.step()
    assert (played.state(row), shares(played, row)) == (State.AWAITING_CALLBACK, [True, True])


def test_a_webhook_of_the_round_before_is_no_proof(played: Bench) -> None:
    row = asked_once_more(played)
    fault(played, row, "osl.share", reset="before")
    says(played, row, "PROCESS")
    played.step()
    assert played.receive(row, "PROCESS", number=1) is Verdict.OUTDATED
    played.run(QUESTIONS[-1])
    assert shares(played, row) == [True, False, True]


@pytest.mark.parametrize(("was_shared", "sent", "asked"), [(True, 3, 0), (False, 1, 1)])
def test_only_an_earlier_onboarding_that_was_shared_keeps_the_status_query_from_proving_anything(
    played: Bench, was_shared: bool, sent: int, asked: int
) -> None:
    first = played.shared() if was_shared else played.to_share()
    operate.cancel(played.context, first.id, "test")
    email, profile = played.context.identity(first)
    data = {"merchantUserId": first.merchant_user_id, "email": email, "profile": profile}
    row, created = signup.sign_up(played.context, signup.checked_signup(played.context, data), "test")
    assert created
    for kind in ("idFileFront", "selfie"):
        collect.put_document(played.context, look.find(played.context, row.id), kind, pdf(kind), "test")
    collect.submit(played.context, row.id, "test")
    fault(played, row, "osl.share", reset="after")
    played.run(QUESTIONS[-1] + 20 * SECOND)
    assert played.state(row) is State.AWAITING_CALLBACK
    assert (shares(played, row), questions(played, row)) == ([True] * sent, asked)


# Early webhooks when nothing was lost --------------------------------------------------------------------------------


def test_early_webhooks_are_applied_in_the_order_of_arrival_right_after_the_answer(played: Bench) -> None:
    row = played.to_share()

    def webhooks_first(real: Any, **how: Any) -> Any:
        answer = real.share(**how)
        secret = how["callback_url"].rsplit("/", 1)[1]
        for status in ("PROCESS", "REVIEW", "PASS", "PROCESS"):
            played.clock.advance(1)
            body = status_change(answer.value, row.merchant_user_id, status)
            sent = signed(played.clock(), body)
            assert receive.receive(played.context, secret, sent.headers, sent.body) is Verdict.EARLY
        return answer

    played.advance(played.claim(), played.with_osl(share=webhooks_first))
    after = played.row(row)
    assert (after.state, after.claim, after.kyc_status) == (State.CONFIRMING, Event.CALLBACK_PASS, "REVIEW")
    assert played.verdicts(row) == [Verdict.APPLIED] * 3 + [Verdict.IGNORED]
    assert played.events(row)[-4:] == [
        Event.SHARED,
        Event.CALLBACK_PROCESS,
        Event.CALLBACK_REVIEW,
        Event.CALLBACK_PASS,
    ]
    says(played, row, "PASS")
    played.run_to(row, State.APPROVED)


def test_an_early_claim_that_is_superseded_is_asked_about(played: Bench) -> None:
    row = played.to_share()

    def webhooks_first(real: Any, **how: Any) -> Any:
        answer = real.share(**how)
        secret = how["callback_url"].rsplit("/", 1)[1]
        for status, age in (("PROCESS", 0), ("PASS", SECOND)):
            played.clock.advance(1)
            sent = signed(played.clock() - age, status_change(answer.value, row.merchant_user_id, status))
            assert receive.receive(played.context, secret, sent.headers, sent.body) is Verdict.EARLY
        return answer

    played.advance(played.claim(), played.with_osl(share=webhooks_first))
    assert played.state(row) is State.AWAITING_CALLBACK
    assert played.verdicts(row) == [Verdict.APPLIED, Verdict.SUPERSEDED]
    says(played, row, "PASS")
    assert played.run_to(row, State.APPROVED, SECOND)


def test_an_early_webhook_about_another_user_turns_out_forged(played: Bench) -> None:
    row = played.to_share()

    def webhook_first(real: Any, **how: Any) -> Any:
        sent = signed(played.clock(), status_change("not-the-one", None, "PASS"))
        receive.receive(played.context, how["callback_url"].rsplit("/", 1)[1], sent.headers, sent.body)
        return real.share(**how)

    played.advance(played.claim(), played.with_osl(share=webhook_first))
    assert played.verdicts(row) == [Verdict.FORGED]
    assert played.state(row) is State.AWAITING_CALLBACK
    assert played.row(row).osl_user_id != "not-the-one"


def test_an_orphan_is_adopted_when_the_answer_of_a_share_names_its_user(played: Bench) -> None:
    row = played.to_share()
    says(played, row, "PASS")
    known = played.context.osl.kyc_status(row.merchant_user_id, None).value
    assert known
    assert known.user_id
    sent = signed(played.clock(), status_change(known.user_id, None, "PASS"))
    assert receive.receive(played.context, None, sent.headers, sent.body) is Verdict.ORPHAN
    played.step()
    after = played.row(row)
    assert after.osl_user_id == known.user_id
    assert played.verdicts(row) == [Verdict.UNADDRESSED]
    assert played.context.store.orphans_of(known.user_id) == []
    assert receive.receive(played.context, None, sent.headers, sent.body) is Verdict.DUPLICATE
    played.run(MINUTE)
    assert played.state(row) is State.APPROVED, "the doubt made the worker ask, and OSL Pay says PASS"


def test_an_orphan_that_comes_while_the_answer_of_a_share_is_stored_is_asked_about(played: Bench) -> None:
    row = played.to_share()
    says(played, row, "PASS")
    known = played.context.osl.kyc_status(row.merchant_user_id, None).value
    assert known
    store = played.context.store

    class Meanwhile:
        def __getattr__(self, name: str) -> Any:
            return getattr(store, name)

        def orphans_like(self, app_id: str, timestamp: int) -> list[Any]:
            """Nobody knew the user a moment ago; now the share's answer names them, and finds no orphan."""
            played.step()
            return store.orphans_like(app_id, timestamp)

    sent = signed(played.clock(), status_change(known.user_id, None, "PASS"))
    beside = dataclasses.replace(played.context, store=Meanwhile())
    assert receive.receive(beside, None, sent.headers, sent.body) is Verdict.UNADDRESSED
    assert played.verdicts(row) == [Verdict.UNADDRESSED]
    played.run(MINUTE)
    assert played.state(row) is State.APPROVED, "the doubt made the worker ask, and OSL Pay says PASS"


# Claims --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("claim", "answer", "state", "number"),
    [
        ("PASS", "PASS", State.APPROVED, 1),
        ("REJECT", "REJECT", State.COLLECTING, 2),
        ("FINAL_REJECT", "FINAL_REJECT", State.REJECTED, 1),
        ("FINAL_REJECT", "REJECT", State.REJECTED, 1),
    ],
)
def test_a_claim_settles_when_the_query_agrees(
    played: Bench, claim: str, answer: str, state: State, number: int
) -> None:
    row = played.shared()
    says(played, row, answer, "the photo of Anastasia is blurred")
    played.receive(row, claim)
    played.step()
    after = played.view(row)
    assert (after.onboarding.state, after.onboarding.round) == (state, number)
    assert after.onboarding.kyc_status == claim
    assert after.reason == (None if state is State.APPROVED else "the photo of <firstName> is blurred")
    assert questions(played, row) == 1


def test_the_words_of_a_webhook_are_told_to_nobody(played: Bench) -> None:
    row = played.shared()
    says(played, row, "REJECT")
    played.receive(row, "REJECT", reason="Your account is locked: call +1 555 0100")
    played.step()
    view = played.view(row)
    assert (view.onboarding.state, view.onboarding.round, view.reason) == (State.COLLECTING, 2, None)


def test_a_reason_may_name_what_tells_nothing_of_who_somebody_is(played: Bench) -> None:
    row = played.shared(idType="PASSPORT", sourceFunds="Salary", number="2", lastName="Leebrook")
    operate.ask_for_resubmission(
        played.context, row.id, "Leebrook: show page 2 of the passport, and proof of salary.", "operator:test"
    )
    assert played.view(row).reason == "<lastName>: show page 2 of the passport, and proof of salary."


def test_a_reason_does_not_name_a_user_whose_name_is_written_in_two_letters(played: Bench) -> None:
    row = played.shared(lastName="李", firstName="小龍", number="2")
    says(played, row, "REJECT", "page 2 of the document of 李 小龍 is blurred")
    played.receive(row, "REJECT")
    played.step()
    assert played.view(row).reason == "page 2 of the document of <lastName> <firstName> is blurred"


@pytest.mark.parametrize("answer", ["PROCESS", "REJECT", "ON_HOLD", None])
def test_an_answer_that_does_not_agree_is_asked_again_four_times_and_then_contradicts(
    played: Bench, answer: str | None
) -> None:
    row = played.shared()
    says(played, row, answer)
    assert played.receive(row, "PASS") is Verdict.APPLIED
    first = played.clock()
    asked = played.run(CONTRADICTIONS[-1] - 1)
    assert [at - first for at in asked] == [0, *CONTRADICTIONS[:-1]]
    assert (played.state(row), played.verdicts(row)) == (State.CONFIRMING, [Verdict.APPLIED])
    played.run(1)
    assert (played.state(row), played.verdicts(row)) == (State.AWAITING_CALLBACK, [Verdict.CONTRADICTED])
    assert questions(played, row) == 5
    assert played.events(row)[-2:] == [Event.CALLBACK_PASS, Event.CONTRADICTED]
    assert played.row(row).contradictions == 0


@pytest.mark.parametrize("waited", CONTRADICTIONS)
def test_a_query_that_agrees_at_last_settles(played: Bench, waited: int) -> None:
    row = played.shared()
    says(played, row, "PROCESS")
    played.receive(row, "PASS")
    played.run(waited - 1)
    says(played, row, "PASS")
    played.run(1)
    assert (played.state(row), played.verdicts(row)) == (State.APPROVED, [Verdict.APPLIED])


def test_a_contradicted_claim_raised_in_review_leads_back_to_review(played: Bench) -> None:
    row = played.shared()
    played.receive(row, "REVIEW")
    played.clock.advance(SECOND)
    says(played, row, "PROCESS")
    played.receive(row, "PASS")
    played.run(CONTRADICTIONS[-1])
    assert (played.state(row), played.verdicts(row)) == (State.IN_REVIEW, [Verdict.APPLIED, Verdict.CONTRADICTED])


def test_the_user_id_of_a_webhook_is_nobodys_until_osl_pay_names_it(bench: Bench) -> None:
    row = bench.shared_on_paper(user_id=None)
    sent = signed(bench.clock(), status_change("somebody-else", row.merchant_user_id, "PASS"))
    assert receive.receive(bench.context, bench.callback_secret(row), sent.headers, sent.body) is Verdict.APPLIED
    without = Answer(KycStatus("PASS", None, ""), None)
    bench.advance(bench.claim(), bench.with_osl(kyc_status=lambda *_: without))
    after = bench.row(row)
    assert (after.state, after.osl_user_id) == (State.APPROVED, None)


def test_a_newer_claim_voids_the_answer_in_flight(played: Bench) -> None:
    row = played.shared()
    says(played, row, "PASS")
    played.receive(row, "PASS")

    def overtaken(real: Any, *who: Any) -> Any:
        answer = real.kyc_status(*who)
        played.clock.advance(1)
        assert played.receive(row, "FINAL_REJECT") is Verdict.APPLIED
        return answer

    played.advance(played.claim(), played.with_osl(kyc_status=overtaken))
    after = played.row(row)
    assert (after.state, after.claim) == (State.CONFIRMING, Event.CALLBACK_FINAL_REJECT)
    assert played.verdicts(row) == [Verdict.SUPERSEDED, Verdict.APPLIED]
    says(played, row, "REJECT")
    assert played.run_to(row, State.REJECTED, SECOND)
    assert questions(played, row) == 2


def test_a_newer_claim_begins_the_contradictions_anew(played: Bench) -> None:
    row = played.shared()
    says(played, row, "PROCESS")
    played.receive(row, "PASS")
    played.run(2 * MINUTE)
    assert played.row(row).contradictions == 4
    assert played.receive(row, "FINAL_REJECT") is Verdict.APPLIED
    first = played.clock()
    assert [at - first for at in played.run(CONTRADICTIONS[-1] - 1)] == [0, *CONTRADICTIONS[:-1]]


def test_there_is_never_more_than_one_query_of_an_onboarding_in_flight(played: Bench) -> None:
    row = played.shared()
    played.receive(row, "PASS")
    held = played.claim()
    played.clock.advance(1)
    played.receive(row, "FINAL_REJECT")
    assert len(held) == 1
    assert played.claim() == [], "the lease holds although the newer claim is due"


def test_a_settled_outcome_in_doubt_stays_until_the_query_agrees(played: Bench) -> None:
    row = approved(played)
    says(played, row, "PROCESS")
    played.clock.advance(MINUTE)
    assert played.receive(row, "FINAL_REJECT") is Verdict.APPLIED
    doubted_at = played.clock()
    played.run(2 * MINUTE)
    after = played.row(row)
    assert (after.state, after.doubted_at, after.kyc_status) == (State.APPROVED, doubted_at, "PASS")
    says(played, row, "REJECT", "found on a list")
    played.run(10 * MINUTE)
    view = played.view(row)
    assert (view.onboarding.state, view.onboarding.doubted_at, view.reason) == (
        State.REJECTED,
        None,
        "found on a list",
    )


def test_a_doubt_about_a_settled_outcome_ends_when_the_claim_is_contradicted(played: Bench) -> None:
    row = approved(played)
    played.clock.advance(MINUTE)
    played.receive(row, "REJECT")
    played.run(10 * MINUTE)
    after = played.row(row)
    assert (after.state, after.round, after.doubted_at, after.claim, after.due_at) == (
        State.APPROVED,
        1,
        None,
        None,
        None,
    )
    assert played.verdicts(row) == [Verdict.APPLIED, Verdict.CONTRADICTED]


def test_an_approved_user_whose_reject_is_confirmed_begins_the_next_round(played: Bench) -> None:
    row = approved(played)
    says(played, row, "REJECT", "another page, please")
    played.clock.advance(MINUTE)
    played.receive(row, "REJECT")
    played.step()
    after = played.view(row)
    assert (after.onboarding.state, after.onboarding.round) == (State.COLLECTING, 2)
    assert after.reason == "another page, please"


# Polls and doubts ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", ["PROCESS", None, "ON_HOLD"])
def test_without_a_webhook_osl_pay_is_asked_after_one_patience_and_then_at_doubling_intervals(
    played: Bench, answer: str | None
) -> None:
    row = played.submitted()
    row = played.run_to(row, State.AWAITING_CALLBACK)
    entered = played.transitions(row)[-1].at
    says(played, row, answer)
    asked = played.run(5 * DAY)
    gaps = [later - earlier for earlier, later in itertools.pairwise([entered, *asked])]
    assert [gap // HOUR for gap in gaps] == [1, 2, 4, 8, 16, 24, 24, 24]
    assert played.state(row) is State.AWAITING_CALLBACK
    assert played.events(row)[-1] is Event.SHARED, "polls that say nothing leave no transition"


def test_review_begins_with_a_patience_of_its_own(played: Bench) -> None:
    row = played.shared()
    says(played, row, "PROCESS")
    played.run(7 * HOUR)
    assert played.receive(row, "REVIEW") is Verdict.APPLIED
    entered = played.clock()
    assert [at - entered for at in played.run(3 * HOUR)] == [HOUR, 3 * HOUR]
    assert played.state(row) is State.IN_REVIEW


@pytest.mark.parametrize(
    ("answer", "state"),
    [("PASS", State.APPROVED), ("FINAL_REJECT", State.REJECTED), ("REVIEW", State.IN_REVIEW)],
)
def test_a_poll_that_brings_news_moves_the_user_on(played: Bench, answer: str, state: State) -> None:
    row = played.shared()
    says(played, row, answer, "not eligible")
    played.run(HOUR)
    view = played.view(row)
    assert (view.onboarding.state, view.onboarding.kyc_status) == (state, answer)
    assert view.reason == ("not eligible" if state is State.REJECTED else None)


def test_reject_twice_in_a_row_without_a_webhook_needs_a_person(played: Bench) -> None:
    row = played.shared()
    says(played, row, "REJECT")
    played.run(HOUR)
    assert (played.state(row), played.row(row).poll_rejects) == (State.AWAITING_CALLBACK, 1)
    says(played, row, "PROCESS")
    played.run(2 * HOUR)
    says(played, row, "REJECT")
    played.run(4 * HOUR)
    assert played.state(row) is State.AWAITING_CALLBACK, "not twice in a row"
    played.run(8 * HOUR)
    assert played.state(row) is State.NEEDS_ATTENTION
    assert played.events(row)[-1] is Event.ANSWERED_REJECT_AGAIN


def test_a_webhook_between_two_rejects_starts_the_count_anew(played: Bench) -> None:
    row = played.shared()
    says(played, row, "REJECT")
    played.run(HOUR)
    played.receive(row, "PROCESS")
    played.run(2 * HOUR)
    assert (played.state(row), played.row(row).poll_rejects) == (State.AWAITING_CALLBACK, 1)


def _doubted_awaiting(bench: Bench) -> Onboarding:
    return bench.shared()


def _doubted_collecting(bench: Bench) -> Onboarding:
    row = bench.shared()
    return operate.ask_for_resubmission(bench.context, row.id, "one more page", "test")


def _doubted_parked(bench: Bench) -> Onboarding:
    row = bench.shared()
    return apply(bench.context, row.id, lambda row: [Step(Event.GAVE_UP, "test")])


def _doubted_rejected(bench: Bench) -> Onboarding:
    row = bench.shared()
    says(bench, row, "REJECT")
    bench.receive(row, "FINAL_REJECT")
    row = bench.run_to(row, State.REJECTED)
    bench.clock.advance(SECOND)
    return row


DOUBTED: list[Callable[[Bench], Onboarding]] = [
    _doubted_awaiting,
    _doubted_collecting,
    _doubted_parked,
    _doubted_rejected,
]


@pytest.mark.parametrize("make", DOUBTED)
def test_doubts_make_the_worker_ask_at_most_once_a_minute(played: Bench, make: Callable[[Bench], Onboarding]) -> None:
    row = make(played)
    says(played, row, "PROCESS")
    before, state = questions(played, row), played.state(row)
    for number in range(40):
        assert played.receive(row, "PASS", timestamp=played.clock() - HOUR, number=1) is Verdict.STALE, number
        played.run(5 * SECOND)
    asked = questions(played, row) - before
    assert 3 <= asked <= 4, "in 200 seconds"
    assert played.state(row) is state


def test_a_doubt_answered_with_pass_says_nothing_against_a_claim_that_came_meanwhile(played: Bench) -> None:
    row = _doubted_parked(played)
    says(played, row, "PASS")
    played.receive(row, "PASS", timestamp=played.clock() - HOUR, number=1)

    def overtaken(real: Any, *who: Any) -> Any:
        answer = real.kyc_status(*who)
        assert played.receive(row, "FINAL_REJECT") is Verdict.APPLIED
        return answer

    played.advance(played.claim(), played.with_osl(kyc_status=overtaken))
    after = played.row(row)
    assert (after.state, after.claim, after.kyc_status) == (State.CONFIRMING, Event.CALLBACK_FINAL_REJECT, None)


@pytest.mark.parametrize("make", DOUBTED)
def test_a_doubt_answered_with_pass_approves(played: Bench, make: Callable[[Bench], Onboarding]) -> None:
    row = make(played)
    says(played, row, "PASS")
    assert played.receive(row, "PASS", timestamp=played.clock() - HOUR, number=1) is Verdict.STALE
    played.run(MINUTE)
    after = played.row(row)
    assert (after.state, after.kyc_status) == (State.APPROVED, "PASS")
    assert played.verdicts(row)[-1] is Verdict.STALE


def test_a_doubt_during_an_upload_is_looked_at_when_the_share_is_through(played: Bench) -> None:
    row = _doubted_collecting(played)
    collect.submit(played.context, row.id, "test")
    says(played, row, "PASS")
    assert played.receive(row, "PASS", timestamp=played.clock() - HOUR, number=1) is Verdict.STALE
    assert played.state(row) is State.UPLOADING
    played.run(MINUTE)
    assert played.state(row) is State.APPROVED
    assert len(shares(played, row)) == 2


def test_nobody_asks_about_a_doubt_before_any_share_was_sent(played: Bench) -> None:
    row = played.collected()
    sent = signed(played.clock(), status_change("9001", row.merchant_user_id, "PASS"))
    assert receive.receive(played.context, None, sent.headers, sent.body) is Verdict.UNADDRESSED
    assert played.run(HOUR) == []
    assert played.state(row) is State.COLLECTING


def test_nobody_asks_about_a_closed_onboarding(played: Bench) -> None:
    row = played.shared()
    operate.cancel(played.context, row.id, "test")
    says(played, row, "PASS")
    played.receive(row, "PASS", timestamp=played.clock() - HOUR)
    assert played.run(DAY) == []
    assert played.state(row) is State.CANCELLED


# Outcomes that come too late -----------------------------------------------------------------------------------------


def test_what_a_provider_answered_is_recorded_on_a_cancelled_onboarding(played: Bench) -> None:
    row = played.to_share()

    def cancelled_meanwhile(real: Any, **how: Any) -> Any:
        answer = real.share(**how)
        operate.cancel(played.context, row.id, "test")
        return answer

    played.advance(played.claim(), played.with_osl(share=cancelled_meanwhile))
    after = played.row(row)
    last = played.transitions(row)[-1]
    assert (last.event, last.from_state, last.to_state) == (Event.SHARED, State.CANCELLED, State.CANCELLED)
    assert (after.share, after.due_at, after.lease) == (ShareOutcome.ARRIVED, None, None)
    assert after.osl_user_id
    assert played.run(DAY) == [], "nothing further is sent"
    assert played.chain_faults(row) == []


@pytest.mark.parametrize(
    ("how", "event"),
    [({"reset": "after"}, Event.SHARE_LOST), ({"code": "00002", "msg": "no"}, Event.GAVE_UP)],
)
def test_a_lost_or_refused_share_is_recorded_on_a_cancelled_onboarding(
    played: Bench, how: dict[str, Any], event: Event
) -> None:
    row = played.to_share()
    fault(played, row, "osl.share", **how)

    def cancelled_first(real: Any, **arguments: Any) -> Any:
        operate.cancel(played.context, row.id, "test")
        return real.share(**arguments)

    played.advance(played.claim(), played.with_osl(share=cancelled_first))
    last = played.transitions(row)[-1]
    assert (last.event, last.from_state, last.to_state) == (event, State.CANCELLED, State.CANCELLED)
    assert played.run(DAY) == []
    assert len(shares(played, row)) == 1


def test_an_upload_that_ends_after_a_cancel_is_recorded(played: Bench) -> None:
    row = played.submitted()
    while played.state(row) is not State.SHARING:
        played.step()
    played.clock.advance(SECOND)

    def cancelled_first(real: Any, file: Any) -> Any:
        operate.cancel(played.context, row.id, "test")
        return real.upload_file(file)

    [claimed] = played.claim()
    played.advance([claimed], played.with_osl(upload_file=cancelled_first))
    last = played.transitions(row)[-1]
    assert (last.event, last.to_state) == (Event.FILE_UPLOADED, State.CANCELLED)
    assert played.run(DAY) == []


# Failures by kind ----------------------------------------------------------------------------------------------------


def test_backoff_doubles_and_the_horizon_ends_in_needs_attention(tmp_path: Any, sandbox: SandboxProcess) -> None:
    bench = Bench(tmp_path, sandbox, RETRY_HORIZON_HOURS="1")
    row = bench.submitted()
    fault(bench, row, "btse.upload", times=None, status=503)
    first = bench.clock()
    tried = [(at - first) // SECOND for at in bench.run(3 * HOUR)]
    assert tried == [2**number - 1 for number in range(13)], "1 s, 2 s, 4 s … and the first try after the horizon"
    assert bench.state(row) is State.NEEDS_ATTENTION
    assert bench.transitions(row)[-1].event is Event.GAVE_UP
    view = bench.view(row)
    assert view.last_error
    assert (view.last_error["provider"], view.last_error["code"]) == ("btse", "503")
    assert bench.row(row).resume is State.UPLOADING
    assert sandbox.summary()["operations"]["btse.upload"] >= 13
    sandbox.clear_faults()
    operate.retry(bench.context, row.id, "test")
    assert bench.run_to(row, State.AWAITING_CALLBACK).last_error_sealed is None
    bench.close()


def test_a_success_between_failures_begins_the_horizon_anew(tmp_path: Any, sandbox: SandboxProcess) -> None:
    bench = Bench(tmp_path, sandbox, RETRY_HORIZON_HOURS="0.1")
    row = bench.submitted()
    fault(bench, row, "btse.upload", times=8, status=503)
    fault(bench, row, "osl.share", times=8, status=503)
    bench.run_to(row, State.AWAITING_CALLBACK, HOUR)
    bench.close()


def test_full_jitter_may_be_nothing_at_all(played: Bench) -> None:
    played.jitter = 0.0
    row = played.submitted()
    fault(played, row, "btse.upload", times=3, status=503)
    assert played.run(0)
    assert played.state(row) is not State.UPLOADING


@pytest.mark.parametrize("operation", ["btse.upload", "osl.share"])
def test_retry_after_is_honoured(played: Bench, operation: str) -> None:
    row = played.to_share() if operation == "osl.share" else played.submitted()
    fault(played, row, operation, status=429, headers={"Retry-After": "700"})
    played.step()
    assert played.row(row).due_at == played.clock() + 700 * SECOND
    assert played.run(700 * SECOND - 1) == []


def test_waiting_for_a_slot_counts_as_no_failure(tmp_path: Any, sandbox: SandboxProcess) -> None:
    bench = Bench(tmp_path, sandbox, OSL_REQUESTS_PER_SECOND="1")
    row = bench.to_share()
    assert bench.context.schedule.take_slot(bench.clock(), "somebody", bench.clock() + HOUR) == 1
    assert bench.run(HOUR - 1) == []
    assert bench.row(row).failing_since is None
    bench.run(1)
    assert bench.state(row) is State.AWAITING_CALLBACK
    bench.close()


def test_the_slot_of_a_call_is_free_one_second_after_its_answer_was_read(
    tmp_path: Any, sandbox: SandboxProcess
) -> None:
    bench = Bench(tmp_path, sandbox, OSL_REQUESTS_PER_SECOND="1")
    bench.to_share()

    def slowly(real: Any, **how: Any) -> Any:
        answer = real.share(**how)
        bench.clock.advance(400)
        return answer

    bench.advance(bench.claim(), bench.with_osl(share=slowly))
    bench.clock.advance(SECOND - 1)
    assert bench.context.schedule.take_slot(bench.clock(), "next", bench.clock() + MINUTE) is None
    bench.clock.advance(1)
    assert bench.context.schedule.take_slot(bench.clock(), "next", bench.clock() + MINUTE) == 1
    bench.close()


@pytest.mark.parametrize(("late", "sent"), [(0, True), (1, False)])
def test_a_call_that_could_outlast_its_slot_is_not_begun(played: Bench, late: int, sent: bool) -> None:
    row = played.to_share()
    claims = played.claim()
    played.clock.advance(SLOT_SLACK + late)
    played.advance(claims)
    after = played.row(row)
    assert len(shares(played, row)) == int(sent)
    assert (after.state is State.AWAITING_CALLBACK, after.share is ShareOutcome.ARRIVED) == (sent, sent)
    played.run_to(row, State.AWAITING_CALLBACK)
    assert (shares(played, row), played.row(row).share_losses) == ([True], 0)


def test_calls_that_were_not_begun_do_not_begin_the_retry_horizon(tmp_path: Any, sandbox: SandboxProcess) -> None:
    bench = Bench(tmp_path, sandbox, RETRY_HORIZON_HOURS="0.1")
    row = bench.to_share()
    for _ in range(3):
        claims = bench.claim()
        bench.clock.advance(SLOT_SLACK + 1)
        bench.advance(claims)
        assert bench.row(row).failing_since is None
        bench.clock.advance(HOUR)
    fault(bench, row, "osl.share", times=1, status=503)
    bench.step()
    assert (bench.state(row), bench.row(row).failing_since) == (State.SHARING, bench.clock())
    bench.run_to(row, State.AWAITING_CALLBACK)
    bench.close()


@pytest.mark.parametrize("how", [{"status": 401}, {"status": 403}, {"status": 404}, {"redirect": "http://x/"}], ids=str)
def test_unauthorized_answers_about_one_user_alone_are_retried_without_end(played: Bench, how: dict[str, Any]) -> None:
    row = played.submitted()
    fault(played, row, "btse.upload", times=None, **how)
    tried = played.run(8 * HOUR)
    gaps = [later - earlier for earlier, later in itertools.pairwise(tried)]
    assert min(gaps) >= MINUTE
    assert max(gaps) <= HOUR
    after = played.row(row)
    assert (after.state, after.attempts, after.failing_since) == (State.UPLOADING, 0, None)
    assert after.unauthorized == len(tried) > 10
    assert any("btse" in warning for warning in look.warnings(played.context)), "the status page names the fault"


def test_a_users_own_success_elsewhere_is_not_the_success_of_others(played: Bench) -> None:
    row = played.to_share()
    fault(played, row, "osl.share", times=None, status=401)
    played.run(4 * HOUR)
    assert played.state(row) is State.SHARING, "OSL Pay let only this user's files in, nobody else's"


def test_one_who_alone_is_unauthorized_while_others_succeed_is_parked_after_the_third(played: Bench) -> None:
    row = played.submitted()
    fault(played, row, "btse.upload", times=None, status=401)
    tried = []
    for _ in range(12):
        played.submitted()
        played.run(20 * SECOND)
        tried.append(count(played, row, "btse.upload"))
    assert tried[:5] == [1, 1, 2, 2, 2], "at most once a minute, whoever succeeds meanwhile"
    assert played.state(row) is State.NEEDS_ATTENTION
    assert count(played, row, "btse.upload") == 3
    assert played.context.schedule.health("btse").unhealthy_since is None


def test_two_who_are_unauthorized_since_others_succeeded_are_both_retried(played: Bench) -> None:
    played.submitted()
    played.step()
    rows = [played.submitted() for _ in range(2)]
    for row in rows:
        fault(played, row, "btse.upload", times=None, status=401)
    played.run(5 * MINUTE)
    health = played.context.schedule.health("btse")
    assert health.last_success_at is not None
    assert played.clock() - health.last_success_at < 10 * MINUTE
    for row in rows:
        after = played.row(row)
        assert (after.state, after.unauthorized >= 3) == (State.UPLOADING, True)


def test_three_users_unauthorized_make_a_provider_unhealthy_and_the_first_success_heals_it(played: Bench) -> None:
    assert played.sandbox
    rows = [played.submitted() for _ in range(5)]
    played.sandbox.fault("btse.upload", times=None, status=403)
    played.step()
    assert played.context.schedule.health("btse").unhealthy_since == played.clock()
    first = played.clock()
    before = [count(played, row, "btse.upload") for row in rows]
    assert before == [1] * 5
    probed = played.run(5 * MINUTE)
    assert [(at - first) // MINUTE for at in probed] == [1, 2, 3, 4, 5]
    tries = [count(played, row, "btse.upload") - 1 for row in rows]
    assert tries == [1] * 5, "each time another one"
    assert {played.state(row) for row in rows} == {State.UPLOADING}
    played.sandbox.clear_faults()
    played.run(MINUTE + 30 * SECOND)
    assert played.context.schedule.health("btse").unhealthy_since is None
    assert {played.state(row) for row in rows} == {State.AWAITING_CALLBACK}, "the waiting ones were woken"


def test_doubts_that_wait_for_an_unauthorized_provider_are_woken_and_expire_nobody(played: Bench) -> None:
    assert played.sandbox
    rows = [_doubted_collecting(played) for _ in range(3)]
    played.clock.advance(SECOND)
    for row in rows:
        says(played, row, "PROCESS")
        fault(played, row, "osl.status", status=401)
        played.receive(row, "PASS", timestamp=played.clock() - HOUR, number=1)
    played.step()
    assert [played.row(row).unauthorized for row in rows] == [1, 1, 1]
    assert played.context.schedule.health("osl").unhealthy_since == played.clock()
    for row in rows[1:]:
        # As after many such answers.
        put_off = Step(None, "test", changes={"ask_at": played.clock() + HOUR})
        apply(played.context, row.id, lambda _, put_off=put_off: [put_off])
    played.clock.advance(MINUTE)
    played.step()
    assert played.context.schedule.health("osl").unhealthy_since is None
    for row in rows[1:]:
        assert played.row(row).due_at == played.row(row).ask_at == played.clock()
    played.run(2 * SECOND)
    for row in rows:
        after = played.row(row)
        assert (after.state, after.ask_at, questions(played, row)) == (State.COLLECTING, None, 2)
        assert after.due_at == after.step_at == row.step_at, "the time to submit is as it was"


def test_calls_of_operators_never_change_the_health_of_a_provider(played: Bench) -> None:
    rows = [played.submitted() for _ in range(4)]
    assert played.sandbox
    before = played.context.schedule.health("btse")
    for row in rows:
        played.sandbox.fault("btse.authorization", status=401)
        with pytest.raises(ProviderError):
            operate.authorization(played.context, row.id)
        played.sandbox.fault("btse.cancel", status=403)
        with pytest.raises(ProviderError):
            operate.cancel_authorization(played.context, row.id, "uk-1")
    operate.authorization(played.context, rows[0].id)
    assert played.context.schedule.health("btse") == before


class Lines(logging.Handler):
    """Everything that any logger says. `ours`: what those of `telemetry` say."""

    def __init__(self, ours: Sequence[Mapping[str, object]]) -> None:
        super().__init__(logging.DEBUG)
        self._ours = ours
        self._others = ""

    @property
    def text(self) -> str:
        # Each as it is: within a mapping's text quotes would be escaped.
        return self._others + " ".join(f"{name}={value}" for line in self._ours for name, value in line.items())

    def emit(self, record: logging.LogRecord) -> None:
        self._others += f"{record.getMessage()} {record.exc_info}\n"


@pytest.fixture
def lines(played: Bench) -> Iterator[Lines]:
    loggers = [logging.getLogger(), logging.getLogger("orchestrator")]
    with capture_logs() as ours:
        handler = Lines(ours)
        for logger in loggers:
            logger.addHandler(handler)
        yield handler
        for logger in loggers:
            logger.removeHandler(handler)


_passports = itertools.count(88_001)
SECRETS = {
    "firstName": "Xanthippe",
    "lastName": "O'Neill-Ñandú",
    "address": '12 Quiet Lane "rear"',
    "phoneNumber": "+852 5555 0199",
    "dob": "1977-03-09",
}


@pytest.mark.parametrize("where", ["btse.upload", "btse.upload, 200", "osl.upload", "osl.share", "osl.status"])
def test_a_refusal_parks_the_user_with_words_that_quote_none_of_their_data(
    played: Bench, lines: Lines, where: str
) -> None:
    # OSL Pay takes a document for one account only.
    row = played.submitted(**SECRETS, idNumber=f"ZX-99/{next(_passports)}")
    email, profile = played.context.identity(row)
    secret = [
        email,
        row.merchant_user_id,
        *(profile[name] for name in SECRETS),
        profile["idNumber"],
        profile["deviceId"],
        profile["ip"],
    ]
    words = "not accepted: " + " | ".join(secret).upper() + " | " + " | ".join(secret)
    if where == "osl.status":
        row = played.run_to(row, State.AWAITING_CALLBACK)
        played.clock.advance(SECOND)
        played.receive(row, "PASS")
    if where.startswith("btse.upload"):
        status = 200 if where.endswith("200") else 400
        said = json.dumps({"success": False, "code": words, "msg": words})
        fault(played, row, "btse.upload", status=status, body=said)
    elif where == "osl.upload":
        played.sandbox.fault(where, code="00002", msg=words)  # type: ignore[union-attr]
    else:
        fault(played, row, where, code="00002", msg=words)
    played.run_to(row, State.NEEDS_ATTENTION)
    view = played.view(row)
    assert view.last_error
    assert view.last_error["message"].startswith("not accepted: <email> | <merchantUserId> | <firstName>")
    told = " ".join([str(view.last_error), str(view.reason), lines.text, str(played.transitions(row))])
    assert "step_failed" in lines.text
    for value in secret:
        assert value.casefold() not in told.casefold().replace(row.id.casefold(), "")
    with played.connected() as database:
        stored = dump(database)
    for value in secret:
        assert value == row.merchant_user_id or value not in stored


def test_the_callback_url_is_masked_in_a_providers_words(played: Bench) -> None:
    row = played.to_share()
    urls: list[str] = []

    def quoting(real: Any, **how: Any) -> Any:
        urls.extend([how["callback_url"], *how["file_urls"].values()])
        fault(played, row, "osl.share", code="00002", msg=f"bad: {' '.join(urls)} {played.callback_secret(row)}")
        return real.share(**how)

    played.advance(played.claim(), played.with_osl(share=quoting))
    view = played.view(row)
    assert view.last_error
    assert view.last_error["message"] == "bad: <callbackUrl> <frontFileUrl> <selfieFileUrl> <callbackToken>"


def test_a_providers_words_are_cut_at_500_characters(played: Bench) -> None:
    row = played.submitted()
    fault(played, row, "btse.upload", status=400, body=json.dumps({"success": False, "msg": "x" * 9_000}))
    played.run_to(row, State.NEEDS_ATTENTION)
    view = played.view(row)
    assert view.last_error
    assert view.last_error["message"] == "x" * 500


# Retry and submit ----------------------------------------------------------------------------------------------------


def test_a_retry_goes_on_where_it_stopped_and_uploads_anew_only_after_an_edit(played: Bench) -> None:
    row = played.to_share()
    fault(played, row, "osl.share", times=2, code="00002", msg="no")
    played.run_to(row, State.NEEDS_ATTENTION)
    operate.retry(played.context, row.id, "test")
    assert played.state(row) is State.SHARING
    with pytest.raises(Conflict):
        operate.retry(played.context, row.id, "test")
    played.run_to(row, State.NEEDS_ATTENTION)
    collect.edit(played.context, row.id, {"occupation": "Student"}, "test")
    operate.retry(played.context, row.id, "test")
    assert played.state(row) is State.UPLOADING
    played.run_to(row, State.AWAITING_CALLBACK)
    assert (count(played, row, "btse.upload"), shares(played, row)) == (2, [False, False, True])
    assert played.requests(row, "osl.share")[-1]["fields"]["occupation"] == "Student"


def test_a_submit_after_a_share_arrived_opens_the_next_round_with_a_token_of_its_own(played: Bench) -> None:
    row = played.shared()
    apply(played.context, row.id, lambda row: [Step(Event.GAVE_UP, "test")])
    collect.submit(played.context, row.id, "test")
    after = played.row(row)
    assert (after.state, after.round, after.share) == (State.UPLOADING, 2, ShareOutcome.NONE)
    played.run_to(row, State.AWAITING_CALLBACK)
    assert played.callback_secret(row, 1) != played.callback_secret(row, 2)
    assert (count(played, row, "btse.upload"), shares(played, row)) == (2, [True, True])


def test_a_file_is_uploaded_once_to_osl_pay_and_again_when_its_url_is_too_old(played: Bench) -> None:
    assert played.sandbox
    before = played.sandbox.summary()["operations"].get("osl.upload", 0)
    row = played.to_share()
    fault(played, row, "osl.share", code="00002", msg="no")
    played.run_to(row, State.NEEDS_ATTENTION)
    operate.retry(played.context, row.id, "test")
    fault(played, row, "osl.share", code="00002", msg="no")
    played.run_to(row, State.NEEDS_ATTENTION)
    assert played.sandbox.summary()["operations"]["osl.upload"] - before == 2
    played.clock.advance(23 * HOUR)
    operate.retry(played.context, row.id, "test")
    played.run_to(row, State.AWAITING_CALLBACK)
    assert played.sandbox.summary()["operations"]["osl.upload"] - before == 4


def test_the_time_to_submit_runs_out(played: Bench) -> None:
    row = played.collected()
    assert played.run(30 * DAY - 1) == []
    played.run(1)
    after = played.row(row)
    assert (after.state, after.due_at, after.closed_at) == (State.EXPIRED, None, played.clock())


def test_what_the_merchant_is_told_is_stored_with_the_transition(tmp_path: Any, sandbox: SandboxProcess) -> None:
    bench = Bench(
        tmp_path,
        sandbox,
        ORCHESTRATOR_NOTIFY_URL="http://127.0.0.1:9/told",
        ORCHESTRATOR_NOTIFY_SECRET=NOTIFY_SECRET,
    )
    row = bench.shared()
    says(bench, row, "PROCESS")
    bench.receive(row, "PASS")
    bench.run(CONTRADICTIONS[-1])
    bench.clock.advance(1)
    says(bench, row, "PASS")
    bench.receive(row, "PASS")
    bench.run_to(row, State.APPROVED, SECOND)
    told = bench.context.store.deliveries(row.id)
    assert [delivery.type for delivery in told] == ["onboarding.submitted", "onboarding.approved"]
    assert [delivery.status for delivery in told] == [DeliveryStatus.PENDING] * 2
    assert [delivery.due_at is not None for delivery in told] == [True, False], "one at a time, in order"
    bench.close()


def test_what_is_told_next_has_no_older_a_time_when_its_process_has_a_slower_clock(tmp_path: Any) -> None:
    """Receivers follow the newest `timestamp`: the cancellation would be an old one."""
    url = "http://127.0.0.1:9/told"
    bench = Bench(tmp_path, ORCHESTRATOR_NOTIFY_URL=url, ORCHESTRATOR_NOTIFY_SECRET=NOTIFY_SECRET)
    row = bench.submitted()
    bench.clock.advance(-5 * SECOND)
    operate.cancel(bench.context, row.id, "merchant:shop")
    times = [
        json.loads(bench.context.sealer.open(delivery.body_sealed, "deliveries", delivery.id, "body"))["timestamp"]
        for delivery in bench.context.store.deliveries(row.id)
    ]
    assert len(times) == 2
    assert times == sorted(times)
    assert bench.row(row).updated_at == row.updated_at, "what is told after this has no older a time either"
    bench.close()
