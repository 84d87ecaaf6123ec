"""Records as the JSON that is seen from outside: camelCase, times as ISO 8601 UTC with milliseconds.

Each shape stands beside what writes it, as the schema that the API's description shows.
"""

from __future__ import annotations

from typing import Any

from marshmallow import Schema, fields, validate

from orchestrator.machine import Event, State
from orchestrator.onboarding.look import View
from orchestrator.onboarding.media import MEDIA_TYPES
from orchestrator.onboarding.profile import DOCUMENT_KINDS
from orchestrator.records import Callback, Delivery, DeliveryStatus, Document, Transition, Verdict, iso


def _text(says: str = "", *, null: bool = False, form: str | None = None, **facts: Any) -> fields.String:
    """A member that is always there. `null`: it may be null."""
    metadata = {"description": says, "format": form, **facts}
    return fields.String(
        required=True, allow_none=null, metadata={name: value for name, value in metadata.items() if value}
    )


def _word(words: Any, says: str = "", *, null: bool = False) -> fields.String:
    return fields.String(
        required=True,
        allow_none=null,
        validate=validate.OneOf([str(word) for word in words]),
        metadata={"description": says} if says else {},
    )


def _time(says: str, *, null: bool = False) -> fields.String:
    return _text(says, null=null, form="date-time")


def _count(says: str, least: int = 0) -> fields.Integer:
    return fields.Integer(required=True, validate=validate.Range(min=least), metadata={"description": says})


class DocumentSchema(Schema):
    """One document of an onboarding."""

    kind = _word(DOCUMENT_KINDS)
    mediaType = _word(MEDIA_TYPES, "By its content.")
    size = _count("Bytes of the plain content.", 1)
    sha256 = _text("Of the plain content, in hexadecimal.", pattern="^[0-9a-f]{64}$")
    uploadedAt = _time("When it was taken.")


class LastErrorSchema(Schema):
    """What a provider last said against going on; for operators, without the user's data."""

    provider = _word(("btse", "osl"))
    code = _text("The provider's code, an HTTP status, or a word such as `timeout`.")
    message = _text("The provider's words, masked; may be empty.")
    at = _time("When.")


class ListedOnboardingSchema(Schema):
    """An onboarding in a list."""

    id = _text("`onb_…`")
    merchantUserId = _text("The merchant's own id of the user.")
    state = _word(State, " ".join(f"`{state}`: {state.meaning}" for state in State))
    round = _count("Counts submissions.", 1)
    missing = fields.List(
        fields.String(),
        required=True,
        metadata={"description": "Paths of what is still needed to submit; empty unless it may be edited."},
    )
    documents = fields.List(fields.Nested(DocumentSchema), required=True)
    oslUserId = _text("The user's id at OSL Pay, once known.", null=True)
    kycStatus = _text("OSL Pay's last word that was believed.", null=True)
    reason = _text("What the user should hear.", null=True)
    attempts = _count("How often the present step failed in a row.")
    nextAttemptAt = _time("When the worker does something next.", null=True)
    lastError = fields.Nested(
        LastErrorSchema,
        required=True,
        allow_none=True,
        metadata={"description": "What stands in the way. For operators; null for others."},
    )
    createdAt = _time("The signup.")
    updatedAt = _time("The last transition.")


class OnboardingSchema(ListedOnboardingSchema):
    """One user's way through. `uploadUrl` is a credential: whoever has it is the user."""

    uploadUrl = _text("The end user's page.", form="uri")


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


class OnboardingsSchema(Schema):
    """A page of onboardings, newest first."""

    items = fields.List(fields.Nested(ListedOnboardingSchema), required=True)
    nextCursor = _text("For the next page; null on the last one.", null=True)


class TransitionSchema(Schema):
    """One row of the chain."""

    seq = _count("From 1, without a gap.", 1)
    at = _time("When.")
    from_ = fields.String(
        required=True,
        allow_none=True,
        data_key="from",
        validate=validate.OneOf([state.value for state in State]),
        metadata={"description": "Null: the signup."},
    )
    to = _word(State)
    event = _word(Event, "What happened.")
    actor = _text("Who did it: `role:name` of a token, or a part of the service.")
    detail = _text("Short, without personal data; may be empty.")
    hash = _text("Over this row and the hash before it.", pattern="^[0-9a-f]{64}$")


class TransitionsSchema(Schema):
    """The chain, oldest first."""

    items = fields.List(fields.Nested(TransitionSchema), required=True)


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


class CallbackSchema(Schema):
    """A webhook of OSL Pay's and what was made of it."""

    id = _text("`cbk_…`")
    receivedAt = _time("When it came.")
    timestamp = _time("What it says itself.")
    type = _text()
    kycStatus = _text("Null: of another type.", null=True)
    verdict = _word([verdict for verdict in Verdict if verdict is not Verdict.DUPLICATE])
    seen = _count("How often it came.", 1)
    round = fields.Integer(required=True, allow_none=True, validate=validate.Range(min=1))


class CallbacksSchema(Schema):
    """The webhooks, in the order of arrival."""

    items = fields.List(fields.Nested(CallbackSchema), required=True)


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


class DeliverySchema(Schema):
    """A notification to the merchant and how far it has come."""

    id = _text("`dlv_…`; also the `webhook-id` of all its tries.")
    type = _text("Such as `onboarding.approved`.")
    status = _word(DeliveryStatus)
    attempts = _count("Tries so far.")
    createdAt = _time("When there was something to tell.")
    nextAttemptAt = _time("Null: over, or another one of the same onboarding goes first.", null=True)
    deliveredAt = _time("When the merchant took it.", null=True)
    lastError = _text("An HTTP status or a word such as `timeout`.", null=True)


class DeliveriesSchema(Schema):
    """The notifications, in order."""

    items = fields.List(fields.Nested(DeliverySchema), required=True)


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


class ProblemSchema(Schema):
    """An error, as RFC 9457 has it."""

    type = _word(("about:blank",))
    title = _text("The status in words.")
    status = fields.Integer(required=True, validate=validate.Range(min=400, max=599))
    detail = _text("What is wrong and, where it helps, what to do.")


class InvalidSchema(ProblemSchema):
    """The data is at fault."""

    errors = fields.Dict(
        keys=fields.String(),
        values=fields.List(fields.String(), validate=validate.Length(min=1)),
        metadata={"description": "Dotted path such as `profile.ip` → messages. Absent where no field is at fault."},
    )


class ConflictSchema(ProblemSchema):
    """The state does not allow it."""

    state = _text("The onboarding's state that did not allow it, or the delivery's status.")


class ProviderFaultSchema(ProblemSchema):
    """A provider did not do what was asked."""

    kind = _word(("transient", "refused", "unauthorized"))
    code = _text("The provider's code, an HTTP status, or a word such as `timeout`.")
