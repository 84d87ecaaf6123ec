"""What the merchant is told, and how it is delivered: Standard Webhooks, without personal data."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from standardwebhooks import Webhook

from orchestrator.errors import Kind, ProviderError
from orchestrator.machine import State
from orchestrator.providers.http import Outgoing
from orchestrator.records import Delivery, DeliveryStatus, Onboarding, changed, iso
from orchestrator.seal import Sealer

_NOTICES = {
    State.COLLECTING: "onboarding.resubmission_required",
    State.IN_REVIEW: "onboarding.in_review",
    State.APPROVED: "onboarding.approved",
    State.REJECTED: "onboarding.rejected",
    State.NEEDS_ATTENTION: "onboarding.needs_attention",
    State.CANCELLED: "onboarding.cancelled",
    State.EXPIRED: "onboarding.expired",
}
SUBMITTED = "onboarding.submitted"


def notices(row: Onboarding, submitted: bool, round_before: int) -> tuple[str | None, Onboarding]:
    """The type of notification that a row's new state calls for, and the row that remembers what is known.

    `confirming` is not visible: the merchant goes on knowing the state before it, so that a state entered again
    from there is not told again.
    """
    if row.state is State.CONFIRMING or (row.state is row.told and row.round == round_before):
        return None, row
    told = changed(row, told=row.state)
    return (SUBMITTED if submitted else _NOTICES.get(row.state)), told


@dataclass(frozen=True)
class Merchant:
    """The merchant's receiver."""

    url: str
    secret: str
    sealer: Sealer
    outgoing: Outgoing
    now_ms: Callable[[], int]

    def __repr__(self) -> str:
        return f"Merchant({self.url})"

    def delivery(
        self, delivery_id: str, notice: str, row: Onboarding, before: Onboarding, now: int, reason: str | None
    ) -> Delivery:
        """The notification `notice` about `row`, to be stored with the transition. Its body is sealed JSON.

        `delivery_id`: a new `dlv_…` id; it is also the `webhook-id` of all tries. Who it is about is said as the
        merchant knows it: an erasure replaces the merchantUserId in `row`.
        """
        # Receivers follow the newest, and whoever moved the row last may have a faster clock.
        happened_at = max(now, before.updated_at)
        body = {
            "type": notice,
            "timestamp": iso(happened_at),
            "data": {
                "id": row.id,
                "merchantUserId": before.merchant_user_id,
                "state": row.state,
                "previousState": before.told,
                "round": row.round,
                "reason": reason,
                "oslUserId": row.osl_user_id,
            },
        }
        sealed = self.sealer.seal(json.dumps(body, ensure_ascii=False).encode(), "deliveries", delivery_id, "body")
        return Delivery(delivery_id, row.id, 0, notice, sealed, DeliveryStatus.PENDING, now, None)

    def send(self, delivery: Delivery) -> None:
        """One try: POST the body, signed now. Raises ProviderError unless the answer is 2xx."""
        body = self.sealer.open(delivery.body_sealed, "deliveries", delivery.id, "body")
        now = self.now_ms() // 1000
        signature = Webhook(self.secret).sign(delivery.id, datetime.fromtimestamp(now, UTC), body.decode())
        headers = {
            "content-type": "application/json",
            "webhook-id": delivery.id,
            "webhook-timestamp": str(now),
            "webhook-signature": signature,
        }
        reply = self.outgoing.send("merchant", "POST", self.url, headers=headers, body=body)
        if not 200 <= reply.status < 300:
            raise ProviderError("merchant", Kind.TRANSIENT, str(reply.status))


def after_try(
    delivery: Delivery, error: ProviderError | None, waits: tuple[int, ...], now: int, jitter: float
) -> Delivery:
    """The delivery after one try: delivered, due again after the next of `waits` (ms), or failed after the last.

    `jitter`: 0 to 1, adds up to a tenth of the wait.
    """
    tried = changed(delivery, attempts=delivery.attempts + 1)
    if error is None:
        return changed(tried, status=DeliveryStatus.DELIVERED, due_at=None, delivered_at=now, last_error=None)
    tried = changed(tried, last_error=error.code)
    if delivery.attempts >= len(waits):
        return changed(tried, status=DeliveryStatus.FAILED, due_at=None)
    wait = waits[delivery.attempts]
    return changed(tried, due_at=now + wait + int(wait * jitter / 10))
