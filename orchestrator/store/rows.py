"""Between database rows and records."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from orchestrator.health import ProviderHealth
from orchestrator.machine import Event, State
from orchestrator.records import (
    Callback,
    CallbackToken,
    Delivery,
    DeliveryStatus,
    Document,
    Lane,
    Onboarding,
    ShareOutcome,
    Transition,
    Verdict,
    made,
)
from orchestrator.store.driver import Row

_LEASE = ("lease", "lease_until")
IDENTITY = ("merchant_user_id", "profile_sealed", "email_hash", "link_hash", "link_sealed", "osl_user_id")
"""Columns that seldom change. Naming one in an update makes a database write its indexes anew."""


def onboarding(row: Row) -> Onboarding:
    """A row of `onboardings`."""
    values = dict(row)
    for name in ("state", "told"):
        values[name] = State(values[name])
    for name in ("resume", "claim_resume"):
        values[name] = _maybe(State, values[name])
    values["claim"] = _maybe(Event, values["claim"])
    values["lane"] = _maybe(Lane, values["lane"])
    values["share"] = ShareOutcome(values["share"])
    values["changed"] = bool(values["changed"])
    values["prior_reject"] = bool(values["prior_reject"])
    return made(Onboarding, values)


def onboarding_values(record: Onboarding) -> dict[str, Any]:
    """The parameters that write an onboarding: everything but its lease."""
    values = {**vars(record), "changed": int(record.changed), "prior_reject": int(record.prior_reject)}
    for name in _LEASE:
        del values[name]
    return values


def document(row: Row) -> Document:
    """A row of `documents`."""
    return Document(**row)


def transition(row: Row) -> Transition:
    """A row of `transitions`."""
    values = dict(row)
    values["from_state"] = _maybe(State, values["from_state"])
    values["to_state"] = State(values["to_state"])
    values["event"] = Event(values["event"])
    return Transition(**values)


def callback(row: Row) -> Callback:
    """A row of `callbacks`."""
    return Callback(**{**row, "verdict": Verdict(row["verdict"])})


def callback_token(row: Row) -> CallbackToken:
    """A row of `callback_tokens`."""
    return CallbackToken(**row)


def delivery(row: Row) -> Delivery:
    """A row of `deliveries`."""
    return Delivery(**{**row, "status": DeliveryStatus(row["status"])})


def health(row: Row) -> ProviderHealth:
    """A row of `providers`."""
    return ProviderHealth(**{**row, "unauthorized_ids": tuple(json.loads(row["unauthorized_ids"]))})


def health_values(record: ProviderHealth) -> dict[str, Any]:
    """The parameters that write a provider's health."""
    return {**asdict(record), "unauthorized_ids": json.dumps(record.unauthorized_ids)}


def _maybe(kind: Any, value: str | None) -> Any:
    return None if value is None else kind(value)
