"""Answers that cannot be stored, documents that cannot be read, webhooks at the wrong moment: nothing is lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.errors import Kind, ProviderError, SealBroken, StoreUnavailable
from orchestrator.machine import Event, State
from orchestrator.onboarding import advance, collect, operate, receive
from orchestrator.onboarding.context import Context
from orchestrator.providers.answers import Answer
from orchestrator.providers.osl_pay import KycStatus
from orchestrator.records import Onboarding, ShareOutcome, Verdict
from tests.service import DAY, HOUR, MINUTE, SECOND, Bench, pdf


class _Failing:
    """A store whose next commits end in StoreUnavailable: before anything is stored, or after it."""

    def __init__(self, real: Any, times: int, *, stored: bool = False) -> None:
        self._real, self._times, self._stored = real, times, stored

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def commit(self, change: Any) -> bool:
        if self._times == 0:
            return bool(self._real.commit(change))
        self._times -= 1
        if self._stored:
            self._real.commit(change)
        raise StoreUnavailable("the database is away")


def lost(_real: object, **_named: object) -> Answer[str | None]:
    raise ProviderError("osl", Kind.TRANSIENT, "timeout", unknown_outcome=True)


def says(status: str | None, user_id: str = "9001", then: Callable[[], object] = lambda: None) -> Callable[..., Any]:
    """OSL Pay's answer to the status query; `then` happens on its way to us."""

    def ask(_real: object, *_asked: object) -> Answer[KycStatus | None]:
        then()
        return Answer(None if status is None else KycStatus(status, user_id, ""), 0)

    return ask


def claimed(bench: Bench, row: Onboarding) -> Any:
    [claim] = [claim for claim in bench.claim() if claim.onboarding.id == row.id]
    return claim


def unaddressed(bench: Bench, row: Onboarding, status: str) -> Verdict:
    sent = bench.webhook(row, status)
    return receive.receive(bench.context, None, sent.headers, sent.body)


# Answers that cannot be stored ------------------------------------------------------------------------------------


@pytest.mark.parametrize("stored", [False, True])
def test_an_answer_is_stored_once_the_database_is_there_again(played: Bench, stored: bool) -> None:
    row = played.to_share()
    claim = claimed(played, row)
    sent = []

    def share(real: Any, **named: Any) -> Any:
        sent.append(named["callback_url"])
        context.store._times = 1 if stored else 9  # type: ignore[attr-defined]
        return real.share(**named)

    context = replace(played.with_osl(share=share), store=_Failing(played.context.store, 0, stored=stored))  # type: ignore[arg-type]
    if stored:
        with pytest.raises(advance.LeaseLost):
            advance.advance(context, claim)
    else:
        advance.advance(context, claim)

    assert played.state(row) is State.AWAITING_CALLBACK
    assert (len(sent), played.events(row).count(Event.SHARED)) == (1, 1)


def test_an_answer_that_cannot_be_stored_is_given_up_with_the_lease(played: Bench) -> None:
    row = played.to_share()
    claim = claimed(played, row)

    def share(real: Any, **named: Any) -> Any:
        context.store._times = 1_000  # type: ignore[attr-defined]
        return real.share(**named)

    context = replace(played.with_osl(share=share), store=_Failing(played.context.store, 0))  # type: ignore[arg-type]
    with pytest.raises(StoreUnavailable):
        advance.advance(context, claim)

    assert played.clock() >= claim.onboarding.lease_until
    assert played.row(row).share is ShareOutcome.INTENDED


def test_a_document_whose_row_may_be_stored_keeps_its_file(bench: Bench) -> None:
    row, content = bench.sign_up(), pdf("a selfie")
    context = replace(bench.context, store=_Failing(bench.context.store, 1, stored=True))  # type: ignore[arg-type]
    with pytest.raises(StoreUnavailable):
        collect.put_document(context, row, "selfie", content, "test")

    after = collect.put_document(bench.context, bench.row(row), "selfie", content, "test")
    [document] = bench.context.store.documents(after.id)
    assert bench.context.documents.get(document) == content


