"""A whole service for tests: a real SQLite file, a clock that moves when told, and real HTTP on loopback."""

from __future__ import annotations

import base64
import dataclasses
import functools
import http.client
import itertools
import json
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar
from unittest.mock import patch
from urllib.parse import urlsplit

import pytest
import requests
from werkzeug.serving import WSGIRequestHandler, make_server

from orchestrator.bootstrap import Service, build
from orchestrator.config import Config
from orchestrator.machine import Event, State
from orchestrator.onboarding import access, advance, chain, collect, look, receive, signup
from orchestrator.onboarding.apply import Step, apply
from orchestrator.onboarding.context import Context, Timings
from orchestrator.providers import http as outgoing_http
from orchestrator.records import Callback, CallbackToken, Lane, Onboarding, ShareOutcome, Transition, Verdict
from orchestrator.seal import plain_hash
from orchestrator.signatures import osl_sign
from orchestrator.store.claiming import Claim
from tests.databases import Plain, Postgresql, connected, used
from tests.postgres_server import PostgresServer
from tests.sandbox_process import API_KEY, APP_ID, SECRET_KEY, SandboxProcess, private_pem, public_pem, rsa_key

SECOND, MINUTE, HOUR, DAY = 1_000, 60_000, 3_600_000, 86_400_000
PUBLIC_URL = "http://127.0.0.1:9"
"""Nobody listens there: what the sandbox would send by itself never arrives, tests deliver webhooks themselves."""
SIGNUP_SECRET = "whsec_" + base64.b64encode(b"signup-secret-of-24-byte").decode()
NOTIFY_SECRET = "whsec_" + base64.b64encode(b"notify-secret-of-24-byte").decode()
ENCRYPTION_KEY = base64.b64encode(bytes(range(32))).decode()
ROOM: Mapping[Lane, int] = dict.fromkeys(Lane, 8)

_tls_context = functools.cache(outgoing_http.tls_context)
"""Reading all authorities takes longer than most tests."""

_users = itertools.count(1)


def pdf(text: str = "a scan", size: int = 0) -> bytes:
    """A document that passes by content, `size` bytes long (0: as long as it happens to be)."""
    return f"%PDF-1.7 {text}".encode().ljust(size, b".")


class Clock:
    """Unix milliseconds that stand still until a test moves them; a database that follows is told."""

    goes = False
    """By itself, as the database's own clock does."""

    def __init__(self, now: int | None = None) -> None:
        self._now = time.time_ns() // 1_000_000 if now is None else now
        self._followers: list[Callable[[int], None]] = []

    def __call__(self) -> int:
        return self.now

    @property
    def now(self) -> int:
        return self._now

    @now.setter
    def now(self, milliseconds: int) -> None:
        self._now = milliseconds
        for tell in self._followers:
            tell(milliseconds)

    def advance(self, milliseconds: int) -> None:
        self.now += milliseconds

    def lead(self, tell: Callable[[int], None]) -> None:
        """`tell` is told the time now and whenever it changes."""
        self._followers.append(tell)
        tell(self())


@dataclass
class Signed:
    """A webhook as OSL Pay signs it."""

    headers: dict[str, str]
    body: bytes


def signed(timestamp: int | str, body: Any, app_id: str = APP_ID) -> Signed:
    """Valid headers over `timestamp`; `body` as bytes, or as JSON."""
    signature = osl_sign(rsa_key("osl"), app_id, str(timestamp))
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Signed({"appId": app_id, "timestamp": str(timestamp), "signature": signature}, raw)


def status_change(user_id: str, merchant_user_id: str | None, status: str, reason: str = "") -> dict[str, Any]:
    """The documented JSON of a webhook."""
    data = {"userId": user_id, "kycStatus": status, "kycShareFailedReason": reason}
    return {
        "type": "kyc_status_change",
        "data": data | ({"merchantUserId": merchant_user_id} if merchant_user_id else {}),
    }


