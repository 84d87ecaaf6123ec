"""Writes of many threads, taken in groups that are committed together.

A group waits a moment for threads that may want to write soon: a sync serves more of them, and a write is cheapest
while nobody else of the process computes. It waits for those alone who were there when it began.
"""

from __future__ import annotations

import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from orchestrator.errors import StoreUnavailable

SIZE = 64
"""Writes that are committed together at most, so that no process keeps the others waiting for long."""
PATIENCE = 0.004
"""Seconds that a group waits at most for those who are expected to write."""


class Job:
    """One caller's write: what it does, and what it gave once it is durable."""

    def __init__(self, work: Callable[[Any], Any], was_expected: bool) -> None:
        self.thread = threading.get_ident()
        self.was_expected = was_expected
        self._work = work
        self._value: Any = None
        self._error: BaseException | None = None
        # Released when it is over: all that is needed of a Future, and much cheaper.
        self._running = threading.Lock()
        self._running.acquire()

    def result(self) -> Any:
        """Wait until it is durable; what the work gave, or raise what it raised."""
        self._running.acquire()
        if self._error is not None:
            raise self._error
        return self._value

    def run(self, session: Any) -> bool:
        """Whether the work was done; if not, what it did must be undone. It may be run again."""
        self._error = None
        try:
            self._value = self._work(session)
        except sqlite3.DatabaseError as error:
            if not isinstance(error, sqlite3.IntegrityError):
                raise
            self._error = error
            return False
        except Exception as error:  # noqa: BLE001 - handed to the caller's thread as it is
            self._error = error
            return False
        return True

    def end(self, error: StoreUnavailable | None) -> None:
        """Let its caller go on. `error`: nothing was stored."""
        self._error = error or self._error
        self._running.release()


class _Look:
    """Nobody's write: somebody who was waited for will not write."""


_LOOK: Final = _Look()


class Groups:
    """The writes that wait."""

    def __init__(self) -> None:
        self._waiting: queue.SimpleQueue[Job | _Look | None] = queue.SimpleQueue()
        self._expected: set[int] = set()
        self._is_waited_for = False

    @contextmanager
    def expected(self) -> Iterator[None]:
        """See Driver.expected."""
        thread = threading.get_ident()
        self._expected.add(thread)
        try:
            yield
        finally:
            self._expected.discard(thread)
            if self._is_waited_for:
                self._waiting.put(_LOOK)

    def add(self, work: Callable[[Any], Any]) -> Job:
        """A write of this thread's, to be waited for with `Job.result`."""
        job = Job(work, threading.get_ident() in self._expected)
        self._expected.discard(job.thread)
        self._waiting.put(job)
        return job

    def stop(self) -> None:
        """No more groups once those that wait are taken."""
        self._waiting.put(None)

    def take(self) -> list[Job]:
        """The next group, as soon as there is one; [] when there will be none."""
        while isinstance(job := self._waiting.get(), _Look):
            pass
        if job is None:
            return []
        group, until, awaited = [job], time.monotonic() + PATIENCE, self._expected.copy()
        self._is_waited_for = True
        while len(group) < SIZE:
            patience = 0.0 if awaited.isdisjoint(self._expected) else until - time.monotonic()
            try:
                job = self._waiting.get(timeout=patience) if patience > 0 else self._waiting.get_nowait()
            except queue.Empty:
                break
            if job is None:
                self.stop()
                break
            if isinstance(job, Job):
                group.append(job)
        self._is_waited_for = False
        return group

    def end(self, group: Sequence[Job], error: StoreUnavailable | None = None) -> None:
        """All of a group is durable, or with `error` nothing of it."""
        # Expected again before they are let go, or they would come too late for the next group.
        self._expected.update(job.thread for job in group if job.was_expected)
        for job in group:
            job.end(error)
