"""The job that is measured from end to end: users who share by token, two documents of 100 kB each for BTSE Pay.

A merchant's client signs each of them up, sends the documents and submits, over a few connections.
"""

from __future__ import annotations

import io
import json
import random
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from PIL import Image

from benchmarks import sending, stored
from benchmarks.processes import Processes, Settings, wait_for_port
from benchmarks.sending import Conversation
from orchestrator.cli.demo_installation import free_port

CONNECTIONS = 16
DOCUMENTS = ("idFileFront", "selfie")
_BYTES = 100_000


@dataclass(frozen=True)
class Client:
    """A merchant's client of the service at `port`. `token`: of the API."""

    port: int
    token: str

    def begin(self, numbers: Iterable[int]) -> sending.Sent:
        """Sign up, document and submit all of these users."""
        content = picture()
        return sending.converse(self.port, (self._user(number, content) for number in numbers), CONNECTIONS)

    def _user(self, number: int, content: bytes) -> Conversation:
        profile = {**stored.PROFILE, "shareToken": f"share-{number}"}
        data = {"merchantUserId": f"job-{number}", "email": f"job-{number}@example.com", "profile": profile}
        status, answer = yield self._request("POST", "onboardings", json.dumps(data).encode())
        onboarding_id = json.loads(expect(201, status, answer))["id"]
        for kind in DOCUMENTS:
            path = f"onboardings/{onboarding_id}/documents/{kind}"
            status, answer = yield self._request("PUT", path, content, "image/jpeg")
            expect(200, status, answer)
        status, answer = yield self._request("POST", f"onboardings/{onboarding_id}/submit")
        expect(202, status, answer)

    def _request(self, method: str, path: str, body: bytes = b"", media_type: str = "application/json") -> bytes:
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": media_type}
        return sending.request(method, self.port, f"/api/v1/{path}", headers, body)


def start_stub(processes: Processes) -> tuple[int, Settings]:
    """The stub, and the settings of an installation that talks to it: 1024-bit keys, 1,000 requests a second."""
    port = free_port()
    settings = Settings(
        processes.folder,
        bits=1024,
        providers=f"http://127.0.0.1:{port}",
        OSL_REQUESTS_PER_SECOND="1000",
        ORCHESTRATOR_NOTIFY_URL=f"http://127.0.0.1:{port}/merchant",
        ORCHESTRATOR_LOG_LEVEL="WARNING",
    )
    settings.environ["ORCHESTRATOR_NOTIFY_SECRET"] = settings.signup_secret
    run_stub(processes, port, settings)
    return port, settings


def run_stub(processes: Processes, port: int, settings: Settings) -> subprocess.Popen[bytes]:
    """The stub's process, answering."""
    key = processes.folder / "osl.pem"
    key.write_text(settings.environ["SANDBOX_OSL_PRIVATE_KEY"], "utf-8")
    process = processes.spawn("stub", "benchmarks.stub", str(port), str(key), environ={})
    wait_for_port(port)
    return process


@cache
def picture(size: int = _BYTES) -> bytes:
    """A JPEG of so many bytes: a small picture, and something behind it."""
    stream = io.BytesIO()
    Image.effect_noise((64, 64), 60).save(stream, "JPEG", quality=90)
    return stream.getvalue() + random.Random(1).randbytes(size - stream.tell())


def expect(wanted: int, status: int, answer: bytes) -> bytes:
    """The answer, if it has the status that is wanted."""
    if status != wanted:
        raise RuntimeError(f"{status} in place of {wanted}: {answer[:300]!r}")
    return answer
