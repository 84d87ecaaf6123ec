"""`examples/merchant` as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

import requests

from tests.installation import CHECKOUT, free_port, http
from tests.launch import NO_DEPRECATED
from tests.merchant_end import whsec
from tests.waiting import until

EXAMPLE = CHECKOUT / "examples" / "merchant" / "merchant.py"


class ExampleMerchant:
    """The example's port and secrets first; `start` once it is known whom it signs users up at."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.signup_secret, self.notify_secret = whsec(), whsec()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, orchestrator_url: str) -> None:
        """Start it, and wait until it answers."""
        environ = {
            "PATH": os.environ["PATH"],
            **NO_DEPRECATED,
            "VERIFICATION_URL": orchestrator_url,
            "SIGNUP_SECRET": self.signup_secret,
            "NOTIFY_SECRET": self.notify_secret,
            "MERCHANT_DATABASE": str(self.folder / "merchant.db"),
        }
        words = [sys.executable, "-m", "flask", "--app", str(EXAMPLE), "run", "--port", str(self.port)]
        with (self.folder / "merchant.log").open("ab") as log:
            self._process = subprocess.Popen(words, cwd=self.folder, env=environ, stdout=log, stderr=log)
        until(self._answers)

    def sign_up(self, email: str, expect: int = 201) -> dict[str, Any]:
        """The signup form, sent by a program."""
        answer = http("POST", f"{self.url}/users", data={"email": email})
        assert answer.status_code == expect, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def user(self, number: int) -> dict[str, Any]:
        """What it knows of a user."""
        found: dict[str, Any] = http("GET", f"{self.url}/users/{number}").json()
        return found

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)

    def __enter__(self) -> ExampleMerchant:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _answers(self) -> bool:
        try:
            return http("GET", f"{self.url}/").status_code == 200
        except requests.RequestException as error:
            raise AssertionError(f"{error}\n{(self.folder / 'merchant.log').read_text()}") from error
