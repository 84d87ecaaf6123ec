"""What happens is counted: in memory first, so that neither a flood nor a busy day costs a write each."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping

from orchestrator.errors import StoreUnavailable

Write = Callable[[Mapping[tuple[str, str], int]], None]


class Tally:
    """Counts words, and hands the sums to `write` together: `every` seconds after the first of them.

    What a process counted within its last moments is lost when it is killed; nothing was promised to who was counted.
    """

    def __init__(self, write: Write, every: float = 1.0) -> None:
        self._write = write
        self._every = every
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._counted: Counter[tuple[str, str]] = Counter()
        self._timer: threading.Timer | None = None

    def count(self, what: str, word: str, number: int = 1) -> None:
        """So many more. `what` and `word` are ours and never a sender's, so that there are few."""
        with self._lock:
            self._counted[what, word] += number
            if self._timer is None:
                self._timer = threading.Timer(self._every, self.flush)
                self._timer.daemon = True
                self._timer.start()

    def flush(self) -> None:
        """Write now what was counted; what cannot be written is kept for the next time."""
        with self._writing:
            with self._lock:
                counted, self._counted = self._counted, Counter()
                if self._timer is not None:
                    self._timer.cancel()
                    self._timer = None
            if not counted:
                return
            try:
                self._write(counted)
            except StoreUnavailable:
                with self._lock:
                    self._counted.update(counted)
