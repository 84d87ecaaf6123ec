"""The formats of single fields (docs/providers.md). Each check gives what is wrong with a text, or None."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from datetime import datetime
from urllib.parse import urlsplit

import pycountry

Check = Callable[[str], str | None]

ALPHA_3: frozenset[str] = frozenset(country.alpha_3 for country in pycountry.countries)
MERCHANT_USER_ID_LENGTH = 128


def anything(text: str) -> str | None:
    """Any text but none at all."""
    return None if text.strip() else "is empty"


def email(text: str) -> str | None:
    """An address, loosely."""
    return None if re.fullmatch(r"[^@\s]+@[^@\s]+\.[^@\s]+", text) else "is not an email address"


def merchant_user_id(text: str) -> str | None:
    """1 to 128 printable characters."""
    fits = 0 < len(text) <= MERCHANT_USER_ID_LENGTH and text.isprintable()
    return None if fits else "is not 1 to 128 printable characters"


def country(text: str) -> str | None:
    """ISO 3166-1 alpha-3."""
    return None if text in ALPHA_3 else "is not an ISO 3166-1 alpha-3 country code"


def address(text: str) -> str | None:
    """An IPv4 or IPv6 address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return "is not an IP address"
    return None


def date(text: str) -> str | None:
    """yyyy-MM-dd"""
    return _by_pattern(text, r"\d{4}-\d\d-\d\d", "%Y-%m-%d", "is not a date yyyy-MM-dd")


def date_time(text: str) -> str | None:
    """yyyy-MM-dd HH:mm:ss"""
    pattern = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
    return _by_pattern(text, pattern, "%Y-%m-%d %H:%M:%S", "is not a time yyyy-MM-dd HH:mm:ss")


def http_url(text: str) -> str | None:
    """An absolute http or https URL."""
    try:
        parts = urlsplit(text)
    except ValueError:
        return "is not a http(s) URL"
    fits = parts.scheme in ("http", "https") and parts.hostname and not re.search(r"\s", text)
    return None if fits else "is not a http(s) URL"


def one_of(*words: str) -> Check:
    """One of these words, exactly."""

    def check(text: str) -> str | None:
        return None if text in words else f"is not one of {', '.join(words)}"

    return check


def _by_pattern(text: str, pattern: str, layout: str, problem: str) -> str | None:
    if not re.fullmatch(pattern, text, re.ASCII):
        return problem
    try:
        # Only the calendar is checked; all times on the wire are UTC, so no zone is attached.
        datetime.strptime(text, layout)  # noqa: DTZ007
    except ValueError:
        return problem
    return None
