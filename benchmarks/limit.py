"""How much of OSL Pay's ten requests a second is used while more work is due than they allow.

200 users with files against the sandbox, which counts arrivals by its own monotonic clock and refuses the eleventh in
any sliding second.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import click
import requests

from benchmarks import sending, stored
from benchmarks.job import CONNECTIONS, DOCUMENTS, expect, picture
from benchmarks.measuring import Goal, report
from benchmarks.processes import Processes, Settings, wait_for_port
from benchmarks.sending import Conversation
from orchestrator.cli.demo_installation import free_port

_RATE = 10
_FROM = 20
_PER_USER = 4
"""Two files, the share, and the question whether its webhook is true."""


def measure(*, short: bool = False) -> Sequence[Goal]:
    """Run it and report."""
    users = 6 if short else 200
    with tempfile.TemporaryDirectory() as folder, Processes(Path(folder)) as processes:
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        settings = Settings(
            processes.folder,
            bits=1024,
            providers=url,
            OSL_REQUESTS_PER_SECOND=str(_RATE),
            ORCHESTRATOR_LOG_LEVEL="ERROR",
        )
        token = settings.token()
        processes.spawn(
            "sandbox", "orchestrator", "sandbox", "--port", str(port), "--rate", str(_RATE), environ=settings.environ
        )
        processes.gunicorn("orchestrator.wsgi:app", settings.port, settings.environ)
        wait_for_port(port)
        submits = _collect(settings, token, users)
        processes.worker(settings.environ)
        sending.at_full_speed(settings.port, submits, CONNECTIONS)
        arrivals, summary = _wait(url, users)
    span = (arrivals[-1] - arrivals[_FROM - 1]) / 1000
    used = (len(arrivals) - _FROM) / span / _RATE
    table = [
        {
            "users": users,
            "OSL Pay requests": len(arrivals),
            "seconds from the 20th": span,
            "of the budget": used,
            "most in a second": summary["mostOslRequestsInASecond"],
        }
    ]
    goals = [
        Goal("of the budget used from the 20th request to the last", used, "at least", 0.97),
        Goal("most requests in any sliding second", summary["mostOslRequestsInASecond"], "at most", _RATE),
    ]
    return report("limit", "OSL Pay's budget of ten requests a second", table, goals)


def _collect(settings: Settings, token: str, users: int) -> list[bytes]:
    """Everything but the submits, which are given back as requests."""
    submits: list[bytes] = []
    headers = {"Authorization": f"Bearer {token}"}

    def ask(method: str, path: str, body: bytes = b"", media_type: str = "application/json") -> bytes:
        typed = {**headers, "Content-Type": media_type}
        return sending.request(method, settings.port, f"/api/v1/onboardings{path}", typed, body)

    def user(number: int) -> Conversation:
        data = {
            "merchantUserId": f"limit-{number}",
            "email": f"pass+{number}@example.com",
            "profile": {**stored.PROFILE, "idNumber": f"K{number:07}", "deviceId": f"device-{number}"},
        }
        status, answer = yield ask("POST", "", json.dumps(data).encode())
        onboarding_id = json.loads(expect(201, status, answer))["id"]
        for kind in DOCUMENTS:
            status, answer = yield ask(
                "PUT", f"/{onboarding_id}/documents/{kind}", picture(10_000 + number), "image/jpeg"
            )
            expect(200, status, answer)
        submits.append(ask("POST", f"/{onboarding_id}/submit"))

    sending.converse(settings.port, (user(number) for number in range(users)), CONNECTIONS)
    return submits


def _wait(url: str, users: int) -> tuple[list[float], dict[str, int]]:
    """When each request arrived (ms), in order, and the sandbox's summary, once all users are through."""
    until = time.monotonic() + 60 + users
    while time.monotonic() < until:
        time.sleep(2.0)
        summary = requests.get(f"{url}/sandbox/summary", timeout=30).json()
        asked = sum(count for name, count in summary["operations"].items() if name.startswith("osl."))
        if asked >= users * _PER_USER:
            calls = requests.get(f"{url}/sandbox/requests", timeout=60).json()
            return sorted(call["monotonicMs"] for call in calls if call["operation"].startswith("osl.")), summary
    raise click.ClickException(f"{asked} requests instead of {users * _PER_USER}")
