"""The one writer: every change of an onboarding goes through `apply`, in one transaction or not at all.

A caller decides on the row as it is; if the row has changed by the time it is written, the caller decides again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from orchestrator.errors import Conflict, NotFound, ProviderError, StoreUnavailable
from orchestrator.health import Outcome
from orchestrator.machine import (
    CLAIMS,
    CLOSED,
    SETTLED,
    SUBMITS,
    UNRECORDED,
    WAITING,
    CellKind,
    Event,
    Move,
    State,
    next_move,
)
from orchestrator.notify import notices
from orchestrator.onboarding import chain
from orchestrator.onboarding.context import Context
from orchestrator.onboarding.masking import masked
from orchestrator.onboarding.profile import TELLS_NOBODY
from orchestrator.records import Callback, CallbackToken, Document, Lane, Onboarding, ShareOutcome, Transition, changed
from orchestrator.store import Change
from orchestrator.store.change import Held
from orchestrator.telemetry import about

_TRIES = 100
_WORDLESS = 2
"""Values of so few ASCII characters are left in a reason: they stand in it by chance."""
_LANES = {
    State.UPLOADING: Lane.UPLOAD,
    State.SHARING: Lane.SHARE,
    State.CONFIRMING: Lane.CONFIRM,
    State.AWAITING_CALLBACK: Lane.POLL,
    State.IN_REVIEW: Lane.POLL,
}


@dataclass(frozen=True)
class Failure:
    """What an operator should read of a provider's error."""

    error: ProviderError
    also_secret: Mapping[str, str] = field(default_factory=dict)
    """Names and values that the provider may quote beside the profile's, such as a callbackUrl."""


@dataclass(frozen=True)
class Step:
    """One thing that happened. `event` None: nothing for the machine, only rows to keep.

    `changes`: columns to set after the move. `reason`: what the end user should hear, not yet masked; '' clears it.
    `seen_again`: the id of a callback that stands for one more of its kind.
    """

    event: Event | None
    actor: str
    detail: str = ""
    changes: Mapping[str, Any] = field(default_factory=dict)
    claim_callback: str | None = None
    reason: str | None = None
    failure: Failure | None = None
    callbacks: Sequence[Callback] = ()
    callback_token: CallbackToken | None = None
    document: Document | None = None
    removed_documents: Sequence[str] = ()
    blank_bodies: bool = False
    replaced_link: str | None = None
    seen_again: str | None = None
    probe: str | None = None
    """A provider that is tried at once although it refused everybody of late."""


Decide = Callable[[Onboarding], Sequence[Step]]


def apply(
    context: Context,
    onboarding_id: str,
    decide: Decide,
    *,
    read: Onboarding | None = None,
    held: Held | None = None,
    outcome: Outcome | None = None,
) -> Onboarding:
    """Apply what `decide` makes of the row, all of it in one transaction; the row as it is then.

    `read`: the row, where it was just read. `decide` is called again, on the row read anew, when another writer was
    faster; it may raise, and then nothing is written.
    Raises Conflict when the machine refuses, LeaseLost when `held` is no longer held, NotFound, StoreUnavailable.
    """
    about(onboarding_id)
    for _ in range(_TRIES):
        before, read = read or context.store.onboarding(onboarding_id), None
        if before is None:
            raise NotFound("there is no such onboarding")
        steps = decide(before)
        change = _change(context, before, steps, held, outcome)
        if change is None or context.store.commit(change):
            _count(context, change.transitions if change else ())
            return changed(change.after, version=before.version + 1) if change else before
    raise StoreUnavailable(f"onboarding {onboarding_id} is written too often at the same time: try again")


def begin(context: Context, new: Onboarding, actor: str, signup_id: str | None) -> Onboarding | None:
    """Store a new onboarding with the first row of its chain; as it is then. None: the user has a live one already."""
    row = Transition(new.id, 1, new.created_at, None, new.state, Event.SIGNED_UP, new.round, actor, "", "")
    row = chain.link("", row)
    new = _scheduled(changed(new, seq=1, hash=row.hash, step_at=_step_at(context, new, new.created_at)))
    if not context.store.commit(Change(None, new, transitions=[row], signup_id=signup_id)):
        return None
    _count(context, [row])
    return new


def _count(context: Context, transitions: Sequence[Transition]) -> None:
    for row in transitions:
        context.tally.count("transitions", f"{row.event} {row.to_state}")


