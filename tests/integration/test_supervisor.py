"""The supervisor with real processes: what it starts, restarts and ends."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.supervisor import Pace

HERE = Path(__file__).parent
SUPERVISE = """
import json, logging, signal, sys
from orchestrator.supervisor import Command, Pace, Supervisor
class Pauses(logging.Handler):
    def emit(self, record):
        if record.getMessage() == "process_ended":
            with open("pauses", "a") as file:
                print(record.again_in_seconds, file=file)
logging.getLogger("orchestrator.supervisor").addHandler(Pauses())
# Whoever runs the tests in the background may have them ignored, which the supervisor would respect.
for number in (signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_DFL)
commands, pace = json.loads(sys.argv[1])
reloads = {"web": signal.SIGHUP}
children = [Command(name, argv, reload=reloads.get(name)) for name, argv in commands.items()]
sys.exit(Supervisor(children, Pace(**pace), may_reload=lambda: not __import__("os").path.exists("faulty")).run())
"""
QUICK = {"first_pause": 0.1, "longest_pause": 0.4, "steady_after": 60.0, "kill_after": 60.0}
SOON = 20.0
"""Seconds that nothing here takes, however busy the machine is."""

# Children write `pid time` to a file at each start, then do what the rest says.
LOAD = "import os, signal, sys, time; note = open(sys.argv[1], 'a'); "
NOTE = LOAD + "print(os.getpid(), time.monotonic(), file=note, flush=True); "
STAY = NOTE + "time.sleep(60)"
IGNORE_SIGTERM = LOAD + "signal.signal(signal.SIGTERM, signal.SIG_IGN); "


class Scene:
    """A supervisor in a process of its own, and the starts that its children noted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None

    def supervise(self, children: dict[str, str], **pace: float) -> subprocess.Popen[bytes]:
        commands = {name: [sys.executable, "-c", code, str(self.folder / name)] for name, code in children.items()}
        return self.run(commands, **pace)

    def run(self, commands: dict[str, Any], **pace: float) -> subprocess.Popen[bytes]:
        self.process = subprocess.Popen(
            [sys.executable, "-c", SUPERVISE, json.dumps([commands, QUICK | pace])],
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path])},
            cwd=self.folder,
            start_new_session=True,
        )
        return self.process

    def starts(self, name: str) -> list[tuple[int, float]]:
        """(pid, monotonic seconds) of each start so far."""
        path = self.folder / name
        rows = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
        return [(int(pid), float(at)) for pid, at in rows]

    def pauses(self) -> list[float]:
        """The pause that the supervisor makes after each death so far."""
        return [float(line) for line in (self.folder / "pauses").read_text().split()]

    def pid(self, name: str, start: int = 1) -> int:
        """The pid of that start, awaited."""
        until(lambda: len(self.starts(name)) >= start)
        return self.starts(name)[start - 1][0]


def until(condition: Callable[[], bool], seconds: float = SOON) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(tmp_path)
    yield scene
    if scene.process is not None:
        if scene.process.poll() is None:
            scene.process.kill()
        scene.process.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_all_children_and_then_the_supervisor(scene: Scene, number: signal.Signals) -> None:
    supervisor = scene.supervise({"web": STAY, "worker": STAY})
    pids = [scene.pid("web"), scene.pid("worker")]
    supervisor.send_signal(number)
    assert supervisor.wait(timeout=SOON) == 0
    assert not any(map(is_alive, pids))


def test_sigusr1_has_children_read_their_settings_anew_without_a_pause(scene: Scene) -> None:
    told = "signal.signal(signal.SIGHUP, lambda *_: print(os.getpid(), 0, file=note, flush=True)); "
    supervisor = scene.supervise({"web": LOAD + told + STAY, "worker": STAY}, first_pause=30.0)
    web, worker = scene.pid("web"), scene.pid("worker")
    (scene.folder / "faulty").touch()
    supervisor.send_signal(signal.SIGUSR1)
    time.sleep(0.3)
    assert (len(scene.starts("web")), len(scene.starts("worker"))) == (1, 1), "with faulty settings nothing happens"
    (scene.folder / "faulty").unlink()
    for number in (2, 3):
        supervisor.send_signal(signal.SIGUSR1)
        assert scene.pid("worker", start=number) != worker, "ended and started again at once"
        assert scene.pid("web", start=number) == web, "told, and never ended"
    supervisor.terminate()
    assert supervisor.wait(timeout=SOON) == 0


