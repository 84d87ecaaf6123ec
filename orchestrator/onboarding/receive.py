"""OSL Pay's webhooks: verified, matched and judged. A webhook is a hint; the status query is the truth.

The signature covers `appId` and `timestamp` alone (docs/providers.md, W3), so an authentic one proves only that
OSL Pay once sent something at that time. No provider is called here: what must be asked is left to the worker.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from orchestrator.errors import MalformedCallback, NotFound, Unauthenticated
from orchestrator.machine import CLAIMS, CellKind, Event, State, next_move
from orchestrator.onboarding.apply import Step, apply
from orchestrator.onboarding.context import Context
from orchestrator.records import Callback, Onboarding, Refusal, ShareOutcome, Verdict
from orchestrator.seal import plain_hash
from orchestrator.signatures import osl_verify
from orchestrator.telemetry import logger

ACTOR = "osl_pay"
LARGEST_BODY = 64_000
FORGED_KEPT = 10
ORPHANS_OF_ONE = 10
"""That one pair of headers may leave: OSL Pay may sign for several users in a millisecond, but not for a ringful."""
EVENTS = {
    "PROCESS": Event.CALLBACK_PROCESS,
    "REVIEW": Event.CALLBACK_REVIEW,
    "PASS": Event.CALLBACK_PASS,
    "REJECT": Event.CALLBACK_REJECT,
    "FINAL_REJECT": Event.CALLBACK_FINAL_REJECT,
}
"""OSL Pay's words and ours; an unknown word moves nobody."""


@dataclass(frozen=True)
class _Webhook:
    """A signed webhook of the documented shape."""

    app_id: str
    timestamp: int
    token_hash: str
    """Of the URL's secret; '' on the merchant-wide URL."""
    round: int | None
    """That the URL was made for."""
    type: str
    kyc_status: str | None
    osl_user_id: str | None
    merchant_user_id: str | None
    reason: str
    body: bytes
    sha256: str


def receive(context: Context, token: str | None, headers: Mapping[str, str], body: bytes) -> Verdict:
    """Judge and store one webhook; durable when this returns. `token`: of its URL, None on the merchant-wide one.

    Raises Unauthenticated (headers, signature, or `forged`), NotFound (token), MalformedCallback (not the
    documented JSON). The order of the checks is that of docs/design.md, point 5.
    """
    with _counted(context, Refusal.UNSIGNED):
        app_id, timestamp = _verified(context, headers)
    token_hash = "" if token is None else plain_hash(token)
    with _counted(context, Refusal.UNKNOWN_URL):
        row, number = _addressee(context, token_hash) if token_hash else (None, None)
    with _counted(context, Refusal.MALFORMED):
        webhook = _parsed(context, app_id, timestamp, token_hash, number, body)
    row = row or _match(context, webhook)
    verdict = _receive_unmatched(context, webhook) if row is None else _receive_for(context, row, webhook)
    logger("callbacks").info("callback", verdict=verdict.value, onboarding_id=row.id if row else None)
    if verdict is Verdict.FORGED:
        raise Unauthenticated("these headers were signed for another body or another user")
    return verdict


def believed_until(callbacks: Sequence[Callback], number: int) -> int:
    """The newest timestamp (ms) of a callback believed in this round; 0 for none."""
    return max(
        (row.timestamp for row in callbacks if row.round == number and row.verdict is Verdict.APPLIED), default=0
    )


