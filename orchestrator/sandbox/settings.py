"""What the sandbox must know: the merchant's credentials, OSL Pay's own key, and how strict or slow to be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

from orchestrator.signatures import MultipartMessage, SignEncoding, load_private_key

MAKE_KEY = "openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 | openssl pkcs8 -topk8 -nocrypt"

UploadAnswer = Literal["string", "object"]


@dataclass(frozen=True)
class SandboxSettings:
    """Everything the sandbox is told. `repr` hides the secrets."""

    btse_api_key: str = field(repr=False)
    btse_secret_key: str = field(repr=False)
    osl_app_id: str
    merchant_public_key: RSAPublicKey = field(repr=False)
    """Verifies the merchant's requests to OSL Pay."""
    osl_private_key: RSAPrivateKey = field(repr=False)
    """OSL Pay's own: signs webhooks and decrypts fields. Its public part is OSL_WEBHOOK_PUBLIC_KEY."""
    rate: int = 10
    """OSL Pay requests allowed in any sliding second; 0 is unlimited."""
    lag_seconds: float = 20.0
    """How long after its webhook the status query turns in the story `lag`."""
    pace: float = 1.0
    """Scales the pauses of webhooks (0.5 s between two, 1 s after a question, those before a webhook is
    sent again); not `lag_seconds` and not the timestamps."""
    sign_encoding: SignEncoding = "hex"
    multipart_message: MultipartMessage = "fields"
    upload_answer: UploadAnswer = "string"
    """Whether OSL Pay's upload answers the URL as a string or as an object with `url`."""
    merchant_code: str = "m-1"
    merchant_wide_url: str | None = None
    """Where webhooks go when a share names no callbackUrl; None: nowhere."""

    @classmethod
    def from_environ(
        cls,
        environ: Mapping[str, str],
        *,
        rate: int = 10,
        lag_seconds: float = 20.0,
        pace: float = 1.0,
        sign_encoding: SignEncoding = "hex",
        multipart_message: MultipartMessage = "fields",
        upload_answer: UploadAnswer = "string",
        merchant_wide_url: str | None = None,
    ) -> SandboxSettings:
        """Read the credentials from `environ`; each may be given as NAME_FILE instead.

        The merchant's public key is made from OSL_PRIVATE_KEY. Raises SandboxSettingsError naming every
        faulty setting at once.
        """
        faults: list[SandboxFault] = []
        api_key = _secret(environ, "BTSE_API_KEY", "sandbox-api-key", None, faults)
        secret_key = _secret(environ, "BTSE_SECRET_KEY", "sandbox-secret-key", "openssl rand -hex 24", faults)
        app_id = _secret(environ, "OSL_APP_ID", "sandbox-app", None, faults)
        merchant_key = _key(environ, "OSL_PRIVATE_KEY", faults)
        osl_key = _key(environ, "SANDBOX_OSL_PRIVATE_KEY", faults)
        if faults or merchant_key is None or osl_key is None:
            raise SandboxSettingsError(tuple(faults))
        return cls(
            btse_api_key=api_key,
            btse_secret_key=secret_key,
            osl_app_id=app_id,
            merchant_public_key=merchant_key.public_key(),
            osl_private_key=osl_key,
            rate=rate,
            lag_seconds=lag_seconds,
            pace=pace,
            sign_encoding=sign_encoding,
            multipart_message=multipart_message,
            upload_answer=upload_answer,
            merchant_wide_url=merchant_wide_url,
        )


@dataclass(frozen=True)
class SandboxFault:
    """One faulty setting: its name, what is wrong, an example, and for secrets a command that makes one."""

    name: str
    problem: str
    example: str
    command: str | None = None


class SandboxSettingsError(ValueError):
    """Settings of the sandbox are missing or malformed; all of them are named at once."""

    def __init__(self, faults: tuple[SandboxFault, ...]) -> None:
        self.faults = faults
        lines = [f"{len(faults)} setting(s) must be mended before the sandbox starts:"]
        for fault in faults:
            lines.append(f"  {fault.name}: {fault.problem}")
            lines.append(f"      example: {fault.name}={fault.example}")
            if fault.command:
                lines.append(f"      make one: {fault.command}")
        super().__init__("\n".join(lines))


def _secret(
    environ: Mapping[str, str], name: str, example: str, command: str | None, faults: list[SandboxFault]
) -> str:
    """The value of NAME or the content of the file that NAME_FILE names; both set is a fault."""
    plain, file = environ.get(name, ""), environ.get(f"{name}_FILE", "")
    problem = "it is not set"
    if plain and file:
        problem = f"{name} and {name}_FILE are both set; keep one"
    elif plain:
        return plain
    elif file:
        try:
            value = Path(file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            problem = f"the file that {name}_FILE names cannot be read"
        else:
            if value:
                return value
            problem = f"the file that {name}_FILE names is empty"
    faults.append(SandboxFault(name, problem, example, command))
    return ""


def _key(environ: Mapping[str, str], name: str, faults: list[SandboxFault]) -> RSAPrivateKey | None:
    example = "'-----BEGIN PRIVATE KEY-----…' (PEM or bare base64 DER)"
    text = _secret(environ, name, example, MAKE_KEY, faults)
    if not text:
        return None
    try:
        return load_private_key(text)
    except (ValueError, TypeError):
        # What the library says may quote the key: it is not repeated.
        faults.append(SandboxFault(name, "it is no unencrypted RSA private key", example, MAKE_KEY))
        return None
