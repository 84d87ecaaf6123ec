"""HTTP requests made beforehand, sent over kept-alive connections: as fast as they are answered, or at a fixed rate.

One thread and one selector, so that sending takes little of the processor that the measured processes share.
"""

from __future__ import annotations

import selectors
import socket
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field

_READ = 65_536
_SILENT_SECONDS = 30.0


Conversation = Generator[bytes, tuple[int, bytes], None]


@dataclass
class Sent:
    """What came of it. `seconds`: in all; `latencies`: of each request, in seconds; `statuses`: how many of each."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)

    @property
    def per_second(self) -> float:
        """Requests answered in a second."""
        return len(self.latencies) / self.seconds


def post(port: int, path: str, headers: dict[str, str], body: bytes) -> bytes:
    """The bytes of one POST request."""
    return request("POST", port, path, {"Content-Type": "application/json", **headers}, body)


def request(method: str, port: int, path: str, headers: dict[str, str], body: bytes = b"") -> bytes:
    """The bytes of one request."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def converse(port: int, conversations: Iterable[Conversation], connections: int) -> Sent:
    """Each connection holds one conversation after the other: what it yields is sent, and the answer sent into it."""
    with _Connections(port, connections) as open_:
        sent, waiting = Sent(), iter(conversations)
        held: dict[_Connection, Conversation] = {}
        began = time.perf_counter()
        for connection in open_.all:
            _open(open_, connection, waiting, held)
        while open_.pending:
            for connection in open_.answered(_SILENT_SECONDS):
                _note(sent, connection, time.perf_counter())
                try:
                    data = held[connection].send((connection.status, connection.body))
                except StopIteration:
                    _open(open_, connection, waiting, held)
                else:
                    open_.send(connection, data, time.perf_counter())
        sent.seconds = time.perf_counter() - began
    return sent


def _open(
    open_: _Connections,
    connection: _Connection,
    waiting: Iterator[Conversation],
    held: dict[_Connection, Conversation],
) -> None:
    conversation = next(waiting, None)
    if conversation is not None:
        held[connection] = conversation
        open_.send(connection, next(conversation), time.perf_counter())


def at_full_speed(port: int, requests: Iterable[bytes], connections: int, seconds: float = float("inf")) -> Sent:
    """Every connection sends the next request when it has its answer, until they are all sent or time is over."""
    with _Connections(port, connections) as open_:
        sent, waiting = Sent(), iter(requests)
        began = time.perf_counter()
        until = began + seconds
        for connection in open_.all:
            _begin(open_, connection, waiting)
        while open_.pending:
            for connection in open_.answered(_SILENT_SECONDS):
                now = time.perf_counter()
                _note(sent, connection, now)
                if now < until:
                    _begin(open_, connection, waiting)
        sent.seconds = time.perf_counter() - began
    return sent


def at_rate(port: int, requests: Iterable[bytes], connections: int, per_second: float) -> Sent:
    """Requests are due at even distances, whatever the answers do; latency counts from the moment they were due."""
    with _Connections(port, connections) as open_:
        sent = Sent()
        idle: deque[_Connection] = deque(open_.all)
        began = time.perf_counter()
        for number, data in enumerate(requests):
            due = began + number / per_second
            while (wait := due - time.perf_counter()) > 0 or not idle:
                for connection in open_.answered(max(0.0, wait) if idle else _SILENT_SECONDS, silently=bool(idle)):
                    _note(sent, connection, time.perf_counter())
                    idle.append(connection)
            open_.send(idle.popleft(), data, due)
        while open_.pending:
            for connection in open_.answered(_SILENT_SECONDS):
                _note(sent, connection, time.perf_counter())
        sent.seconds = time.perf_counter() - began
    return sent


def _begin(open_: _Connections, connection: _Connection, waiting: Iterator[bytes]) -> None:
    data = next(waiting, None)
    if data is not None:
        open_.send(connection, data, time.perf_counter())


def _note(sent: Sent, connection: _Connection, now: float) -> None:
    sent.latencies.append(now - connection.began)
    sent.statuses[connection.status] = sent.statuses.get(connection.status, 0) + 1


class _Connections:
    def __init__(self, port: int, count: int) -> None:
        self._selector = selectors.DefaultSelector()
        self.all = [_Connection(port) for _ in range(count)]
        self.pending = 0
        for connection in self.all:
            self._selector.register(connection.sock, selectors.EVENT_READ, connection)

    def __enter__(self) -> _Connections:
        return self

    def __exit__(self, *error: object) -> None:
        self._selector.close()
        for connection in self.all:
            connection.sock.close()

    def send(self, connection: _Connection, data: bytes, began: float) -> None:
        self.pending += 1
        connection.send(data, began)

    def answered(self, seconds: float, silently: bool = False) -> list[_Connection]:
        """Those whose answer is complete, after `seconds` at most; raises TimeoutError when nothing came."""
        ready = self._selector.select(seconds)
        if not ready and not silently:
            raise TimeoutError("no answer came")
        done = [key.data for key, _ in ready if key.data.receive()]
        self.pending -= len(done)
        return done


class _Connection:
    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.began = 0.0
        self.status, self.body = 0, b""
        self._received = b""

    def send(self, data: bytes, began: float) -> None:
        self.began, self._received = began, b""
        self.sock.sendall(data)

    def receive(self) -> bool:
        """Whether the answer is complete."""
        data = self.sock.recv(_READ)
        if not data:
            raise ConnectionError("the connection was closed")
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found:
            return False
        lower = head.lower()
        at = lower.find(b"content-length:")
        length = int(lower[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(body) < length:
            return False
        self.status, self.body = int(head[9:12]), body
        return True
