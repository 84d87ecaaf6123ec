"""Everything the sandbox refuses, in one table for each provider, and how it counts OSL Pay's rate."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, get_args

import pytest
import requests

from orchestrator.signatures import MultipartMessage, SignEncoding, osl_sign
from tests.sandbox_merchant import GONE, JPEG, PDF, PNG, Merchant, encrypted, now
from tests.sandbox_process import APP_ID, SandboxProcess, rsa_key


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxProcess]:
    with SandboxProcess.start(pace=0.05) as process:
        yield process


@pytest.fixture
def merchant(sandbox: SandboxProcess) -> Merchant:
    return Merchant(sandbox)


def of_size(size: int) -> tuple[str, bytes]:
    return "scan.jpg", JPEG.ljust(size, b"\0")


# BTSE Pay ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "status", "words"),
    [
        ({"headers": {"api": "another"}}, 401, "another"),
        ({"headers": {"api": GONE}}, 401, "api key"),
        ({"headers": {"sign": "0" * 96}}, 401, "sign"),
        ({"headers": {"sign": GONE}}, 401, "sign"),
        ({"headers": {"nonce": "soon"}}, 401, "soon"),
        ({"fields": {"firstName": GONE}}, 400, "firstName"),
        ({"fields": {"lastName": " "}}, 400, "lastName"),
        ({"fields": {"email": "nobody"}}, 400, "'nobody'"),
        ({"fields": {"idType": "2"}}, 400, "'2'"),
        ({"fields": {"idType": "PASSPORT"}}, 400, "PASSPORT"),
        ({"fields": {"nationality": "HK"}}, 400, "'HK'"),
        ({"fields": {"nationality": "XYZ"}}, 400, "alpha-3"),
        ({"fields": {"merchantUserId": "u" * 129}}, 400, "merchantUserId"),
        ({"fields": {"nickname": "an"}}, 400, "nickname"),
        ({"files": {"photo": ("a.jpg", JPEG)}}, 400, "photo"),
        ({"files": {"selfie": GONE}}, 400, "selfie"),
        ({"fields": {"idType": "1"}}, 400, "idFileBack"),
        ({"fields": {"idType": "8"}}, 400, "idFileBack"),
        ({"files": {"selfie": ("a.jpg", b"GIF89a")}}, 415, "'a.jpg'"),
        ({"files": {"selfie": ("a.jpg", b"")}}, 415, "'a.jpg'"),
        ({"files": {"selfie": of_size(5_000_001)}}, 413, "5000000"),
        (
            {"files": {"selfie": of_size(5_000_000), "idFileFront": of_size(5_000_000), "idFileBack": of_size(9)}},
            413,
            "10000000",
        ),
    ],
)
def test_btse_refuses_an_upload(merchant: Merchant, what: dict[str, Any], status: int, words: str) -> None:
    answer = merchant.upload(**what)
    assert answer.status_code == status, answer.text
    assert answer.json()["success"] is False
    assert words in answer.json()["msg"]


@pytest.mark.parametrize(("age", "status"), [(31, 401), (-31, 401), (28, 200), (-28, 200)])
def test_btse_wants_a_request_within_30_seconds_of_its_nonce(merchant: Merchant, age: int, status: int) -> None:
    nonce = str(int(now()) - age * 1000)
    assert merchant.upload(headers={"nonce": nonce}).status_code == status


@pytest.mark.parametrize("id_type", ["1", "7", "8"])
def test_btse_takes_an_upload_of_the_largest_files(merchant: Merchant, id_type: str) -> None:
    files = {"idFileFront": of_size(5_000_000), "selfie": of_size(4_999_900), "idFileBack": ("b.pdf", PDF)}
    answer = merchant.upload({"idType": id_type}, files)
    assert (answer.status_code, answer.json()["success"]) == (200, True)
    assert "Date" in answer.headers


@pytest.mark.parametrize(("encoding", "strategy"), [("hex", "none"), ("hex", "json"), ("base64", "fields")])
def test_btse_checks_the_configured_way_of_signing(encoding: SignEncoding, strategy: MultipartMessage) -> None:
    with SandboxProcess.start(sign_encoding=encoding, multipart_message=strategy) as process:
        for other_encoding in get_args(SignEncoding):
            for other in get_args(MultipartMessage):
                merchant = Merchant(process, sign_encoding=other_encoding, multipart_message=other)
                right = (other_encoding, other) == (encoding, strategy)
                assert merchant.upload().status_code == (200 if right else 401)


def test_btse_links_a_user_key_that_is_dead_once_cancelled(merchant: Merchant) -> None:
    assert merchant.authorization().json()["data"] is None
    merchant.upload()
    key = merchant.authorization().json()["data"]["userKey"]

    def cancel(user_key: str) -> requests.Response:
        return merchant.btse(
            "POST", "authorization/cancel", json={"merchantUserId": merchant.user, "userKey": user_key}
        )

    assert cancel("uk-other").status_code == 400
    assert cancel(key).json()["success"] is True
    refused = cancel(key)
    assert refused.status_code == 400
    assert key in refused.json()["msg"]
    assert merchant.authorization().json()["data"] is None


@pytest.mark.parametrize(
    ("method", "path", "how"),
    [
        ("GET", "authorization", {}),
        ("GET", "authorization", {"params": {"merchantUserId": "u", "extra": "1"}}),
        ("POST", "authorization/cancel", {"json": {"merchantUserId": "u"}}),
        ("POST", "authorization/cancel", {"json": {"merchantUserId": "u", "userKey": 5}}),
        ("POST", "authorization/cancel", {"data": b"{"}),
    ],
)
def test_btse_refuses_calls_about_authorization(
    merchant: Merchant, method: str, path: str, how: dict[str, Any]
) -> None:
    assert merchant.btse(method, path, **how).status_code == 400
    assert merchant.btse(method, path, {"sign": "00"}, **how).status_code == 401


# OSL Pay ----------------------------------------------------------------------------------------------------


def refused(answer: requests.Response, code: str, words: str) -> None:
    assert (answer.status_code, answer.json()["code"], answer.json()["data"]) == (200, code, None), answer.text
    assert words in answer.json()["msg"]


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({"appId": "another"}, "another"),
        ({"appId": GONE}, "appId"),
        ({"timestamp": "1700000000"}, "13 digits"),
        ({"timestamp": "١٧٠٠٠٠٠٠٠٠٠٠٠".encode()}, "13 digits"),
        ({"signature": GONE}, "signature"),
        ({"signature": osl_sign(rsa_key("osl"), APP_ID, "1700000000000"), "timestamp": "1700000000000"}, "signature"),
        ({"signature": osl_sign(rsa_key("merchant"), APP_ID, "1700000000000")}, "signature"),
    ],
)
@pytest.mark.parametrize("path", ["upload-file", "share", "status/query"])
def test_osl_refuses_headers_with_00001(merchant: Merchant, path: str, headers: dict[str, Any], words: str) -> None:
    refused(merchant.osl(path, headers, json={}), "00001", words)


@pytest.mark.parametrize(
    ("top", "info", "words"),
    [
        ({"email": GONE}, {}, "email"),
        ({"email": "nobody"}, {}, "'nobody'"),
        ({"kycType": "PERSON"}, {}, "'PERSON'"),
        ({"registerTime": "2026-11-22T10:00:00Z"}, {}, "2026-11-22T10:00:00Z"),
        ({"registerTime": "2026-02-30 10:00:00"}, {}, "yyyy-MM-dd HH:mm:ss"),
        ({"ip": "203.0.113.700"}, {}, "203.0.113.700"),
        ({"deviceId": GONE}, {}, "deviceId is mandatory"),
        ({"devivceId": "d-1"}, {}, "unknown parameter 'devivceId'"),
        ({"merchantUserId": GONE}, {}, "merchantUserId"),
        ({}, {"shareType": "file"}, "'file'"),
        ({}, {"shareType": "sumsubTokenShare"}, "shareToken"),
        ({}, {"frontFileUrl": GONE}, "frontFileUrl"),
        ({}, {"selfieFileUrl": GONE}, "selfieFileUrl"),
        ({}, {"idType": "ID_CARD"}, "backFileUrl"),
        ({}, {"idType": "DRIVERS"}, "backFileUrl"),
        ({}, {"idType": "7"}, "'7'"),
        ({}, {"frontFileUrl": "https://files.example.com/1.jpg"}, "https://files.example.com/1.jpg"),
        ({}, {"accountPurpose": GONE}, "accountPurpose"),
        ({}, {"monthSpend": ""}, "monthSpend"),
        ({}, {"sourceFunds": GONE}, "sourceFunds"),
        ({}, {"occupation": GONE}, "occupation"),
        ({}, {"residentialCountry": GONE}, "residentialCountry"),
        ({}, {"residentialCountry": "hkg"}, "'hkg'"),
        ({}, {"nationality": "CN"}, "'CN'"),
        ({}, {"idCountry": "156"}, "'156'"),
        ({}, {"gender": "female"}, "'female'"),
        ({}, {"kycLevel": "L3"}, "'L3'"),
        ({}, {"dob": "1990/01/02"}, "1990/01/02"),
        ({}, {"idExpiry": "2030-13-01"}, "2030-13-01"),
        ({}, {"kycTime": "2026-11-22"}, "2026-11-22"),
        ({}, {"hobby": "chess"}, "hobby"),
    ],
)
def test_osl_refuses_a_share_with_00002(
    merchant: Merchant, top: Mapping[str, Any], info: Mapping[str, Any], words: str
) -> None:
    refused(merchant.share("https://merchant.example.com/callback", top, info), "00002", words)
    assert merchant.standing() is None


@pytest.mark.parametrize("url", ["", "merchant.example.com", "ftp://merchant.example.com/", 5])
def test_osl_refuses_a_callback_url_that_is_none(merchant: Merchant, url: Any) -> None:
    body = {**merchant.share_body(None), "callbackUrl": url}
    refused(merchant.osl("share", json=body), "00002", "callbackUrl")


def test_osl_refuses_an_encrypted_callback_url(merchant: Merchant) -> None:
    body = merchant.share_body(encrypted({"url": "https://merchant.example.com/"})["url"])
    refused(merchant.osl("share", json=body), "00002", "callbackUrl")


def test_osl_refuses_every_single_field_that_is_not_encrypted(merchant: Merchant) -> None:
    whole = merchant.share_body(None)
    inner = whole["kycIdentityInfoVo"]
    for name in [name for name in whole if name != "kycIdentityInfoVo"]:
        refused(merchant.osl("share", json={**whole, name: "plain"}), "00002", f"{name} 'plain'")
    for name in inner:
        body = {**whole, "kycIdentityInfoVo": {**inner, name: "plain"}}
        refused(merchant.osl("share", json=body), "00002", f"{name} 'plain'")
    refused(merchant.osl("share", json={**whole, "kycIdentityInfoVo": "object"}), "00002", "kycIdentityInfoVo")
    assert merchant.osl("share", json=whole).json()["code"] == "00000"


def test_osl_takes_every_parameter_of_the_two_tables(merchant: Merchant) -> None:
    info = {
        "idType": "ID_CARD",
        "backFileUrl": merchant.file_url(PDF),
        "amlFileUrl": merchant.file_url(PDF),
        "phoneNumber": "+852 1234",
        "gender": "F",
        "dob": "1990-01-02",
        "idExpiry": "2030-01-02",
        "kycTime": "2026-11-22 10:00:00",
        "kycLevel": "L2",
        **dict.fromkeys(("street", "number", "district", "city", "state", "zip", "address"), "x"),
        **dict.fromkeys(("middleName", "firstNameEn", "middleNameEn", "lastNameEn"), "李" * 60),
    }
    answer = merchant.share("http://127.0.0.1:1/x", {"ip": "2001:db8::1", "kycType": "ENTERPRISE"}, info)
    assert answer.json()["code"] == "00000", answer.text


def test_osl_takes_a_token_instead_of_files(merchant: Merchant) -> None:
    info = {
        "shareType": "sumsubTokenShare",
        "shareToken": "t-1",
        "frontFileUrl": GONE,
        "selfieFileUrl": GONE,
        "idType": "ID_CARD",
    }
    assert merchant.share(None, info=info).json()["code"] == "00000"


def test_a_document_verifies_one_account_only_and_stays(merchant: Merchant) -> None:
    number = f"K{merchant.number}"
    assert merchant.share().json()["code"] == "00000"
    other = Merchant(merchant.sandbox)
    refused(other.share(info={"idNumber": number}), "00002", number)
    assert other.share(info={"idNumber": number, "idCountry": "CHN"}).json()["code"] == "00000"
    for change in ({"idNumber": "K-other"}, {"idCountry": "CHN"}, {"idType": "VISA"}):
        refused(merchant.share(info=change), "00002", "cannot be changed")
    assert merchant.share().json()["code"] == "00000"


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"files": {"document": ("a.jpg", JPEG)}}, "document"),
        ({"files": {"file": ("a.jpg", JPEG)}, "data": {"name": "a"}}, "name"),
        ({"files": [("file", ("a.jpg", JPEG)), ("file", ("b.jpg", PNG))]}, "file"),
        ({"files": {"file": ("a.gif", b"GIF89a")}}, "a.gif"),
        ({"files": {"file": of_size(5_000_001)}}, "5000000"),
        ({"json": {}}, "application/json"),
    ],
)
def test_osl_refuses_a_file(merchant: Merchant, how: dict[str, Any], words: str) -> None:
    refused(merchant.osl("upload-file", **how), "00002", words)


@pytest.mark.parametrize("body", [{}, {"merchantUserId": 5}, {"email": "a@example.com"}, {"userId": ""}, []])
def test_osl_refuses_a_status_query(merchant: Merchant, body: Any) -> None:
    refused(merchant.osl("status/query", json=body), "00002", "")


def test_osl_refuses_a_status_query_about_two_different_users(merchant: Merchant) -> None:
    merchant.share()
    body = {"merchantUserId": merchant.user, "userId": "1"}
    refused(merchant.osl("status/query", json=body), "00002", "'1'")


def test_an_upload_is_answered_with_an_object_if_so_configured() -> None:
    with SandboxProcess.start(upload_answer="object") as process:
        answer = Merchant(process).osl("upload-file", files={"file": ("a", PNG)}).json()
        assert answer["data"]["url"].startswith(process.url)


@pytest.mark.parametrize("path", ["/btse/nothing", "/osl/nothing", "/osl/api/v1/user/kyc/share"])
def test_a_path_that_is_not_there_is_404(sandbox: SandboxProcess, path: str) -> None:
    assert requests.get(sandbox.url + path, timeout=5).status_code == 404


# The rate ---------------------------------------------------------------------------------------------------


def test_more_than_the_allowed_requests_in_a_sliding_second_are_429() -> None:
    with SandboxProcess.start(rate=5) as process:
        merchant = Merchant(process)
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: merchant.ask(), range(8)))
        statuses = sorted(answer.status_code for answer in answers)
        assert statuses == [200] * 5 + [429] * 3
        assert all(int(answer.headers["Retry-After"]) >= 1 for answer in answers if answer.status_code == 429)
        time.sleep(1.0)
        assert merchant.ask().status_code == 200
        summary = process.summary()
        assert (summary["mostOslRequestsInASecond"], summary["rateViolations"]) == (8, 3)
        assert merchant.upload().status_code == 200
        assert process.summary()["operations"] == {"osl.status": 9, "btse.upload": 1}


def test_the_requests_received_are_shown_decrypted_and_without_file_bytes(merchant: Merchant) -> None:
    sandbox = merchant.sandbox
    merchant.upload()
    merchant.share("https://merchant.example.com/callback", {"ip": "nowhere"})
    (upload,) = sandbox.requests("btse.upload", merchant.user)
    assert upload["acted"] is True
    assert upload["outcome"] == {"status": 200, "code": "200"}
    assert upload["email"] == merchant.email
    assert {(file["part"], file["size"]) for file in upload["files"]} == {
        ("idFileFront", len(JPEG)),
        ("selfie", len(PNG)),
    }
    (share,) = sandbox.requests("osl.share", merchant.user)
    assert share["acted"] is False
    assert share["outcome"] == {"status": 200, "code": "00002"}
    assert share["fields"]["idNumber"] == f"K{merchant.number}"
    assert share["fields"]["callbackUrl"] == "https://merchant.example.com/callback"
    merchant.share("https://merchant.example.com/callback")
    acted = [each for each in sandbox.summary()["shares"] if each["merchantUserId"] == merchant.user]
    assert [each["count"] for each in acted] == [1]
