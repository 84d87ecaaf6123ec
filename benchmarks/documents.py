"""The memory of a web process while eight users send 10 MB each at once, from the upload page's form."""

from __future__ import annotations

import json
import secrets
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks import sending, stored
from benchmarks.job import expect, picture
from benchmarks.measuring import Goal, report
from benchmarks.processes import Processes, Settings, family, memory_mb
from benchmarks.sending import Conversation

_USERS = 8
_DOCUMENT = 5_000_000
_BOUNDARY = "benchmark-boundary"


def measure(*, short: bool = False) -> Sequence[Goal]:
    """Run it and report."""
    size = 50_000 if short else _DOCUMENT
    with tempfile.TemporaryDirectory() as folder, Processes(Path(folder)) as processes:
        settings = Settings(processes.folder, ORCHESTRATOR_LOG_LEVEL="ERROR")
        token = settings.token("merchant")
        web = processes.gunicorn("orchestrator.wsgi:app", settings.port, settings.environ)
        paths: list[str] = []
        sending.converse(settings.port, (_sign_up(settings, token, paths) for _ in range(_USERS)), _USERS)
        before = [memory_mb(pid) for pid in family(web)[1:]]
        sent = sending.at_full_speed(settings.port, [_form(settings, path, size) for path in paths], _USERS)
        peak = [memory_mb(pid, "VmHWM") for pid in family(web)[1:]]
    table = [
        {
            "users": _USERS,
            "MB each": 2 * size / 1e6,
            "seconds": sent.seconds,
            "MB before": max(before),
            "MB at peak": max(peak),
        }
    ]
    goals = [
        Goal("forms taken", sent.statuses.get(303, 0), "exactly", _USERS),
        Goal("peak memory of a web process", max(peak), "at most", 200, "MB"),
    ]
    return report("documents", "Eight users who send 10 MB each at once", table, goals)


def _sign_up(settings: Settings, token: str, paths: list[str]) -> Conversation:
    name = secrets.token_hex(8)
    data = {"merchantUserId": name, "email": f"{name}@example.com", "profile": stored.PROFILE}
    headers = {"Authorization": f"Bearer {token}"}
    status, answer = yield sending.post(settings.port, "/api/v1/onboardings", headers, json.dumps(data).encode())
    paths.append("/u/" + json.loads(expect(201, status, answer))["uploadUrl"].rsplit("/", 1)[1])


def _form(settings: Settings, path: str, size: int) -> bytes:
    parts = [
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{kind}"; filename="{kind}.jpg"\r\n'
        f"Content-Type: image/jpeg\r\n\r\n".encode()
        + picture(size)
        + b"\r\n"
        for kind in ("idFileFront", "selfie")
    ]
    body = b"".join(parts) + f"--{_BOUNDARY}--\r\n".encode()
    headers = {"Content-Type": f"multipart/form-data; boundary={_BOUNDARY}"}
    return sending.request("POST", settings.port, path, headers, body)
