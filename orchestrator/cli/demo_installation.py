"""An installation of everything in one temporary folder, on free loopback ports, with generated keys."""

from __future__ import annotations

import base64
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType

import requests
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from standardwebhooks import Webhook

from orchestrator import bootstrap
from orchestrator.config import Config
from orchestrator.errors import OrchestratorError
from orchestrator.onboarding import access

_START_SECONDS = 60.0
_KEPT = ("PATH", "HOME", "LANG", "PYTHONWARNINGS")


class Installation:
    """Sandbox, web, worker and a merchant's receiver; all end with the `with` block. `stopping`: do not wait on."""

    def __init__(self, folder: Path, stopping: threading.Event | None = None) -> None:
        self._stopping = stopping or threading.Event()
        self._folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []
        self._port, self._sandbox_port = free_port(), free_port()
        self._merchant = _Merchant()
        self.url = f"http://127.0.0.1:{self._port}"
        self.environ = self._settings()
        self.signup_secret = self.environ["ORCHESTRATOR_SIGNUP_SECRETS"]

    def __enter__(self) -> Installation:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            process.send_signal(signal.SIGTERM)
        for process in self._processes:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
        self._merchant.stop()

    def start(self) -> None:
        """Start everything and wait until it answers, or is to stop. Raises OrchestratorError."""
        self._merchant.start()
        self._spawn("sandbox", "--port", str(self._sandbox_port))
        self._spawn("serve", "--port", str(self._port))
        self._wait_for(f"http://127.0.0.1:{self._sandbox_port}/sandbox/summary")
        self._wait_for(f"{self.url}/readyz")

    def token(self, role: str, name: str) -> str:
        """A new access token."""
        service = bootstrap.build(Config.from_env(self.environ))
        try:
            return access.create_token(service.context, name, role)
        finally:
            service.close()

    def told(self) -> int:
        """How many correctly signed notifications the merchant's receiver got."""
        return self._merchant.told

    def _spawn(self, *arguments: str) -> None:
        log = (self._folder / f"{arguments[0]}.log").open("wb")
        environ = {name: value for name, value in os.environ.items() if name in _KEPT}
        self._processes.append(
            subprocess.Popen(
                [sys.executable, "-m", "orchestrator", *arguments],
                env=environ | self.environ,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,  # Ctrl-C reaches this process alone, which ends the others
            )
        )

    def _wait_for(self, url: str) -> None:
        until = time.monotonic() + _START_SECONDS
        while time.monotonic() < until and all(process.poll() is None for process in self._processes):
            with suppress(requests.RequestException):
                if requests.get(url, timeout=2).status_code == 200:
                    return
            if self._stopping.wait(0.1):
                return
        logs = "\n".join(path.read_text("utf-8", "replace")[-2000:] for path in sorted(self._folder.glob("*.log")))
        raise OrchestratorError(f"the demo did not start:\n{logs}")

    def _settings(self) -> dict[str, str]:
        sandbox = f"http://127.0.0.1:{self._sandbox_port}"
        return {
            "ORCHESTRATOR_DATABASE_URL": f"sqlite:///{self._folder}/orchestrator.db",
            "ORCHESTRATOR_DOCUMENTS_URL": f"file:{self._folder}/documents",
            "ORCHESTRATOR_PUBLIC_URL": self.url,
            "ORCHESTRATOR_NOTIFY_URL": self._merchant.url,
            "ORCHESTRATOR_NOTIFY_SECRET": self._merchant.secret,
            "BTSE_BASE_URL": f"{sandbox}/btse",
            "OSL_BASE_URL": f"{sandbox}/osl",
            "OSL_APP_ID": "demo",
            "CALLBACK_PATIENCE_SECONDS": "3",
            "RETRY_HORIZON_HOURS": "0.003",
            **new_keys(),
        }


class _Merchant:
    """The merchant's receiver: counts what it was told, verified."""

    def __init__(self) -> None:
        self.secret = _whsec()
        self.told = 0
        verifier = Webhook(self.secret)
        merchant = self

        class Receiver(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                verifier.verify(body, dict(self.headers.items()))
                merchant.told += 1
                self.send_response(204)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/kyc"

    def start(self) -> None:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.server_close()


def new_keys(bits: int = 2048) -> dict[str, str]:
    """The settings that are keys or secrets, the sandbox's too, made anew. `bits`: of both RSA keys."""
    ours, theirs = (rsa.generate_private_key(65537, bits) for _ in range(2))
    return {
        "ORCHESTRATOR_ENCRYPTION_KEYS": base64.b64encode(secrets.token_bytes(32)).decode(),
        "ORCHESTRATOR_SIGNUP_SECRETS": _whsec(),
        "BTSE_API_KEY": secrets.token_hex(8),
        "BTSE_SECRET_KEY": secrets.token_hex(24),
        "OSL_PRIVATE_KEY": _private(ours),
        "OSL_WEBHOOK_PUBLIC_KEY": _public(theirs),
        "SANDBOX_OSL_PRIVATE_KEY": _private(theirs),
    }


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def _whsec() -> str:
    return f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"


def _private(key: rsa.RSAPrivateKey) -> str:
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(encoding, form, serialization.NoEncryption()).decode()


def _public(key: rsa.RSAPrivateKey) -> str:
    encoding, form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(encoding, form).decode()
