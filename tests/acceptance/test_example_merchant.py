"""The example of a merchant's backend, as a real process: from signup to approved, and what it must not believe."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import requests
from standardwebhooks import Webhook

from tests.acceptance.conftest import Install
from tests.example_merchant import ExampleMerchant
from tests.installation import Installation, User, free_port, http
from tests.merchant_end import whsec
from tests.signups import documents, signup_data
from tests.waiting import until

pytestmark = pytest.mark.long


@pytest.fixture
def merchant(tmp_path: Path) -> Iterator[ExampleMerchant]:
    with ExampleMerchant(tmp_path) as example:
        yield example


def installed_for(merchant: ExampleMerchant, install: Install) -> Installation:
    settings = {
        "ORCHESTRATOR_SIGNUP_SECRETS": merchant.signup_secret,
        "ORCHESTRATOR_NOTIFY_SECRET": merchant.notify_secret,
        "ORCHESTRATOR_NOTIFY_URL": f"{merchant.url}/kyc",
    }
    site = install(settings=settings)
    merchant.start(site.url)
    return site


def test_a_user_of_the_example_is_signed_up_verified_and_known_to_be_approved(
    merchant: ExampleMerchant, install: Install
) -> None:
    site = installed_for(merchant, install)

    begun = merchant.sign_up("review@example.com")
    assert (begun["merchantUserId"], begun["state"]) == ("u-1", "collecting")
    assert http("GET", begun["uploadUrl"]).status_code == 200
    assert merchant.sign_up("review@example.com") == begun, "sent again, it begins nothing again"

    (row,) = site.call("GET", "onboardings?q=u-1").json()["items"]
    user = User("review", "u-1", row["id"], "PASSPORT")
    site.call("PATCH", f"onboardings/{user.id}/profile", json=signup_data("review", 1)["profile"])
    for kind, (content, media_type) in documents(user.id_type).items():
        path = f"onboardings/{user.id}/documents/{kind}"
        site.call("PUT", path, data=content, headers={"Content-Type": media_type})
    site.submit(user)

    def approved() -> bool:
        assert merchant.user(1)["state"] == "approved", merchant.user(1)
        return True

    until(approved)
    assert {row["status"] for row in site.items(user, "deliveries")} == {"delivered"}
    assert "u-1: approved" in http("GET", f"{merchant.url}/").text


def test_who_gave_up_begins_anew_at_the_example_and_a_refusal_is_told(
    merchant: ExampleMerchant, install: Install
) -> None:
    site = installed_for(merchant, install)

    begun = merchant.sign_up("pass@example.com")
    (row,) = site.call("GET", "onboardings?q=u-1").json()["items"]
    site.call("POST", f"onboardings/{row['id']}/cancel")

    def cancelled() -> bool:
        assert merchant.user(1)["state"] == "cancelled", merchant.user(1)
        return True

    until(cancelled)
    anew = merchant.sign_up("pass@example.com")
    assert anew["state"] == "collecting"
    assert anew["uploadUrl"] != begun["uploadUrl"]
    assert merchant.sign_up("pass@example.com") == anew, "sent again, it begins nothing again"
    states = [item["state"] for item in site.call("GET", "onboardings?q=u-1").json()["items"]]
    assert states == ["collecting", "cancelled"]

    assert "email" in merchant.sign_up("nobody", expect=422)["errors"]


def tell(
    merchant: ExampleMerchant, webhook_id: str, kind: str, second: int, secret: str | None = None, **headers: str
) -> requests.Response:
    """A notification about user 1 that happened at that second of a minute."""
    now = datetime.now(UTC)
    body: dict[str, Any] = {"type": f"onboarding.{kind}", "timestamp": f"2026-11-22T10:00:{second:02}.000Z"}
    body["data"] = {"merchantUserId": "u-1", "state": kind, "reason": None}
    text = json.dumps(body)
    signed = {
        "webhook-id": webhook_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(secret or merchant.notify_secret).sign(webhook_id, now, text),
    }
    return http("POST", f"{merchant.url}/kyc", data=text, headers=signed | headers)


@pytest.mark.sqlite
def test_the_example_believes_signed_notifications_once_and_the_newest_one(merchant: ExampleMerchant) -> None:
    merchant.start(f"http://127.0.0.1:{free_port()}")  # where nobody answers
    merchant.sign_up("pass@example.com", expect=503)
    assert merchant.user(1)["state"] == "new"

    assert tell(merchant, "dlv_2", "approved", 20).status_code == 204
    for refused in (
        tell(merchant, "dlv_3", "rejected", 30, secret=whsec()),
        tell(merchant, "dlv_3", "rejected", 30, **{"webhook-signature": "v1,garbled"}),
        tell(merchant, "dlv_3", "rejected", 30, **{"webhook-timestamp": "never"}),
        http("POST", f"{merchant.url}/kyc", data=b"\xff"),
    ):
        assert refused.status_code == 401
        assert merchant.user(1)["state"] == "approved"

    assert tell(merchant, "dlv_1", "submitted", 10).status_code == 204
    assert merchant.user(1)["state"] == "approved", "it is older, though it came later"
    assert tell(merchant, "dlv_3", "rejected", 30).status_code == 204
    assert merchant.user(1)["state"] == "rejected"
    assert tell(merchant, "dlv_2", "approved", 40).status_code == 204
    assert merchant.user(1)["state"] == "rejected", "its id was seen before"
