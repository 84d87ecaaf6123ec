"""One step under lease: calling a provider and storing the outcome, whatever it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from orchestrator.errors import Kind, ProviderError, StoreUnavailable
from orchestrator.health import Outcome
from orchestrator.machine import CLOSED, SETTLED, WAITING, Event, State
from orchestrator.onboarding.apply import Decide, Failure, Step, apply
from orchestrator.onboarding.context import Context
from orchestrator.onboarding.measure import measured
from orchestrator.onboarding.receive import apply_early
from orchestrator.providers.answers import Answer
from orchestrator.records import Onboarding, Operation
from orchestrator.store.change import Held
from orchestrator.store.claiming import Claim
from orchestrator.telemetry import logger

ACTOR = "worker"
SLOT_SLACK = 5_000
"""Milliseconds from claiming a row, with its slot, within which its call must begin."""
TOO_LATE = "started-too-late"
"""What such a call failed with; the provider is not at fault, and the retry horizon does not begin."""
LONE_FAILURES = 3
"""Unauthorized answers in a row after which an onboarding is parked, if it alone gets them while others succeed."""
FRESH: Mapping[str, Any] = {"attempts": 0, "failing_since": None, "unauthorized": 0}
"""What a success clears."""
WORKED: Mapping[str, Any] = {**FRESH, "last_error_sealed": None}
"""What a success clears in a state that stays: nobody is to look after an error that is over."""
_STORED_AGAIN_AFTER = 1.0
"""Seconds until an answer that could not be stored is stored again."""
_BEFORE_THE_ANSWER = (State.UPLOADING, State.SHARING)
_DOUBTED = (State.COLLECTING, State.NEEDS_ATTENTION, *SETTLED)
T = TypeVar("T")


@dataclass
class Work:
    """A claimed row on its way through one step; used by one thread.

    Exactly one of `done`, `failed`, `lost`, `put_off` ends it: lease and slot are given back in the same transaction.
    """

    context: Context
    claim: Claim
    provider: str
    called: bool = field(default=False, init=False)
    answered_at: int = field(default=0, init=False)
    skew_ms: int | None = field(default=None, init=False)
    _left: Onboarding | None = field(default=None, init=False)
    """The row as the intent left it."""

    @property
    def row(self) -> Onboarding:
        """The row as it was claimed."""
        return self.claim.onboarding

    def call(self, operation: Operation, ask: Callable[[], Answer[T]]) -> T:
        """Call a provider; `operation` says what for.

        Raises ProviderError, also when it is so late that the call could outlast its slot.
        """
        if self.claim.slot is not None and self.context.now_ms() - self.claim.claimed_at > SLOT_SLACK:
            raise ProviderError(self.provider, Kind.TRANSIENT, TOO_LATE)
        self.called = True
        try:
            answer = measured(self.context, operation, ask)
        except ProviderError as error:
            self.answered_at, self.skew_ms = self.context.now_ms(), error.skew_ms
            raise
        self.answered_at, self.skew_ms = self.context.now_ms(), answer.skew_ms
        return answer.value

    def intend(self, decide: Decide) -> Onboarding:
        """Store an intent; the lease is kept."""
        held = Held(self.claim.lease, release=False)
        self._left = apply(self.context, self.row.id, decide, read=self.row, held=held)
        return self._left

    def done(self, decide: Decide) -> Onboarding:
        """Store what came out of the step and give the row back."""
        return self._end(decide, None)

    def failed(
        self,
        error: ProviderError,
        *,
        also_secret: Mapping[str, str] | None = None,
        changes: Mapping[str, Any] | None = None,
        endless: bool = False,
    ) -> Onboarding:
        """Store a provider's error by its kind and give the row back.

        `also_secret`: what the provider may quote beside the profile; `changes`: columns to set as well;
        `endless`: the retry horizon does not run.
        """
        log = logger("worker").bind(provider=error.provider, kind=error.kind.value)
        log.info("step_failed", code=error.code, state=self.row.state.value)
        failure = Failure(error, also_secret or {})

        def decide(row: Onboarding) -> Sequence[Step]:
            if (row.state, row.round) != (self.row.state, self.row.round):
                return [_moved_on(row, failure)]
            step = _failure_step(self.context, row, failure, changes or {}, endless)
            if step.event is not Event.GAVE_UP or row.state not in _BEFORE_THE_ANSWER:
                return [step]
            # Where it waits now, webhooks are believed at once: also those that came before.
            return [step, *apply_early(row, self.context.store.callbacks(row.id))]

        return self._end(decide, error)

    def lost(self, decide: Decide, error: ProviderError) -> Onboarding:
        """Store that a call's outcome is unknown and give the row back."""
        return self._end(decide, error)

    def put_off(self) -> Onboarding:
        """Give the row back for a while: something of it cannot be read here, and no provider is at fault."""
        again_at = self.context.now_ms() + self.context.timings.unreadable
        return self._end(lambda row: [Step(None, ACTOR, changes=_again_at(row, again_at))], None)

    def _end(self, decide: Decide, error: ProviderError | None) -> Onboarding:
        now = self.context.now_ms()
        outcome = None
        if self.called:
            failure, code = (error.kind, error.code) if error is not None else (None, "")
            outcome = Outcome(self.provider, self.row.id, now, failure, code, self.skew_ms)
        # A slot is free one second after its answer was read, so that ten requests never meet in one second.
        free_at = self.answered_at + 1_000 if self.called else now
        held = Held(self.claim.lease, slot=self.claim.slot, slot_free_at=free_at, now=now)
        until = self.claim.claimed_at + self.context.rules.deadline_ms + self.context.timings.lease_margin
        read: Onboarding | None = self._left or self.row
        while True:
            try:
                return apply(self.context, self.row.id, decide, read=read, held=held, outcome=outcome)
            except StoreUnavailable:
                # What was answered is not known to anybody else. If it was stored after all, the lease is gone.
                if not self.called or self.context.now_ms() >= until:
                    raise
                self.context.pause(_STORED_AGAIN_AFTER)
                read = None


