"""Changing keys and secrets by the steps of docs/operating.md, while everything runs."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook

from orchestrator.errors import SealBroken, Unauthenticated
from orchestrator.machine import Event, State
from orchestrator.onboarding import access, audit, collect, doctor, listing, look, operate, receive, signup
from orchestrator.onboarding.apply import Step, apply
from orchestrator.onboarding.reseal import Resealed, reseal
from orchestrator.records import Callback, Document, Verdict
from orchestrator.seal import Sealer
from tests.command_line import orchestrator
from tests.databases import tables
from tests.merchant_end import MerchantEnd
from tests.service import ENCRYPTION_KEY, HOUR, Bench, Client, new_user, pdf, served, signed, status_change

DATABASE = "ORCHESTRATOR_DATABASE_URL"
KEYS, SECRETS = "ORCHESTRATOR_ENCRYPTION_KEYS", "ORCHESTRATOR_SIGNUP_SECRETS"
NEW_KEY = base64.b64encode(b"the new key has thirty-two bytes").decode()
BOTH = {KEYS: f"{NEW_KEY},{ENCRYPTION_KEY}"}
NEW = {KEYS: NEW_KEY}


def sealed_by(key: str) -> bytes:
    """How everything begins that this key sealed."""
    sealer = Sealer([base64.b64decode(key)], lambda count: b"\0" * count)
    return sealer.seal(b"", "anywhere")[:5]


def left_under(bench: Bench, key: str) -> list[str]:
    """Every value in the database and every document that this key sealed."""
    beginning = sealed_by(key)
    found = []
    with bench.connected() as database:
        for table in tables(database):
            cursor = database.execute(f"select * from {table}")
            names = [column[0] for column in cursor.description]
            for row in cursor:
                pairs = zip(names, row, strict=True)
                found += [
                    f"{table}.{name}" for name, value in pairs if isinstance(value, bytes) and value[:5] == beginning
                ]
    files = (bench.folder / "documents").glob("onb_*/*")
    return found + [str(path) for path in files if path.read_bytes()[:5] == beginning]


@pytest.fixture
def merchant() -> Iterator[MerchantEnd]:
    made = MerchantEnd()
    yield made
    made.stop()


def full(folder: Path, merchant: MerchantEnd) -> Bench:
    """An installation under the old key in which everything that is ever sealed is there."""
    settings = {"ORCHESTRATOR_NOTIFY_URL": merchant.url, "ORCHESTRATOR_NOTIFY_SECRET": merchant.secret}
    bench = Bench(folder, **settings)
    for number in range(3):
        row = bench.shared_on_paper(user_id=f"osl-{number}")
        bench.receive(row, "REVIEW", reason="dark")
        operate.ask_for_resubmission(bench.context, row.id, "the photo is too dark", "test")
    failed = bench.submitted()
    with_url = bench.context.store.documents(failed.id)[0]
    sealed = bench.context.sealer.seal(
        b"https://osl/file", "documents", failed.id, with_url.kind, with_url.sha256, "url"
    )
    url = replace(with_url, url_sealed=sealed, url_at=bench.clock())
    apply(bench.context, failed.id, lambda _: [Step(Event.FILE_UPLOADED, "worker", document=url)])
    bench.run(HOUR)  # nobody answers: there is a last error
    stranger = signed(bench.clock(), status_change("osl-stranger", "stranger", "PASS"))
    assert receive.receive(bench.context, None, stranger.headers, stranger.body) is Verdict.ORPHAN
    assert bench.row(failed).last_error_sealed
    return bench


def with_settings(bench: Bench, **settings: str) -> Bench:
    """The same database and files after a restart with other settings."""
    same = {DATABASE: bench.environ()[DATABASE]}
    return Bench(bench.folder, bench.sandbox, clock=bench.clock, **{**bench.settings, **same, **settings})


def orphans(bench: Bench) -> list[Callback]:
    return bench.context.store.orphans_of("osl-stranger")


def check_everything_opens(bench: Bench) -> None:
    context = bench.context
    kinds = set()
    for onboarding_id, *_ in context.store.heads():
        row = bench.row(onboarding_id)
        email, profile = context.identity(row)
        assert profile["firstName"] == "Anastasia"
        asked = listing.wanted(query=email.upper())
        assert listing.page(context, asked, "", 10, by_email=True)[0][0].id == row.id, "found by its email"
        assert bench.view(row).onboarding.id == row.id
        link = context.sealer.open(row.link_sealed, "onboardings", row.id, "link").decode()
        assert look.find_by_link(context, link).id == row.id
        for field in ("reason", "last_error"):
            if getattr(row, f"{field}_sealed"):
                assert context.open_json(getattr(row, f"{field}_sealed"), "onboardings", row.id, field)
                kinds.add(field)
        for document in context.store.documents(row.id):
            assert context.documents.get(document).startswith(b"%PDF-")
            if document.url_sealed:
                place = ("documents", row.id, document.kind, document.sha256, "url")
                assert context.sealer.open(document.url_sealed, *place) == b"https://osl/file"
                kinds.add("url")
        for callback in [*context.store.callbacks(row.id), *orphans(bench)]:
            assert context.open_json(callback.body_sealed, "callbacks", callback.id, "body")["data"]
            kinds.add("orphan" if callback.onboarding_id is None else "callback")
        for delivery in context.store.deliveries(row.id):
            assert context.open_json(delivery.body_sealed, "deliveries", delivery.id, "body")["data"]["id"] == row.id
            kinds.add("delivery")
        if context.store.callback_token_of_round(row.id, 1):
            assert bench.callback_secret(row, 1)
            kinds.add("token")
    assert kinds == {"reason", "last_error", "url", "orphan", "callback", "delivery", "token"}
    assert list(audit.faults(context)) == []


def findings(bench: Bench) -> dict[str, doctor.Finding]:
    return {found.check: found for found in doctor._sealed(bench.context)}


def test_a_key_is_changed_without_a_pause_and_then_the_old_one_can_go(tmp_path: Path, merchant: MerchantEnd) -> None:
    old = full(tmp_path, merchant)
    # 1. The new key in front, one process after the other: for a while both are there.
    both = with_settings(old, **BOTH)
    old_key, new_key = both.context.sealer.key_ids()[1], both.context.sealer.key_ids()[0]
    after_the_restart = both.collected()
    before_its_restart = old.collected()
    check_everything_opens_except_the_old_process_sees_new(old, both, after_the_restart.id)
    assert findings(both)[f"key {old_key}"].level == "warning"
    assert "reseal" in findings(both)[f"key {old_key}"].text
    # 2. Everything sealed anew.
    assert left_under(both, ENCRYPTION_KEY)
    done = json.loads(orchestrator(both.environ(), tmp_path, "reseal", "--json").stdout)
    assert done["onboardings"] == 5, "all but the one that was begun under the new key"
    assert done["documents"] == 10
    assert done["bodies"] > 8
    assert left_under(both, ENCRYPTION_KEY) == []
    said = orchestrator(both.environ(), tmp_path, "reseal").stdout
    assert said == "sealed anew: 0 onboardings, 0 documents, 0 bodies\n"
    # 3. The doctor agrees, and the old key goes.
    assert findings(both)[f"key {old_key}"].level == "ok"
    new = with_settings(old, **NEW)
    check_everything_opens(new)
    assert list(findings(new)) == [f"key {new_key}"]
    assert collect.submit(new.context, before_its_restart.id, "test").state is State.UPLOADING
    for bench in (old, both, new):
        bench.close()


def check_everything_opens_except_the_old_process_sees_new(old: Bench, both: Bench, new_id: str) -> None:
    check_everything_opens(both)
    with pytest.raises(SealBroken, match=KEYS):
        old.context.identity(old.row(new_id))


class Stopped(Exception):
    """The operator pressed Ctrl-C."""


def test_a_reseal_stopped_anywhere_is_gone_on_with_and_the_doctor_says_that_it_is_not_over(
    tmp_path: Path, merchant: MerchantEnd
) -> None:
    old = full(tmp_path, merchant)
    both = with_settings(old, **BOTH)
    old_key = both.context.sealer.key_ids()[1]
    total = sum(look.counts(both.context).values())
    for stop_at in range(1, total + 1):
        seen: list[str] = []

        def stop(onboarding_id: str, seen: list[str] = seen, stop_at: int = stop_at) -> None:
            seen.append(onboarding_id)
            if len(seen) == stop_at:
                raise Stopped

        with pytest.raises(Stopped):
            reseal(both.context, stop)
        check_everything_opens(both)
        if left_under(both, ENCRYPTION_KEY):
            assert findings(both)[f"key {old_key}"].level == "warning", "the key is still needed"
    reseal(both.context, lambda _: None)
    assert reseal(both.context, lambda _: None) == Resealed(0, 0, 0)
    assert left_under(both, ENCRYPTION_KEY) == []
    new = with_settings(old, **NEW)
    check_everything_opens(new)
    for bench in (old, both, new):
        bench.close()


def test_profiles_edited_since_do_not_hide_what_is_left_under_the_old_key(
    tmp_path: Path, merchant: MerchantEnd
) -> None:
    old = full(tmp_path, merchant)
    both = with_settings(old, **BOTH)
    old_key = both.context.sealer.key_ids()[1]
    for onboarding_id, *_ in both.context.store.heads():
        email, profile = both.context.identity(both.row(onboarding_id))
        sealed = both.context.seal_json({"email": email, "profile": profile}, "onboardings", onboarding_id, "profile")
        changes = {"profile_sealed": sealed}
        apply(both.context, onboarding_id, lambda _, changes=changes: [Step(None, "test", changes=changes)])
    assert left_under(both, ENCRYPTION_KEY)
    assert findings(both)[f"key {old_key}"].level == "warning"
    for bench in (old, both):
        bench.close()


def test_a_file_that_is_gone_keeps_its_user_under_the_old_key_and_nobody_else(bench: Bench) -> None:
    first, second = bench.collected(), bench.collected()
    lost = bench.context.documents.of(first.id)[0]
    content = bench.context.documents.shelf.read(lost) or b""
    bench.context.documents.shelf.remove(lost)
    done = orchestrator({**bench.environ(), **BOTH}, bench.folder, "reseal", expect=1)
    assert f"not sealed anew: the file {lost} is gone: restore it from a backup" in done.stderr
    kept = left_under(bench, ENCRYPTION_KEY)
    assert kept.count("onboardings.profile_sealed") == 1
    assert not [value for value in kept if second.id in value]
    bench.context.documents.shelf.write(lost, content)
    assert orchestrator({**bench.environ(), **BOTH}, bench.folder, "reseal").stderr.count("not sealed") == 0
    assert left_under(bench, ENCRYPTION_KEY) == []


def test_a_document_replaced_during_a_reseal_keeps_its_new_content(bench: Bench) -> None:
    rows = [bench.collected() for _ in range(4)]
    both = with_settings(bench, **BOTH)

    def replaced(onboarding_id: str) -> None:
        for row in rows:
            collect.put_document(
                both.context, look.find(both.context, row.id), "selfie", pdf(f"new, seen at {onboarding_id}"), "test"
            )

    reseal(both.context, replaced)
    new = with_settings(bench, **NEW)
    for row in rows:
        documents = new.context.store.documents(row.id)
        assert [new.context.documents.get(document)[:12] for document in documents] == [
            b"%PDF-1.7 idF",
            b"%PDF-1.7 new",
        ]
        assert len(list((bench.folder / "documents" / row.id).iterdir())) == 2, "no old file remains"
    for other in (both, new):
        other.close()


def test_a_document_replaced_while_it_is_sealed_anew_keeps_its_new_content(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = bench.collected()
    both = with_settings(bench, **BOTH)
    real = both.context.documents.put

    def meanwhile(*what: Any) -> str:
        location = real(*what)
        monkeypatch.setattr(both.context.documents, "put", real)
        collect.put_document(both.context, look.find(both.context, row.id), what[1], pdf("new"), "test")
        return location

    monkeypatch.setattr(both.context.documents, "put", meanwhile)
    reseal(both.context, lambda _: None)
    front, selfie = both.context.store.documents(row.id)
    assert both.context.documents.get(front) == pdf("new")
    assert both.context.documents.get(selfie).startswith(b"%PDF-1.7 selfie")
    assert len(list((bench.folder / "documents" / row.id).iterdir())) == 2, "no other file remains"
    both.close()


def test_a_document_removed_before_its_turn_does_not_stop_a_reseal(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [bench.collected() for _ in range(2)]
    both = with_settings(bench, **BOTH)
    real = both.context.store.documents

    def listed(onboarding_id: str) -> list[Document]:
        found = real(onboarding_id)
        monkeypatch.setattr(both.context.store, "documents", real)
        collect.remove_document(both.context, onboarding_id, "selfie", "test")
        return found

    monkeypatch.setattr(both.context.store, "documents", listed)
    done = reseal(both.context, lambda _: None)
    assert (done.onboardings, done.documents) == (2, 3)
    new = with_settings(bench, **NEW)
    kept = [document for row in rows for document in new.context.store.documents(row.id)]
    assert all(new.context.documents.get(document) for document in kept)
    (bench.folder / "documents" / kept[0].location).unlink()
    assert len(reseal(both.context, lambda _: None).gone) == 1
    for other in (both, new):
        other.close()


def test_a_key_that_is_missing_is_an_error_that_names_it(bench: Bench) -> None:
    bench.collected()
    stranger = with_settings(bench, **NEW)
    old_key = bench.context.sealer.key_ids()[0]
    found = findings(stranger)[f"key {old_key}"]
    assert (found.level, "add it back" in found.text) == ("error", True)
    said = orchestrator(stranger.environ(), bench.folder, "reseal", expect=1).stderr
    assert old_key in said
    assert KEYS in said
    stranger.close()


# Secrets --------------------------------------------------------------------------------------------------------

NEW_SECRET = "whsec_" + base64.b64encode(b"another-secret-of-24-byte").decode()


def hook(secret: str, webhook_id: str = "msg-1") -> tuple[dict[str, str], bytes]:
    body = json.dumps({"type": "user.signup", "timestamp": "2026-11-22T10:00:00Z", "data": new_user()})
    now = datetime.now(UTC)
    headers = {"webhook-id": webhook_id, "webhook-timestamp": str(int(now.timestamp()))}
    return {**headers, "webhook-signature": Webhook(secret).sign(webhook_id, now, body)}, body.encode()


def test_a_signup_secret_is_changed_without_losing_a_signup(bench: Bench) -> None:
    old_secret = bench.environ()[SECRETS]
    both = with_settings(bench, **{SECRETS: f"{old_secret},{NEW_SECRET}"})
    new = with_settings(bench, **{SECRETS: NEW_SECRET})
    accepted = {
        name: [secret in accepting for secret in (old_secret, NEW_SECRET)]
        for name, accepting in {"old": (old_secret,), "both": (old_secret, NEW_SECRET), "new": (NEW_SECRET,)}.items()
    }
    for name, service in {"old": bench, "both": both, "new": new}.items():
        for secret, expected in zip((old_secret, NEW_SECRET), accepted[name], strict=True):
            headers, body = hook(secret)
            if expected:
                assert signup.verify_hook(service.context, headers, body) == "msg-1"
            else:
                with pytest.raises(Unauthenticated):
                    signup.verify_hook(service.context, headers, body)
    for other in (both, new):
        other.close()


def test_a_revoked_token_and_its_sessions_end_at_once_in_every_process(bench: Bench) -> None:
    from orchestrator.web.app import create_app

    secret = access.create_token(bench.context, "dashboard", "operator")
    kept = access.create_token(bench.context, "kept", "operator")
    session, _ = access.sign_in(bench.context, secret, "192.0.2.1")
    with served(create_app(bench.open())) as url:
        client, other = Client(url, secret), Client(url, kept)
        assert client("GET", "/api/v1/onboardings").status_code == 200
        said = orchestrator(bench.environ(), bench.folder, "token", "revoke", "dashboard").stdout
        assert said == "revoked dashboard\n"
        assert client("GET", "/api/v1/onboardings").status_code == 401
        assert other("GET", "/api/v1/onboardings").status_code == 200
        client.close()
        other.close()
    with pytest.raises(Unauthenticated):
        access.session(bench.context, session)
    again = orchestrator(bench.environ(), bench.folder, "token", "revoke", "dashboard", expect=1).stderr
    assert "no working token" in again
    taken = ("token", "create", "--role", "viewer", "--name", "dashboard")
    assert "choose another name" in orchestrator(bench.environ(), bench.folder, *taken, expect=1).stderr
    listed = orchestrator(bench.environ(), bench.folder, "token", "list").stdout
    assert "revoked" in listed
    assert secret not in listed
