"""What is measured: everything is read from the database when asked, so that any process gives the same answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orchestrator.health import ProviderHealth
from orchestrator.machine import Event, State
from orchestrator.onboarding import look
from orchestrator.onboarding.context import Context
from orchestrator.onboarding.measure import Took, calls
from orchestrator.records import DeliveryStatus, Lane, Operation, Refusal, Verdict


@dataclass(frozen=True)
class Figures:
    """The state of the whole installation in numbers; ages in ms.

    `due`: lane → steps that are due (10,000 at most are counted), and the age of the oldest. `verdicts`: how
    often each was given since the beginning; `refusals`: how often a webhook was turned away. `refused`: requests that
    the application never saw, by the status of the answer, those that ever happened. `transitions`: by event and the
    state that it led to, those that ever happened. `calls`: by operation and outcome. `oldest_failing`: since a step
    fails that has failed longest. `worker_age`: since a worker was last seen; None: never.
    """

    onboardings: Mapping[State, int]
    due: Mapping[Lane, tuple[int, int]]
    oldest_failing: int
    deliveries: Mapping[DeliveryStatus, int]
    oldest_delivery: int
    verdicts: Mapping[Verdict, int]
    refusals: Mapping[Refusal, int]
    refused: Mapping[int, int]
    transitions: Mapping[tuple[Event, State], int]
    calls: Mapping[tuple[Operation, str], Took]
    providers: Sequence[ProviderHealth]
    slots: int
    slots_in_use: Mapping[str, int]
    worker_age: int | None


def figures(context: Context) -> Figures:
    """All figures now. Costs a few reads of an index, however many onboardings there are."""
    context.tally.flush()
    now = context.now_ms()
    backlog = context.schedule.backlog(now)
    tallies = context.store.tallies()
    beat = look.last_beat(context)
    failing = [row.failing_since for row in context.status.failing(1)]
    return Figures(
        onboardings=look.counts(context),
        due=backlog.due,
        oldest_failing=max((now - since for since in failing if since is not None and since < now), default=0),
        deliveries={status: tallies.get(("deliveries", status), 0) for status in DeliveryStatus},
        oldest_delivery=backlog.oldest_delivery,
        verdicts={verdict: tallies.get(("verdicts", verdict), 0) for verdict in Verdict},
        refusals={refusal: tallies.get(("verdicts", refusal), 0) for refusal in Refusal},
        refused={int(word): number for (what, word), number in tallies.items() if what == "refused"},
        transitions=_transitions(tallies),
        calls=calls(tallies),
        providers=look.health(context),
        slots=backlog.slots,
        slots_in_use=backlog.slots_in_use,
        worker_age=None if beat is None else max(0, now - beat),
    )


def _transitions(tallies: Mapping[tuple[str, str], int]) -> dict[tuple[Event, State], int]:
    found = {}
    for (what, word), number in tallies.items():
        if what == "transitions":
            event, state = word.split(" ")
            found[Event(event), State(state)] = number
    return found
