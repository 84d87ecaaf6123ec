"""Providers that are down, refuse everybody or ask for patience, and a disk that is full: nothing is lost."""

from __future__ import annotations

import itertools
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import Install
from tests.installation import SHORT, Installation, User, http
from tests.signups import documents, signup_data
from tests.waiting import until

SETTINGS = {"CALLBACK_PATIENCE_SECONDS": "60", "ORCHESTRATOR_PROVIDER_DEADLINE_SECONDS": "3"}
TOLD = ("submitted", "approved")


def last_error(site: Installation, user: User) -> dict[str, Any]:
    """The provider's error that the operator reads, once there is one."""

    def there() -> dict[str, Any]:
        error: dict[str, Any] = site.onboarding(user)["lastError"]
        assert error, f"{user.name} has no error yet"
        return error

    return until(there)


def test_users_wait_while_the_providers_cannot_be_reached_and_go_on_when_they_can(tmp_path: Path) -> None:
    with Installation(tmp_path / "site", settings=SETTINGS).start(sandbox=False) as site:
        users = [site.begin("pass") for _ in range(3)]
        for user in users:
            error = last_error(site, user)
            assert (error["provider"], error["code"]) == ("btse", "connection-refused")
            row = site.onboarding(user)
            assert row["state"] == "uploading"
            assert row["nextAttemptAt"]
        until(lambda: all(site.onboarding(user)["attempts"] >= 3 for user in users))
        shown = site.command("show", users[0].name).stdout
        assert "uploading, round 1" in shown
        assert "last error: btse connection-refused" in shown
        site.start_sandbox()
        for user in users:
            row = site.wait_for(user, "approved")
            assert (row["lastError"], row["attempts"]) == (None, 0)
            site.wait_until_told(user, *TOLD)
        site.check(*users)


def test_a_provider_down_for_longer_than_the_horizon_asks_for_a_person_who_may_retry(install: Install) -> None:
    site = install(settings=SETTINGS | {"RETRY_HORIZON_HOURS": "0.0004"})
    assert site.sandbox
    user = site.collect("pass")
    site.sandbox.fault("osl.share", user.name, times=None, status=503)
    site.submit(user)
    row = site.wait_for(user, "needs_attention")
    assert (row["lastError"]["provider"], row["lastError"]["code"]) == ("osl", "503")
    site.sandbox.clear_faults()
    assert site.command("retry", user.name).stdout.split() == [user.id, "sharing"]
    site.wait_for(user, "approved")
    site.wait_until_told(user, "submitted", "needs_attention", "approved")
    assert len(site.calls(user, "btse.upload")) == 1
    site.check(user)


def test_a_wrong_key_is_found_with_three_users_then_probed_and_heals_with_the_first_success(install: Install) -> None:
    site = install(settings=SETTINGS, timings={**SHORT, "probe": 1_500, "unauthorized_shortest": 200})
    assert site.sandbox
    site.sandbox.fault("btse.*", times=None, status=401)
    users = [site.begin("pass") for _ in range(5)]

    def unhealthy() -> bool:
        return bool(site.rows("select 1 from providers where name = 'btse' and unhealthy_since is not null"))

    until(unhealthy)
    since = site.rows("select unhealthy_since from providers where name = 'btse'")[0]["unhealthy_since"]
    # What was under way when the third answer came is not a probe.
    first_probe = since + 1_400

    def probes() -> list[dict[str, Any]]:
        assert site.sandbox
        return [call for call in site.sandbox.requests("btse.upload") if call["at"] >= first_probe]

    assert any("btse answers as unauthorized" in warning for warning in site.get("/readyz").json()["warnings"])
    until(lambda: len(probes()) >= 3)
    for before, after in itertools.pairwise(probes()):
        assert after["at"] - before["at"] >= 1_300
        assert after["merchantUserId"] != before["merchantUserId"]
    for user in users:
        row = site.onboarding(user)
        assert row["state"] == "uploading"
        assert row["lastError"] is None or row["lastError"]["code"] == "401"
    site.sandbox.clear_faults()
    for user in users:
        site.wait_for(user, "approved", seconds=20)
        site.wait_until_told(user, *TOLD)
    assert not unhealthy()
    assert site.get("/readyz").json()["warnings"] == []
    site.check(*users)


def test_who_alone_is_unauthorized_while_others_succeed_needs_attention_after_the_third_time(install: Install) -> None:
    site = install(settings=SETTINGS, timings={**SHORT, "unauthorized_shortest": 300})
    assert site.sandbox
    lone = site.collect("pass")
    site.sandbox.fault("btse.upload", lone.name, times=None, status=403)
    first = site.begin("pass")
    site.wait_for(first, "approved")
    site.submit(lone)
    others = [site.begin("pass") for _ in range(2)]
    row = site.wait_for(lone, "needs_attention")
    assert row["lastError"]["code"] == "403"
    assert len(site.calls(lone, "btse.upload")) == 3
    for other in others:
        site.wait_for(other, "approved")
    site.wait_until_told(lone, "submitted", "needs_attention")
    site.check(lone, first, *others)