class Bench:
    """A service over `folder`, and verbs to carry onboardings through it. `sandbox` None: the providers are away.

    `server`: the PostgreSQL on which benches are made that name no database; None: they are made on SQLite.
    """

    server: ClassVar[PostgresServer | None] = None
    _postgresql: Postgresql | None = None

    def __init__(
        self,
        folder: Path,
        sandbox: SandboxProcess | None = None,
        *,
        clock: Clock | None = None,
        timings: Timings | None = None,
        **settings: str,
    ) -> None:
        self.folder = folder
        self.sandbox = sandbox
        self.clock = clock or Clock()
        self.timings = timings
        self.settings = settings
        self.jitter = 1.0
        self._random = random.Random(str(folder))
        self._token_lock = threading.Lock()
        self._offset = 0
        self.services: list[Service] = []
        if self.server is not None and "ORCHESTRATOR_DATABASE_URL" not in settings:
            self._postgresql = Postgresql(self.server, goes=self.clock.goes)
            self.clock.lead(self._postgresql.tell)
        self.context = self.open().context
        self.service.migrate()

    @property
    def service(self) -> Service:
        return self.services[-1]

    def open(self) -> Service:
        """One more service over the same files, as another process would have it."""
        with patch.object(outgoing_http, "tls_context", _tls_context):
            service = build(
                Config.from_env(self.environ()),
                timings=self.timings,
                now_ms=self.clock,
                token=self._token,
                rand=lambda: self.jitter,
                pause=self._pause,
            )
        self.services.append(service)
        return self.services[-1]

    def _pause(self, seconds: float) -> None:
        self.clock.advance(int(seconds * SECOND))

    def environ(self) -> dict[str, str]:
        providers = {
            "BTSE_BASE_URL": "http://127.0.0.1:9/btse",
            "BTSE_API_KEY": API_KEY,
            "BTSE_SECRET_KEY": SECRET_KEY,
            "OSL_BASE_URL": "http://127.0.0.1:9/osl",
            "OSL_APP_ID": APP_ID,
            "OSL_PRIVATE_KEY": private_pem(rsa_key("merchant")),
            "OSL_WEBHOOK_PUBLIC_KEY": public_pem(rsa_key("osl")),
        }
        return {
            "ORCHESTRATOR_DATABASE_URL": self._postgresql.url if self._postgresql else f"sqlite:///{self.database}",
            "ORCHESTRATOR_DOCUMENTS_URL": f"file:{self.folder / 'documents'}",
            "ORCHESTRATOR_ENCRYPTION_KEYS": ENCRYPTION_KEY,
            "ORCHESTRATOR_PUBLIC_URL": PUBLIC_URL,
            "ORCHESTRATOR_SIGNUP_SECRETS": SIGNUP_SECRET,
            "ORCHESTRATOR_PROVIDER_DEADLINE_SECONDS": "10",
            **providers,
            **(self.sandbox.environ if self.sandbox else {}),
            **self.settings,
        }

    @property
    def database(self) -> Path:
        return self.folder / "var" / "orchestrator.db"

    def close(self) -> None:
        for service in self.services:
            service.close()
        if self._postgresql is not None:
            self._postgresql.close()

    @contextmanager
    def connected(self) -> Iterator[Plain]:
        """The database itself, past the service."""
        with connected(self.environ()["ORCHESTRATOR_DATABASE_URL"]) as database:
            yield database

    def _token(self) -> str:
        with self._token_lock:
            return base64.urlsafe_b64encode(self._random.randbytes(32)).decode().rstrip("=")

    # Reading -------------------------------------------------------------------------------------------------

    def row(self, onboarding: Onboarding | str) -> Onboarding:
        """As it is now."""
        return look.find(self.context, onboarding if isinstance(onboarding, str) else onboarding.id)

    def state(self, onboarding: Onboarding) -> State:
        return self.row(onboarding).state

    def view(self, onboarding: Onboarding) -> look.View:
        return look.view(self.context, self.row(onboarding))

    def transitions(self, onboarding: Onboarding) -> list[Transition]:
        return self.context.store.transitions(onboarding.id)

    def events(self, onboarding: Onboarding) -> list[Event]:
        return [row.event for row in self.transitions(onboarding)]

    def chain_faults(self, onboarding: Onboarding) -> list[str]:
        row = self.row(onboarding)
        return chain.faults(self.transitions(row), row.state, row.seq, row.hash)

    def callbacks(self, onboarding: Onboarding) -> list[Callback]:
        return self.context.store.callbacks(onboarding.id)

    def verdicts(self, onboarding: Onboarding) -> list[Verdict]:
        return [row.verdict for row in self.callbacks(onboarding)]

    def requests(self, onboarding: Onboarding, operation: str | None = None) -> list[dict[str, Any]]:
        """What the sandbox received about this user."""
        assert self.sandbox
        return self.sandbox.requests(operation, onboarding.merchant_user_id)

    # Signing up and collecting -------------------------------------------------------------------------------

    def sign_up(self, story: str = "silent", **profile: str | None) -> Onboarding:
        """A new user with a complete profile; `profile` None leaves a field out."""
        data = signup.checked_signup(self.context, new_user(story, **profile))
        return signup.sign_up(self.context, data, "test")[0]

    def collected(self, story: str = "silent", **profile: str | None) -> Onboarding:
        """Everything is there to submit."""
        row = self.sign_up(story, **profile)
        for kind in ("idFileFront", "selfie"):
            row = collect.put_document(
                self.context, look.find(self.context, row.id), kind, pdf(f"{kind} of {row.merchant_user_id}"), "test"
            )
        return row

    def submitted(self, story: str = "silent", **profile: str | None) -> Onboarding:
        return collect.submit(self.context, self.collected(story, **profile).id, "test")

    # Working -------------------------------------------------------------------------------------------------

    def claim(self, room: Mapping[Lane, int] = ROOM) -> list[Claim]:
        return advance.claim(self.context, room)

    def advance(self, claims: list[Claim], context: Context | None = None) -> None:
        for claimed in claims:
            if claimed.lane is Lane.UPLOAD:
                self._keep_nonces_fresh()
            advance.advance(context or self.context, claimed)

    def step(self) -> list[Claim]:
        """One step of everything that is due now."""
        claims = self.claim()
        self.advance(claims)
        return claims

    def run(self, milliseconds: int) -> list[int]:
        """Work as a worker would for so long; when each step was done."""
        end, steps = self.clock.now + milliseconds, []
        while True:
            claims = self.step()
            steps += [self.clock.now] * len(claims)
            if claims:
                continue
            then = self._something_changes()
            if then is None or then > end:
                self.clock.now = end
                return steps
            self.clock.now = then

    def run_to(self, onboarding: Onboarding, state: State, milliseconds: int = 5 * MINUTE) -> Onboarding:
        """Work until the onboarding is in `state`, for so long at most."""
        end = self.clock.now + milliseconds
        while self.state(onboarding) is not state:
            if not self.step():
                then = self._something_changes()
                assert then is not None, f"{self.state(onboarding)} is never left"
                assert then <= end, f"{self.state(onboarding)} is not left in time"
                self.clock.now = then
        return self.row(onboarding)

    def _something_changes(self) -> int | None:
        """The next moment at which something could be claimed that cannot be claimed now."""
        times = (
            "select due_at as time from onboardings union select lease_until from onboardings "
            "union select free_at from slots union select next_probe_at from providers"
        )
        with self.connected() as database:
            then: int | None = database.execute(
                f"select min(time) from ({times}) as times where time > ?", (self.clock.now,)
            ).fetchone()[0]
        return then

    def to_share(self, story: str = "silent", **profile: str | None) -> Onboarding:
        """Submitted, and all that is missing is the share itself."""
        return self.all_but_the_share(self.submitted(story, **profile))

    def all_but_the_share(self, row: Onboarding) -> Onboarding:
        """Work until all that is missing is the share itself."""
        for _ in range(100):
            documents = self.context.store.documents(row.id)
            if self.state(row) is State.SHARING and all(document.url_sealed for document in documents):
                self.clock.advance(2 * SECOND)
                return self.row(row)
            if not self.step():
                self.clock.advance(SECOND)
        raise AssertionError(f"it does not come to the share: {self.events(row)}")

    def shared(self, story: str = "silent", **profile: str | None) -> Onboarding:
        """Through both providers: it awaits its webhook, and all slots are free again."""
        row = self.run_to(self.submitted(story, **profile), State.AWAITING_CALLBACK)
        self.clock.advance(SECOND)
        return row

    def shared_on_paper(self, user_id: str | None = "9001", state: State = State.AWAITING_CALLBACK) -> Onboarding:
        """A row that awaits its webhook although no provider was ever called: the worker's words, written here."""
        row = self.submitted()
        token = self._token()
        sealed = self.context.sealer.seal(token.encode(), "callback_tokens", row.id, "1")
        minted = CallbackToken(plain_hash(token), row.id, 1, sealed, self.clock())
        steps = [
            Step(Event.UPLOADED, "worker", changes={"changed": False}),
            Step(
                Event.SHARE_INTENDED,
                "worker",
                changes={"share": ShareOutcome.INTENDED, "share_sent_at": self.clock()},
                callback_token=minted,
            ),
        ]
        if state is not State.SHARING:
            arrived = {"osl_user_id": user_id, "share": ShareOutcome.ARRIVED}
            steps.append(Step(Event.SHARED, "worker", changes=arrived))
        return apply(self.context, row.id, lambda row: steps)

    def _keep_nonces_fresh(self) -> None:
        """BTSE Pay refuses what is 30 s old: its clock must go with ours."""
        offset = self.clock.now - time.time_ns() // 1_000_000
        if self.sandbox and abs(offset - self._offset) > 5 * SECOND:
            self.sandbox.clock_offset(offset)
            self._offset = offset

    # Webhooks ------------------------------------------------------------------------------------------------

    def callback_secret(self, onboarding: Onboarding, number: int | None = None) -> str:
        """The token in the callbackUrl of a round."""
        token = self.context.store.callback_token_of_round(onboarding.id, number or self.row(onboarding).round)
        assert token, "no share of this round was intended"
        return self.context.sealer.open(token.sealed, "callback_tokens", onboarding.id, str(token.round)).decode()

    def webhook(self, onboarding: Onboarding, status: str, *, timestamp: int | None = None, reason: str = "") -> Signed:
        """What OSL Pay would send about this user."""
        row = self.row(onboarding)
        body = status_change(row.osl_user_id or "9001", row.merchant_user_id, status, reason)
        return signed(self.clock() if timestamp is None else timestamp, body)

    def receive(
        self,
        onboarding: Onboarding,
        status: str,
        *,
        timestamp: int | None = None,
        number: int | None = None,
        reason: str = "",
    ) -> Verdict:
        """OSL Pay's webhook arrives at the callbackUrl of a round, without HTTP."""
        sent = self.webhook(onboarding, status, timestamp=timestamp, reason=reason)
        return receive.receive(self.context, self.callback_secret(onboarding, number), sent.headers, sent.body)

    def with_osl(self, **replaced: Callable[..., Any]) -> Context:
        """The context with some calls to OSL Pay replaced; each gets the real client and its arguments."""
        return dataclasses.replace(self.context, osl=_Wrapped(self.context.osl, replaced))  # type: ignore[arg-type]


