"""Who uses a SQLite file: everybody has a share in a lock beside it, and who wants to be alone has it whole."""

from __future__ import annotations

import fcntl
import os
import threading
from contextlib import suppress
from pathlib import Path


class Presence:
    """One process's part in the lock; the kernel drops it when the process dies."""

    def __init__(self, database: Path) -> None:
        self._path = database.with_name(f"{database.name}.use")
        self._descriptor: int | None = None
        self._guard = threading.Lock()

    def share(self) -> bool:
        """Use the database beside others, until `end`; False: somebody is alone in it. Again and again is fine."""
        with self._guard:
            return self._descriptor is not None or self._take(fcntl.LOCK_SH)

    def alone(self) -> bool:
        """Have the database for oneself, until `end`; False: others use it."""
        with self._guard:
            return self._take(fcntl.LOCK_EX)

    def end(self) -> None:
        """Use it no more."""
        with self._guard:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None

    def _take(self, kind: int) -> bool:
        if self._descriptor is None:
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        with suppress(BlockingIOError):
            fcntl.flock(self._descriptor, kind | fcntl.LOCK_NB)
            return True
        os.close(self._descriptor)
        self._descriptor = None
        return False
