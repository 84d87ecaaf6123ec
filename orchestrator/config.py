"""The settings, read once from the environment (and a `.env` file) into one frozen object."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from dotenv import dotenv_values

from orchestrator.branding import Logo, color, line, logo_file
from orchestrator.errors import ConfigurationError, SettingFault
from orchestrator.setting import (
    Wrong,
    choice,
    database,
    documents,
    encryption_keys,
    existing_file,
    fault,
    header_text,
    key,
    number,
    read,
    setting,
    url,
    whole,
    whsec,
    whsecs,
)
from orchestrator.signatures import load_private_key, load_public_key

_KEY_COMMAND = "openssl rand -base64 32"
_WHSEC_COMMAND = 'echo "whsec_$(openssl rand -base64 32)"'
_RSA_COMMAND = "openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out osl-private.pem"


class _Unreadable(ConfigurationError):
    """The file `.env` is there and cannot be read, so no setting is known."""

    def __init__(self, problem: str) -> None:
        super().__init__([SettingFault(".env", problem, "OSL_APP_ID=app-1")])

    def __str__(self) -> str:
        return "\n".join(f"{fault.name}: {fault.problem}" for fault in self.faults)


def environment() -> dict[str, str]:
    """The process's environment, with `.env` of the working directory behind it. Raises ConfigurationError."""
    try:
        shipped = dotenv_values(".env")
    except OSError as error:
        problem = f"it cannot be read ({error.strerror}): let the user who runs this read it, or remove it"
        raise _Unreadable(problem) from None
    except UnicodeDecodeError:
        raise _Unreadable("it is no text in UTF-8: save it as UTF-8") from None
    return {**{name: value for name, value in shipped.items() if value is not None}, **os.environ}