class _Wrapped:
    def __init__(self, real: Any, replaced: Mapping[str, Callable[..., Any]]) -> None:
        self._real = real
        self._replaced = replaced

    def __getattr__(self, name: str) -> Any:
        if name in self._replaced:
            return functools.partial(self._replaced[name], self._real)
        return getattr(self._real, name)


def new_user(story: str = "silent", **profile: str | None) -> dict[str, Any]:
    """The `data` of a signup of a user nobody has seen before."""
    number = next(_users)
    complete = {
        "firstName": "Anastasia",
        "lastName": "Leebrook",
        "idType": "PASSPORT",
        "idNumber": f"K{number:07d}",
        "nationality": "HKG",
        "residentialCountry": "HKG",
        "accountPurpose": "Savings",
        "monthSpend": "1,000 to 5,000 USD",
        "sourceFunds": "Salary",
        "occupation": "Employed",
        "ip": "203.0.113.7",
        "deviceId": f"device-{number}",
    }
    given = {name: value for name, value in {**complete, **profile}.items() if value is not None}
    return {"merchantUserId": f"user-{number}", "email": f"{story}+{number}@example.com", "profile": given}


# HTTP -----------------------------------------------------------------------------------------------------------


class _Quiet(WSGIRequestHandler):
    def log(self, *words: object) -> None:
        """Nothing."""


