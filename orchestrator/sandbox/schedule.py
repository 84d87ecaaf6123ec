"""Work that is due later, done by a few threads that share one heap; no thread waits for one user."""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable

log = logging.getLogger(__name__)


class Schedule:
    """A heap of (when, what) and the threads that empty it. They are daemons: stopping waits for nobody."""

    def __init__(self, threads: int = 32) -> None:
        self._changed = threading.Condition()
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        for number in range(threads):
            threading.Thread(target=self._work, name=f"sandbox-schedule-{number}", daemon=True).start()

    def after(self, seconds: float, work: Callable[[], None]) -> None:
        """Do `work` in `seconds` (0: as soon as a thread is free)."""
        with self._changed:
            heapq.heappush(self._due, (time.monotonic() + max(seconds, 0.0), next(self._order), work))
            self._changed.notify()

    def _work(self) -> None:
        while True:
            work = self._next()
            try:
                work()
            except Exception:  # one story that goes wrong must not take a thread from the others
                log.exception("scheduled work failed")

    def _next(self) -> Callable[[], None]:
        with self._changed:
            while True:
                wait = None
                if self._due:
                    wait = self._due[0][0] - time.monotonic()
                    if wait <= 0:
                        return heapq.heappop(self._due)[2]
                self._changed.wait(wait)
