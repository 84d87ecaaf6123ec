"""What callers send, as the schemas that the API's description shows, and what the merchant is sent.

The service checks what it gets by itself (`onboarding.profile`); a profile's schema is the one it checks with.
"""

from __future__ import annotations

from marshmallow import EXCLUDE, Schema, fields, validate

from orchestrator.machine import State
from orchestrator.onboarding.operate import LONGEST_REASON, LONGEST_USER_KEY
from orchestrator.onboarding.profile import PRINTABLE

NOTIFICATIONS = {
    "onboarding.submitted": "Everything goes to the providers.",
    "onboarding.resubmission_required": "The user has to submit again; `reason` says why.",
    "onboarding.in_review": "OSL Pay reviews by hand.",
    "onboarding.approved": "OSL Pay passed the user.",
    "onboarding.rejected": "OSL Pay rejected the user for good.",
    "onboarding.needs_attention": "An operator has to look.",
    "onboarding.cancelled": "Given up, or erased while it was open.",
    "onboarding.expired": "Never submitted in time.",
}
"""What the merchant is told of, and when."""


class LenientSchema(Schema):
    """Members that are not known are not looked at."""

    class Meta:
        """Where marshmallow looks for it."""

        unknown = EXCLUDE


class ResubmissionSchema(LenientSchema):
    """Why the user has to submit again."""

    reason = fields.String(
        required=True,
        validate=validate.Length(1, LONGEST_REASON),
        metadata={"description": "The user will read it.", "pattern": r"\S"},
    )


class AuthorizationCancelSchema(LenientSchema):
    """Which of BTSE Pay's user keys is to be cancelled, for good."""

    userKey = fields.String(
        required=True,
        validate=validate.Length(1, LONGEST_USER_KEY),
        metadata={"description": "No control characters.", "pattern": r"^[^\x00-\x1f\x7f]+$"},
    )


class OnboardingQuerySchema(Schema):
    """Which onboardings are listed."""

    state = fields.String(
        validate=validate.OneOf([*(state.value for state in State), ""]),
        metadata={"description": "Only those in it. Empty: all."},
    )
    q = fields.String(metadata={"description": "Exactly an id, merchantUserId, email or OSL userId."})
    cursor = fields.String(metadata={"description": "The `nextCursor` of the page before."})
    limit = fields.Integer(validate=validate.Range(1, 200), metadata={"default": 50, "description": "How many."})


class CallbackDataSchema(LenientSchema):
    """What OSL Pay says of a user."""

    userId = fields.String(required=True, validate=validate.Length(1, 128), metadata={"pattern": PRINTABLE})
    kycStatus = fields.String(
        required=True,
        validate=validate.Length(1, 64),
        metadata={"pattern": PRINTABLE, "examples": ["PROCESS", "REVIEW", "PASS", "REJECT", "FINAL_REJECT"]},
    )
    merchantUserId = fields.String(allow_none=True)
    merchantCode = fields.String()
    kycShareFailedReason = fields.String()


class ReceivedSchema(Schema):
    """What OSL Pay wants to hear."""

    code = fields.String(required=True, validate=validate.OneOf(["00000"]))
    msg = fields.String(required=True, validate=validate.OneOf(["success"]))


class HealthSchema(Schema):
    """The process answers."""

    status = fields.String(required=True, validate=validate.OneOf(["ok"]))


class ReadinessSchema(HealthSchema):
    """A webhook could be stored now."""

    warnings = fields.List(
        fields.String(), required=True, metadata={"description": "What should be looked at all the same."}
    )


class NotificationDataSchema(Schema):
    """What became of an onboarding. No personal data beside the ids and the reason."""

    id = fields.String(required=True)
    merchantUserId = fields.String(required=True)
    state = fields.String(required=True, validate=validate.OneOf([state.value for state in State]))
    previousState = fields.String(required=True, validate=validate.OneOf([state.value for state in State]))
    round = fields.Integer(required=True, validate=validate.Range(min=1))
    reason = fields.String(required=True, allow_none=True)
    oslUserId = fields.String(required=True, allow_none=True)


class NotificationSchema(Schema):
    """What the merchant is told, signed as Standard Webhooks has it."""

    type = fields.String(required=True, validate=validate.OneOf(list(NOTIFICATIONS)))
    timestamp = fields.String(required=True, metadata={"format": "date-time"})
    data = fields.Nested(NotificationDataSchema, required=True)
