"""One connection of `gather.GatheringWorker`: what has arrived of it, and what its threads may touch.

A thread is given a request that lies in memory as a whole (`GatheredUnreader`) and a socket that it can only
write to for a limited time (`AnswerSocket`): neither a sender nor a reader can hold it.
"""

from __future__ import annotations

import errno
import fcntl
import resource
import socket
import termios
from collections.abc import Callable
from time import monotonic
from typing import Any

from gunicorn.http import errors
from gunicorn.http.parser import RequestParser
from gunicorn.http.unreader import Unreader

from orchestrator.web.request_head import BodyLimits, Head, Refusal, find_head, read_head

READ_SIZE = 256 * 1024
"""Bytes taken from a socket in one turn of the loop, so that a fast sender does not keep others waiting."""

PACE_BYTES = 64 * 1024
PACE_SECONDS = 5.0
"""A sender is slow when it brought fewer than `PACE_BYTES` in the last `PACE_SECONDS`."""

RESUMED_SECONDS = 1.0
"""The first `PACE_BYTES` after a pause have to come within this: meanwhile they gathered in the kernel."""

HEAD_PACE_SECONDS = 1.0
"""A head is slow when it is not complete after so long: it fits into a few packets."""

_PIECE = 64 * 1024
_SPARE_FILES = 512
"""File descriptors beyond the connections: databases, documents, calls to providers."""


_FAULTS: tuple[tuple[type[Exception], int, str], ...] = (
    (errors.LimitRequestLine, 414, "The request line is too long."),
    (errors.LimitRequestHeaders, 431, "There are too many header fields, or one is too long."),
    (errors.ParseException, 400, "The request is not well formed."),
)


def refusal_of(fault: BaseException) -> Refusal:
    """What a client is told of a fault while its request was read or answered. 500: it is ours."""
    known = (Refusal(status, detail) for kind, status, detail in _FAULTS if isinstance(fault, kind))
    return next(known, Refusal(500, "The request could not be answered."))


def check_settings(cfg: Any) -> None:
    """Raises RuntimeError for gunicorn's settings under which a connection would be misread."""
    if cfg.is_ssl:
        raise RuntimeError("GatheringWorker speaks no TLS: leave certfile and keyfile to the proxy in front.")
    if str(getattr(cfg, "proxy_protocol", "off")).lower() not in {"off", "false", "none"}:
        raise RuntimeError("GatheringWorker does not speak the PROXY protocol.")
    if getattr(cfg, "http2_cleartext", "off") != "off" or "h2" in getattr(cfg, "http_protocols", ()):
        raise RuntimeError("GatheringWorker speaks HTTP/1.1 only.")
    if getattr(cfg, "permit_obsolete_folding", False) or getattr(cfg, "strip_header_spaces", False):
        raise RuntimeError("GatheringWorker needs gunicorn's strict reading of header fields.")


def allow_open_files(connections: int) -> None:
    """Let this process hold so many connections and some files more, as far as it may."""
    wanted = connections + _SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        ceiling = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (ceiling, hard))


class AnswerSocket(socket.socket):
    """The client's socket. A thread waits for a limited time for it to take one answer, or not at all."""

    _left = 0.0
    _tell: Callable[[], None] | None = None
    _kept: bytearray | None = None

    @property
    def is_taken(self) -> bool:
        """Whether the client has all that was sent to it; one that does not read gets no more answers."""
        unsent = bytearray(4)
        fcntl.ioctl(self.fileno(), termios.TIOCOUTQ, unsent)
        return not any(unsent)

    def renew(self, seconds: float, tell: Callable[[], None] | None = None) -> None:
        """A new answer is awaited, that may take `seconds` in all to be taken; `tell` is called when it begins."""
        self._left, self._tell = seconds, tell

    def keep(self) -> None:
        """A new answer is awaited, that is kept until `give`."""
        self._kept = bytearray()

    def give(self) -> bool:
        """Send what was kept; whether it fitted into the send buffer. One that is full is not worth waiting for."""
        kept, self._kept = self._kept or b"", None
        try:
            return self.send(kept, socket.MSG_DONTWAIT) == len(kept)
        except OSError:
            return False

    def sendall(self, data: Any, flags: int = 0, /) -> None:
        """As the base's, but given up with EPIPE, which gunicorn takes quietly for a client that left."""
        if self._kept is not None:
            self._kept += data
            return
        if self._tell is not None:
            self._tell()
            self._tell = None
        began = monotonic()
        # A time-out counts for the whole of one sendall; gunicorn's setblocking(True) has undone the last.
        self.settimeout(max(self._left, 0.001))
        try:
            super().sendall(data, flags)
        except TimeoutError:
            raise BrokenPipeError(errno.EPIPE, "the client did not take the answer in time") from None
        finally:
            self._left -= monotonic() - began


