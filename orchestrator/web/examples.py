"""Examples for the API's description, by component, status or type. Tests hold them to what is served."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_DOCUMENT = {
    "kind": "idFileFront",
    "mediaType": "image/jpeg",
    "size": 81234,
    "sha256": "b664b2a1f1c6d4e9d5c1f6a0e7c3b2a19f8e7d6c5b4a39281706f5e4d3c2b1a0",
    "uploadedAt": "2026-11-22T10:00:03.917Z",
}
_LISTED = {
    "id": "onb_w816i1unyVQzRNER6NJWBS",
    "merchantUserId": "u-1",
    "state": "collecting",
    "round": 1,
    "missing": ["profile.ip", "documents.selfie"],
    "documents": [_DOCUMENT],
    "oslUserId": None,
    "kycStatus": None,
    "reason": None,
    "attempts": 0,
    "nextAttemptAt": "2026-12-22T10:00:00.000Z",
    "lastError": None,
    "createdAt": "2026-11-22T10:00:00.000Z",
    "updatedAt": "2026-11-22T10:00:03.917Z",
}
_SIGNUP = {
    "merchantUserId": "u-1",
    "email": "ana@example.com",
    "profile": {
        "firstName": "Ana",
        "lastName": "Lee",
        "idType": "PASSPORT",
        "idNumber": "K1234567",
        "nationality": "HKG",
        "residentialCountry": "HKG",
        "accountPurpose": "Savings",
        "monthSpend": "Less than 1,000 USD",
        "sourceFunds": "Salary",
        "occupation": "Employed",
        "ip": "203.0.113.7",
        "deviceId": "d-1",
    },
}
_DELIVERY = {
    "id": "dlv_jTq0fkqgGmtl4SmkIBTL1w",
    "type": "onboarding.submitted",
    "status": "delivered",
    "attempts": 1,
    "createdAt": "2026-11-22T10:00:20.052Z",
    "nextAttemptAt": None,
    "deliveredAt": "2026-11-22T10:00:20.140Z",
    "lastError": None,
}

EXAMPLES: Mapping[str, Any] = {
    "Onboarding": {**_LISTED, "uploadUrl": "https://onboarding.example.com/u/3fP71ZBTjJtE1Yk0yX2m9Q"},
    "Onboardings": {"items": [_LISTED], "nextCursor": "MTc5NTM0MTYwMDAwMC5vbmJfdzgxNmkxdW55VlF6Uk5FUjZOSldCUw"},
    "Signup": _SIGNUP,
    "SignupEvent": {"type": "user.signup", "timestamp": "2026-11-22T10:00:00Z", "data": _SIGNUP},
    "ProfilePatch": {"dob": "1990-12-31", "middleName": None},
    "Resubmission": {"reason": "The photo is too dark."},
    "AuthorizationCancel": {"userKey": "4f6c2a9e"},
    "BtseAuthorization": {"merchantUserId": "u-1"},
    "Transitions": {
        "items": [
            {
                "seq": 6,
                "at": "2026-11-22T10:00:20.115Z",
                "from": "uploading",
                "to": "sharing",
                "event": "uploaded",
                "actor": "worker",
                "detail": "idFileFront, selfie",
                "hash": "bce630a1f1c6d4e9d5c1f6a0e7c3b2a19f8e7d6c5b4a39281706f5e4d3c2b1a0",
            }
        ]
    },
    "Callbacks": {
        "items": [
            {
                "id": "cbk_F0F94TsnvUf9BCVurMUA4n",
                "receivedAt": "2026-11-22T10:00:20.702Z",
                "timestamp": "2026-11-22T10:00:20.696Z",
                "type": "kyc_status_change",
                "kycStatus": "PASS",
                "verdict": "applied",
                "seen": 1,
                "round": 1,
            }
        ]
    },
    "Delivery": {
        **_DELIVERY,
        "status": "pending",
        "attempts": 0,
        "nextAttemptAt": "2026-11-22T10:05:00.000Z",
        "deliveredAt": None,
    },
    "Deliveries": {"items": [_DELIVERY]},
    "OslWebhook": {
        "type": "kyc_status_change",
        "data": {
            "merchantUserId": "u-1",
            "userId": "9001",
            "merchantCode": "m-1",
            "kycStatus": "PASS",
            "kycShareFailedReason": "",
        },
    },
    "Received": {"code": "00000", "msg": "success"},
    "Health": {"status": "ok"},
    "Readiness": {
        "status": "ok",
        "warnings": ["no worker is running: start `orchestrator serve` or `orchestrator worker`"],
    },
}
"""By component of a body."""


def _told(
    kind: str, state: str, before: str, osl_user_id: str | None = None, *, number: int = 1, reason: str | None = None
) -> dict[str, Any]:
    data = {"id": "onb_w816i1unyVQzRNER6NJWBS", "merchantUserId": "u-1", "state": state, "previousState": before}
    return {
        "type": kind,
        "timestamp": "2026-11-22T10:00:20.814Z",
        "data": {**data, "round": number, "reason": reason, "oslUserId": osl_user_id},
    }


TOLD_EXAMPLES: Mapping[str, Any] = {
    told["type"]: told
    for told in (
        _told("onboarding.submitted", "uploading", "collecting"),
        _told(
            "onboarding.resubmission_required",
            "collecting",
            "awaiting_callback",
            "9001",
            number=2,
            reason="The photo is too dark.",
        ),
        _told("onboarding.in_review", "in_review", "awaiting_callback", "9001"),
        _told("onboarding.approved", "approved", "awaiting_callback", "9001"),
        _told("onboarding.rejected", "rejected", "awaiting_callback", "9001", reason="The document is not genuine."),
        _told("onboarding.needs_attention", "needs_attention", "sharing"),
        _told("onboarding.cancelled", "cancelled", "collecting"),
        _told("onboarding.expired", "expired", "collecting"),
    )
}
"""By type of a notification."""

ERROR_EXAMPLES: Mapping[int, Mapping[str, Any]] = {
    400: {"detail": "`data` must have the texts `userId` and `kycStatus`"},
    401: {"detail": "a valid token is needed: Authorization: Bearer orc_…"},
    403: {"detail": "this needs a token of the role operator"},
    404: {"detail": "there is no such onboarding"},
    408: {"detail": "The request did not arrive in time."},
    409: {"detail": "nothing can be changed while the onboarding is approved", "state": "approved"},
    411: {"detail": "Transfer-Encoding is not taken here: send a Content-Length."},
    413: {"detail": "a document may have 5000000 bytes: send a smaller one"},
    414: {"detail": "The request line is too long."},
    415: {"detail": "the file must be a readable jpg, png or pdf, by its content"},
    417: {"detail": "The only expectation met here is 100-continue."},
    422: {"detail": "the data is not valid", "errors": {"profile.ip": ["must be an IPv4 or IPv6 address"]}},
    431: {"detail": "The head of the request is longer than 32768 bytes."},
    500: {"detail": "something went wrong here; nothing was stored"},
    502: {"detail": "btse: transient (timeout)", "kind": "transient", "code": "timeout"},
    503: {"detail": "the database must be migrated first: run `orchestrator migrate`"},
}
"""By status: what an error says beyond its type, title and status."""
