"""Keeps a few child processes running, and ends them together.

No child outlives the supervisor, not even one that is killed with -9. Each child is started through a few lines of
Python that ask the kernel for it (`PR_SET_PDEATHSIG`) and then become the command. This needs nothing of the child
(a pipe that children watch would need their help, and gunicorn would not give it) and, unlike `preexec_fn`, runs no
Python between fork and exec, where a lock that some thread held would stay held. The request survives `exec` but not
`fork`: gunicorn's own workers notice by their parent's pid, within a second, that it is gone. On systems other than
Linux there is no such request, and children may outlive a supervisor that was killed.

Each child leads a process group of its own: Ctrl-C in a terminal reaches the supervisor alone, which then ends the
children in its own way, and what a dead child left behind can be ended too.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

SETTINGS_FAULT = 2
"""The exit status by which a child says that starting it again is of no use until its settings are mended."""

_RELOADING_SIGNAL = signal.SIGUSR1
_STOPPING_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

# argv: the supervisor's pid, then the command. Should the supervisor have died before the request was made, the
# parent is another by then.
_BECOME = """
import ctypes, os, signal, sys
try:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)
except AttributeError:
    pass
if os.getppid() != int(sys.argv[1]):
    sys.exit(1)
try:
    os.execvp(sys.argv[2], sys.argv[2:])
except OSError as error:
    sys.exit(f"{sys.argv[2]}: {error.strerror}")
