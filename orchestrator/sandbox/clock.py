"""The sandbox's two clocks: a wall clock that can be put wrong on purpose, and one that never jumps."""

from __future__ import annotations

import time
from email.utils import formatdate


class Clock:
    """Wall time with an offset that tests may set, and monotonic time without."""

    def __init__(self) -> None:
        self.offset_ms = 0

    def now_ms(self) -> int:
        """What the providers believe the unix time to be, in milliseconds."""
        return time.time_ns() // 1_000_000 + self.offset_ms

    def monotonic(self) -> float:
        """Seconds on a clock that only goes forward."""
        return time.monotonic()

    def http_date(self) -> str:
        """The value of a `Date` header."""
        return formatdate(self.now_ms() / 1000, usegmt=True)
