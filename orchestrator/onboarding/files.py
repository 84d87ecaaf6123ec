"""A document as a provider gets it."""

from __future__ import annotations

from orchestrator.onboarding.context import Context
from orchestrator.providers.answers import ProviderFile
from orchestrator.records import Document

_SUFFIXES = {"image/jpeg": "jpg", "image/png": "png", "application/pdf": "pdf"}


def provider_file(context: Context, document: Document) -> ProviderFile:
    """The opened content of a document, named by its kind and type. Raises StoreUnavailable, SealBroken."""
    name = f"{document.kind}.{_SUFFIXES[document.media_type]}"
    return ProviderFile(name, document.media_type, context.documents.get(document))
