"""nginx with the configuration of deploy/, on free ports of loopback, in a folder of its own."""

from __future__ import annotations

import getpass
import re
import shutil
import socket
import subprocess
from contextlib import suppress
from pathlib import Path

from tests.deployment import DEPLOY
from tests.installation import free_port
from tests.scripted_server import self_signed
from tests.waiting import until

HOST = "onboarding.example.com"
_MAIN = """
daemon off;
user {user};
pid {folder}/pid;
error_log {folder}/error.log {level};
events {{}}
http {{
    client_body_temp_path {folder}/bodies;
    proxy_temp_path {folder}/answers;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/orchestrator.conf;
}}
"""


class Nginx:
    """One nginx in front of `upstream_port`. Only ports and places differ from what deploy/ has.

    `level`: None for the error log's level of deploy/, or a lower one to see what nginx thinks.
    """

    def __init__(self, binary: str, folder: Path, upstream_port: int, level: str | None = None) -> None:
        self._binary, self._folder = binary, folder
        folder.mkdir()
        self.port, self._http_port = free_port(), free_port()
        self_signed(self.certificate)  # the key is in the same file
        shutil.copy(self.certificate, folder / "privkey.pem")
        text = (DEPLOY / "nginx" / "orchestrator.conf").read_text("utf-8")
        for before, after in {
            "server 127.0.0.1:8000;": f"server 127.0.0.1:{upstream_port};",
            "listen 80;": f"listen 127.0.0.1:{self._http_port};",
            "listen 443 ssl http2;": f"listen 127.0.0.1:{self.port} ssl http2;",
            f"/etc/letsencrypt/live/{HOST}/": f"{folder}/",
            "/var/log/nginx/": f"{folder}/",
        }.items():
            assert before in text, before
            text = text.replace(before, after)
        if level is not None:
            text = re.sub(r"(error_log \S+) emerg;", rf"\1 {level};", text)
        (folder / "orchestrator.conf").write_text(text)
        main = _MAIN.format(folder=folder, user=getpass.getuser(), level=level or "emerg")
        (folder / "nginx.conf").write_text(main)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it serves TLS."""
        return f"https://127.0.0.1:{self.port}"

    @property
    def plain_url(self) -> str:
        """Where it leads to TLS."""
        return f"http://127.0.0.1:{self._http_port}"

    @property
    def certificate(self) -> Path:
        """What its clients trust."""
        return self._folder / "fullchain.pem"

    def check(self) -> subprocess.CompletedProcess[str]:
        """`nginx -t`."""
        return subprocess.run([*self._command, "-t"], capture_output=True, text=True, timeout=30, check=False)

    def start(self) -> None:
        """Until it takes connections."""
        self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL)

        def listens() -> bool:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return True
            return False

        until(listens)

    def stop(self) -> None:
        """End it; its logs are complete then."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(20)
            self._process = None

    def log(self, name: str) -> str:
        """`access` or `error`."""
        path = self._folder / f"orchestrator.{name}.log"
        return path.read_text("utf-8") if path.exists() else ""

    @property
    def _command(self) -> list[str]:
        return [self._binary, "-e", "stderr", "-p", str(self._folder), "-c", str(self._folder / "nginx.conf")]
