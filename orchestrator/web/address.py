"""Where a request comes from."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit

from flask import request


def client_address() -> str:
    """The IP address of whoever sent the request, as far as the trusted proxies tell; '' if they tell none.

    Some write a port behind it, or a word such as `unknown` in its place.
    """
    given = request.remote_addr or ""
    return _address(given) or _address(_without_port(given))


def _address(text: str) -> str:
    try:
        return str(ip_address(text)).partition("%")[0]
    except ValueError:
        return ""


def _without_port(text: str) -> str:
    try:
        return urlsplit(f"//{text}").hostname or ""
    except ValueError:
        return ""
