"""A whole installation of real processes for one test: gunicorn, the worker, the sandbox, the merchant's receiver."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import itertools
import json
import os
import random
import re
import secrets
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar

import psycopg
import requests
from psycopg.rows import dict_row
from standardwebhooks import Webhook

from orchestrator.cli.run import _GUNICORN
from orchestrator.machine import TABLE, CellKind, Event, State
from tests.launch import NO_DEPRECATED, TIMINGS
from tests.merchant_end import MerchantEnd, whsec
from tests.sandbox_process import SandboxProcess, public_pem, rsa_key
from tests.signups import documents, signup_data
from tests.waiting import until

if TYPE_CHECKING:
    from tests.postgres_server import PostgresServer

CHECKOUT = Path(__file__).parent.parent
SHORT: Mapping[str, Any] = {
    "backoff_first": 200,
    "backoff_longest": 1_000,
    "unauthorized_shortest": 400,
    "probe": 1_000,
    "lease_margin": 500,
    "contradictions": [300, 1_000, 2_500, 6_000],
    "lost_questions": [500, 3_000, 6_000],
    "ask_every": 1_000,
    "deliveries": [200] * 40,
    "worker_beat": 500,
    "worker_silent": 3_000,
}
_numbers = itertools.count(1)


@dataclass(frozen=True)
class User:
    """One user of the merchant. `files`: the sha256 of each document sent, by kind; `contents`: its bytes."""

    story: str
    name: str
    id: str
    id_type: str
    files: dict[str, str] = field(default_factory=dict)
    contents: dict[str, bytes] = field(default_factory=dict)
    email: str = ""
    id_number: str = ""


class Installation:
    """Everything in one folder on free loopback ports; what is running ends with the `with` block.

    `timings`: those of SHORT by default; `settings`: environment variables; `sandbox`: how it is started.
    `server`: the PostgreSQL on which installations are made; None: they are made on SQLite.
    """

    server: ClassVar[PostgresServer | None] = None

    def __init__(
        self,
        folder: Path,
        *,
        timings: Mapping[str, Any] = SHORT,
        settings: Mapping[str, str] | None = None,
        sandbox: Mapping[str, Any] | None = None,
        web_workers: int = 2,
        web_threads: int = 8,
        worker_threads: int = 8,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.database = folder / "orchestrator.db"
        self.merchant = MerchantEnd()
        self.sandbox: SandboxProcess | None = None
        self.web: subprocess.Popen[bytes] | None = None
        self.worker: subprocess.Popen[bytes] | None = None
        self.signup_secret = whsec()
        self.port, self._sandbox_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._sandbox_options = {"rate": 0, "pace": 0.3, "lag_seconds": 2.0, **(sandbox or {})}
        self._web_workers, self._web_threads, self._worker_threads = web_workers, web_threads, worker_threads
        self.environ = self._environ(timings, settings or {})
        self.token: str | None = None
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Installation:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            _kill(process)
        if self.sandbox is not None:
            self.sandbox.stop()
        self.merchant.stop()
        for path in sorted(self.folder.glob("*.log")):  # which pytest shows of a test that failed
            print(f"--- {path.name}\n{path.read_text('utf-8', 'replace')[-4000:]}")

    # Processes -----------------------------------------------------------------------------------------------

    def start(self, *, sandbox: bool = True) -> Installation:
        """Migrate, start everything, and wait until it answers."""
        self.command("migrate")
        self.start_web(wait=False)
        self.start_worker()
        if sandbox:
            self.start_sandbox()
        self.make_token()
        self.wait_for_web()
        return self

    def make_token(self) -> None:
        """Make the operator's token that `call` uses."""
        self.token = self.command("token", "create", "--role", "operator", "--name", "tests").stdout.strip()

    def start_sandbox(self) -> None:
        """Start the sandbox, always on the same port."""
        self.sandbox = SandboxProcess.start(port=self._sandbox_port, **self._sandbox_options)

    def start_web(self, *, wait: bool = True) -> None:
        """Start gunicorn as `serve` does."""
        arguments = ["gunicorn", "tests.launched_wsgi:app", "--bind", f"127.0.0.1:{self.port}", *_GUNICORN]
        arguments += ["--workers", str(self._web_workers), "--threads", str(self._web_threads)]
        self.web = self.spawn("web", "tests.launch", *arguments)
        if wait:
            self.wait_for_web()

    def start_worker(self) -> None:
        """Start the worker; it works as soon as it has booted."""
        self.worker = self.spawn("worker", "tests.launch", "worker", "--threads", str(self._worker_threads))

    def wait_for_web(self) -> None:
        """Until it is ready to store webhooks."""

        def ready() -> bool:
            assert self.web
            assert self.web.poll() is None, f"gunicorn ended with {self.web.poll()}"
            try:
                answer = self.get("/readyz")
            except requests.RequestException as error:
                raise AssertionError(str(error)) from error
            assert answer.status_code == 200, answer.text
            return True

        until(ready, 60)

    def kill_web(self) -> None:
        """SIGKILL for gunicorn and its children, all at once."""
        assert self.web
        _kill(self.web)

    def kill_worker(self) -> None:
        """SIGKILL for the worker."""
        assert self.worker
        _kill(self.worker)

    def spawn(self, name: str, module: str, *arguments: str) -> subprocess.Popen[bytes]:
        """`python -m module arguments…` in a group of its own, its output in `name`.log; killed at the end."""
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                env=self.environ,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._processes.append(process)
        return process

    def command(self, *arguments: str, expect: int | None = 0, **environ: str) -> subprocess.CompletedProcess[str]:
        """The real command line; `expect`: its exit status, None for any."""
        done = subprocess.run(
            [sys.executable, "-m", "orchestrator", *arguments],
            env=self.environ | environ,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert expect in (None, done.returncode), f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def log(self, name: str) -> str:
        """What a process wrote so far."""
        return (self.folder / f"{name}.log").read_text("utf-8", "replace")

    @contextmanager
    def database_held(self) -> Iterator[None]:
        """Whoever wants to write waits meanwhile, as if another process took very long over a transaction."""
        with self.database.with_name(f"{self.database.name}.lock").open("r+b") as room:
            fcntl.flock(room, fcntl.LOCK_EX)
            yield

    def rows(self, sql: str, **values: Any) -> list[dict[str, Any]]:
        """What a query finds in the database; `:name` marks a value."""
        url = self.environ["ORCHESTRATOR_DATABASE_URL"]
        if url.startswith("postgresql:"):
            with psycopg.connect(url, row_factory=dict_row) as server:
                return server.execute(_for_postgresql(sql), values).fetchall()
        with closing(sqlite3.connect(self.database, timeout=10)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(sql, values)]

    def change(self, sql: str, **values: Any) -> int:
        """Change rows beside the product, as time or an accident would; how many there were."""
        url = self.environ["ORCHESTRATOR_DATABASE_URL"]
        if url.startswith("postgresql:"):
            with psycopg.connect(url) as server:
                return server.execute(_for_postgresql(sql), values).rowcount
        with closing(sqlite3.connect(self.database, timeout=10)) as connection, connection:
            return connection.execute(sql, values).rowcount

    # HTTP ----------------------------------------------------------------------------------------------------

    def get(self, path: str) -> requests.Response:
        """GET without a token."""
        return http("GET", f"{self.url}{path}")

    @property
    def bearer(self) -> dict[str, str]:
        """The header by which the operator is known."""
        return {"Authorization": f"Bearer {self.token}"}

    def call(self, method: str, path: str, expect: int | None = None, **how: Any) -> requests.Response:
        """A call of the API as operator; `expect`: the status, None for any success."""
        answer = self.answer(method, path, **how)
        fine = answer.ok if expect is None else answer.status_code == expect
        assert fine, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer

    def answer(self, method: str, path: str, **how: Any) -> requests.Response:
        """What a call of the API as operator is answered, whatever that is."""
        return http(method, f"{self.url}/api/v1/{path}", headers=self.bearer | how.pop("headers", {}), **how)

    def post_signup(
        self, data: Mapping[str, Any], webhook_id: str | None = None, secret: str | None = None
    ) -> requests.Response:
        """The merchant's signed hook."""
        now = datetime.now(UTC)
        body = json.dumps({"type": "user.signup", "timestamp": now.isoformat(), "data": data})
        webhook_id = webhook_id or f"msg_{secrets.token_hex(8)}"
        headers = {
            "Content-Type": "application/json",
            "webhook-id": webhook_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": Webhook(secret or self.signup_secret).sign(webhook_id, now, body),
        }
        return http("POST", f"{self.url}/hooks/signup", data=body, headers=headers)

    # Users ---------------------------------------------------------------------------------------------------

    def begin(self, story: str, **profile: str) -> User:
        """Sign a user up by the hook, send the documents, submit."""
        user = self.collect(story, **profile)
        self.submit(user)
        return user

    def collect(self, story: str, **profile: str) -> User:
        """Sign a user up by the hook and send the documents."""
        number = next(_numbers)
        data = signup_data(story, number, **profile)
        answer = self.post_signup(data)
        assert answer.status_code == 202, answer.text
        user = User(
            story,
            data["merchantUserId"],
            answer.json()["id"],
            data["profile"]["idType"],
            email=data["email"],
            id_number=data["profile"]["idNumber"],
        )
        for kind, (content, media_type) in documents(user.id_type).items():
            path = f"onboardings/{user.id}/documents/{kind}"
            self.call("PUT", path, data=content, headers={"Content-Type": media_type})
            user.files[kind] = hashlib.sha256(content).hexdigest()
            user.contents[kind] = content
        return user

    def submit(self, user: User) -> None:
        """Submit; works in each round."""
        self.call("POST", f"onboardings/{user.id}/submit", 202)

    def onboarding(self, user: User) -> dict[str, Any]:
        """As the API shows it."""
        found: dict[str, Any] = self.call("GET", f"onboardings/{user.id}").json()
        return found

    def items(self, user: User, what: str) -> list[dict[str, Any]]:
        """`transitions`, `callbacks` or `deliveries`."""
        found: list[dict[str, Any]] = self.call("GET", f"onboardings/{user.id}/{what}").json()["items"]
        return found

    def wait_for(self, user: User, *states: str, number: int | None = None, seconds: float = 45.0) -> dict[str, Any]:
        """The onboarding once it is in one of `states` (and in that round)."""

        def there() -> dict[str, Any]:
            row = self.onboarding(user)
            assert row["state"] in states, f"{user.name} is {row['state']} ({row['lastError']}), not {states}"
            assert number in (None, row["round"]), f"{user.name} is in round {row['round']}"
            return row

        return until(there, seconds)

    def verdicts(self, user: User) -> list[tuple[str, int]]:
        """Of each callback, in the order of arrival: the verdict and how often it was seen."""
        return [(row["verdict"], row["seen"]) for row in self.items(user, "callbacks")]

    def wait_until_told(self, user: User, *types: str, seconds: float = 30.0) -> None:
        """Until the merchant was told exactly this, in this order (`onboarding.` left out)."""

        def told() -> bool:
            found = [notice.type.removeprefix("onboarding.") for notice in self.merchant.told(user.name)]
            assert found == list(types), f"{user.name}: the merchant was told {found}"
            return True

        until(told, seconds)

    # What the sandbox saw ------------------------------------------------------------------------------------

    def calls(self, user: User, operation: str) -> list[dict[str, Any]]:
        """The provider calls that named this user, newest last."""
        assert self.sandbox
        return self.sandbox.requests(operation, user.name)

    def uploads(self, user: User) -> list[dict[str, Any]]:
        """The uploads to OSL Pay, which name nobody, of this user's files."""
        assert self.sandbox
        wanted = set(user.files.values())
        return [
            call
            for call in self.sandbox.requests("osl.upload")
            if call["files"] and call["files"][0]["sha256"] in wanted
        ]

    def shares(self, user: User) -> list[int]:
        """How many shares were acted upon, of each callback URL: of each round, that is."""
        assert self.sandbox
        return [row["count"] for row in self.sandbox.summary()["shares"] if row["merchantUserId"] == user.name]

    def callback_url(self, user: User) -> str:
        """Where OSL Pay was told to send this user's webhooks, in the newest round."""
        assert self.sandbox
        urls = [row for row in self.sandbox.summary()["shares"] if row["merchantUserId"] == user.name]
        url: str = urls[-1]["callbackUrl"]
        return url

    # What must hold ------------------------------------------------------------------------------------------

    def check_chains(self) -> None:
        """`audit verify` finds nothing."""
        done = self.command("audit", "verify")
        assert done.stdout.strip() == "every chain is whole"

    def check(self, *users: User) -> None:
        """The chains are whole, each state can be rebuilt from them, each round was shared once, all told in order."""
        self.check_chains()
        for user in users:
            row = self.onboarding(user)
            assert rebuilt(self.items(user, "transitions")) == (row["state"], row["round"])
            assert self.shares(user) == [1] * len(self.shares(user)), f"{user.name}: {self.shares(user)}"
            self.check_told(user)

    def check_told(self, user: User) -> None:
        """Nothing that the merchant must be told was lost or reordered."""

        def all_told() -> bool:
            written = [row["id"] for row in self.items(user, "deliveries")]
            told = [notice.id for notice in self.merchant.told(user.name)]
            assert told == written, f"{user.name}: told {told}, written {written}"
            return True

        until(all_told)
        assert not self.merchant.faults

    def _environ(self, timings: Mapping[str, Any], settings: Mapping[str, str]) -> dict[str, str]:
        sandbox = f"http://127.0.0.1:{self._sandbox_port}"
        kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "TMPDIR")}
        kept |= {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}
        return {
            **kept,
            "PYTHONPATH": str(CHECKOUT),
            **NO_DEPRECATED,
            TIMINGS: json.dumps(dict(timings)),
            **SandboxProcess.credentials(),
            "OSL_WEBHOOK_PUBLIC_KEY": public_pem(rsa_key("osl")),
            "ORCHESTRATOR_DATABASE_URL": self.server.new_database() if self.server else f"sqlite:///{self.database}",
            "ORCHESTRATOR_DOCUMENTS_URL": f"file:{self.folder}/documents",
            "ORCHESTRATOR_ENCRYPTION_KEYS": base64.b64encode(secrets.token_bytes(32)).decode(),
            "ORCHESTRATOR_PUBLIC_URL": self.url,
            "ORCHESTRATOR_SIGNUP_SECRETS": self.signup_secret,
            "ORCHESTRATOR_NOTIFY_URL": self.merchant.url,
            "ORCHESTRATOR_NOTIFY_SECRET": self.merchant.secret,
            "BTSE_BASE_URL": f"{sandbox}/btse",
            "OSL_BASE_URL": f"{sandbox}/osl",
            "OSL_REQUESTS_PER_SECOND": "1000" if not self._sandbox_options["rate"] else "10",
            **settings,
        }


