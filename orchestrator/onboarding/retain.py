"""How long things are kept: deleting what is past its time, and erasing a user on request."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from orchestrator.errors import Conflict, ProviderError
from orchestrator.machine import CLOSED, SETTLED, Event
from orchestrator.onboarding.apply import Step, apply
from orchestrator.onboarding.context import DAY, Context
from orchestrator.onboarding.measure import measured
from orchestrator.records import Onboarding, Operation, ShareOutcome

ACTOR = "retention"
CHORE = "purge"
_HOURS_KEPT = 7 * DAY
"""For how long counts by the hour are kept; those by the day stay."""
_NOBODY = {"email": "", "profile": {}}


@dataclass(frozen=True)
class Purged:
    """What a purge deleted: of how many onboardings the documents and the profile, and how many stray files."""

    documents: int
    profiles: int
    strays: int


def purge(context: Context) -> Purged:
    """Delete what is past its time, and files that no row names and that are older than a day."""
    now = context.now_ms()
    documents = profiles = 0
    if context.rules.retain_documents_ms:
        for onboarding_id in context.store.with_documents_past(now - context.rules.retain_documents_ms):
            _delete_documents(context, onboarding_id)
            documents += 1
    if context.rules.retain_profile_ms:
        for onboarding_id in context.store.with_profile_past(now - context.rules.retain_profile_ms):
            apply(context, onboarding_id, lambda row: _profile_deleted(context, row))
            profiles += 1
    context.status.forget_hours(now - _HOURS_KEPT)
    return Purged(documents, profiles, _remove_strays(context, now))


def purge_daily(context: Context) -> Purged | None:
    """Purge, if no process of this installation has done so for a day."""
    return purge(context) if context.schedule.take_chore(CHORE, context.now_ms(), DAY) else None


def erase(context: Context, onboarding_id: str, actor: str) -> bool:
    """Erase all that is personal at once; an open onboarding is cancelled. The chain stays.

    BTSE Pay's authorization is cancelled first. False: that could not be done, the rest was.
    Raises NotFound, Conflict when it was erased before, StoreUnavailable.
    """
    row = context.store.onboarding(onboarding_id)
    if row is not None and row.erased_at is not None:
        # Whoever was killed between the row and its files left these.
        for location in context.documents.of(row.id):
            context.documents.remove(location)
        raise _erased_already(row)
    cancelled = _cancel_authorization(context, row) if row is not None else False
    erase_here(context, onboarding_id, actor)
    return cancelled


def erase_here(context: Context, onboarding_id: str, actor: str) -> None:
    """Erase without asking BTSE Pay. Raises NotFound, Conflict when it was erased before, StoreUnavailable."""
    now = context.now_ms()
    locations: list[str] = []

    def decide(row: Onboarding) -> Sequence[Step]:
        if row.erased_at is not None:
            # By somebody else, while BTSE Pay was asked: the keyed hash of a keyed hash would be found by nobody.
            raise _erased_already(row)
        documents = context.store.documents(row.id)
        locations[:] = [document.location for document in documents]
        return [_erased(context, row, actor, [document.kind for document in documents], now)]

    if context.store.onboarding(onboarding_id) is not None:
        context.documents.shelf.note_erasure(onboarding_id, datetime.fromtimestamp(now / 1000, UTC).isoformat())
    apply(context, onboarding_id, decide)
    for location in locations:
        context.documents.remove(location)


def _erased(context: Context, row: Onboarding, actor: str, kinds: Sequence[str], now: int) -> Step:
    columns = {
        **_without_profile(context, row, now),
        "merchant_user_id": context.erased_names(row.merchant_user_id)[0],
        "osl_user_id": None,
        "ask_at": None,
        "claim": None,
        "claim_callback": None,
        "doubted_at": None,
        "erased_at": now,
    }
    return Step(Event.ERASED, actor, changes=columns, removed_documents=kinds, blank_bodies=True)


def _erased_already(row: Onboarding) -> Conflict:
    return Conflict("everything personal was erased already", row.state)


def _delete_documents(context: Context, onboarding_id: str) -> None:
    locations: list[str] = []

    def decide(row: Onboarding) -> Sequence[Step]:
        documents = context.store.documents(row.id)
        if row.state not in SETTLED | CLOSED or not documents:
            return []
        locations[:] = [document.location for document in documents]
        kinds = [document.kind for document in documents]
        return [Step(Event.DOCUMENTS_DELETED, ACTOR, ", ".join(kinds), removed_documents=kinds)]

    apply(context, onboarding_id, decide)
    for location in locations:
        context.documents.remove(location)


def _profile_deleted(context: Context, row: Onboarding) -> Sequence[Step]:
    if row.state not in SETTLED | CLOSED or row.profile_deleted_at is not None:
        return []
    columns = _without_profile(context, row, context.now_ms())
    return [Step(Event.PROFILE_DELETED, ACTOR, changes=columns, blank_bodies=True)]


def _without_profile(context: Context, row: Onboarding, now: int) -> dict[str, object]:
    return {
        "profile_sealed": context.seal_json(_NOBODY, "onboardings", row.id, "profile"),
        "email_hash": "",
        "reason_sealed": None,
        "last_error_sealed": None,
        "profile_deleted_at": now,
    }


def _remove_strays(context: Context, now: int) -> int:
    def known(onboarding_id: str) -> set[str]:
        return {document.location for document in context.store.documents(onboarding_id)}

    strays = list(context.documents.strays(known, (now - DAY) / 1000))
    for location in strays:
        context.documents.remove(location)
    return len(strays)


def _cancel_authorization(context: Context, row: Onboarding) -> bool:
    """Whether BTSE Pay holds no authorization of this user any more."""
    if row.submitted_at is None and row.share is ShareOutcome.NONE:
        return True
    with suppress(ProviderError):
        ask = partial(context.btse.get_authorization, row.merchant_user_id)
        user_key = measured(context, Operation.BTSE_AUTHORIZATION, ask).value.get("userKey")
        if user_key:
            cancel = partial(context.btse.cancel_authorization, row.merchant_user_id, str(user_key))
            measured(context, Operation.BTSE_CANCEL, cancel)
        return True
    return False
