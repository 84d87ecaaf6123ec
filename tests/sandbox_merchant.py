"""A merchant for tests of the sandbox: signs and encrypts by hand, and takes webhooks on a real port."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import requests

from orchestrator.signatures import (
    MultipartMessage,
    SignEncoding,
    btse_message,
    btse_multipart_message,
    btse_sign,
    osl_encrypt,
    osl_sign,
)
from tests.sandbox_process import API_KEY, APP_ID, SECRET_KEY, SandboxProcess, rsa_key

JPEG, PNG, PDF = b"\xff\xd8\xff\xe0 a photo", b"\x89PNG\r\n\x1a\n a scan", b"%PDF-1.7 a report"
CLOSE = {"Connection": "close"}
"""An answer that a test still holds would keep its connection open, and the sandbox would wait for it to stop."""
GONE = object()
"""As a changed value: leave the field out."""

_numbers = iter(range(1, 1_000_000))


def now() -> str:
    return str(time.time_ns() // 1_000_000)


def changed(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with some values replaced, added, or left out."""
    return {name: value for name, value in {**base, **changes}.items() if value is not GONE}


@dataclass
class Merchant:
    """One user of a merchant, and the calls made for them; each user has a document of their own."""

    sandbox: SandboxProcess
    story: str = "pass"
    sign_encoding: SignEncoding = "hex"
    multipart_message: MultipartMessage = "fields"
    number: int = field(default_factory=lambda: next(_numbers))

    @property
    def user(self) -> str:
        return f"u-{self.number}"

    @property
    def email(self) -> str:
        return f"{self.story}+{self.number}@example.com"

    # BTSE Pay

    def btse(self, method: str, path: str, headers: Mapping[str, Any] | None = None, **how: Any) -> requests.Response:
        """Signs what `requests` is about to send; `headers` replace the right ones."""
        url = f"{self.sandbox.btse_url}/payment/pay-api/v1/user/{path}"
        request = requests.Request(method, url, **how).prepare()
        body = request.body if isinstance(request.body, bytes) else (request.body or "").encode()
        nonce = str((headers or {}).get("nonce", now()))
        wire_path = urlsplit(url).path
        if "files" in how:
            message = btse_multipart_message(wire_path, nonce, how["data"], self.multipart_message)
        else:
            message = btse_message(wire_path, nonce, body)
        right = {"api": API_KEY, "nonce": nonce, "sign": btse_sign(SECRET_KEY, message, self.sign_encoding)}
        request.headers.update(changed({**CLOSE, **right}, headers or {}))
        with requests.Session() as session:
            return session.send(request, timeout=20, allow_redirects=False)

    def upload(
        self,
        fields: Mapping[str, Any] | None = None,
        files: Mapping[str, Any] | None = None,
        headers: Mapping[str, Any] | None = None,
    ) -> requests.Response:
        text = {
            "email": self.email,
            "firstName": "Ana",
            "lastName": "Lee",
            "idNumber": f"K{self.number}",
            "idType": "7",
            "merchantUserId": self.user,
            "nationality": "HKG",
        }
        parts = {"idFileFront": ("front.jpg", JPEG), "selfie": ("selfie.png", PNG)}
        return self.btse("POST", "kyc", headers, data=changed(text, fields or {}), files=changed(parts, files or {}))

    def authorization(self) -> requests.Response:
        return self.btse("GET", "authorization", params={"merchantUserId": self.user})

    # OSL Pay

    def osl(
        self, path: str, headers: Mapping[str, Any] | None = None, timeout: float = 20, **how: Any
    ) -> requests.Response:
        timestamp = str((headers or {}).get("timestamp", now()))
        signature = osl_sign(rsa_key("merchant"), APP_ID, timestamp)
        right = {**CLOSE, "appId": APP_ID, "timestamp": timestamp, "signature": signature}
        url = f"{self.sandbox.osl_url}/api/v1/user/kyc/{path}"
        with requests.Session() as session:
            sent = changed(right, headers or {})
            return session.post(url, headers=sent, timeout=timeout, allow_redirects=False, **how)

    def file_url(self, data: bytes = JPEG) -> str:
        answer = self.osl("upload-file", files={"file": ("file", data)}).json()
        url: str = answer["data"]
        return url

    def share_body(
        self,
        callback_url: str | None,
        top: Mapping[str, Any] | None = None,
        info: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """A right body with some plaintext values changed; everything is encrypted afterwards."""
        whole = {
            "email": self.email,
            "kycType": "USER",
            "registerTime": "2026-11-22 10:00:00",
            "ip": "203.0.113.7",
            "merchantUserId": self.user,
            "deviceId": "d-1",
        }
        identity = {
            "shareType": "fileShare",
            "accountPurpose": "payments",
            "monthSpend": "0-1000",
            "sourceFunds": "salary",
            "occupation": "engineer",
            "firstName": "Ana",
            "lastName": "Lee",
            "idType": "PASSPORT",
            "idCountry": "HKG",
            "idNumber": f"K{self.number}",
            "nationality": "HKG",
            "residentialCountry": "HKG",
        }
        if "frontFileUrl" not in (info or {}):
            identity["frontFileUrl"] = self.file_url()
        if "selfieFileUrl" not in (info or {}):
            identity["selfieFileUrl"] = self.file_url(PNG)
        body = encrypted(changed(whole, top or {}))
        body["kycIdentityInfoVo"] = encrypted(changed(identity, info or {}))
        if callback_url is not None:
            body["callbackUrl"] = callback_url
        return body

    def share(
        self,
        callback_url: str | None = None,
        top: Mapping[str, Any] | None = None,
        info: Mapping[str, Any] | None = None,
    ) -> requests.Response:
        return self.osl("share", json=self.share_body(callback_url, top, info))

    def ask(self) -> requests.Response:
        return self.osl("status/query", json={"merchantUserId": self.user})

    def standing(self) -> str | None:
        """The kycStatus of the status query; None: OSL Pay does not know the user."""
        data = self.ask().json()["data"]
        status: str | None = data and data["kycStatus"]
        return status


def encrypted(fields: Mapping[str, str]) -> dict[str, Any]:
    return {name: osl_encrypt(rsa_key("osl").public_key(), value) for name, value in fields.items()}


@dataclass(frozen=True)
class Arrival:
    """One webhook as it arrived: monotonic seconds, path, headers, raw body."""

    at: float
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def data(self) -> dict[str, Any]:
        data: dict[str, Any] = json.loads(self.body)["data"]
        return data

    @property
    def status(self) -> str:
        return str(self.data["kycStatus"])

    @property
    def timestamp(self) -> int:
        return int(self.headers["timestamp"])


class Receiver:
    """A merchant's callback address. `answer` decides the HTTP status of each arrival (default 200)."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.arrivals: list[Arrival] = []
        self.answer: Callable[[Arrival], int] = lambda arrival: 200
        self._changed = threading.Condition()

    def take(self, arrival: Arrival) -> int:
        status = self.answer(arrival)
        with self._changed:
            self.arrivals.append(arrival)
            self._changed.notify_all()
        return status

    def at(self, path: str) -> list[Arrival]:
        """What arrived at one path so far."""
        with self._changed:
            return [arrival for arrival in self.arrivals if arrival.path == path]

    def wait(self, path: str, count: int, seconds: float = 10.0) -> list[Arrival]:
        """Wait until so many arrived at `path`."""
        with self._changed:
            enough = self._changed.wait_for(
                lambda: sum(arrival.path == path for arrival in self.arrivals) >= count, seconds
            )
        assert enough, f"only {len(self.at(path))} of {count} webhooks came to {path}"
        return self.at(path)


@contextmanager
def receiver() -> Iterator[Receiver]:
    """A real HTTP server on a free port."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            names = ("appId", "timestamp", "signature", "Content-Type")
            headers = {name: self.headers[name] for name in names}
            status = taking.take(Arrival(time.monotonic(), self.path, headers, body))
            answer = b'{"code": "00000", "msg": "success"}'
            self.send_response(status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *words: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    taking = Receiver(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield taking
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