"""

# Not through `telemetry`: whoever looks after processes imports as little as can be.
_log = logging.getLogger("orchestrator.supervisor")


@dataclass(frozen=True)
class Command:
    """A child to keep running. `env`: its whole environment; None for the supervisor's own.

    `reload`: the signal by which it reads its settings anew; None: it is ended and started again.
    """

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] | None = None
    reload: signal.Signals | None = None


@dataclass(frozen=True)
class Pace:
    """In seconds: the first and the longest pause before a restart, how long a child must live for the pauses to
    begin anew, and how long a stop may take before children are killed."""

    first_pause: float = 1.0
    longest_pause: float = 60.0
    steady_after: float = 60.0
    kill_after: float = 25.0

    def pause(self, failures: int) -> float:
        """The pause after so many deaths in a row: 1, 2, 4 … 60 s."""
        return min(self.longest_pause, self.first_pause * 2.0 ** min(failures - 1, 30))


@dataclass
class _Child:
    command: Command
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    restart_at: float = 0.0
    failures: int = 0
    starts: int = 0
    ending: bool = False  # asked to, so that it starts anew
    left_behind: list[int] = field(default_factory=list)  # process groups whose leader died before its members


class Supervisor:
    """Runs in the main thread, because it listens to signals. `clock`: monotonic seconds.

    SIGUSR1 has every child read its settings anew, if `may_reload()` finds nothing wrong with them.
    """

    def __init__(
        self,
        commands: Sequence[Command],
        pace: Pace = Pace(),
        clock: Callable[[], float] = time.monotonic,
        may_reload: Callable[[], bool] = lambda: True,
    ) -> None:
        self._may_reload = may_reload
        self._reload_asked = False
        self._children = [_Child(command) for command in commands]
        self._pace = pace
        self._clock = clock
        self._stop_asked = False

    def run(self) -> int:
        """Until a signal asks to stop (0), or a child's first start shows a settings fault (2)."""
        status = 0
        with self._signals() as woken:
            try:
                while not self._stop_asked and status == 0:
                    if self._reload_asked:
                        self._reload()
                    status = self._look_after_children()
                    if status == 0 and not self._stop_asked:
                        self._wait(woken, self._seconds_until_restart())
            finally:
                self._stop(woken)
        return status

    def _look_after_children(self) -> int:
        for child in self._children:
            if child.process is not None and (status := child.process.poll()) is not None:
                if status == SETTINGS_FAULT and child.starts == 1:
                    _log.error("settings_faulty", extra={"child": child.command.name})
                    return SETTINGS_FAULT
                self._bury(child, child.process.pid, status)
            if child.process is None and self._clock() >= child.restart_at:
                self._start(child)
        return 0

    def _reload(self) -> None:
        self._reload_asked = False
        if not self._may_reload():
            _log.error("reload_refused")  # everything goes on with the settings from before
            return
        for child in self._children:
            if child.process is not None:
                child.ending = child.command.reload is None
                child.process.send_signal(child.command.reload or signal.SIGTERM)

    def _start(self, child: _Child) -> None:
        while child.left_behind:  # they had the pause to end by themselves, and may hold the port
            _signal_group(child.left_behind.pop(), signal.SIGKILL)
        become = [sys.executable, "-I", "-S", "-c", _BECOME, str(os.getpid())]
        child.process = subprocess.Popen(
            [*become, *child.command.argv], env=child.command.env, process_group=0, stdin=subprocess.DEVNULL
        )
        child.started_at = self._clock()
        child.starts += 1
        _log.info("process_started", extra={"child": child.command.name, "pid": child.process.pid})

    def _bury(self, child: _Child, pid: int, status: int) -> None:
        """A child ended: note when it starts again, and ask what it left behind to end."""
        now = self._clock()
        steady = now - child.started_at >= self._pace.steady_after
        child.failures = 0 if child.ending else 1 if steady else child.failures + 1
        pause = 0.0 if child.ending else self._pace.pause(child.failures)
        child.ending = False
        child.restart_at = now + pause
        if _signal_group(pid, signal.SIGTERM):
            child.left_behind.append(pid)
        child.process = None
        again = {"child": child.command.name, "status": status, "again_in_seconds": pause}
        _log.warning("process_ended", extra=again)

    def _seconds_until_restart(self) -> float | None:
        """None when all run: then only a signal matters."""
        waiting = [child.restart_at for child in self._children if child.process is None]
        return max(0.0, min(waiting) - self._clock()) if waiting else None

    def _stop(self, woken: int) -> None:
        """SIGTERM to every child, then SIGKILL to whatever is left of them."""
        kill_at = self._clock() + self._pace.kill_after
        for child in self._children:
            if child.process is not None:
                child.process.terminate()
        while self._alive() and (left := kill_at - self._clock()) > 0:
            self._wait(woken, left)
        for child in self._alive():
            _log.warning("process_killed", extra={"child": child.command.name})
        for child in self._children:
            groups = child.left_behind + ([child.process.pid] if child.process else [])
            for group in groups:
                _signal_group(group, signal.SIGKILL)
            if child.process is not None:
                child.process.wait()

    def _alive(self) -> list[_Child]:
        return [each for each in self._children if each.process is not None and each.process.poll() is None]

    def _ask_to_reload(self, _number: int, _frame: object) -> None:
        self._reload_asked = True

    def _ask_to_stop(self, _number: int, _frame: object) -> None:
        self._stop_asked = True

    @contextmanager
    def _signals(self) -> Iterator[int]:
        """While inside, signals wake whoever reads the yielded descriptor; there is no moment at which one that
        arrives is lost, as there would be between looking at a flag and going to sleep."""
        woken, wake = os.pipe()
        os.set_blocking(woken, False)
        os.set_blocking(wake, False)
        heard = [each for each in _STOPPING_SIGNALS if signal.getsignal(each) is not signal.SIG_IGN]
        before = {each: signal.signal(each, self._ask_to_stop) for each in heard}
        before[_RELOADING_SIGNAL] = signal.signal(_RELOADING_SIGNAL, self._ask_to_reload)
        before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        wake_before = signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        try:
            yield woken
        finally:
            signal.set_wakeup_fd(wake_before)
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(woken)
            os.close(wake)

    def _wait(self, woken: int, seconds: float | None) -> None:
        select.select([woken], [], [], seconds)
        with suppress(BlockingIOError):
            os.read(woken, 4096)


def _signal_group(group: int, number: signal.Signals) -> bool:
    """Whether anyone is left in this process group to be told."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True