@contextmanager
def served(app: Any) -> Iterator[str]:
    """`app` on a free port of loopback; the base URL."""
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=_Quiet)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Client:
    """Calls a served application, with one kept-alive connection."""

    def __init__(self, url: str, token: str | None = None) -> None:
        self.url = url
        self._session = requests.Session()
        self._session.trust_env = False
        if token:
            self._session.headers["Authorization"] = f"Bearer {token}"

    def __call__(self, method: str, path: str, **how: Any) -> requests.Response:
        return self._session.request(method, self.url + path, timeout=20, allow_redirects=False, **how)

    def close(self) -> None:
        self._session.close()


@dataclass(frozen=True)
class RawAnswer:
    """An answer to bytes written by hand. Header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


def raw_request(url: str, data: bytes, *, end: bool = False) -> RawAnswer:
    """Send exactly these bytes and read one answer. `end`: nothing more will come."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=20) as connection:
        connection.sendall(data)
        if end:
            connection.shutdown(socket.SHUT_WR)
        response = http.client.HTTPResponse(connection)
        try:
            response.begin()
            headers = {name.lower(): value for name, value in response.getheaders()}
            return RawAnswer(response.status, headers, response.read())
        finally:
            response.close()


@dataclass
class Web:
    """A served bench and a client for every role."""

    bench: Bench
    url: str
    merchant: Client
    operator: Client
    viewer: Client
    anyone: Client


