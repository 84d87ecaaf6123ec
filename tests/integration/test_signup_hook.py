"""The merchant's signup hook over HTTP: Standard Webhooks, and exactly one onboarding however often it comes."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from standardwebhooks import Webhook

from orchestrator.machine import Event, State
from orchestrator.onboarding import collect, operate, signup
from tests.service import SIGNUP_SECRET, Bench, Web, new_user, raw_request, web_of

HOOK = "/hooks/signup"
OTHER_SECRET = "whsec_" + base64.b64encode(b"another-secret-of-24-byte").decode()


def event(data: Any, kind: str = "user.signup") -> bytes:
    return json.dumps({"type": kind, "timestamp": "2026-11-22T10:00:00Z", "data": data}).encode()


def headers_of(body: bytes, webhook_id: str = "msg_1", secret: str = SIGNUP_SECRET, at: float = 0) -> dict[str, str]:
    """As the merchant signs; `at` 0 is now."""
    seconds = int(at or time.time())
    signature = Webhook(secret).sign(webhook_id, datetime.fromtimestamp(seconds, UTC), body.decode("utf-8"))
    return {"webhook-id": webhook_id, "webhook-timestamp": str(seconds), "webhook-signature": signature}


def hook(web: Web, body: bytes, **how: Any) -> requests.Response:
    return web.anyone("POST", HOOK, headers=headers_of(body, **how), data=body)


def stored(bench: Bench) -> int:
    with bench.connected() as database:
        return int(database.execute("select count(*) from onboardings").fetchone()[0])


def is_problem(answer: requests.Response, status: int) -> bool:
    return (
        answer.status_code == status
        and answer.headers["Content-Type"] == "application/problem+json"
        and answer.json()["status"] == status
    )


def test_a_signed_signup_begins_an_onboarding(web: Web) -> None:
    user = new_user()
    answer = hook(web, event(user))
    said = answer.json()
    assert answer.status_code == 202
    assert answer.headers["Cache-Control"] == "no-store"
    assert (said["merchantUserId"], said["state"], said["round"]) == (user["merchantUserId"], "collecting", 1)
    assert said["missing"] == ["documents.idFileFront", "documents.selfie"]
    assert said["uploadUrl"].startswith("http://127.0.0.1:9/u/")
    row = web.bench.row(said["id"])
    assert web.bench.context.identity(row) == (user["email"], user["profile"])
    assert [(each.event, each.actor) for each in web.bench.transitions(row)] == [(Event.SIGNED_UP, "signup_hook")]


def test_merchant_user_id_and_email_alone_are_enough_to_begin(web: Web) -> None:
    answer = hook(web, event({"merchantUserId": "only-these", "email": " Ana@Example.com "}))
    assert answer.status_code == 202
    assert "profile.firstName" in answer.json()["missing"]


def test_the_same_webhook_id_gives_the_onboarding_that_it_first_gave(web: Web) -> None:
    user = new_user()
    first = hook(web, event(user), webhook_id="once")
    operate.cancel(web.bench.context, first.json()["id"], "test")
    for body in (event(user), event(user | {"email": "other@example.com"}), event(new_user())):
        again = hook(web, body, webhook_id="once")
        assert again.status_code == 200
        assert (again.json()["id"], again.json()["state"]) == (first.json()["id"], "cancelled")
    assert stored(web.bench) == 1


def test_a_live_user_keeps_their_onboarding_and_its_data(web: Web) -> None:
    user = new_user()
    first = hook(web, event(user), webhook_id="first").json()
    changed = user | {"email": "other@example.com", "profile": {"firstName": "Other"}}
    answer = hook(web, event(changed), webhook_id="second")
    assert (answer.status_code, answer.json()) == (200, first)
    row = web.bench.row(first["id"])
    assert web.bench.context.identity(row) == (user["email"], user["profile"])
    assert (row.version, len(web.bench.transitions(row))) == (1, 1)
    operate.cancel(web.bench.context, row.id, "test")
    assert hook(web, event(user), webhook_id="second").json()["id"] == row.id, "what it once gave"


@pytest.mark.parametrize("close", [operate.cancel, "expire"])
def test_a_new_signup_after_the_old_one_closed_makes_a_new_onboarding(web: Web, close: Any) -> None:
    user = new_user()
    first = hook(web, event(user), webhook_id="first").json()["id"]
    if close == "expire":
        web.bench.run(31 * 86_400_000)
    else:
        close(web.bench.context, first, "test")
    assert web.bench.row(first).state in (State.CANCELLED, State.EXPIRED)
    second = hook(web, event(user), webhook_id="second")
    assert second.status_code == 202
    assert second.json()["id"] != first
    assert hook(web, event(user), webhook_id="third").json()["id"] == second.json()["id"]
    assert hook(web, event(user), webhook_id="first").json()["id"] == first


def test_a_webhook_id_that_began_an_onboarding_in_another_process_meanwhile_gives_that_one(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = bench.context
    asked = signup.checked_signup(context, new_user())
    real = context.store.live_onboarding
    began: list[str] = []

    def meanwhile(merchant_user_id: str) -> Any:
        monkeypatch.setattr(context.store, "live_onboarding", real)
        began.append(signup.sign_up(context, asked, "test", "once")[0].id)
        operate.cancel(context, began[0], "test")
        began.append(signup.sign_up(context, asked, "test", "again")[0].id)
        return real(merchant_user_id)

    monkeypatch.setattr(context.store, "live_onboarding", meanwhile)
    row, new = signup.sign_up(context, asked, "test", "once")
    assert began[0] != began[1]
    assert (row.id, new) == (began[0], False)


def test_a_settled_user_still_lives(web: Web) -> None:
    row = web.bench.shared_on_paper()
    email, _ = web.bench.context.identity(row)
    answer = hook(web, event({"merchantUserId": row.merchant_user_id, "email": email}))
    assert (answer.status_code, answer.json()["id"]) == (200, row.id)


@pytest.mark.parametrize("same_id", [True, False])
def test_twenty_signups_of_one_user_at_once_give_one_onboarding(web: Web, same_id: bool) -> None:
    body = event(new_user())
    answers: list[tuple[int, str]] = []
    ready = threading.Barrier(20)

    def send(number: int) -> None:
        with requests.Session() as session:
            headers = headers_of(body, "same" if same_id else f"msg-{number}")
            ready.wait()
            answer = session.post(web.url + HOOK, headers=headers, data=body, timeout=20)
            answers.append((answer.status_code, answer.json()["id"]))

    threads = [threading.Thread(target=send, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(status for status, _ in answers) == [200] * 19 + [202]
    assert len({onboarding_id for _, onboarding_id in answers}) == 1
    assert stored(web.bench) == 1


@pytest.fixture
def rotating(tmp_path: Path) -> Iterator[Web]:
    bench = Bench(tmp_path, ORCHESTRATOR_SIGNUP_SECRETS=f"{OTHER_SECRET}, {SIGNUP_SECRET}")
    with web_of(bench) as web:
        yield web
    bench.close()


def test_while_secrets_rotate_each_of_them_signs(rotating: Web) -> None:
    for number, secret in enumerate((OTHER_SECRET, SIGNUP_SECRET)):
        assert hook(rotating, event(new_user()), webhook_id=f"msg_{number}", secret=secret).status_code == 202
    stranger = "whsec_" + base64.b64encode(b"a-stranger-with-a-secret").decode()
    assert is_problem(hook(rotating, event(new_user()), secret=stranger), 401)


def test_one_good_signature_among_several_is_enough(web: Web) -> None:
    body = event(new_user())
    headers = headers_of(body)
    headers["webhook-signature"] = f"v1,{base64.b64encode(b'x' * 32).decode()} v1a,x {headers['webhook-signature']}"
    assert web.anyone("POST", HOOK, headers=headers, data=body).status_code == 202


GARBLED: dict[str, Callable[[dict[str, str]], dict[str, str | bytes]]] = {
    "no webhook-id": lambda h: {**h, "webhook-id": ""},
    "another webhook-id": lambda h: {**h, "webhook-id": "msg_2"},
    "a webhook-id of 257 characters": lambda h: {**h, "webhook-id": "x" * 257},
    "a webhook-id with latin-1": lambda h: {**h, "webhook-id": b"msg_\xe9"},
    "a webhook-id that is not printable": lambda h: {**h, "webhook-id": b"msg\x7f1"},
    "no timestamp": lambda h: {**h, "webhook-timestamp": ""},
    "a timestamp of words": lambda h: {**h, "webhook-timestamp": "soon"},
    "a timestamp that is not a number": lambda h: {**h, "webhook-timestamp": "nan"},
    "an infinite timestamp": lambda h: {**h, "webhook-timestamp": "inf"},
    "a timestamp beyond all calendars": lambda h: {**h, "webhook-timestamp": "9" * 30},
    "a negative timestamp": lambda h: {**h, "webhook-timestamp": "-1"},
    "superscript digits": lambda h: {**h, "webhook-timestamp": b"\xb2" * 10},
    "another timestamp": lambda h: {**h, "webhook-timestamp": str(int(h["webhook-timestamp"]) + 1)},
    "no signature": lambda h: {**h, "webhook-signature": ""},
    "a signature of another version": lambda h: {**h, "webhook-signature": h["webhook-signature"].replace("v1", "v2")},
    "a signature without version": lambda h: {**h, "webhook-signature": h["webhook-signature"][3:]},
    "a signature without comma": lambda h: {**h, "webhook-signature": h["webhook-signature"].replace(",", "")},
    "a signature with two commas": lambda h: {**h, "webhook-signature": h["webhook-signature"] + ",x"},
    "a signature that is no base64": lambda h: {**h, "webhook-signature": "v1,***"},
    "a signature cut short": lambda h: {**h, "webhook-signature": h["webhook-signature"][:-5]},
    "a signature in latin-1": lambda h: {**h, "webhook-signature": b"v1,\xe9\xe9\xe9\xe9"},
}


def test_a_body_in_another_encoding_is_told_so_and_not_that_its_signature_is_wrong(web: Web) -> None:
    body = event(new_user())
    latin = body.replace(b"Anastasia", "José".encode("latin-1"))
    answer = web.anyone("POST", HOOK, headers=headers_of(body), data=latin)
    assert is_problem(answer, 401)
    assert "not in UTF-8" in answer.json()["detail"]


def test_a_garbled_header_is_401_and_nothing_begins(web: Web) -> None:
    body = event(new_user())
    for what, garble in GARBLED.items():
        answer = web.anyone("POST", HOOK, headers=garble(headers_of(body)), data=body)
        assert is_problem(answer, 401), what
        assert SIGNUP_SECRET not in answer.text
    assert stored(web.bench) == 0


def test_missing_and_doubled_headers_are_401(web: Web) -> None:
    body = event(new_user())
    whole = headers_of(body)
    for name in whole:
        lines = [f"{each}: {value}" for each, value in whole.items()]
        for wrong in ([line for line in lines if not line.startswith(name)], [*lines, f"{name}: {whole[name]}"]):
            head = "\r\n".join([f"POST {HOOK} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *wrong])
            answer = raw_request(web.url, head.encode() + b"\r\nConnection: close\r\n\r\n" + body)
            assert answer.status == 401, (name, wrong)
    assert stored(web.bench) == 0


@pytest.mark.parametrize("seconds", [-400, 400])
def test_a_stale_signature_is_401(web: Web, seconds: int) -> None:
    assert is_problem(hook(web, event(new_user()), at=time.time() + seconds), 401)


def test_a_changed_body_is_401(web: Web) -> None:
    body = event(new_user())
    assert web.anyone("POST", HOOK, headers=headers_of(body), data=body + b" ").status_code == 401


def test_a_webhook_id_of_256_characters_is_taken(web: Web) -> None:
    assert hook(web, event(new_user()), webhook_id="x" * 256).status_code == 202


@pytest.mark.parametrize("kind", ["user.deleted", "", "USER.SIGNUP"])
def test_another_type_is_204_and_nothing_begins(web: Web, kind: str) -> None:
    answer = hook(web, event(new_user(), kind))
    assert (answer.status_code, answer.content) == (204, b"")
    assert stored(web.bench) == 0


BROKEN: dict[str, bytes] = {
    "nothing": b"",
    "cut off": event({"merchantUserId": "u"})[:-2],
    "a byte order mark": b"\xef\xbb\xbf" + event({}),
    "NaN": b'{"type": "user.signup", "data": NaN}',
    "deep": b"[" * 100_000,
    "a list": b"[]",
    "null": b"null",
    "no type": b'{"data": {}}',
    "type a number": b'{"type": 1, "data": {}}',
    "a huge number": b'{"type": "user.signup", "data": ' + b"9" * 5_000 + b"}",
    "a lone surrogate": b'{"type": "user.signup", "data": {"merchantUserId": "\\ud800", "email": "a@example.com"}}',
}


def test_broken_json_is_422(web: Web) -> None:
    for number, (what, body) in enumerate(BROKEN.items()):
        assert is_problem(hook(web, body, webhook_id=f"msg_{number}"), 422), what
    assert stored(web.bench) == 0


@pytest.mark.parametrize(
    ("change", "paths"),
    [
        ({"merchantUserId": None}, ["merchantUserId"]),
        ({"merchantUserId": ""}, ["merchantUserId"]),
        ({"merchantUserId": "x" * 129}, ["merchantUserId"]),
        ({"merchantUserId": "a\nb"}, ["merchantUserId"]),
        ({"merchantUserId": 7}, ["merchantUserId"]),
        ({"email": "nobody"}, ["email"]),
        ({"email": ["a@example.com"]}, ["email"]),
        ({"email": None, "merchantUserId": {}}, ["email", "merchantUserId"]),
        ({"profile": []}, ["profile"]),
        ({"profile": None}, ["profile"]),
        ({"profile": {"ip": "999.1.1.1", "nationality": "XX"}}, ["profile.ip", "profile.nationality"]),
        ({"profile": {"email": "a@example.com"}}, ["profile.email"]),
        ({"profile": {"callbackUrl": "http://x/"}}, ["profile.callbackUrl"]),
        ({"profile": {"firstName": 7, "nonsense": 1}}, ["profile.firstName", "profile.nonsense"]),
        ({"profile": {"firstName": "x\u0000y"}}, ["profile.firstName"]),
        ({"state": "approved"}, ["state"]),
    ],
)
def test_bad_data_is_422_and_names_every_fault(web: Web, change: dict[str, Any], paths: list[str]) -> None:
    user = new_user()
    answer = hook(web, event(user | change))
    assert is_problem(answer, 422)
    errors = answer.json()["errors"]
    assert sorted(errors) == paths
    assert all(messages and all(isinstance(each, str) for each in messages) for messages in errors.values())
    for secret in (user["email"], user["profile"]["idNumber"], "999.1.1.1"):
        assert secret not in answer.text, "an error echoes nothing"
    assert stored(web.bench) == 0


@pytest.mark.parametrize("data", [None, [], "x", 7])
def test_data_that_is_no_object_is_422(web: Web, data: Any) -> None:
    assert is_problem(hook(web, event(data)), 422)


def test_a_hook_of_more_than_256_000_bytes_is_413(web: Web) -> None:
    body = event(new_user() | {"filler": "x" * 256_000})
    assert is_problem(hook(web, body), 413)


def test_a_token_is_no_signature(web: Web) -> None:
    assert web.operator("POST", HOOK, data=event(new_user())).status_code == 401


def test_what_was_acknowledged_is_there_for_another_process(web: Web) -> None:
    said = hook(web, event(new_user())).json()
    other = web.bench.open()
    row = other.context.store.onboarding(said["id"])
    assert row is not None
    assert collect.renew_link(other.context, row.id, "test").state is State.COLLECTING


def test_no_signed_garbage_is_a_fault_of_ours(web: Web) -> None:
    text = st.text(st.characters(codec="utf-8"), max_size=40)
    values = st.none() | st.booleans() | st.integers() | text | st.lists(text, max_size=2)
    profile = st.dictionaries(st.sampled_from(["ip", "dob", "idType", "firstName", "phoneNumber"]) | text, values)
    data = st.fixed_dictionaries(
        {}, optional={"merchantUserId": text, "email": text | st.emails(), "profile": profile | values, "x": values}
    )

    @settings(max_examples=60, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(data, st.integers())
    def garbage(data: Any, number: int) -> None:
        answer = hook(web, event(data), webhook_id=f"msg {number}")
        assert answer.status_code in (200, 202, 422), answer.text

    garbage()
