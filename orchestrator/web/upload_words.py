"""What the end user's page says beside its questions: the shipped choices, and what became of a submission."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.machine import SETTLED, State
from orchestrator.records import Onboarding
from orchestrator.web.language import gettext as _


@dataclass(frozen=True)
class Outcome:
    """What became of a submission, for the end user. `tone`: its colour; `name`: changes when this page does."""

    name: str
    title: str
    text: str
    tone: str
    is_final: bool = False


def shows(row: Onboarding) -> str:
    """The name of what the page shows for this row: another name, another page."""
    return f"collecting-{row.round}" if row.state is State.COLLECTING else outcome(row.state).name


def outcome(state: State) -> Outcome:
    """What the end user is told once there is nothing to fill in."""
    if state in SETTLED or state is State.CANCELLED:
        return _ended(state)
    if state in (State.IN_REVIEW, State.NEEDS_ATTENTION):
        return Outcome(
            "reviewing",
            _("We are still checking your details"),
            _("This takes longer than usual. There is nothing for you to do now, and you can close this page."),
            "wait",
        )
    return Outcome(
        "checking",
        _("We are checking your details"),
        _("Everything has arrived, thank you. There is nothing for you to do now, and you can close this page."),
        "busy",
    )


def _ended(state: State) -> Outcome:
    if state is State.APPROVED:
        title, text = _("Your identity is confirmed"), _("You are all set. You can close this page.")
        return Outcome("approved", title, text, "good", is_final=True)
    if state is State.REJECTED:
        text = _("The check has ended and you cannot send anything again here.")
        return Outcome("rejected", _("Your identity could not be confirmed"), text, "bad", is_final=True)
    return Outcome(
        "cancelled", _("This check was ended"), _("Nothing more is needed from you."), "quiet", is_final=True
    )


def choice_words() -> Mapping[str, str]:
    """The choices of the shipped `dialects.toml`, as they are sent → as they are shown."""
    return {
        "Payments and purchases": _("Payments and purchases"),
        "Savings": _("Savings"),
        "Investment": _("Investment"),
        "Trading": _("Trading"),
        "Sending money abroad": _("Sending money abroad"),
        "Other": _("Other"),
        "Less than 1,000 USD": _("Less than 1,000 USD"),
        "1,000 to 5,000 USD": _("1,000 to 5,000 USD"),
        "5,000 to 20,000 USD": _("5,000 to 20,000 USD"),
        "20,000 to 100,000 USD": _("20,000 to 100,000 USD"),
        "More than 100,000 USD": _("More than 100,000 USD"),
        "Salary": _("Salary"),
        "Business income": _("Business income"),
        "Investments": _("Investments"),
        "Pension": _("Pension"),
        "Gift or inheritance": _("Gift or inheritance"),
        "Sale of property": _("Sale of property"),
        "Employed": _("Employed"),
        "Self-employed": _("Self-employed"),
        "Business owner": _("Business owner"),
        "Public servant": _("Public servant"),
        "Student": _("Student"),
        "Homemaker": _("Homemaker"),
        "Retired": _("Retired"),
        "Not working": _("Not working"),
    }