@contextmanager
def web_of(bench: Bench) -> Iterator[Web]:
    """`bench` over HTTP."""
    from orchestrator.web.app import create_app

    tokens = {role: access.create_token(bench.context, f"the-{role}", role) for role in access.ROLES}
    with served(create_app(bench.service)) as url:
        clients = {role: Client(url, token) for role, token in tokens.items()}
        anyone = Client(url)
        try:
            yield Web(bench, url, **clients, anyone=anyone)
        finally:
            for client in (*clients.values(), anyone):
                client.close()


@pytest.fixture(scope="module", autouse=True)
def database(request: pytest.FixtureRequest) -> Iterator[None]:
    """Benches are made on the database that the test is run on."""
    if getattr(request, "param", "sqlite") == "sqlite":
        yield
        return
    server = request.getfixturevalue("postgres_server")
    Bench.server = server
    with used(server):
        yield
    Bench.server = None


# Fixtures -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def sandbox_process() -> Iterator[SandboxProcess]:
    """One sandbox for all tests of this process."""
    with SandboxProcess.start(pace=0.01) as process:
        yield process


@pytest.fixture
def sandbox(sandbox_process: SandboxProcess) -> Iterator[SandboxProcess]:
    """The sandbox without any fault, before and after."""
    sandbox_process.clear_faults()
    yield sandbox_process
    sandbox_process.clear_faults()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A service without providers."""
    made = Bench(tmp_path)
    yield made
    made.close()


@pytest.fixture
def played(tmp_path: Path, sandbox: SandboxProcess) -> Iterator[Bench]:
    """A service that talks to the sandbox."""
    made = Bench(tmp_path, sandbox)
    yield made
    made.close()


@pytest.fixture
def web(bench: Bench) -> Iterator[Web]:
    """A service without providers, over HTTP."""
    with web_of(bench) as made:
        yield made


@pytest.fixture
def played_web(played: Bench) -> Iterator[Web]:
    """A service that talks to the sandbox, over HTTP."""
    with web_of(played) as made:
        yield made
