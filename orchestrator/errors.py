"""The exceptions that all rooms share: one small tree.

`web` maps them to problem+json in one place, `cli` to an exit status in one place. No message here carries a
secret, a document or a user's data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum


class OrchestratorError(Exception):
    """Whatever this product raises on purpose."""


@dataclass(frozen=True)
class SettingFault:
    """One faulty setting: its name, what is wrong, an example, and for secrets a command that makes one."""

    name: str
    problem: str
    example: str
    command: str | None = None


class ConfigurationError(OrchestratorError):
    """Settings are missing or malformed; all of them are named at once."""

    def __init__(self, faults: Sequence[SettingFault]) -> None:
        self.faults = tuple(faults)
        lines = [f"{len(self.faults)} setting(s) must be mended before anything starts:"]
        for fault in self.faults:
            lines.append(f"  {fault.name}: {fault.problem}")
            lines.append(f"      example: {fault.name}={fault.example}")
            if fault.command:
                lines.append(f"      make one: {fault.command}")
        super().__init__("\n".join(lines))


class InvalidInput(OrchestratorError):
    """The caller's data is at fault. `errors`: dotted path such as `profile.ip` → messages."""

    def __init__(self, detail: str, errors: Mapping[str, Sequence[str]] | None = None) -> None:
        super().__init__(detail)
        self.errors = {path: list(messages) for path, messages in (errors or {}).items()}


class Unauthenticated(OrchestratorError):
    """No valid credential: token, session or signature."""


class Forbidden(OrchestratorError):
    """A valid credential of the wrong role, or a form from elsewhere."""


class NotFound(OrchestratorError):
    """There is no such thing."""


class Gone(OrchestratorError):
    """There was such a thing; it has expired, was erased or replaced."""


class Conflict(OrchestratorError):
    """The state of the onboarding (or delivery) does not allow this. `state`: what it is in now."""

    def __init__(self, detail: str, state: str) -> None:
        super().__init__(detail)
        self.state = state


class TooLarge(OrchestratorError):
    """More bytes than allowed."""


class UnsupportedDocument(OrchestratorError):
    """The bytes are no jpg, png or pdf."""


class MalformedCallback(OrchestratorError):
    """A signed callback whose body is not the documented JSON."""


class TooManyAttempts(OrchestratorError):
    """Too many wrong credentials from one address. `retry_after`: seconds."""

    def __init__(self, detail: str, retry_after: int) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class StoreUnavailable(OrchestratorError):
    """The database or document store could not take or give data; nothing was acknowledged."""


class DocumentGone(StoreUnavailable):
    """The store of documents works, and the file that a row names is not there."""


class SealBroken(OrchestratorError):
    """Sealed bytes could not be opened: a key id that is not configured, or bytes that were changed."""


class Kind(StrEnum):
    """What an outside fault means for the one who called."""

    TRANSIENT = "transient"
    REFUSED = "refused"
    UNAUTHORIZED = "unauthorized"


class ProviderError(OrchestratorError):
    """A provider (or the merchant's receiver) did not do what was asked. Callers branch on `kind` only.

    `code`: the envelope's code, the HTTP status or a word such as `timeout`. `words`: what the provider said,
    which may quote a user's data: never logged, masked and sealed before it is stored (so not part of `str()`).
    `unknown_outcome`: the request may have been acted upon all the same (time-out or reset after sending, a 5xx
    that is no 503, an unknown code, an unreadable answer). `retry_after_ms`, `skew_ms` (provider's clock minus ours):
    where known.
    """

    def __init__(
        self,
        provider: str,
        kind: Kind,
        code: str,
        *,
        words: str = "",
        unknown_outcome: bool = False,
        retry_after_ms: int | None = None,
        skew_ms: int | None = None,
    ) -> None:
        super().__init__(f"{provider}: {kind.value} ({code})")
        self.provider = provider
        self.kind = kind
        self.code = code
        self.words = words
        self.unknown_outcome = unknown_outcome
        self.retry_after_ms = retry_after_ms
        self.skew_ms = skew_ms
