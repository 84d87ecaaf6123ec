"""Connections that keep one deadline for a whole call: connecting, TLS, sending and reading together.

`requests` and urllib3 count the time of each read on its own, so a server that drips a byte a second holds a
call for as long as it likes. Here every socket operation gets what is left of the call, at the lowest place
there is: the socket itself. Nothing is sent once the deadline has passed (only the system's name lookup,
which takes no time limit, can make the caller wait beyond it).

The call in flight is held in a ContextVar, because urllib3 offers no way to hand it down to a pooled
connection.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import NewConnectionError

LONGEST_CONNECT_SECONDS = 10.0
# Many servers close an idle connection after five seconds; a request that meets the close looks like a reset.
LONGEST_IDLE_SECONDS = 4.0
_IDLE_CONNECTIONS = 64
"""That are kept for one place: as many as a process has threads, and more."""


@dataclass
class Call:
    """One call in flight, seen by the thread that makes it only.

    `ends_at`: its deadline on the monotonic clock, in seconds. `headers`: asked for when the connection
    stands and the next thing to happen is sending. `sending`: whether a byte of the request may have left.
    `sent_at_ms`: when all of it had.
    """

    ends_at: float
    headers: Callable[[], Mapping[str, str]]
    now_ms: Callable[[], int]
    sending: bool = False
    sent_at_ms: int | None = None


CALL: ContextVar[Call] = ContextVar("CALL")


def seconds_left() -> float:
    """What is left of the call in flight, more than 0. Raises TimeoutError when nothing is."""
    left = CALL.get().ends_at - time.monotonic()
    if left <= 0:
        raise TimeoutError("the deadline of the call has passed")
    return left


class _Socket(socket.socket):
    """A plain socket whose every operation may take what is left of the call."""

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        self.settimeout(seconds_left())
        return super().recv_into(buffer, nbytes, flags)

    def recv(self, bufsize: int, flags: int = 0) -> bytes:
        self.settimeout(seconds_left())
        return super().recv(bufsize, flags)

    def sendall(self, data: Any, flags: int = 0) -> None:
        self.settimeout(seconds_left())
        super().sendall(data, flags)


class _TlsSocket(ssl.SSLSocket):
    """The same for TLS; `read` and `send` are what its `recv_into` and `sendall` are made of."""

    def do_handshake(self, block: bool = False) -> None:
        self.settimeout(seconds_left())
        super().do_handshake(block)

    def read(self, len: int = 1024, buffer: Any = None) -> Any:  # noqa: A002 - as in SSLSocket
        self.settimeout(seconds_left())
        return super().read(len, buffer)

    def send(self, data: Any, flags: int = 0) -> int:
        self.settimeout(seconds_left())
        return super().send(data, flags)


class _Connection(HTTPConnection):
    _last_used = 0.0

    @property
    def is_connected(self) -> bool:
        """Whether the pool may use this connection again: open, nothing to read on it, not idle for long."""
        return super().is_connected and time.monotonic() - self._last_used < LONGEST_IDLE_SECONDS

    def _new_conn(self) -> socket.socket:
        try:
            addresses = socket.getaddrinfo(self._dns_host, self.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise NewConnectionError(self, "the host's name has no address") from error
        last: OSError | None = None
        for position, (family, kind, protocol, _, address) in enumerate(addresses):
            try:
                # A dead first address must leave time for the others.
                share = seconds_left() / (len(addresses) - position)
                return _connected(_Socket(family, kind, protocol), address, min(share, LONGEST_CONNECT_SECONDS))
            except OSError as error:
                last = error
        raise NewConnectionError(self, "no address of the host takes connections") from last

    def request(  # type: ignore[override]
        self,
        method: str,
        url: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        **framing: Any,
    ) -> None:
        if self.sock is None:
            self.connect()
        call = CALL.get()
        own = {**(headers or {}), **call.headers()}
        call.sending = True
        self._last_used = time.monotonic()
        super().request(method, url, body=body, headers=own, **framing)
        call.sent_at_ms = call.now_ms()


def _connected(sock: socket.socket, address: Any, timeout: float) -> socket.socket:
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.settimeout(timeout)
        sock.connect(address)
    except OSError:
        sock.close()
        raise
    return sock


class _TlsConnection(_Connection, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls: Any = _Connection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls: Any = _TlsConnection


_POOLS = {"http": _Pool, "https": _TlsPool}


def tls_context(ca_file: str) -> ssl.SSLContext:
    """A client's TLS context that trusts the PEM file `ca_file` and keeps the deadline of the call."""
    context = ssl.create_default_context(cafile=ca_file)
    context.sslsocket_class = _TlsSocket
    return context


class DeadlineAdapter(HTTPAdapter):
    """An adapter of `requests` whose connections all keep the deadline."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        super().__init__(pool_maxsize=_IDLE_CONNECTIONS, max_retries=0)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **options: Any) -> None:
        """As in requests, with connections that keep the deadline."""
        super().init_poolmanager(connections, maxsize, block, ssl_context=self._context, **options)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        """As in requests, with connections that keep the deadline."""
        manager = super().proxy_manager_for(
            proxy, ssl_context=self._context, proxy_ssl_context=self._context, **options
        )
        manager.pool_classes_by_scheme = _POOLS
        return manager

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        """Nothing to do: the context verifies, and loading the bundle again would cost 20 ms a connection."""
