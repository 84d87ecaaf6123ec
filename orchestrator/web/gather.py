"""A gunicorn worker that takes a thread for a request only once the whole request is there.

gunicorn's `gthread` reads head and body in the thread that answers, with no deadline for the body: as many
slow senders as there are threads stop the service. Here the worker's own loop gathers head and body of every
connection without blocking, refuses what is too large or too slow, and hands over what is complete, once the client
has read its last answer. Threads never read from a socket. A connection that ends lingers in the loop too.

Of large bodies few are in threads at once. Requests that begin as the application's `together` (a pattern of bytes)
says are answered in turns by one thread (`lanes`); their answers have to fit into the send buffer.

Memory: besides heads (32 KB) and small bodies (64 KB) the bodies in memory are held to `memory_budget`.
Beyond it large ones are not read on, but for the oldest, so that some always finish; those that merely drip
are dismissed. What counts is what has arrived, not what was declared. TLS and HTTP/2 are left to a proxy in front.
"""

from __future__ import annotations

import errno
import gc
import selectors
import socket
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from email.utils import formatdate
from functools import partial
from typing import Any, ClassVar

from gunicorn.workers.gthread import TConn, ThreadWorker

from orchestrator.web.access_log import discreet
from orchestrator.web.gathering import (
    READ_SIZE,
    AnswerSocket,
    GatheredParser,
    Gathering,
    allow_open_files,
    check_settings,
    refusal_of,
)
from orchestrator.web.lanes import Done, LargeLane, TogetherLane
from orchestrator.web.request_head import BODY_LIMITS, DEFAULT_BODY_LIMIT, BodyLimits, Head, Refusal, asks_for_page

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_ACCEPT_AGAIN = frozenset({errno.EAGAIN, errno.EWOULDBLOCK, errno.ECONNABORTED, errno.EINTR})
_ACCEPT_FULL = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class GatheringWorker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """`--worker-class orchestrator.web.gather.GatheringWorker`. Times in seconds, sizes in bytes."""

    body_limits: ClassVar[BodyLimits] = BODY_LIMITS
    default_body_limit: ClassVar[int] = DEFAULT_BODY_LIMIT
    request_seconds: ClassVar[float] = 10.0  # a head, and a small body with it
    large_request_seconds: ClassVar[float] = 120.0  # head and body together
    small_body: ClassVar[int] = 64 * 1024
    memory_budget: ClassVar[int] = 48 * 1024 * 1024  # per process, of large bodies
    taken_apart: ClassVar[int] = 6_000_000  # of large bodies in threads, which copy them: beyond it the next waits
    linger_seconds: ClassVar[float] = 10.0
    linger_bytes: ClassVar[int] = 32 * 1024 * 1024
    answer_seconds: ClassVar[float] = 30.0  # that a thread waits for a client to take its answer
    sweep_seconds: ClassVar[float] = 0.25
    rest_seconds: ClassVar[float] = 0.001  # that other workers have for their share of many new connections
    stop_seconds: ClassVar[float] = 2.0  # that a request on its way has to arrive once the worker is to stop
    wsgi: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Ordered by age. Connections in a thread or idle between two requests are not in it.
        self._gatherings: dict[Gathering, None] = {}
        self._large: dict[Gathering, None] = {}
        self._held = 0  # bytes of large bodies in memory, those of requests in threads included
        self._large_lane = LargeLane(self.taken_apart, max(1, self.cfg.threads // 2), self.enqueue_req)
        self._together = TogetherLane(
            self.handle,
            lambda done: self.method_queue.defer(self._finish_together, done),
            lambda run: self.tpool.submit(run),  # noqa: PLW0108 - there is no pool yet
        )
        self._accepted, self._rests_until, self._swept_at = 0, 0.0, 0.0
        self._stops_at: float | None = None
        self.cfg.set("sendfile", False)  # it would wait for the client outside of `AnswerSocket.sendall`

    @classmethod
    def check_config(cls, cfg: Any, log: Any) -> None:
        """Refuses settings under which this worker would misread a connection."""
        super().check_config(cfg, log)
        check_settings(cfg)

    def init_process(self) -> None:
        """Makes room for the connections before the loop starts, and keeps credentials out of the access log."""
        self.log.access = discreet(self.log.access)
        allow_open_files(self.worker_connections)
        super().init_process()

    # The loop ----------------------------------------------------------------------------------

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """One turn of the loop, running or stopping: events, then whatever has become due."""
        if self._gatherings:
            timeout = min(timeout, self.sweep_seconds)
        if (rest := self._rests_until - time.monotonic()) > 0:
            timeout = min(timeout, rest)
        super().wait_for_and_dispatch_events(timeout)
        now = time.monotonic()
        if not self.alive:
            self._hurry(now)
        if now - self._swept_at >= self.sweep_seconds:
            self._swept_at = now
            self._sweep(now)

    def set_accept_enabled(self, enabled: bool) -> None:
        """As the base class, but not before this worker has rested."""
        super().set_accept_enabled(enabled and time.monotonic() >= self._rests_until)

    def _hurry(self, now: float) -> None:
        """Stopping: a request that is on its way has a moment to arrive, which no sender can stretch."""
        if self._stops_at is None:
            self._stops_at = now + self.stop_seconds
        for gathering in self._gatherings:
            gathering.deadline = min(gathering.deadline, self._stops_at)

    def accept(self, listener: Any) -> None:
        """A new connection: gathered in the loop, no thread yet."""
        try:
            accepted, address = listener.accept()
        except OSError as error:
            self._accept_failed(error)
            return
        self.nr_conns += 1
        self._let_others_accept()
        sock = AnswerSocket(fileno=accepted.detach())
        conn = TConn(self.cfg, sock, address, listener.getsockname())
        conn.gathering = Gathering(conn)
        self._gather(conn.gathering)

    def _let_others_accept(self) -> None:
        """Whoever is awake gets all connections of a burst, and keeps them: one worker would do the work of all."""
        self._accepted += 1
        if self._accepted % self.cfg.threads == 0:
            self._rests_until = time.monotonic() + self.rest_seconds
            self.set_accept_enabled(False)

    def on_client_socket_readable(self, conn: Any, client: Any) -> None:
        """The next request begins on a connection that was kept alive."""
        self.poller.unregister(client)
        self.keepalived_conns.remove(conn)
        self._gather(conn.gathering)
        self._on_readable(conn.gathering, client)

    def load_wsgi(self) -> None:
        """As the base class. What was loaded stays: looking through it for garbage would stop everybody for long."""
        super().load_wsgi()
        self._count_refused = getattr(self.wsgi, "count_refused", lambda _: None)
        gc.collect()
        gc.freeze()

    def finish_request(self, conn: Any, fs: Future[Any]) -> None:
        """A thread is done with a connection (runs in the loop)."""
        self._finish(conn, not fs.cancelled() and fs.exception() is None and fs.result() is True)

    def _finish_together(self, done: Done) -> None:
        for conn, answered in done:
            self._finish(conn, answered)

    def _finish(self, conn: Any, answered: bool) -> None:
        gathering: Gathering = conn.gathering
        self._discharge(gathering)
        self._large_lane.over(conn)
        # Bytes left over mean that gunicorn saw another request than was gathered: never read on from there.
        if not (answered and conn.parser.unreader.is_drained):
            self._linger(gathering)
            return
        conn.parser = None  # and with it the body
        conn.sock.setblocking(False)
        if gathering.buffer:
            self._gather(gathering)
        else:
            self._keep_alive(conn)

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """gunicorn's own answers to faults, as problem+json; neither log nor answer quotes the request."""
        refusal = refusal_of(exc)
        self._count_refused(refusal.status)
        if refusal.status == 500:
            self.log.error("Error handling a request", exc_info=exc)
        with suppress(OSError):
            client.sendall(refusal.answer(formatdate(usegmt=True)))

    # One connection ----------------------------------------------------------------------------

    def _gather(self, gathering: Gathering) -> None:
        """Await a request; it may lie in the buffer already."""
        now = time.monotonic()
        gathering.begin(now, now + self.request_seconds)
        self._gatherings[gathering] = None
        self._watch(gathering)
        if gathering.buffer:
            self._advance(gathering)

    def _on_readable(self, gathering: Gathering, _sock: Any) -> None:
        if gathering.closed:
            return  # by a callback earlier in the same turn
        try:
            data = gathering.sock.recv(min(gathering.missing, READ_SIZE))
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self._drop(gathering)
        elif gathering.lingering:
            self._discard(gathering, len(data))
        else:
            self._take(gathering, data)

    def _take(self, gathering: Gathering, data: bytes) -> None:
        gathering.take(data, time.monotonic())
        if gathering in self._large:
            self._charge(gathering, len(data))
        self._advance(gathering)

    def _advance(self, gathering: Gathering) -> None:
        """After bytes have come: read the head, hand over, refuse, or wait for more."""
        try:
            head = gathering.head or self._admit(gathering)
        except Refusal as refusal:
            self._refuse(gathering, refusal)
            return
        if head is None or gathering.closed:
            return
        if gathering.missing <= 0 and gathering.sock.is_taken:
            self._hand_over(gathering, head)
        elif gathering.missing <= 0:
            self._unwatch(gathering)  # until it has read its last answer: `_sweep` looks
        elif self._held >= self.memory_budget and gathering in self._large:
            self._pause(gathering)

    def _admit(self, gathering: Gathering) -> Head | None:
        """Looks for the end of the head, and prepares for the body."""
        head = gathering.scan(self.body_limits, self.default_body_limit)
        if head is None or gathering.missing <= 0:
            return head
        if head.length > self.small_body:
            gathering.deadline = gathering.started + self.large_request_seconds
            self._large[gathering] = None
            self._charge(gathering, len(gathering.buffer))
        if head.awaits_continue and not self._sent(gathering, _CONTINUE):
            self._drop(gathering)
        return head

    def _hand_over(self, gathering: Gathering, head: Head) -> None:
        """The request is complete: a thread answers it, reading from memory."""
        self._forget(gathering)
        conn = gathering.conn
        conn.parser = GatheredParser(self.cfg, conn.client, gathering.detach(head))
        conn.initialized = conn.data_ready = True  # `handle` need not wait, nor make a parser over the socket
        together = getattr(self.wsgi, "together", None)
        if head.length > self.small_body:
            # The room is given back before the client takes the answer, which it may do slowly.
            gathering.sock.renew(self.answer_seconds, partial(self.method_queue.defer, self._large_lane.over, conn))
            self._large_lane.add(conn, head.length)
        elif together is not None and together.match(head.raw):
            gathering.sock.keep()
            self._together.add(conn)
        else:
            gathering.sock.renew(self.answer_seconds)
            self.enqueue_req(conn)

    def _keep_alive(self, conn: Any) -> None:
        """Idle until the next request; base class and stop path close it when its time is over."""
        conn.set_timeout()
        if not self.alive:
            conn.timeout = min(conn.timeout, time.monotonic() + 1.0)
        self.keepalived_conns.append(conn)
        callback = partial(self.on_client_socket_readable, conn)
        self.poller.register(conn.sock, selectors.EVENT_READ, callback)

    # Ending a connection -----------------------------------------------------------------------

    def _refuse(self, gathering: Gathering, refusal: Refusal) -> None:
        """Answer from the loop, and close once the client could read the answer."""
        self._count_refused(refusal.status)
        answer = refusal.answer(formatdate(usegmt=True), as_page=asks_for_page(gathering.buffer))
        if self._sent(gathering, answer):
            self._linger(gathering)
        else:
            self._drop(gathering)

    def _sent(self, gathering: Gathering, data: bytes) -> bool:
        """Whether these few bytes fitted into the send buffer; one that is full is not worth waiting for."""
        try:
            return gathering.sock.send(data) == len(data)
        except OSError:
            return False

    def _linger(self, gathering: Gathering) -> None:
        """Say that no more will be sent, then read what still comes: a close with unread bytes in the kernel
        would reset the connection, and the client might lose the answer."""
        self._forget(gathering)
        self._discharge(gathering)
        gathering.buffer = bytearray()
        gathering.conn.parser = gathering.head = None
        gathering.lingering = True
        gathering.started = time.monotonic()
        gathering.deadline = gathering.started + self.linger_seconds
        self._gatherings[gathering] = None
        try:
            gathering.sock.setblocking(False)
            gathering.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._drop(gathering)
            return
        self._watch(gathering)

    def _discard(self, gathering: Gathering, count: int) -> None:
        gathering.discarded += count
        if gathering.discarded > self.linger_bytes:
            self._drop(gathering)

    def _drop(self, gathering: Gathering) -> None:
        """Close at once and free everything."""
        self._forget(gathering)
        self._discharge(gathering)
        gathering.closed = True
        gathering.conn.gathering = gathering.conn.parser = None
        gathering.sock.close()
        self.nr_conns -= 1

    def _forget(self, gathering: Gathering) -> None:
        """The loop no longer looks after this connection; what it holds in memory stays charged."""
        self._unwatch(gathering)
        self._gatherings.pop(gathering, None)
        self._large.pop(gathering, None)
        gathering.paused = False

    # What becomes due, and what is scarce ------------------------------------------------------

    def _sweep(self, now: float) -> None:
        for gathering in [each for each in self._gatherings if now >= each.deadline]:
            if gathering.lingering or not gathering.buffer:
                self._drop(gathering)  # nothing was asked: an answer could only be mistaken for one
            else:
                self._refuse(gathering, Refusal(408, "The request did not arrive in time."))
        for gathering in [each for each in self._gatherings if each.missing <= 0 and not each.lingering]:
            self._advance(gathering)
        if self.nr_conns >= self.worker_connections:
            self._make_room(now, max(1, self.worker_connections // 4))
        if any(each.paused for each in self._large):
            self._resume(now)

    def _make_room(self, now: float, count: int) -> int:
        """Drops up to `count` of the slow ones, oldest first; how many it dropped."""
        slow = [each for each in self._gatherings if each.is_slow(now)][:count]
        for gathering in slow:
            self._drop(gathering)
        return len(slow)

    def _resume(self, now: float) -> None:
        """Memory is short: those that drip make room; then all are read on, or the oldest alone."""
        for gathering in [each for each in self._large if each.is_slow(now)]:
            self._refuse(gathering, Refusal(408, "The request came too slowly while memory was short."))
        for gathering in list(self._large):
            if gathering.paused:
                gathering.resume(now)
                self._watch(gathering)
            if self._held >= self.memory_budget:
                break

    def _pause(self, gathering: Gathering) -> None:
        """Not read on until memory is free, unless it is the oldest: one must always be able to finish."""
        if gathering is not next(iter(self._large)):
            gathering.paused = True
            self._unwatch(gathering)

    def _charge(self, gathering: Gathering, count: int) -> None:
        gathering.charged += count
        self._held += count

    def _discharge(self, gathering: Gathering) -> None:
        self._held -= gathering.charged
        gathering.charged = 0

    def _accept_failed(self, error: OSError) -> None:
        if error.errno in _ACCEPT_FULL:
            if not self._make_room(time.monotonic(), 16):
                time.sleep(0.01)  # nobody to send away: do not spin on a listener that stays readable
        elif error.errno not in _ACCEPT_AGAIN:
            raise error

    def _watch(self, gathering: Gathering) -> None:
        if not gathering.watched:
            callback: Callable[[Any], None] = partial(self._on_readable, gathering)
            self.poller.register(gathering.sock, selectors.EVENT_READ, callback)
            gathering.watched = True

    def _unwatch(self, gathering: Gathering) -> None:
        if gathering.watched:
            self.poller.unregister(gathering.sock)
            gathering.watched = False
