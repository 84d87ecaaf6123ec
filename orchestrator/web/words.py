"""What the status pages call things: states, verdicts, actors, durations, times, what was done. Pure."""

from __future__ import annotations

from datetime import UTC, datetime

from markupsafe import Markup

from orchestrator.errors import Conflict, InvalidInput
from orchestrator.machine import Event, State
from orchestrator.records import DeliveryStatus, Verdict, iso

_ACTORS = {
    "worker": "the worker",
    "osl_pay": "OSL Pay",
    "user": "the user",
    "retention": "the time to keep things",
    "import": "an import",
    "restore": "a restore",
    "reseal": "new keys",
    "command_line": "the command line",
}

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

AGES = {
    "1h": "Within an hour",
    "1d": "Within a day",
    "7d": "Within 7 days",
    "30d": "Within 30 days",
    "over-1h": "Over an hour",
    "over-1d": "Over a day",
    "over-7d": "Over 7 days",
    "over-30d": "Over 30 days",
}
"""How long ago a list's onboardings began or changed."""

MOVES = {
    Event.CANCEL_ASKED: "the merchant or an operator cancels",
    Event.ERASED: "everything personal is erased on request",
    Event.ANSWERED_PASS: "OSL Pay is asked and says that the user passed",
}
"""What leads from many states to one, as a part of a sentence."""

DONE = {
    "retry": "It goes on where it stopped.",
    "cancel": "The onboarding was cancelled.",
    "resubmission": "The user is asked to submit again.",
    "link": "There is a new link, shown below; the old one no longer works.",
    "resend": "The notification is back in line.",
    "hurry": "The next step is taken now.",
}
"""Codes that a page's address may carry after something was done."""


def label(word: str) -> str:
    """`needs_attention` as `Needs attention`."""
    return word.replace("_", " ").capitalize()


def tone(word: str) -> str:
    """The badge's colour for a state, verdict or status."""
    return TONES.get(word, "quiet")


def who(actor: str) -> str:
    """Who did it: `operator:olga` as `operator olga`, parts of the service by what they are."""
    return _ACTORS.get(actor) or actor.replace(":", " ").replace("_", " ")


def span(ms: int) -> str:
    """A duration as `0.4 s`, `12 s`, `3 min`, `2 h 5 min` or `3 d 4 h`."""
    seconds = max(0, ms) / 1000
    if seconds < 60:
        return f"{seconds:.1f} s" if 0 < seconds < 1 else f"{seconds:.0f} s"
    minutes = int(seconds // 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"


def ago(ms: int) -> str:
    """A duration until now, to the minute: a page that is only looked at should not change every second."""
    return span(ms) if ms >= 60_000 else "less than a minute"


def with_code(text: str) -> Markup:
    """What stands between backquotes as code."""
    return marked(text, Markup("<code>{}</code>"))


def marked(text: str, form: Markup) -> Markup:
    """What stands between backquotes as `form` makes it."""
    return Markup("").join(form.format(part) if n % 2 else part for n, part in enumerate(text.split("`")))


def sentence(text: str) -> str:
    """With a capital at the beginning and a full stop at the end."""
    return f"{capital(text)}{'' if text[-1:] in '.!?' else '.'}"


def capital(text: str) -> str:
    """With a capital at the beginning, the rest as it is."""
    return f"{text[:1].upper()}{text[1:]}"


def problem(error: Conflict | InvalidInput) -> str:
    """Why something cannot be done, with the fields at fault."""
    if isinstance(error, InvalidInput) and error.errors:
        faults = "; ".join(f"{path} {said[0]}" for path, said in error.errors.items())
        return sentence(f"{error}: {faults}")
    return sentence(str(error))


def moment(ms: int | None, form: str = "%Y-%m-%d %H:%M:%S UTC") -> Markup:
    """Unix milliseconds as a `time` element in UTC; a dash for None."""
    if ms is None:
        return Markup("–")
    shown = datetime.fromtimestamp(ms / 1000, UTC).strftime(form)
    return Markup('<time datetime="{}">{}</time>').format(iso(ms), shown)


def minute(ms: int | None) -> Markup:
    """To the minute, as short as HTML lets a time in UTC be, for tables with many."""
    if ms is None:
        return Markup("–")
    return Markup("<time>{}</time>").format(datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%MZ"))


def size(count: int) -> str:
    """Bytes as `812 kB` or `4.9 MB`."""
    return f"{count / 1_000_000:.1f} MB" if count >= 1_000_000 else f"{max(1, count // 1000)} kB"
