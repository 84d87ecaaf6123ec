"""What now: the cause, the next step with its time, and the one safe button, from what is known alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from orchestrator.health import ProviderHealth
from orchestrator.machine import Event, State
from orchestrator.onboarding.files import UNREADABLE
from orchestrator.onboarding.outlook import Circumstances, Outlook, hurry_refused, outlook
from orchestrator.onboarding.work import TOO_LATE
from orchestrator.records import Callback, Delivery, DeliveryStatus, Lane, Onboarding, ShareOutcome, Transition, Verdict

NOW = 1_795_341_600_000
MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
LANES = {
    State.UPLOADING: Lane.UPLOAD,
    State.SHARING: Lane.SHARE,
    State.CONFIRMING: Lane.CONFIRM,
    State.AWAITING_CALLBACK: Lane.POLL,
    State.IN_REVIEW: Lane.POLL,
    State.COLLECTING: Lane.LOCAL,
}
ROW = Onboarding("onb_1", "u-1", State.COLLECTING, NOW - DAY, NOW - HOUR, b"", "", "", b"")
CALM = Circumstances(now=NOW, beat=NOW - 1_000)


def in_state(state: State, *, due: int | None = None, **columns: Any) -> Onboarding:
    """A row in `state`, due in so many ms."""
    lane = LANES.get(state) if due is not None else None
    return replace(ROW, state=state, lane=lane, due_at=None if due is None else NOW + due, **columns)


def entered(state: State, event: Event, ago: int, detail: str = "") -> list[Transition]:
    return [
        Transition("onb_1", 1, NOW - DAY, None, State.COLLECTING, Event.SIGNED_UP, 1, "merchant:shop", "", ""),
        Transition("onb_1", 2, NOW - ago, State.COLLECTING, state, event, 1, "worker", detail, ""),
    ]


def parked(detail: str, error: dict[str, Any] | None = None, *, changed: bool = False, event: Any = None) -> Outlook:
    """What now, of one that needs attention because of this."""
    transitions = entered(State.NEEDS_ATTENTION, event or Event.GAVE_UP, HOUR, detail)
    row = in_state(State.NEEDS_ATTENTION, changed=changed)
    return outlook(row, replace(CALM, transitions=transitions, error=error))


def callback(verdict: Verdict, *, number: int = 1) -> Callback:
    return Callback(
        "cbk_1", NOW - MINUTE, "app", NOW, "", "onb_1", number, "kyc_status_change", "PASS", None, b"", "", verdict
    )


def text_of(seen: Outlook) -> str:
    assert seen.cause
    return seen.cause.text


def button(seen: Outlook) -> str:
    assert seen.action
    return seen.action.name


@pytest.mark.parametrize("state", State)
def test_every_state_says_what_it_waits_for_and_what_happens_next(state: State) -> None:
    seen = outlook(in_state(state, due=MINUTE if state in LANES else None), CALM)

    assert seen.waits
    assert seen.then
    assert (seen.at is not None) == (state in LANES)


def test_since_is_when_the_state_was_entered_and_not_the_last_change() -> None:
    steps = entered(State.AWAITING_CALLBACK, Event.SHARED, 3 * HOUR)
    steps.append(replace(steps[-1], seq=3, at=NOW - 5, from_state=State.AWAITING_CALLBACK, event=Event.REVEALED))

    assert outlook(in_state(State.AWAITING_CALLBACK, due=1), replace(CALM, transitions=steps)).since == NOW - 3 * HOUR


def test_a_new_round_counts_as_entered_although_the_state_is_the_same() -> None:
    steps = entered(State.COLLECTING, Event.EDITED, HOUR)
    steps.append(replace(steps[-1], seq=3, at=NOW - 7, round=2, event=Event.CONFIRMED_REJECT))

    assert outlook(in_state(State.COLLECTING, round=2), replace(CALM, transitions=steps)).since == NOW - 7


def test_a_refused_field_is_named_to_the_user_in_plain_words() -> None:
    error = {"provider": "osl", "code": "00002", "message": "idNumber <idNumber> is not valid", "at": NOW}
    seen = parked("osl: refused (00002)", error)

    assert text_of(seen) == "OSL Pay refused what it was sent (00002)"
    assert seen.cause
    assert seen.cause.words == error["message"]
    assert button(seen) == "resubmission"
    assert seen.action
    assert seen.action.reason == "Please check your document’s number and submit again."
    assert (seen.then, seen.at) == ("Nothing happens by itself, unless a webhook of OSL Pay’s comes", None)


def test_what_was_refused_and_then_changed_is_retried() -> None:
    assert button(parked("osl: refused (00002)", {"provider": "osl", "code": "00002"}, changed=True)) == "retry"


@pytest.mark.parametrize(
    ("detail", "event", "says", "safe"),
    [
        ("btse: unauthorized (401)", None, "does not let this user in", "retry"),
        ("osl: transient (503), retried for too long", None, "could not be used for so long", "retry"),
        ("two shares were lost without proof that either arrived", None, "Two answers to the share were lost", "retry"),
        ("REJECT", Event.ANSWERED_REJECT_AGAIN, "OSL Pay rejects the user and sent no webhook", "resubmission"),
        ("", None, "It stopped, and a person is asked", "retry"),
    ],
)
def test_needs_attention_names_how_it_came_to_that(detail: str, event: Event | None, says: str, safe: str) -> None:
    seen = parked(detail, event=event)

    assert says in text_of(seen)
    assert button(seen) == safe


def test_a_retry_is_not_offered_while_something_is_missing() -> None:
    steps = entered(State.NEEDS_ATTENTION, Event.GAVE_UP, HOUR, "osl: transient (503), retried for too long")
    around = replace(CALM, transitions=steps, missing=["documents.selfie"])

    assert button(outlook(in_state(State.NEEDS_ATTENTION), around)) == "resubmission"


def test_an_unauthorized_answer_is_the_installations_fault_and_may_be_tried_now() -> None:
    row = in_state(State.UPLOADING, due=MINUTE, unauthorized=1)
    error = {"provider": "btse", "code": "401", "message": "bad key", "at": NOW - 5}
    skewed = ProviderHealth("btse", skew_ms=45_000)
    seen = outlook(row, replace(CALM, error=error, health={"btse": skewed}))

    assert text_of(seen) == "BTSE Pay does not let this installation in (401)"
    assert seen.cause
    assert "`orchestrator doctor`" in seen.cause.advice
    assert "+45 s from ours" in seen.cause.advice
    assert (seen.then, seen.at) == ("The upload to BTSE Pay is tried again", NOW + MINUTE)
    assert button(seen) == "hurry"


@pytest.mark.parametrize(("attempts", "says"), [(1, "(503), once"), (3, "(503), 3 times in a row")])
def test_failures_of_a_provider_are_counted_in_words(attempts: int, says: str) -> None:
    row = in_state(State.UPLOADING, due=MINUTE, attempts=attempts)
    seen = outlook(row, replace(CALM, error={"provider": "btse", "code": "503"}))

    assert text_of(seen) == f"BTSE Pay could not be used {says}"


@pytest.mark.parametrize(
    ("code", "says", "advice"),
    [
        (UNREADABLE, "A document of this user cannot be read", "encryption keys: `orchestrator doctor`."),
        (TOO_LATE, "This machine was too slow", "load of this machine"),
    ],
)
def test_what_fails_here_is_no_providers_fault(code: str, says: str, advice: str) -> None:
    error = {"provider": "btse", "code": code, "message": "selfie: cannot be opened"}
    around = replace(CALM, error=error)
    steps = entered(State.NEEDS_ATTENTION, Event.GAVE_UP, HOUR, f"btse: transient ({code}), retried for too long")
    failing = outlook(in_state(State.UPLOADING, due=MINUTE, attempts=2), around)
    after_401 = outlook(in_state(State.UPLOADING, due=MINUTE, attempts=1, unauthorized=1), around)
    given_up = outlook(in_state(State.NEEDS_ATTENTION), replace(around, transitions=steps))

    for seen in (failing, after_401, given_up):
        assert text_of(seen).startswith(says)
        assert "BTSE Pay" not in text_of(seen)
        assert seen.cause
        assert advice in seen.cause.advice
        assert seen.cause.words == error["message"]
    assert button(given_up) == "retry"


def test_an_unhealthy_provider_is_named_with_its_next_probe() -> None:
    health = ProviderHealth("btse", ("a", "b", "c"), NOW - HOUR, NOW + 20_000, last_failure="unauthorized (401)")
    seen = outlook(in_state(State.UPLOADING, due=MINUTE, unauthorized=2), replace(CALM, health={"btse": health}))

    assert "BTSE Pay lets nobody in" in text_of(seen)
    assert seen.cause
    assert seen.cause.since == NOW - HOUR
    assert "tried once a minute" in seen.then
    assert seen.at == NOW + 20_000
    assert button(seen) == "hurry"


def test_the_other_providers_trouble_is_no_cause() -> None:
    health = {"osl": ProviderHealth("osl", ("a", "b", "c"), NOW - HOUR, NOW)}

    assert outlook(in_state(State.UPLOADING, due=MINUTE), replace(CALM, health=health)).cause is None


def test_a_missing_webhook_is_named_once_the_patience_is_over() -> None:
    row = in_state(State.AWAITING_CALLBACK, due=20 * MINUTE, share_sent_at=NOW - 3 * HOUR)
    steps = entered(State.AWAITING_CALLBACK, Event.SHARED, 3 * HOUR)
    seen = outlook(row, replace(CALM, transitions=steps))

    assert "OSL Pay has sent no webhook" in text_of(seen)
    assert (seen.then, seen.at, seen.since) == ("OSL Pay is asked", NOW + 20 * MINUTE, NOW - 3 * HOUR)
    assert seen.action
    assert (seen.action.name, seen.action.label) == ("hurry", "Ask OSL Pay now")
    assert outlook(row, replace(CALM, transitions=steps, patience=4 * HOUR)).cause is None


def test_a_forged_webhook_of_this_round_is_named_until_it_is_settled() -> None:
    row = in_state(State.AWAITING_CALLBACK, due=MINUTE, share_sent_at=NOW)
    around = replace(CALM, patience=2 * DAY, callbacks=[callback(Verdict.FORGED)])
    seen = outlook(row, around)

    assert "says PASS was refused as forged" in text_of(seen)
    assert button(seen) == "hurry"
    assert outlook(replace(row, round=2), around).cause is None
    assert outlook(in_state(State.APPROVED), around).cause is None
    assert outlook(row, replace(around, callbacks=[callback(Verdict.APPLIED)])).cause is None


@pytest.mark.parametrize("beat", [None, NOW - HOUR])
def test_a_silent_worker_comes_before_every_other_cause(beat: int | None) -> None:
    row = in_state(State.UPLOADING, due=-HOUR, unauthorized=1)
    seen = outlook(row, replace(CALM, beat=beat, error={"provider": "btse", "code": "401"}))

    assert "No worker is running" in text_of(seen)
    assert seen.cause
    assert seen.cause.since == beat
    assert "`orchestrator worker`" in seen.cause.advice
    assert "as soon as a worker runs" in seen.then
    assert (seen.waits, seen.at, button(seen)) == ("a worker", NOW - HOUR, "look")


def test_a_silent_worker_is_no_cause_where_nothing_waits_for_one() -> None:
    silent = replace(CALM, beat=None)

    assert outlook(in_state(State.APPROVED), silent).cause is None
    assert outlook(in_state(State.COLLECTING, due=DAY), silent).cause is None


def test_a_lost_share_and_contradictions_are_named_without_a_button() -> None:
    lost = outlook(in_state(State.SHARING, due=5_000, share=ShareOutcome.LOST), CALM)
    contradicted = outlook(
        in_state(State.CONFIRMING, due=5_000, contradictions=2, claim=Event.CALLBACK_PASS, claim_callback="cbk_1"), CALM
    )

    assert "answer to the share was lost" in text_of(lost)
    assert lost.then == "OSL Pay is asked whether the share arrived"
    assert "2 times otherwise" in text_of(contradicted)
    once = in_state(State.CONFIRMING, due=5_000, contradictions=1, claim=Event.CALLBACK_PASS, claim_callback="cbk_1")
    assert "answered once otherwise" in text_of(outlook(once, CALM))
    assert (lost.action, contradicted.action) == (None, None)


def test_a_merchant_who_was_not_told_is_named_if_nothing_else_is_wrong() -> None:
    failed = Delivery("dlv_1", "onb_1", 1, "onboarding.approved", b"x", DeliveryStatus.FAILED, NOW - HOUR, None, 10)
    seen = outlook(in_state(State.APPROVED, settled_at=NOW), replace(CALM, deliveries=[failed]))

    assert "could not be told onboarding.approved" in text_of(seen)
    assert seen.action
    assert (seen.action.name, seen.action.of) == ("resend", "dlv_1")
    assert (
        outlook(in_state(State.APPROVED), replace(CALM, deliveries=[replace(failed, body_sealed=b"")])).cause is None
    ), "what is no longer kept cannot be told"


def test_after_the_end_the_next_thing_is_the_deletion() -> None:
    row = in_state(State.APPROVED, settled_at=NOW - DAY)
    around = replace(CALM, retained=(30 * DAY, 365 * DAY), has_documents=True)

    assert (outlook(row, around).then, outlook(row, around).at) == ("Its documents are deleted", NOW + 29 * DAY)
    later = outlook(row, replace(around, has_documents=False))
    assert (later.then, later.at) == ("Its personal data is deleted", NOW + 364 * DAY)
    gone = outlook(replace(row, profile_deleted_at=NOW), replace(around, has_documents=False))
    assert (gone.then, gone.at) == ("Nothing more happens", None)


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (in_state(State.COLLECTING, due=DAY), "not possible while"),
        (in_state(State.CANCELLED), "not possible while"),
        (in_state(State.SHARING, due=5_000, share=ShareOutcome.LOST), "never sent twice"),
        (in_state(State.CONFIRMING, due=5_000, contradictions=1), "fixed times"),
        (in_state(State.APPROVED, claim=Event.CALLBACK_REJECT, claim_callback="c"), "fixed times"),
        (in_state(State.NEEDS_ATTENTION), "does not know this user yet"),
        (in_state(State.UPLOADING, due=0), "due already"),
    ],
)
def test_a_step_is_not_hurried_where_that_does_harm_or_nothing(row: Onboarding, why: str) -> None:
    assert why in (hurry_refused(row, NOW) or "")


@pytest.mark.parametrize("state", [State.UPLOADING, State.SHARING, State.CONFIRMING, State.AWAITING_CALLBACK])
def test_a_step_that_waits_may_be_taken_at_once(state: State) -> None:
    assert hurry_refused(in_state(state, due=MINUTE, share_sent_at=NOW), NOW) is None
