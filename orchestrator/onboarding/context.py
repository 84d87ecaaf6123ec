"""What every verb of the service works with."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from orchestrator.documents import Documents
from orchestrator.notify import Merchant
from orchestrator.onboarding.profile import ProfileRules
from orchestrator.onboarding.tally import Tally
from orchestrator.providers.btse_pay import BtsePay
from orchestrator.providers.dialect import Dialects
from orchestrator.providers.osl_pay import OslPay
from orchestrator.records import Onboarding
from orchestrator.seal import Sealer
from orchestrator.store import AccessStore, ScheduleStore, StatusStore, Store

SECOND, MINUTE, HOUR, DAY = 1_000, 60_000, 3_600_000, 86_400_000


@dataclass(frozen=True)
class Timings:
    """How long things wait, in milliseconds. Tests pass shorter ones; no setting changes them."""

    backoff_first: int = SECOND
    backoff_longest: int = HOUR
    unauthorized_shortest: int = MINUTE
    probe: int = MINUTE
    lease_margin: int = 30 * SECOND
    unreadable: int = MINUTE
    """How long a row waits for a key that is missing here."""
    contradictions: tuple[int, ...] = (5 * SECOND, 30 * SECOND, 2 * MINUTE, 10 * MINUTE)
    """After the first answer that does not agree with a claim, when it is asked again."""
    lost_questions: tuple[int, ...] = (5 * SECOND, 30 * SECOND, 2 * MINUTE)
    """After a share's answer was lost, when OSL Pay is asked whether it arrived."""
    ask_every: int = MINUTE
    """How often OSL Pay is asked at most because of callbacks that are not believed."""
    poll_longest: int = DAY
    others_succeed_within: int = 10 * MINUTE
    deliveries: tuple[int, ...] = (
        5 * SECOND, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 5 * HOUR, 10 * HOUR, 14 * HOUR, 20 * HOUR, 24 * HOUR,
    )  # fmt: skip
    """The waits between a notification's tries, as Standard Webhooks has them."""
    worker_beat: int = 5 * SECOND
    worker_silent: int = 30 * SECOND
    session_longest: int = 12 * HOUR
    session_idle: int = HOUR
    login_window: int = MINUTE


@dataclass(frozen=True)
class Rules:
    """The settings that the service needs, in milliseconds and bytes."""

    public_url: str
    app_id: str
    deadline_ms: int
    tolerance_ms: int
    patience_ms: int
    collect_ttl_ms: int
    """0: for ever."""
    horizon_ms: int
    retain_documents_ms: int
    """0: kept for ever, as below."""
    retain_profile_ms: int
    signup_secrets: tuple[str, ...]


@dataclass(frozen=True)
class Context:
    """The parts, wired by bootstrap. `now_ms()`: unix ms; `token()`: 32 random bytes, URL-safe; `random()`: [0, 1).

    `pause(seconds)`: lets time go by.
    """

    store: Store
    schedule: ScheduleStore
    access: AccessStore
    status: StatusStore
    documents: Documents
    sealer: Sealer
    btse: BtsePay
    osl: OslPay
    merchant: Merchant | None
    tally: Tally
    osl_public_key: RSAPublicKey
    dialects: Dialects
    profile_rules: ProfileRules
    rules: Rules
    timings: Timings
    now_ms: Callable[[], int]
    token: Callable[[], str]
    random: Callable[[], float]
    pause: Callable[[float], None]
    pending_migrations: Callable[[], list[str]]

    def new_id(self, prefix: str) -> str:
        """A new id such as `onb_…`: its prefix, then 128 random bits."""
        return f"{prefix}_{self.token().replace('-', '').replace('_', '')[:22]}"

    def seal_json(self, value: Any, *place: str) -> bytes:
        """`value` as sealed JSON."""
        return self.sealer.seal(json.dumps(value, ensure_ascii=False).encode(), *place)

    def open_json(self, sealed: bytes | None, *place: str) -> Any:
        """What `seal_json` sealed; None stays None."""
        return None if sealed is None else json.loads(self.sealer.open(sealed, *place))

    def identity(self, onboarding: Onboarding) -> tuple[str, dict[str, str]]:
        """Email and profile of an onboarding, opened."""
        opened = self.open_json(onboarding.profile_sealed, "onboardings", onboarding.id, "profile")
        return opened["email"], opened["profile"]

    def erased_names(self, merchant_user_id: str) -> list[str]:
        """What stands in place of an erased user's merchantUserId: one for each key, the first is written."""
        return [f"erased-{name[:40]}" for name in self.sealer.hashes("merchantUserId", merchant_user_id)]

    def backoff_ms(self, attempts: int) -> int:
        """Full jitter: up to 1 s, 2 s, 4 s … before try `attempts` + 1."""
        longest = min(self.timings.backoff_first * 2 ** min(attempts - 1, 30), self.timings.backoff_longest)
        return int(longest * self.random())
