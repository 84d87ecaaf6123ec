"""What a provider's answers say about it. Pure.

Unauthorized answers (a wrong key, address or path) are a fault of the installation, not of one user: after
`AFFECTED` onboardings got them with no success between, the provider is *unhealthy* and only one request per
probe interval goes out, until one succeeds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from orchestrator.errors import Kind

AFFECTED = 3
SKEW_STEP_MS = 500
SUCCESS_STEP_MS = 1_000


@dataclass(frozen=True)
class ProviderHealth:
    """What is known of a provider. `unauthorized_ids`: onboardings refused since the last success; times in ms.

    `skew_ms`: the provider's clock minus ours.
    """

    name: str
    unauthorized_ids: tuple[str, ...] = ()
    unhealthy_since: int | None = None
    next_probe_at: int | None = None
    last_probed: str | None = None
    last_success_at: int | None = None
    last_success_of: str | None = None
    """The onboarding that the last success was about."""
    last_failure_at: int | None = None
    last_failure: str | None = None
    skew_ms: int | None = None


@dataclass(frozen=True)
class Outcome:
    """One call's outcome for the health of `provider`. `failure`: its kind, None when it worked; `code`: its code."""

    provider: str
    onboarding_id: str
    at: int
    failure: Kind | None = None
    code: str = ""
    skew_ms: int | None = None


def after(health: ProviderHealth, outcome: Outcome, probe_ms: int) -> ProviderHealth:
    """The health after `outcome`. Any answer that is not unauthorized proves that the installation is let in."""
    health = _learn_skew(health, outcome)
    if outcome.failure is None or outcome.failure is Kind.REFUSED:
        return _succeeded(health, outcome)
    health = replace(health, last_failure_at=outcome.at, last_failure=f"{outcome.failure.value} ({outcome.code})")
    if outcome.failure is Kind.TRANSIENT:
        return health
    ids = dict.fromkeys((*health.unauthorized_ids, outcome.onboarding_id))
    health = replace(health, unauthorized_ids=tuple(ids)[-AFFECTED:])
    if len(health.unauthorized_ids) >= AFFECTED and health.unhealthy_since is None:
        return replace(health, unhealthy_since=outcome.at, next_probe_at=outcome.at + probe_ms)
    return health


def _learn_skew(health: ProviderHealth, outcome: Outcome) -> ProviderHealth:
    if outcome.skew_ms is None or abs(outcome.skew_ms - (health.skew_ms or 0)) < SKEW_STEP_MS:
        return health
    return replace(health, skew_ms=outcome.skew_ms)


def _succeeded(health: ProviderHealth, outcome: Outcome) -> ProviderHealth:
    recent = health.last_success_at is not None and outcome.at - health.last_success_at < SUCCESS_STEP_MS
    if recent and not health.unauthorized_ids and health.unhealthy_since is None:
        return health
    return replace(
        health,
        last_success_at=outcome.at,
        last_success_of=outcome.onboarding_id,
        unauthorized_ids=(),
        unhealthy_since=None,
        next_probe_at=None,
        last_probed=None,
    )