def _for_postgresql(sql: str) -> bytes:
    return re.sub(r":(\w+)", r"%(\1)s", sql).encode()


def rebuilt(transitions: Sequence[Mapping[str, Any]]) -> tuple[str, int]:
    """State and round, from the events of a chain and the machine's table alone."""
    state, number = State.COLLECTING, 1
    for row in transitions[1:]:
        assert row["from"] == state, f"row {row['seq']} does not start in {state}"
        cell = TABLE[Event(row["event"])][state]
        assert cell.kind in (CellKind.MOVE, CellKind.RESUME, CellKind.ASK), f"row {row['seq']} is no move"
        state = State(row["to"]) if cell.kind is CellKind.RESUME else cell.to or state
        assert row["to"] == state, f"row {row['seq']} does not end in {state}"
        number += cell.next_round
    return state.value, number


def http(method: str, url: str, timeout: float = 30, **how: Any) -> requests.Response:
    """One request on a connection of its own."""
    with requests.Session() as session:
        session.trust_env = False
        session.headers["Connection"] = "close"
        return session.request(method, url, timeout=timeout, allow_redirects=False, **how)


def free_port() -> int:
    """A port that nobody listens on, outside of those that the system gives to outgoing connections."""
    while True:
        port = random.randrange(18_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def _kill(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
