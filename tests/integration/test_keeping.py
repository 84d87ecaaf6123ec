"""How long things are kept: purge, erase, and what a kill in the middle leaves behind."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import Conflict, Gone, Kind, NotFound, ProviderError
from orchestrator.machine import Event, State
from orchestrator.onboarding import advance, collect, look, operate, receive, retain, signup
from orchestrator.onboarding.apply import Step, apply
from orchestrator.onboarding.restore import settle_restored
from orchestrator.onboarding.retain import Purged
from orchestrator.records import DeliveryStatus, Onboarding, Verdict
from orchestrator.worker import Worker
from tests.command_line import CHECKOUT, orchestrator
from tests.databases import dump
from tests.merchant_end import MerchantEnd
from tests.service import DAY, HOUR, MINUTE, SECOND, Bench, Clock, new_user, pdf, web_of
from tests.waiting import until

NOTHING = Purged(0, 0, 0)


def stored(bench: Bench) -> str:
    """Every value in the database, as text; what is sealed stays so."""
    with bench.connected() as database:
        return dump(database)


def settled(bench: Bench) -> Onboarding:
    """Approved, with everything that is kept about a user: a callback, notifications, OSL Pay's userId."""
    row = bench.shared_on_paper()
    bench.receive(row, "REVIEW")
    return apply(bench.context, row.id, lambda _: [Step(Event.ANSWERED_PASS, "worker", "PASS", reason="")])


def has_files(bench: Bench, row: Onboarding) -> bool:
    return any(location.startswith(row.id) for location, _ in bench.context.documents.shelf.locations())


def documents_gone(bench: Bench, row: Onboarding) -> bool:
    return bench.context.store.documents(row.id) == [] and not has_files(bench, row)


def profile_gone(bench: Bench, row: Onboarding) -> bool:
    now = bench.row(row)
    empty = bench.context.identity(now) == ("", {}) and now.email_hash == "" and now.profile_deleted_at is not None
    bodies = [callback.body_sealed for callback in bench.callbacks(row)]
    words = (now.reason_sealed, now.last_error_sealed)
    return empty and set(bodies) <= {b""} and words == (None, None)


# Purge ----------------------------------------------------------------------------------------------------------


def test_documents_go_after_their_days_and_profiles_after_theirs_each_with_a_transition(bench: Bench) -> None:
    approved, cancelled, open_one = settled(bench), bench.collected(), bench.collected()
    operate.cancel(bench.context, cancelled.id, "test")
    bench.clock.advance(30 * DAY - SECOND)
    assert retain.purge(bench.context) == NOTHING
    bench.clock.advance(2 * SECOND)
    assert retain.purge(bench.context) == Purged(documents=2, profiles=0, strays=0)
    assert retain.purge(bench.context) == NOTHING, "once is enough"
    for row in (approved, cancelled):
        assert documents_gone(bench, row)
        assert bench.transitions(row)[-1].event is Event.DOCUMENTS_DELETED
        assert bench.transitions(row)[-1].detail == "idFileFront, selfie"
        assert not profile_gone(bench, row)
    bench.clock.advance(335 * DAY)
    assert retain.purge(bench.context) == Purged(documents=0, profiles=2, strays=0)
    assert retain.purge(bench.context) == NOTHING
    for row in (approved, cancelled):
        assert profile_gone(bench, row)
        assert bench.transitions(row)[-1].event is Event.PROFILE_DELETED
        assert bench.chain_faults(row) == []
    assert bench.state(approved) is State.APPROVED
    assert bench.row(approved).merchant_user_id == approved.merchant_user_id, "the merchant still finds it"
    assert len(bench.context.store.documents(open_one.id)) == 2, "an open one is kept"
    assert bench.context.identity(bench.row(open_one))[1]["firstName"] == "Anastasia"


def in_doubt(bench: Bench, row: Onboarding) -> Onboarding:
    """A webhook says that a settled user is rejected after all; OSL Pay was asked and did not answer."""
    bench.clock.advance(SECOND)
    assert bench.receive(row, "REJECT") is Verdict.APPLIED
    bench.run(SECOND)
    doubted = bench.row(row)
    assert None not in (doubted.claim, doubted.claim_callback, doubted.doubted_at, doubted.last_error_sealed)
    return doubted


