"""A document as a provider gets it."""

from __future__ import annotations

from orchestrator.errors import Kind, ProviderError, SealBroken, StoreUnavailable
from orchestrator.onboarding.context import Context
from orchestrator.onboarding.media import MEDIA_TYPES
from orchestrator.providers.answers import ProviderFile
from orchestrator.records import Document

UNREADABLE = "document-unreadable"


def provider_file(context: Context, document: Document, provider: str) -> ProviderFile:
    """The opened content of a document, named by its kind and type.

    `provider`: whom it is for. Raises ProviderError when it cannot be read: nothing was sent.
    """
    name = f"{document.kind}.{MEDIA_TYPES[document.media_type]}"
    try:
        return ProviderFile(name, document.media_type, context.documents.get(document))
    except (StoreUnavailable, SealBroken) as error:
        raise ProviderError(provider, Kind.TRANSIENT, UNREADABLE, words=f"{document.kind}: {error}") from error
