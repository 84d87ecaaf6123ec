"""Collecting: the profile, the documents, the end user's link, and submit."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from orchestrator.errors import Conflict, InvalidInput, NotFound, TooLarge
from orchestrator.machine import CLOSED, EDITABLE, Event, State
from orchestrator.onboarding.apply import Step, apply
from orchestrator.onboarding.context import Context
from orchestrator.onboarding.look import find
from orchestrator.onboarding.media import media_type_of
from orchestrator.onboarding.profile import (
    DOCUMENT_KINDS,
    LARGEST_DOCUMENT,
    LARGEST_SUM,
    checked_email,
)
from orchestrator.records import Document, Onboarding, ShareOutcome
from orchestrator.seal import plain_hash


def edit(
    context: Context,
    onboarding_id: str,
    patch: Any,
    actor: str,
    *,
    allowed: Collection[str] | None = None,
    defaults: Mapping[str, str] | None = None,
) -> Onboarding:
    """Merge `patch` into the profile: null removes, `email` is taken too; `defaults` fill what is absent.

    `allowed`: the only names that may be set. Raises InvalidInput, Conflict unless it may be edited, NotFound.
    """
    _check_editable(find(context, onboarding_id))
    if not isinstance(patch, dict):
        raise InvalidInput("the data is not valid", {"profile": ["must be an object"]})
    given, removed, new_email = _checked_patch(context, patch, allowed)

    def decide(row: Onboarding) -> Sequence[Step]:
        email, profile = context.identity(row)
        merged = {name: value for name, value in {**profile, **given}.items() if name not in removed}
        merged = {**(defaults or {}), **merged}
        changed = sorted(name for name in {*profile, *merged} if profile.get(name) != merged.get(name))
        if new_email is not None and new_email != email:
            changed.append("email")
        if not changed:
            _check_editable(row)
            return ()
        sealed = context.seal_json({"email": new_email or email, "profile": merged}, "onboardings", row.id, "profile")
        email_hash = context.sealer.hash("email", (new_email or email).casefold())
        columns = {"profile_sealed": sealed, "email_hash": email_hash, "changed": True, "profile_deleted_at": None}
        return [Step(Event.EDITED, actor, ", ".join(changed), columns)]

    return apply(context, onboarding_id, decide)


def put_document(context: Context, began: Onboarding, kind: str, content: bytes, actor: str) -> Onboarding:
    """Seal and store a document in place of an earlier one of its kind. `began`: the onboarding as it was found.

    Raises NotFound for an unknown kind, TooLarge, UnsupportedDocument (by content), Conflict, StoreUnavailable.
    """
    check_document_size(kind, len(content))
    _check_editable(began)
    media_type = media_type_of(content)
    sha256 = hashlib.sha256(content).hexdigest()
    documents = context.store.documents(began.id)
    if any((there.kind, there.sha256) == (kind, sha256) for there in documents):
        return began
    location = context.documents.put(began.id, kind, sha256, content)
    document = Document(began.id, kind, media_type, len(content), sha256, location, context.now_ms())
    replaced: list[str] = []

    def decide(row: Onboarding) -> Sequence[Step]:
        if row.round != began.round:
            raise Conflict(
                f"round {row.round} has begun meanwhile: send the document again if it belongs there", row.state
            )
        _, profile = context.identity(row)
        # Whatever changes a document changes the row's version, and what is decided on another one is not written.
        current = documents if row.version == began.version else context.store.documents(row.id)
        stored = {other.kind: other for other in current}
        earlier = stored.pop(kind, None)
        if (
            kind != "amlReport"
            and context.profile_rules.sum_for_btse(profile, [*stored.values(), document]) > LARGEST_SUM
        ):
            raise TooLarge(f"the documents for BTSE Pay together may have {LARGEST_SUM} bytes: send smaller ones")
        replaced[:] = [earlier.location] if earlier else []
        return [Step(Event.EDITED, actor, kind, {"changed": True}, document=document)]

    try:
        row = apply(context, began.id, decide, read=began)
    except (Conflict, TooLarge, NotFound):
        # Any other end may have stored the row all the same; a file without one is found by `purge`.
        context.documents.remove(location)
        raise
    for old in replaced:
        context.documents.remove(old)
    return row


def remove_document(context: Context, onboarding_id: str, kind: str, actor: str) -> Onboarding:
    """Remove a document, its row before its file. Raises NotFound, Conflict."""
    _check_kind(kind)
    removed: list[str] = []

    def decide(row: Onboarding) -> Sequence[Step]:
        _check_editable(row)
        there = _document(context, row.id, kind)
        if there is None:
            raise NotFound(f"there is no {kind}")
        removed[:] = [there.location]
        return [Step(Event.EDITED, actor, f"{kind} removed", {"changed": True}, removed_documents=[kind])]

    row = apply(context, onboarding_id, decide)
    for location in removed:
        context.documents.remove(location)
    return row


def submit(context: Context, onboarding_id: str, actor: str) -> Onboarding:
    """Submit what was collected. Raises InvalidInput naming what is missing, Conflict unless it may be submitted."""

    def decide(row: Onboarding) -> Sequence[Step]:
        _check_editable(row)
        check_complete(context, row)
        return [Step(_submit_event(row), actor, reason="")]

    return apply(context, onboarding_id, decide)


def check_complete(context: Context, row: Onboarding) -> None:
    """Raises InvalidInput naming exactly what the providers still need."""
    email, profile = context.identity(row)
    documents = context.store.documents(row.id)
    missing = context.profile_rules.missing(profile, documents, email)
    errors = {path: ["is needed to submit"] for path in missing}
    if context.profile_rules.sum_for_btse(profile, documents) > LARGEST_SUM:
        errors["documents"] = [f"together may have {LARGEST_SUM} bytes: send smaller ones"]
    if errors:
        raise InvalidInput("something is missing or must be mended before this can be submitted", errors)


def renew_link(context: Context, onboarding_id: str, actor: str) -> Onboarding:
    """A new link for the end user; the old one stops working. Raises NotFound, Conflict on a closed or erased one."""
    link = context.token()

    def decide(row: Onboarding) -> Sequence[Step]:
        if (words := link_refused(row)) is not None:
            raise Conflict(words, row.state)
        sealed = context.sealer.seal(link.encode(), "onboardings", row.id, "link")
        columns = {"link_hash": plain_hash(link), "link_sealed": sealed}
        return [Step(None, actor, changes=columns, replaced_link=row.link_hash)]

    return apply(context, onboarding_id, decide)


def link_refused(row: Onboarding) -> str | None:
    """Why no link is given now; None: it may be."""
    if row.erased_at is not None:
        return "no link is given: everything personal was erased"
    if row.state in CLOSED:
        return f"no link is given while the onboarding is {row.state}"
    return None


def check_document_size(kind: str, size: int) -> None:
    """Raises NotFound for an unknown kind, TooLarge for more bytes than a document may have."""
    _check_kind(kind)
    if size > LARGEST_DOCUMENT:
        raise TooLarge(f"a document may have {LARGEST_DOCUMENT} bytes: send a smaller one")


def check_document(kind: str, content: bytes) -> None:
    """Raises NotFound, TooLarge or UnsupportedDocument when `put_document` would."""
    check_document_size(kind, len(content))
    media_type_of(content)


def _submit_event(row: Onboarding) -> Event:
    if row.state is State.NEEDS_ATTENTION and row.share is ShareOutcome.ARRIVED:
        return Event.SUBMITTED_AGAIN
    return Event.SUBMITTED if row.changed else Event.SUBMITTED_UNCHANGED


def _check_editable(row: Onboarding) -> None:
    if row.state not in EDITABLE:
        raise Conflict(f"nothing can be changed while the onboarding is {row.state}", row.state)


def _check_kind(kind: str) -> None:
    if kind not in DOCUMENT_KINDS:
        raise NotFound(f"there is no such document kind: it is one of {', '.join(DOCUMENT_KINDS)}")


def _checked_patch(
    context: Context, patch: Mapping[str, Any], allowed: Collection[str] | None
) -> tuple[dict[str, str], set[str], str | None]:
    """What is set, what is removed, and the email. Raises InvalidInput with all that is wrong."""
    changes, email, given = dict(patch), None, {}
    errors: dict[str, list[str]] = {}
    if "email" in changes and allowed is None:
        try:
            email = checked_email(changes.pop("email"))
        except InvalidInput as error:
            errors |= error.errors
    removed = {name for name, value in changes.items() if value is None}
    try:
        given = context.profile_rules.checked(
            {name: value for name, value in changes.items() if name not in removed}, allowed, removed
        )
    except InvalidInput as error:
        errors |= error.errors
    if errors:
        raise InvalidInput("the data is not valid", errors)
    return given, removed, email


def _document(context: Context, onboarding_id: str, kind: str) -> Document | None:
    return next((item for item in context.store.documents(onboarding_id) if item.kind == kind), None)
