"""A TCP server that behaves as a test tells it to, down to the single byte."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


@dataclass(frozen=True)
class Received:
    """One request as it came. Header names in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


class Peer:
    """The server's end of one connection."""

    def __init__(self, connection: socket.socket, stopping: threading.Event) -> None:
        self._connection = connection
        self._buffer = b""
        self._stopping = stopping
        self.sent = 0

    def read(self) -> Received | None:
        """The next request; None when the client has closed the connection."""
        while b"\r\n\r\n" not in self._buffer:
            if not self._more():
                return None
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", "0"))
        while len(self._buffer) < length:
            if not self._more():
                return None
        body, self._buffer = self._buffer[:length], self._buffer[length:]
        method, target, _ = first.split(" ", 2)
        return Received(method, target, headers, body)

    def _more(self) -> bool:
        chunk = self._connection.recv(65_536)
        self._buffer += chunk
        return bool(chunk)

    def send(self, data: bytes) -> None:
        self._connection.sendall(data)
        self.sent += len(data)

    def drip(self, data: bytes, seconds: float) -> None:
        """One byte every `seconds`, without end."""
        position = 0
        while not self._stopping.wait(seconds):
            self.send(data[position % len(data) :][:1])
            position += 1

    def stall(self) -> None:
        """Nothing more, and the connection stays open."""
        self._stopping.wait()

    def reset(self) -> None:
        """Close with RST."""
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._connection.close()


def self_signed(path: Path) -> ssl.SSLContext:
    """A server's TLS for 127.0.0.1; its certificate, for which nobody else vouches, is in the file `path`."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "scripted")])
    start = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM) + private)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


Behaviour = Callable[[Peer, Received], None]


@dataclass
class ScriptedServer:
    """`received`: all requests in order; `connections`: how many were accepted."""

    url: str
    received: list[Received] = field(default_factory=list)
    connections: int = 0
    peers: list[Peer] = field(default_factory=list)


def answer(status: int = 200, body: bytes = b"", **headers: str) -> bytes:
    """A whole HTTP answer; header names with `_` for `-`."""
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def answering(*answers: bytes) -> Behaviour:
    """Gives these answers one after the other, the last one again and again."""
    left = list(answers)

    def behave(peer: Peer, _: Received) -> None:
        peer.send(left.pop(0) if len(left) > 1 else left[0])

    return behave


@contextlib.contextmanager
def scripted_server(behave: Behaviour, tls: ssl.SSLContext | None = None) -> Iterator[ScriptedServer]:
    """Serves on a free port of 127.0.0.1 until left. `behave` is called once for each request."""
    stopping = threading.Event()
    threads: list[threading.Thread] = []
    sockets: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        scheme = "https" if tls else "http"
        server = ScriptedServer(f"{scheme}://127.0.0.1:{listener.getsockname()[1]}")

        def accept() -> None:
            while not stopping.is_set():
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                sockets.append(connection)
                thread = threading.Thread(target=converse, args=(connection,), daemon=True)
                threads.append(thread)
                thread.start()

        def converse(plain: socket.socket) -> None:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = plain
            with contextlib.suppress(OSError):
                try:
                    server.connections += 1
                    connection = tls.wrap_socket(plain, server_side=True) if tls else plain
                    sockets.append(connection)  # wrapping has taken the plain one's descriptor
                    peer = Peer(connection, stopping)
                    server.peers.append(peer)
                    while not stopping.is_set() and (request := peer.read()):
                        server.received.append(request)
                        behave(peer, request)
                finally:
                    connection.close()
                    plain.close()

        acceptor = threading.Thread(target=accept, daemon=True)
        acceptor.start()
        try:
            yield server
        finally:
            stopping.set()
            for open_socket in (listener, *sockets):
                with contextlib.suppress(OSError):
                    open_socket.shutdown(socket.SHUT_RDWR)
            for thread in (acceptor, *threads):
                thread.join(5)
