"""The settings, read once from the environment (and a `.env` file) into one frozen object."""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from dotenv import dotenv_values

from orchestrator.errors import ConfigurationError, SettingFault
from orchestrator.signatures import load_private_key, load_public_key

_KEY_COMMAND = "openssl rand -base64 32"
_WHSEC_COMMAND = 'echo "whsec_$(openssl rand -base64 32)"'
_RSA_COMMAND = "openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out osl-private.pem"


class _Wrong(Exception):
    """What is wrong with a value, without the value."""


def _header_text(value: str) -> str:
    if not value.isascii() or not value.isprintable() or not value.strip():
        raise _Wrong("it must be printable ASCII")
    return value


def _url(value: str) -> str:
    try:
        parts = urlsplit(value)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if not good or re.search(r"[\s?#]", value):
        raise _Wrong("it must be an http or https URL without query")
    return value.rstrip("/")


def _database(value: str) -> str:
    if value.startswith(("postgresql://", "postgres://")):
        return value
    if not value.startswith("sqlite:///") or value == "sqlite:///":
        raise _Wrong("it must be sqlite:///relative/path, sqlite:////absolute/path or postgresql://user@host/database")
    return value


def _documents(value: str) -> str:
    if not value.startswith(("file:", "s3://")) or value in ("file:", "s3://"):
        raise _Wrong("it must be file:relative/path, file:/absolute/path or s3://bucket/prefix")
    return value


def _encryption_keys(value: str) -> tuple[bytes, ...]:
    try:
        keys = tuple(base64.b64decode(part.strip(), validate=True) for part in value.split(","))
    except (binascii.Error, ValueError):
        raise _Wrong("it must be base64 keys, separated by commas") from None
    if any(len(key) != 32 for key in keys):
        raise _Wrong("each key must have 32 bytes")
    return keys


def _whsec(value: str) -> str:
    if not value.startswith("whsec_"):
        raise _Wrong("it must begin with whsec_")
    try:
        text = value.removeprefix("whsec_").rstrip("=")
        secret = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise _Wrong("what follows whsec_ must be base64") from None
    if len(secret) < 16:
        raise _Wrong("it is too short: 24 bytes or more are safe")
    return value


def _whsecs(value: str) -> tuple[str, ...]:
    return tuple(_whsec(part.strip()) for part in value.split(","))


def _key(load: Callable[[str], Any]) -> Callable[[str], Any]:
    def parse(value: str) -> Any:
        try:
            return load(value)
        except Exception:  # noqa: BLE001 - cryptography raises several kinds; none may echo the key
            raise _Wrong("it must be an RSA key of 1024 to 4096 bits, as PEM or base64 DER") from None

    return parse


def _number(smallest: float, largest: float) -> Callable[[str], float]:
    def parse(value: str) -> float:
        try:
            number = float(value)
        except ValueError:
            raise _Wrong("it must be a number") from None
        if not smallest <= number <= largest:
            raise _Wrong(f"it must be {smallest:g} to {largest:g}")
        return number

    return parse


def _whole(smallest: int, largest: int) -> Callable[[str], int]:
    def parse(value: str) -> int:
        if not re.fullmatch(r"\d{1,9}", value) or not smallest <= int(value) <= largest:
            raise _Wrong(f"it must be a whole number, {smallest} to {largest}")
        return int(value)

    return parse


