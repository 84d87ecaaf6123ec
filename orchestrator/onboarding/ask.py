"""Asking OSL Pay's status query: to confirm a claim, because no webhook came, or because of a doubt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from orchestrator.errors import ProviderError
from orchestrator.machine import CLAIMS, CLOSED, WAITING, Event, State
from orchestrator.onboarding.apply import Step
from orchestrator.onboarding.context import Context
from orchestrator.onboarding.receive import EVENTS
from orchestrator.onboarding.work import ACTOR, FRESH, NO_CLAIM, WORKED, Work
from orchestrator.providers.osl_pay import KycStatus
from orchestrator.records import Callback, Onboarding, Operation, Verdict

_WORDS = {event: word for word, event in EVENTS.items() if event in CLAIMS}
_CONFIRMED = {
    Event.CALLBACK_PASS: Event.CONFIRMED_PASS,
    Event.CALLBACK_REJECT: Event.CONFIRMED_REJECT,
    Event.CALLBACK_FINAL_REJECT: Event.CONFIRMED_FINAL_REJECT,
}
_ANSWERED = {
    "PASS": Event.ANSWERED_PASS,
    "REVIEW": Event.ANSWERED_REVIEW,
    "REJECT": Event.ANSWERED_REJECT,
    "FINAL_REJECT": Event.ANSWERED_FINAL_REJECT,
}


def confirm(work: Work) -> None:
    """Ask whether OSL Pay agrees with the claim; a claim that was replaced meanwhile voids the answer."""
    answered, answer = _ask(work)
    if answered:
        work.done(lambda row: _after_the_end(row, answer) or _confirmed(work, row, answer))


def poll(work: Work) -> None:
    """No webhook came: ask."""
    answered, answer = _ask(work)
    if answered:
        work.done(lambda row: _after_the_end(row, answer) or _polled(work, row, answer))


def settle_doubt(work: Work) -> None:
    """A callback was not believed: ask; only PASS changes anything."""
    answered, answer = _ask(work)
    if answered:
        work.done(lambda row: _after_the_end(row, answer) or _doubted(work, row, answer))


def _ask(work: Work) -> tuple[bool, KycStatus | None]:
    row = work.row
    try:
        osl = work.context.osl
        return True, work.call(Operation.OSL_STATUS, lambda: osl.kyc_status(row.merchant_user_id, row.osl_user_id))
    except ProviderError as error:
        work.failed(error)
        return False, None


def _confirmed(work: Work, row: Onboarding, answer: KycStatus | None) -> Sequence[Step]:
    context = work.context
    if row.claim is None or row.claim_callback != work.row.claim_callback:
        return []
    claimed = _WORDS[row.claim]
    callback = None if row.claim_callback is None else context.store.callback(row.claim_callback)
    if answer is not None and answer.kyc_status in context.dialects.osl.agrees[claimed]:
        changes = {
            "kyc_status": claimed,
            "osl_user_id": row.osl_user_id or answer.user_id,
            **FRESH,
        }
        # Only what OSL Pay answers, as with the userId: its signature does not cover the words of a webhook.
        reason = "" if claimed == "PASS" else answer.reject_reason
        return [Step(_CONFIRMED[row.claim], ACTOR, claimed, changes, reason=reason)]
    return [_contradicted(context, row, answer, callback)]


def _contradicted(context: Context, row: Onboarding, answer: KycStatus | None, callback: Callback | None) -> Step:
    now = context.now_ms()
    since = row.contradicted_at or now
    waits = context.timings.contradictions
    if row.contradictions < len(waits):
        changes = {
            "contradictions": row.contradictions + 1,
            "contradicted_at": since,
            "step_at": max(now, since + waits[row.contradictions]),
            **WORKED,
        }
        return Step(Event.UNCONFIRMED, ACTOR, changes=changes)
    said = answer.kyc_status if answer is not None and answer.kyc_status in EVENTS else "something else"
    changed = [replace(callback, verdict=Verdict.CONTRADICTED)] if callback is not None else []
    if row.state is not State.CONFIRMING:
        return Step(Event.CONTRADICTED, ACTOR, f"OSL Pay says {said}", dict(NO_CLAIM), callbacks=changed)
    soon = {"step_at": now + context.timings.ask_every} if row.claim_resume in WAITING else {}
    return Step(Event.CONTRADICTED, ACTOR, f"OSL Pay says {said}", soon, callbacks=changed)


def _polled(work: Work, row: Onboarding, answer: KycStatus | None) -> Sequence[Step]:
    context = work.context
    event = _event(answer)
    changes = _adopted(row, answer)
    if row.state not in WAITING:
        return _answered_elsewhere(row, event, answer)
    rejects = row.poll_rejects + 1 if event is Event.ANSWERED_REJECT else 0
    if rejects > 1:
        event = Event.ANSWERED_REJECT_AGAIN
    wait = min(context.rules.patience_ms * 2 ** min(row.polls + 1, 40), context.timings.poll_longest)
    stays = event in (Event.ANSWERED_OPEN, Event.ANSWERED_REJECT) or (
        event is Event.ANSWERED_REVIEW and row.state is State.IN_REVIEW
    )
    if stays:
        event = Event.ANSWERED_OPEN if event is Event.ANSWERED_REVIEW else event
        again_at, step_at = _doubted_since(work, row), context.now_ms() + wait
        if again_at is not None:
            step_at = min(step_at, again_at)
            changes["asked_at"] = again_at
        changes |= {"polls": row.polls + 1, "poll_rejects": rejects, "step_at": step_at, "ask_at": None, **WORKED}
    return [Step(event, ACTOR, _said(answer), changes, reason=_answered_reason(event, answer))]


def _doubted(work: Work, row: Onboarding, answer: KycStatus | None) -> Sequence[Step]:
    context = work.context
    now = context.now_ms()
    event = _event(answer)
    asked = {"ask_at": _doubted_since(work, row), "asked_at": now, **FRESH}
    if event is Event.ANSWERED_PASS and row.state is not State.CONFIRMING:
        return [Step(event, ACTOR, "PASS", {**_adopted(row, answer), **asked}, reason="")]
    return [Step(None, ACTOR, changes=asked)]


def _doubted_since(work: Work, row: Onboarding) -> int | None:
    """When to ask again because of a callback that came while OSL Pay was asked."""
    return row.ask_at if row.ask_at != work.row.ask_at else None


def _answered_elsewhere(row: Onboarding, event: Event, answer: KycStatus | None) -> Sequence[Step]:
    """The row left its waiting state while OSL Pay was asked: only PASS still counts, and not against a claim."""
    if event is Event.ANSWERED_PASS and row.state is not State.CONFIRMING:
        return [Step(event, ACTOR, "PASS", _adopted(row, answer), reason="")]
    return []


def _after_the_end(row: Onboarding, answer: KycStatus | None) -> Sequence[Step]:
    """The onboarding was closed while OSL Pay was asked: the answer is recorded and changes nothing."""
    if row.state not in CLOSED:
        return []
    return [Step(_event(answer), ACTOR, _said(answer), _adopted(row, answer))]


def _adopted(row: Onboarding, answer: KycStatus | None) -> dict[str, object]:
    if answer is None:
        return {}
    known = answer.kyc_status if answer.kyc_status in EVENTS else row.kyc_status
    return {"osl_user_id": row.osl_user_id or answer.user_id, "kyc_status": known}


def _event(answer: KycStatus | None) -> Event:
    return _ANSWERED.get(answer.kyc_status or "", Event.ANSWERED_OPEN) if answer is not None else Event.ANSWERED_OPEN


def _said(answer: KycStatus | None) -> str:
    return answer.kyc_status or "" if answer is not None and answer.kyc_status in EVENTS else ""


def _answered_reason(event: Event, answer: KycStatus | None) -> str | None:
    if event is Event.ANSWERED_PASS:
        return ""
    if event is Event.ANSWERED_FINAL_REJECT and answer is not None:
        return answer.reject_reason
    return None
