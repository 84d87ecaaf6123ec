"""What the sandbox received and sent, for whoever looks at /sandbox: bounded, newest last."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from orchestrator.sandbox.clock import Clock
from orchestrator.sandbox.files import ReceivedFile

KEPT = 100_000


@dataclass
class Call:
    """One request received. `at`: unix ms; `monotonic_ms`: for intervals; `status` None: not answered yet.

    `headers`: those that
    authenticate. `acted`: whether it was acted upon. `fault`: an injected fault that it met.
    """

    operation: str
    at: int
    monotonic_ms: float
    merchant_user_id: str | None = None
    email: str | None = None
    fields: dict[str, str] = field(default_factory=dict)
    files: list[ReceivedFile] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    status: int | None = None
    code: str | None = None
    acted: bool = False
    fault: bool = False

    def as_json(self) -> dict[str, object]:
        """As `/sandbox/requests` shows it: decrypted fields, files without their bytes."""
        return {
            "at": self.at,
            "monotonicMs": self.monotonic_ms,
            "operation": self.operation,
            "merchantUserId": self.merchant_user_id,
            "email": self.email,
            "fields": dict(self.fields),
            "files": [file.as_json() for file in self.files],
            "headers": dict(self.headers),
            "outcome": {"status": self.status, "code": self.code},
            "acted": self.acted,
            "fault": self.fault,
        }


@dataclass(frozen=True)
class Sent:
    """One attempt to deliver a webhook. `status`: of the answer, if any; `answer`: its beginning, or the error."""

    at: int
    merchant_user_id: str | None
    url: str
    kyc_status: str | None
    timestamp: str
    attempt: int
    status: int | None
    answer: str

    def as_json(self) -> dict[str, object]:
        """As `/sandbox/webhooks` and `/sandbox/summary` show it."""
        return {
            "at": self.at,
            "merchantUserId": self.merchant_user_id,
            "url": self.url,
            "kycStatus": self.kyc_status,
            "timestamp": self.timestamp,
            "attempt": self.attempt,
            "status": self.status,
            "answer": self.answer,
        }


class SlidingSecond:
    """Counts arrivals in any second that slides; arrivals above `limit` are refused but counted all the same."""

    def __init__(self, limit: int, clock: Clock) -> None:
        self.limit = limit
        self.most = 0
        self.violations = 0
        self._clock = clock
        self._lock = threading.Lock()
        self._arrivals: deque[float] = deque()

    def admit(self) -> bool:
        """Count an arrival now; whether it is within the limit."""
        with self._lock:
            now = self._clock.monotonic()
            while self._arrivals and self._arrivals[0] <= now - 1.0:
                self._arrivals.popleft()
            self._arrivals.append(now)
            self.most = max(self.most, len(self._arrivals))
            within = not self.limit or len(self._arrivals) <= self.limit
            self.violations += not within
            return within


class Journal:
    """The calls and webhooks of this process's life, the newest KEPT of each, and counts of all."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._calls: deque[Call] = deque(maxlen=KEPT)
        self._sent: deque[Sent] = deque(maxlen=KEPT)
        self._operations: Counter[str] = Counter()
        self._shares: Counter[tuple[str, str | None]] = Counter()

    def open(self, operation: str, headers: Mapping[str, str]) -> Call:
        """Write down that a request arrived; the caller fills the rest in as it is learnt."""
        call = Call(operation, self._clock.now_ms(), self._clock.monotonic() * 1000, headers=dict(headers))
        with self._lock:
            self._calls.append(call)
            self._operations[operation] += 1
        return call

    def share_acted(self, merchant_user_id: str, callback_url: str | None) -> None:
        """Count a share that was acted upon."""
        with self._lock:
            self._shares[merchant_user_id, callback_url] += 1

    def sent(self, webhook: Sent) -> None:
        """Write down an attempt to deliver a webhook."""
        with self._lock:
            self._sent.append(webhook)

    def calls(self, operation: str | None = None, merchant_user_id: str | None = None) -> list[dict[str, object]]:
        """The requests received, newest last."""
        with self._lock:
            calls: Sequence[Call] = list(self._calls)
        return [
            call.as_json()
            for call in calls
            if operation in (None, call.operation) and merchant_user_id in (None, call.merchant_user_id)
        ]

    def webhooks(self, merchant_user_id: str | None = None) -> list[dict[str, object]]:
        """The webhooks sent, each attempt, newest last."""
        with self._lock:
            sent = list(self._sent)
        return [each.as_json() for each in sent if merchant_user_id in (None, each.merchant_user_id)]

    def counts(self) -> dict[str, object]:
        """Requests by operation, and shares acted upon by user and callback URL."""
        with self._lock:
            shares = [
                {"merchantUserId": user, "callbackUrl": url, "count": count}
                for (user, url), count in self._shares.items()
            ]
            return {"operations": dict(self._operations), "shares": shares}