def apply_early(row: Onboarding, callbacks: Sequence[Callback]) -> list[Step]:
    """The steps that apply the callbacks kept while the share's answer was awaited, in the order of arrival.

    `row`: as it is in `sharing`, with the `osl_user_id` that is known now.
    """
    steps: list[Step] = []
    newest = believed_until(callbacks, row.round)
    claimed: Callback | None = None
    for callback in callbacks:
        if callback.verdict is not Verdict.EARLY or callback.round != row.round:
            continue
        if row.osl_user_id and callback.osl_user_id != row.osl_user_id:
            steps.append(Step(Event.CALLBACK_DOUBTED, ACTOR, callbacks=[replace(callback, verdict=Verdict.FORGED)]))
            continue
        event = EVENTS[callback.kyc_status or ""]
        if callback.timestamp < newest:
            steps.append(_superseded_step(event, replace(callback, verdict=Verdict.SUPERSEDED)))
            continue
        if claimed is not None and event not in CLAIMS:
            steps.append(Step(None, ACTOR, callbacks=[replace(callback, verdict=Verdict.IGNORED)]))
            continue
        newest = callback.timestamp
        applied = [replace(callback, verdict=Verdict.APPLIED)]
        if event in CLAIMS:
            if claimed is not None:
                applied.append(replace(claimed, verdict=Verdict.SUPERSEDED))
            claimed = callback
        steps.append(_believed_step(event, callback, applied))
    return steps


@contextmanager
def _counted(context: Context, refusal: Refusal) -> Iterator[None]:
    try:
        yield
    except (Unauthenticated, NotFound, MalformedCallback):
        context.tally.count("verdicts", refusal)
        raise


def _verified(context: Context, headers: Mapping[str, str]) -> tuple[str, int]:
    app_id, timestamp = headers.get("appId", ""), headers.get("timestamp", "")
    if not hmac.compare_digest(app_id.encode("utf-8", "replace"), context.rules.app_id.encode()):
        raise Unauthenticated("the header appId is missing or not ours")
    if not re.fullmatch(r"[0-9]{13}", timestamp, re.ASCII):
        raise Unauthenticated("the header timestamp must be 13 digits")
    if not osl_verify(context.osl_public_key, app_id, timestamp, headers.get("signature", "")):
        raise Unauthenticated("the header signature is missing or wrong")
    return app_id, int(timestamp)


def _addressee(context: Context, token_hash: str) -> tuple[Onboarding, int]:
    known = context.store.addressee(token_hash)
    if known is None:
        raise NotFound("there is no such callback URL")
    return known


def _parsed(
    context: Context, app_id: str, timestamp: int, token_hash: str, number: int | None, body: bytes
) -> _Webhook:
    try:
        value = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
        canonical = json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    except (ValueError, RecursionError) as error:
        raise MalformedCallback("the body must be JSON") from error
    data = value.get("data") if isinstance(value, dict) else None
    if not isinstance(data, dict) or not _is_word(value.get("type"), 64):
        raise MalformedCallback("the body must be an object with `type` and `data`")
    ours = value["type"] == context.dialects.osl.webhook_type
    if ours and not (_is_word(data.get("kycStatus"), 64) and _is_word(data.get("userId"), 128)):
        raise MalformedCallback("`data` must have the texts `userId` and `kycStatus`")
    merchant_user_id = data.get("merchantUserId")
    if ours and not (merchant_user_id is None or isinstance(merchant_user_id, str)):
        raise MalformedCallback("`data.merchantUserId` must be a text")
    reason = data.get("kycShareFailedReason")
    return _Webhook(
        app_id,
        timestamp,
        token_hash,
        number,
        value["type"],
        data["kycStatus"] if ours else None,
        data["userId"] if ours else None,
        merchant_user_id or None if ours else None,
        reason if isinstance(reason, str) else "",
        body,
        hashlib.sha256(canonical).hexdigest(),
    )


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _is_word(value: Any, longest: int) -> bool:
    return isinstance(value, str) and 0 < len(value) <= longest and value.isprintable()


def _match(context: Context, webhook: _Webhook) -> Onboarding | None:
    """Whom a webhook on the merchant-wide URL is about: by userId, else by merchantUserId."""
    if webhook.osl_user_id is None:
        return None
    match = context.store.onboarding_of_osl_user(webhook.osl_user_id)
    if match is None and webhook.merchant_user_id is not None and webhook.merchant_user_id.isprintable():
        match = context.store.live_onboarding(webhook.merchant_user_id)
    return match


