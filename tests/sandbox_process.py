"""The sandbox as a process of its own, for tests: start it, steer it, read what it saw."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from requests import Response, Session

from tests.launch import NO_DEPRECATED

API_KEY, SECRET_KEY, APP_ID = "sandbox-api-key", "sandbox-secret-key", "sandbox-app"
START_SECONDS = 20.0


@functools.cache
def rsa_key(name: str) -> rsa.RSAPrivateKey:
    """A 1024-bit key by name (`merchant`, `osl`, …), made once a test run: small because it is fast."""
    del name
    return rsa.generate_private_key(65537, 1024)


def private_pem(key: rsa.RSAPrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def public_pem(key: rsa.RSAPrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


class SandboxProcess:
    """One running sandbox.

    `start()` gives a running one, to be stopped or used as a context; `environ` is what the orchestrator needs
    to talk to it. Every method named after a lever talks to `/sandbox/…` of that process.
    """

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self.process = process
        self.url = url
        self._session = Session()
        self._session.trust_env = False
        # A kept-alive connection could be one that the process, restarted meanwhile, no longer knows.
        self._session.headers["Connection"] = "close"

    @classmethod
    def start(
        cls,
        rate: int = 0,
        lag_seconds: float = 20.0,
        pace: float = 1.0,
        *,
        port: int = 0,
        sign_encoding: str = "hex",
        multipart_message: str = "fields",
        upload_answer: str = "string",
        merchant_wide_url: str | None = None,
        credentials: Mapping[str, str] | None = None,
    ) -> SandboxProcess:
        """Start one and wait until its port is open. `port` 0 lets the system choose; `credentials`: others."""
        options: dict[str, object] = {
            "--port": port,
            "--rate": rate,
            "--lag-seconds": lag_seconds,
            "--pace": pace,
            "--sign-encoding": sign_encoding,
            "--multipart-message": multipart_message,
            "--upload-answer": upload_answer,
        }
        if merchant_wide_url:
            options["--merchant-wide-url"] = merchant_wide_url
        arguments = [str(word) for option in options.items() for word in option]
        process = subprocess.Popen(
            [sys.executable, "-m", "orchestrator.sandbox", *arguments],
            env={**os.environ, **NO_DEPRECATED, **cls.credentials(), **(credentials or {})},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout
        url = process.stdout.readline().strip()
        if not url:
            process.wait(START_SECONDS)
            raise RuntimeError(f"the sandbox did not start: exit status {process.returncode}")
        return cls(process, url)

    @staticmethod
    def credentials() -> dict[str, str]:
        """What the sandbox itself is started with."""
        return {
            "BTSE_API_KEY": API_KEY,
            "BTSE_SECRET_KEY": SECRET_KEY,
            "OSL_APP_ID": APP_ID,
            "OSL_PRIVATE_KEY": private_pem(rsa_key("merchant")),
            "SANDBOX_OSL_PRIVATE_KEY": private_pem(rsa_key("osl")),
        }

    @property
    def btse_url(self) -> str:
        return f"{self.url}/btse"

    @property
    def osl_url(self) -> str:
        return f"{self.url}/osl"

    @property
    def environ(self) -> dict[str, str]:
        """The settings with which the orchestrator talks to this sandbox."""
        return {
            "BTSE_BASE_URL": self.btse_url,
            "BTSE_API_KEY": API_KEY,
            "BTSE_SECRET_KEY": SECRET_KEY,
            "OSL_BASE_URL": self.osl_url,
            "OSL_APP_ID": APP_ID,
            "OSL_PRIVATE_KEY": private_pem(rsa_key("merchant")),
            "OSL_WEBHOOK_PUBLIC_KEY": public_pem(rsa_key("osl")),
        }

    # What it saw ---------------------------------------------------------------------------------------------

    def requests(self, operation: str | None = None, merchant_user_id: str | None = None) -> list[dict[str, Any]]:
        """The requests received, newest last."""
        query = {"operation": operation, "merchantUserId": merchant_user_id}
        found: list[dict[str, Any]] = self._call("GET", "requests", params=query).json()
        return found

    def webhooks(self, merchant_user_id: str | None = None, *, skip: int = 0) -> list[dict[str, Any]]:
        """The webhooks sent, every attempt, newest last, without the `skip` oldest."""
        query = {"merchantUserId": merchant_user_id, "skip": str(skip)}
        found: list[dict[str, Any]] = self._call("GET", "webhooks", params=query).json()
        return found

    def summary(self) -> dict[str, Any]:
        """Counts by operation, shares acted upon, the busiest second of OSL Pay, webhooks."""
        found: dict[str, Any] = self._call("GET", "summary").json()
        return found

    # Levers --------------------------------------------------------------------------------------------------

    def fault(
        self,
        operation: str = "*",
        match: str = "*",
        times: int | None = 1,
        skip: int = 0,
        **fault: Any,
    ) -> None:
        """Inject a fault; `fault`: hangBefore, hangAfter, reset, status, headers, body, contentType, code, msg,
        redirect, drip, huge, act.
        """
        wanted = {"operation": operation, "match": match, "times": times, "skip": skip, "fault": fault}
        self._call("POST", "faults", json=wanted)

    def status_lag(self, seconds: float, match: str = "*") -> None:
        """Every turn of the status query stays unseen for so long."""
        self._call("POST", "faults", json={"match": match, "statusLagSeconds": seconds})

    def clock_offset(self, milliseconds: int) -> None:
        """Put the providers' clock wrong: their `Date` headers and their view of a nonce's age."""
        self._call("POST", "faults", json={"clockOffsetMs": milliseconds})

    def clear_faults(self) -> None:
        """Forget all faults, lags and the clock's offset."""
        self._call("DELETE", "faults")

    def pin_status(self, merchant_user_id: str, kyc_status: str | None, reject_reason: str = "") -> None:
        """The status query says this, whatever the story; None: the user is not known."""
        wanted = {"kycStatus": kyc_status, "rejectReason": reject_reason}
        self._call("POST", f"users/{merchant_user_id}", json=wanted)

    def unpin_status(self, merchant_user_id: str) -> None:
        """The status query follows the story again."""
        self._call("DELETE", f"users/{merchant_user_id}")

    def send_webhook(self, **wanted: Any) -> dict[str, Any]:
        """Send one now, once, and wait for its answer: url or merchantUserId, body or kycStatus, timestamp,
        headers. Gives `status` and `answer` among others.
        """
        sent: dict[str, Any] = self._call("POST", "webhooks", json=wanted).json()
        return sent

    def sign(self, timestamp: int | str | None = None) -> dict[str, str]:
        """Valid webhook headers for a timestamp (default: now)."""
        headers: dict[str, str] = self._call("POST", "sign", json={"timestamp": timestamp}).json()
        return headers

    def stop(self, seconds: float = 10.0) -> int:
        """SIGTERM and wait; gives the exit status."""
        self._session.close()
        if self.process.poll() is None:
            self.process.terminate()
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()
        return status

    def __enter__(self) -> SandboxProcess:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def _call(self, method: str, path: str, **how: Any) -> Response:
        response = self._session.request(method, f"{self.url}/sandbox/{path}", timeout=30, **how)
        if not response.ok:
            raise ValueError(f"{method} {path}: {response.status_code} {response.text}")
        return response
