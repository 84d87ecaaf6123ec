"""Every alert of deploy/prometheus is fired by what it is for and by nothing milder, as Prometheus' own tool finds."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deployment import CHECKOUT
from tests.programs import program

RULES = CHECKOUT / "deploy" / "prometheus" / "orchestrator.rules.yml"
ALERTS: dict[str, dict[str, Any]] = {
    rule["alert"]: rule for group in yaml.safe_load(RULES.read_text("utf-8"))["groups"] for rule in group["rules"]
}
UP = {'up{job="orchestrator", instance="a"}': "1+0x500"}
_STATUS = 'orchestrator_provider_request_duration_seconds_{}{{provider="osl", operation="status", outcome="{}"{}}}'
_TRY = 'orchestrator_delivery_try_duration_seconds_count{{outcome="{}"}}'


def steady(value: float) -> str:
    """The same for hours, a sample a minute."""
    return f"{value:g}+0x500"


def growing(a_minute: float) -> str:
    """More every minute."""
    return f"0+{a_minute:g}x500"


def slots(confirm: int, share: int) -> dict[str, str]:
    """Ten, and some of them in use."""
    return {
        "orchestrator_budget_slots": steady(10),
        'orchestrator_budget_slots_in_use{lane="confirm"}': steady(confirm),
        'orchestrator_budget_slots_in_use{lane="share"}': steady(share),
    }


def took(within_10: float, within_30: float) -> dict[str, str]:
    """Requests a minute that took up to 10 s, and up to 30 s."""
    limits = {"10.0": within_10, "30.0": within_10 + within_30, "+Inf": within_10 + within_30}
    return {_STATUS.format("bucket", "ok", f', le="{le}"'): growing(number) for le, number in limits.items()}


@dataclass
class Case:
    """Series that fire an alert (with these labels beside its severity), and milder ones that do not."""

    fires: dict[str, str]
    milder: dict[str, str]
    labels: dict[str, str] | None = None


CASES: dict[str, Case] = {
    "OrchestratorUnreachable": Case(
        {'up{job="orchestrator", instance="a"}': steady(0)},
        {'up{job="orchestrator", instance="a"}': steady(0), 'up{job="orchestrator", instance="b"}': steady(1)},
    ),
    "OrchestratorWebhooksRefused": Case(
        {'orchestrator_callbacks_refused_total{reason="unsigned"}': growing(3)},
        {'orchestrator_callbacks_refused_total{reason="unsigned"}': growing(1)},
    ),
    "OrchestratorWebhooksMissing": Case(
        {
            'orchestrator_transitions_total{event="shared", to="awaiting_callback"}': growing(0.1),
            'orchestrator_callback_verdicts_total{verdict="applied"}': steady(7),
        },
        {
            'orchestrator_transitions_total{event="shared", to="awaiting_callback"}': growing(0.1),
            'orchestrator_callback_verdicts_total{verdict="applied"}': growing(0.01),
        },
    ),
    "OrchestratorWebhooksForged": Case(
        {'orchestrator_callback_verdicts_total{verdict="forged"}': growing(0.1)},
        {'orchestrator_callback_verdicts_total{verdict="forged"}': steady(3)},
    ),
    "OrchestratorWorkerSilent": Case(
        {"orchestrator_worker_heartbeat_age_seconds": steady(61), **UP},
        {"orchestrator_worker_heartbeat_age_seconds": steady(59), **UP},
    ),
    "OrchestratorQueueLate": Case(
        {'orchestrator_oldest_due_step_age_seconds{lane="share"}': steady(301)},
        {
            'orchestrator_oldest_due_step_age_seconds{lane="share"}': steady(299),
            'orchestrator_oldest_due_step_age_seconds{lane="poll"}': steady(3000),
        },
        {"lane": "share"},
    ),
    "OrchestratorStepsFailing": Case(
        {"orchestrator_oldest_failing_step_age_seconds": steady(3601)},
        {"orchestrator_oldest_failing_step_age_seconds": steady(3599)},
    ),
    "OrchestratorPollsLate": Case(
        {'orchestrator_oldest_due_step_age_seconds{lane="poll"}': steady(3601)},
        {'orchestrator_oldest_due_step_age_seconds{lane="poll"}': steady(3599)},
    ),
    "OrchestratorBudgetExhausted": Case(
        {**slots(3, 7), 'orchestrator_oldest_due_step_age_seconds{lane="share"}': steady(61)},
        {**slots(3, 7), 'orchestrator_oldest_due_step_age_seconds{lane="share"}': steady(5)},
    ),
    "OrchestratorProviderUnhealthy": Case(
        {
            'orchestrator_provider_healthy{provider="btse"}': steady(0),
            'orchestrator_provider_healthy{provider="osl"}': steady(1),
        },
        {'orchestrator_provider_healthy{provider="btse"}': steady(1)},
        {"provider": "btse"},
    ),
    "OrchestratorProviderFailing": Case(
        {
            _STATUS.format("count", "transient", ""): growing(6),
            _STATUS.format("count", "ok", ""): growing(4),
        },
        {
            _STATUS.format("count", "transient", ""): growing(4),
            _STATUS.format("count", "ok", ""): growing(6),
        },
        {"provider": "osl"},
    ),
    "OrchestratorProviderSlow": Case(took(80, 20), took(99, 1), {"provider": "osl"}),
    "OrchestratorSharesLost": Case(
        {
            'orchestrator_transitions_total{event="share_lost", to="sharing"}': growing(0.05),
            'orchestrator_transitions_total{event="share_lost", to="needs_attention"}': growing(0.05),
        },
        {'orchestrator_transitions_total{event="share_lost", to="sharing"}': growing(0.02)},
    ),
    "OrchestratorClockSkew": Case(
        {'orchestrator_provider_clock_skew_seconds{provider="btse"}': steady(-12)},
        {'orchestrator_provider_clock_skew_seconds{provider="btse"}': steady(-9)},
        {"provider": "btse"},
    ),
    "OrchestratorNeedsAttention": Case(
        {'orchestrator_onboardings{state="needs_attention"}': steady(1)},
        {'orchestrator_onboardings{state="needs_attention"}': steady(0)},
    ),
    "OrchestratorNeedsAttentionGrowing": Case(
        {'orchestrator_onboardings{state="needs_attention"}': growing(0.5)},
        {'orchestrator_onboardings{state="needs_attention"}': steady(500)},
    ),
    "OrchestratorMerchantNotTold": Case(
        {'orchestrator_deliveries{status="failed"}': steady(1)},
        {'orchestrator_deliveries{status="pending"}': steady(9), 'orchestrator_deliveries{status="failed"}': steady(0)},
    ),
    "OrchestratorMerchantNotReached": Case(
        {_TRY.format("transient"): growing(1), _TRY.format("ok"): steady(7)},
        {_TRY.format("transient"): growing(1), _TRY.format("ok"): growing(1)},
    ),
    "OrchestratorDeliveriesLate": Case(
        {"orchestrator_oldest_due_delivery_age_seconds": steady(301)},
        {"orchestrator_oldest_due_delivery_age_seconds": steady(299)},
    ),
}
WITHOUT = {
    "OrchestratorUnreachable": {"orchestrator_budget_slots": steady(10)},
    "OrchestratorWorkerSilent": UP,
}
"""What fires an alert by being absent: nobody has ever answered, no worker was ever seen."""


def _group(name: str, series: dict[str, str], labels: dict[str, str] | None) -> dict[str, Any]:
    """One case as promtool reads it. `labels` None: nothing fires."""
    rule = ALERTS[name]
    at = "8h" if "[6h]" in rule["expr"] else "95m"
    fired = {"exp_labels": {**rule["labels"], **(labels or {})}, "exp_annotations": rule["annotations"]}
    return {
        "interval": "1m",
        "input_series": [{"series": text, "values": values} for text, values in series.items()],
        "alert_rule_test": [
            {
                "eval_time": at,
                "alertname": name,
                "exp_alerts": [fired] if labels is not None else [],
            }
        ],
    }


def test_prometheus_takes_the_rules() -> None:
    command = [program("promtool", "prometheus"), "check", "rules", "--lint-fatal", RULES]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(ALERTS)} rules found" in done.stdout


def test_each_alert_is_fired_by_what_it_is_for_and_not_by_less(tmp_path: Path) -> None:
    groups = []
    for name, case in CASES.items():
        # Two processes that were scraped both tell the figures of the whole installation: they count once.
        twice = {f"{text[:-1]}, {who}}}" if text.endswith("}") else f"{text}{{{who}}}": values
                 for text, values in case.fires.items() for who in ('pod="a"', 'pod="b"')}  # fmt: skip
        groups += [
            _group(name, series, case.labels or {}) for series in ((case.fires, twice) if name in WITHOUT else (twice,))
        ]
        groups.append(_group(name, case.milder, None))
    for name, series in WITHOUT.items():
        extra = {"job": "orchestrator"} if name == "OrchestratorUnreachable" else {}
        groups.append(_group(name, series, extra))
    file = tmp_path / "tests.yml"
    file.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "5m", "tests": groups}))
    command = [program("promtool", "prometheus"), "test", "rules", file]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-6000:]


def test_every_alert_has_its_case() -> None:
    assert set(CASES) == set(ALERTS)


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_asks_for_figures_that_there_are_and_says_what_to_do(name: str) -> None:
    rule = ALERTS[name]
    told = (CHECKOUT / "docs" / "http.md").read_text("utf-8")
    asked = {re.sub(r"_(?:bucket|count)$", "", word) for word in re.findall(r"orchestrator_\w+", rule["expr"])}

    assert asked or 'up{job="orchestrator"}' in rule["expr"]
    assert {word for word in asked if f"`{word}`" not in told} == set()
    assert set(rule["annotations"]) == {"summary", "do"}
    assert rule["labels"]["severity"] in ("info", "warning", "critical")
    assert f"`{name}`" in (CHECKOUT / "docs" / "operating.md").read_text("utf-8")
