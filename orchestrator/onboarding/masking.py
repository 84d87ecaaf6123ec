"""A provider's words without the user's data. Pure."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Literal

LONGEST = 500
_SHORT = 3
_FORMS: Sequence[Literal["NFC", "NFD"]] = ("NFC", "NFD")


def masked(words: str, values: Mapping[str, str]) -> str:
    """`words`, each of `values` in them replaced by its name in angle brackets, cut at 500 characters.

    Short values (such as a gender's letter) are replaced only where they stand as a word of their own; other
    letters than ASCII's from two on everywhere, because a Chinese name has two and nothing stands between words. A
    value is also found in the escaped spelling that it has inside JSON, in any case (`Straße` is `STRASSE`), and
    with its accents as characters of their own or not.
    """
    names: dict[str, str] = {}
    spellings: set[str] = set()
    for name, value in values.items():
        for form in {value, *(unicodedata.normalize(form, value) for form in _FORMS)}:
            for spelling in (form, json.dumps(form)[1:-1]):
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
