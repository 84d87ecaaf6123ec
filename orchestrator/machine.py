"""The state machine: states, events and one total table over both. Pure.

The code asks `next_move`, the docs draw `TABLE`, the tests enumerate it. A cell says what an event does to an
onboarding in a state; which event a fact is (a submit with or without edits, an answer that agrees with a claim
or not) is decided by the service before it comes here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Self


class _Explained(StrEnum):
    meaning: str

    def __new__(cls, value: str, meaning: str = "") -> Self:
        member = str.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member


class State(_Explained):
    """Where an onboarding is."""

    COLLECTING = "collecting", "Profile and documents are being collected, until they are submitted."
    UPLOADING = "uploading", "The documents go to BTSE Pay."
    SHARING = "sharing", "The documents and the profile go to OSL Pay."
    AWAITING_CALLBACK = "awaiting_callback", "OSL Pay has the share; its webhook is awaited."
    IN_REVIEW = "in_review", "OSL Pay reviews by hand; its next webhook is awaited."
    CONFIRMING = "confirming", "A webhook claims an outcome; OSL Pay's status query must agree."
    APPROVED = "approved", "OSL Pay passed the user."
    REJECTED = "rejected", "OSL Pay rejected the user for good."
    NEEDS_ATTENTION = "needs_attention", "A person must look: retry, ask for resubmission or cancel."
    CANCELLED = "cancelled", "Given up by the merchant or an operator."
    EXPIRED = "expired", "Never submitted in the time allowed."


class Event(_Explained):
    """What can happen to an onboarding."""

    SIGNED_UP = "signed_up", "The merchant's signup arrived."
    EDITED = "edited", "The profile or a document changed."
    SUBMITTED = "submitted", "Everything needed is there and was submitted, with edits since the last upload."
    SUBMITTED_UNCHANGED = "submitted_unchanged", "Submitted again without edits while no share had arrived."
    SUBMITTED_AGAIN = "submitted_again", "Submitted after this round's share had arrived: the next round."
    RETRIED = "retried", "An operator asked to go on where it stopped."
    RETRIED_CHANGED = "retried_changed", "An operator asked to go on; profile or documents changed meanwhile."
    RESUBMISSION_ASKED = "resubmission_asked", "An operator asked the user to submit again."
    CANCEL_ASKED = "cancel_asked", "The merchant or an operator cancelled."
    HURRIED = "hurried", "An operator asked to take the next step at once."
    REVEALED = "revealed", "An operator looked at the personal data."
    TIME_RAN_OUT = "time_ran_out", "The time to submit is over."
    RESTORED = "restored", "A backup was restored; what was sent since is asked for first."
    ERASED = "erased", "All personal data was erased on request."
    DOCUMENTS_DELETED = "documents_deleted", "The time to keep documents is over; they were deleted."
    PROFILE_DELETED = "profile_deleted", "The time to keep profile and webhook bodies is over; they were deleted."

    UPLOADED = "uploaded", "BTSE Pay has the documents."
    FILE_UPLOADED = "file_uploaded", "OSL Pay has one document and gave its URL."
    SHARE_INTENDED = "share_intended", "The intent to share is on record; the call comes next."
    SHARED = "shared", "OSL Pay answered that it has the share."
    SHARE_LOST = "share_lost", "The share's answer is lost; OSL Pay will be asked whether it arrived."
    SHARE_FOUND = "share_found", "The share whose answer was lost did arrive."
    SHARE_UNPROVEN = "share_unproven", "No proof that the share arrived; it is sent once more."
    STEP_FAILED = "step_failed", "A provider could not be used for now; the step will be tried again."
    GAVE_UP = "gave_up", "A provider refused for good, or the time for retries is over."

    CALLBACK_PROCESS = "callback_process", "A webhook says that OSL Pay works on it."
    CALLBACK_REVIEW = "callback_review", "A webhook says that OSL Pay reviews by hand."
    CALLBACK_PASS = "callback_pass", "A webhook claims that the user passed."
    CALLBACK_REJECT = "callback_reject", "A webhook claims that the user may submit again."
    CALLBACK_FINAL_REJECT = "callback_final_reject", "A webhook claims that the user was rejected for good."
    CALLBACK_DOUBTED = "callback_doubted", "A signed webhook that is not believed."

    ANSWERED_PASS = "answered_pass", "Asked without a claim, OSL Pay says that the user passed."
    ANSWERED_REVIEW = "answered_review", "Asked without a claim, OSL Pay says that it reviews."
    ANSWERED_OPEN = "answered_open", "Asked without a claim, OSL Pay has nothing new."
    ANSWERED_REJECT = "answered_reject", "Asked without a claim, OSL Pay says rejected: for now or for good?"
    ANSWERED_REJECT_AGAIN = "answered_reject_again", "Two polls in a row say rejected and no webhook came."
    ANSWERED_FINAL_REJECT = "answered_final_reject", "Asked without a claim, OSL Pay says rejected for good."

    CONFIRMED_PASS = "confirmed_pass", "OSL Pay agrees: passed."
    CONFIRMED_REJECT = "confirmed_reject", "OSL Pay agrees: the user may submit again."
    CONFIRMED_FINAL_REJECT = "confirmed_final_reject", "OSL Pay agrees: rejected for good."
    UNCONFIRMED = "unconfirmed", "OSL Pay does not agree yet; it is asked again."
    CONTRADICTED = "contradicted", "OSL Pay did not agree when asked for the last time."


class CellKind(StrEnum):
    """What an event does in a state."""

    MOVE = "move"
    RESUME = "resume"
    ASK = "ask"
    KEEP = "keep"
    IGNORE = "ignore"
    REFUSE = "refuse"


@dataclass(frozen=True)
class Cell:
    """One cell of the table. `to` is set for MOVE alone; `next_round` counts the round up."""

    kind: CellKind
    to: State | None = None
    next_round: bool = False


SETTLED = frozenset({State.APPROVED, State.REJECTED})
CLOSED = frozenset({State.CANCELLED, State.EXPIRED})
OPEN = frozenset(State) - SETTLED - CLOSED
EDITABLE = frozenset({State.COLLECTING, State.NEEDS_ATTENTION})
WAITING = frozenset({State.AWAITING_CALLBACK, State.IN_REVIEW})
"""OSL Pay has the share and decides; it is asked when no webhook comes."""
CLAIMS = frozenset({Event.CALLBACK_PASS, Event.CALLBACK_REJECT, Event.CALLBACK_FINAL_REJECT})
SUBMITS = frozenset({Event.SUBMITTED, Event.SUBMITTED_UNCHANGED, Event.SUBMITTED_AGAIN})
"""Events after which the merchant is told `onboarding.submitted`."""
UNRECORDED = frozenset({Event.STEP_FAILED, Event.ANSWERED_OPEN, Event.UNCONFIRMED, Event.SIGNED_UP})
"""Events that leave no transition when the state stays: they repeat as long as a provider is down or silent."""

ASK, KEEP, IGNORE, REFUSE = (Cell(kind) for kind in (CellKind.ASK, CellKind.KEEP, CellKind.IGNORE, CellKind.REFUSE))
RESUME = Cell(CellKind.RESUME)


def _to(state: State) -> Cell:
    return Cell(CellKind.MOVE, state)


def _next_round(state: State) -> Cell:
    return Cell(CellKind.MOVE, state, next_round=True)


def _row(default: Cell | None, cells: dict[State, Cell], **groups: Cell) -> dict[State, Cell]:
    """One event's cells over all states. `default` None: the state stays. Groups: `closed`, `settled`."""
    row = {state: default or _to(state) for state in State}
    for name, members in (("settled", SETTLED), ("closed", CLOSED)):
        if name in groups:
            row |= dict.fromkeys(members, groups[name])
    return row | cells