def _receive_unmatched(context: Context, webhook: _Webhook) -> Verdict:
    """A webhook about nobody who is known: kept as an orphan, if it names a user."""
    if webhook.osl_user_id is None:
        context.tally.count("verdicts", Verdict.IGNORED)
        return Verdict.IGNORED
    same = context.store.orphans_like(webhook.app_id, webhook.timestamp)
    for orphan in same:
        if orphan.osl_user_id == webhook.osl_user_id:
            context.store.count_again(orphan.id)
            return Verdict.DUPLICATE if orphan.body_sha256 == webhook.sha256 else Verdict.FORGED
    if len(same) < ORPHANS_OF_ONE:
        context.store.keep_orphan(_row(context, webhook, None, Verdict.ORPHAN))
        # A share's answer that names this user looked for orphans before this one was there: nobody looks again.
        if (row := _match(context, webhook)) is not None:
            return _receive_for(context, row, webhook)
    else:
        context.tally.count("verdicts", Verdict.ORPHAN)
    return Verdict.ORPHAN


def _receive_for(context: Context, found: Onboarding, webhook: _Webhook) -> Verdict:
    verdict = Verdict.IGNORED
    again: Callback | None = None

    def decide(row: Onboarding) -> Sequence[Step]:
        nonlocal verdict, again
        known = context.store.callbacks_to_judge_by(
            row, token_hash=webhook.token_hash, app_id=webhook.app_id, timestamp=webhook.timestamp
        )
        again = _seen_before(webhook, known)
        if again is not None:
            verdict = Verdict.FORGED if again.verdict is Verdict.FORGED else Verdict.DUPLICATE
            return ()
        verdict = _verdict(context, row, webhook, known)
        return _steps(context, row, webhook, verdict, known)

    apply(context, found.id, decide, read=found)
    if again is not None:
        context.store.count_again(again.id)
    return verdict


def _seen_before(webhook: _Webhook, known: Sequence[Callback]) -> Callback | None:
    """The row that this webhook repeats: the same identity and equal JSON; a forged one claims no identity."""
    same = [row for row in known if _same_identity(row, webhook) and _equal(row, webhook)]
    return min(same, key=lambda row: row.verdict is Verdict.FORGED, default=None)


def _equal(row: Callback, webhook: _Webhook) -> bool:
    """Whether the JSON is equal, as far as that is known: of bodies that are no longer kept no hash is."""
    return row.body_sha256 == webhook.sha256 or (not row.body_sha256 and row.verdict is not Verdict.FORGED)


def _same_identity(row: Callback, webhook: _Webhook) -> bool:
    return (row.token_hash, row.app_id, row.timestamp) == (webhook.token_hash, webhook.app_id, webhook.timestamp)


def _verdict(context: Context, row: Onboarding, webhook: _Webhook, known: Sequence[Callback]) -> Verdict:
    """The first rule that hits."""
    if any(_same_identity(other, webhook) and other.verdict is not Verdict.FORGED for other in known):
        return Verdict.FORGED
    if row.erased_at is not None:
        return Verdict.IGNORED
    if webhook.osl_user_id is not None and not _names(row, webhook):
        return Verdict.FORGED
    if webhook.kyc_status not in EVENTS or webhook.kyc_status not in context.dialects.osl.kyc_statuses:
        return Verdict.IGNORED
    if abs(context.now_ms() - webhook.timestamp) > context.rules.tolerance_ms:
        return Verdict.STALE
    if webhook.round is None:
        return Verdict.UNADDRESSED
    if webhook.round != row.round:
        return Verdict.OUTDATED
    if webhook.timestamp < believed_until(known, row.round):
        return Verdict.SUPERSEDED
    kind = next_move(row.state, EVENTS[webhook.kyc_status], None).kind
    return {CellKind.KEEP: Verdict.EARLY, CellKind.IGNORE: Verdict.IGNORED}.get(kind, Verdict.APPLIED)


def _names(row: Onboarding, webhook: _Webhook) -> bool:
    """Whether the webhook is about this user, as far as it says so and we know."""
    if row.osl_user_id is not None and webhook.osl_user_id != row.osl_user_id:
        return False
    return webhook.merchant_user_id in (None, row.merchant_user_id)