# What cannot be read here ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [State.UPLOADING, State.SHARING])
def test_a_document_that_cannot_be_read_gives_lease_and_slot_back(
    played: Bench, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = played.submitted("pass")
    if state is State.SHARING:
        row = played.run_to(row, state)
        played.clock.advance(2 * SECOND)
    with monkeypatch.context() as away:

        def gone(_location: str) -> bytes:
            raise StoreUnavailable("the bucket does not answer")

        away.setattr(played.context.documents.shelf, "read", gone)
        played.step()
    after, view = played.row(row), played.view(row)
    assert (after.state, after.attempts, after.lease) == (state, 1, None)
    assert view.last_error is not None
    assert view.last_error["code"] == "document-unreadable"
    assert "the bucket does not answer" in view.last_error["message"]
    assert played.context.schedule.backlog(played.clock()).slots_in_use == {}

    played.run_to(row, State.AWAITING_CALLBACK, HOUR)


def test_what_a_missing_key_sealed_waits_without_lease_slot_or_charge(played: Bench) -> None:
    row = played.to_share()

    class NoKey:
        def __getattr__(self, name: str) -> Any:
            return getattr(played.context.sealer, name)

        def open(self, *_: object) -> bytes:
            raise SealBroken("was sealed with a key that is not here")

    context = replace(played.context, sealer=NoKey())  # type: ignore[arg-type]
    with pytest.raises(SealBroken):
        advance.advance(context, claimed(played, row))

    after = played.row(row)
    assert (after.state, after.attempts, after.failing_since, after.lease) == (State.SHARING, 0, None, None)
    assert after.due_at == played.clock() + MINUTE
    assert played.context.schedule.backlog(played.clock()).slots_in_use == {}
    assert played.run_to(row, State.AWAITING_CALLBACK).attempts == 0


def test_a_machine_that_is_too_slow_is_not_held_against_the_user(played: Bench) -> None:
    row = played.run_to(played.submitted("pass"), State.SHARING)
    shelf = played.context.documents.shelf
    read = shelf.read

    def slow(location: str) -> bytes | None:
        played.clock.advance(6 * SECOND)
        return read(location)

    shelf.read = slow  # type: ignore[method-assign]
    played.run(4 * DAY)
    assert played.state(row) is State.SHARING
    shelf.read = read  # type: ignore[method-assign]
    played.run_to(row, State.AWAITING_CALLBACK, 2 * HOUR)


def test_slots_that_a_clock_took_far_ahead_are_free_soon_after_it_is_set_right(played: Bench) -> None:
    right = played.clock()
    played.clock.now = right + 2 * HOUR
    for _ in range(4):
        played.shared("silent")
    played.clock.now = right
    for number in range(10):
        played.context.schedule.take_slot(right + 2 * HOUR, f"call-{number}", right + 2 * HOUR + MINUTE)
    row = played.submitted("pass")
    advance.beat(played.context, "wrk_1")
    assert played.run_to(row, State.AWAITING_CALLBACK, MINUTE)


# Webhooks at the wrong moment --------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [State.AWAITING_CALLBACK, State.COLLECTING])
def test_a_webhook_that_comes_while_osl_pay_is_asked_is_asked_about(played: Bench, state: State) -> None:
    row = played.shared()
    if state is State.COLLECTING:
        operate.ask_for_resubmission(played.context, row.id, "once more", "test")
    played.clock.advance(5 * SECOND)
    assert unaddressed(played, row, "PROCESS") is Verdict.UNADDRESSED
    claim = claimed(played, row)
    come: list[Verdict] = []

    def comes() -> None:
        played.clock.advance(300)
        come.append(unaddressed(played, row, "PASS"))

    advance.advance(played.with_osl(kyc_status=says("PROCESS", then=comes)), claim)
    assert (come, played.state(row)) == ([Verdict.UNADDRESSED], state)

    played.context = played.with_osl(kyc_status=says("PASS"))
    played.run_to(row, State.APPROVED, 2 * MINUTE)


@pytest.mark.parametrize("state", [State.AWAITING_CALLBACK, State.COLLECTING])
def test_webhooks_cannot_put_off_the_question_of_a_worker_that_died(played: Bench, state: State) -> None:
    row = played.shared()
    if state is State.COLLECTING:
        operate.ask_for_resubmission(played.context, row.id, "once more", "test")
    played.clock.advance(5 * SECOND)
    unaddressed(played, row, "PROCESS")
    lease_until = claimed(played, row).onboarding.lease_until
    played.context = played.with_osl(kyc_status=says("PASS"))
    while played.clock() < lease_until + 2 * MINUTE:
        played.clock.advance(10 * SECOND)
        unaddressed(played, row, "PROCESS")
    assert played.row(row).due_at <= played.clock()
    played.step()
    assert played.state(row) is State.APPROVED


def test_a_webhook_that_comes_while_a_question_fails_is_asked_about(played: Bench) -> None:
    row = played.shared()
    played.clock.advance(5 * SECOND)
    unaddressed(played, row, "PROCESS")
    claim = claimed(played, row)

    def fails(_real: object, *_asked: object) -> None:
        played.clock.advance(300)
        unaddressed(played, row, "PASS")
        raise ProviderError("osl", Kind.TRANSIENT, "503")

    advance.advance(played.with_osl(kyc_status=fails), claim)
    assert played.row(row).ask_at is None
    played.context = played.with_osl(kyc_status=says("PASS"))
    played.run_to(row, State.APPROVED, 2 * MINUTE)


def twice_lost(bench: Bench) -> Onboarding:
    """Neither share was answered, and OSL Pay says that it knows nobody."""
    row = bench.to_share()
    bench.context = bench.with_osl(share=lost, kyc_status=says(None))
    return bench.run_to(row, State.NEEDS_ATTENTION, 20 * MINUTE)


def test_a_late_webhook_proves_the_share_so_that_what_was_mended_begins_a_new_round(played: Bench) -> None:
    row = twice_lost(played)
    sent_at = played.clock() - MINUTE
    played.clock.advance(2 * HOUR)
    assert played.receive(row, "REJECT", timestamp=sent_at) is Verdict.STALE
    assert played.row(row).share is ShareOutcome.ARRIVED

    collect.edit(played.context, row.id, {"occupation": "Student"}, "test")
    again = collect.submit(played.context, row.id, "test")
    assert (again.round, again.share) == (2, ShareOutcome.NONE)


def test_a_webhook_that_came_early_counts_when_the_upload_is_refused(played: Bench) -> None:
    row = twice_lost(played)
    collect.edit(played.context, row.id, {"occupation": "Student"}, "test")
    collect.submit(played.context, row.id, "test")
    assert played.receive(row, "PASS") is Verdict.EARLY

    def refuses(*_: object) -> None:
        raise ProviderError("btse", Kind.REFUSED, "400", words="no")

    refusing: Context = replace(
        played.with_osl(kyc_status=says("PASS")),
        btse=type("Btse", (), {"upload_kyc": staticmethod(refuses)})(),
    )
    advance.advance(refusing, claimed(played, row))
    assert (played.state(row), played.verdicts(row)) == (State.CONFIRMING, [Verdict.APPLIED])
    advance.advance(refusing, claimed(played, row))
    assert played.state(row) is State.APPROVED


def test_an_empty_answer_proves_no_share(played: Bench) -> None:
    row = played.to_share()
    played.context = played.with_osl(share=lost, kyc_status=lambda *_: Answer(KycStatus(None, None, ""), 0))
    played.run_to(row, State.NEEDS_ATTENTION, 20 * MINUTE)
    assert Event.SHARE_FOUND not in played.events(row)
