"""Re-encrypting what older keys sealed, so that they can be taken out of the settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from orchestrator.errors import Conflict, DocumentGone, NotFound, StoreUnavailable
from orchestrator.onboarding.apply import Step, apply
from orchestrator.onboarding.context import Context
from orchestrator.records import Document, Onboarding

ACTOR = "reseal"
_FIELDS = {f"{name}_sealed": name for name in ("profile", "link", "reason", "last_error")}


@dataclass(frozen=True)
class Resealed:
    """How many rows and files were sealed anew with the first key. `gone`: what is missing of those that were not."""

    onboardings: int
    documents: int
    bodies: int
    gone: tuple[str, ...] = ()


def reseal(context: Context, progress: Callable[[str], None]) -> Resealed:
    """Seal everything with the first key and rewrite the hashes of emails; may be stopped and run again.

    An onboarding of which a file is gone keeps its key: the file may come back from a backup, and needs it then.
    `progress(id)` is called for every onboarding. Raises SealBroken when a key is missing, StoreUnavailable.
    """
    rows = documents = 0
    gone: list[str] = []
    for onboarding_id, _, _, _ in context.store.heads():
        # The row last: as long as the old key is found in one, `doctor` asks for it, and files are not counted there.
        try:
            for item in context.store.documents(onboarding_id):
                documents += _reseal_document(context, item)
            rows += _reseal_row(context, onboarding_id)
        except DocumentGone as error:
            gone.append(str(error))
        progress(onboarding_id)
    return Resealed(rows, documents, _reseal_bodies(context), tuple(gone))


def _reseal_row(context: Context, onboarding_id: str) -> bool:
    changed = False

    def decide(row: Onboarding) -> Sequence[Step]:
        nonlocal changed
        columns: dict[str, Any] = {}
        for column, field in _FIELDS.items():
            sealed = getattr(row, column)
            if sealed is not None and not context.sealer.is_current(sealed):
                columns[column] = context.sealer.reseal(sealed, "onboardings", row.id, field)
        email, _ = context.identity(row)
        if email and row.email_hash != context.sealer.hash("email", email.casefold()):
            columns["email_hash"] = context.sealer.hash("email", email.casefold())
        changed = bool(columns)
        return [Step(None, ACTOR, changes=columns)] if columns else []

    apply(context, onboarding_id, decide)
    return changed


def _reseal_document(context: Context, document: Document) -> bool:
    """The new file is durable before the row names it, and the old one goes after."""
    place = ("documents", document.onboarding_id, document.kind, document.sha256)
    new = document
    if document.url_sealed is not None and not context.sealer.is_current(document.url_sealed):
        new = replace(new, url_sealed=context.sealer.reseal(document.url_sealed, *place, "url"))
    try:
        if not context.documents.is_current(document):
            content = context.documents.get(document)
            location = context.documents.put(document.onboarding_id, document.kind, document.sha256, content)
            new = replace(new, location=location)
    except StoreUnavailable:
        if document in context.store.documents(document.onboarding_id):
            raise
        # Replaced or removed since it was listed, and its file with it.
        return False
    if new == document:
        return False

    def decide(row: Onboarding) -> Sequence[Step]:
        if document not in context.store.documents(row.id):
            raise Conflict("the document was replaced meanwhile", row.state)
        return [Step(None, ACTOR, document=new)]

    unused = document.location
    try:
        apply(context, document.onboarding_id, decide)
    except (Conflict, NotFound):
        unused = new.location
    if new.location != document.location:
        context.documents.remove(unused)
    return True


def _reseal_bodies(context: Context) -> int:
    count = 0
    for table, key, place, sealed in context.store.sealed_bodies():
        if sealed and not context.sealer.is_current(sealed):
            context.store.replace_body(table, key, sealed, context.sealer.reseal(sealed, *place))
            count += 1
    return count
