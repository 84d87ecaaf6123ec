"""The whole installation at a glance: counts, flow, health, what needs a person and what is stuck."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from orchestrator.health import ProviderHealth
from orchestrator.machine import State
from orchestrator.onboarding import look
from orchestrator.onboarding.context import DAY, HOUR, MINUTE, Context
from orchestrator.onboarding.listing import AGES
from orchestrator.onboarding.outlook import PROVIDERS
from orchestrator.records import Delivery, DeliveryStatus, Onboarding
from orchestrator.store.flow import WITHIN, took_word

HOURS, DAYS = 24, 30
_SHOWN = 5
_LOOKED_AT = 50
"""So many who are stuck are looked at of each kind; `_SHOWN` of them are named, and where the others are."""
_NO_WEBHOOK = "no webhook came"
_OVERDUE = 2 * MINUTE
"""A step that was due so long ago is not just waiting for its turn."""


@dataclass(frozen=True)
class Flow:
    """What came in and what was settled in the span of one hour or day that begins at `at` (ms)."""

    at: int
    began: int
    approved: int
    rejected: int


@dataclass(frozen=True)
class Provider:
    """A provider's health, its answers in the last 24 hours, and its requests in use of so many per second."""

    health: ProviderHealth
    worked: int
    failed: int
    in_use: int | None = None
    budget: int | None = None


@dataclass(frozen=True)
class Stuck:
    """An onboarding that does not go on: why, and since when (ms)."""

    onboarding: Onboarding
    why: str
    since: int


@dataclass(frozen=True)
class More:
    """Those who are stuck beyond what is shown: so many, or at least so many, in lists of (state, age)."""

    number: int
    at_least: bool
    lists: Sequence[tuple[State, str]]


@dataclass(frozen=True)
class Overview:
    """All that the overview shows. `took`: (bar, number) of 30 days, from fast to slow; `approved`: of 30 days."""

    counts: Mapping[State, int]
    hours: Sequence[Flow]
    days: Sequence[Flow]
    took: Sequence[tuple[str, int]]
    providers: Sequence[Provider]
    beat: int | None
    silent: bool
    warnings: Sequence[str]
    needs_person: Sequence[Onboarding]
    failed_deliveries: Sequence[Delivery]
    failed_delivery_count: int
    stuck: Sequence[Stuck]
    more_stuck: More

    def approval(self, flows: Sequence[Flow]) -> float | None:
        """The share of the settled that was approved; None if none was settled."""
        settled = sum(flow.approved + flow.rejected for flow in flows)
        return sum(flow.approved for flow in flows) / settled if settled else None


def overview(context: Context) -> Overview:
    """Everything now. Costs a few reads of an index, however many onboardings there are."""
    now = context.now_ms()
    hourly = context.status.flow("hour", _begin(now, HOUR, HOURS))
    daily = context.status.flow("day", _begin(now, DAY, DAYS))
    beat = look.last_beat(context)
    counts = look.counts(context)
    stuck, more_stuck = _stuck(context, now)
    return Overview(
        counts=counts,
        hours=_flows(hourly, now, HOUR, HOURS),
        days=_flows(daily, now, DAY, DAYS),
        took=_took(daily),
        providers=_providers(context, hourly, now),
        beat=beat,
        silent=beat is None or now - beat > context.timings.worker_silent,
        warnings=look.warnings(context),
        needs_person=context.status.longest_in(State.NEEDS_ATTENTION, _SHOWN),
        failed_deliveries=context.status.failed_deliveries(_SHOWN),
        failed_delivery_count=context.store.tallies().get(("deliveries", DeliveryStatus.FAILED), 0),
        stuck=stuck,
        more_stuck=more_stuck,
    )


def _begin(now: int, length: int, number: int) -> int:
    return now - now % length - (number - 1) * length


def _flows(counted: Mapping[tuple[int, str], int], now: int, length: int, number: int) -> list[Flow]:
    first = _begin(now, length, number)
    return [
        Flow(at, *(counted.get((at, what), 0) for what in ("began", "approved", "rejected")))
        for at in range(first, first + number * length, length)
    ]


def _took(daily: Mapping[tuple[int, str], int]) -> list[tuple[str, int]]:
    bars = [*(took_word(minutes * MINUTE) for minutes in WITHIN), "took:more"]
    return [
        (bar.removeprefix("took:"), sum(number for (_, what), number in daily.items() if what == bar)) for bar in bars
    ]


def _providers(context: Context, hourly: Mapping[tuple[int, str], int], now: int) -> list[Provider]:
    backlog = context.schedule.backlog(now)
    budget = {"osl": (sum(backlog.slots_in_use.values()), backlog.slots)}

    def answers(name: str, word: str) -> int:
        return sum(number for (_, what), number in hourly.items() if what == f"{name}:{word}")

    return [
        Provider(health, answers(health.name, "worked"), answers(health.name, "failed"), *budget.get(health.name, ()))
        for health in look.health(context)
    ]


def _stuck(context: Context, now: int) -> tuple[list[Stuck], More]:
    """The longest stuck first, a few of each kind; and where the others are."""
    found: dict[str, Stuck] = {}
    looked_at = Counter[str]()
    for stuck in _all_stuck(context, now):
        found.setdefault(stuck.onboarding.id, stuck)
        looked_at[stuck.why] += 1
    of_kind = Counter[str]()
    shown: list[Stuck] = []
    rest: list[Stuck] = []
    for stuck in sorted(found.values(), key=lambda stuck: stuck.since):
        is_shown = of_kind[stuck.why] < _SHOWN and len(shown) < 2 * _SHOWN
        (shown if is_shown else rest).append(stuck)
        of_kind[stuck.why] += 1
    age = next((name for name in reversed(AGES) if AGES[name] <= context.rules.patience_ms), "")
    without_webhook = f"over-{age}" if age else ""
    lists = {(stuck.onboarding.state, without_webhook if stuck.why == _NO_WEBHOOK else "") for stuck in rest}
    at_least = max(looked_at.values(), default=0) >= _LOOKED_AT
    return shown, More(len(rest), at_least, sorted(lists))


def _all_stuck(context: Context, now: int) -> Iterator[Stuck]:
    """What a provider keeps from going on, what is overdue, whose webhook is missing; some more than once."""
    for row in context.status.failing(_LOOKED_AT):
        yield Stuck(row, "its step fails again and again", row.failing_since or now)
    for row in context.status.overdue(now - _OVERDUE, _LOOKED_AT):
        yield Stuck(row, "its next step is overdue", row.due_at or now)
    for provider in look.health(context):
        for row in filter(None, map(context.store.onboarding, provider.unauthorized_ids)):
            since = provider.unhealthy_since or provider.last_failure_at or now
            yield Stuck(row, f"{PROVIDERS[provider.name]} does not let it in", since)
    for row in context.status.longest_in(State.AWAITING_CALLBACK, _LOOKED_AT):
        if now - row.updated_at > context.rules.patience_ms:
            yield Stuck(row, _NO_WEBHOOK, row.updated_at)
