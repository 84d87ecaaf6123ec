"""What an onboarding waits for, what happens next by itself and when, what is wrong, and what is safe to do. Pure.

Everything is concluded from the row, its last error, what is known of providers and workers, and `now`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestrator.errors import Kind
from orchestrator.health import ProviderHealth
from orchestrator.machine import CLOSED, SETTLED, WAITING, CellKind, Event, State, next_move
from orchestrator.onboarding.files import UNREADABLE
from orchestrator.onboarding.work import TOO_LATE
from orchestrator.providers.answers import NOTABLE_SKEW_MS
from orchestrator.records import Callback, Delivery, DeliveryStatus, Lane, Onboarding, ShareOutcome, Transition, Verdict

PROVIDERS = {"btse": "BTSE Pay", "osl": "OSL Pay"}
WAITS = {
    State.COLLECTING: "the user or the merchant, to complete and submit",
    State.UPLOADING: "the upload to BTSE Pay",
    State.SHARING: "the share with OSL Pay",
    State.AWAITING_CALLBACK: "OSL Pay’s webhook",
    State.IN_REVIEW: "OSL Pay’s review",
    State.CONFIRMING: "OSL Pay’s answer to the status query",
    State.NEEDS_ATTENTION: "a person",
}
_TRIES = {
    State.UPLOADING: "The upload to BTSE Pay is tried",
    State.SHARING: "The share with OSL Pay goes on",
    State.CONFIRMING: "OSL Pay is asked whether it agrees",
}
_FIELDS = {
    "firstName": "first name",
    "lastName": "last name",
    "idNumber": "document’s number",
    "idType": "kind of document",
    "idExpiry": "document’s expiry date",
    "dob": "date of birth",
    "nationality": "nationality",
    "residentialCountry": "country of residence",
    "accountPurpose": "purpose of the account",
    "monthSpend": "monthly spending",
    "sourceFunds": "source of funds",
    "occupation": "occupation",
    "frontFileUrl": "photo of the document’s front",
    "idFileFront": "photo of the document’s front",
    "backFileUrl": "photo of the document’s back",
    "idFileBack": "photo of the document’s back",
    "selfieFileUrl": "selfie",
    "selfie": "selfie",
}
"""What users call the fields that a provider's words may name."""
_OURS = {
    UNREADABLE: (
        "A document of this user cannot be read",
        "Look at the folder or bucket of documents and the encryption keys: `orchestrator doctor`.",
    ),
    TOO_LATE: (
        "This machine was too slow to begin the call in time",
        "Look at the load of this machine and of the database.",
    ),
}
"""Failures that are no provider's fault, by their code: what is wrong, and what helps."""


@dataclass(frozen=True)
class Circumstances:
    """What is known around an onboarding. Times in ms; `silent_after`: a worker not seen for longer is silent.

    `error`: the last error, opened; `patience`: how long a webhook is waited for; `missing`: what is lacking to submit;
    `retained`: how long documents and profile are kept after the end, 0 for ever.
    """

    now: int
    transitions: Sequence[Transition] = ()
    callbacks: Sequence[Callback] = ()
    deliveries: Sequence[Delivery] = ()
    health: Mapping[str, ProviderHealth] = field(default_factory=dict)
    beat: int | None = None
    silent_after: int = 30_000
    error: Mapping[str, Any] | None = None
    missing: Sequence[str] = ()
    patience: int = 3_600_000
    retained: tuple[int, int] = (0, 0)
    has_documents: bool = False


@dataclass(frozen=True)
class Action:
    """The one safe button. `name`: retry, resubmission, hurry, resend or look. `of`: the delivery that is resent.

    `reason`: what the user would be told, to be edited before it is sent.
    """

    name: str
    label: str
    reason: str = ""
    of: str = ""


@dataclass(frozen=True)
class Cause:
    """What is likely wrong, since when (ms) if known, and what helps. `words`: what a provider said, for operators."""

    text: str
    since: int | None = None
    advice: str = ""
    words: str = ""


@dataclass(frozen=True)
class Outlook:
    """What now. `then`: what happens next by itself, at `at` (ms; None: no time is set)."""

    waits: str
    since: int
    then: str
    at: int | None
    cause: Cause | None = None
    action: Action | None = None


