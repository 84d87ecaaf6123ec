"""What merchants and operators do to an onboarding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from orchestrator.errors import Conflict, InvalidInput, Kind, NotFound, ProviderError
from orchestrator.machine import CLOSED, Event, State
from orchestrator.onboarding.apply import Step, apply
from orchestrator.onboarding.collect import check_complete
from orchestrator.onboarding.context import Context
from orchestrator.onboarding.look import find
from orchestrator.onboarding.masking import masked
from orchestrator.onboarding.measure import measured
from orchestrator.onboarding.outlook import hurry_refused
from orchestrator.records import DeliveryStatus, Onboarding, Operation

LONGEST_REASON = 500
LONGEST_USER_KEY = 256


def cancel(context: Context, onboarding_id: str, actor: str) -> Onboarding:
    """Give an onboarding up. Raises Conflict once it is settled or closed, NotFound."""
    return apply(context, onboarding_id, lambda row: [Step(Event.CANCEL_ASKED, actor)])


def retry(context: Context, onboarding_id: str, actor: str) -> Onboarding:
    """Go on where it stopped, or with the upload when something changed.

    Raises Conflict, NotFound, and InvalidInput when an edit removed what the providers need.
    """

    def decide(row: Onboarding) -> Sequence[Step]:
        if row.state is State.NEEDS_ATTENTION:
            check_complete(context, row)
        return [Step(Event.RETRIED_CHANGED if row.changed else Event.RETRIED, actor)]

    return apply(context, onboarding_id, decide)


def hurry(context: Context, onboarding_id: str, actor: str) -> Onboarding:
    """Take the next step now: try a provider again, or ask OSL Pay, which is done at most once a minute.

    An unhealthy provider is tried now as well. Raises Conflict where it could do harm or nothing waits, NotFound.
    """

    def decide(row: Onboarding) -> Sequence[Step]:
        now = context.now_ms()
        refused = hurry_refused(row, now)
        if refused is not None:
            raise Conflict(refused, row.state)
        if row.state is State.UPLOADING:
            return [Step(Event.HURRIED, actor, changes={"step_at": now}, probe="btse")]
        changes = {"step_at": now} if row.state in (State.SHARING, State.CONFIRMING) else {}
        return [Step(Event.HURRIED, actor, changes=changes, probe="osl")]

    return apply(context, onboarding_id, decide)


def reveal(context: Context, onboarding_id: str, actor: str) -> tuple[str, dict[str, str]]:
    """Email and profile, once it is on record who looked. Raises NotFound, Conflict when nothing is kept any more."""

    def decide(row: Onboarding) -> Sequence[Step]:
        if row.profile_deleted_at is not None:
            raise Conflict("the personal data is no longer kept", row.state)
        return [Step(Event.REVEALED, actor, "email, profile")]

    return context.identity(apply(context, onboarding_id, decide))


def ask_for_resubmission(context: Context, onboarding_id: str, reason: Any, actor: str) -> Onboarding:
    """Ask the user to submit again, saying why. Raises InvalidInput, Conflict, NotFound."""
    if not isinstance(reason, str) or not 1 <= len(reason.strip()) <= LONGEST_REASON:
        raise InvalidInput("the data is not valid", {"reason": [f"must be a text of 1 to {LONGEST_REASON} characters"]})
    return apply(context, onboarding_id, lambda row: [Step(Event.RESUBMISSION_ASKED, actor, reason=reason.strip())])


def resend_delivery(context: Context, delivery_id: str) -> str:
    """Put a finished notification back in line; its onboarding's id. Raises NotFound, Conflict while it is in line."""
    delivery = context.store.delivery(delivery_id)
    if delivery is None:
        raise NotFound("there is no such delivery")
    if not delivery.body_sealed:
        raise Conflict("what it said is no longer kept", delivery.status)
    over = delivery.status is not DeliveryStatus.PENDING
    if not over or not context.schedule.resend_delivery(delivery_id, delivery.onboarding_id, context.now_ms()):
        raise Conflict("the delivery is still being tried, or what it said is no longer kept", delivery.status)
    return delivery.onboarding_id


def replay(context: Context, callback_id: str, actor: str) -> Onboarding:
    """Treat a stored callback as a stale one: OSL Pay is asked. Raises NotFound, Conflict once it is closed."""
    callback = context.store.callback(callback_id)
    if callback is None or callback.onboarding_id is None:
        raise NotFound("there is no such callback, or it belongs to no onboarding")

    def decide(row: Onboarding) -> Sequence[Step]:
        if row.state in CLOSED:
            raise Conflict(f"nothing is asked about an onboarding that is {row.state}", row.state)
        return [Step(Event.CALLBACK_DOUBTED, actor, "replayed")]

    return apply(context, callback.onboarding_id, decide)


def authorization(context: Context, onboarding_id: str) -> Mapping[str, Any]:
    """BTSE Pay's Get Authorization Information. Raises ProviderError; never changes the provider's health."""
    row = find(context, onboarding_id)
    ask = partial(context.btse.get_authorization, row.merchant_user_id)
    return measured(context, Operation.BTSE_AUTHORIZATION, ask).value


def cancel_authorization(context: Context, onboarding_id: str, user_key: Any) -> Mapping[str, Any]:
    """BTSE Pay's Cancel Authorization; the userKey is dead for good.

    Raises InvalidInput, Conflict with BTSE Pay's words when it refuses, ProviderError otherwise.
    """
    if not isinstance(user_key, str) or not 1 <= len(user_key) <= LONGEST_USER_KEY or not user_key.isprintable():
        fault = f"must be a text of 1 to {LONGEST_USER_KEY} printable characters"
        raise InvalidInput("the data is not valid", {"userKey": [fault]})
    row = find(context, onboarding_id)
    try:
        cancel = partial(context.btse.cancel_authorization, row.merchant_user_id, user_key)
        return measured(context, Operation.BTSE_CANCEL, cancel).value
    except ProviderError as error:
        if error.kind is not Kind.REFUSED:
            raise
        words = masked(error.words, {"merchantUserId": row.merchant_user_id, "userKey": user_key})
        raise Conflict(f"BTSE Pay refuses: {words}", row.state) from error