def _change(
    context: Context, before: Onboarding, steps: Sequence[Step], held: Held | None, outcome: Outcome | None
) -> Change | None:
    if not steps and held is None:
        return None
    now = context.now_ms()
    row, transitions, told = before, [], []
    for step in steps:
        moved, transition = _moved(context, row, step, now)
        if transition is not None:
            transitions.append(transition)
        notice, moved = notices(moved, step.event in SUBMITS, row.round)
        if notice is not None and context.merchant is not None:
            reason = _reason(context, moved)
            told.append(context.merchant.delivery(context.new_id("dlv"), notice, moved, row, now, reason))
        row = moved
    row = _scheduled(changed(row, updated_at=max(now, row.updated_at) if transitions else row.updated_at))
    return Change(
        before,
        row,
        transitions=transitions,
        deliveries=told,
        callbacks=[callback for step in steps for callback in step.callbacks],
        callback_token=_only(step.callback_token for step in steps),
        document=_only(step.document for step in steps),
        removed_documents=[kind for step in steps for kind in step.removed_documents],
        blank_bodies=any(step.blank_bodies for step in steps),
        replaced_link=_only(step.replaced_link for step in steps),
        seen_again=_only(step.seen_again for step in steps),
        probe=_only(step.probe for step in steps),
        held=held,
        outcome=outcome,
        probe_ms=context.timings.probe,
    )


def _moved(context: Context, row: Onboarding, step: Step, now: int) -> tuple[Onboarding, Transition | None]:
    """The row after one step, and the transition that records it."""
    move = None
    after = row
    if row.erased_at is not None:
        step = _impersonal(step)
    if step.event is not None:
        resume = row.claim_resume if step.event is Event.CONTRADICTED else row.resume
        move = next_move(row.state, step.event, resume)
        if move.kind is CellKind.REFUSE:
            raise Conflict(f"this is not possible while the onboarding is {row.state}", row.state)
        after = _entered(context, row, step, move, now)
    after = changed(after, **step.changes)
    if step.reason is not None:
        after = changed(after, reason_sealed=_sealed_reason(context, row, step.reason))
    if step.failure is not None:
        after = changed(after, last_error_sealed=_sealed_error(context, row, step.failure, now))
    if move is None or not _recorded(row, step.event, move):
        return after, None
    transition = Transition(
        row.id,
        row.seq + 1,
        now,
        row.state,
        after.state,
        step.event or Event.EDITED,
        after.round,
        step.actor,
        step.detail,
        "",
    )
    transition = chain.link(row.hash, transition)
    return changed(after, seq=transition.seq, hash=transition.hash), transition


def _impersonal(step: Step) -> Step:
    """What may still be stored of a step once everything personal was erased."""
    changes = {name: value for name, value in step.changes.items() if name != "osl_user_id"}
    return replace(step, changes=changes, reason=None, failure=None)


def _recorded(row: Onboarding, event: Event | None, move: Move) -> bool:
    if move.kind in (CellKind.KEEP, CellKind.IGNORE):
        return False
    if move.kind is CellKind.ASK:
        return event in CLAIMS or event is Event.HURRIED
    return move.to is not row.state or move.next_round or event not in UNRECORDED or row.state in CLOSED


def _entered(context: Context, row: Onboarding, step: Step, move: Move, now: int) -> Onboarding:
    if move.kind is CellKind.ASK:
        return _asked(context, row, step, now)
    if move.kind in (CellKind.KEEP, CellKind.IGNORE):
        return row
    if move.to is State.CONFIRMING and step.event in CLAIMS:
        row = _claimed(row, step)
    if move.to is row.state and not move.next_round:
        return changed(row, step_at=now) if step.event in CLAIMS else row
    after = _without_claim(row, step.event, move.to)
    after = changed(after, state=move.to, attempts=0, failing_since=None, unauthorized=0, polls=0, poll_rejects=0)
    if move.next_round:
        after = _in_next_round(after, step.event)
    if move.to is State.NEEDS_ATTENTION and step.event is not Event.CONTRADICTED:
        after = changed(after, resume=_resume(row))
    if move.to is not State.NEEDS_ATTENTION:
        after = changed(after, last_error_sealed=None)
    if step.event in SUBMITS:
        after = changed(after, submitted_at=now)
    if move.to in SETTLED:
        after = changed(after, settled_at=now, ask_at=None, doubted_at=None)
    elif move.to in CLOSED:
        after = changed(after, closed_at=now, ask_at=None, doubted_at=None)
    else:
        after = changed(after, settled_at=None, doubted_at=None)
    return _with_step_due(context, after, now)


def _claimed(row: Onboarding, step: Step) -> Onboarding:
    came_from = row.claim_resume if row.state is State.CONFIRMING else row.state
    parked = row.state is State.NEEDS_ATTENTION and row.resume is State.CONFIRMING
    return changed(
        row,
        # The claim that was parked is replaced: a retry leads to where that one came from.
        resume=row.claim_resume if parked else row.resume,
        claim=step.event,
        claim_callback=step.claim_callback,
        claim_resume=came_from,
        contradictions=0,
        contradicted_at=None,
        attempts=0,
        failing_since=None,
    )


