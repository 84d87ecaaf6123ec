"""Faults that tests inject: for some operations, for some users, for so many times."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

RESETS = ("before", "after", "midBody")
OPERATIONS = (
    "btse.authorization",
    "btse.cancel",
    "btse.upload",
    "osl.upload",
    "osl.share",
    "osl.status",
)

_WIRE_NAMES = {
    "hangBefore": "hang_before",
    "hangAfter": "hang_after",
    "reset": "reset",
    "status": "status",
    "headers": "headers",
    "body": "body",
    "contentType": "content_type",
    "code": "code",
    "msg": "msg",
    "redirect": "redirect",
    "drip": "drip",
    "huge": "huge",
    "act": "act",
}


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one call.

    `hang_before`, `hang_after`: seconds to wait before and after acting. `reset`: the connection is closed
    abruptly before or after acting, or within the answer's body. `status`, `headers`, `body`,
    `content_type`, `code` (with `msg`, in the provider's envelope), `redirect` (a URL) and `huge` (50 MB)
    replace the answer, and the call is then not acted upon unless `act`. `drip`: one byte a second.
    """

    hang_before: float = 0.0
    hang_after: float = 0.0
    reset: str | None = None
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str | None = None
    content_type: str = "application/json"
    code: str | None = None
    msg: str = "injected"
    redirect: str | None = None
    drip: bool = False
    huge: bool = False
    act: bool | None = None

    @property
    def replaces(self) -> bool:
        """Whether the answer is another than the genuine one."""
        given = (self.status, self.body, self.code, self.redirect)
        return self.huge or any(value is not None for value in given)

    @property
    def acts(self) -> bool:
        """Whether the call is acted upon."""
        if self.act is not None:
            return self.act
        return not self.replaces and self.reset != "before"


@dataclass
class _Rule:
    """`operation`: a name, `btse.*`, `osl.*` or `*`. `match`: merchantUserId, email or `*`. `times` None: always."""

    operation: str
    match: str
    times: int | None
    skip: int
    fault: Fault

    def fits(self, operation: str, names: Iterable[str | None]) -> bool:
        provider = operation.split(".", maxsplit=1)[0]
        return self.operation in ("*", f"{provider}.*", operation) and (self.match == "*" or self.match in names)


class Faults:
    """The injected faults, oldest first; a call meets at most one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rules: list[_Rule] = []
        self._lags: dict[str, float] = {}

    def add(self, wanted: Mapping[str, Any]) -> None:
        """Add what `POST /sandbox/faults` describes. Raises ValueError saying what is wrong with it."""
        known = {"operation", "match", "times", "skip", "fault", "statusLagSeconds"}
        if unknown := set(wanted) - known:
            raise ValueError(f"unknown names: {', '.join(sorted(unknown))}")
        match = str(wanted.get("match", "*"))
        rule = None
        if "fault" in wanted:
            operation = str(wanted.get("operation", "*"))
            if operation not in (*OPERATIONS, "*", "btse.*", "osl.*"):
                raise ValueError(f"operation must be one of {', '.join(OPERATIONS)}, btse.*, osl.*, *")
            times = wanted.get("times", 1)
            rule = _Rule(
                operation,
                match,
                None if times is None else int(times),
                int(wanted.get("skip", 0)),
                _fault_of(wanted["fault"]),
            )
        with self._lock:
            if rule:
                self._rules.append(rule)
            if "statusLagSeconds" in wanted:
                self._lags[match] = float(wanted["statusLagSeconds"])

    def clear(self) -> None:
        """Forget all faults and lags."""
        with self._lock:
            self._rules.clear()
            self._lags.clear()

    def take(self, operation: str, names: Iterable[str | None]) -> Fault | None:
        """The fault this call meets, counted down."""
        known = [name for name in names if name]
        with self._lock:
            for rule in self._rules:
                if rule.times == 0 or not rule.fits(operation, known):
                    continue
                if rule.skip:
                    rule.skip -= 1
                    continue
                if rule.times is not None:
                    rule.times -= 1
                return rule.fault
        return None

    def status_lag_seconds(self, names: Iterable[str | None]) -> float:
        """How long every turn of the status query stays unseen for this user."""
        with self._lock:
            return max((self._lags.get(name, 0.0) for name in ("*", *names) if name), default=0.0)


def _fault_of(wanted: Mapping[str, Any]) -> Fault:
    if not isinstance(wanted, Mapping) or not wanted:
        raise ValueError("fault must be an object that names what goes wrong")
    if unknown := set(wanted) - set(_WIRE_NAMES):
        raise ValueError(f"unknown in fault: {', '.join(sorted(unknown))}; known: {', '.join(_WIRE_NAMES)}")
    for name in ("hangBefore", "hangAfter", "status"):
        if not isinstance(wanted.get(name, 0), int | float):
            raise ValueError(f"{name} must be a number")
    fault = Fault(**{_WIRE_NAMES[name]: value for name, value in wanted.items()})
    if fault.reset not in (None, *RESETS):
        raise ValueError(f"reset must be one of {', '.join(RESETS)}")
    return fault
