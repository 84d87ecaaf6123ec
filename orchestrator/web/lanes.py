"""Which complete requests are answered when: small ones many at a time in one thread, large ones few at a time."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from orchestrator.turns import in_turns

MOST_TOGETHER = 64
"""Requests that one thread answers in turns; the next ones wait until the last of them has its answer."""

Done = list[tuple[Any, bool]]
"""Connections whose request was answered, and whether it may bring another."""


class TogetherLane:
    """Requests that wait for nothing but the database, answered in turns by one thread, all that are there at once.

    `answer`: a connection's request, its socket keeps the answer; whether it may bring another. `finish`: called in
    that thread. `in_thread`: has what it is given run in a thread.
    """

    def __init__(
        self,
        answer: Callable[[Any], bool],
        finish: Callable[[Done], None],
        in_thread: Callable[[Callable[[], None]], object],
    ) -> None:
        self._answer, self._finish, self._in_thread = answer, finish, in_thread
        self._arrived: deque[Any] = deque()
        self._runs = False
        self._lock = threading.Lock()

    def add(self, conn: Any) -> None:
        """One more; returns at once."""
        with self._lock:
            self._arrived.append(conn)
            starts, self._runs = not self._runs, True
        if starts:
            self._in_thread(self._run)

    def _run(self) -> None:
        while batch := self._take():
            done: Done = []
            in_turns([partial(self._answer_one, conn, done) for conn in batch])
            self._finish(done)

    def _answer_one(self, conn: Any, done: Done) -> None:
        answered = self._answer(conn)
        done.append((conn, conn.sock.give() and answered))

    def _take(self) -> list[Any]:
        with self._lock:
            batch = [self._arrived.popleft() for _ in range(min(len(self._arrived), MOST_TOGETHER))]
            self._runs = bool(batch)
        return batch


class LargeLane:
    """At most `most` are begun and not over, and none beside those that fill `room`; the others wait in line, and hold
    no thread.

    For one thread. `begin`: called with what is begun.
    """

    def __init__(self, room: int, most: int, begin: Callable[[Any], None]) -> None:
        self._room, self._most, self._begin = room, most, begin
        self._begun: dict[Any, int] = {}
        self._waiting: deque[tuple[Any, int]] = deque()

    def add(self, one: Any, size: int) -> None:
        """Begin it as soon as there is room."""
        self._waiting.append((one, size))
        self._begin_next()

    def over(self, one: Any) -> None:
        """There is room for others, unless that was said already, or it was never begun."""
        if self._begun.pop(one, None) is not None:
            self._begin_next()

    def _begin_next(self) -> None:
        while self._waiting and len(self._begun) < self._most and sum(self._begun.values()) < self._room:
            one, size = self._waiting.popleft()
            self._begun[one] = size
            self._begin(one)
