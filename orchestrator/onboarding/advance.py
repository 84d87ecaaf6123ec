"""The worker's side: claim what is due and do one step of it, one call to a provider at most."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from orchestrator.errors import Kind, ProviderError, SealBroken
from orchestrator.machine import SETTLED, WAITING, Event, State
from orchestrator.notify import after_try
from orchestrator.onboarding.apply import Step
from orchestrator.onboarding.ask import confirm, poll, settle_doubt
from orchestrator.onboarding.context import SECOND, Context
from orchestrator.onboarding.files import provider_file
from orchestrator.onboarding.measure import measured
from orchestrator.onboarding.profile import BTSE_FIELDS
from orchestrator.onboarding.share import share
from orchestrator.onboarding.work import ACTOR, FRESH, SLOT_SLACK, Work
from orchestrator.records import Delivery, Lane, Operation
from orchestrator.store import LeaseLost
from orchestrator.store.claiming import Claim, Terms
from orchestrator.store.schedule import Due
from orchestrator.telemetry import about, logger

__all__ = ["LeaseLost", "advance", "beat", "claim", "claim_deliveries", "deliver", "next_due", "stop"]


def claim(context: Context, room: Mapping[Lane, int]) -> list[Claim]:
    """Due rows, leased to the caller; `room`: how many of each lane it can work on."""
    now = context.now_ms()
    deadline = now + context.rules.deadline_ms
    return context.schedule.claim(
        Terms(
            now=now,
            lease=context.new_id("lease"),
            lease_until=deadline + context.timings.lease_margin,
            slot_free_at=deadline + SLOT_SLACK + SECOND,
            probe_ms=context.timings.probe,
            room=room,
        )
    )


def claim_deliveries(context: Context, limit: int) -> list[Delivery]:
    """Due notifications, leased to the caller."""
    now = context.now_ms()
    return context.schedule.claim_deliveries(now, context.new_id("lease"), _delivered_until(context, now), limit)


def next_due(context: Context) -> Due:
    """When something can next be claimed (unix ms)."""
    return context.schedule.next_due(context.now_ms())


def advance(context: Context, claimed: Claim) -> None:
    """Do one step of a claimed row and give it back.

    Raises LeaseLost when another worker took it over, SealBroken when a key is missing: it is tried again then.
    """
    row = claimed.onboarding
    about(row.id)
    work = Work(context, claimed, "btse" if row.state is State.UPLOADING else "osl")
    try:
        _advance(work, claimed.lane)
    except SealBroken:
        work.put_off()
        raise


def _advance(work: Work, lane: Lane) -> None:
    row = work.row
    if row.state is State.UPLOADING:
        _upload(work)
    elif row.state is State.SHARING:
        share(work)
    elif row.state is State.CONFIRMING or (row.state in SETTLED and row.claim is not None):
        confirm(work)
    elif row.state in WAITING:
        poll(work)
    elif lane is Lane.POLL:
        settle_doubt(work)
    else:
        work.done(lambda row: [Step(Event.TIME_RAN_OUT, ACTOR)] if row.state is State.COLLECTING else [])


def deliver(context: Context, delivery: Delivery, goes_on: Callable[[], bool] = lambda: False) -> Delivery | None:
    """One try to tell the merchant, and what became of it.

    `goes_on`: whether the caller takes one more, asked after the try: a due notification, leased to it, or None.
    """
    about(delivery.onboarding_id)
    error = None
    if context.merchant is None:
        error = ProviderError("merchant", Kind.TRANSIENT, "no-receiver")
    else:
        try:
            merchant = context.merchant
            measured(context, Operation.NOTIFY, lambda: merchant.send(delivery))
        except ProviderError as failure:
            error = failure
            logger("worker").info("delivery_failed", delivery_id=delivery.id, code=failure.code)
    now = context.now_ms()
    tried = after_try(delivery, error, context.timings.deliveries, now, context.random())
    return context.schedule.settle_delivery(
        tried,
        delivery.lease or "",
        now,
        next_lease=context.new_id("lease") if goes_on() else None,
        lease_until=_delivered_until(context, now),
    )


def _delivered_until(context: Context, now: int) -> int:
    """When the lease on a notification ends that is claimed now."""
    return now + context.rules.deadline_ms + context.timings.lease_margin


def beat(context: Context, worker_id: str) -> None:
    """Say that a worker is alive."""
    now, timings = context.now_ms(), context.timings
    context.schedule.beat(worker_id, now, now - 10 * timings.worker_silent, timings.probe)


def stop(context: Context, worker_id: str) -> None:
    """Say that a worker stopped cleanly."""
    context.schedule.stop_worker(worker_id)


def _upload(work: Work) -> None:
    context = work.context
    email, profile = context.identity(work.row)
    documents = {document.kind: document for document in context.store.documents(work.row.id)}
    needed = [documents[kind] for kind in context.profile_rules.needed_documents(profile) if kind in documents]
    fields = {name: profile[name] for name in BTSE_FIELDS}
    fields |= {"email": email, "merchantUserId": work.row.merchant_user_id}
    try:
        files = {document.kind: provider_file(context, document, "btse") for document in needed}
        work.call(Operation.BTSE_UPLOAD, lambda: context.btse.upload_kyc(fields, files))
    except ProviderError as error:
        work.failed(error)
        return
    work.done(lambda row: [Step(Event.UPLOADED, ACTOR, ", ".join(files), {"changed": False, **FRESH})])
