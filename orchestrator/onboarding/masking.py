"""A provider's words without the user's data. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

LONGEST = 500
_SHORT = 3


def masked(words: str, values: Mapping[str, str]) -> str:
    """`words`, each of `values` in them replaced by its name in angle brackets, cut at 500 characters.

    Short values (such as a gender's letter) are replaced only where they stand as a word of their own; other
    letters than ASCII's from two on everywhere, because a Chinese name has two and nothing stands between words. A
    value is also found in the escaped spelling that it has inside JSON, and in any case (`Straße` is `STRASSE`).
    """
    names: dict[str, str] = {}
    spellings: set[str] = set()
    for name, value in values.items():
        for spelling in (value, json.dumps(value)[1:-1]):
            if spelling.strip():
                names.setdefault(spelling.casefold(), name)
                spellings |= {spelling, spelling.casefold(), spelling.upper()}
    if not names:
        return words[:LONGEST]
    longest_first = sorted(spellings, key=lambda spelling: (-len(spelling), spelling))
    pattern = re.compile("|".join(_pattern(value) for value in longest_first), re.IGNORECASE)
    return pattern.sub(lambda found: f"<{names.get(found[0].casefold(), 'profile')}>", words)[:LONGEST]


def _pattern(value: str) -> str:
    escaped = re.escape(value)
    short = len(value) <= (_SHORT if value.isascii() else 1)
    return rf"(?<!\w){escaped}(?!\w)" if short else escaped