def _moved_on(row: Onboarding, failure: Failure) -> Step:
    """The row is elsewhere by now: what the provider answered is kept, and changes nothing else."""
    refused_after_the_end = failure.error.kind is Kind.REFUSED and row.state in CLOSED
    event = Event.GAVE_UP if refused_after_the_end else Event.STEP_FAILED
    return Step(event, ACTOR, str(failure.error), failure=failure)


def _failure_step(
    context: Context, row: Onboarding, failure: Failure, changes: Mapping[str, Any], endless: bool
) -> Step:
    error, now = failure.error, context.now_ms()
    if error.kind is Kind.REFUSED:
        return _given_up(row, str(error), failure, changes)
    if error.kind is Kind.UNAUTHORIZED:
        count = row.unauthorized + 1
        if count >= LONE_FAILURES and _is_alone(context, row, error.provider, now):
            return _given_up(row, str(error), failure, changes)
        wait = max(context.timings.unauthorized_shortest, context.backoff_ms(count))
        # The retry horizon runs over transient failures alone.
        columns = {"unauthorized": count, "attempts": 0, "failing_since": None}
        columns |= {**_again_at(row, now + wait), **changes}
        return Step(Event.STEP_FAILED, ACTOR, str(error), columns, failure=failure)
    since = row.failing_since
    if error.code != TOO_LATE:
        since = since or now
        if now - since >= context.rules.horizon_ms and not endless:
            return _given_up(row, f"{error}, retried for too long", failure, changes)
    wait = max(context.backoff_ms(row.attempts + 1), error.retry_after_ms or 0)
    columns = {"attempts": row.attempts + 1, "failing_since": since, **_again_at(row, now + wait), **changes}
    return Step(Event.STEP_FAILED, ACTOR, str(error), columns, failure=failure)


def _given_up(row: Onboarding, detail: str, failure: Failure, changes: Mapping[str, Any]) -> Step:
    columns = dict(changes)
    if row.state in _DOUBTED:
        columns |= {"ask_at": None, **FRESH}
    if row.state in SETTLED:
        columns |= NO_CLAIM
    return Step(Event.GAVE_UP, ACTOR, detail, columns, failure=failure)


NO_CLAIM: Mapping[str, Any] = {
    "claim": None,
    "claim_callback": None,
    "contradictions": 0,
    "contradicted_at": None,
    "doubted_at": None,
}
"""What ends the doubt about a settled outcome."""


def _again_at(row: Onboarding, when: int) -> dict[str, Any]:
    confirms = row.state in SETTLED and row.claim is not None
    if row.state in _DOUBTED and not confirms:
        return {"ask_at": when}
    # The next try asks anyway: also about what came during this one.
    return {"step_at": when, "ask_at": None} if row.state in WAITING else {"step_at": when}


def _is_alone(context: Context, row: Onboarding, provider: str, now: int) -> bool:
    """Whether others were let in lately, and nobody else was turned away since."""
    health = context.schedule.health(provider)
    if health.last_success_at is None or health.last_success_of == row.id:
        return False
    turned_away = set(health.unauthorized_ids) - {row.id}
    return not turned_away and now - health.last_success_at <= context.timings.others_succeed_within