def _without_claim(row: Onboarding, event: Event | None, to: State) -> Onboarding:
    given_up = row.state is State.CONFIRMING and to is State.NEEDS_ATTENTION and event is Event.GAVE_UP
    if to is State.CONFIRMING or given_up:
        return row
    return changed(row, claim=None, claim_callback=None, claim_resume=None, contradictions=0, contradicted_at=None)


def _in_next_round(row: Onboarding, event: Event | None) -> Onboarding:
    return changed(
        row,
        round=row.round + 1,
        resume=None,
        share=ShareOutcome.NONE,
        share_losses=0,
        share_questions=0,
        prior_reject=event is Event.CONFIRMED_REJECT,
    )


def _resume(row: Onboarding) -> State | None:
    """Where a retry leads. A claim raised in `needs_attention` itself leads back to what that was about."""
    if row.state is State.CONFIRMING and row.claim_resume is State.NEEDS_ATTENTION:
        return row.resume
    return row.state


def _asked(context: Context, row: Onboarding, step: Step, now: int) -> Onboarding:
    """Stay, and have OSL Pay asked: at once about a contrary claim, else at most once a minute."""
    if step.event in CLAIMS:
        return changed(
            _claimed(row, step), claim_resume=None, step_at=now, doubted_at=row.doubted_at or now, ask_at=None
        )
    if row.share_sent_at is None:
        return row
    if row.lane is Lane.POLL and row.lease_until is not None and row.lease_until > now:
        # What is being asked may have been answered before this came: it does not count, and is asked again after it.
        again_at = row.ask_at if row.ask_at is not None and row.ask_at > now else now + context.timings.ask_every
        return changed(row, ask_at=again_at)
    earliest = max(now, (row.asked_at or 0) + context.timings.ask_every)
    if row.state in WAITING:
        if row.step_at is not None and row.step_at <= earliest:
            return row
        return changed(row, step_at=earliest, asked_at=earliest)
    return changed(row, ask_at=min(row.ask_at or earliest, earliest))


def _with_step_due(context: Context, row: Onboarding, now: int) -> Onboarding:
    row = changed(row, step_at=_step_at(context, row, now))
    if row.ask_at is not None and row.state in WAITING:
        return changed(row, step_at=min(row.step_at or row.ask_at, row.ask_at), ask_at=None, asked_at=row.ask_at)
    return row


def _step_at(context: Context, row: Onboarding, now: int) -> int | None:
    if row.state in (State.UPLOADING, State.SHARING, State.CONFIRMING):
        return now
    if row.state in WAITING:
        return now + context.rules.patience_ms
    if row.state is State.COLLECTING and context.rules.collect_ttl_ms:
        return now + context.rules.collect_ttl_ms
    return None


def _scheduled(row: Onboarding) -> Onboarding:
    """`lane` and `due_at` from what waits: the state's own step, a claim, or a question about a doubt."""
    lane = _LANES.get(row.state)
    if lane is None and row.claim is not None and row.state in SETTLED:
        lane = Lane.CONFIRM
    if lane is None and row.state is State.COLLECTING and row.step_at is not None:
        lane = Lane.LOCAL
    due_at = row.step_at if lane is not None else None
    if row.ask_at is not None and lane in (None, Lane.LOCAL) and (due_at is None or row.ask_at < due_at):
        lane, due_at = Lane.POLL, row.ask_at
    return changed(row, lane=lane if due_at is not None else None, due_at=due_at)


def _sealed_reason(context: Context, row: Onboarding, reason: str) -> bytes | None:
    if not reason:
        return None
    email, profile = context.identity(row)
    telling = {
        name: value
        for name, value in profile.items()
        if name not in TELLS_NOBODY and not (len(value) <= _WORDLESS and value.isascii())
    }
    return context.seal_json(masked(reason, {**telling, "email": email}), "onboardings", row.id, "reason")


def _sealed_error(context: Context, row: Onboarding, failure: Failure, now: int) -> bytes:
    email, profile = context.identity(row)
    error = failure.error
    known = {**failure.also_secret, **profile, "email": email, "merchantUserId": row.merchant_user_id}
    value = {"provider": error.provider, "code": error.code, "message": masked(error.words, known), "at": now}
    return context.seal_json(value, "onboardings", row.id, "last_error")


def _reason(context: Context, row: Onboarding) -> str | None:
    text: str | None = context.open_json(row.reason_sealed, "onboardings", row.id, "reason")
    return text


def _only(values: Any) -> Any:
    return next((value for value in values if value is not None), None)
