"""Where a page of a list ends and the next begins, as callers are given it."""

from __future__ import annotations

import base64
import binascii

from orchestrator.errors import InvalidInput
from orchestrator.store.status import Cursor


def written(place: Cursor) -> str:
    """What `read` gives `place` for; safe in a URL."""
    return base64.urlsafe_b64encode(f"{place[0]}.{place[1]}".encode()).decode().rstrip("=")


def read(text: str, *prefixes: str) -> Cursor:
    """The place. `prefixes`: how its id may begin. Raises InvalidInput for what was never given out."""
    try:
        at, _, last_id = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode("ascii").partition(".")
        if not last_id.startswith(prefixes) or not (at.isdecimal() and len(at) <= 15):
            raise ValueError
        return int(at), last_id
    except (ValueError, binascii.Error, UnicodeError):
        raise InvalidInput("the query is not valid", {"cursor": ["is not one that was given out"]}) from None