def _steps(
    context: Context, row: Onboarding, webhook: _Webhook, verdict: Verdict, known: Sequence[Callback]
) -> list[Step]:
    if verdict is Verdict.FORGED:
        forged = [other for other in known if other.verdict is Verdict.FORGED]
        if len(forged) >= FORGED_KEPT:
            return [Step(Event.CALLBACK_DOUBTED, ACTOR, seen_again=forged[-1].id)]
    callback = _row(context, webhook, row, verdict)
    # Whatever it is worth, OSL Pay has the URL from this round's share. In `sharing` the worker draws the conclusion.
    proves = verdict is not Verdict.FORGED and webhook.round == row.round and row.state is not State.SHARING
    arrived = {"share": ShareOutcome.ARRIVED} if proves and row.share is ShareOutcome.LOST else {}
    if verdict in (Verdict.FORGED, Verdict.STALE, Verdict.OUTDATED, Verdict.UNADDRESSED):
        return [Step(Event.CALLBACK_DOUBTED, ACTOR, verdict.value, arrived, callbacks=[callback])]
    if verdict is Verdict.EARLY:
        # While a share's outcome is unknown this webhook is the proof: the worker looks at once.
        waits = row.state is State.SHARING and row.share is ShareOutcome.LOST
        lost = {"step_at": context.now_ms()} if waits else {}
        return [Step(EVENTS[webhook.kyc_status or ""], ACTOR, changes=lost | arrived, callbacks=[callback])]
    if verdict is Verdict.APPLIED:
        event = EVENTS[webhook.kyc_status or ""]
        replaced = [other for other in known if other.id == row.claim_callback and event in CLAIMS]
        older = [replace(other, verdict=Verdict.SUPERSEDED) for other in replaced]
        return [_believed_step(event, callback, [callback, *older])]
    if verdict is Verdict.SUPERSEDED:
        return [_superseded_step(EVENTS[webhook.kyc_status or ""], callback, arrived)]
    return [Step(None, ACTOR, changes=arrived, callbacks=[callback])]


def _superseded_step(event: Event, callback: Callback, changes: Mapping[str, Any] | None = None) -> Step:
    """What was believed before an older claim may have been made up to keep the claim away: OSL Pay is asked."""
    doubted = Event.CALLBACK_DOUBTED if event in CLAIMS else None
    return Step(doubted, ACTOR, Verdict.SUPERSEDED.value, changes or {}, callbacks=[callback])


def _believed_step(event: Event, callback: Callback, callbacks: Sequence[Callback]) -> Step:
    changes: dict[str, Any] = {"poll_rejects": 0, "share": ShareOutcome.ARRIVED}
    if event not in CLAIMS:
        changes["kyc_status"] = callback.kyc_status
    return Step(event, ACTOR, callback.kyc_status or "", changes, claim_callback=callback.id, callbacks=callbacks)


def _row(context: Context, webhook: _Webhook, row: Onboarding | None, verdict: Verdict) -> Callback:
    callback_id = context.new_id("cbk")
    gone = row is not None and row.profile_deleted_at is not None
    number = webhook.round
    if number is None and row is not None:
        number = row.round
    return Callback(
        id=callback_id,
        received_at=context.now_ms(),
        app_id=webhook.app_id,
        timestamp=webhook.timestamp,
        token_hash=webhook.token_hash,
        onboarding_id=None if row is None else row.id,
        round=number,
        type=_shown(webhook.type),
        kyc_status=_shown(webhook.kyc_status) if webhook.kyc_status is not None else None,
        osl_user_id=None if gone else webhook.osl_user_id,
        body_sealed=b"" if gone else context.sealer.seal(webhook.body, "callbacks", callback_id, "body"),
        body_sha256="" if gone else webhook.sha256,
        verdict=verdict,
    )


def _shown(word: str) -> str:
    """A word of OSL Pay's as it is stored in the clear; what is more than a word is in the sealed body alone."""
    return word if re.fullmatch(r"[A-Za-z0-9_.:-]+", word) else "unreadable"
