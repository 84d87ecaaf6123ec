"""OSL Pay's webhooks over real HTTP with real signatures: every rule in its order, and whatever garbage comes."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.errors import Unauthenticated
from orchestrator.machine import Event, State
from orchestrator.onboarding import operate, receive
from orchestrator.onboarding.apply import Step, apply
from orchestrator.records import Callback, Onboarding, Verdict
from orchestrator.signatures import osl_sign
from orchestrator.store import Change, Store
from orchestrator.store.store import ORPHANS_KEPT
from orchestrator.turns import in_turns
from orchestrator.web.app import create_app
from tests.sandbox_process import APP_ID, rsa_key
from tests.service import DAY, MINUTE, Bench, RawAnswer, Signed, Web, raw_request, signed, status_change

WIDE = "/callbacks/oslpay"
DONE = {"code": "00000", "msg": "success"}
TOLERANCE = 300_000
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


def stored(bench: Bench) -> int:
    """How many callbacks are in the database, whoever they are about."""
    with bench.connected() as database:
        return int(database.execute("select count(*) from callbacks").fetchone()[0])


def path_of(bench: Bench, row: Onboarding, number: int | None = None) -> str:
    return f"{WIDE}/{bench.callback_secret(row, number)}"


def post(web: Web, path: str, sent: Signed) -> requests.Response:
    """Send it; the next one comes a millisecond later."""
    answer = web.anyone("POST", path, headers=sent.headers, data=sent.body)
    web.bench.clock.advance(1)
    return answer


def deliver(web: Web, row: Onboarding, status: str, **how: Any) -> requests.Response:
    """A webhook about `row`, at the callbackUrl of its round."""
    return post(web, path_of(web.bench, row), web.bench.webhook(row, status, **how))


def believe(bench: Bench, row: Onboarding, *events: Event) -> Onboarding:
    """What the status query would say, said here."""
    return apply(bench.context, row.id, lambda row: [Step(event, "worker") for event in events])


def second_round(web: Web) -> Onboarding:
    """A user whose first round ended with a REJECT that was confirmed."""
    row = web.bench.shared_on_paper()
    assert deliver(web, row, "REJECT").status_code == 200
    return believe(web.bench, row, Event.CONFIRMED_REJECT)


def due(web: Web, row: Onboarding) -> bool:
    """Whether the worker may take it now."""
    due_at = web.bench.row(row).due_at
    return due_at is not None and due_at <= web.bench.clock()


def is_problem(answer: requests.Response, status: int) -> bool:
    body = answer.json()
    return (
        answer.status_code == status
        and answer.headers["Content-Type"] == "application/problem+json"
        and answer.headers["Cache-Control"] == "no-store"
        and body["status"] == status
        and {"type", "title", "detail"} <= set(body)
    )


# What stands before anything is stored -----------------------------------------------------------------------------

Lines = list[tuple[str, bytes]]


def _lines(sent: Signed) -> Lines:
    return [(name, value.encode()) for name, value in sent.headers.items()]


def _without(name: str) -> Callable[[Lines], Lines]:
    return lambda lines: [line for line in lines if line[0] != name]


def _twice(name: str) -> Callable[[Lines], Lines]:
    return lambda lines: [*lines, *[line for line in lines if line[0] == name]]


def _with(name: str, change: Callable[[bytes], bytes]) -> Callable[[Lines], Lines]:
    return lambda lines: [(each, change(value) if each == name else value) for each, value in lines]


def _timestamped(make: Callable[[str], str]) -> Callable[[Lines], Lines]:
    """Another spelling of the timestamp, with a signature over exactly that spelling."""

    def change(lines: Lines) -> Lines:
        text = make(dict(lines)["timestamp"].decode())
        signature = osl_sign(rsa_key("osl"), APP_ID, text).encode()
        return [("appId", APP_ID.encode()), ("timestamp", text.encode()), ("signature", signature)]

    return change


def _other_app(lines: Lines) -> Lines:
    text = dict(lines)["timestamp"].decode()
    return _lines(signed(text, {}, "another-app"))


def _resized(change: Callable[[bytes], bytes]) -> Callable[[Lines], Lines]:
    return _with("signature", lambda value: base64.b64encode(change(base64.b64decode(value))))


def _spare_bits(value: bytes) -> bytes:
    """The same bytes in another spelling: base64 leaves bits unused before its padding."""
    text = value.decode().rstrip("=")
    twin = text[:-1] + ALPHABET[ALPHABET.index(text[-1]) ^ 1]
    padded = twin + "=" * (-len(twin) % 4)
    assert base64.b64decode(padded) == base64.b64decode(value)
    return padded.encode()


GARBLED: dict[str, Callable[[Lines], Lines]] = {
    "no appId": _without("appId"),
    "no timestamp": _without("timestamp"),
    "no signature": _without("signature"),
    "appId twice": _twice("appId"),
    "timestamp twice": _twice("timestamp"),
    "signature twice": _twice("signature"),
    "another appId, rightly signed": _other_app,
    "appId in another case": _with("appId", lambda value: value.upper()),
    "appId with latin-1": _with("appId", lambda value: value + b"\xe9"),
    "twelve digits": _timestamped(lambda text: text[:12]),
    "fourteen digits": _timestamped(lambda text: text + "0"),
    "a leading zero": _timestamped(lambda text: "0" + text),
    "a plus sign": _timestamped(lambda text: "+" + text[:12]),
    "superscript digits": _with("timestamp", lambda value: value[:-1] + b"\xb2"),
    "full-width digits": _timestamped(lambda text: text[:-1] + "３"),
    "arabic digits": _timestamped(lambda text: text.translate({ord("0") + n: 0x660 + n for n in range(10)})),
    "an exponent": _timestamped(lambda text: text[:11] + "e1"),
    "an underscore": _timestamped(lambda text: text[:6] + "_" + text[7:]),
    "timestamp not the signed one": _with("timestamp", lambda value: b"%d" % (int(value) + 1)),
    "signature in other base64": _with("signature", _spare_bits),
    "signature without padding": _with("signature", lambda value: value.rstrip(b"=")),
    "signature with a space": _with("signature", lambda value: value[:10] + b" " + value[10:]),
    "signature with a character of no alphabet": _with("signature", lambda value: value[:10] + b"!" + value[10:]),
    "signature a byte short": _resized(lambda raw: raw[1:]),
    "signature with a leading zero byte": _resized(lambda raw: b"\0" + raw),
    "signature with a byte more": _resized(lambda raw: raw + b"\0"),
    "signature of zeros": _resized(lambda raw: b"\0" * len(raw)),
    "signature of ones": _resized(lambda raw: b"\xff" * len(raw)),
    "signature empty": _with("signature", lambda value: b""),
    "signature in latin-1": _with("signature", lambda value: b"\xe9" * len(value)),
    "signature by another key": _with(
        "signature", lambda value: osl_sign(rsa_key("stranger"), APP_ID, "1700000000000").encode()
    ),
}


def post_lines(url: str, path: str, lines: Lines, body: bytes) -> RawAnswer:
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n".encode()
    head += b"".join(name.encode() + b": " + value + b"\r\n" for name, value in lines)
    return raw_request(url, head + b"\r\n" + body)


def test_garbled_headers_are_401_and_leave_nothing(web: Web) -> None:
    row = web.bench.shared_on_paper()
    sent = web.bench.webhook(row, "PASS")
    paths = (path_of(web.bench, row), WIDE, f"{WIDE}/no-such-token")
    for what, garble in GARBLED.items():
        for path in paths:
            answer = post_lines(web.url, path, garble(_lines(sent)), sent.body)
            assert answer.status == 401, f"{what} at {path}"
            assert answer.headers["content-type"] == "application/problem+json", what
            assert answer.headers["cache-control"] == "no-store", what
    assert stored(web.bench) == 0
    assert web.bench.row(row) == row
    assert post(web, paths[0], sent).status_code == 200, "the same headers ungarbled are right"


def test_header_names_come_in_any_case(web: Web) -> None:
    row = web.bench.shared_on_paper()
    sent = web.bench.webhook(row, "PROCESS")
    lines = [(name.upper(), value) for name, value in _lines(sent)]
    assert post_lines(web.url, path_of(web.bench, row), lines, sent.body).status == 200


def test_64_000_bytes_are_taken_and_one_more_is_413_before_anything_else(web: Web) -> None:
    row = web.bench.shared_on_paper()
    body = status_change("9001", row.merchant_user_id, "PROCESS") | {"filler": ""}
    body["filler"] = "x" * (64_000 - len(json.dumps(body)))
    assert post(web, path_of(web.bench, row), signed(web.bench.clock(), body)).status_code == 200
    body["filler"] += "x"
    sent = signed(web.bench.clock() + 1, body)
    for headers in (sent.headers, {}):
        answer = web.anyone("POST", path_of(web.bench, row), headers=headers, data=sent.body)
        assert is_problem(answer, 413)
    assert stored(web.bench) == 1


def test_an_endless_body_is_413(web: Web) -> None:
    def chunks() -> Any:
        yield from (b"x" * 8_000 for _ in range(9))

    sent = web.bench.webhook(web.bench.shared_on_paper(), "PASS")
    assert web.anyone("POST", WIDE, headers=sent.headers, data=chunks()).status_code == 413


def test_an_unknown_token_is_404_after_the_signature_and_before_the_body(web: Web) -> None:
    for body in (b"not json", {"type": "kyc_status_change"}, status_change("1", None, "PASS")):
        sent = signed(web.bench.clock(), body)
        for token in ("no-such-token", "x" * 5_000, "%00", "%ff%fe", "%F0%9F%98%80"):
            assert is_problem(post(web, f"{WIDE}/{token}", sent), 404), token
            assert web.anyone("POST", f"{WIDE}/{token}", data=sent.body).status_code == 401
    assert stored(web.bench) == 0


def _data(**members: Any) -> bytes:
    return json.dumps({"type": "kyc_status_change", "data": {"userId": "9001", "kycStatus": "PASS"} | members}).encode()


MALFORMED: dict[str, bytes] = {
    "nothing": b"",
    "a byte order mark": b"\xef\xbb\xbf" + _data(),
    "utf-16": _data().decode().encode("utf-16"),
    "no utf-8": b'{"type": "kyc_status_change", "data": {"userId": "\xff", "kycStatus": "PASS"}}',
    "cut off": _data()[:-1],
    "something behind": _data() + b"{}",
    "a form": b"type=kyc_status_change",
    "nesting beyond all stacks": b"[" * 32_000 + b"]" * 32_000,
    "nesting without an end": b'{"a":' * 12_800,
    "nested data": b'{"type": "kyc_status_change", "data": ' + b"[" * 31_000 + b"]" * 31_000 + b"}",
    "NaN": _data().replace(b'"9001"', b"NaN"),
    "NaN elsewhere": _data(extra=1).replace(b": 1}", b": NaN}"),
    "Infinity elsewhere": _data(extra=1).replace(b": 1}", b": -Infinity}"),
    "a huge number": _data(extra=1).replace(b": 1}", b": " + b"9" * 5_000 + b"}"),
    "a list": b"[]",
    "a text": b'"kyc_status_change"',
    "null": b"null",
    "a number": b"17",
    "an empty object": b"{}",
    "no data": b'{"type": "kyc_status_change"}',
    "data as a list": b'{"type": "kyc_status_change", "data": []}',
    "data as a text": b'{"type": "kyc_status_change", "data": "x"}',
    "no type": b'{"data": {"userId": "9001", "kycStatus": "PASS"}}',
    "type null": b'{"type": null, "data": {}}',
    "type a list": b'{"type": [], "data": {}}',
    "type empty": b'{"type": "", "data": {}}',
    "type very long": json.dumps({"type": "x" * 65, "data": {}}).encode(),
    "no userId": b'{"type": "kyc_status_change", "data": {"kycStatus": "PASS"}}',
    "no kycStatus": b'{"type": "kyc_status_change", "data": {"userId": "9001"}}',
    "userId a number": _data(userId=9001),
    "userId null": _data(userId=None),
    "userId empty": _data(userId=""),
    "userId very long": _data(userId="9" * 129),
    "userId a lone surrogate": _data(userId="\ud800"),
    "userId with a null character": _data(userId="9001\x00"),
    "userId with a line end": _data(userId="9001\n"),
    "kycStatus null": _data(kycStatus=None),
    "kycStatus a list": _data(kycStatus=["PASS"]),
    "kycStatus true": _data(kycStatus=True),
    "kycStatus very long": _data(kycStatus="P" * 65),
    "kycStatus a lone surrogate": _data(kycStatus="\udfff"),
    "merchantUserId a number": _data(merchantUserId=7),
    "merchantUserId an object": _data(merchantUserId={}),
}


def test_a_signed_body_of_another_shape_is_400_and_leaves_nothing(web: Web) -> None:
    row = web.bench.shared_on_paper()
    for what, body in MALFORMED.items():
        for path in (path_of(web.bench, row), WIDE):
            answer = post(web, path, signed(web.bench.clock(), body))
            assert is_problem(answer, 400), f"{what} at {path}"
    assert stored(web.bench) == 0
    assert web.bench.row(row) == row


def test_odd_values_where_nobody_looks_do_no_harm(web: Web) -> None:
    row = web.bench.shared_on_paper()
    odd = {
        "kycShareFailedReason": {"not": ["a", "text"]},
        "surrogate": "\ud800",
        "number": 10**4_000,
        "float": 1e308,
        "deep": json.loads("[" * 200 + "]" * 200),
        "": "",
    }
    body = status_change("9001", row.merchant_user_id, "REVIEW")
    body["data"] |= odd
    sent = signed(web.bench.clock(), body)
    assert post(web, path_of(web.bench, row), sent).json() == DONE
    assert post(web, path_of(web.bench, row), sent).json() == DONE
    assert web.bench.state(row) is State.IN_REVIEW
    assert [item.seen for item in web.bench.callbacks(row)] == [2]


# Seen before -------------------------------------------------------------------------------------------------------


def test_a_repeated_webhook_is_answered_and_counted_on_the_first_row(web: Web) -> None:
    row = web.bench.shared_on_paper()
    sent = web.bench.webhook(row, "PASS")
    for _ in range(5):
        assert post(web, path_of(web.bench, row), sent).json() == DONE
    [callback] = web.bench.callbacks(row)
    assert (callback.verdict, callback.seen) == (Verdict.APPLIED, 5)
    assert web.bench.events(row).count(Event.CALLBACK_PASS) == 1


def test_equal_json_in_another_spelling_is_a_duplicate(web: Web) -> None:
    row = web.bench.shared_on_paper()
    body = status_change("9001", row.merchant_user_id, "PASS", "née")
    now = web.bench.clock()
    twins = [
        json.dumps(body).encode(),
        json.dumps(body, ensure_ascii=False).encode(),
        json.dumps(body, indent=3).encode() + b"\n",
        json.dumps(dict(reversed(body.items()))).encode(),
        json.dumps(body).replace("PASS", "\\u0050ASS").encode(),
    ]
    for twin in twins:
        assert post(web, path_of(web.bench, row), signed(now, twin)).json() == DONE
    [callback] = web.bench.callbacks(row)
    assert (callback.verdict, callback.seen) == (Verdict.APPLIED, len(twins))


def test_twenty_at_once_of_the_same_webhook_are_one_row(web: Web) -> None:
    row = web.bench.shared_on_paper()
    sent, path = web.bench.webhook(row, "PASS"), path_of(web.bench, row)
    statuses: list[int] = []

    def send() -> None:
        with requests.Session() as session:
            statuses.append(session.post(web.url + path, headers=sent.headers, data=sent.body, timeout=20).status_code)

    threads = [threading.Thread(target=send) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [callback] = web.bench.callbacks(row)
    assert statuses == [200] * 20
    assert (callback.verdict, callback.seen) == (Verdict.APPLIED, 20)
    assert web.bench.events(row).count(Event.CALLBACK_PASS) == 1


def test_two_users_may_share_a_millisecond(web: Web) -> None:
    rows = [web.bench.shared_on_paper(user_id) for user_id in ("9001", "9002")]
    for row in rows:
        assert deliver(web, row, "REVIEW", timestamp=web.bench.clock()).status_code == 200
    assert [web.bench.verdicts(row) for row in rows] == [[Verdict.APPLIED], [Verdict.APPLIED]]


def test_the_same_identity_over_another_body_is_forged(web: Web) -> None:
    row = web.bench.shared_on_paper()
    now = web.bench.clock()
    assert deliver(web, row, "PROCESS", timestamp=now).status_code == 200
    assert is_problem(deliver(web, row, "PASS", timestamp=now), 401)
    assert web.bench.verdicts(row) == [Verdict.APPLIED, Verdict.FORGED]
    after = web.bench.row(row)
    assert after.state is State.AWAITING_CALLBACK
    assert due(web, row), "OSL Pay is asked at once"


@pytest.mark.parametrize(
    ("user_id", "merchant_user_id"),
    [("9002", None), ("9002", "its own"), ("9001", "someone-else"), ("9001", "\ud800"), ("9001", " ")],
)
def test_a_webhook_that_names_another_user_is_forged(web: Web, user_id: str, merchant_user_id: str | None) -> None:
    row = web.bench.shared_on_paper("9001")
    named = row.merchant_user_id if merchant_user_id == "its own" else merchant_user_id
    sent = signed(web.bench.clock(), status_change(user_id, named, "PASS"))
    assert is_problem(post(web, path_of(web.bench, row), sent), 401)
    assert web.bench.verdicts(row) == [Verdict.FORGED]
    assert web.bench.state(row) is State.AWAITING_CALLBACK


def test_a_forged_webhook_takes_no_identity_from_the_genuine_one(web: Web) -> None:
    row = web.bench.shared_on_paper("9001")
    now = web.bench.clock()
    forged = signed(now, status_change("9002", None, "REJECT"))
    assert post(web, path_of(web.bench, row), forged).status_code == 401
    assert deliver(web, row, "PASS", timestamp=now).status_code == 200
    assert web.bench.verdicts(row) == [Verdict.FORGED, Verdict.APPLIED]
    assert post(web, path_of(web.bench, row), forged).status_code == 401, "still forged when it comes again"
    assert [callback.seen for callback in web.bench.callbacks(row)] == [2, 1]


def test_ten_forged_rows_are_kept_and_then_counted(web: Web) -> None:
    row = web.bench.shared_on_paper()
    now = web.bench.clock()
    for number in range(13):
        sent = signed(now + number, status_change(f"other-{number}", None, "PASS"))
        assert post(web, path_of(web.bench, row), sent).status_code == 401
    callbacks = web.bench.callbacks(row)
    assert [callback.verdict for callback in callbacks] == [Verdict.FORGED] * 10
    assert sum(callback.seen for callback in callbacks) == 13
    assert deliver(web, row, "PASS").status_code == 200, "the genuine one still gets in"
    assert web.bench.state(row) is State.CONFIRMING


def test_a_forged_one_that_is_only_counted_counts_once_though_the_row_changes_meanwhile(web: Web) -> None:
    bench, row = web.bench, web.bench.shared_on_paper()
    now = bench.clock()
    for number in range(receive.FORGED_KEPT):
        post(web, path_of(bench, row), signed(now + number, status_change(f"other-{number}", None, "PASS")))

    class Overtaken(Store):
        """Another writer is always faster the first time."""

        tries = 0

        def commit(self, change: Change) -> bool:
            self.tries += 1
            if self.tries == 1:
                believe(bench, row, Event.ANSWERED_OPEN)
            return super().commit(change)

    store = Overtaken(bench.service.driver)
    sent = signed(bench.clock(), status_change("yet-another", None, "PASS"))
    with pytest.raises(Unauthenticated):
        receive.receive(replace(bench.context, store=store), bench.callback_secret(row), sent.headers, sent.body)
    assert store.tries == 2
    assert sum(callback.seen for callback in bench.callbacks(row)) == receive.FORGED_KEPT + 1
    assert bench.context.store.tallies()["verdicts", "forged"] == receive.FORGED_KEPT + 1


# Ignored, stale, outdated, superseded --------------------------------------------------------------------------------


def test_another_type_and_an_unknown_status_are_ignored(web: Web) -> None:
    row = web.bench.shared_on_paper()
    now = web.bench.clock()
    other_type = {"type": "card_status_change", "data": {"userId": 17, "anything": None}}
    unknown = status_change("9001", None, "ON_HOLD")
    for number, body in enumerate((other_type, unknown)):
        assert post(web, path_of(web.bench, row), signed(now + number, body)).json() == DONE
    assert web.bench.verdicts(row) == [Verdict.IGNORED] * 2
    after = web.bench.row(row)
    assert (after.state, after.due_at, after.kyc_status) == (row.state, row.due_at, None)


@pytest.mark.parametrize("word", ["ana@example.com", "Ana Lee", "né", "K1234567 PASS", "' or 1=1"])
def test_what_is_more_than_a_word_is_stored_in_the_sealed_body_alone(web: Web, word: str) -> None:
    row = web.bench.shared_on_paper()
    now = web.bench.clock()
    by_status = status_change("9001", row.merchant_user_id, word)
    for number, body in enumerate((by_status, {"type": word, "data": {}})):
        assert post(web, path_of(web.bench, row), signed(now + number, body)).json() == DONE
    status, kind = web.bench.callbacks(row)
    assert (status.kyc_status, kind.type) == ("unreadable", "unreadable")
    opened = web.bench.context.open_json(status.body_sealed, "callbacks", status.id, "body")
    assert opened["data"]["kycStatus"] == word


def test_the_tolerance_holds_in_both_directions_to_the_millisecond(web: Web) -> None:
    for offset, verdict in (
        (-TOLERANCE, Verdict.APPLIED),
        (TOLERANCE, Verdict.APPLIED),
        (-TOLERANCE - 1, Verdict.STALE),
        (TOLERANCE + 1, Verdict.STALE),
    ):
        row = web.bench.shared_on_paper()
        assert deliver(web, row, "PASS", timestamp=web.bench.clock() + offset).json() == DONE
        assert web.bench.verdicts(row) == [verdict], offset
        after = web.bench.row(row)
        assert after.state is (State.CONFIRMING if verdict is Verdict.APPLIED else State.AWAITING_CALLBACK)
        assert due(web, row), "either way OSL Pay is asked at once"


def test_a_timestamp_at_the_end_of_all_time_is_stale(web: Web) -> None:
    row = web.bench.shared_on_paper()
    for timestamp in (0, 9_999_999_999_999):
        sent = signed(f"{timestamp:013d}", status_change("9001", None, "PASS"))
        assert post(web, path_of(web.bench, row), sent).json() == DONE
    assert web.bench.verdicts(row) == [Verdict.STALE] * 2


def test_the_callback_url_of_an_earlier_round_is_outdated_and_makes_the_worker_ask(web: Web) -> None:
    row = second_round(web)
    assert (row.state, row.round) == (State.COLLECTING, 2)
    web.bench.clock.advance(MINUTE)
    answer = post(web, path_of(web.bench, row, 1), web.bench.webhook(row, "PASS"))
    assert answer.json() == DONE
    assert web.bench.verdicts(row)[-1] is Verdict.OUTDATED
    after = web.bench.row(row)
    assert (after.state, after.ask_at, after.lane) == (State.COLLECTING, web.bench.clock() - 1, "poll")


def test_older_than_the_last_one_believed_is_superseded(web: Web) -> None:
    row = web.bench.shared_on_paper()
    now = web.bench.clock()
    deliver(web, row, "REVIEW", timestamp=now)
    assert deliver(web, row, "PASS", timestamp=now - 1).json() == DONE
    assert web.bench.verdicts(row) == [Verdict.APPLIED, Verdict.SUPERSEDED]
    assert web.bench.state(row) is State.IN_REVIEW


@pytest.mark.parametrize("newer", ["PROCESS", "REVIEW"])
@pytest.mark.parametrize("older", ["PASS", "REJECT", "FINAL_REJECT"])
def test_a_newer_webhook_that_was_made_up_keeps_no_claim_from_being_asked_about(
    web: Web, older: str, newer: str
) -> None:
    row = web.bench.shared_on_paper()
    genuine = web.bench.webhook(row, older)
    web.bench.clock.advance(1)
    deliver(web, row, newer)
    assert not due(web, row)
    assert post(web, path_of(web.bench, row), genuine).json() == DONE
    assert web.bench.verdicts(row) == [Verdict.APPLIED, Verdict.SUPERSEDED]
    assert due(web, row)


def test_what_claims_nothing_and_is_superseded_is_not_asked_about(web: Web) -> None:
    row = web.bench.shared_on_paper()
    now = web.bench.clock()
    deliver(web, row, "REVIEW", timestamp=now)
    deliver(web, row, "PROCESS", timestamp=now - 1)
    assert web.bench.verdicts(row) == [Verdict.APPLIED, Verdict.SUPERSEDED]
    assert not due(web, row)


def test_a_newer_claim_replaces_the_older_one(web: Web) -> None:
    row = web.bench.shared_on_paper()
    now = web.bench.clock()
    deliver(web, row, "PASS", timestamp=now)
    deliver(web, row, "FINAL_REJECT", timestamp=now + 1)
    first, second = web.bench.callbacks(row)
    assert (first.verdict, second.verdict) == (Verdict.SUPERSEDED, Verdict.APPLIED)
    after = web.bench.row(row)
    assert (after.claim, after.claim_callback) == (Event.CALLBACK_FINAL_REJECT, second.id)
    deliver(web, row, "REJECT", timestamp=now)
    assert web.bench.callbacks(row)[0].seen == 1, "forged: the identity was taken by another body"
    assert web.bench.verdicts(row)[2] is Verdict.FORGED


def test_superseded_counts_only_those_believed(web: Web) -> None:
    row = web.bench.shared_on_paper()
    now = web.bench.clock()
    deliver(web, row, "PASS", timestamp=now)
    believe(web.bench, row, Event.CONTRADICTED)
    [claim] = web.bench.callbacks(row)
    contradicted = Step(None, "worker", callbacks=[replace(claim, verdict=Verdict.CONTRADICTED)])
    apply(web.bench.context, row.id, lambda row: [contradicted])
    assert deliver(web, row, "REVIEW", timestamp=now - 1).json() == DONE
    assert web.bench.verdicts(row) == [Verdict.CONTRADICTED, Verdict.APPLIED]


# By state ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["PROCESS", "REVIEW", "PASS", "REJECT", "FINAL_REJECT"])
def test_while_the_share_is_under_way_webhooks_are_kept(web: Web, status: str) -> None:
    row = web.bench.shared_on_paper(state=State.SHARING)
    assert deliver(web, row, status).json() == DONE
    assert web.bench.verdicts(row) == [Verdict.EARLY]
    assert web.bench.state(row) is State.SHARING


@pytest.mark.parametrize(
    ("status", "state", "kyc_status"),
    [
        ("PROCESS", State.AWAITING_CALLBACK, "PROCESS"),
        ("REVIEW", State.IN_REVIEW, "REVIEW"),
        ("PASS", State.CONFIRMING, None),
        ("REJECT", State.CONFIRMING, None),
        ("FINAL_REJECT", State.CONFIRMING, None),
    ],
)
def test_what_is_believed_is_applied(web: Web, status: str, state: State, kyc_status: str | None) -> None:
    row = web.bench.shared_on_paper()
    assert deliver(web, row, status).json() == DONE
    after = web.bench.row(row)
    assert web.bench.verdicts(row) == [Verdict.APPLIED]
    assert (after.state, after.kyc_status) == (state, kyc_status)


def test_process_is_ignored_while_a_claim_is_confirmed(web: Web) -> None:
    row = web.bench.shared_on_paper()
    now = web.bench.clock()
    deliver(web, row, "PASS", timestamp=now)
    for number, status in enumerate(("PROCESS", "REVIEW"), 1):
        assert deliver(web, row, status, timestamp=now + number).json() == DONE
    assert web.bench.verdicts(row) == [Verdict.APPLIED, Verdict.IGNORED, Verdict.IGNORED]
    assert web.bench.row(row).claim is Event.CALLBACK_PASS


def test_a_settled_outcome_stays_while_a_contrary_claim_is_looked_at(web: Web) -> None:
    row = web.bench.shared_on_paper()
    now = web.bench.clock()
    deliver(web, row, "PASS", timestamp=now)
    believe(web.bench, row, Event.CONFIRMED_PASS)
    assert deliver(web, row, "PASS", timestamp=now + 1).json() == DONE
    assert web.bench.verdicts(row)[-1] is Verdict.IGNORED
    assert deliver(web, row, "FINAL_REJECT", timestamp=now + 2).json() == DONE
    after = web.bench.row(row)
    assert web.bench.verdicts(row)[-1] is Verdict.APPLIED
    assert (after.state, after.lane) == (State.APPROVED, "confirm")
    assert after.doubted_at == after.due_at == web.bench.clock() - 1, "asked at once"


@pytest.mark.parametrize("status", ["PROCESS", "PASS", "FINAL_REJECT"])
def test_a_cancelled_onboarding_ignores_webhooks_but_keeps_them(web: Web, status: str) -> None:
    row = web.bench.shared_on_paper()
    operate.cancel(web.bench.context, row.id, "test")
    assert deliver(web, row, status).json() == DONE
    assert web.bench.verdicts(row) == [Verdict.IGNORED]
    after = web.bench.row(row)
    assert (after.state, after.due_at) == (State.CANCELLED, None)


# The merchant-wide URL ---------------------------------------------------------------------------------------------


def test_the_merchant_wide_url_matches_by_user_id_and_else_by_merchant_user_id(web: Web) -> None:
    known, unknown = web.bench.shared_on_paper("9101"), web.bench.shared_on_paper(None)
    now = web.bench.clock()
    for row, body in (
        (known, status_change("9101", None, "PASS")),
        (unknown, status_change("9102", unknown.merchant_user_id, "PASS")),
    ):
        sent = signed(now, body)
        assert post(web, WIDE, sent).json() == DONE
        assert post(web, WIDE, sent).json() == DONE
        [callback] = web.bench.callbacks(row)
        assert (callback.verdict, callback.seen) == (Verdict.UNADDRESSED, 2)
        after = web.bench.row(row)
        assert (after.state, due(web, row)) == (State.AWAITING_CALLBACK, True), "not believed, but asked about"


def test_the_merchant_wide_url_finds_no_closed_onboarding(web: Web) -> None:
    row = web.bench.shared_on_paper("9103")
    operate.cancel(web.bench.context, row.id, "test")
    assert post(web, WIDE, signed(web.bench.clock(), status_change("9103", row.merchant_user_id, "PASS"))).ok
    assert web.bench.callbacks(row) == []
    assert [orphan.verdict for orphan in web.bench.context.store.orphans_of("9103")] == [Verdict.ORPHAN]


def test_an_orphan_is_kept_once_and_forged_over_another_body(web: Web) -> None:
    now = web.bench.clock()
    sent = signed(now, status_change("9104", "nobody-we-know", "PASS"))
    for _ in range(3):
        assert post(web, WIDE, sent).json() == DONE
    assert is_problem(post(web, WIDE, signed(now, status_change("9104", "nobody-we-know", "REJECT"))), 401)
    assert post(web, WIDE, signed(now, status_change("9105", None, "PASS"))).json() == DONE
    [orphan] = web.bench.context.store.orphans_of("9104")
    assert (orphan.verdict, orphan.seen, orphan.onboarding_id) == (Verdict.ORPHAN, 4, None)
    assert len(web.bench.context.store.orphans_of("9105")) == 1, "two users may share a millisecond"


def test_one_pair_of_headers_drives_no_other_orphan_out(web: Web) -> None:
    genuine = signed(web.bench.clock() - 1, status_change("4711", None, "PASS"))
    assert post(web, WIDE, genuine).json() == DONE
    old = web.bench.clock() - DAY
    for number in range(30):
        made_up = signed(old, status_change(f"u{number}", None, "PASS"))
        assert post(web, WIDE, made_up).json() == DONE
    assert stored(web.bench) == 1 + receive.ORPHANS_OF_ONE
    assert [row.verdict for row in web.bench.context.store.orphans_of("4711")] == [Verdict.ORPHAN]
    assert post(web, WIDE, made_up).json() == DONE
    assert is_problem(post(web, WIDE, signed(old, status_change("u0", None, "REJECT"))), 401)


def test_another_type_without_a_match_is_answered_and_not_stored(web: Web) -> None:
    assert post(web, WIDE, signed(web.bench.clock(), {"type": "card_status_change", "data": {}})).json() == DONE
    assert stored(web.bench) == 0


def test_orphans_are_a_ring_that_leaves_all_others_alone(web: Web) -> None:
    row = web.bench.shared_on_paper("9106")
    deliver(web, row, "PROCESS")
    now = web.bench.clock()

    def orphan(number: int) -> Callback:
        name = f"cbk_{number:05d}"
        return Callback(name, now + number, APP_ID, now, "", None, None, "x", "PASS", name, b"", "", Verdict.ORPHAN)

    def keep(first: int, last: int) -> None:
        for number in range(first, last):
            web.bench.context.store.keep_orphan(orphan(number))

    threads = [threading.Thread(target=keep, args=(start, start + 125)) for start in range(0, ORPHANS_KEPT, 125)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stored(web.bench) == 1 + ORPHANS_KEPT
    web.bench.clock.advance(2 * MINUTE)
    assert post(web, WIDE, signed(web.bench.clock(), status_change("9107", None, "PASS"))).json() == DONE
    keep(ORPHANS_KEPT, ORPHANS_KEPT + 4)
    assert stored(web.bench) == 1 + ORPHANS_KEPT
    store = web.bench.context.store
    assert [len(store.orphans_of(f"cbk_{number:05d}")) for number in (0, 4, 5, ORPHANS_KEPT + 3)] == [0, 0, 1, 1]
    assert len(store.orphans_of("9107")) == 1
    assert web.bench.verdicts(row) == [Verdict.APPLIED]


# Whatever comes ----------------------------------------------------------------------------------------------------

LATIN_1 = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=200)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None), max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
SHAPED = st.fixed_dictionaries(
    {
        "type": st.just("kyc_status_change") | JSON,
        "data": st.fixed_dictionaries(
            {"userId": st.sampled_from(["9001", "x"]) | JSON, "kycStatus": st.sampled_from(["PASS", "REVIEW"]) | JSON},
            optional={"merchantUserId": JSON, "kycShareFailedReason": JSON},
        )
        | JSON,
    }
)
BODIES = st.binary(max_size=400) | (JSON | SHAPED).map(lambda value: json.dumps(value).encode())


def test_no_garbage_in_headers_or_bodies_is_a_fault_of_ours(web: Web) -> None:
    row = web.bench.shared_on_paper()
    path = path_of(web.bench, row)
    right = web.bench.webhook(row, "PROCESS")

    @settings(max_examples=80, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(
        st.fixed_dictionaries({}, optional=dict.fromkeys(right.headers, LATIN_1)),
        BODIES,
        st.sampled_from([path, WIDE, f"{WIDE}/x"]),
    )
    def garbage(garbled: dict[str, str], body: bytes, where: str) -> None:
        headers = {name: value.encode("latin-1").strip() for name, value in {**right.headers, **garbled}.items()}
        answer = web.anyone("POST", where, headers=headers, data=body)
        assert answer.status_code in (200, 400, 401, 404), answer.text
        if garbled:
            assert answer.status_code == 401

    garbage()


def test_no_signed_body_is_a_fault_of_ours(web: Web) -> None:
    row = web.bench.shared_on_paper()
    path = path_of(web.bench, row)

    @settings(max_examples=120, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(SHAPED.map(lambda value: json.dumps(value).encode()) | BODIES, st.booleans())
    def garbage(body: bytes, wide: bool) -> None:
        web.bench.clock.advance(1)
        answer = post(web, WIDE if wide else path, signed(web.bench.clock(), body))
        assert answer.status_code in (200, 400, 401), answer.text

    garbage()
    assert web.bench.chain_faults(row) == []


def test_the_service_judges_without_http_as_with_it(bench: Bench) -> None:
    row = bench.shared_on_paper()
    assert bench.receive(row, "PASS") is Verdict.APPLIED
    assert bench.receive(row, "PASS") is Verdict.DUPLICATE
    assert receive.believed_until(bench.callbacks(row), 1) == bench.clock()


def test_what_waits_for_the_database_alone_shares_a_thread_where_it_can_share_a_write(web: Web) -> None:
    """On PostgreSQL each commits by itself, and one thread would wait for one commit after the other."""
    pattern = create_app(web.bench.service).together
    if not web.bench.service.driver.commits_together:
        assert pattern is None
        return
    assert pattern is not None
    for path in (f"{WIDE}/3fP71Zx", WIDE, "/hooks/signup", "/api/v1/onboardings", "/api/v1/onboardings/o/submit"):
        assert pattern.match(f"POST {path} HTTP/1.1\r\n".encode())
    for other in (f"GET {WIDE}", "GET /api/v1/onboardings", "POST /api/v1/onboardings/o/retry", "POST /u/3fP71Zx"):
        assert not pattern.match(f"{other} HTTP/1.1\r\n".encode())


def test_twins_in_one_transaction_are_judged_one_after_the_other(web: Web) -> None:
    """What arrives at once is computed before any of it is written: all but the first decide again."""
    row = web.bench.shared_on_paper()
    sent = web.bench.webhook(row, "PROCESS")
    works = [lambda: receive.receive(web.bench.context, web.bench.callback_secret(row), sent.headers, sent.body)] * 3
    verdicts: list[Verdict] = []
    in_turns([lambda work=work: verdicts.append(work()) for work in works])  # type: ignore[misc]
    assert sorted(verdicts) == [Verdict.APPLIED, Verdict.DUPLICATE, Verdict.DUPLICATE]
    assert [(callback.verdict, callback.seen) for callback in web.bench.context.store.callbacks(row.id)] == [
        (Verdict.APPLIED, 3)
    ]
