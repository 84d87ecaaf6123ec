"""Calls to others, measured: how many, how they ended, how long they took."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from orchestrator.errors import Kind, ProviderError
from orchestrator.onboarding.context import Context
from orchestrator.records import Operation

WORKED = "ok"
OUTCOMES = (WORKED, *Kind)
LIMITS_MS = (50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000)
"""Calls are counted by the smallest of these that they did not take longer than, or as longer than all."""
_LONGER, _SUM = "longer", "ms"
_PLACES = (*map(str, LIMITS_MS), _LONGER)
T = TypeVar("T")


@dataclass(frozen=True)
class Took:
    """How long calls took. `counts`: how many by each of LIMITS_MS, then those longer; `total_ms`: all in all."""

    counts: tuple[int, ...] = (0,) * len(_PLACES)
    total_ms: int = 0


def measured(context: Context, operation: Operation, call: Callable[[], T]) -> T:
    """What `call` gives or raises; it is counted."""
    started = context.now_ms()
    outcome = WORKED
    try:
        return call()
    except ProviderError as error:
        outcome = error.kind.value
        raise
    finally:
        took = max(0, context.now_ms() - started)
        context.tally.count("calls", f"{operation} {outcome} {_PLACES[bisect_left(LIMITS_MS, took)]}")
        context.tally.count("calls", f"{operation} {outcome} {_SUM}", took)


def calls(tallies: Mapping[tuple[str, str], int]) -> dict[tuple[Operation, str], Took]:
    """Every operation and outcome, from what was counted."""
    return {
        (operation, outcome): Took(
            tuple(tallies.get(("calls", f"{operation} {outcome} {place}"), 0) for place in _PLACES),
            tallies.get(("calls", f"{operation} {outcome} {_SUM}"), 0),
        )
        for operation in Operation
        for outcome in OUTCOMES
    }