S = State
_STAYS_UNTIL_SETTLED = {"settled": IGNORE, "closed": IGNORE}
_KEPT = {S.UPLOADING: KEEP, S.SHARING: KEEP, S.COLLECTING: IGNORE}
_CLAIMED = {state: _to(S.CONFIRMING) for state in (*WAITING, S.CONFIRMING)} | {S.NEEDS_ATTENTION: _to(S.CONFIRMING)}
_CLOSED_STAYS = {state: _to(state) for state in (S.CANCELLED, S.EXPIRED)}
"""An answer that comes after the end is on record all the same, as a transition to itself."""

TABLE: dict[Event, dict[State, Cell]] = {
    Event.SIGNED_UP: _row(IGNORE, {}),
    Event.EDITED: _row(REFUSE, {state: _to(state) for state in EDITABLE}),
    Event.SUBMITTED: _row(REFUSE, dict.fromkeys(EDITABLE, _to(S.UPLOADING))),
    Event.SUBMITTED_UNCHANGED: _row(REFUSE, {S.COLLECTING: _to(S.UPLOADING), S.NEEDS_ATTENTION: RESUME}),
    Event.SUBMITTED_AGAIN: _row(REFUSE, {S.NEEDS_ATTENTION: _next_round(S.UPLOADING)}),
    Event.RETRIED: _row(REFUSE, {S.NEEDS_ATTENTION: RESUME}),
    Event.RETRIED_CHANGED: _row(REFUSE, {S.NEEDS_ATTENTION: _to(S.UPLOADING)}),
    Event.RESUBMISSION_ASKED: _row(REFUSE, dict.fromkeys((S.NEEDS_ATTENTION, *WAITING), _next_round(S.COLLECTING))),
    Event.CANCEL_ASKED: _row(_to(S.CANCELLED), {}, settled=REFUSE, closed=REFUSE),
    Event.HURRIED: _row(
        ASK,
        {state: _to(state) for state in (S.UPLOADING, S.SHARING, S.CONFIRMING)} | {S.COLLECTING: REFUSE},
        closed=REFUSE,
    ),
    Event.REVEALED: _row(None, {}),
    Event.TIME_RAN_OUT: _row(IGNORE, {S.COLLECTING: _to(S.EXPIRED)}),
    Event.RESTORED: _row(None, {}, settled=IGNORE, closed=IGNORE),
    Event.ERASED: _row(_to(S.CANCELLED), {state: _to(state) for state in SETTLED | CLOSED}),
    Event.DOCUMENTS_DELETED: _row(IGNORE, {state: _to(state) for state in SETTLED | CLOSED}),
    Event.PROFILE_DELETED: _row(IGNORE, {state: _to(state) for state in SETTLED | CLOSED}),
    # What a provider answered is recorded wherever the onboarding is by then.
    Event.UPLOADED: _row(None, {S.UPLOADING: _to(S.SHARING)}),
    Event.FILE_UPLOADED: _row(None, {}),
    Event.SHARE_INTENDED: _row(IGNORE, {S.SHARING: _to(S.SHARING)}),
    Event.SHARED: _row(None, {S.SHARING: _to(S.AWAITING_CALLBACK)}),
    Event.SHARE_LOST: _row(None, {}),
    Event.SHARE_FOUND: _row(None, {S.SHARING: _to(S.AWAITING_CALLBACK)}),
    Event.SHARE_UNPROVEN: _row(None, {}),
    Event.STEP_FAILED: _row(None, {}),
    Event.GAVE_UP: _row(None, dict.fromkeys((S.UPLOADING, S.SHARING, *WAITING, S.CONFIRMING), _to(S.NEEDS_ATTENTION))),
    Event.CALLBACK_PROCESS: _row(None, _KEPT | {S.CONFIRMING: IGNORE}, **_STAYS_UNTIL_SETTLED),
    Event.CALLBACK_REVIEW: _row(
        None,
        _KEPT | {S.CONFIRMING: IGNORE, S.AWAITING_CALLBACK: _to(S.IN_REVIEW), S.NEEDS_ATTENTION: _to(S.IN_REVIEW)},
        **_STAYS_UNTIL_SETTLED,
    ),
    Event.CALLBACK_PASS: _row(IGNORE, _KEPT | _CLAIMED | {S.REJECTED: ASK}),
    Event.CALLBACK_REJECT: _row(IGNORE, _KEPT | _CLAIMED | {S.REJECTED: ASK, S.APPROVED: ASK}),
    Event.CALLBACK_FINAL_REJECT: _row(IGNORE, _KEPT | _CLAIMED | {S.APPROVED: ASK}),
    Event.CALLBACK_DOUBTED: _row(ASK, {}, closed=IGNORE),
    Event.ANSWERED_PASS: _row(_to(S.APPROVED), _CLOSED_STAYS | {S.CONFIRMING: IGNORE, S.APPROVED: IGNORE}),
    Event.ANSWERED_REVIEW: _row(IGNORE, _CLOSED_STAYS | dict.fromkeys(WAITING, _to(S.IN_REVIEW))),
    Event.ANSWERED_OPEN: _row(IGNORE, _CLOSED_STAYS | {state: _to(state) for state in WAITING}),
    Event.ANSWERED_REJECT: _row(IGNORE, _CLOSED_STAYS | {state: _to(state) for state in WAITING}),
    Event.ANSWERED_REJECT_AGAIN: _row(IGNORE, _CLOSED_STAYS | dict.fromkeys(WAITING, _to(S.NEEDS_ATTENTION))),
    Event.ANSWERED_FINAL_REJECT: _row(IGNORE, _CLOSED_STAYS | dict.fromkeys(WAITING, _to(S.REJECTED))),
    Event.CONFIRMED_PASS: _row(IGNORE, dict.fromkeys((S.CONFIRMING, S.REJECTED), _to(S.APPROVED))),
    Event.CONFIRMED_REJECT: _row(
        IGNORE, dict.fromkeys((S.CONFIRMING, S.APPROVED, S.REJECTED), _next_round(S.COLLECTING))
    ),
    Event.CONFIRMED_FINAL_REJECT: _row(IGNORE, dict.fromkeys((S.CONFIRMING, S.APPROVED), _to(S.REJECTED))),
    Event.UNCONFIRMED: _row(IGNORE, {state: _to(state) for state in (S.CONFIRMING, S.APPROVED, S.REJECTED)}),
    Event.CONTRADICTED: _row(IGNORE, {S.CONFIRMING: RESUME, S.APPROVED: _to(S.APPROVED), S.REJECTED: _to(S.REJECTED)}),
}


@dataclass(frozen=True)
class Move:
    """What is to be done: the kind of cell, the state it leads to, and whether the round counts up."""

    kind: CellKind
    to: State
    next_round: bool = False


def next_move(state: State, event: Event, resume: State | None) -> Move:
    """The move for `event` in `state`. `resume`: where a RESUME cell leads from here; the state itself if None."""
    cell = TABLE[event][state]
    if cell.kind is CellKind.RESUME:
        return Move(cell.kind, resume or state)
    return Move(cell.kind, cell.to or state, cell.next_round)