def open_again_once_found(bench: Bench, monkeypatch: pytest.MonkeyPatch, name: str) -> Onboarding:
    """A settled user whose next round begins right after the purge found them past their time."""
    row = settled(bench)
    real = getattr(bench.context.store, name)

    def found(before: int) -> list[str]:
        ids = list(real(before))
        if ids:
            assert bench.receive(row, "REJECT") is Verdict.APPLIED
            apply(bench.context, row.id, lambda _: [Step(Event.CONFIRMED_REJECT, "worker")])
        return ids

    monkeypatch.setattr(bench.context.store, name, found)
    return row


def test_documents_that_are_needed_again_since_they_were_found_past_their_time_are_kept(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = open_again_once_found(bench, monkeypatch, "with_documents_past")
    bench.clock.advance(31 * DAY)
    retain.purge(bench.context)
    assert bench.state(row) is State.COLLECTING
    kept = bench.context.store.documents(row.id)
    assert [document.kind for document in kept] == ["idFileFront", "selfie"]
    assert all(bench.context.documents.get(document) for document in kept)


def test_a_profile_that_is_needed_again_since_it_was_found_past_its_time_is_kept(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = open_again_once_found(bench, monkeypatch, "with_profile_past")
    bench.clock.advance(366 * DAY)
    retain.purge(bench.context)
    after = bench.row(row)
    assert (after.state, after.profile_deleted_at) == (State.COLLECTING, None)
    assert bench.context.identity(after)[1]["firstName"] == "Anastasia"


def test_a_providers_words_about_a_settled_user_go_with_the_profile(bench: Bench) -> None:
    row = in_doubt(bench, settled(bench))
    bench.clock.advance(366 * DAY)
    assert retain.purge(bench.context).profiles == 1
    assert profile_gone(bench, row)


def test_zero_days_keep_for_ever(tmp_path: Path) -> None:
    bench = Bench(tmp_path, RETAIN_DOCUMENTS_DAYS="0", RETAIN_PROFILE_DAYS="0", COLLECT_TTL_DAYS="0")
    row = settled(bench)
    bench.clock.advance(10_000 * DAY)
    assert retain.purge(bench.context) == NOTHING
    assert not profile_gone(bench, row)
    assert len(bench.context.store.documents(row.id)) == 2
    bench.close()


def test_what_waits_to_be_told_is_told_after_a_purge_and_not_kept_then(tmp_path: Path, merchant: MerchantEnd) -> None:
    bench = notifying(tmp_path, merchant, Clock(Clock()() - 366 * DAY))
    row = bench.collected()
    operate.cancel(bench.context, row.id, "test")
    bench.clock.advance(366 * DAY)
    assert retain.purge(bench.context) == Purged(1, 1, 0)
    tell(bench)
    assert [notice.type for notice in merchant.told(row.merchant_user_id)] == ["onboarding.cancelled"]
    assert bodies_told(bench, row) == {b""}
    bench.close()


def test_files_that_no_row_names_go_after_a_day_and_not_before(bench: Bench) -> None:
    row = bench.collected()
    old = bench.context.documents.put(row.id, "selfie", "0" * 64, b"never acknowledged")
    nobodys = bench.context.documents.put("onb_nobody", "selfie", "0" * 64, b"never acknowledged")
    half = bench.folder / "documents" / row.id / ".selfie-0123"
    half.write_bytes(b"half")
    bench.context.documents.shelf.note_erasure("onb_nobody", "2026-01-01")
    real = {document.location for document in bench.context.store.documents(row.id)}
    assert retain.purge(bench.context) == NOTHING
    bench.clock.advance(DAY - MINUTE)
    assert retain.purge(bench.context) == NOTHING
    bench.clock.advance(2 * MINUTE)
    young = bench.context.documents.put(row.id, "idFileBack", "0" * 64, b"about to get its row")
    written = (bench.clock() - HOUR) / 1000
    os.utime(bench.folder / "documents" / young, (written, written))
    assert retain.purge(bench.context) == Purged(0, 0, strays=3)
    assert {location for location, _ in bench.context.documents.shelf.locations()} == {*real, young}
    assert not (bench.folder / "documents" / nobodys).exists()
    assert not (bench.folder / "documents" / old).exists()
    assert bench.context.documents.shelf.erasures() == ["onb_nobody"]


def test_a_purge_beside_another_writes_nothing_twice(bench: Bench) -> None:
    row = bench.collected()
    operate.cancel(bench.context, row.id, "test")
    bench.clock.advance(366 * DAY)

    class Listed:
        """What is listed is purged by the other one before its turn comes."""

        def __getattr__(self, name: str) -> Any:
            return getattr(bench.context.store, name)

        def with_profile_past(self, before: int) -> list[str]:
            found = list(bench.context.store.with_profile_past(before))
            retain.purge(bench.context)
            return found

    retain.purge(dataclasses.replace(bench.context, store=Listed()))
    assert bench.events(row)[-2:] == [Event.DOCUMENTS_DELETED, Event.PROFILE_DELETED]


def test_one_of_several_processes_purges_a_day(bench: Bench) -> None:
    contexts = [bench.context, *(bench.open().context for _ in range(3))]

    def all_at_once() -> list[Purged | None]:
        found: list[Purged | None] = []
        threads = [
            threading.Thread(target=lambda context=context: found.append(retain.purge_daily(context)))
            for context in contexts
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return found

    assert sum(done is not None for done in all_at_once()) == 1
    bench.clock.advance(DAY - SECOND)
    assert sum(done is not None for done in all_at_once()) == 0
    bench.clock.advance(2 * SECOND)
    assert sum(done is not None for done in all_at_once()) == 1


def test_workers_purge_by_themselves_and_only_once(bench: Bench) -> None:
    row = settled(bench)
    bench.clock.advance(31 * DAY)
    workers = [Worker(bench.context, 2), Worker(bench.open().context, 2)]
    threads = [threading.Thread(target=worker.run) for worker in workers]
    for thread in threads:
        thread.start()
    try:
        until(lambda: documents_gone(bench, row))
    finally:
        for worker in workers:
            worker.stop()
        for thread in threads:
            thread.join()
    assert bench.events(row).count(Event.DOCUMENTS_DELETED) == 1


def test_the_command_purges_and_counts(tmp_path: Path) -> None:
    bench = Bench(tmp_path, RETAIN_DOCUMENTS_DAYS="0.0000001", RETAIN_PROFILE_DAYS="0.0000001")
    settled(bench)
    said = orchestrator(bench.environ(), tmp_path, "purge").stdout
    assert said == "deleted: documents of 1, profiles of 1, 0 stray files\n"
    said = orchestrator(bench.environ(), tmp_path, "purge", "--json").stdout
    assert said == '{"documents": 0, "profiles": 0, "strays": 0}\n'
    bench.close()


# Erase ----------------------------------------------------------------------------------------------------------


def notifying(folder: Path, merchant: MerchantEnd, clock: Clock | None = None) -> Bench:
    settings = {"ORCHESTRATOR_NOTIFY_URL": merchant.url, "ORCHESTRATOR_NOTIFY_SECRET": merchant.secret}
    return Bench(folder, clock=clock, **settings)


def tell(bench: Bench) -> None:
    """Send every notification that is in line."""
    while claimed := advance.claim_deliveries(bench.context, 10):
        for delivery in claimed:
            advance.deliver(bench.context, delivery)


def bodies_told(bench: Bench, row: Onboarding) -> set[bytes]:
    found = bench.context.store.deliveries(row.id)
    assert {delivery.status for delivery in found} == {DeliveryStatus.DELIVERED}
    return {delivery.body_sealed for delivery in found}


@pytest.fixture
def merchant() -> Iterator[MerchantEnd]:
    made = MerchantEnd()
    yield made
    made.stop()


def test_erasing_an_open_one_leaves_nothing_personal_and_tells_the_merchant(
    tmp_path: Path, merchant: MerchantEnd
) -> None:
    bench = notifying(tmp_path, merchant)
    row = bench.shared_on_paper(user_id="osl-user-77")
    bench.receive(row, "REVIEW", reason="the photo of Anastasia")
    assert has_files(bench, row)
    assert "osl-user-77" in stored(bench)
    before = len(bench.transitions(row))
    retain.erase(bench.context, row.id, "operator")

    now = bench.row(row)
    assert now.state is State.CANCELLED
    assert now.erased_at == bench.clock()
    assert documents_gone(bench, row)
    assert profile_gone(bench, row)
    assert row.merchant_user_id not in stored(bench)
    assert "osl-user-77" not in stored(bench)
    assert now.merchant_user_id.startswith("erased-")
    assert bench.chain_faults(row) == []
    assert [item.event for item in bench.transitions(row)[before:]] == [Event.ERASED]
    log = (bench.folder / "documents" / "erasures.log").read_text()
    assert log.split()[-1] == row.id
    assert row.merchant_user_id not in log
    assert log.count("\n") == 1

    tell(bench)
    told = [notice.type for notice in merchant.notices]
    assert told == ["onboarding.submitted", "onboarding.in_review", "onboarding.cancelled"]
    assert {notice.data["merchantUserId"] for notice in merchant.notices} == {row.merchant_user_id}
    assert bodies_told(bench, row) == {b""}, "what was told is not kept either"
    bench.close()


def test_erasing_a_settled_one_keeps_its_state_and_tells_nobody(tmp_path: Path, merchant: MerchantEnd) -> None:
    bench = notifying(tmp_path, merchant)
    row = settled(bench)
    tell(bench)
    count = len(merchant.notices)
    retain.erase(bench.context, row.id, "operator")
    tell(bench)
    assert bench.state(row) is State.APPROVED
    assert documents_gone(bench, row)
    assert profile_gone(bench, row)
    assert row.merchant_user_id not in stored(bench)
    assert len(merchant.notices) == count
    assert bodies_told(bench, row) == {b""}
    assert bench.chain_faults(row) == []
    with pytest.raises(Conflict, match="erased already"):
        retain.erase(bench.context, row.id, "operator")
    with pytest.raises(NotFound):
        retain.erase(bench.context, "onb_nobody", "operator")
    bench.close()


def test_of_two_who_erase_a_user_at_once_one_does_and_the_name_stays_known_by_its_hash(bench: Bench) -> None:
    row = bench.shared_on_paper()

    class Asked:
        """BTSE Pay, which takes long to answer."""

        def get_authorization(self, merchant_user_id: str) -> Any:
            retain.erase_here(bench.context, row.id, "the other")
            return bench.context.btse.get_authorization(merchant_user_id)

    with pytest.raises(Conflict, match="erased already"):
        retain.erase(dataclasses.replace(bench.context, btse=Asked()), row.id, "operator")
    assert [item.actor for item in bench.transitions(row) if item.event is Event.ERASED] == ["the other"]
    assert bench.row(row).merchant_user_id in bench.context.erased_names(row.merchant_user_id)
    assert documents_gone(bench, row)


def test_what_is_erased_while_it_is_to_be_sent_again_holds_no_other_notification_up(
    tmp_path: Path, merchant: MerchantEnd
) -> None:
    bench = notifying(tmp_path, merchant)
    row = bench.shared_on_paper()
    tell(bench)
    (submitted,) = bench.context.store.deliveries(row.id)
    retain.erase_here(bench.context, row.id, "operator")
    assert not bench.context.schedule.resend_delivery(submitted.id, row.id, bench.clock()), "whoever looked before"
    with pytest.raises(Conflict, match="no longer kept"):
        operate.resend_delivery(bench.context, submitted.id)
    tell(bench)
    states = [(item.type, item.status) for item in bench.context.store.deliveries(row.id)]
    done = DeliveryStatus.DELIVERED
    assert states == [("onboarding.submitted", done), ("onboarding.cancelled", done)]
    bench.close()


def test_erasing_one_in_doubt_ends_the_doubt_and_nobody_is_asked(bench: Bench) -> None:
    row = in_doubt(bench, settled(bench))
    retain.erase_here(bench.context, row.id, "operator")
    now = bench.row(row)
    assert (now.state, now.claim, now.claim_callback, now.doubted_at) == (State.APPROVED, None, None, None)
    assert profile_gone(bench, row)
    assert bench.run(DAY) == []


def test_what_a_rejected_user_was_told_goes_and_nobody_is_asked_about_an_erased_one(bench: Bench) -> None:
    row = bench.shared_on_paper()
    step = Step(Event.ANSWERED_FINAL_REJECT, "worker", "FINAL_REJECT", reason="The photo does not show you.")
    apply(bench.context, row.id, lambda _: [step])
    assert bench.receive(row, "PASS", timestamp=bench.clock() - HOUR) is Verdict.STALE
    now = bench.row(row)
    assert None not in (now.ask_at, now.due_at, now.reason_sealed)
    retain.erase_here(bench.context, row.id, "operator")
    now = bench.row(row)
    assert (now.state, now.ask_at, now.due_at) == (State.REJECTED, None, None)
    assert profile_gone(bench, row)
    assert bench.run(DAY) == []


def test_btse_pay_is_asked_about_one_that_may_have_been_submitted_since_the_backup(bench: Bench) -> None:
    row, untouched = bench.collected(), bench.collected()
    assert retain.erase(bench.context, untouched.id, "operator"), "BTSE Pay never heard of this one"
    settle_restored(bench.context)
    assert bench.row(row).submitted_at is None
    assert not retain.erase(bench.context, row.id, "operator"), "it was asked, and did not answer"


def test_a_webhook_that_names_an_erased_user_is_ignored_and_no_forgery(bench: Bench) -> None:
    row = bench.shared_on_paper()
    secret, sent = bench.callback_secret(row), bench.webhook(row, "PASS")
    retain.erase_here(bench.context, row.id, "operator")
    assert receive.receive(bench.context, secret, sent.headers, sent.body) is Verdict.IGNORED
    assert bench.verdicts(row) == [Verdict.IGNORED]


def test_a_webhook_about_an_erased_user_that_comes_again_is_a_duplicate(bench: Bench) -> None:
    row = bench.shared_on_paper()
    secret, before = bench.callback_secret(row), bench.webhook(row, "REVIEW")
    receive.receive(bench.context, secret, before.headers, before.body)
    retain.erase_here(bench.context, row.id, "operator")
    bench.clock.advance(1)
    after = bench.webhook(row, "PASS")
    receive.receive(bench.context, secret, after.headers, after.body)
    for sent in (before, after):
        assert receive.receive(bench.context, secret, sent.headers, sent.body) is Verdict.DUPLICATE
    assert bench.verdicts(row) == [Verdict.APPLIED, Verdict.IGNORED]
    assert [callback.seen for callback in bench.callbacks(row)] == [2, 2]


def test_who_was_erased_cannot_be_found_out_by_trying_names(bench: Bench) -> None:
    row = bench.shared_on_paper(user_id="osl-user-77")
    secret = bench.callback_secret(row)
    sent = bench.webhook(row, "PASS")
    receive.receive(bench.context, secret, sent.headers, sent.body)
    guessed = json.dumps(json.loads(sent.body), sort_keys=True, separators=(",", ":")).encode()
    assert hashlib.sha256(guessed).hexdigest() in stored(bench)
    retain.erase_here(bench.context, row.id, "operator")
    assert hashlib.sha256(guessed).hexdigest() not in stored(bench)
    bench.clock.advance(1)
    late = bench.webhook(row, "FINAL_REJECT")
    receive.receive(bench.context, secret, late.headers, late.body)
    assert {callback.body_sha256 for callback in bench.callbacks(row)} == {""}


def test_an_erased_link_is_gone_and_its_user_is_found_by_nothing(bench: Bench) -> None:
    with web_of(bench) as web:
        row = bench.collected()
        email = bench.context.identity(row)[0]
        link = web.operator("GET", f"/api/v1/onboardings/{row.id}").json()["uploadUrl"]
        path = "/u/" + link.rpartition("/u/")[2]
        assert web.anyone("GET", path).status_code == 200
        retain.erase(bench.context, row.id, "operator")
        assert web.anyone("GET", path).status_code == 410
        with pytest.raises(Gone):
            look.find_by_link(bench.context, path.removeprefix("/u/"))
        for text in (email, row.merchant_user_id):
            assert web.operator("GET", f"/api/v1/onboardings?q={text.replace('+', '%2B')}").json()["items"] == []
        shown = web.operator("GET", f"/api/v1/onboardings/{row.id}").json()
        assert row.merchant_user_id not in str(shown)


def test_an_erased_one_gets_no_new_link_which_would_be_gone_at_once(bench: Bench) -> None:
    with web_of(bench) as web:
        row = settled(bench)
        retain.erase_here(bench.context, row.id, "operator")
        refused = web.operator("POST", f"/api/v1/onboardings/{row.id}/link")
        assert (refused.status_code, refused.json()["state"]) == (409, "approved")
        assert "erased" in refused.json()["detail"]


def test_a_new_signup_after_an_erasure_begins_anew_and_the_same_webhook_id_gives_the_old_one(bench: Bench) -> None:
    asked = signup.checked_signup(bench.context, new_user())
    for number in range(2):
        first, new = signup.sign_up(bench.context, asked, "hook", f"msg-{number}")
        assert new
        retain.erase(bench.context, first.id, "operator")
        again, new = signup.sign_up(bench.context, asked, "hook", f"msg-{number}")
        assert (again.id, new) == (first.id, False)
        assert bench.row(first).erased_at is not None


def test_a_user_can_be_erased_approved_again_and_erased_again(bench: Bench) -> None:
    data = new_user()
    seen = set()
    for _ in range(3):
        row, new = signup.sign_up(bench.context, signup.checked_signup(bench.context, data), "test")
        assert new
        for kind in ("idFileFront", "selfie"):
            collect.put_document(bench.context, look.find(bench.context, row.id), kind, pdf(kind), "test")
        approve_on_paper(bench, collect.submit(bench.context, row.id, "test"))
        retain.erase(bench.context, row.id, "operator")
        assert bench.state(row) is State.APPROVED
        seen.add(row.id)
    assert len(seen) == 3
    assert data["merchantUserId"] not in stored(bench)


def approve_on_paper(bench: Bench, row: Onboarding) -> None:
    steps = [Step(Event.UPLOADED, "worker"), Step(Event.SHARED, "worker"), Step(Event.ANSWERED_PASS, "worker")]
    assert apply(bench.context, row.id, lambda _: steps).state is State.APPROVED


def test_what_osl_pay_knows_of_an_erased_user_proves_no_share_of_the_next_onboarding(played: Bench) -> None:
    data = new_user()

    def submitted() -> Onboarding:
        row, _ = signup.sign_up(played.context, signup.checked_signup(played.context, data), "test")
        for kind in ("idFileFront", "selfie"):
            collect.put_document(
                played.context, look.find(played.context, row.id), kind, pdf(f"{kind} of {row.id}"), "test"
            )
        return collect.submit(played.context, row.id, "test")

    def lost(real: Any, **fields: Any) -> Any:
        raise ProviderError("osl", Kind.TRANSIENT, "timeout", unknown_outcome=True)

    first = played.run_to(submitted(), State.APPROVED, 2 * HOUR)
    retain.erase(played.context, first.id, "test")
    second = played.all_but_the_share(submitted())
    played.advance(played.claim(), played.with_osl(share=lost))
    played.run(10 * MINUTE)
    assert played.state(second) is State.AWAITING_CALLBACK
    assert len(played.requests(second, "osl.share")) == 2, "one of each onboarding: the lost one never arrived"


def test_what_a_worker_was_told_meanwhile_is_not_stored_after_an_erasure(played: Bench) -> None:
    assert played.sandbox
    waiting, sharing, uploading = played.shared(), played.to_share(), played.submitted()
    answered: list[Any] = []

    def erased_meanwhile(row: Onboarding) -> Onboarding:
        retain.erase_here(played.context, row.id, "operator")
        answered.append(played.row(row))
        return played.row(row)

    def share(real: Any, **fields: Any) -> Any:
        answer = real.share(**fields)
        erased_meanwhile(sharing)
        return answer

    def status(real: Any, *names: Any) -> Any:
        answer = real.kyc_status(*names)
        erased_meanwhile(waiting)
        return answer

    claims = [claim for claim in played.claim() if claim.onboarding.id == sharing.id]
    played.advance(claims, played.with_osl(share=share))
    played.clock.advance(2 * HOUR)
    claims = [claim for claim in played.claim() if claim.onboarding.id == waiting.id]
    played.advance(claims, played.with_osl(kyc_status=status))
    erased_meanwhile(uploading)
    played.run(3 * HOUR)
    assert len(answered) == 3
    for row in (sharing, waiting, uploading):
        now = played.row(row)
        assert now.state is State.CANCELLED
        assert (now.osl_user_id, now.reason_sealed, now.last_error_sealed) == (None, None, None)
        assert profile_gone(played, row)
        assert documents_gone(played, row)
        assert row.merchant_user_id not in stored(played)
        assert played.chain_faults(row) == []


def test_a_refusal_in_flight_and_a_late_webhook_leave_no_words_of_an_erased_user(played: Bench) -> None:
    row = played.to_share()

    def share(real: Any, **fields: Any) -> Any:
        retain.erase_here(played.context, row.id, "operator")
        return real.share(**fields)

    assert played.sandbox
    played.sandbox.fault("osl.share", match=row.merchant_user_id, code="00002", msg="Anastasia is not 18")
    played.advance(played.claim(), played.with_osl(share=share))
    now = played.row(row)
    assert (now.state, now.last_error_sealed, now.reason_sealed) == (State.CANCELLED, None, None)
    secret = played.callback_secret(row)
    sent = played.webhook(row, "PASS", reason="Anastasia")
    receive.receive(played.context, secret, sent.headers, sent.body)
    callback = played.callbacks(row)[-1]
    assert (callback.body_sealed, callback.osl_user_id) == (b"", None)
    assert played.state(row) is State.CANCELLED


def test_the_authorization_at_btse_is_cancelled_first(played: Bench) -> None:
    row = played.shared()
    assert played.sandbox
    done = orchestrator(played.environ(), played.folder, "erase", row.merchant_user_id)
    assert done.stdout == f"erased {row.id}\n"
    assert done.stderr == ""
    operations = [call["operation"] for call in played.requests(row)][-2:]
    assert operations == ["btse.authorization", "btse.cancel"]
    assert played.row(row).erased_at is not None


def test_the_command_says_when_btse_did_not_answer_and_erases_all_the_same(bench: Bench) -> None:
    sent, unsent = bench.submitted(), bench.collected()
    done = orchestrator(bench.environ(), bench.folder, "erase", sent.id)
    assert done.stdout == f"erased {sent.id}\n"
    assert "NOT cancelled" in done.stderr
    assert bench.row(sent).erased_at is not None
    done = orchestrator(bench.environ(), bench.folder, "erase", unsent.id)
    assert done.stderr == "", "BTSE Pay never heard of this one"
    done = orchestrator(bench.environ(), bench.folder, "erase", unsent.id, expect=1)
    assert "erased already" in done.stderr
    done = orchestrator(bench.environ(), bench.folder, "erase", "nobody", expect=1)
    assert done.stderr.startswith("Error: ")


def test_the_command_names_what_an_earlier_signup_of_the_user_left(bench: Bench) -> None:
    earlier = bench.collected()
    operate.cancel(bench.context, earlier.id, "test")
    bench.clock.advance(SECOND)
    data = {**new_user(), "merchantUserId": earlier.merchant_user_id}
    later, _ = signup.sign_up(bench.context, signup.checked_signup(bench.context, data), "hook")
    done = orchestrator(bench.environ(), bench.folder, "erase", earlier.merchant_user_id)
    assert done.stdout == f"erased {later.id}\n"
    assert f"orchestrator erase {earlier.id}" in done.stderr
    assert bench.row(earlier).erased_at is None
    done = orchestrator(bench.environ(), bench.folder, "erase", earlier.id)
    assert (done.stdout, done.stderr) == (f"erased {earlier.id}\n", "")


# Killed in the middle -------------------------------------------------------------------------------------------

KILLED = """
import dataclasses, os, signal, sys
from orchestrator.bootstrap import build
from orchestrator.config import Config
from orchestrator.documents import Documents
from orchestrator.onboarding import collect, retain
from orchestrator.onboarding.look import find
from orchestrator.onboarding.reseal import reseal

verb, method, when, onboarding_id = sys.argv[1:]

class Deadly:
    def __init__(self, shelf):
        self.shelf = shelf
    def __getattr__(self, name):
        if name != method:
            return getattr(self.shelf, name)
        def deadly(*arguments):
            if when == "after":
                getattr(self.shelf, name)(*arguments)
            os.kill(os.getpid(), signal.SIGKILL)
        return deadly

context = build(Config.from_env()).context
numbers = iter(range(10_000, 20_000))
documents = Documents(Deadly(context.documents.shelf), context.sealer, lambda: f"{next(numbers):x}")
context = dataclasses.replace(context, documents=documents)
{
    "put": lambda: collect.put_document(context, find(context, onboarding_id), "selfie", b"%PDF-1.7 another", "test"),
    "remove": lambda: collect.remove_document(context, onboarding_id, "selfie", "test"),
    "erase": lambda: retain.erase_here(context, onboarding_id, "test"),
    "purge": lambda: retain.purge(context),
    "reseal": lambda: reseal(context, lambda _: None),
}[verb]()
"""


@pytest.mark.parametrize(
    ("verb", "method", "when"),
    [
        ("put", "write", "before"),
        ("put", "write", "after"),
        ("put", "remove", "before"),
        ("remove", "remove", "before"),
        ("erase", "note_erasure", "after"),
        ("erase", "remove", "before"),
        ("purge", "remove", "before"),
        ("reseal", "write", "after"),
        ("reseal", "remove", "before"),
    ],
)
def test_a_kill_between_file_and_row_leaves_no_row_without_its_file(
    bench: Bench, verb: str, method: str, when: str
) -> None:
    row = bench.collected()
    environ = {**os.environ, **bench.environ()}
    if verb == "purge":
        operate.cancel(bench.context, row.id, "test")
        environ["RETAIN_DOCUMENTS_DAYS"] = "0.0000001"
    if verb == "reseal":
        environ["ORCHESTRATOR_ENCRYPTION_KEYS"] = "A" * 43 + "=," + environ["ORCHESTRATOR_ENCRYPTION_KEYS"]
        bench.settings["ORCHESTRATOR_ENCRYPTION_KEYS"] = environ["ORCHESTRATOR_ENCRYPTION_KEYS"]
        bench.context = bench.open().context
    done = subprocess.run(
        [sys.executable, "-c", KILLED, verb, method, when, row.id], env=environ, cwd=CHECKOUT, check=False, timeout=60
    )
    assert done.returncode == -signal.SIGKILL
    documents = bench.context.store.documents(row.id)
    for document in documents:
        assert bench.context.documents.get(document)
    assert {(verb, method): len(documents)}.items() <= {
        ("put", "write"): 2,
        ("put", "remove"): 2,
        ("remove", "remove"): 1,
        ("erase", "note_erasure"): 2,
        ("erase", "remove"): 0,
        ("purge", "remove"): 0,
        ("reseal", "write"): 2,
        ("reseal", "remove"): 2,
    }.items()
    assert bench.chain_faults(row) == []
    if (verb, method) == ("erase", "remove"):
        with pytest.raises(Conflict, match="erased already"):
            retain.erase(bench.context, row.id, "test")
        assert bench.context.documents.of(row.id) == [], "erased once more, the files are gone at once"
    bench.clock.advance(DAY + HOUR)
    retain.purge(bench.context)
    left = {location for location, _ in bench.context.documents.shelf.locations()}
    assert left == {document.location for document in bench.context.store.documents(row.id)}, "no stray is left"
