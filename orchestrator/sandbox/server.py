"""Serves the sandbox in its own process: gunicorn, one worker process (the state is in memory), many threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication

from orchestrator.sandbox.app import create_app
from orchestrator.sandbox.settings import SandboxSettings

THREADS = 64
KEEP_ALIVE_SECONDS = 75
STOP_SECONDS = 1


class _Server(BaseApplication):  # type: ignore[misc]
    """gunicorn, configured by a mapping instead of a file."""

    def __init__(self, settings: SandboxSettings, options: dict[str, Any]) -> None:
        self._settings = settings
        self._options = options
        super().__init__()

    def load_config(self) -> None:
        for name, value in self._options.items():
            if name in self.cfg.settings:  # older gunicorns do not know every one
                self.cfg.set(name, value)

    def load(self) -> Flask:
        # Called in the worker, after the fork: threads made before it would not be there.
        return create_app(self._settings)


def serve(host: str, port: int, settings: SandboxSettings, ready: Callable[[str], None] | None = None) -> None:
    """Serve until SIGTERM or SIGINT; blocks, and ends the process with SystemExit as gunicorn does.

    `port` 0 lets the system choose. `ready` is told the base URL (`http://127.0.0.1:9000`) once the port
    is open: BTSE Pay is below `/btse`, OSL Pay below `/osl`.
    """

    def when_ready(arbiter: Any) -> None:
        if ready:
            ready(f"http://{host}:{arbiter.LISTENERS[0].getsockname()[1]}")

    options = {
        "bind": f"{host}:{port}",
        "workers": 1,
        "worker_class": "gthread",
        "threads": THREADS,
        "worker_connections": 2000,
        "backlog": 2048,
        "keepalive": KEEP_ALIVE_SECONDS,
        "timeout": 120,
        "graceful_timeout": STOP_SECONDS,
        "loglevel": "warning",
        "control_socket_disable": True,
        "when_ready": when_ready,
        "proc_name": "orchestrator-sandbox",
    }
    _Server(settings, options).run()
