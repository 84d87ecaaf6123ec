"""What the merchant is told, when, and how a notification is tried again."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.errors import Kind, ProviderError, SealBroken
from orchestrator.machine import State
from orchestrator.notify import SUBMITTED, Merchant, after_try, notices
from orchestrator.onboarding.context import Timings
from orchestrator.providers.http import Outgoing, Reply
from orchestrator.records import Delivery, DeliveryStatus, Onboarding
from orchestrator.seal import Sealer

S = State
NOW = 1_763_805_600_123
SECRET_BYTES = b"signs what the merchant is told."
SECRET = "whsec_" + base64.b64encode(SECRET_BYTES).decode()
URL = "https://merchant.example.com/kyc"
WAITS = Timings().deliveries
TOLD_OF = {
    S.IN_REVIEW: "onboarding.in_review",
    S.APPROVED: "onboarding.approved",
    S.REJECTED: "onboarding.rejected",
    S.NEEDS_ATTENTION: "onboarding.needs_attention",
    S.CANCELLED: "onboarding.cancelled",
    S.EXPIRED: "onboarding.expired",
}
SILENT = (S.UPLOADING, S.SHARING, S.AWAITING_CALLBACK, S.CONFIRMING)


def row(state: State, told: State = S.COLLECTING, number: int = 1, **more: Any) -> Onboarding:
    return Onboarding(
        id="onb_1",
        merchant_user_id="u-1",
        state=state,
        created_at=NOW,
        updated_at=NOW,
        profile_sealed=b"",
        email_hash="",
        link_hash="",
        link_sealed=b"",
        round=number,
        told=told,
        **more,
    )


def told(state: State, before: State, *, submitted: bool = False, number: int = 1, earlier: int = 1) -> str | None:
    """The type of the notification when `state` is entered and the merchant knows of `before`."""
    return notices(row(state, before, number), submitted, earlier)[0]


# What is told --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("state", "notice"), TOLD_OF.items())
def test_an_outcome_is_told_when_its_state_is_entered(state: State, notice: str) -> None:
    assert told(state, S.AWAITING_CALLBACK) == notice


@pytest.mark.parametrize("state", SILENT)
def test_states_on_the_way_are_not_told(state: State) -> None:
    assert told(state, S.COLLECTING) is None


@pytest.mark.parametrize("state", [S.UPLOADING, S.SHARING, S.AWAITING_CALLBACK, S.IN_REVIEW])
def test_a_submit_is_told_wherever_it_leads(state: State) -> None:
    assert told(state, S.NEEDS_ATTENTION, submitted=True) == SUBMITTED == "onboarding.submitted"


def test_the_next_round_in_collecting_asks_for_resubmission() -> None:
    assert told(S.COLLECTING, S.AWAITING_CALLBACK, number=2) == "onboarding.resubmission_required"


def test_the_next_round_is_told_even_where_the_state_is_the_same() -> None:
    assert told(S.COLLECTING, S.COLLECTING, number=2, earlier=1) == "onboarding.resubmission_required"


def test_nobody_is_told_that_an_onboarding_began() -> None:
    assert told(S.COLLECTING, S.COLLECTING) is None


@pytest.mark.parametrize("state", State)
def test_a_state_that_stays_is_not_told_again(state: State) -> None:
    assert told(state, state) is None


@pytest.mark.parametrize("state", [S.IN_REVIEW, S.AWAITING_CALLBACK, S.NEEDS_ATTENTION, S.APPROVED, S.REJECTED])
def test_a_state_entered_again_from_confirming_is_not_told_again(state: State) -> None:
    _, confirming = notices(row(S.CONFIRMING, state), submitted=False, round_before=1)

    assert notices(replace(confirming, state=state), submitted=False, round_before=1)[0] is None


def test_confirming_is_not_visible_and_changes_nothing_of_what_the_merchant_knows() -> None:
    before = row(S.CONFIRMING, S.IN_REVIEW)

    assert notices(before, submitted=False, round_before=1) == (None, before)


def test_what_was_told_is_remembered() -> None:
    assert notices(row(S.APPROVED, S.IN_REVIEW), submitted=False, round_before=1)[1].told is S.APPROVED
    assert notices(row(S.SHARING, S.UPLOADING), submitted=False, round_before=1)[1].told is S.SHARING


def test_an_overturned_outcome_is_told_each_way() -> None:
    assert told(S.REJECTED, S.APPROVED) == "onboarding.rejected"
    assert told(S.APPROVED, S.REJECTED) == "onboarding.approved"
    assert told(S.COLLECTING, S.APPROVED, number=2) == "onboarding.resubmission_required"


def test_the_notifications_are_those_of_the_contract() -> None:
    found = {told(state, S.SHARING, submitted=False, number=2) for state in State} - {None} | {SUBMITTED}

    assert found == {*TOLD_OF.values(), "onboarding.submitted", "onboarding.resubmission_required"}


# What it says and how it is sent -------------------------------------------------------------------------------


@dataclass
class Receiver:
    """Stands for the merchant: takes what is sent and answers."""

    status: int = 200
    sent: list[dict[str, Any]] = field(default_factory=list)

    def send(self, provider: str, method: str, url: str, *, headers: Mapping[str, str], body: bytes) -> Reply:
        sent = {"provider": provider, "method": method, "url": url, "headers": dict(headers), "body": body}
        self.sent.append(sent)
        return Reply(self.status, {}, b"", None)


def merchant(receiver: Receiver | None = None, now_ms: int = NOW) -> Merchant:
    sealer = Sealer([bytes(32)], bytes)
    outgoing = cast("Outgoing", receiver or Receiver())
    return Merchant(URL, SECRET, sealer, outgoing, lambda: now_ms)


def told_body(**more: Any) -> dict[str, Any]:
    """The body of a notification about an approval."""
    one = merchant()
    after = row(S.APPROVED, S.APPROVED, osl_user_id="9001", **more)
    delivery = one.delivery("dlv_1", "onboarding.approved", after, row(S.CONFIRMING, S.IN_REVIEW), NOW, "a reason")
    opened: dict[str, Any] = json.loads(one.sealer.open(delivery.body_sealed, "deliveries", delivery.id, "body"))
    return opened


def test_a_notification_says_what_the_contract_says_and_nothing_more() -> None:
    assert told_body(number=2) == {
        "type": "onboarding.approved",
        "timestamp": "2025-11-22T10:00:00.123Z",
        "data": {
            "id": "onb_1",
            "merchantUserId": "u-1",
            "state": "approved",
            "previousState": "in_review",
            "round": 2,
            "reason": "a reason",
            "oslUserId": "9001",
        },
    }


@given(ms=st.integers(0, 4_102_444_800_000))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_its_time_is_exact_to_the_millisecond(ms: int) -> None:
    one = merchant()
    before = replace(row(S.SHARING), updated_at=0)
    delivery = one.delivery("dlv_1", "onboarding.approved", row(S.APPROVED), before, ms, None)
    text = json.loads(one.sealer.open(delivery.body_sealed, "deliveries", delivery.id, "body"))["timestamp"]

    assert text.endswith("Z")
    assert len(text) == len("2026-11-22T10:00:00.123Z")
    assert round(datetime.fromisoformat(text).timestamp() * 1000) == ms


def test_a_new_notification_waits_for_its_first_try() -> None:
    delivery = merchant().delivery("dlv_1", "onboarding.approved", row(S.APPROVED), row(S.SHARING), NOW, None)

    assert (delivery.id, delivery.onboarding_id, delivery.type) == ("dlv_1", "onb_1", "onboarding.approved")
    assert (delivery.status, delivery.attempts) == (DeliveryStatus.PENDING, 0)
    assert b"u-1" not in delivery.body_sealed


def new_delivery(one: Merchant) -> Delivery:
    return one.delivery("dlv_1", "onboarding.approved", row(S.APPROVED, osl_user_id="9001"), row(S.SHARING), NOW, "Zoë")


def test_a_try_is_one_post_signed_as_standard_webhooks_has_it() -> None:
    receiver = Receiver()
    one = merchant(receiver)
    one.send(new_delivery(one))

    [sent] = receiver.sent
    signed = f"dlv_1.{NOW // 1000}.".encode() + sent["body"]
    expected = base64.b64encode(hmac.new(SECRET_BYTES, signed, hashlib.sha256).digest()).decode()
    assert (sent["provider"], sent["method"], sent["url"]) == ("merchant", "POST", URL)
    assert sent["headers"] == {
        "content-type": "application/json",
        "webhook-id": "dlv_1",
        "webhook-timestamp": str(NOW // 1000),
        "webhook-signature": f"v1,{expected}",
    }
    assert json.loads(sent["body"])["data"]["reason"] == "Zoë"


def test_each_try_has_the_same_id_and_body_and_a_timestamp_and_signature_of_its_own() -> None:
    receiver = Receiver()
    early, late = merchant(receiver), merchant(receiver, NOW + 300_000)
    delivery = new_delivery(early)
    early.send(delivery)
    late.send(delivery)

    first, second = receiver.sent
    assert first["headers"]["webhook-id"] == second["headers"]["webhook-id"]
    assert first["body"] == second["body"]
    assert first["headers"]["webhook-timestamp"] != second["headers"]["webhook-timestamp"]
    assert first["headers"]["webhook-signature"] != second["headers"]["webhook-signature"]


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_any_2xx_is_taken_as_received(status: int) -> None:
    one = merchant(Receiver(status))
    one.send(new_delivery(one))


@pytest.mark.parametrize("status", [100, 199, 301, 302, 304, 400, 401, 404, 410, 429, 500, 503])
def test_any_other_answer_is_tried_again(status: int) -> None:
    one = merchant(Receiver(status))

    with pytest.raises(ProviderError) as caught:
        one.send(new_delivery(one))

    assert (caught.value.provider, caught.value.kind, caught.value.code) == ("merchant", Kind.TRANSIENT, str(status))


def test_a_body_sealed_for_another_delivery_is_not_sent() -> None:
    receiver = Receiver()
    one = merchant(receiver)

    with pytest.raises(SealBroken):
        one.send(replace(new_delivery(one), id="dlv_2"))

    assert receiver.sent == []


def test_the_repr_shows_no_secret() -> None:
    assert repr(merchant()) == f"Merchant({URL})"


# Tries ---------------------------------------------------------------------------------------------------------

DELIVERY = Delivery("dlv_1", "onb_1", 1, "onboarding.approved", b"", DeliveryStatus.PENDING, NOW, NOW)
FAULT = ProviderError("merchant", Kind.TRANSIENT, "503")


def test_the_waits_are_those_of_standard_webhooks() -> None:
    seconds = (5, 5 * 60, 30 * 60, 2 * 3600, 5 * 3600, 10 * 3600, 14 * 3600, 20 * 3600, 24 * 3600)

    assert tuple(wait // 1000 for wait in WAITS) == seconds


def test_after_a_success_it_is_delivered_and_never_due_again() -> None:
    after = after_try(replace(DELIVERY, last_error="503"), None, WAITS, NOW, 0.5)

    assert (after.status, after.due_at, after.delivered_at) == (DeliveryStatus.DELIVERED, None, NOW)
    assert (after.attempts, after.last_error) == (1, None)


def test_after_each_failure_it_waits_longer_and_after_the_last_it_has_failed() -> None:
    delivery, waited = DELIVERY, []
    while delivery.status is DeliveryStatus.PENDING:
        delivery = after_try(delivery, FAULT, WAITS, NOW, 0.0)
        if delivery.due_at is not None:
            waited.append(delivery.due_at - NOW)

    assert tuple(waited) == WAITS
    assert delivery.attempts == len(WAITS) + 1 == 10
    assert (delivery.status, delivery.due_at, delivery.last_error) == (DeliveryStatus.FAILED, None, "503")


def test_the_last_try_may_still_succeed() -> None:
    after = after_try(replace(DELIVERY, attempts=len(WAITS)), None, WAITS, NOW, 0.0)

    assert (after.status, after.attempts) == (DeliveryStatus.DELIVERED, 10)


@given(attempts=st.integers(0, len(WAITS) - 1), jitter=st.floats(0, 1, exclude_max=True))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_jitter_adds_up_to_a_tenth_of_the_wait_and_never_shortens_it(attempts: int, jitter: float) -> None:
    after = after_try(replace(DELIVERY, attempts=attempts), FAULT, WAITS, NOW, jitter)

    assert after.due_at is not None
    assert WAITS[attempts] <= after.due_at - NOW <= WAITS[attempts] * 1.1


def test_without_any_waits_the_first_failure_is_the_last() -> None:
    assert after_try(DELIVERY, FAULT, (), NOW, 0.0).status is DeliveryStatus.FAILED


def test_a_try_changes_nothing_of_what_is_told() -> None:
    after = after_try(DELIVERY, FAULT, WAITS, NOW, 0.3)

    assert replace(after, attempts=0, due_at=NOW, last_error=None) == DELIVERY
