"""Sharing with OSL Pay: upload each file, then share, exactly once a round.

The intent to share is stored before the call, with the one callback token of the round. When the answer is lost,
the share counts as arrived only if a webhook or the status query proves it; otherwise it is sent once more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from orchestrator.errors import ProviderError
from orchestrator.machine import CLOSED, Event, State
from orchestrator.onboarding.apply import Failure, Step
from orchestrator.onboarding.context import HOUR, Context
from orchestrator.onboarding.files import provider_file
from orchestrator.onboarding.receive import apply_early
from orchestrator.onboarding.work import ACTOR, FRESH, WORKED, Work
from orchestrator.providers.osl_pay import FILE_FIELDS, KycStatus
from orchestrator.records import Callback, CallbackToken, Document, Onboarding, Operation, ShareOutcome, Verdict
from orchestrator.seal import plain_hash

MOST_LOSSES = 2
_URL_MARGIN = HOUR


def share(work: Work) -> None:
    """One step of a row in `sharing`: a file, the share, or a question about a share whose answer is lost."""
    row, token = work.row, _token_of_round(work.context, work.row)
    if row.share is ShareOutcome.ARRIVED or _was_called(work.context, row, token):
        work.done(lambda row: _arrived(work.context, row, Event.SHARE_FOUND, None))
    elif row.share is ShareOutcome.LOST:
        _ask_whether_it_arrived(work)
    elif row.share is ShareOutcome.INTENDED:
        work.done(lambda row: [_lost(work.context, row)])
    else:
        _upload_or_share(work, token)


def _upload_or_share(work: Work, token: CallbackToken | None) -> None:
    context = work.context
    _, profile = context.identity(work.row)
    if "shareToken" in profile:
        _share(work, token, {})
        return
    documents = {document.kind: document for document in context.store.documents(work.row.id)}
    kinds = [*context.profile_rules.needed_documents(profile), "amlReport"]
    wanted = [documents[kind] for kind in kinds if kind in documents]
    for document in wanted:
        if not _has_url(context, document):
            _upload(work, document)
            return
    _share(work, token, {document.kind: _url(context, document) for document in wanted})


def _upload(work: Work, document: Document) -> None:
    context = work.context
    try:
        file = provider_file(context, document, "osl")
        url = work.call(Operation.OSL_UPLOAD, lambda: context.osl.upload_file(file))
    except ProviderError as error:
        work.failed(error)
        return
    sealed = context.sealer.seal(
        url.encode(), "documents", document.onboarding_id, document.kind, document.sha256, "url"
    )
    now = context.now_ms()

    def decide(row: Onboarding) -> Sequence[Step]:
        there = [item for item in context.store.documents(row.id) if item.location == document.location]
        kept = [replace(item, url_sealed=sealed, url_at=now) for item in there]
        # A URL renewed because it grew too old says nothing about the share that keeps failing: its horizon goes on.
        cleared = WORKED if document.url_at is None else {"unauthorized": 0}
        step = Step(Event.FILE_UPLOADED, ACTOR, document.kind, {**cleared, **_now_if_sharing(row, now)})
        return [replace(step, document=kept[0] if kept else None)]

    work.done(decide)


def _share(work: Work, token: CallbackToken | None, urls: dict[str, str]) -> None:
    """`token`: of the round; None: it has none yet."""
    context = work.context
    minted = token is None
    secret = context.token() if token is None else _opened(context, token)
    if token is None:
        token = _sealed_token(context, work.row, secret)
    row = work.intend(lambda row: _intended(context, row, work.row, token if minted else None))
    if row.share is not ShareOutcome.INTENDED or row.state is not State.SHARING:
        work.done(lambda row: [])
        return
    email, profile = context.identity(row)
    callback_url = f"{context.rules.public_url}/callbacks/oslpay/{secret}"
    try:
        user_id = work.call(
            Operation.OSL_SHARE,
            lambda: context.osl.share(
                email=email,
                merchant_user_id=row.merchant_user_id,
                profile=_complete(row, profile),
                file_urls=urls,
                callback_url=callback_url,
            ),
        )
    except ProviderError as error:
        if error.unknown_outcome:
            failure = Failure(error)
            work.lost(lambda row: [replace(_lost(context, row), failure=failure)], error)
            return
        secrets = {"callbackUrl": callback_url, "callbackToken": secret}
        secrets |= {FILE_FIELDS[kind]: url for kind, url in urls.items()}
        work.failed(error, also_secret=secrets, changes={"share": ShareOutcome.NONE})
        return
    work.done(lambda row: _arrived(context, row, Event.SHARED, user_id))


def _complete(row: Onboarding, profile: dict[str, str]) -> dict[str, str]:
    """The profile with what the service fills in when the merchant gave nothing."""
    created = datetime.fromtimestamp(row.created_at // 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    return {"kycType": "USER", "registerTime": created, **profile}


def _intended(context: Context, row: Onboarding, claimed: Onboarding, token: CallbackToken | None) -> Sequence[Step]:
    if row.state is not State.SHARING or row.round != claimed.round or _has_webhook(context, row):
        return []
    columns = {"share": ShareOutcome.INTENDED, "share_sent_at": row.share_sent_at or context.now_ms()}
    return [Step(Event.SHARE_INTENDED, ACTOR, f"round {row.round}", columns, callback_token=token)]


def _arrived(context: Context, row: Onboarding, event: Event, user_id: str | None) -> Sequence[Step]:
    """The share is at OSL Pay: go on, and apply what came before its answer."""
    user_id = user_id or row.osl_user_id
    columns = {"osl_user_id": user_id, "share": ShareOutcome.ARRIVED, "share_questions": 0, **FRESH}
    if row.state in CLOSED:
        return [Step(event, ACTOR, changes=columns)]
    known = context.store.callbacks(row.id)
    steps = [Step(event, ACTOR, changes=columns), *apply_early(replace(row, osl_user_id=user_id), known)]
    return [*steps, *_adopted_orphans(context, row, user_id, known)]


def _adopted_orphans(context: Context, row: Onboarding, user_id: str | None, known: Sequence[Callback]) -> list[Step]:
    """Webhooks that came to the merchant-wide URL before we knew whose they are."""
    if user_id is None:
        return []
    identities = {(other.app_id, other.timestamp) for other in known if other.token_hash == ""}
    orphans = []
    for orphan in context.store.orphans_of(user_id):
        # Twins that came at the same moment may both have been kept: one identity, one row of an onboarding.
        if (orphan.app_id, orphan.timestamp) not in identities:
            identities.add((orphan.app_id, orphan.timestamp))
            orphans.append(replace(orphan, onboarding_id=row.id, round=row.round, verdict=Verdict.UNADDRESSED))
    return [Step(Event.CALLBACK_DOUBTED, ACTOR, "unaddressed", callbacks=orphans)] if orphans else []


def _lost(context: Context, row: Onboarding) -> Step:
    losses = row.share_losses + 1
    columns = {"share": ShareOutcome.LOST, "share_losses": losses, "share_questions": 0, **FRESH}
    columns["step_at"] = context.now_ms() + context.timings.lost_questions[0]
    return Step(Event.SHARE_LOST, ACTOR, f"loss {losses}", columns)


def _ask_whether_it_arrived(work: Work) -> None:
    context, row = work.context, work.row
    answer = None
    if _can_prove(context, row):
        try:
            answer = work.call(
                Operation.OSL_STATUS, lambda: context.osl.kyc_status(row.merchant_user_id, row.osl_user_id)
            )
        except ProviderError as error:
            work.failed(error, endless=True)
            return
    if answer is not None and _proves(row, answer):
        user_id = answer.user_id
        work.done(lambda row: _arrived(context, row, Event.SHARE_FOUND, user_id))
    else:
        work.done(lambda row: _unproven(context, row))


def _can_prove(context: Context, row: Onboarding) -> bool:
    """Whether the status query tells anything: not in a later round that no REJECT ended before."""
    if row.prior_reject or row.round > 1:
        return row.prior_reject
    return not context.store.shared_before(row, context.erased_names(row.merchant_user_id))


def _proves(row: Onboarding, answer: KycStatus) -> bool:
    if row.prior_reject:
        return answer.kyc_status not in (None, "REJECT")
    return answer.kyc_status is not None or answer.user_id is not None


def _unproven(context: Context, row: Onboarding) -> Sequence[Step]:
    if row.state is not State.SHARING or row.share is not ShareOutcome.LOST:
        return []
    if _has_webhook(context, row):
        return _arrived(context, row, Event.SHARE_FOUND, None)
    waits = context.timings.lost_questions
    asked = row.share_questions + 1
    if asked < len(waits):
        again_at = context.now_ms() + waits[asked] - waits[asked - 1]
        return [Step(Event.STEP_FAILED, ACTOR, changes={"share_questions": asked, "step_at": again_at, **FRESH})]
    if row.share_losses < MOST_LOSSES:
        columns = {"share": ShareOutcome.NONE, "share_questions": 0, "step_at": context.now_ms(), **FRESH}
        return [Step(Event.SHARE_UNPROVEN, ACTOR, changes=columns)]
    return [
        Step(
            Event.GAVE_UP,
            ACTOR,
            "two shares were lost without proof that either arrived",
            changes={"share_questions": 0},
        )
    ]


def _has_webhook(context: Context, row: Onboarding) -> bool:
    """Whether OSL Pay called this round's callbackUrl, believed or not: it has it from a share that arrived."""
    return _was_called(context, row, _token_of_round(context, row))


