"""Stands between the service and the sandbox, and writes down what OSL Pay's status query really answered.

What a query says of a user can be set (`truth`); everything else is the sandbox's own answer.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_STATUS = "/status/query"
_HOP = {"host", "connection", "content-length", "transfer-encoding"}


@dataclass
class WatchedProvider:
    """`answers`: by merchantUserId, when (unix ms) each query was answered with which status; `most_in_flight`: how
    many queries about one user were open at once, at most."""

    url: str
    seconds: Callable[[], float]
    sandbox_port: int = 0
    truth: dict[str, str | None] = field(default_factory=dict)
    answers: dict[str, list[tuple[int, str | None]]] = field(default_factory=lambda: defaultdict(list))
    most_in_flight: int = 0
    in_flight: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def last_answer(self, name: str, at: int) -> str | None:
        """What the newest query about a user that was answered until `at` (unix ms) said."""
        with self.lock:
            return next((said for when, said in reversed(self.answers[name]) if when <= at), None)

    def asked(self) -> int:
        """How many queries were answered."""
        with self.lock:
            return sum(len(answers) for answers in self.answers.values())

    def began(self, name: str) -> None:
        """A query about this user arrived."""
        with self.lock:
            self.in_flight[name] += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight[name])

    def ended(self, name: str, said: str | None) -> None:
        """It is about to be answered."""
        with self.lock:
            self.in_flight[name] -= 1
            self.answers[name].append((time.time_ns() // 1_000_000, said))


def _forwarding(watched: Callable[[], WatchedProvider]) -> type[BaseHTTPRequestHandler]:
    class Forward(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP}
            if not self.path.endswith(_STATUS):
                self._answer(*self._ask(body, headers))
                return
            provider, name = watched(), json.loads(body)["merchantUserId"]
            provider.began(name)
            said: str | None = None
            try:
                status, kind, answer = self._ask(body, headers)
                time.sleep(provider.seconds())
                answer, said = _told(answer, provider, name)
            finally:
                provider.ended(name, said)
            self._answer(status, kind, answer)

        def _ask(self, body: bytes, headers: dict[str, str]) -> tuple[int, str, bytes]:
            connection = http.client.HTTPConnection("127.0.0.1", watched().sandbox_port, timeout=30)
            try:
                connection.request("POST", self.path, body, headers)
                answer = connection.getresponse()
                return answer.status, answer.getheader("Content-Type", ""), answer.read()
            finally:
                connection.close()

        def _answer(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    return Forward


def _told(answer: bytes, provider: WatchedProvider, name: str) -> tuple[bytes, str | None]:
    """The sandbox's answer with what is to be said of this user, and what that is."""
    envelope: dict[str, Any] = json.loads(answer)
    data = envelope.get("data")
    if name in provider.truth and data is not None:
        said = provider.truth[name]
        envelope["data"] = None if said is None else data | {"kycStatus": said, "rejectReason": ""}
    found = envelope.get("data")
    return json.dumps(envelope).encode(), found["kycStatus"] if found else None


@contextmanager
def watched_provider(seconds: Callable[[], float]) -> Iterator[WatchedProvider]:
    """One whose `sandbox_port` is still to be set; `seconds()`: how long a query takes beside."""
    made: list[WatchedProvider] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), _forwarding(lambda: made[0]))
    server.daemon_threads = True
    made.append(WatchedProvider(f"http://127.0.0.1:{server.server_port}", seconds))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield made[0]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
