"""Writes of many threads, committed in groups by whichever of them comes first."""

from __future__ import annotations

import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from orchestrator.errors import StoreUnavailable

SIZE = 64
"""Writes that are committed together at most, so that no process keeps the others waiting for long."""


class Job:
    """One caller's write: what it does, and what it gave once it is durable."""

    def __init__(self, work: Callable[[Any], Any]) -> None:
        self.is_over = False
        self._work = work
        self._value: Any = None
        self._error: BaseException | None = None

    def result(self) -> Any:
        """What the work gave, or raise what it raised. Only of a job that is over."""
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

    def end(self, error: Exception | None) -> None:
        """It is durable. `error`: nothing was stored."""
        self._error = error or self._error
        self.is_over = True


class Groups:
    """The writes that wait. `commit`: one group, in one transaction; raises when nothing of it is stored."""

    def __init__(self, commit: Callable[[Sequence[Job]], None]) -> None:
        self._commit = commit
        self._waiting: deque[Job] = deque()
        self.alone = threading.Lock()
        """Held while a group is written."""

    def write(self, jobs: Sequence[Job]) -> None:
        """Commit these, and with them whatever else waits; all of them are over when this returns.

        Raises nothing: what a commit raises is everybody's `Job.result`.
        """
        self._waiting.extend(jobs)
        while not all(job.is_over for job in jobs):
            # Whoever has waited here finds its jobs over, as a rule: the one before took them along.
            with self.alone:
                self._write_group([self._waiting.popleft() for _ in range(min(len(self._waiting), SIZE))])

    def _write_group(self, group: Sequence[Job]) -> None:
        error: Exception | None = StoreUnavailable("the write was interrupted: try again")
        try:
            if group:
                self._commit(group)
            error = None
        except Exception as failure:  # noqa: BLE001 - handed to all who wait
            error = failure
        finally:
            for job in group:
                job.end(error)