def waits_for(row: Onboarding) -> str:
    """What must happen before anything else does, as the rest of a sentence."""
    if row.claim is not None and row.state not in WAITS:
        return "OSL Pay’s answer about a contrary claim"
    return WAITS.get(row.state, "nothing")


def due_words(row: Onboarding) -> str:
    """What happens at `due_at`."""
    if row.lane is None:
        return ""
    if row.lane is Lane.LOCAL:
        return "Expires"
    return "OSL Pay is asked" if row.lane in (Lane.POLL, Lane.CONFIRM) else "Next attempt"


def since(row: Onboarding, transitions: Sequence[Transition]) -> int:
    """When the present state and round were entered (ms)."""
    entered = [step.at for step in transitions if step.from_state is not step.to_state or step.round != row.round]
    first_of_round = [step.at for step in transitions if step.round == row.round][:1]
    return max([*entered, *first_of_round, row.created_at])


def hurry_refused(row: Onboarding, now: int) -> str | None:
    """Why the next step cannot be taken at once; None: it can, and does no harm."""
    kind = next_move(row.state, Event.HURRIED, None).kind
    if kind is CellKind.REFUSE:
        return f"this is not possible while the onboarding is {row.state}"
    if row.state is State.SHARING and row.share is ShareOutcome.LOST:
        return "whether the share arrived is asked at fixed times, so that it is never sent twice for nothing"
    if row.contradictions or (row.claim is not None and row.state in SETTLED):
        return "OSL Pay is asked about a claim at fixed times, which are on this page"
    if kind is CellKind.ASK and row.state not in WAITING and row.share_sent_at is None:
        return "OSL Pay does not know this user yet"
    if row.due_at is not None and row.due_at <= now:
        return "it is due already: the worker takes it next"
    return None


def outlook(row: Onboarding, around: Circumstances) -> Outlook:
    """What now, for one onboarding."""
    cause, action = _trouble(row, around)
    then, at = _then(row, around)
    waits = waits_for(row)
    if _no_worker(row, around):
        waits = "a worker"
        then = "It goes on by itself as soon as a worker runs; its next step is due since"
        if row.due_at is not None and row.due_at > around.now:
            then = "Its next step is due, and is taken if a worker runs by then"
        at = row.due_at
    return Outlook(waits, since(row, around.transitions), then, at, cause, action)


def _trouble(row: Onboarding, around: Circumstances) -> tuple[Cause | None, Action | None]:
    """The first that applies, the most general first."""
    for look in (
        _worker_silent,
        _provider_unhealthy,
        _parked,
        _failing,
        _share_lost,
        _contradicted,
        _doubted,
        _forged,
        _webhook_missing,
        _merchant_not_told,
    ):
        cause, action = look(row, around)
        if cause is not None:
            return cause, action
    return None, None


def _hurry(row: Onboarding, around: Circumstances, label: str) -> Action | None:
    if row.due_at is not None and row.due_at <= around.now:
        return Action("look", "Look again")  # the worker takes it in a moment
    return Action("hurry", label) if hurry_refused(row, around.now) is None else None


def _no_worker(row: Onboarding, around: Circumstances) -> bool:
    silent = around.beat is None or around.now - around.beat > around.silent_after
    return silent and row.lane not in (None, Lane.LOCAL)


def _worker_silent(row: Onboarding, around: Circumstances) -> tuple[Cause | None, Action | None]:
    if not _no_worker(row, around):
        return None, None
    advice = "Start `orchestrator serve`, or where the web part already runs `orchestrator worker`."
    return Cause("No worker is running: nothing goes out", around.beat, advice), Action("look", "Look again")


def _provider_unhealthy(row: Onboarding, around: Circumstances) -> tuple[Cause | None, Action | None]:
    name = _provider(row)
    health = around.health.get(name)
    if health is None or health.unhealthy_since is None:
        return None, None
    text = f"{PROVIDERS[name]} lets nobody in, whoever the user is ({health.last_failure or 'unauthorized'})"
    return Cause(text, health.unhealthy_since, _let_in(name, health), _words(around)), _hurry(row, around, "Try it now")


def _provider(row: Onboarding) -> str:
    if row.lane is Lane.UPLOAD:
        return "btse"
    return "" if row.lane in (None, Lane.LOCAL) else "osl"


