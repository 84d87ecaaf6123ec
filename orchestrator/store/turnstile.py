"""A queue between the processes that write one SQLite file."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Turnstile:
    """A fair lock between processes: wait at the gate, then for the room, then leave the gate to the next.

    The kernel drops both locks when a process dies.
    """

    def __init__(self, database: Path) -> None:
        names = (f"{database.name}.gate", f"{database.name}.lock")
        self._gate, self._room = (os.open(database.with_name(name), os.O_RDWR | os.O_CREAT, 0o600) for name in names)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Alone in the database, after those who came before."""
        fcntl.flock(self._gate, fcntl.LOCK_EX)
        try:
            fcntl.flock(self._room, fcntl.LOCK_EX)
        finally:
            fcntl.flock(self._gate, fcntl.LOCK_UN)
        try:
            yield
        finally:
            fcntl.flock(self._room, fcntl.LOCK_UN)

    def close(self) -> None:
        """Give the files back."""
        os.close(self._gate)
        os.close(self._room)
