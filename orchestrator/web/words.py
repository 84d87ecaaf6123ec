"""What the status pages call things: states, verdicts, what an onboarding waits for, what was done. Pure."""

from __future__ import annotations

from datetime import UTC, datetime

from markupsafe import Markup

from orchestrator.machine import State
from orchestrator.records import DeliveryStatus, Lane, Onboarding, Verdict
from orchestrator.web.schemas import iso

PROVIDERS = {"btse": "BTSE Pay", "osl": "OSL Pay"}

TONES: dict[str, str] = {
    State.COLLECTING: "open",
    State.UPLOADING: "busy",
    State.SHARING: "busy",
    State.AWAITING_CALLBACK: "wait",
    State.IN_REVIEW: "wait",
    State.CONFIRMING: "busy",
    State.APPROVED: "good",
    State.REJECTED: "bad",
    State.NEEDS_ATTENTION: "alert",
    State.CANCELLED: "quiet",
    State.EXPIRED: "quiet",
    Verdict.APPLIED: "good",
    Verdict.EARLY: "busy",
    Verdict.FORGED: "bad",
    Verdict.STALE: "alert",
    Verdict.CONTRADICTED: "alert",
    Verdict.UNADDRESSED: "alert",
    DeliveryStatus.PENDING: "busy",
    DeliveryStatus.DELIVERED: "good",
    DeliveryStatus.FAILED: "bad",
}
"""The colour of a badge; whatever is not here is `quiet`."""

WAITS = {
    State.COLLECTING: "The user or the merchant, to complete and submit",
    State.UPLOADING: "The upload to BTSE Pay",
    State.SHARING: "The share with OSL Pay",
    State.AWAITING_CALLBACK: "OSL Pay’s webhook",
    State.IN_REVIEW: "OSL Pay’s review",
    State.CONFIRMING: "OSL Pay’s answer to the status query",
    State.NEEDS_ATTENTION: "A person",
}
_DUE = {Lane.LOCAL: "Expires", Lane.POLL: "OSL Pay is asked", Lane.CONFIRM: "OSL Pay is asked"}

VERDICTS = {
    Verdict.APPLIED: "Believed and acted upon.",
    Verdict.DUPLICATE: "Came before; counted only.",
    Verdict.FORGED: "Contradicts what was already signed, so it was refused.",
    Verdict.IGNORED: "Changes nothing here.",
    Verdict.STALE: "Its timestamp is too far from now; OSL Pay is asked instead.",
    Verdict.OUTDATED: "Belongs to an earlier round; OSL Pay is asked instead.",
    Verdict.SUPERSEDED: "A newer one was believed.",
    Verdict.EARLY: "Came before the share’s answer and is kept until then.",
    Verdict.CONTRADICTED: "OSL Pay did not agree when it was asked.",
    Verdict.UNADDRESSED: "Came without the onboarding’s token; OSL Pay is asked instead.",
    Verdict.ORPHAN: "Matches no onboarding.",
}

DONE = {
    "retry": "It goes on where it stopped.",
    "cancel": "The onboarding was cancelled.",
    "resubmission": "The user is asked to submit again.",
    "link": "There is a new link, shown below; the old one no longer works.",
    "resend": "The notification is back in line.",
}
"""Codes that a page's address may carry after something was done."""


def label(word: str) -> str:
    """`needs_attention` as `Needs attention`."""
    return word.replace("_", " ").capitalize()


def tone(word: str) -> str:
    """The badge's colour for a state, verdict or status."""
    return TONES.get(word, "quiet")


def waits_for(row: Onboarding) -> str:
    """What must happen before anything else does."""
    if row.claim is not None and row.state not in WAITS:
        return "OSL Pay’s answer about a contrary claim"
    return WAITS.get(row.state, "Nothing")


def due_words(row: Onboarding) -> str:
    """What happens at `due_at`."""
    return _DUE.get(row.lane, "Next attempt") if row.lane else ""


def moment(ms: int | None, form: str = "%Y-%m-%d %H:%M:%S UTC") -> Markup:
    """Unix milliseconds as a `time` element in UTC; a dash for None."""
    if ms is None:
        return Markup("–")
    shown = datetime.fromtimestamp(ms / 1000, UTC).strftime(form)
    return Markup('<time datetime="{}">{}</time>').format(iso(ms), shown)


def minute(ms: int | None) -> Markup:
    """Like `moment`, to the minute, for tables whose heading says UTC."""
    return moment(ms, "%Y-%m-%d %H:%M")


def size(count: int) -> str:
    """Bytes as `812 kB` or `4.9 MB`."""
    return f"{count / 1_000_000:.1f} MB" if count >= 1_000_000 else f"{max(1, count // 1000)} kB"
