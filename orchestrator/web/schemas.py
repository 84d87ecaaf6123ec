"""Records as the JSON that is seen from outside: camelCase, times as ISO 8601 UTC with milliseconds."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from orchestrator.onboarding.look import View
from orchestrator.records import Callback, Delivery, Document, Transition


def iso(ms: int | None) -> str | None:
    """Unix milliseconds as `2026-11-22T10:00:00.123Z`."""
    if ms is None:
        return None
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def onboarding_json(view: View, *, with_link: bool, with_error: bool) -> dict[str, Any]:
    """An onboarding; `uploadUrl`, a credential, only `with_link`; what providers said only `with_error`."""
    row = view.onboarding
    link = {"uploadUrl": view.upload_url} if with_link else {}
    return {
        "id": row.id,
        "merchantUserId": row.merchant_user_id,
        "state": row.state,
        "round": row.round,
        "missing": list(view.missing),
        "documents": [document_json(document) for document in view.documents],
        **link,
        "oslUserId": row.osl_user_id,
        "kycStatus": row.kyc_status,
        "reason": view.reason,
        "attempts": row.attempts,
        "nextAttemptAt": iso(row.due_at),
        "lastError": _error_json(view) if with_error else None,
        "createdAt": iso(row.created_at),
        "updatedAt": iso(row.updated_at),
    }


def _error_json(view: View) -> dict[str, Any] | None:
    return view.last_error and {**view.last_error, "at": iso(view.last_error["at"])}


def document_json(document: Document) -> dict[str, Any]:
    """A document's metadata; `size` in bytes, `sha256` of the plain content."""
    return {
        "kind": document.kind,
        "mediaType": document.media_type,
        "size": document.size,
        "sha256": document.sha256,
        "uploadedAt": iso(document.uploaded_at),
    }


def transition_json(row: Transition) -> dict[str, Any]:
    """One row of the chain."""
    return {
        "seq": row.seq,
        "at": iso(row.at),
        "from": row.from_state,
        "to": row.to_state,
        "event": row.event,
        "actor": row.actor,
        "detail": row.detail,
        "hash": row.hash,
    }


def callback_json(row: Callback) -> dict[str, Any]:
    """One callback and what was made of it."""
    return {
        "id": row.id,
        "receivedAt": iso(row.received_at),
        "timestamp": iso(row.timestamp),
        "type": row.type,
        "kycStatus": row.kyc_status,
        "verdict": row.verdict,
        "seen": row.seen,
        "round": row.round,
    }


def delivery_json(row: Delivery) -> dict[str, Any]:
    """One notification to the merchant and how far it has come."""
    return {
        "id": row.id,
        "type": row.type,
        "status": row.status,
        "attempts": row.attempts,
        "createdAt": iso(row.created_at),
        "nextAttemptAt": iso(row.due_at),
        "deliveredAt": iso(row.delivered_at),
        "lastError": row.last_error,
    }
