"""The stories: what happens to a user, chosen by the local part of the email up to a `+`.

Pure data. A story is a list of webhooks for the first round and one for later rounds; `narrator` plays it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Gate(StrEnum):
    """How calls that name the user fare before anything else is looked at."""

    OPEN = "open"
    FLAKY = "flaky"
    """Every kind of call answers 503 twice, then works."""
    DOWN = "down"
    REFUSED = "refused"
    """BTSE Pay answers 400."""
    DECLINED = "declined"
    """OSL Pay answers 00002 to the share."""


@dataclass(frozen=True)
class Step:
    """One webhook.

    `says`: its kycStatus. `query`: what the status query says from its sending on; None: as before.
    `older_ms`: how much older its timestamp is than the one before (of the first: than now).
    `after_rejection`: it waits until the status query has answered REJECT. `again`: the one before is
    sent again, headers and body unchanged. `lags`: the query turns only `lag_seconds` later.
    """

    says: str
    query: str | None
    older_ms: int = 0
    after_rejection: bool = False
    again: bool = False
    lags: bool = False


@dataclass(frozen=True)
class Story:
    """A name, the webhooks of round 1 and of the rounds after it, and what else is special.

    `before_answer`: the first webhook is delivered before the share is answered. `query_after_share`: what
    the status query says once the share has been acted upon.
    """

    name: str
    steps: tuple[Step, ...]
    later_steps: tuple[Step, ...] | None = None
    gate: Gate = Gate.OPEN
    before_answer: bool = False
    query_after_share: str = "PROCESS"

    def steps_of_round(self, number: int) -> tuple[Step, ...]:
        """`number`: 1 for the first callback URL that the user was shared with, 2 for the next one."""
        return self.steps if number == 1 or self.later_steps is None else self.later_steps


TWO_HOURS_MS = 2 * 3600 * 1000

_PROCESS = Step("PROCESS", "PROCESS")
_PASS = Step("PASS", "PASS")
_REJECT = Step("REJECT", "REJECT")

_ALL = (
    Story("pass", (_PROCESS, _PASS)),
    Story("review", (Step("REVIEW", "PROCESS"), _PASS)),
    Story("reject", (_REJECT,), later_steps=(_PASS,)),
    Story("final", (Step("FINAL_REJECT", "REJECT"),)),
    Story("silent", (), query_after_share="PASS"),
    Story("early", (_PASS,), before_answer=True),
    Story("late", (Step("PASS", "PASS", older_ms=TWO_HOURS_MS),)),
    Story("lag", (Step("PASS", "PASS", lags=True),)),
    Story("duplicate", (_PASS, *[Step("PASS", None, again=True)] * 4)),
    Story("reorder", (_PASS, Step("PROCESS", None, older_ms=2000))),
    Story("overturn", (_REJECT, Step("PASS", "PASS", after_rejection=True)), later_steps=(_PASS,)),
    Story("forged", (Step("PASS", "REJECT"), Step("FINAL_REJECT", "REJECT", after_rejection=True))),
    Story("flaky", (_PROCESS, _PASS), gate=Gate.FLAKY),
    Story("down", (), gate=Gate.DOWN),
    Story("refused", (), gate=Gate.REFUSED),
    Story("declined", (), gate=Gate.DECLINED),
)

STORIES = {story.name: story for story in _ALL}


def story_of(email: str | None) -> Story:
    """The story that an email chooses; `pass` for any other local part and for no email."""
    name = (email or "").split("@", 1)[0].split("+", 1)[0].lower()
    return STORIES.get(name, STORIES["pass"])
