"""The processes that are measured, and what they use of the machine."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

from orchestrator import bootstrap
from orchestrator.cli.demo_installation import free_port, new_keys
from orchestrator.cli.run import _GUNICORN
from orchestrator.config import Config
from orchestrator.onboarding import access
from orchestrator.signatures import load_private_key

ROOT = Path(__file__).parent.parent
APP_ID = "bench"
_START_SECONDS = 30.0
_TICK = os.sysconf("SC_CLK_TCK")


class Processes:
    """Child processes with one folder for their files; all end with the `with` block."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._running: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Processes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._running:
            self.stop(process)

    def spawn(self, name: str, *arguments: str, environ: Mapping[str, str]) -> subprocess.Popen[bytes]:
        """`python -m arguments…`, in a group of its own, its output in `name`.log."""
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                env={**_plain_environment(), "PYTHONPATH": str(ROOT), **environ},
                # Not in the checkout: gunicorn would read the gunicorn.conf.py there.
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._running.append(process)
        return process

    def gunicorn(
        self, app: str, port: int, environ: Mapping[str, str], *, workers: int = 2, threads: int = 8
    ) -> subprocess.Popen[bytes]:
        """gunicorn as `serve` starts it; answers when this returns."""
        arguments = ["gunicorn", app, "--bind", f"127.0.0.1:{port}", *_GUNICORN]
        arguments += ["--workers", str(workers), "--threads", str(threads)]
        process = self.spawn(f"web-{port}", *arguments, environ=environ)
        wait_for_port(port)
        return process

    def worker(self, environ: Mapping[str, str], threads: int = 8) -> subprocess.Popen[bytes]:
        """The worker process."""
        return self.spawn("worker", "orchestrator", "worker", "--threads", str(threads), environ=environ)

    def stop(self, process: subprocess.Popen[bytes]) -> None:
        """SIGTERM and wait; SIGKILL for the whole group after 20 s."""
        with suppress(ProcessLookupError):
            process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


class Settings:
    """The environment of one installation, with keys of its own.

    `bits`: of both RSA keys. `providers`: the base URL under which both providers answer.
    """

    def __init__(self, folder: Path, *, bits: int = 2048, providers: str = "http://127.0.0.1:9", **more: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.database = folder / "orchestrator.db"
        self.port = free_port()
        keys = new_keys(bits)
        self.signup_secret = keys["ORCHESTRATOR_SIGNUP_SECRETS"]
        self.osl_key = load_private_key(keys["SANDBOX_OSL_PRIVATE_KEY"])
        self.environ = {
            "ORCHESTRATOR_DATABASE_URL": f"sqlite:///{self.database}",
            "ORCHESTRATOR_DOCUMENTS_URL": f"file:{folder / 'documents'}",
            "ORCHESTRATOR_PUBLIC_URL": f"http://127.0.0.1:{self.port}",
            "BTSE_BASE_URL": f"{providers}/btse",
            "OSL_BASE_URL": f"{providers}/osl",
            "OSL_APP_ID": APP_ID,
            **keys,
            **more,
        }

    @contextmanager
    def service(self) -> Iterator[bootstrap.Service]:
        """The service of these settings in this process, its database migrated."""
        service = bootstrap.build(Config.from_env(self.environ))
        try:
            service.migrate()
            yield service
        finally:
            service.close()

    def token(self, role: str = "operator") -> str:
        """A new access token."""
        with self.service() as service:
            return access.create_token(service.context, f"bench-{secrets.token_hex(4)}", role)


def wait_for_port(port: int) -> None:
    """Until something listens there. Raises TimeoutError."""
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise TimeoutError(f"nothing listens on port {port} after {_START_SECONDS:.0f} s")


def family(process: subprocess.Popen[bytes]) -> list[int]:
    """A process and its children, by id."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [process.pid, *map(int, children)]


def processor_seconds(*processes: subprocess.Popen[bytes]) -> float:
    """What these processes and their children have used of the processor so far."""
    return sum(_used(pid) for process in processes for pid in family(process))


def memory_mb(pid: int, what: str = "VmRSS") -> float:
    """MB that a process holds now; `VmHWM`: at its peak."""
    return _status(pid, what) / 1024


def threads(pid: int) -> int:
    """How many threads a process has."""
    return _status(pid, "Threads")


def _status(pid: int, name: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def _used(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


def _plain_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "TMPDIR")}
