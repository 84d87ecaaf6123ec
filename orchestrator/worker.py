"""The worker: claims what is due, advances it in threads, and stops cleanly on SIGTERM."""

from __future__ import annotations

import signal
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from orchestrator.errors import OrchestratorError, StoreUnavailable
from orchestrator.onboarding import advance, retain
from orchestrator.onboarding.context import Context
from orchestrator.records import Delivery, Lane
from orchestrator.telemetry import begin, logger

LOOK_EVERY = 0.1
"""Seconds between looks for work that other processes stored."""
_PAUSE_AFTER_FAULT = 1.0
_DELIVERIES, _CHORES = "deliveries", "chores"
_CHORES_EVERY = 600_000
"""Milliseconds between looks whether the daily chores are still to be done."""


class Worker:
    """Claims and advances until it is stopped. `threads`: how many steps run at the same time at most.

    `alive_file`: touched with every heartbeat, for those who watch the process.
    """

    def __init__(self, context: Context, threads: int, alive_file: Path | None = None) -> None:
        self._context = context
        self._threads = threads
        self._most = _most(threads)
        self._alive_file = alive_file
        self._id = context.new_id("wrk")
        self._stopping = threading.Event()
        self._idle = threading.Event()
        self._busy: Counter[str] = Counter()
        self._chores_at = 0
        self._lock = threading.Lock()
        self._log = logger("worker")

    def stop(self) -> None:
        """Claim nothing more; `run` returns when the steps under way are stored."""
        self._stopping.set()
        self._idle.set()

    def stop_on_signals(self) -> None:
        """Stop on SIGTERM and SIGINT."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.stop())

    def run(self) -> None:
        """Work until stopped; every step under way is finished and stored before this returns."""
        beat_at = 0
        self._log.info("worker_started", threads=self._threads)
        with ThreadPoolExecutor(self._threads, thread_name_prefix="worker") as pool:
            while not self._stopping.is_set():
                try:
                    beat_at = self._beat(pool, beat_at)
                    wait = self._claim(pool)
                except StoreUnavailable as error:
                    self._log.error("store_unavailable", problem=str(error))
                    self._stopping.wait(_PAUSE_AFTER_FAULT)
                else:
                    # A thread that is free again ends it.
                    self._idle.wait(wait)
        try:
            advance.stop(self._context, self._id)
        except StoreUnavailable as error:
            self._log.error("store_unavailable", problem=str(error))
        self._log.info("worker_stopped")

    def _beat(self, pool: ThreadPoolExecutor, beat_at: int) -> int:
        now = self._context.now_ms()
        if 0 <= now - beat_at < self._context.timings.worker_beat:
            return beat_at
        if self._alive_file is not None:
            # First: a database that does not answer is no reason to start this process again.
            self._alive_file.touch()
        advance.beat(self._context, self._id)
        if self._room()[_CHORES] and now >= self._chores_at:
            self._chores_at = now + _CHORES_EVERY
            self._start(pool, _CHORES, self._do_chores)
        return now

    def _claim(self, pool: ThreadPoolExecutor) -> float:
        """Claim what there is room for and start on it; seconds until there can be more."""
        self._idle.clear()
        room = self._room()
        if not any(room.values()):
            return LOOK_EVERY
        due, now = advance.next_due(self._context), self._context.now_ms()
        if (first := due.first) is None:
            return LOOK_EVERY
        if first > now:
            return min(LOOK_EVERY, (first - now) / 1000)
        started = 0
        if due.delivery is not None and due.delivery <= now:
            started += self._claim_deliveries(pool, room)
        if due.step is not None and due.step <= now:
            started += self._claim_steps(pool, room)
        # What is due and could not be claimed waits for a thread or a slot: no need to look at once again.
        return 0.0 if started else LOOK_EVERY / 5

    def _claim_deliveries(self, pool: ThreadPoolExecutor, room: Mapping[str, int]) -> int:
        if room[_DELIVERIES] == 0:
            return 0
        claimed = advance.claim_deliveries(self._context, room[_DELIVERIES])
        for delivery in claimed:
            self._start(pool, _DELIVERIES, partial(self._deliver, delivery))
        return len(claimed)

    def _claim_steps(self, pool: ThreadPoolExecutor, room: Mapping[str, int]) -> int:
        free = self._free()
        claims = advance.claim(self._context, {lane: min(room[lane], free) for lane in Lane})
        for claim in claims:
            self._start(pool, claim.lane, partial(advance.advance, self._context, claim))
        return len(claims)

    def _room(self) -> dict[str, int]:
        """How many more of each kind may run."""
        with self._lock:
            free = self._threads - self._busy.total()
            return {kind: max(0, min(limit - self._busy[kind], free)) for kind, limit in self._most.items()}

    def _free(self) -> int:
        with self._lock:
            return self._threads - self._busy.total()

    def _start(self, pool: ThreadPoolExecutor, kind: str, step: Callable[[], None]) -> None:
        with self._lock:
            self._busy[kind] += 1
        pool.submit(self._run, kind, step)

    def _run(self, kind: str, step: Callable[[], None]) -> None:
        begin()
        try:
            step()
        except advance.LeaseLost as error:
            self._log.warning("lease_lost", problem=str(error))
        except OrchestratorError as error:
            self._log.error("step_unfinished", problem=str(error), kind=type(error).__name__)
        except Exception as error:  # noqa: BLE001 - the lease runs out and the step is repeated; no data in the log
            self._log.error("step_crashed", kind=type(error).__name__, at=_where(error))
        finally:
            with self._lock:
                self._busy[kind] -= 1
            self._idle.set()

    def _deliver(self, delivery: Delivery) -> None:
        claimed: Delivery | None = delivery
        while claimed is not None:
            begin()
            claimed = advance.deliver(self._context, claimed, lambda: not self._stopping.is_set())

    def _do_chores(self) -> None:
        purged = retain.purge_daily(self._context)
        if purged is not None:
            self._log.info("purged", documents=purged.documents, profiles=purged.profiles, strays=purged.strays)


def _most(threads: int) -> dict[str, int]:
    """How many of each kind run at a time: slow uploads or a slow merchant leave threads for the rest."""
    most: dict[str, int] = dict.fromkeys(Lane, threads)
    most[Lane.UPLOAD] = most[Lane.POLL] = max(1, threads // 2)
    most[Lane.SHARE] = max(1, threads * 3 // 4)
    most[_DELIVERIES] = max(1, threads // 4)
    most[_CHORES] = 1
    return most


def _where(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace is not None else ""
