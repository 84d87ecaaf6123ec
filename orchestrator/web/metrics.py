"""The figures in Prometheus' text format. Nothing is kept in the process: all of them answer alike."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Any

from flask import Blueprint, Response
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector, CollectorRegistry

from orchestrator.health import ProviderHealth
from orchestrator.onboarding.figures import Figures, figures
from orchestrator.onboarding.measure import LIMITS_MS, WORKED, Took
from orchestrator.records import OSL_LANES, Operation
from orchestrator.web.auth import allow, service
from orchestrator.web.described import Answer, described
from orchestrator.web.request_head import REFUSED_WITH

blueprint = Blueprint("metrics", __name__)
_SLOT_LANES = (*OSL_LANES, "call")


@blueprint.get("/metrics")
@allow("viewer", "operator")
@described("getMetrics", {200: Answer("Prometheus' text format.", "Metrics", "text/plain")})
def metrics() -> Response:
    """The figures, read from the database now."""
    registry = CollectorRegistry()
    registry.register(_Given(list(families(figures(service())))))
    return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


class _Given(Collector):
    """Hands over families that are made already."""

    def __init__(self, made: Iterable[Metric]) -> None:
        self._made = made

    def collect(self) -> Iterable[Metric]:
        return self._made


def families(known: Figures) -> Iterator[Metric]:
    """Every metric with its samples. Labels take words of ours only: states, lanes, statuses, verdicts, providers."""
    yield _gauge("onboardings", "Onboardings by state.", "state", known.onboardings)
    steps = {lane: count for lane, (count, _) in known.due.items()}
    yield _gauge("due_steps", "Steps of onboardings that are due, 10000 a lane at most.", "lane", steps)
    ages = {lane: age / 1000 for lane, (_, age) in known.due.items()}
    yield _gauge("oldest_due_step_age_seconds", "How long the oldest due step has waited; 0: none.", "lane", ages)
    says = (
        "How long the step has failed that has failed longest; 0: none. Beyond RETRY_HORIZON_HOURS a person is asked."
    )
    yield _single("oldest_failing_step_age_seconds", says, known.oldest_failing / 1000)
    yield _gauge("deliveries", "Notifications to the merchant by status.", "status", known.deliveries)
    says = "How long the oldest due notification has waited; 0: none."
    yield _single("oldest_due_delivery_age_seconds", says, known.oldest_delivery / 1000)
    says = "Verdicts given to OSL Pay's webhooks; one that is judged anew counts again."
    yield _counter("callback_verdicts", says, "verdict", known.verdicts)
    says = "Webhooks turned away before anything was made of them: nothing of them is kept."
    yield _counter("callbacks_refused", says, "reason", known.refusals)
    says = "Requests answered without the application, by status: malformed, too large, or too slow to arrive."
    refused = {status: known.refused.get(status, 0) for status in REFUSED_WITH}
    yield _counter("requests_refused", says, "status", refused)
    yield _transitions(known)
    yield from _calls(known)
    yield from _providers(known.providers)
    yield _single("budget_slots", "Requests to OSL Pay that may be made in a second.", known.slots)
    in_use = {lane: known.slots_in_use.get(lane, 0) for lane in _SLOT_LANES}
    yield _gauge("budget_slots_in_use", "Of these, those in use, by the lane that took them.", "lane", in_use)
    if known.worker_age is not None:
        says = "Since a worker was last seen; absent: never."
        yield _single("worker_heartbeat_age_seconds", says, known.worker_age / 1000)


def _transitions(known: Figures) -> Metric:
    says = "Transitions of onboardings by event and the state that it led to."
    family = CounterMetricFamily("orchestrator_transitions", says, labels=["event", "to"])
    for (event, state), number in known.transitions.items():
        family.add_metric([event, state], number)
    return family


def _calls(known: Figures) -> Iterator[Metric]:
    """How long calls took. An outcome that never happened is absent, but for success."""
    says = "Requests to the providers: how long until the answer, or until it was clear that none comes."
    calls = HistogramMetricFamily(
        "orchestrator_provider_request_duration_seconds", says, labels=["provider", "operation", "outcome"]
    )
    says = "Tries to tell the merchant: how long they took."
    tries = HistogramMetricFamily("orchestrator_delivery_try_duration_seconds", says, labels=["outcome"])
    for (operation, outcome), took in known.calls.items():
        if outcome != WORKED and not any(took.counts):
            continue
        if operation is Operation.NOTIFY:
            tries.add_metric([outcome], _buckets(took), took.total_ms / 1000)
        else:
            calls.add_metric([*operation.split("_", 1), outcome], _buckets(took), took.total_ms / 1000)
    yield calls
    yield tries


def _buckets(took: Took) -> list[tuple[str, float]]:
    limits = [*(str(limit / 1000) for limit in LIMITS_MS), "+Inf"]
    return list(zip(limits, accumulate(took.counts), strict=True))


def _providers(known: Iterable[ProviderHealth]) -> Iterator[Metric]:
    """Times and skews that are not known are absent."""
    healths = {health.name: health for health in known}
    healthy = {name: int(health.unhealthy_since is None) for name, health in healths.items()}
    yield _gauge(
        "provider_healthy", "1: calls go out; 0: it refuses us, and one call a minute tries it.", "provider", healthy
    )
    skews = {name: health.skew_ms / 1000 for name, health in healths.items() if health.skew_ms is not None}
    yield _gauge("provider_clock_skew_seconds", "The provider's clock minus ours.", "provider", skews)
    for what, says in (("success", "The last call that it let in."), ("failure", "The last call that failed.")):
        times = {name: getattr(health, f"last_{what}_at") for name, health in healths.items()}
        seconds = {name: at / 1000 for name, at in times.items() if at is not None}
        yield _gauge(f"provider_last_{what}_timestamp_seconds", says, "provider", seconds)


def _counter(name: str, says: str, label: str, values: Mapping[Any, float]) -> Metric:
    family = CounterMetricFamily(f"orchestrator_{name}", says, labels=[label])
    for word, value in values.items():
        family.add_metric([str(word)], value)
    return family


def _gauge(name: str, says: str, label: str, values: Mapping[Any, float]) -> Metric:
    family = GaugeMetricFamily(f"orchestrator_{name}", says, labels=[label])
    for word, value in values.items():
        family.add_metric([word], value)
    return family


def _single(name: str, says: str, value: float) -> Metric:
    return GaugeMetricFamily(f"orchestrator_{name}", says, value=value)
