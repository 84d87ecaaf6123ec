"""Webhooks as OSL Pay sends them: signed, delivered, and sent again while nobody says 200."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass

import requests
import urllib3.exceptions

from orchestrator.sandbox.clock import Clock
from orchestrator.sandbox.journal import Journal, Sent
from orchestrator.sandbox.schedule import Schedule
from orchestrator.sandbox.settings import SandboxSettings
from orchestrator.signatures import osl_sign

RETRY_PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0)
TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True)
class Webhook:
    """One webhook, ready to go; the same headers and body however often it is sent."""

    merchant_user_id: str | None
    url: str
    kyc_status: str | None
    timestamp: str
    headers: dict[str, str]
    body: bytes


class PostOffice:
    """Signs with OSL Pay's key and delivers."""

    def __init__(self, settings: SandboxSettings, clock: Clock, schedule: Schedule, journal: Journal) -> None:
        self._settings = settings
        self._clock = clock
        self._schedule = schedule
        self._journal = journal

    def headers(self, timestamp: str) -> dict[str, str]:
        """Valid headers for `timestamp` (unix ms); the body is not signed (docs/providers.md, the webhook)."""
        app_id = self._settings.osl_app_id
        signature = osl_sign(self._settings.osl_private_key, app_id, timestamp)
        return {"appId": app_id, "timestamp": timestamp, "signature": signature}

    def status_change(
        self, url: str, merchant_user_id: str, user_id: str, kyc_status: str, reason: str, timestamp: str
    ) -> Webhook:
        """A `kyc_status_change` in the documented shape."""
        data = {
            "merchantUserId": merchant_user_id,
            "userId": user_id,
            "merchantCode": self._settings.merchant_code,
            "kycStatus": kyc_status,
            "kycShareFailedReason": reason,
        }
        body = json.dumps({"type": "kyc_status_change", "data": data}, ensure_ascii=False).encode()
        return Webhook(merchant_user_id, url, kyc_status, timestamp, self.headers(timestamp), body)

    def deliver(self, webhook: Webhook, attempt: int = 1, again: bool = True) -> Sent:
        """Send now and wait for the answer; unless it is 200, the same goes out again later if `again`."""
        sent = self._post(webhook, attempt)
        self._journal.sent(sent)
        if sent.status != 200 and again and attempt <= len(RETRY_PAUSES):
            pause = RETRY_PAUSES[attempt - 1] * self._settings.pace
            self._schedule.after(pause, lambda: self._deliver_again(webhook, attempt + 1))
        return sent

    def _deliver_again(self, webhook: Webhook, attempt: int) -> None:
        self.deliver(webhook, attempt)

    def _post(self, webhook: Webhook, attempt: int) -> Sent:
        at = self._clock.now_ms()
        headers = {"Content-Type": "application/json", **webhook.headers}
        status, answer = None, ""
        with requests.Session() as session:
            session.trust_env = False
            try:
                response = session.post(
                    webhook.url,
                    data=webhook.body,
                    headers=headers,
                    timeout=TIMEOUT_SECONDS,
                    allow_redirects=False,
                    stream=True,
                )
                status = response.status_code
                with contextlib.closing(response):
                    answer = response.raw.read(500).decode("utf-8", "replace")
            except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
                # An answer that breaks off is none, whatever its status said.
                status, answer = None, type(error).__name__
        return Sent(
            at,
            webhook.merchant_user_id,
            webhook.url,
            webhook.kyc_status,
            webhook.timestamp,
            attempt,
            status,
            answer,
        )
