"""The merchant's receiver of notifications: a real HTTP server that verifies what it is told."""

from __future__ import annotations

import base64
import json
import secrets
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks import Webhook, WebhookVerificationError


def whsec() -> str:
    """A new Standard Webhooks secret."""
    return f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"


@dataclass(frozen=True)
class Notice:
    """One notification as it came in; its signature was right. `answer`: the status it was answered with."""

    at: float
    id: str
    type: str
    data: dict[str, Any]
    answer: int


class MerchantEnd:
    """Takes notifications. `answer` decides the status of each, and may take its time; default 204."""

    def __init__(self) -> None:
        self.secret = whsec()
        self.also: str | None = None
        """A second secret that is accepted."""
        self.answer: Callable[[str, dict[str, Any]], int] = lambda kind, data: 204
        self.notices: list[Notice] = []
        self.faults: list[str] = []
        self._lock = threading.Lock()
        merchant = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                status = merchant._take(dict(self.headers.items()), self._body())
                try:
                    self.send_response(status)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                except OSError:
                    """The sender is gone."""

            def _body(self) -> bytes:
                return self.rfile.read(int(self.headers["Content-Length"]))

            def log_message(self, *words: object) -> None:
                """Quiet."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/kyc"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    def told(self, merchant_user_id: str) -> list[Notice]:
        """What was told of a user and taken with 2xx, in order; what came again under the same id counts once."""
        first: dict[str, Notice] = {}
        for notice in self.arrived(merchant_user_id):
            if 200 <= notice.answer < 300:
                first.setdefault(notice.id, notice)
        return list(first.values())

    def arrived(self, merchant_user_id: str) -> list[Notice]:
        """Every try."""
        with self._lock:
            return [notice for notice in self.notices if notice.data["merchantUserId"] == merchant_user_id]

    def stop(self) -> None:
        """Close the port."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _verify(self, headers: dict[str, str], body: bytes) -> None:
        if self.also is not None:
            with suppress(WebhookVerificationError):
                Webhook(self.also).verify(body, headers)
                return
        Webhook(self.secret).verify(body, headers)

    def _take(self, headers: dict[str, str], body: bytes) -> int:
        at = time.monotonic()
        try:
            self._verify(headers, body)
        except Exception as error:  # noqa: BLE001 - told by the test, which looks at `faults`
            self.faults.append(f"{type(error).__name__}: {error}")
            return 401
        event = json.loads(body)
        status = self.answer(event["type"], event["data"])
        lowered = {name.lower(): value for name, value in headers.items()}
        with self._lock:
            self.notices.append(Notice(at, lowered["webhook-id"], event["type"], event["data"], status))
        return status
