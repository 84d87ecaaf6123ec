"""What is remembered, as frozen records. Times are unix milliseconds; bytes called `…_sealed` are encrypted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, TypeVar

from orchestrator.machine import Event, State

R = TypeVar("R")


class Lane(StrEnum):
    """How urgent a row's next step is, and whose requests it costs."""

    CONFIRM = "confirm"
    SHARE = "share"
    POLL = "poll"
    UPLOAD = "upload"
    LOCAL = "local"


OSL_LANES = (Lane.CONFIRM, Lane.SHARE, Lane.POLL)
"""The lanes that cost a request of OSL Pay's budget, most urgent first."""
PROVIDER_LANES = {"osl": OSL_LANES, "btse": (Lane.UPLOAD,)}


class ShareOutcome(StrEnum):
    """What is known of this round's share."""

    NONE = "none"
    INTENDED = "intended"
    LOST = "lost"
    ARRIVED = "arrived"


class Verdict(StrEnum):
    """What we made of a callback."""

    APPLIED = "applied"
    DUPLICATE = "duplicate"
    FORGED = "forged"
    IGNORED = "ignored"
    STALE = "stale"
    OUTDATED = "outdated"
    SUPERSEDED = "superseded"
    EARLY = "early"
    CONTRADICTED = "contradicted"
    UNADDRESSED = "unaddressed"
    ORPHAN = "orphan"


class Refusal(StrEnum):
    """Why a webhook was turned away before anything was made of it; it is counted, and nothing of it is kept."""

    UNSIGNED = "unsigned"
    UNKNOWN_URL = "unknown_url"
    MALFORMED = "malformed"


class Operation(StrEnum):
    """What is asked over HTTP, after the name of who is asked."""

    BTSE_UPLOAD = "btse_upload"
    BTSE_AUTHORIZATION = "btse_authorization"
    BTSE_CANCEL = "btse_authorization_cancel"
    OSL_UPLOAD = "osl_upload"
    OSL_SHARE = "osl_share"
    OSL_STATUS = "osl_status"
    NOTIFY = "merchant_notify"


class DeliveryStatus(StrEnum):
    """How far a notification to the merchant has come."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


@dataclass(frozen=True)
class Onboarding:
    """One user's way through; one row. Only `onboarding.apply` writes it."""

    id: str
    merchant_user_id: str
    state: State
    created_at: int
    updated_at: int
    profile_sealed: bytes
    email_hash: str
    link_hash: str
    link_sealed: bytes
    round: int = 1
    version: int = 1
    seq: int = 0
    hash: str = ""
    resume: State | None = None
    """Where a retry leads from `needs_attention`."""
    claim_resume: State | None = None
    """Where a contradicted claim leads from `confirming`."""
    claim: Event | None = None
    """The claim to be confirmed: one of machine.CLAIMS."""
    claim_callback: str | None = None
    contradictions: int = 0
    contradicted_at: int | None = None
    """When OSL Pay first answered otherwise than the claim."""
    doubted_at: int | None = None
    """Since when a settled outcome is in doubt."""
    osl_user_id: str | None = None
    kyc_status: str | None = None
    reason_sealed: bytes | None = None
    last_error_sealed: bytes | None = None
    lane: Lane | None = None
    due_at: int | None = None
    step_at: int | None = None
    """When the state's own step is due."""
    ask_at: int | None = None
    """When OSL Pay is to be asked because of a callback that was not believed."""
    asked_at: int | None = None
    lease: str | None = None
    lease_until: int | None = None
    attempts: int = 0
    failing_since: int | None = None
    unauthorized: int = 0
    changed: bool = True
    """Profile or documents changed since the last upload to BTSE Pay."""
    share: ShareOutcome = ShareOutcome.NONE
    share_losses: int = 0
    share_questions: int = 0
    share_sent_at: int | None = None
    """When a share of this onboarding was first on its way, in whatever round."""
    prior_reject: bool = False
    """The round before ended with OSL Pay's REJECT, so its absence proves that a share arrived."""
    polls: int = 0
    poll_rejects: int = 0
    told: State = State.COLLECTING
    """The state that the merchant can know of."""
    submitted_at: int | None = None
    settled_at: int | None = None
    closed_at: int | None = None
    profile_deleted_at: int | None = None
    """When profile and webhook bodies were deleted, because their time was over or on request."""
    erased_at: int | None = None
    """When everything personal was erased on request."""


@dataclass(frozen=True)
class Document:
    """One sealed file of an onboarding. `size` in bytes and `sha256` (hex) are of the plain content."""

    onboarding_id: str
    kind: str
    media_type: str
    size: int
    sha256: str
    location: str
    uploaded_at: int
    url_sealed: bytes | None = None
    """OSL Pay's URL of this content, good for dialects' `file_url_hours` from `url_at`."""
    url_at: int | None = None


@dataclass(frozen=True)
class Transition:
    """One row of the chain. `detail` is a short text without personal data."""

    onboarding_id: str
    seq: int
    at: int
    from_state: State | None
    to_state: State
    event: Event
    round: int
    actor: str
    detail: str
    hash: str


@dataclass(frozen=True)
class Callback:
    """One webhook of OSL Pay's. `timestamp`: its header (ms). `token_hash`: '' on the merchant-wide URL."""

    id: str
    received_at: int
    app_id: str
    timestamp: int
    token_hash: str
    onboarding_id: str | None
    round: int | None
    type: str
    kyc_status: str | None
    osl_user_id: str | None
    body_sealed: bytes
    body_sha256: str
    """Of the parsed JSON, written canonically: twins in spelling are equal. '' once the body is no longer kept."""
    verdict: Verdict
    seen: int = 1


@dataclass(frozen=True)
class CallbackToken:
    """The secret in one round's callbackUrl."""

    hash: str
    onboarding_id: str
    round: int
    sealed: bytes
    created_at: int


@dataclass(frozen=True)
class Delivery:
    """One notification to the merchant. `seq` orders those of one onboarding."""

    id: str
    onboarding_id: str
    seq: int
    type: str
    body_sealed: bytes
    status: DeliveryStatus
    created_at: int
    due_at: int | None
    attempts: int = 0
    lease: str | None = None
    lease_until: int | None = None
    last_error: str | None = None
    delivered_at: int | None = None


@dataclass(frozen=True)
class AccessToken:
    """A bearer token of the API or the pages; only its hash is kept."""

    name: str
    role: str
    hash: str
    created_at: int
    revoked_at: int | None = None


@dataclass(frozen=True)
class Session:
    """A signed-in browser."""

    hash: str
    token_name: str
    role: str
    created_at: int
    seen_at: int


def made(kind: type[R], values: Mapping[str, Any]) -> R:
    """A record of all its fields. As `kind(**values)`, which for fifty frozen fields takes ten times as long."""
    new = object.__new__(kind)
    vars(new).update(values)
    return new


def changed(record: R, **values: Any) -> R:
    """`record` with some fields changed. As `dataclasses.replace`, which for fifty fields takes twenty times as long.

    Raises TypeError when there is no such field.
    """
    fields = vars(record)
    if not fields.keys() >= values.keys():
        raise TypeError(f"{type(record).__name__} has no field {', '.join(values.keys() - fields.keys())}")
    return made(type(record), {**fields, **values})


def iso(ms: int | None) -> str | None:
    """Unix milliseconds as `2026-11-22T10:00:00.123Z`, as times are seen from outside."""
    if ms is None:
        return None
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
