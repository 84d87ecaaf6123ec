"""The client of OSL Pay: against the sandbox as a process, and against answers that the sandbox does not give."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import functools
import hashlib
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from orchestrator.errors import Kind, ProviderError
from orchestrator.providers.answers import ProviderFile
from orchestrator.providers.dialect import load_dialects
from orchestrator.providers.http import Outgoing
from orchestrator.providers.osl_pay import KycStatus, OslPay
from orchestrator.signatures import osl_decrypt, osl_verify
from tests import sandbox_process
from tests.sandbox_process import APP_ID, SandboxProcess, rsa_key
from tests.scripted_server import Received, ScriptedServer, answer, answering, scripted_server

JPEG = ProviderFile("front.jpg", "image/jpeg", b"\xff\xd8\xff" + bytes(range(256)) * 40)
CALLBACK_URL = "http://127.0.0.1:9/callbacks/oslpay/" + "t" * 43

# Every parameter of the two tables that comes from a profile, with values longer than one block among them.
TOP = {"kycType": "USER", "registerTime": "2026-11-22 10:00:00", "ip": "2001:db8::7", "deviceId": "设备-1"}
INNER = {
    "accountPurpose": "Savings",
    "monthSpend": "1,000 to 5,000 USD",
    "sourceFunds": "Salary",
    "occupation": "Employed",
    "firstName": "安娜",
    "middleName": "玛丽亚",
    "lastName": "李",
    "firstNameEn": "Ana",
    "middleNameEn": "María",
    "lastNameEn": "Lee",
    "phoneNumber": "+85212345678",
    "gender": "F",
    "idType": "ID_CARD",
    "idNumber": "K1234567",
    "nationality": "HKG",
    "residentialCountry": "HKG",
    "idCountry": "HKG",
    "dob": "1990-01-31",
    "idExpiry": "2031-12-01",
    "street": "皇后大道中" * 30,
    "number": "99",
    "district": "中环",
    "city": "香港",
    "state": "HK",
    "zip": "999077",
    "address": "99 Queen's Road Central, " * 20,
    "kycTime": "2026-11-21 09:08:07",
    "kycLevel": "L2",
}
FILES = {
    "idFileFront": "frontFileUrl",
    "idFileBack": "backFileUrl",
    "selfie": "selfieFileUrl",
    "amlReport": "amlFileUrl",
}

Client = Callable[..., OslPay]


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@pytest.fixture(scope="module")
def outgoing() -> Iterator[Outgoing]:
    made = Outgoing(deadline_seconds=20, proxy_url=None, now_ms=now_ms)
    yield made
    made.close()


@pytest.fixture
def client(outgoing: Outgoing) -> Client:
    def make(base_url: str, **options: Any) -> OslPay:
        settings = {
            "app_id": APP_ID,
            "private_key": sandbox_process.rsa_key("merchant"),
            "public_key": sandbox_process.rsa_key("osl").public_key(),
            "dialect": load_dialects().osl,
            "now_ms": now_ms,
        } | options
        return OslPay(base_url=base_url, outgoing=outgoing, **settings)

    return make


@pytest.fixture(scope="module")
def running() -> Iterator[SandboxProcess]:
    process = SandboxProcess.start(pace=0.01)
    yield process
    process.stop()


@pytest.fixture
def sandbox(running: SandboxProcess) -> Iterator[SandboxProcess]:
    yield running
    running.clear_faults()


def share(osl: OslPay, merchant_user_id: str, *, story: str = "pass", **changes: Any) -> str | None:
    """Uploads what sharing by files needs, and shares."""
    profile = changes.pop("profile", TOP | INNER)
    urls = changes.pop("file_urls", None)
    if urls is None:
        urls = {kind: osl.upload_file(JPEG).value for kind in FILES}
    return osl.share(
        email=f"{story}@example.com",
        merchant_user_id=merchant_user_id,
        profile=profile,
        file_urls=urls,
        callback_url=CALLBACK_URL,
    ).value


# Against the sandbox ----------------------------------------------------------------------------------------------


def test_every_field_arrives_decrypted_as_it_was_given(sandbox: SandboxProcess, client: Client) -> None:
    osl = client(sandbox.osl_url)
    urls = {kind: osl.upload_file(JPEG).value for kind in FILES}
    user_id = share(osl, "u-全部", file_urls=urls, profile=TOP | INNER | {"middleName": ""})

    [seen] = sandbox.requests("osl.share", "u-全部")
    expected = (
        {"email": "pass@example.com", "merchantUserId": "u-全部", "shareType": "fileShare"}
        | TOP
        | {name: value for name, value in INNER.items() if name != "middleName"}
        | {FILES[kind]: url for kind, url in urls.items()}
    )
    arrived = {name.rpartition(".")[2]: value for name, value in seen["fields"].items()}
    arrived.pop("callbackUrl", None)
    assert user_id
    assert seen["acted"]
    assert arrived == expected


def test_a_share_by_token_sends_no_files(sandbox: SandboxProcess, client: Client) -> None:
    profile = TOP | {name: INNER[name] for name in ("accountPurpose", "monthSpend", "sourceFunds", "occupation")}
    profile |= {"residentialCountry": "HKG", "shareToken": "sumsub-" + "x" * 300}
    share(client(sandbox.osl_url), "u-token", profile=profile, file_urls={"selfie": "http://127.0.0.1/s.jpg"})

    [seen] = sandbox.requests("osl.share", "u-token")
    arrived = {name.rpartition(".")[2]: value for name, value in seen["fields"].items()}
    assert seen["acted"]
    assert (arrived["shareType"], arrived["shareToken"]) == ("sumsubTokenShare", profile["shareToken"])
    assert not [name for name in arrived if name.endswith("FileUrl")]


@pytest.mark.parametrize("bits", [1024, 2048])
def test_keys_of_both_sizes_and_both_shapes_of_a_files_url_work(
    client: Client, outgoing: Outgoing, monkeypatch: pytest.MonkeyPatch, bits: int
) -> None:
    @functools.cache
    def key(name: str) -> rsa.RSAPrivateKey:
        return rsa.generate_private_key(65537, bits)

    monkeypatch.setattr(sandbox_process, "rsa_key", key)
    sandbox = SandboxProcess.start(upload_answer="object", pace=0.01)
    try:
        assert share(client(sandbox.osl_url), "u-key")
        [seen] = sandbox.requests("osl.share", "u-key")
        assert set(INNER.values()) <= set(seen["fields"].values())
    finally:
        outgoing.close()  # an open connection would hold up the sandbox's end
        sandbox.stop()


def test_a_file_arrives_as_it_was_given(sandbox: SandboxProcess, client: Client) -> None:
    url = client(sandbox.osl_url).upload_file(dataclasses.replace(JPEG, name="正面.jpg")).value

    [file] = sandbox.requests("osl.upload")[-1]["files"]
    assert url.startswith(f"{sandbox.osl_url}/files/")
    assert (file["part"], file["filename"], file["sha256"]) == (
        "file",
        "正面.jpg",
        hashlib.sha256(JPEG.content).hexdigest(),
    )


def test_the_status_goes_from_unknown_to_known(sandbox: SandboxProcess, client: Client) -> None:
    osl = client(sandbox.osl_url)
    assert osl.kyc_status("u-status", None).value is None

    user_id = share(osl, "u-status", story="down-not", profile=TOP | INNER | {"idNumber": "S1"})
    sandbox.pin_status("u-status", "REJECT", "证件模糊")
    assert osl.kyc_status("u-status", user_id).value == KycStatus("REJECT", user_id, "证件模糊")
    sandbox.pin_status("u-status", "SOMETHING_NEW")
    assert osl.kyc_status("u-status", None).value == KycStatus("SOMETHING_NEW", user_id, "")


def test_a_declined_share_is_refused_in_the_words_of_osl_pay(sandbox: SandboxProcess, client: Client) -> None:
    osl = client(sandbox.osl_url)
    with pytest.raises(ProviderError) as caught:
        share(osl, "u-declined", story="declined", profile=TOP | INNER | {"idNumber": "D1"})

    assert (caught.value.kind, caught.value.code) == (Kind.REFUSED, "00002")
    assert caught.value.words


def test_a_wrong_key_is_a_fault_of_the_installation(sandbox: SandboxProcess, client: Client) -> None:
    osl = client(sandbox.osl_url, private_key=rsa.generate_private_key(65537, 1024))
    with pytest.raises(ProviderError) as caught:
        osl.kyc_status("u-1", None)

    assert (caught.value.kind, caught.value.code) == (Kind.UNAUTHORIZED, "00001")
    assert "OSL Pay did not accept" in caught.value.words


def test_a_wrong_path_is_a_fault_of_the_installation(sandbox: SandboxProcess, client: Client) -> None:
    dialect = dataclasses.replace(load_dialects().osl, path_status="/api/v0/nowhere")
    with pytest.raises(ProviderError) as caught:
        client(sandbox.osl_url, dialect=dialect).kyc_status("u-1", None)

    assert (caught.value.kind, caught.value.code) == (Kind.UNAUTHORIZED, "404")


def test_above_the_rate_the_answer_is_transient_with_a_pause(client: Client, outgoing: Outgoing) -> None:
    sandbox = SandboxProcess.start(rate=1)
    try:
        osl = client(sandbox.osl_url)
        osl.kyc_status("u-1", None)
        with pytest.raises(ProviderError) as caught:
            osl.kyc_status("u-1", None)
    finally:
        outgoing.close()
        sandbox.stop()

    assert (caught.value.kind, caught.value.unknown_outcome) == (Kind.TRANSIENT, False)
    assert caught.value.retry_after_ms == 1000


# Against scripted answers -----------------------------------------------------------------------------------------

Against = Callable[..., tuple[OslPay, ScriptedServer]]


@pytest.fixture
def against(client: Client) -> Iterator[Against]:
    with contextlib.ExitStack() as stack:

        def make(*answers: bytes, **options: Any) -> tuple[OslPay, ScriptedServer]:
            server = stack.enter_context(scripted_server(answering(*answers)))
            return client(server.url, **options), server

        yield make


def enveloped(data: object = None, code: object = "00000", msg: str = "success") -> bytes:
    return json.dumps({"code": code, "data": data, "msg": msg, "requestTime": 1}, ensure_ascii=False).encode()


def fault_of(osl: OslPay) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        osl.kyc_status("u-1", None)
    return caught.value


def sent_share(request: Received) -> tuple[dict[str, Any], dict[str, Any]]:
    body = json.loads(request.body)
    return body, body.pop("kycIdentityInfoVo")


def test_every_request_carries_a_fresh_signature(against: Against) -> None:
    moments = iter(range(1_764_000_000_000, 1_764_000_000_100))
    osl, server = against(answer(200, enveloped("http://x/y")), now_ms=lambda: next(moments))
    osl.upload_file(JPEG)
    osl.upload_file(JPEG)

    stamps = [request.headers["timestamp"] for request in server.received]
    assert len(set(stamps)) == 2
    for request in server.received:
        assert request.headers["appid"] == APP_ID
        assert osl_verify(
            rsa_key("merchant").public_key(), APP_ID, request.headers["timestamp"], request.headers["signature"]
        )


def test_everything_in_a_share_but_the_callback_url_is_encrypted(against: Against) -> None:
    osl, server = against(answer(200, enveloped({"userId": 9001})))
    user_id = share(osl, "u-1", file_urls=dict.fromkeys(FILES, "http://127.0.0.1/f.jpg"))

    body, inner = sent_share(server.received[0])
    assert user_id == "9001"
    assert body.pop("callbackUrl") == CALLBACK_URL
    assert set(body) == {"email", "merchantUserId", *TOP}
    assert set(inner) == {"shareType", *INNER, *FILES.values()}
    key = rsa_key("osl")
    assert osl_decrypt(key, body["deviceId"]) == "设备-1"
    for value in (*body.values(), *inner.values()):
        assert len(base64.b64decode(value)) % 128 == 0
        osl_decrypt(key, value)


def test_the_words_of_a_share_follow_the_dialect(against: Against) -> None:
    dialect = dataclasses.replace(
        load_dialects().osl,
        share_type_file="fileBased",
        device_id_field="devivceId",
        date_format="%d.%m.%Y",
        utc_offset_hours=8.0,
    )
    osl, server = against(answer(200, enveloped({})), dialect=dialect)
    assert share(osl, "u-1", file_urls={}, profile=TOP | INNER | {"idExpiry": "never"}) is None

    body, inner = sent_share(server.received[0])
    opened = {
        name: osl_decrypt(rsa_key("osl"), value) for name, value in (inner | body).items() if name != "callbackUrl"
    }
    assert "deviceId" not in opened
    assert {
        "devivceId": "设备-1",
        "shareType": "fileBased",
        "dob": "31.01.1990",
        "idExpiry": "never",
        "registerTime": "2026-11-22 18:00:00",
        "kycTime": "2026-11-21 17:08:07",
    }.items() <= opened.items()


def test_both_ids_are_asked_with_where_both_are_known(against: Against) -> None:
    osl, server = against(answer(200, enveloped(None)))
    osl.kyc_status("u-1", None)
    osl.kyc_status("u-1", "9001")

    assert [json.loads(request.body) for request in server.received] == [
        {"merchantUserId": "u-1"},
        {"merchantUserId": "u-1", "userId": "9001"},
    ]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (None, None),
        ({"kycStatus": "PASS", "userId": 9001}, KycStatus("PASS", "9001", "")),
        ({"kycStatus": None, "userId": None, "rejectReason": None}, KycStatus(None, None, "")),
        ({"merchantUserId": "u-1", "kycStatus": "X"}, KycStatus("X", None, "")),
        ({}, KycStatus(None, None, "")),
    ],
)
def test_a_status_is_read_leniently(against: Against, data: object, expected: KycStatus | None) -> None:
    assert against(answer(200, enveloped(data)))[0].kyc_status("u-1", None).value == expected


@pytest.mark.parametrize("data", [[], "PASS", 1, True, {"merchantUserId": "u-2", "kycStatus": "PASS"}])
def test_a_status_of_another_shape_or_of_another_user_is_believed_by_nobody(against: Against, data: object) -> None:
    error = fault_of(against(answer(200, enveloped(data)))[0])

    assert (error.kind, error.code) == (Kind.TRANSIENT, "unreadable")


@pytest.mark.parametrize("user_id", ["9002", 9002, "somebody else"])
def test_a_status_of_another_user_id_is_believed_by_nobody(against: Against, user_id: object) -> None:
    osl, _ = against(answer(200, enveloped({"merchantUserId": None, "userId": user_id, "kycStatus": "PASS"})))
    with pytest.raises(ProviderError, match="unreadable"):
        osl.kyc_status("u-1", "9001")
    assert osl.kyc_status("u-1", None).value == KycStatus("PASS", str(user_id), "")


def test_half_a_character_of_an_answer_can_be_kept(against: Against) -> None:
    said = '{"code": "00000", "data": {"kycStatus": "REJECT", "userId": "9\\ud83d", "rejectReason": "bad \\ud83d"}}'
    osl, _ = against(answer(200, said.encode()), answer(200, b'{"code": "00002", "msg": "no \\ud83d"}'))

    status = osl.kyc_status("u-1", None).value
    assert status == KycStatus("REJECT", "9?", "bad ?")
    with pytest.raises(ProviderError) as raised:
        osl.kyc_status("u-1", None)
    assert raised.value.words == "no ?"


@pytest.mark.parametrize("user_id", ["", "9" * 129, "9\n1", ["9001"], None])
def test_an_id_that_cannot_be_one_is_none(against: Against, user_id: object) -> None:
    osl, _ = against(answer(200, enveloped({"userId": user_id, "kycStatus": "PASS"})))
    assert osl.kyc_status("u-1", None).value == KycStatus("PASS", None, "")


def test_an_unknown_user_may_be_told_by_a_code_or_in_words(against: Against) -> None:
    dialect = dataclasses.replace(
        load_dialects().osl, unknown_user_codes=frozenset({"00404"}), unknown_user_words=("does not EXIST",)
    )
    osl, _ = against(
        answer(200, enveloped(None, "00404")),
        answer(200, enveloped(None, "00002", "user u-1 does not exist")),
        answer(200, enveloped(None, "00002", "merchantUserId is too long")),
        dialect=dialect,
    )

    assert osl.kyc_status("u-1", None).value is None
    assert osl.kyc_status("u-1", None).value is None
    assert fault_of(osl).kind is Kind.REFUSED


@pytest.mark.parametrize("data", [None, "", {}, {"url": None}, {"url": 7}, ["http://x"], 5])
def test_an_upload_without_a_url_is_unreadable(against: Against, data: object) -> None:
    osl, _ = against(answer(200, enveloped(data)))
    with pytest.raises(ProviderError) as caught:
        osl.upload_file(JPEG)

    assert (caught.value.kind, caught.value.code, caught.value.unknown_outcome) == (Kind.TRANSIENT, "unreadable", True)


@pytest.mark.parametrize(
    ("status", "body", "kind", "code", "unknown"),
    [
        (200, enveloped(code="00001"), Kind.UNAUTHORIZED, "00001", False),
        (200, enveloped(code="00002"), Kind.REFUSED, "00002", False),
        (200, enveloped(code="99999"), Kind.TRANSIENT, "99999", True),
        (200, enveloped(code="12345"), Kind.TRANSIENT, "12345", True),
        (200, enveloped(code=0), Kind.TRANSIENT, "0", True),
        (200, enveloped(code=None), Kind.TRANSIENT, "unreadable", True),
        (200, b"{}", Kind.TRANSIENT, "unreadable", True),
        (200, b"", Kind.TRANSIENT, "unreadable", True),
        (200, b"<html>", Kind.TRANSIENT, "unreadable", True),
        (401, enveloped(code="00001"), Kind.UNAUTHORIZED, "00001", False),
        (400, enveloped(code="00002"), Kind.REFUSED, "00002", False),
        (400, enveloped(code="00001"), Kind.UNAUTHORIZED, "00001", False),
        (400, enveloped(code="99999"), Kind.REFUSED, "400", False),
        (404, enveloped(code="99999"), Kind.UNAUTHORIZED, "404", False),
        (429, enveloped(code="99999"), Kind.TRANSIENT, "429", False),
        (503, enveloped(code="00002"), Kind.TRANSIENT, "503", False),
        (500, enveloped(code="99999"), Kind.TRANSIENT, "500", True),
        (500, enveloped(), Kind.TRANSIENT, "500", True),
        (502, b"<html>", Kind.TRANSIENT, "502", True),
        (504, b"", Kind.TRANSIENT, "504", True),
        (501, b"", Kind.TRANSIENT, "501", True),
        (599, enveloped(code="99999"), Kind.TRANSIENT, "599", True),
        (418, b"", Kind.TRANSIENT, "418", True),
        (429, b"", Kind.TRANSIENT, "429", False),
        (503, b"<html>", Kind.TRANSIENT, "503", False),
        (302, b"", Kind.UNAUTHORIZED, "302", False),
    ],
)
def test_an_answer_that_is_no_success_has_its_kind(
    against: Against, status: int, body: bytes, kind: Kind, code: str, unknown: bool
) -> None:
    error = fault_of(against(answer(status, body))[0])

    assert (error.kind, error.code, error.unknown_outcome) == (kind, code, unknown)


def test_a_provider_file_does_not_print_its_content() -> None:
    assert "xff" not in repr(JPEG)