def _was_called(context: Context, row: Onboarding, token: CallbackToken | None) -> bool:
    return token is not None and any(
        callback.token_hash == token.hash and callback.verdict is not Verdict.FORGED
        for callback in context.store.callbacks(row.id)
    )


def _token_of_round(context: Context, row: Onboarding) -> CallbackToken | None:
    return context.store.callback_token_of_round(row.id, row.round)


def _opened(context: Context, token: CallbackToken) -> str:
    return context.sealer.open(token.sealed, "callback_tokens", token.onboarding_id, str(token.round)).decode()


def _sealed_token(context: Context, row: Onboarding, secret: str) -> CallbackToken:
    sealed = context.sealer.seal(secret.encode(), "callback_tokens", row.id, str(row.round))
    return CallbackToken(plain_hash(secret), row.id, row.round, sealed, context.now_ms())


def _has_url(context: Context, document: Document) -> bool:
    life = int(context.dialects.osl.file_url_hours * HOUR)
    return document.url_at is not None and context.now_ms() < document.url_at + life - min(_URL_MARGIN, life // 4)


def _url(context: Context, document: Document) -> str:
    sealed = document.url_sealed or b""
    return context.sealer.open(
        sealed, "documents", document.onboarding_id, document.kind, document.sha256, "url"
    ).decode()


def _now_if_sharing(row: Onboarding, now: int) -> dict[str, int]:
    return {"step_at": now} if row.state is State.SHARING else {}