@pytest.fixture(scope="module")
def busy(installed: Install) -> Installation:
    return installed(settings=SETTINGS)


@pytest.mark.parametrize("operation", ["btse.upload", "osl.upload", "osl.share", "osl.status"])
def test_a_429_is_honoured_for_as_long_as_it_asks(busy: Installation, operation: str) -> None:
    assert busy.sandbox
    user = busy.collect("pass")
    match = user.name if operation != "osl.upload" else "*"
    busy.sandbox.fault(operation, match, status=429, headers={"Retry-After": "2"})
    busy.submit(user)
    busy.wait_for(user, "approved")
    calls = busy.uploads(user) if operation == "osl.upload" else busy.calls(user, operation)
    assert calls[0]["fault"]
    assert calls[1]["at"] - calls[0]["at"] >= 1_950
    busy.wait_until_told(user, *TOLD)
    assert "share_lost" not in [row["event"] for row in busy.items(user, "transitions")]
    busy.check(user)


@pytest.mark.sqlite
def test_nothing_is_acknowledged_while_the_disk_is_full_and_all_goes_on_afterwards(install: Install) -> None:
    site = install(settings=SETTINGS)
    assert site.sandbox
    waiting = site.begin("silent")
    site.wait_for(waiting, "awaiting_callback")
    collecting = site.collect("pass")
    url = site.callback_url(waiting)
    data = signup_data("pass", 999_999)
    headers = site.sandbox.sign() | {"Content-Type": "application/json"}
    user_data = {"merchantUserId": waiting.name, "userId": "9001", "kycStatus": "REVIEW", "kycShareFailedReason": ""}
    webhook = {"type": "kyc_status_change", "data": user_data}
    selfie, _ = documents("PASSPORT")["selfie"]
    with disk_full(site):
        for answer in (
            site.post_signup(data),
            http("POST", url, headers=headers, json=webhook),
            site.call("POST", f"onboardings/{collecting.id}/submit", 503),
            site.call("PUT", f"onboardings/{collecting.id}/documents/selfie", 503, data=selfie),
            site.get("/readyz"),
        ):
            assert answer.status_code == 503, answer.text
            assert answer.headers["Content-Type"] == "application/problem+json"
            assert answer.headers["Retry-After"]
        assert site.get("/healthz").status_code == 200
        assert site.onboarding(waiting)["state"] == "awaiting_callback"
    assert site.rows("select 1 from onboardings where merchant_user_id = 'pass-999999'") == []
    assert site.items(waiting, "callbacks") == []
    # OSL Pay and the merchant send again what was not acknowledged.
    assert http("POST", url, headers=headers, json=webhook).status_code == 200
    assert site.onboarding(waiting)["state"] == "in_review"
    assert site.post_signup(data).status_code == 202
    site.submit(collecting)
    site.wait_for(collecting, "approved")
    site.check(collecting, waiting)


@pytest.mark.sqlite
def test_what_a_provider_answered_while_the_disk_was_full_is_not_shared_a_second_time(install: Install) -> None:
    site = install(
        settings=SETTINGS | {"CALLBACK_PATIENCE_SECONDS": "2", "ORCHESTRATOR_PROVIDER_DEADLINE_SECONDS": "2"}
    )
    assert site.sandbox
    user = site.collect("silent")
    site.sandbox.fault("osl.share", user.name, hangAfter=1.0)
    site.submit(user)
    until(lambda: site.calls(user, "osl.share"), every=0.02)
    with disk_full(site):
        until(lambda: site.calls(user, "osl.share")[0]["outcome"]["status"] == 200)
        time.sleep(1.0)
        assert site.onboarding(user)["state"] == "sharing"
    site.wait_for(user, "approved")
    site.check(user)


@contextmanager
def disk_full(site: Installation) -> Iterator[None]:
    """No process of the installation can write to any file: each write fails with EFBIG, as it would with ENOSPC."""
    limited = [*_group(site.web), *_group(site.worker)]
    kept = {pid: resource.prlimit(pid, resource.RLIMIT_FSIZE) for pid in limited}
    try:
        for pid in limited:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, kept[pid][1]))
        yield
    finally:
        for pid in limited:
            with suppress(ProcessLookupError):
                resource.prlimit(pid, resource.RLIMIT_FSIZE, kept[pid])


def _group(process: Any) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, IndexError):
            if int(path.read_text().rsplit(")", 1)[1].split()[2]) == process.pid:
                found.append(int(path.parent.name))
    return found
