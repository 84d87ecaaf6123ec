"""Reading: one onboarding, opened as far as callers may see, and how the installation is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.errors import Gone, NotFound, StoreUnavailable
from orchestrator.health import ProviderHealth
from orchestrator.machine import EDITABLE, State
from orchestrator.onboarding.context import Context
from orchestrator.onboarding.outlook import Circumstances
from orchestrator.providers.answers import NOTABLE_SKEW_MS
from orchestrator.records import Callback, Delivery, Document, Onboarding, Transition
from orchestrator.seal import plain_hash
from orchestrator.telemetry import about


@dataclass(frozen=True)
class View:
    """An onboarding with what belongs to it, opened. `upload_url` is a credential; `last_error` is for operators."""

    onboarding: Onboarding
    documents: Sequence[Document]
    missing: Sequence[str]
    fields_present: frozenset[str]
    upload_url: str
    reason: str | None
    last_error: dict[str, Any] | None


def view(context: Context, onboarding: Onboarding) -> View:
    """`onboarding` as callers see it."""
    email, profile = context.identity(onboarding)
    documents = context.store.documents(onboarding.id)
    link = context.sealer.open(onboarding.link_sealed, "onboardings", onboarding.id, "link").decode()
    return View(
        onboarding,
        documents,
        context.profile_rules.missing(profile, documents, email) if onboarding.state in EDITABLE else (),
        frozenset(profile),
        f"{context.rules.public_url}/u/{link}",
        context.open_json(onboarding.reason_sealed, "onboardings", onboarding.id, "reason"),
        context.open_json(onboarding.last_error_sealed, "onboardings", onboarding.id, "last_error"),
    )


def find(context: Context, onboarding_id: str) -> Onboarding:
    """The onboarding of this id. Raises NotFound."""
    found = context.store.onboarding(onboarding_id)
    if found is None:
        raise NotFound("there is no such onboarding")
    about(found.id)
    return found


def find_by_any_id(context: Context, text: str) -> Onboarding:
    """The onboarding of this id, else the newest of this merchantUserId. Raises NotFound."""
    found = context.store.onboarding(text) or context.store.newest_onboarding(text)
    if found is None:
        raise NotFound("there is no onboarding of this id or merchantUserId")
    about(found.id)
    return found


def find_by_link(context: Context, token: str) -> Onboarding:
    """The onboarding that an end user's link opens. Raises NotFound, or Gone when it worked once."""
    token_hash = plain_hash(token)
    found = context.store.onboarding_of_link(token_hash)
    if found is None and context.store.link_was_replaced(token_hash):
        raise Gone("this link was replaced by a newer one")
    if found is None:
        raise NotFound("there is no such link")
    if found.state is State.EXPIRED or found.erased_at is not None:
        raise Gone("the time to use this link is over")
    about(found.id)
    return found


def counts(context: Context) -> dict[State, int]:
    """How many onboardings are in each state; every state is there."""
    counted = context.store.counts()
    return {state: counted.get(state, 0) for state in State}


def transitions(context: Context, onboarding: Onboarding) -> list[Transition]:
    """The chain, oldest first."""
    return context.store.transitions(onboarding.id)


def callbacks(context: Context, onboarding: Onboarding) -> list[Callback]:
    """The callbacks, in the order of arrival."""
    return context.store.callbacks(onboarding.id)


def deliveries(context: Context, onboarding: Onboarding) -> list[Delivery]:
    """The notifications to the merchant, in order."""
    return context.store.deliveries(onboarding.id)


def circumstances(context: Context, seen: View, now: int) -> Circumstances:
    """What is known around an onboarding at `now`, for its outlook and its timeline."""
    row, rules = seen.onboarding, context.rules
    return Circumstances(
        now=now,
        transitions=transitions(context, row),
        callbacks=callbacks(context, row),
        deliveries=deliveries(context, row),
        health={provider.name: provider for provider in health(context)},
        beat=last_beat(context),
        silent_after=context.timings.worker_silent,
        error=seen.last_error,
        missing=seen.missing,
        patience=rules.patience_ms,
        retained=(rules.retain_documents_ms, rules.retain_profile_ms),
        has_documents=bool(seen.documents),
    )


def delivery(context: Context, delivery_id: str) -> Delivery:
    """One notification. Raises NotFound."""
    found = context.store.delivery(delivery_id)
    if found is None:
        raise NotFound("there is no such delivery")
    return found


def health(context: Context) -> list[ProviderHealth]:
    """What is known of both providers."""
    return [context.schedule.health(name) for name in ("btse", "osl")]


def last_beat(context: Context) -> int | None:
    """When a worker was last seen (ms)."""
    return context.schedule.last_beat()


def warnings(context: Context) -> list[str]:
    """What should be looked at although webhooks can be stored: silent worker, providers, clocks."""
    now = context.now_ms()
    found = []
    beat = context.schedule.last_beat()
    if beat is None or now - beat > context.timings.worker_silent:
        found.append("no worker is running: start `orchestrator serve` or `orchestrator worker`")
    for provider in health(context):
        if provider.unhealthy_since is not None or provider.unauthorized_ids:
            found.append(
                f"{provider.name} answers as unauthorized ({provider.last_failure}): check its base URL, keys, "
                "and that this machine's address is on its allow list"
            )
        if provider.skew_ms is not None and abs(provider.skew_ms) > NOTABLE_SKEW_MS:
            found.append(f"{provider.name}'s clock is {provider.skew_ms / 1000:+.0f} s from ours: check this machine's")
    try:
        context.documents.shelf.check_writable()
    except StoreUnavailable as error:
        found.append(str(error))
    return found


def check_ready(context: Context) -> None:
    """Raises StoreUnavailable or SealBroken when a webhook could not be stored now: database, migrations, keys."""
    pending = context.pending_migrations()
    if pending:
        raise StoreUnavailable("the database must be migrated first: run `orchestrator migrate`")
    context.schedule.check_writable()
    for newest in context.status.page(1):
        context.identity(newest)