def _let_in(name: str, health: ProviderHealth | None) -> str:
    keys = "API key and secret" if name == "btse" else "appId and private key"
    skew = ""
    if health is not None and health.skew_ms is not None and abs(health.skew_ms) > NOTABLE_SKEW_MS:
        skew = f" Its clock is {health.skew_ms / 1000:+.0f} s from ours: check this machine’s first."
    return (
        f"Check base URL, {keys}, and that this machine’s address is on {PROVIDERS[name]}’s list: "
        f"`orchestrator doctor` says which it is.{skew}"
    )


def _words(around: Circumstances) -> str:
    return str(around.error.get("message") or "") if around.error else ""


def _parked(row: Onboarding, around: Circumstances) -> tuple[Cause | None, Action | None]:
    if row.state is not State.NEEDS_ATTENTION:
        return None, None
    entered = since(row, around.transitions)
    by = next((step for step in reversed(around.transitions) if step.from_state is not step.to_state), None)
    detail = by.detail if by is not None else ""
    retry = Action("retry", "Retry")
    if around.missing:
        retry = Action("resubmission", "Ask the user to submit again", _reason(around))
    if by is not None and by.event is Event.ANSWERED_REJECT_AGAIN:
        text = "OSL Pay rejects the user and sent no webhook that says whether for good"
        return Cause(text, entered, "Ask for resubmission, or cancel."), _ask_again(around)
    if "two shares were lost" in detail:
        text = "Two answers to the share were lost: nobody knows whether OSL Pay has it"
        advice = "A retry only asks OSL Pay again; it sends no third share."
        return Cause(text, entered, advice), retry
    name = PROVIDERS.get(str((around.error or {}).get("provider")), "A provider")
    code = (around.error or {}).get("code")
    said = f" ({code})" if code else ""
    if f": {Kind.REFUSED}" in detail:
        text, advice = f"{name} refused what it was sent{said}", "Its words name the field or the file."
        if row.changed:
            advice += " Something was changed since: a retry sends it anew."
            return Cause(text, entered, advice, _words(around)), retry
        return Cause(text, entered, f"{advice} A retry would send the same again.", _words(around)), _ask_again(around)
    if f": {Kind.UNAUTHORIZED}" in detail:
        text = f"{name} does not let this user in{said}, while it lets in others"
        return Cause(text, entered, f"Ask {name} about this user, then retry.", _words(around)), retry
    if "retried for too long" in detail:
        here = next((told for ours, told in _OURS.items() if f"({ours})" in detail), None)
        text, advice = here or (f"{name} could not be used", "Retry when it is back: it goes on where it stopped.")
        advice += " Then retry: it goes on where it stopped." if here else ""
        return Cause(f"{text} for so long that a person is asked{said}", entered, advice, _words(around)), retry
    text = "It stopped, and a person is asked" if around.error is None else f"{name} did not take it{said}"
    return Cause(text, entered, "The end of the timeline says why.", _words(around)), retry


def _ask_again(around: Circumstances) -> Action:
    return Action("resubmission", "Ask the user to submit again", _reason(around))


def _reason(around: Circumstances) -> str:
    """What to tell the user: the fields that the provider's words name, in plain words."""
    words = _words(around)
    named = [plain for name, plain in _FIELDS.items() if re.search(rf"\b{name}\b", words)]
    what = ", ".join(f"your {plain}" for plain in dict.fromkeys(named)) or "your details and photos"
    return f"Please check {what} and submit again."


def _failing(row: Onboarding, around: Circumstances) -> tuple[Cause | None, Action | None]:
    if not (row.attempts or row.unauthorized):
        return None, None
    error = around.error or {"provider": _provider(row), "code": "its words are no longer kept"}
    name, code = str(error["provider"]), error["code"]
    shown = PROVIDERS.get(name, name)
    button = _hurry(row, around, "Ask OSL Pay now" if row.state in WAITING else "Try it now")
    if row.unauthorized and code not in _OURS:
        text = f"{shown} does not let this installation in ({code})"
        return Cause(text, error.get("at"), _let_in(name, around.health.get(name)), _words(around)), button
    calm = "Nothing is lost: it is tried again and again, with growing waits, before a person is asked."
    text, advice = _OURS.get(code, (f"{shown} could not be used", calm))
    text += f" ({code}), {_times(row.attempts, ' in a row')}"
    return Cause(text, row.failing_since, advice, _words(around)), button