def _choice(*choices: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        for choice in choices:
            if value.lower() == choice.lower():
                return choice
        raise _Wrong(f"it must be one of {', '.join(choices)}")

    return parse


def _existing_file(value: str) -> Path:
    if not Path(value).is_file():
        raise _Wrong("there is no such file")
    return Path(value)


def _setting(
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


@dataclass(frozen=True, kw_only=True)
class Config:
    """Every setting, parsed. Durations keep the unit that their name says; its repr shows no secret."""

    database_url: str = _setting(
        "ORCHESTRATOR_DATABASE_URL",
        _database,
        "sqlite:///var/orchestrator.db",
        default="sqlite:///var/orchestrator.db",
        secret=True,
        meaning="where onboardings are stored: sqlite:///… or postgresql://user:password@host/database",
    )
    documents_url: str = _setting(
        "ORCHESTRATOR_DOCUMENTS_URL",
        _documents,
        "file:var/documents",
        default="file:var/documents",
        meaning="where sealed documents are stored: file:… or s3://bucket/prefix",
    )
    encryption_keys: tuple[bytes, ...] = _setting(
        "ORCHESTRATOR_ENCRYPTION_KEYS",
        _encryption_keys,
        "bFq1cE0…=",
        secret=True,
        command=_KEY_COMMAND,
        meaning="comma-separated base64 keys of 32 bytes: the first encrypts, all decrypt",
    )
    public_url: str = _setting(
        "ORCHESTRATOR_PUBLIC_URL",
        _url,
        "https://onboarding.example.com",
        meaning="the base that OSL Pay and end users reach",
    )
    signup_secrets: tuple[str, ...] = _setting(
        "ORCHESTRATOR_SIGNUP_SECRETS",
        _whsecs,
        "whsec_…",
        secret=True,
        command=_WHSEC_COMMAND,
        meaning="comma-separated secrets of the signup hook, several while rotating",
    )
    notify_url: str | None = _setting(
        "ORCHESTRATOR_NOTIFY_URL",
        _url,
        "https://merchant.example.com/kyc",
        optional=True,
        meaning="where the merchant is told of outcomes; unset: nobody is told",
    )
    notify_secret: str | None = _setting(
        "ORCHESTRATOR_NOTIFY_SECRET",
        _whsec,
        "whsec_…",
        optional=True,
        secret=True,
        command=_WHSEC_COMMAND,
        meaning="signs what the merchant is told",
    )
    providers_file: Path | None = _setting(
        "ORCHESTRATOR_PROVIDERS_FILE",
        _existing_file,
        "providers.toml",
        optional=True,
        meaning="overrides of single keys of the shipped dialects.toml",
    )
    trusted_proxies: int = _setting(
        "ORCHESTRATOR_TRUSTED_PROXIES",
        _whole(0, 10),
        "1",
        default="0",
        meaning="how many proxies in front set X-Forwarded-For and -Proto",
    )
    proxy_url: str | None = _setting(
        "ORCHESTRATOR_PROXY_URL",
        _url,
        "http://proxy.example.com:3128",
        optional=True,
        secret=True,
        meaning="proxy for outgoing calls",
    )
    log_level: str = _setting(
        "ORCHESTRATOR_LOG_LEVEL",
        _choice("DEBUG", "INFO", "WARNING", "ERROR"),
        "INFO",
        default="INFO",
        meaning="how much is logged",
    )
    log_format: str = _setting(
        "ORCHESTRATOR_LOG_FORMAT",
        _choice("console", "json"),
        "json",
        default="console",
        meaning="how it is logged: console or json",
    )
    provider_deadline_seconds: float = _setting(
        "ORCHESTRATOR_PROVIDER_DEADLINE_SECONDS",
        _number(0.5, 600),
        "60",
        default="60",
        meaning="one call to a provider, all in all; a lease lasts this plus 30 s",
    )
    btse_base_url: str = _setting(
        "BTSE_BASE_URL", _url, "https://api.btse.example", meaning="given by BTSE Pay for each environment"
    )
    btse_api_key: str = _setting(
        "BTSE_API_KEY", _header_text, "…", secret=True, meaning="given by BTSE Pay, sent in the header `api`"
    )
    btse_secret_key: str = _setting("BTSE_SECRET_KEY", str, "…", secret=True, meaning="from BTSE Pay, signs requests")
    osl_base_url: str = _setting(
        "OSL_BASE_URL", _url, "https://openapitest.osl-pay.com", meaning="OSL Pay's sandbox or production"
    )
    osl_app_id: str = _setting("OSL_APP_ID", _header_text, "…", meaning="given by OSL Pay")
    osl_private_key: RSAPrivateKey = _setting(
        "OSL_PRIVATE_KEY",
        _key(load_private_key),
        "MIICdQ…",
        secret=True,
        command=_RSA_COMMAND,
        meaning="the merchant's RSA key, PEM or bare base64 DER; signs requests to OSL Pay",
    )
    osl_webhook_public_key: RSAPublicKey = _setting(
        "OSL_WEBHOOK_PUBLIC_KEY",
        _key(load_public_key),
        "MIGfMA…",
        secret=True,
        meaning="OSL Pay's RSA key: verifies its webhooks, encrypts fields for it",
    )
    osl_requests_per_second: int = _setting(
        "OSL_REQUESTS_PER_SECOND",
        _whole(1, 1000),
        "10",
        default="10",
        meaning="OSL Pay's limit per appId; lower it when other software uses the same appId",
    )
    callback_tolerance_seconds: float = _setting(
        "CALLBACK_TOLERANCE_SECONDS",
        _number(1, 86_400),
        "300",
        default="300",
        meaning="webhooks with older or newer timestamps are stale",
    )
    callback_patience_seconds: float = _setting(
        "CALLBACK_PATIENCE_SECONDS",
        _number(0.1, 86_400),
        "3600",
        default="3600",
        meaning="how long a share waits for its webhook before OSL Pay is asked",
    )
    collect_ttl_days: float = _setting(
        "COLLECT_TTL_DAYS",
        _number(0, 3650),
        "30",
        default="30",
        meaning="how long a user has to submit; 0 for ever",
    )
    retain_documents_days: float = _setting(
        "RETAIN_DOCUMENTS_DAYS",
        _number(0, 3650),
        "30",
        default="30",
        meaning="how long documents are kept after the end; 0 keeps",
    )
    retain_profile_days: float = _setting(
        "RETAIN_PROFILE_DAYS",
        _number(0, 3650),
        "365",
        default="365",
        meaning="how long profiles are kept after the end; 0 keeps",
    )
    retry_horizon_hours: float = _setting(
        "RETRY_HORIZON_HOURS",
        _number(0.0001, 8760),
        "72",
        default="72",
        meaning="how long a provider's outage is retried before a person is asked",
    )

    @property
    def database_path(self) -> Path:
        """The SQLite file."""
        return Path(self.database_url.removeprefix("sqlite:///"))

    @property
    def documents_path(self) -> Path:
        """The folder of sealed documents."""
        return Path(self.documents_url.removeprefix("file:"))

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Config:
        """The settings of `environ` (default: the process's, with `.env` behind it).

        Raises ConfigurationError naming every faulty setting at once.
        """
        if environ is None:
            shipped = {name: value for name, value in dotenv_values(".env").items() if value is not None}
            environ = {**shipped, **os.environ}
        faults: list[SettingFault] = []
        values = {}
        for item in fields(cls):
            try:
                values[item.name] = _read(item.metadata, environ)
            except _Wrong as wrong:
                faults.append(_fault(item.metadata, str(wrong)))
        if values.get("notify_url") and "notify_secret" in values and values["notify_secret"] is None:
            secret = next(item.metadata for item in fields(cls) if item.name == "notify_secret")
            faults.append(_fault(secret, "it is missing, and ORCHESTRATOR_NOTIFY_URL needs it"))
        if faults:
            raise ConfigurationError(faults)
        return cls(**values)


def _read(setting: Mapping[str, Any], environ: Mapping[str, str]) -> Any:
    text = _raw(setting, environ)
    if text is None:
        if setting["optional"]:
            return None
        if setting["default"] is None:
            raise _Wrong("it is missing")
        text = setting["default"]
    return setting["parse"](text)


def _raw(setting: Mapping[str, Any], environ: Mapping[str, str]) -> str | None:
    name = setting["name"]
    value = environ.get(name, "").strip()
    file = environ.get(f"{name}_FILE", "").strip() if setting["secret"] else ""
    if value and file:
        raise _Wrong(f"{name} and {name}_FILE are both set: keep one")
    if not file:
        return value or None
    try:
        return Path(file).read_text("utf-8").strip() or None
    except (OSError, UnicodeDecodeError):
        raise _Wrong(f"the file that {name}_FILE names cannot be read") from None


def _fault(setting: Mapping[str, Any], problem: str) -> SettingFault:
    return SettingFault(setting["name"], problem, setting["example"], setting["command"])
