"""What one step writes in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.errors import OrchestratorError
from orchestrator.health import Outcome
from orchestrator.records import Callback, CallbackToken, Delivery, Document, Onboarding, Transition


class LeaseLost(OrchestratorError):
    """The worker's lease ran out and another one holds the row: its outcome is the other's to bring."""


@dataclass(frozen=True)
class Held:
    """The lease under which a worker commits. `release`: the step is over.

    `slot`: the OSL Pay slot it gives back, to be free at `slot_free_at` by the clock that says `now` (ms).
    """

    lease: str
    release: bool = True
    slot: int | None = None
    slot_free_at: int = 0
    now: int = 0


@dataclass(frozen=True)
class Change:
    """All that one step writes in one transaction. `before` None: the onboarding is new."""

    before: Onboarding | None
    after: Onboarding
    transitions: Sequence[Transition] = ()
    deliveries: Sequence[Delivery] = ()
    callbacks: Sequence[Callback] = ()
    callback_token: CallbackToken | None = None
    document: Document | None = None
    removed_documents: Sequence[str] = ()
    blank_bodies: bool = False
    signup_id: str | None = None
    replaced_link: str | None = None
    seen_again: str | None = None
    probe: str | None = None
    """A provider whose next probe is due now."""
    held: Held | None = None
    outcome: Outcome | None = None
    probe_ms: int = 60_000
