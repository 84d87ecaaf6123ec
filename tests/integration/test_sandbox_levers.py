"""What tests can make the sandbox do: faults on the wire, a wrong clock, pinned answers, webhooks of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest
import requests

from orchestrator.sandbox.settings import SandboxSettings
from orchestrator.signatures import osl_verify
from tests.sandbox_merchant import Merchant, Receiver, receiver
from tests.sandbox_process import APP_ID, SandboxProcess, private_pem, rsa_key


@pytest.fixture(scope="module")
def running() -> Iterator[SandboxProcess]:
    with SandboxProcess.start(pace=0.05) as process:
        yield process


@pytest.fixture
def sandbox(running: SandboxProcess) -> Iterator[SandboxProcess]:
    yield running
    running.clear_faults()


@pytest.fixture
def merchant(sandbox: SandboxProcess) -> Merchant:
    return Merchant(sandbox)


@pytest.fixture(scope="module")
def merchant_end() -> Iterator[Receiver]:
    with receiver() as taking:
        yield taking


def acted(merchant: Merchant, operation: str) -> list[bool]:
    return [each["acted"] for each in merchant.sandbox.requests(operation, merchant.user)]


def test_a_status_with_headers_is_answered_so_many_times_without_acting(merchant: Merchant) -> None:
    headers = {"Retry-After": "7"}
    merchant.sandbox.fault("osl.share", merchant.user, times=2, status=429, headers=headers)
    answers = [merchant.share() for _ in range(3)]
    assert [answer.status_code for answer in answers] == [429, 429, 200]
    assert answers[0].headers["Retry-After"] == "7"
    assert acted(merchant, "osl.share") == [False, False, True]


def test_a_fault_meets_only_the_user_and_operation_it_names(merchant: Merchant) -> None:
    other = Merchant(merchant.sandbox)
    merchant.sandbox.fault("btse.*", merchant.email, times=None, status=500)
    assert merchant.upload().status_code == 500
    assert merchant.upload().status_code == 500
    assert other.upload().status_code == 200
    assert merchant.share().status_code == 200
    merchant.sandbox.clear_faults()
    assert merchant.upload().status_code == 200


def test_a_fault_can_skip_the_first_calls(merchant: Merchant) -> None:
    merchant.sandbox.fault("osl.upload", skip=1, code="99999", msg="later")
    codes = [merchant.osl("upload-file", files={"file": b"%PDF-"}).json()["code"] for _ in range(3)]
    assert codes == ["00000", "99999", "00000"]


def test_a_call_can_be_acted_upon_and_answered_500_all_the_same(merchant: Merchant) -> None:
    merchant.sandbox.fault("osl.share", merchant.user, status=500, act=True)
    assert merchant.share().status_code == 500
    assert acted(merchant, "osl.share") == [True]
    assert merchant.standing() is not None


@pytest.mark.parametrize(("when", "was_acted_upon"), [("before", False), ("after", True)])
def test_the_connection_is_reset_before_or_after_acting(
    merchant: Merchant, merchant_end: Receiver, when: str, was_acted_upon: bool
) -> None:
    merchant.sandbox.fault("osl.share", merchant.user, reset=when)
    path = f"/reset/{merchant.number}"
    with pytest.raises(requests.ConnectionError):
        merchant.share(merchant_end.url + path)
    assert acted(merchant, "osl.share") == [was_acted_upon]
    assert (merchant.standing() is not None) is was_acted_upon
    if was_acted_upon:
        assert merchant_end.wait(path, 2)


def test_the_connection_is_reset_in_the_middle_of_the_body(merchant: Merchant) -> None:
    merchant.sandbox.fault("btse.upload", merchant.user, reset="midBody")
    with pytest.raises((requests.exceptions.ChunkedEncodingError, requests.ConnectionError)):
        merchant.upload()
    assert acted(merchant, "btse.upload") == [True]


def test_a_call_hangs_before_and_after_acting(merchant: Merchant) -> None:
    merchant.sandbox.fault("osl.status", merchant.user, hangBefore=0.2, hangAfter=0.2)
    begun = time.monotonic()
    assert merchant.ask().status_code == 200
    assert time.monotonic() - begun > 0.4


def test_a_body_of_any_type_is_answered(merchant: Merchant) -> None:
    merchant.sandbox.fault("btse.authorization", merchant.user, body="<html>", contentType="text/html")
    answer = merchant.authorization()
    assert (answer.text, answer.headers["Content-Type"]) == ("<html>", "text/html")


def test_a_redirect_is_answered(merchant: Merchant) -> None:
    merchant.sandbox.fault("osl.status", merchant.user, redirect="https://elsewhere.example.com/")
    answer = merchant.ask()
    assert (answer.status_code, answer.headers["Location"]) == (302, "https://elsewhere.example.com/")


def test_an_answer_of_50_mb_is_sent(merchant: Merchant) -> None:
    merchant.sandbox.fault("osl.status", merchant.user, huge=True)
    assert len(merchant.ask().content) == 50_000_000


def test_an_answer_drips_one_byte_a_second(merchant: Merchant) -> None:
    merchant.sandbox.fault("osl.status", merchant.user, drip=True)
    begun = time.monotonic()
    with merchant.osl("status/query", json={"merchantUserId": merchant.user}, stream=True) as answer:
        assert len(answer.raw.read(1)) == 1
    assert time.monotonic() - begun > 0.9


def test_the_clock_can_be_put_wrong(merchant: Merchant) -> None:
    merchant.sandbox.clock_offset(45_000)
    answer = merchant.upload()
    assert answer.status_code == 401
    dates = answer.headers["Date"]
    skew = parsedate_to_datetime(dates).timestamp() - time.time()
    assert 40 < skew < 50
    merchant.sandbox.clear_faults()
    assert merchant.upload().status_code == 200


def test_file_urls_live_a_day(merchant: Merchant) -> None:
    body = merchant.share_body(None)
    merchant.sandbox.clock_offset(25 * 3600 * 1000)
    assert "expired" in merchant.osl("share", json=body).json()["msg"]


def test_the_status_query_can_lag_behind_everything(merchant: Merchant) -> None:
    merchant.sandbox.status_lag(0.5, merchant.user)
    merchant.share()
    time.sleep(0.2)
    assert merchant.standing() is None
    time.sleep(0.6)
    assert merchant.standing() == "PASS"


def test_the_status_query_can_be_pinned(merchant: Merchant) -> None:
    merchant.sandbox.pin_status(merchant.user, "FINAL_REJECT", "no")
    assert merchant.ask().json()["data"]["rejectReason"] == "no"
    merchant.sandbox.unpin_status(merchant.user)
    assert merchant.standing() is None


def test_a_webhook_of_any_content_is_sent_signed_and_its_answer_told(
    merchant: Merchant, merchant_end: Receiver
) -> None:
    sandbox, path = merchant.sandbox, f"/any/{merchant.number}"
    merchant_end.answer = lambda arrival: 401 if arrival.path == path else 200
    sent = sandbox.send_webhook(url=merchant_end.url + path, body={"type": "other"}, timestamp=1700000000000)
    assert sent["status"] == 401
    (arrival,) = merchant_end.at(path)
    assert json.loads(arrival.body) == {"type": "other"}
    assert arrival.headers["timestamp"] == "1700000000000"
    signature = arrival.headers["signature"]
    assert osl_verify(rsa_key("osl").public_key(), APP_ID, "1700000000000", signature)
    assert sandbox.sign(1700000000000)["signature"] == signature


def test_a_webhook_is_sent_to_where_a_known_user_was_shared_to(merchant: Merchant, merchant_end: Receiver) -> None:
    path = f"/known/{merchant.number}"
    merchant.share(merchant_end.url + path)
    merchant_end.wait(path, 2)
    assert merchant.sandbox.send_webhook(merchantUserId=merchant.user, kycStatus="REVIEW")["status"] == 200
    assert [arrival.status for arrival in merchant_end.at(path)] == ["PROCESS", "PASS", "REVIEW"]
    assert merchant_end.at(path)[2].data["merchantUserId"] == merchant.user


def test_webhooks_go_to_the_merchant_wide_url_if_a_share_names_none(merchant_end: Receiver) -> None:
    with SandboxProcess.start(pace=0.05, merchant_wide_url=f"{merchant_end.url}/wide") as process:
        Merchant(process).share()
        assert [arrival.status for arrival in merchant_end.wait("/wide", 2)] == ["PROCESS", "PASS"]


@pytest.mark.parametrize(
    "wanted",
    [
        {"operation": "osl.nothing", "fault": {"status": 500}},
        {"operation": "osl.share", "fault": {}},
        {"operation": "osl.share", "fault": {"explode": True}},
        {"operation": "osl.share", "fault": {"reset": "never"}},
        {"unknown": 1},
    ],
)
def test_a_lever_pulled_wrongly_is_400(sandbox: SandboxProcess, wanted: dict[str, object]) -> None:
    answer = requests.post(f"{sandbox.url}/sandbox/faults", json=wanted, timeout=5)
    assert answer.status_code == 400
    assert answer.json()["detail"]


def test_sigterm_ends_it_soon_even_while_a_call_hangs() -> None:
    with SandboxProcess.start() as process:
        process.fault("osl.status", hangBefore=60)
        merchant = Merchant(process)
        with pytest.raises(requests.ReadTimeout):
            merchant.osl("status/query", timeout=0.3, json={"merchantUserId": merchant.user})
        begun = time.monotonic()
        assert process.stop() == 0
        assert time.monotonic() - begun < 6


def run_with(environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "orchestrator.sandbox", "--port", "0"]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("BTSE_", "OSL_", "SANDBOX_"))}
    return subprocess.run(command, env={**kept, **environ}, capture_output=True, text=True, timeout=20, check=False)


def test_every_faulty_setting_is_named_at_once(tmp_path: Path) -> None:
    given = {"OSL_APP_ID": "a", "OSL_PRIVATE_KEY": "no key", "BTSE_API_KEY_FILE": str(tmp_path / "missing")}
    ended = run_with(given)
    assert ended.returncode == 2
    for name in ("BTSE_API_KEY", "BTSE_SECRET_KEY", "OSL_PRIVATE_KEY", "SANDBOX_OSL_PRIVATE_KEY"):
        assert f"  {name}: " in ended.stderr
    assert "no key" not in ended.stderr


def test_secrets_are_read_from_files_too(tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    file.write_text(private_pem(rsa_key("osl")))
    environ = SandboxProcess.credentials()
    del environ["SANDBOX_OSL_PRIVATE_KEY"]
    settings = SandboxSettings.from_environ({**environ, "SANDBOX_OSL_PRIVATE_KEY_FILE": str(file)})
    assert private_pem(settings.osl_private_key) == private_pem(rsa_key("osl"))
    assert environ["BTSE_SECRET_KEY"] not in repr(settings)
