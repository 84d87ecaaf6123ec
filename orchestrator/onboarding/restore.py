"""After a backup was restored: ask before anything is sent again, and repeat the erasures done since."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.errors import SealBroken
from orchestrator.machine import EDITABLE, OPEN, WAITING, Event, State
from orchestrator.onboarding.apply import Step, apply
from orchestrator.onboarding.context import Context
from orchestrator.onboarding.retain import erase_here
from orchestrator.records import Onboarding, ShareOutcome

ACTOR = "restore"


@dataclass(frozen=True)
class Restored:
    """How many onboardings are asked about before anything is sent, and how many were erased again.

    `tokens`: how many access tokens work, also those that were revoked since the backup.
    """

    asked: int
    erased: int
    tokens: int


def check_keys(context: Context) -> None:
    """Raises SealBroken when something in the database was sealed with a key that is not there."""
    used = {context.sealer.key_id(sealed) for sealed in context.store.sealed_values()}
    unknown = sorted(used.difference(context.sealer.key_ids()))
    if unknown:
        raise SealBroken(
            f"what is to be restored was sealed with key {', '.join(unknown)}, which is not in "
            "ORCHESTRATOR_ENCRYPTION_KEYS: put the keys used at that time there, then restore again"
        )


def settle_restored(context: Context) -> Restored:
    """Make the restored rows safe to work on, before the database that holds them is put in place."""
    erased = 0
    for onboarding_id in dict.fromkeys(context.documents.shelf.erasures()):
        row = context.store.onboarding(onboarding_id)
        if row is not None and row.erased_at is None:
            erase_here(context, onboarding_id, ACTOR)
            erased += 1
    asked = 0
    for onboarding_id, state, _, _ in context.store.heads():
        if state in OPEN:
            apply(context, onboarding_id, lambda row: _doubted(context, row))
            asked += 1
    return Restored(asked, erased, sum(token.revoked_at is None for token in context.access.tokens()))


def _doubted(context: Context, row: Onboarding) -> Sequence[Step]:
    """What happened since the backup is unknown: a share may have arrived that this database knows nothing of."""
    now = context.now_ms()
    changes: dict[str, object] = {}
    if row.share is not ShareOutcome.ARRIVED:
        changes = {"share": ShareOutcome.LOST, "share_losses": max(1, row.share_losses), "share_questions": 0}
    if row.state in WAITING or row.state is State.CONFIRMING:
        changes["step_at"] = now
    elif row.state in EDITABLE and row.share_sent_at is not None:
        changes["ask_at"] = now
    return [Step(Event.RESTORED, ACTOR, changes=changes)]