class GatheredUnreader(Unreader):  # type: ignore[misc]  # gunicorn has no types
    """Where gunicorn's parser reads one gathered request from. It ends where the request ends.

    Should gunicorn ever see a longer request than was gathered it meets an end of file, not the socket;
    should it see a shorter one, `is_drained` stays false. Either closes the connection.
    """

    def __init__(self, head: bytes, body: bytearray, start: int, end: int) -> None:
        super().__init__()
        self._head = head
        self._body, self._at, self._end = body, start, end

    def chunk(self, size_hint: int | None = None) -> bytes:
        """The head, then the body in pieces: 64 KB, or what the caller says it still wants, up to 1 MB."""
        if self._head:
            head, self._head = self._head, b""
            return head
        begin = self._at
        self._at = min(self._end, begin + min(max(size_hint or 0, _PIECE), 16 * _PIECE))
        with memoryview(self._body) as view:
            return bytes(view[begin : self._at])

    @property
    def is_drained(self) -> bool:
        """Whether all that was gathered has been read and used."""
        return not self._head and self._at == self._end and not self.buf.getvalue()


class GatheredParser(RequestParser):  # type: ignore[misc]  # gunicorn has no types
    """Reads one gathered request."""

    def __init__(self, cfg: Any, client: Any, unreader: GatheredUnreader) -> None:
        super().__init__(cfg, (), client)
        self.unreader = unreader

    def finish_body(self, deadline: float | None = None, max_bytes: int | None = None) -> bool:
        """What the application did not read lies in memory: however much it is, the connection can be used again."""
        return bool(super().finish_body())


class Gathering:
    """What has arrived on one connection. Belongs to the loop's thread; times are monotonic seconds."""

    def __init__(self, conn: Any) -> None:
        self.conn = conn
        self.sock: AnswerSocket = conn.sock
        self.buffer = bytearray()
        self.charged = 0  # bytes of the worker's memory budget
        self.watched = self.paused = self.lingering = self.closed = False
        self.discarded = 0  # bytes read and thrown away while lingering
        self.begin(0.0, 0.0)

    def begin(self, now: float, deadline: float) -> None:
        """A new request is awaited; the buffer may hold its beginning already (pipelining)."""
        self.head: Head | None = None
        self.started = self.paced_at = now
        self.deadline = deadline
        self._searched = self._paced = 0

    def scan(self, limits: BodyLimits, default: int) -> Head | None:
        """The head once it is complete; refuses what `request_head` refuses."""
        if self.buffer == b"\r":
            return None
        if not self._searched and self.buffer.startswith(b"\r\n"):
            del self.buffer[:2]  # RFC 9112, 2.2: an empty line before a request is ignored
        size = find_head(self.buffer, self._searched)
        self._searched = len(self.buffer)
        self.head = read_head(bytes(self.buffer[:size]), limits, default) if size else None
        return self.head

    def take(self, data: bytes, now: float) -> None:
        """More bytes of the request."""
        self.buffer += data
        if len(self.buffer) - self._paced >= PACE_BYTES:
            self._paced, self.paced_at = len(self.buffer), now

    def resume(self, now: float) -> None:
        """Read on after a pause."""
        self.paused = False
        self._paced, self.paced_at = len(self.buffer), now - PACE_SECONDS + RESUMED_SECONDS

    @property
    def missing(self) -> int:
        """Bytes of the request still to come; `READ_SIZE` while its head is incomplete."""
        return READ_SIZE if self.head is None else self.head.size + self.head.length - len(self.buffer)

    def is_slow(self, now: float) -> bool:
        """Whether this one has to go first when room is short."""
        if self.paused:
            return False
        if self.head is None or self.lingering:
            return now - self.started > HEAD_PACE_SECONDS
        return now - self.paced_at > PACE_SECONDS

    def detach(self, head: Head) -> GatheredUnreader:
        """The complete request; what was sent behind it stays for the next one."""
        end = head.size + head.length
        request, self.buffer = self.buffer, self.buffer[end:]
        return GatheredUnreader(head.raw, request, head.size, end)