def test_ctrl_c_reaches_the_children_as_sigterm_only(scene: Scene) -> None:
    told = "signal.signal(signal.SIGINT, lambda *_: print('INT 0', file=note, flush=True)); "
    supervisor = scene.supervise({"web": LOAD + told + STAY})
    scene.pid("web")
    os.killpg(supervisor.pid, signal.SIGINT)
    assert supervisor.wait(timeout=SOON) == 0
    assert "INT" not in (scene.folder / "web").read_text()


def test_a_child_that_dies_starts_again_after_growing_pauses(scene: Scene) -> None:
    scene.supervise({"worker": NOTE + "sys.exit(1)", "web": STAY})
    scene.pid("worker", start=4)
    times = [at for _, at in scene.starts("worker")]
    pauses = [after - before for before, after in itertools.pairwise(times[:4])]
    meant = scene.pauses()[:3]
    assert meant == [0.1, 0.2, 0.4]
    assert all(pause >= least for pause, least in zip(pauses, meant, strict=True))
    assert len(scene.starts("web")) == 1


def test_the_pauses_begin_anew_once_a_child_has_lived_long_enough(scene: Scene) -> None:
    scene.supervise({"worker": NOTE + "time.sleep(0.2)"}, steady_after=0.15)
    scene.pid("worker", start=4)
    assert scene.pauses()[:3] == [0.1, 0.1, 0.1]


def test_the_pauses_are_one_two_four_and_at_most_sixty_seconds() -> None:
    assert [Pace().pause(n) for n in (1, 2, 3, 4, 5, 6, 7, 10_000)] == [1, 2, 4, 8, 16, 32, 60, 60]


def test_a_settings_fault_at_the_first_start_ends_everything_with_2(scene: Scene) -> None:
    supervisor = scene.supervise({"web": STAY, "worker": NOTE + "time.sleep(0.2); sys.exit(2)"})
    assert supervisor.wait(timeout=SOON) == 2
    assert not is_alive(scene.pid("web"))
    assert len(scene.starts("worker")) == 1


def test_status_2_after_a_restart_is_a_death_like_any_other(scene: Scene) -> None:
    supervisor = scene.supervise({"worker": NOTE + "sys.exit(1 + (note.tell() > 40))"})
    scene.pid("worker", start=3)
    assert supervisor.poll() is None


def test_a_child_that_ignores_sigterm_is_killed_in_time_with_all_it_started(scene: Scene) -> None:
    supervisor = scene.supervise({"worker": IGNORE_SIGTERM + "os.fork(); " + STAY}, kill_after=0.3)
    pids = [scene.pid("worker"), scene.pid("worker", start=2)]
    began = time.monotonic()
    supervisor.terminate()
    assert supervisor.wait(timeout=SOON) == 0
    assert time.monotonic() - began >= 0.3
    until(lambda: not any(map(is_alive, pids)))


def test_no_child_outlives_a_supervisor_that_is_killed(scene: Scene) -> None:
    supervisor = scene.supervise({"web": STAY, "worker": IGNORE_SIGTERM + STAY})
    pids = [scene.pid("web"), scene.pid("worker")]
    supervisor.kill()
    supervisor.wait()
    until(lambda: not any(map(is_alive, pids)))


def test_a_stop_does_not_wait_for_a_pause_to_end(scene: Scene) -> None:
    supervisor = scene.supervise({"worker": NOTE + "sys.exit(1)"}, first_pause=60.0, longest_pause=60.0)
    scene.pid("worker")
    time.sleep(0.1)
    supervisor.terminate()
    assert supervisor.wait(timeout=SOON) == 0


def test_a_command_that_does_not_exist_is_tried_again(scene: Scene) -> None:
    supervisor = scene.run({"nothing": ["/nowhere/nothing"]})
    time.sleep(0.5)
    assert supervisor.poll() is None
    supervisor.terminate()
    assert supervisor.wait(timeout=SOON) == 0


def test_a_gunicorn_whose_master_is_killed_serves_again_on_its_port(scene: Scene) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    command = [sys.executable, "-m", "gunicorn", "-k", "orchestrator.web.gather.GatheringWorker", "--log-level"]
    command += ["error", "--bind", f"127.0.0.1:{port}", "--pid", str(scene.folder / "pid"), "gathering_server:app"]

    def answers() -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            return sock.recv(100).startswith(b"HTTP/1.1 200")
        return False

    def master() -> int:
        path = scene.folder / "pid"
        return int((path.read_text() if path.exists() else "") or 0)

    supervisor = scene.run({"web": command})
    until(answers)
    first = master()
    os.kill(first, signal.SIGKILL)
    until(lambda: master() not in (0, first) and answers())
    supervisor.terminate()
    assert supervisor.wait(timeout=SOON) == 0
