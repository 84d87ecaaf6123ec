"""What came in and what became of it, by hour and by day: what one change of a row counts. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from orchestrator.health import Outcome
from orchestrator.machine import SETTLED
from orchestrator.records import Onboarding

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
SPANS = {"hour": HOUR_MS, "day": DAY_MS}
WITHIN = (1, 5, 15, 60, 240, 1_440, 4_320)
"""Minutes from submit to settled: the upper ends of the histogram's bars, but the last."""
Key = tuple[str, int, str]


def of_change(before: Onboarding | None, after: Onboarding) -> Counter[Key]:
    """What a change of an onboarding counts: (span, its beginning in ms, what) → number."""
    counted: Counter[Key] = Counter()
    if before is None:
        counted += _at(after.created_at, "began")
    if after.settled_at is None or after.state not in SETTLED:
        return counted
    if before is None or (before.settled_at, before.state) != (after.settled_at, after.state):
        counted += _at(after.settled_at, after.state.value)
        if after.submitted_at is not None:
            took = took_word(after.settled_at - after.submitted_at)
            counted[("day", after.settled_at - after.settled_at % DAY_MS, took)] += 1
    return counted


def of_outcome(outcome: Outcome) -> Counter[Key]:
    """What a provider's answer counts, by the hour."""
    word = "worked" if outcome.failure is None else "failed"
    return Counter({("hour", outcome.at - outcome.at % HOUR_MS, f"{outcome.provider}:{word}"): 1})


def took_word(milliseconds: int) -> str:
    """The histogram's bar for a time from submit to settled."""
    return next((f"took:{minutes}" for minutes in WITHIN if milliseconds <= minutes * 60_000), "took:more")


def _at(moment: int, what: str) -> Mapping[Key, int]:
    return Counter({(span, moment - moment % length, what): 1 for span, length in SPANS.items()})
