"""The client of BTSE Pay: against the sandbox as a process, and against answers that the sandbox does not give."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from typing import Any

import pytest

from orchestrator.errors import Kind, ProviderError
from orchestrator.providers.answers import ProviderFile
from orchestrator.providers.btse_pay import BtsePay
from orchestrator.providers.dialect import load_dialects
from orchestrator.providers.http import Outgoing
from orchestrator.signatures import MultipartMessage, SignEncoding, btse_message, btse_sign
from tests.sandbox_process import API_KEY, SECRET_KEY, SandboxProcess
from tests.scripted_server import ScriptedServer, answer, answering, scripted_server

JPEG = ProviderFile("front.jpg", "image/jpeg", b"\xff\xd8\xff" + bytes(range(256)) * 40)
PNG = ProviderFile("自拍.png", "image/png", b"\x89PNG\r\n\x1a\n--boundary\r\n\r\n" + bytes(999))
PDF = ProviderFile('b"ack.pdf', "application/pdf", b"%PDF-1.7 back")
FILES = {"idFileFront": JPEG, "idFileBack": PDF, "selfie": PNG}

Client = Callable[..., BtsePay]


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def fields(merchant_user_id: str, **changes: str) -> dict[str, str]:
    return {
        "email": "pass+安娜@example.com",
        "firstName": "安娜",
        "lastName": "Lee & Söhne=1",
        "idNumber": "K1234567",
        "idType": "DRIVERS",
        "merchantUserId": merchant_user_id,
        "nationality": "HKG",
    } | changes


@pytest.fixture(scope="module")
def outgoing() -> Iterator[Outgoing]:
    made = Outgoing(deadline_seconds=20, proxy_url=None, now_ms=now_ms)
    yield made
    made.close()


@pytest.fixture
def client(outgoing: Outgoing) -> Client:
    def make(base_url: str, **options: Any) -> BtsePay:
        clock = options.pop("clock", now_ms)
        settings = {"api_key": API_KEY, "secret_key": SECRET_KEY, "dialect": load_dialects().btse} | options
        return BtsePay(base_url=base_url, outgoing=outgoing, now_ms=clock, **settings)

    return make


@pytest.fixture(scope="module")
def running() -> Iterator[SandboxProcess]:
    process = SandboxProcess.start()
    yield process
    process.stop()


@pytest.fixture
def sandbox(running: SandboxProcess) -> Iterator[SandboxProcess]:
    yield running
    running.clear_faults()


# Against the sandbox ----------------------------------------------------------------------------------------------


def assert_uploaded(sandbox: SandboxProcess, merchant_user_id: str) -> None:
    [seen] = sandbox.requests("btse.upload", merchant_user_id)
    assert seen["acted"]
    assert seen["fields"] == fields(merchant_user_id, idType="8")
    assert {
        file["part"]: (file["filename"], file["size"], file["sha256"], file["mediaType"]) for file in seen["files"]
    } == {
        part: (
            file.name,
            len(file.content),
            hashlib.sha256(file.content).hexdigest(),
            file.media_type,
        )
        for part, file in FILES.items()
    }


def test_an_upload_arrives_as_it_was_given(sandbox: SandboxProcess, client: Client) -> None:
    done = client(sandbox.btse_url).upload_kyc(fields("u-上传"), FILES)

    assert (done.value, done.skew_ms) == (None, 0)
    assert_uploaded(sandbox, "u-上传")


@pytest.mark.parametrize(("encoding", "message"), [("base64", "fields"), ("hex", "none"), ("base64", "json")])
def test_every_way_of_signing_is_understood(
    client: Client, outgoing: Outgoing, encoding: SignEncoding, message: MultipartMessage
) -> None:
    sandbox = SandboxProcess.start(sign_encoding=encoding, multipart_message=message)
    try:
        dialect = dataclasses.replace(load_dialects().btse, sign_encoding=encoding, multipart_message=message)
        btse = client(sandbox.btse_url, dialect=dialect)
        btse.upload_kyc(fields("u-1"), FILES)
        key = btse.get_authorization("u-1").value["userKey"]
        btse.cancel_authorization("u-1", key)
        assert_uploaded(sandbox, "u-1")
        with pytest.raises(ProviderError) as caught:
            client(sandbox.btse_url).upload_kyc(fields("u-1"), FILES)
        assert caught.value.kind is Kind.UNAUTHORIZED
    finally:
        outgoing.close()  # an open connection would hold up the sandbox's end
        sandbox.stop()


@pytest.mark.parametrize(("word", "number"), [("ID_CARD", "1"), ("PASSPORT", "7"), ("DRIVERS", "8")])
def test_our_words_for_documents_become_those_of_btse(
    sandbox: SandboxProcess, client: Client, word: str, number: str
) -> None:
    client(sandbox.btse_url).upload_kyc(fields(f"u-{word}", idType=word), FILES)

    [seen] = sandbox.requests("btse.upload", f"u-{word}")
    assert seen["fields"]["idType"] == number


def test_a_document_that_btse_does_not_know_is_refused_without_a_call(client: Client) -> None:
    with pytest.raises(ProviderError) as caught:
        client("http://127.0.0.1:9").upload_kyc(fields("u-1", idType="VISA"), FILES)

    assert caught.value.kind is Kind.REFUSED


@pytest.mark.parametrize("merchant_user_id", ["u-auth", "u 1&a=b?c/d", "用户"])
def test_an_authorization_is_looked_at_and_cancelled(
    sandbox: SandboxProcess, client: Client, merchant_user_id: str
) -> None:
    btse = client(sandbox.btse_url)
    assert btse.get_authorization(merchant_user_id).value == {}

    btse.upload_kyc(fields(merchant_user_id), FILES)
    key = btse.get_authorization(merchant_user_id).value["userKey"]
    with pytest.raises(ProviderError) as caught:
        btse.cancel_authorization(merchant_user_id, "no-such-key")
    cancelled = btse.cancel_authorization(merchant_user_id, key)

    assert (caught.value.kind, caught.value.unknown_outcome) == (Kind.REFUSED, False)
    assert "not linked" in caught.value.words
    assert cancelled.value == {"merchantUserId": merchant_user_id}
    assert btse.get_authorization(merchant_user_id).value == {}


def test_each_attempt_is_signed_anew(sandbox: SandboxProcess, client: Client) -> None:
    moments = iter(range(now_ms(), now_ms() + 1000))
    btse = client(sandbox.btse_url, clock=lambda: next(moments))
    for _ in range(3):
        btse.get_authorization("u-nonce")

    nonces = [seen["headers"]["nonce"] for seen in sandbox.requests("btse.authorization", "u-nonce")]
    assert len(set(nonces)) == 3


def test_a_wrong_key_is_a_fault_of_the_installation_that_mentions_listed_addresses(
    sandbox: SandboxProcess, client: Client
) -> None:
    with pytest.raises(ProviderError) as caught:
        client(sandbox.btse_url, secret_key="another").get_authorization("u-1")

    assert (caught.value.kind, caught.value.code) == (Kind.UNAUTHORIZED, "401")
    assert "IP address" in caught.value.words
    assert "clock" not in caught.value.words


def test_a_wrong_clock_is_told_with_the_answer(sandbox: SandboxProcess, client: Client) -> None:
    sandbox.clock_offset(45_000)
    with pytest.raises(ProviderError) as caught:
        client(sandbox.btse_url).get_authorization("u-1")

    assert caught.value.kind is Kind.UNAUTHORIZED
    assert caught.value.skew_ms is not None
    assert 43_900 <= caught.value.skew_ms <= 46_100
    assert "s behind that of BTSE Pay" in caught.value.words


def test_a_clock_that_is_a_little_wrong_is_learnt_from_a_success(sandbox: SandboxProcess, client: Client) -> None:
    sandbox.clock_offset(-20_000)
    skew = client(sandbox.btse_url).get_authorization("u-1").skew_ms

    assert skew is not None
    assert -21_100 <= skew <= -18_900


def test_a_wrong_base_url_is_a_fault_of_the_installation(sandbox: SandboxProcess, client: Client) -> None:
    with pytest.raises(ProviderError) as caught:
        client(sandbox.btse_url + "/nowhere").get_authorization("u-1")

    assert (caught.value.kind, caught.value.code) == (Kind.UNAUTHORIZED, "404")
    assert "base URL" in caught.value.words


def test_the_stories_flaky_and_refused_are_transient_and_refused(sandbox: SandboxProcess, client: Client) -> None:
    btse = client(sandbox.btse_url)
    for _ in range(2):
        with pytest.raises(ProviderError) as caught:
            btse.upload_kyc(fields("u-flaky", email="flaky@example.com"), FILES)
        assert (caught.value.kind, caught.value.unknown_outcome) == (Kind.TRANSIENT, False)
    btse.upload_kyc(fields("u-flaky", email="flaky@example.com"), FILES)

    with pytest.raises(ProviderError) as caught:
        btse.upload_kyc(fields("u-refused", email="refused@example.com"), FILES)
    assert (caught.value.kind, caught.value.code) == (Kind.REFUSED, "400")


# Against scripted answers -----------------------------------------------------------------------------------------


@pytest.fixture
def against(client: Client) -> Iterator[Callable[..., tuple[BtsePay, ScriptedServer]]]:
    with contextlib.ExitStack() as stack:

        def make(*answers: bytes, prefix: str = "", **options: Any) -> tuple[BtsePay, ScriptedServer]:
            server = stack.enter_context(scripted_server(answering(*answers)))
            return client(server.url + prefix, **options), server

        yield make


def enveloped(success: bool = True, code: int = 1, msg: str = "", data: object = None) -> bytes:
    envelope = {"code": code, "msg": msg, "time": 1, "data": data, "success": success}
    return json.dumps(envelope, ensure_ascii=False).encode()


Against = Callable[..., tuple[BtsePay, ScriptedServer]]


def fault_of(btse: BtsePay) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        btse.get_authorization("u-1")
    return caught.value


@pytest.mark.parametrize(
    ("status", "kind", "unknown"),
    [
        *((status, Kind.UNAUTHORIZED, False) for status in (301, 302, 307, 308, 401, 403, 404, 405)),
        *((status, Kind.REFUSED, False) for status in (400, 409, 413, 415, 422)),
        *((status, Kind.TRANSIENT, False) for status in (429, 503)),
        *((status, Kind.TRANSIENT, True) for status in (402, 408, 418, 500, 501, 502, 504, 599)),
    ],
)
@pytest.mark.parametrize("body", [enveloped(False, -3, "why"), b"<html>"], ids=["envelope", "html"])
def test_a_status_has_its_kind(against: Against, status: int, kind: Kind, unknown: bool, body: bytes) -> None:
    error = fault_of(against(answer(status, body, Location="/x"))[0])

    assert (error.kind, error.code, error.unknown_outcome) == (kind, str(status), unknown)
    assert ("why" in error.words) == body.startswith(b"{")


@pytest.mark.parametrize(
    "body", [b"", b"null", b"[]", b'"x"', b"{", b"\xff", b"<html>", b"[" * 100_000, b'{"data": [1]}', b'{"data": "x"}']
)
def test_a_success_that_cannot_be_read_has_an_unknown_outcome(against: Against, body: bytes) -> None:
    error = fault_of(against(answer(200, body))[0])

    assert (error.kind, error.code, error.unknown_outcome) == (Kind.TRANSIENT, "unreadable", True)


def test_success_false_is_a_refusal_in_the_words_of_btse(against: Against) -> None:
    error = fault_of(against(answer(200, enveloped(False, -77, "idNumber K1 已存在")))[0])

    assert (error.kind, error.code, error.words) == (Kind.REFUSED, "-77", "idNumber K1 已存在")
    assert "K1" not in str(error)


def test_a_code_can_be_told_to_mean_something_else(against: Against) -> None:
    shipped = load_dialects().btse
    faults = dataclasses.replace(shipped.faults, code_unauthorized=frozenset({"-1"}), code_later=frozenset({"-2"}))
    dialect = dataclasses.replace(shipped, faults=faults)
    btse, _ = against(
        *(answer(200, enveloped(False, code)) for code in (-1, -2)), answer(400, enveloped(False, -1)), dialect=dialect
    )

    assert [fault_of(btse).kind for _ in range(3)] == [Kind.UNAUTHORIZED, Kind.TRANSIENT, Kind.UNAUTHORIZED]


def test_an_answer_without_success_is_a_success(against: Against) -> None:
    assert against(answer(200, b'{"data": {"userKey": "k"}}'))[0].get_authorization("u-1").value == {"userKey": "k"}


@pytest.mark.parametrize(
    ("header", "ahead", "least", "most"),
    [
        ("7", None, 7_000, 7_000),
        ("0", None, 0, 0),
        ("99999999999999999999", None, 86_400_000, 86_400_000),
        ("a date", 120, 60_000, 120_000),
        ("a past date", -120, 0, 0),
        ("a far date", 9_000_000, 86_400_000, 86_400_000),
    ],
)
def test_retry_after_is_read_as_seconds_and_as_a_date_and_capped_at_a_day(
    against: Against, header: str, ahead: int | None, least: int, most: int
) -> None:
    if ahead is not None:
        header = formatdate(time.time() + ahead, usegmt=True)
    error = fault_of(against(answer(429, b"", Retry_After=header))[0])

    assert error.retry_after_ms is not None
    assert least <= error.retry_after_ms <= most


@pytest.mark.parametrize("header", ["", "soon", "-5", "1.5", "٣"])
def test_a_garbled_retry_after_says_nothing(against: Against, header: str) -> None:
    raw = b"HTTP/1.1 503 No\r\nContent-Length: 0\r\nRetry-After: " + header.encode() + b"\r\n\r\n"

    assert fault_of(against(raw)[0]).retry_after_ms is None


def test_the_signed_path_is_that_of_the_whole_url_without_its_query(against: Against) -> None:
    btse, server = against(answer(200, enveloped()), prefix="/gateway/v2/")
    btse.get_authorization("u/1 é")

    [request] = server.received
    path, _, query = request.target.partition("?")
    signed = btse_message("/gateway/v2/payment/pay-api/v1/user/authorization", request.headers["nonce"])
    assert (path, query) == ("/gateway/v2/payment/pay-api/v1/user/authorization", "merchantUserId=u%2F1+%C3%A9")
    assert request.headers["sign"] == btse_sign(SECRET_KEY, signed, "hex")


def test_paths_of_a_correction_are_used(against: Against) -> None:
    dialect = dataclasses.replace(load_dialects().btse, path_authorization_cancel="/v9/cancel")
    btse, server = against(answer(200, enveloped()), dialect=dialect)
    btse.cancel_authorization("u-1", "k")

    assert (server.received[0].target, json.loads(server.received[0].body)) == (
        "/v9/cancel",
        {"merchantUserId": "u-1", "userKey": "k"},
    )
