"""The way every call to a provider takes: rate, reading, story, injected faults, acting, answering."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from flask import Request, Response, request

from orchestrator.sandbox.clock import Clock
from orchestrator.sandbox.delivery import (
    dripping,
    replacement,
    reset_connection,
    reset_in_mid_body,
    respond,
)
from orchestrator.sandbox.envelopes import (
    Answer,
    Provider,
    Refusal,
    refuse_btse,
    refuse_osl,
    too_many,
    unavailable,
)
from orchestrator.sandbox.faults import Fault, Faults
from orchestrator.sandbox.journal import Call, Journal, SlidingSecond
from orchestrator.sandbox.people import People, Person
from orchestrator.sandbox.stories import Gate

TIMES_FLAKY = 2
CREDENTIALS = ("api", "nonce", "sign", "appId", "timestamp", "signature")

T = TypeVar("T")


@dataclass(frozen=True)
class Operation(Generic[T]):
    """One call of a provider's API. `read` checks the whole request and raises Refusal; `act` does it."""

    name: str
    provider: Provider
    read: Callable[[Request, Call], T]
    act: Callable[[T], Answer]


class Desk:
    """Takes calls of all operations."""

    def __init__(self, clock: Clock, journal: Journal, rate: SlidingSecond, people: People, faults: Faults) -> None:
        self._clock = clock
        self._journal = journal
        self._rate = rate
        self._people = people
        self._faults = faults

    def handle(self, operation: Operation[T]) -> Response:
        """Answer the current request."""
        call = self._journal.open(operation.name, _credentials())
        fault: Fault | None = None
        try:
            if operation.provider == "osl" and not self._rate.admit():
                raise Refusal(too_many())
            wanted = operation.read(request, call)
            person = self._person(call)
            fault = self._faults.take(
                operation.name, (call.merchant_user_id, call.email, person.email if person else None)
            )
            call.fault = fault is not None
            answer = self._meet(operation, call, wanted, person, fault or Fault())
        except Refusal as refusal:
            answer = refusal.answer
        if fault and fault.reset == "midBody":
            self._close(call, "reset")
            if answer.afterwards:
                answer.afterwards()
            reset_in_mid_body(answer, self._clock)
        call.status, call.code = answer.status, answer.code
        return respond(answer, self._clock)

    def _meet(self, operation: Operation[T], call: Call, wanted: T, person: Person | None, fault: Fault) -> Answer:
        time.sleep(fault.hang_before)
        genuine: Answer | None = None
        if fault.acts:
            self._gate(operation, person)
            genuine = operation.act(wanted)
            call.acted = True
        time.sleep(fault.hang_after)
        if fault.reset in ("before", "after"):
            self._close(call, "reset")
            if genuine and genuine.afterwards:
                genuine.afterwards()
            reset_connection()
        answer = genuine
        if answer is None or fault.replaces:
            answer = replacement(fault, operation.provider)
            answer = dataclasses.replace(answer, afterwards=genuine.afterwards if genuine else None)
        return dripping(answer) if fault.drip else answer

    def _gate(self, operation: Operation[T], person: Person | None) -> None:
        if person is None:
            return
        gate = person.story.gate
        if gate is Gate.DOWN or (gate is Gate.FLAKY and self._still_flaky(operation.name, person)):
            raise Refusal(unavailable(operation.provider))
        who = f"{person.email!r} ({person.merchant_user_id!r})"
        if gate is Gate.REFUSED and operation.provider == "btse":
            refuse_btse(f"the user {who} cannot be taken on")
        if gate is Gate.DECLINED and operation.name == "osl.share":
            refuse_osl(f"parameter check failed: the user {who} is not accepted")

    def _still_flaky(self, operation: str, person: Person) -> bool:
        with self._people.lock:
            person.calls[operation] += 1
            return person.calls[operation] <= TIMES_FLAKY

    def _person(self, call: Call) -> Person | None:
        if call.merchant_user_id is None:
            return None
        return self._people.find(call.merchant_user_id)

    @staticmethod
    def _close(call: Call, outcome: str) -> None:
        call.status, call.code = None, outcome


def _credentials() -> dict[str, str]:
    return {name: request.headers[name] for name in CREDENTIALS if name in request.headers}
