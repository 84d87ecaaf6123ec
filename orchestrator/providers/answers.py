"""What both clients make of a provider's answer: its JSON, and which kind of fault it is."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from orchestrator.errors import Kind, ProviderError
from orchestrator.providers.dialect import FaultCodes
from orchestrator.providers.http import Reply, http_date_ms

T = TypeVar("T")

LONGEST_ID = 128
_LONGEST_WORDS = 5_000
"""Characters of a provider's words that are looked through for the user's data; fewer are kept."""
LONGEST_RETRY_AFTER_MS = 24 * 60 * 60 * 1000
NOTABLE_SKEW_MS = 10_000
"""A difference of clocks (ms) from which on it is worth a word: signatures are refused from 30 seconds on."""
_CODE = re.compile(r"[A-Za-z0-9._-]{1,32}")
"""What is logged as a code: a provider's words may quote a user, and its code is neither masked nor sealed."""


@dataclass(frozen=True)
class Answer(Generic[T]):
    """What a provider answered. `skew_ms`: its clock minus ours, milliseconds; None when it did not say."""

    value: T
    skew_ms: int | None


@dataclass(frozen=True)
class ProviderFile:
    """A document on its way out. `name`: the file name the provider sees; `media_type`: as image/jpeg."""

    name: str
    media_type: str
    content: bytes = field(repr=False)


@dataclass(frozen=True)
class Provider:
    """How a provider is called in data (`name`) and in sentences (`title`), and how its faults are coded."""

    name: str
    title: str
    faults: FaultCodes


def envelope(reply: Reply) -> Mapping[str, Any] | None:
    """The JSON object in the answer's body; None when it holds none."""
    try:
        value = json.loads(reply.body)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def text_of(value: Any) -> str | None:
    """A text or whole number of an answer as text (ids and codes come as either); None for all else.

    Half a character, as is left of words that were cut, becomes a question mark: it could not be stored.
    """
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode() or None
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def id_of(value: Any) -> str | None:
    """An id of an answer, if it is one that can be kept: 1 to 128 printable characters."""
    text = text_of(value)
    return text if text and len(text) <= LONGEST_ID and text.isprintable() else None


def unreadable(provider: Provider, reply: Reply) -> ProviderError:
    """The fault of a success that does not hold what it must: whether it was done is not known."""
    return ProviderError(provider.name, Kind.TRANSIENT, "unreadable", unknown_outcome=True, skew_ms=reply.skew_ms)


def fault(
    provider: Provider,
    reply: Reply,
    *,
    code: str | None,
    words: str | None,
    now_ms: int,
    otherwise: Kind = Kind.TRANSIENT,
) -> ProviderError:
    """The fault that an answer other than a success is (docs/providers.md, B9, O7 and O8).

    `code`, `words`: of its envelope. `otherwise`: what a 2xx is whose code is in no list.
    """
    codes, status = provider.faults, reply.status
    success = 200 <= status < 300
    later = status in codes.status_later
    not_done = later or code in codes.code_later
    telling = not later and code in codes.code_unauthorized | codes.code_refused
    if later:
        kind = Kind.TRANSIENT
    elif code in codes.code_unauthorized or (not telling and status in codes.status_unauthorized):
        kind = Kind.UNAUTHORIZED
    elif code in codes.code_refused or status in codes.status_refused:
        kind = Kind.REFUSED
    else:
        kind = otherwise if success and code not in codes.code_later else Kind.TRANSIENT
    said = (words or "")[:_LONGEST_WORDS]
    if kind is Kind.UNAUTHORIZED:
        said = f"{_why_unauthorized(provider.title, reply)} {said}".rstrip()
    return ProviderError(
        provider.name,
        kind,
        code if code and _CODE.fullmatch(code) and (success or telling) else str(status),
        words=said,
        # What neither succeeds nor clearly says no may have been done all the same (design.md, 3).
        unknown_outcome=kind is Kind.TRANSIENT and not not_done,
        retry_after_ms=_retry_after_ms(reply, now_ms) if kind is Kind.TRANSIENT else None,
        skew_ms=reply.skew_ms,
    )


def _why_unauthorized(title: str, reply: Reply) -> str:
    if reply.status in (404, 405) or 300 <= reply.status < 400:
        reason = f"{title} has nothing there: the base URL or a path is wrong."
    else:
        reason = f"{title} did not accept the key, the signature, or this machine's IP address (not listed?)."
    if reply.skew_ms is not None and abs(reply.skew_ms) > NOTABLE_SKEW_MS:
        side = "behind" if reply.skew_ms > 0 else "ahead of"
        reason += f" Our clock is {abs(reply.skew_ms) / 1000:.0f} s {side} that of {title}."
    return reason


def _retry_after_ms(reply: Reply, now_ms: int) -> int | None:
    text = reply.headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        # A number too long to be meant is cut before it is converted.
        return min(int(text[:10]) * 1000, LONGEST_RETRY_AFTER_MS)
    moment = http_date_ms(text)
    return None if moment is None else max(0, min(moment - now_ms, LONGEST_RETRY_AFTER_MS))