@dataclass(frozen=True, kw_only=True)
class Config:
    """Every setting, parsed. Durations keep the unit that their name says; its repr shows no secret."""

    database_url: str = setting(
        "ORCHESTRATOR_DATABASE_URL",
        database,
        "sqlite:///var/orchestrator.db",
        default="sqlite:///var/orchestrator.db",
        secret=True,
        meaning="where onboardings are stored: sqlite:///… or postgresql://user:password@host/database",
    )
    documents_url: str = setting(
        "ORCHESTRATOR_DOCUMENTS_URL",
        documents,
        "file:var/documents",
        default="file:var/documents",
        meaning="where sealed documents are stored: file:… or s3://bucket/prefix",
    )
    encryption_keys: tuple[bytes, ...] = setting(
        "ORCHESTRATOR_ENCRYPTION_KEYS",
        encryption_keys,
        "bFq1cE0…=",
        secret=True,
        command=_KEY_COMMAND,
        meaning="comma-separated base64 keys of 32 bytes: the first encrypts, all decrypt",
    )
    public_url: str = setting(
        "ORCHESTRATOR_PUBLIC_URL",
        url,
        "https://onboarding.example.com",
        meaning="the base that OSL Pay and end users reach",
    )
    signup_secrets: tuple[str, ...] = setting(
        "ORCHESTRATOR_SIGNUP_SECRETS",
        whsecs,
        "whsec_…",
        secret=True,
        command=_WHSEC_COMMAND,
        meaning="comma-separated secrets of the signup hook, several while rotating",
    )
    notify_url: str | None = setting(
        "ORCHESTRATOR_NOTIFY_URL",
        url,
        "https://merchant.example.com/kyc",
        optional=True,
        meaning="where the merchant is told of outcomes; unset: nobody is told",
    )
    notify_secret: str | None = setting(
        "ORCHESTRATOR_NOTIFY_SECRET",
        whsec,
        "whsec_…",
        optional=True,
        secret=True,
        command=_WHSEC_COMMAND,
        meaning="signs what the merchant is told",
    )
    providers_file: Path | None = setting(
        "ORCHESTRATOR_PROVIDERS_FILE",
        existing_file,
        "providers.toml",
        optional=True,
        meaning="overrides of single keys of the shipped dialects.toml",
    )
    merchant_name: str | None = setting(
        "ORCHESTRATOR_MERCHANT_NAME",
        line(60),
        "Example Shop",
        optional=True,
        meaning="who asks, as end users know you; unset: the page speaks of the company that sent the link",
    )
    merchant_logo: Logo | None = setting(
        "ORCHESTRATOR_MERCHANT_LOGO_FILE",
        logo_file,
        "logo.svg",
        optional=True,
        meaning="SVG, PNG or JPEG of at most 100 kB at the top of the end user's page; read at start",
    )
    accent_color: str | None = setting(
        "ORCHESTRATOR_ACCENT_COLOR",
        color,
        "#0a5f6b",
        optional=True,
        meaning="colour of buttons and links on the end user's page; shades that are easy to read are made from it",
    )
    support_contact: str | None = setting(
        "ORCHESTRATOR_SUPPORT_CONTACT",
        line(200),
        "help@example.com",
        optional=True,
        meaning="whom end users may ask: an email address, a telephone number or a web address",
    )
    trusted_proxies: int = setting(
        "ORCHESTRATOR_TRUSTED_PROXIES",
        whole(0, 10),
        "1",
        default="0",
        meaning="how many proxies in front set X-Forwarded-For and -Proto",
    )
    proxy_url: str | None = setting(
        "ORCHESTRATOR_PROXY_URL",
        url,
        "http://proxy.example.com:3128",
        optional=True,
        secret=True,
        meaning="proxy for outgoing calls",
    )
    log_level: str = setting(
        "ORCHESTRATOR_LOG_LEVEL",
        choice("DEBUG", "INFO", "WARNING", "ERROR"),
        "INFO",
        default="INFO",
        meaning="how much is logged",
    )
    log_format: str = setting(
        "ORCHESTRATOR_LOG_FORMAT",
        choice("console", "json"),
        "json",
        default="console",
        meaning="how it is logged: console or json",
    )
    provider_deadline_seconds: float = setting(
        "ORCHESTRATOR_PROVIDER_DEADLINE_SECONDS",
        number(0.5, 600),
        "60",
        default="60",
        meaning="one call to a provider, all in all; a lease lasts this plus 30 s",
    )
    btse_base_url: str = setting(
        "BTSE_BASE_URL", url, "https://api.btse.example", meaning="given by BTSE Pay for each environment"
    )
    btse_api_key: str = setting(
        "BTSE_API_KEY", header_text, "…", secret=True, meaning="given by BTSE Pay, sent in the header `api`"
    )
    btse_secret_key: str = setting("BTSE_SECRET_KEY", str, "…", secret=True, meaning="from BTSE Pay, signs requests")
    osl_base_url: str = setting(
        "OSL_BASE_URL", url, "https://openapitest.osl-pay.com", meaning="OSL Pay's sandbox or production"
    )
    osl_app_id: str = setting("OSL_APP_ID", header_text, "…", meaning="given by OSL Pay")
    osl_private_key: RSAPrivateKey = setting(
        "OSL_PRIVATE_KEY",
        key(load_private_key),
        "MIICdQ…",
        secret=True,
        command=_RSA_COMMAND,
        meaning="the merchant's RSA key, PEM or bare base64 DER; signs requests to OSL Pay",
    )
    osl_webhook_public_key: RSAPublicKey = setting(
        "OSL_WEBHOOK_PUBLIC_KEY",
        key(load_public_key),
        "MIGfMA…",
        secret=True,
        meaning="OSL Pay's RSA key: verifies its webhooks, encrypts fields for it",
    )
    osl_requests_per_second: int = setting(
        "OSL_REQUESTS_PER_SECOND",
        whole(1, 1000),
        "10",
        default="10",
        meaning="OSL Pay's limit per appId; lower it when other software uses the same appId",
    )
    callback_tolerance_seconds: float = setting(
        "CALLBACK_TOLERANCE_SECONDS",
        number(1, 86_400),
        "300",
        default="300",
        meaning="webhooks with older or newer timestamps are stale",
    )
    callback_patience_seconds: float = setting(
        "CALLBACK_PATIENCE_SECONDS",
        number(0.1, 86_400),
        "3600",
        default="3600",
        meaning="how long a share waits for its webhook before OSL Pay is asked",
    )
    collect_ttl_days: float = setting(
        "COLLECT_TTL_DAYS",
        number(0, 3650),
        "30",
        default="30",
        meaning="how long a user has to submit; 0 for ever",
    )
    retain_documents_days: float = setting(
        "RETAIN_DOCUMENTS_DAYS",
        number(0, 3650),
        "30",
        default="30",
        meaning="how long documents are kept after the end; 0 keeps",
    )
    retain_profile_days: float = setting(
        "RETAIN_PROFILE_DAYS",
        number(0, 3650),
        "365",
        default="365",
        meaning="how long profiles are kept after the end; 0 keeps",
    )
    retry_horizon_hours: float = setting(
        "RETRY_HORIZON_HOURS",
        number(0.0001, 8760),
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
            environ = environment()
        faults: list[SettingFault] = []
        values = {}
        for item in fields(cls):
            try:
                values[item.name] = read(item.metadata, environ)
            except Wrong as wrong:
                faults.append(fault(item.metadata, str(wrong)))
        if values.get("notify_url") and "notify_secret" in values and values["notify_secret"] is None:
            secret = next(item.metadata for item in fields(cls) if item.name == "notify_secret")
            faults.append(fault(secret, "it is missing, and ORCHESTRATOR_NOTIFY_URL needs it"))
        if faults:
            raise ConfigurationError(faults)
        return cls(**values)