def _times(number: int, more: str = "") -> str:
    return "once" if number <= 1 else f"{number} times{more}"


def _share_lost(row: Onboarding, around: Circumstances) -> tuple[Cause | None, Action | None]:
    if row.state is not State.SHARING or row.share is not ShareOutcome.LOST:
        return None, None
    text = "The answer to the share was lost: it may have arrived"
    return Cause(text, row.share_sent_at, "OSL Pay is asked before anything is sent again.", _words(around)), None


def _contradicted(row: Onboarding, around: Circumstances) -> tuple[Cause | None, Action | None]:
    del around
    if not row.contradictions:
        return None, None
    text = f"OSL Pay answered {_times(row.contradictions)} otherwise than its webhook said"
    return Cause(text, row.contradicted_at, "Nobody is approved or rejected before the two agree."), None


def _doubted(row: Onboarding, around: Circumstances) -> tuple[Cause | None, Action | None]:
    del around
    if row.doubted_at is None:
        return None, None
    text = f"A webhook claims otherwise than {row.state}"
    return Cause(text, row.doubted_at, "It stays as it is unless OSL Pay agrees with that webhook."), None


def _forged(row: Onboarding, around: Circumstances) -> tuple[Cause | None, Action | None]:
    forged = [item for item in around.callbacks if item.verdict is Verdict.FORGED and item.round == row.round]
    if not forged or row.state in CLOSED | SETTLED:
        return None, None
    last = forged[-1]
    text = f"A webhook that says {last.kyc_status or last.type} was refused as forged: nobody believed it"
    advice = (
        "Its headers were signed for another body or another user. OSL Pay itself is asked, and only its answer counts."
    )
    return Cause(text, last.received_at, advice), _hurry(row, around, "Ask OSL Pay now")


def _webhook_missing(row: Onboarding, around: Circumstances) -> tuple[Cause | None, Action | None]:
    entered = since(row, around.transitions)
    if row.state is not State.AWAITING_CALLBACK or around.now - entered <= around.patience:
        return None, None
    text = "OSL Pay has sent no webhook: it was lost on its way, or OSL Pay is not done yet"
    advice = "If others lack theirs too, check that OSL Pay can reach `ORCHESTRATOR_PUBLIC_URL` at /callbacks/oslpay."
    return Cause(text, entered, advice), _hurry(row, around, "Ask OSL Pay now")


def _merchant_not_told(row: Onboarding, around: Circumstances) -> tuple[Cause | None, Action | None]:
    del row
    failed = [item for item in around.deliveries if item.status is DeliveryStatus.FAILED and item.body_sealed]
    if not failed:
        return None, None
    text = f"The merchant could not be told {failed[-1].type} ({failed[-1].last_error or 'failed'})"
    action = Action("resend", "Tell the merchant again", of=failed[-1].id)
    return Cause(text, failed[-1].created_at, "Mend the receiver first."), action


def _then(row: Onboarding, around: Circumstances) -> tuple[str, int | None]:
    """What happens next by itself, and when."""
    health = around.health.get(_provider(row))
    if health is not None and health.unhealthy_since is not None:
        name = PROVIDERS[health.name]
        return f"{name} is tried once a minute; when it lets one in, everybody goes on. Next try", health.next_probe_at
    if row.lane is None:
        return _after_the_end(row, around)
    if row.lane is Lane.LOCAL:
        return "It expires unless it is submitted", row.due_at
    if row.state is State.SHARING and row.share is ShareOutcome.LOST:
        return "OSL Pay is asked whether the share arrived", row.due_at
    if row.state in _TRIES:
        again = " again" if row.attempts or row.unauthorized or row.contradictions else ""
        return f"{_TRIES[row.state]}{again}", row.due_at
    return "OSL Pay is asked", row.due_at


def _after_the_end(row: Onboarding, around: Circumstances) -> tuple[str, int | None]:
    ended = row.closed_at or row.settled_at
    documents, profile = around.retained
    if ended is None:
        if row.state is State.NEEDS_ATTENTION:
            return "Nothing happens by itself, unless a webhook of OSL Pay’s comes", None
        return "Nothing happens by itself", None
    if documents and around.has_documents:
        return "Its documents are deleted", ended + documents
    if profile and row.profile_deleted_at is None:
        return "Its personal data is deleted", ended + profile
    return "Nothing more happens", None
