"""One setting: how its text is parsed, where it is read from, and what is told when it is wrong."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from dataclasses import field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from orchestrator.errors import SettingFault

# As PostgreSQL's own library reads one: what is before the first @ is user and password, then come hosts with ports.
_HOST = r"(?:\[[0-9A-Fa-f:.%]+\]|[^][:@/?,]*)(?::\d{0,5})?"
_POSTGRESQL = re.compile(rf"postgres(?:ql)?://(?:[^@/]*@)?{_HOST}(?:,{_HOST})*(?:/[^@/?]*)?(?:\?.*)?")
_NO_URL_OF_POSTGRESQL = "it is no URL that PostgreSQL takes; % @ / in a password must be percent-encoded (%25 %40 %2F)"


class Wrong(Exception):
    """What is wrong with a value, without the value."""


def header_text(value: str) -> str:
    """Printable ASCII, fit for a header."""
    if not value.isascii() or not value.isprintable() or not value.strip():
        raise Wrong("it must be printable ASCII")
    return value


def url(value: str) -> str:
    """An http or https URL without query, without a slash at its end."""
    try:
        parts = urlsplit(value)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if not good or re.search(r"[\s?#]", value):
        raise Wrong("it must be an http or https URL without query")
    return value.rstrip("/")


def database(value: str) -> str:
    """The URL of a database."""
    if value.startswith(("postgresql://", "postgres://")):
        if not _POSTGRESQL.fullmatch(value) or re.search(r"\s|%(?![0-9A-Fa-f]{2})|%00", value):
            raise Wrong(_NO_URL_OF_POSTGRESQL)
        return value
    if not value.startswith("sqlite:///") or value == "sqlite:///":
        raise Wrong("it must be sqlite:///relative/path, sqlite:////absolute/path or postgresql://user@host/database")
    return value


def documents(value: str) -> str:
    """The URL of a place for documents."""
    if not value.startswith(("file:", "s3://")) or value == "file:":
        raise Wrong("it must be file:relative/path, file:/absolute/path or s3://bucket/prefix")
    if re.match(r"file://[^/]", value) or value == "file://":
        raise Wrong("it has a host after file://: write file:relative/path or file:/absolute/path")
    if value.startswith("file:~"):
        raise Wrong("it begins with ~, which no shell replaces here: write file:/absolute/path")
    if re.match(r"s3://(?:[/?#]|$)", value):
        raise Wrong("it names no bucket: write s3://bucket/prefix")
    return value


def encryption_keys(value: str) -> tuple[bytes, ...]:
    """Base64 keys of 32 bytes, separated by commas."""
    try:
        keys = tuple(base64.b64decode(part.strip(), validate=True) for part in value.split(","))
    except (binascii.Error, ValueError):
        raise Wrong("it must be base64 keys, separated by commas") from None
    if any(len(key) != 32 for key in keys):
        raise Wrong("each key must have 32 bytes")
    return keys


def whsec(value: str) -> str:
    """One secret of Standard Webhooks."""
    if not value.startswith("whsec_"):
        raise Wrong("it must begin with whsec_")
    try:
        text = value.removeprefix("whsec_").rstrip("=")
        secret = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise Wrong("what follows whsec_ must be base64") from None
    if len(secret) < 16:
        raise Wrong("it is too short: 24 bytes or more are safe")
    return value


def whsecs(value: str) -> tuple[str, ...]:
    """Such secrets, separated by commas."""
    return tuple(whsec(part.strip()) for part in value.split(","))


def key(load: Callable[[str], Any]) -> Callable[[str], Any]:
    """An RSA key that `load` takes; whatever is wrong with it, the key is not told."""

    def parse(value: str) -> Any:
        try:
            return load(value)
        except Exception:  # noqa: BLE001 - cryptography raises several kinds; none may echo the key
            raise Wrong("it must be an RSA key of 1024 to 4096 bits, as PEM or base64 DER") from None

    return parse


def number(smallest: float, largest: float) -> Callable[[str], float]:
    """A number from `smallest` to `largest`."""

    def parse(value: str) -> float:
        try:
            number = float(value)
        except ValueError:
            raise Wrong("it must be a number") from None
        if not smallest <= number <= largest:
            raise Wrong(f"it must be {smallest:g} to {largest:g}")
        return number

    return parse


def whole(smallest: int, largest: int) -> Callable[[str], int]:
    """A whole number from `smallest` to `largest`."""

    def parse(value: str) -> int:
        if not re.fullmatch(r"\d{1,9}", value) or not smallest <= int(value) <= largest:
            raise Wrong(f"it must be a whole number, {smallest} to {largest}")
        return int(value)

    return parse


def choice(*choices: str) -> Callable[[str], str]:
    """One of `choices`, in any case."""

    def parse(value: str) -> str:
        for choice in choices:
            if value.lower() == choice.lower():
                return choice
        raise Wrong(f"it must be one of {', '.join(choices)}")

    return parse


def existing_file(value: str) -> Path:
    """The path of a file that is there."""
    try:
        found = Path(value).is_file()
    except OSError as error:
        raise Wrong(f"it cannot be looked for ({error.strerror}): its folders must let this user in") from None
    if not found:
        raise Wrong("there is no such file")
    return Path(value)


def setting(
    name: str,
    parse: Callable[[str], Any],
    example: str,
    *,
    default: str | None = None,
    optional: bool = False,
    secret: bool = False,
    command: str | None = None,
    meaning: str,
) -> Any:
    """A field of a settings class. `parse` raises Wrong; a `secret` is hidden, and read from NAME_FILE too."""
    return field(
        repr=not secret,
        metadata={
            "name": name,
            "parse": parse,
            "example": example,
            "default": default,
            "optional": optional,
            "secret": secret,
            "command": command,
            "meaning": meaning,
        },
    )


def read(setting: Mapping[str, Any], environ: Mapping[str, str]) -> Any:
    """The parsed value, its default, or None for an optional one. Raises Wrong."""
    text = _raw(setting, environ)
    if text is None:
        if setting["optional"]:
            return None
        if setting["default"] is None:
            raise Wrong("it is missing")
        text = setting["default"]
    return setting["parse"](text)


def _raw(setting: Mapping[str, Any], environ: Mapping[str, str]) -> str | None:
    name = setting["name"]
    value = environ.get(name, "").strip()
    file = environ.get(f"{name}_FILE", "").strip() if setting["secret"] else ""
    if value and file:
        raise Wrong(f"{name} and {name}_FILE are both set: keep one")
    if not file:
        return value or None
    try:
        return Path(file).read_text("utf-8").strip() or None
    except (OSError, UnicodeDecodeError):
        raise Wrong(f"the file that {name}_FILE names cannot be read") from None


def fault(setting: Mapping[str, Any], problem: str) -> SettingFault:
    """`problem` with what helps to mend it."""
    return SettingFault(setting["name"], problem, setting["example"], setting["command"])
