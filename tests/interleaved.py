"""Two services over one database whose steps can be stopped half-way, and providers told what to say.

An operation (a worker's step, a webhook, a verb) is a `Run`. It may be stopped before anything leaves the process or
is stored, be continued later, or never, as if its process had died. Only one run moves at any time, so that the
same choices always lead to the same end.
"""

from __future__ import annotations

import base64
import json
import random
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from orchestrator.bootstrap import Service, build
from orchestrator.config import Config
from orchestrator.machine import Event, State
from orchestrator.onboarding.context import Context
from orchestrator.providers.http import Reply
from orchestrator.records import Callback, Delivery, Lane, Onboarding, ShareOutcome, Transition, Verdict
from orchestrator.seal import plain_hash
from orchestrator.store import Change, ScheduleStore, Store, rows
from orchestrator.store.claiming import Claim
from tests.databases import Postgresql, opened
from tests.postgres_server import PostgresServer
from tests.sandbox_process import SandboxProcess

SECOND, MINUTE, HOUR, DAY = 1_000, 60_000, 3_600_000, 86_400_000
BEGINNING = 1_795_300_000_000
PUBLIC_URL = "http://127.0.0.1:9"
DEADLINE_MS, LEASE_MS = 60 * SECOND, 90 * SECOND
_OPERATIONS = {"kyc": "btse.upload", "upload-file": "osl.upload", "share": "osl.share", "query": "osl.status"}
UNASKED = "unasked"
"""What a run was told by the status query that it never sent; a user that OSL Pay does not know is None."""


class Killed(BaseException):
    """The process of this run died."""


@dataclass
class Call:
    """One request to the outside. `said`: the kycStatus of the answer; `pinned`: what OSL Pay was told to say."""

    operation: str
    sent_at: int
    pinned: str | None
    answered_at: int | None = None
    status: int | None = None
    said: str | None = UNASKED


@dataclass(eq=False)
class Run:
    """One operation under way, on a thread of its own if it may be stopped."""

    kind: str
    work: Callable[[], Any]
    claim: Claim | None = None
    delivery: Delivery | None = None
    calls: list[Call] = field(default_factory=list)
    commits: list[Change] = field(default_factory=list)
    value: Any = None
    error: BaseException | None = None
    done: bool = False
    _steps: int = -1
    _killed: bool = False
    _go: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    _stopped: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    _thread: threading.Thread | None = None

    @property
    def said(self) -> str | None:
        """What the status query last said to this run."""
        asked = [call for call in self.calls if call.operation == "osl.status"]
        return asked[-1].said if asked else UNASKED

    @property
    def lease_until(self) -> int | None:
        """When the lease it works under is over."""
        if self.claim is not None:
            return self.claim.onboarding.lease_until
        return self.delivery.lease_until if self.delivery is not None else None

    def start(self, stop_after: int | None) -> None:
        """Run to the end, or until so many places to stop were passed."""
        if stop_after is None:
            self._run()
            return
        self._thread = threading.Thread(target=self._run_alone, daemon=True)
        self._steps = stop_after
        self._thread.start()
        self._wait()

    def go_on(self, stop_after: int | None) -> None:
        """Continue a stopped run."""
        self._steps = -1 if stop_after is None else stop_after
        self._go.release()
        self._wait()

    def kill(self) -> None:
        """Nothing of it happens any more."""
        self._killed = True
        self.go_on(None)

    def stop_here(self) -> None:
        """Called by the run itself, where it can be stopped."""
        if threading.current_thread() is not self._thread:
            return
        if self._steps == 0:
            self._stopped.release()
            self._go.acquire()
            if self._killed:
                raise Killed
        else:
            self._steps -= 1

    def _wait(self) -> None:
        if not self._stopped.acquire(timeout=60):
            raise RuntimeError("a run neither ended nor stopped")
        if self.done and self._thread is not None:
            self._thread.join(60)

    def _run_alone(self) -> None:
        self._run()
        self._stopped.release()

    def _run(self) -> None:
        before = getattr(_LOCAL, "run", None)
        _LOCAL.run = self
        try:
            self.value = self.work()
        except (Exception, Killed) as error:  # noqa: BLE001 - judged by the test
            self.error = error
        finally:
            _LOCAL.run = before
            self.done = True


_LOCAL = threading.local()


def current() -> Run:
    """The run that this thread is on."""
    run: Run = _LOCAL.run
    return run


def stop_here() -> None:
    """A place where the current run can be stopped."""
    if getattr(_LOCAL, "run", None) is not None:
        current().stop_here()


class _GatedStore(Store):
    """A store whose writes can be stopped before, and are told to the test after."""

    def __init__(self, driver: Any, committed: Callable[[Run, Change], None]) -> None:
        super().__init__(driver)
        self._committed = committed

    def commit(self, change: Change) -> bool:
        stop_here()
        stored = super().commit(change)
        if stored:
            current().commits.append(change)
            self._committed(current(), change)
        return stored

    def keep_orphan(self, callback: Callback) -> Any:
        stop_here()
        return super().keep_orphan(callback)

    def count_again(self, callback_id: str) -> None:
        stop_here()
        super().count_again(callback_id)

    def remember_signup(self, webhook_id: str, onboarding_id: str, now: int) -> Any:
        stop_here()
        return super().remember_signup(webhook_id, onboarding_id, now)


class _GatedSchedule(ScheduleStore):
    def settle_delivery(
        self, delivery: Delivery, lease: str, now: int, *, next_lease: str | None = None, lease_until: int = 0
    ) -> Delivery | None:
        stop_here()
        return super().settle_delivery(delivery, lease, now, next_lease=next_lease, lease_until=lease_until)


@dataclass(frozen=True)
class Told:
    """One notification that reached the merchant. `overdue`: its sender had lost the lease by then."""

    delivery_id: str
    onboarding_id: str
    type: str
    state: str
    accepted: bool
    overdue: bool


class MerchantEnd:
    """Takes notifications over real HTTP; `refusals`: how many of the next ones are answered 500."""

    def __init__(self) -> None:
        self.refusals = 0
        self.last: tuple[str, dict[str, Any], int] | None = None
        end = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status, delivery_id = 204, self.headers["webhook-id"] or ""
                if end.refusals and delivery_id:
                    status, end.refusals = 500, end.refusals - 1
                end.last = (delivery_id, body, status)
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *words: object) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/kyc"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def steady_sandbox() -> Iterator[SandboxProcess]:
    """One whose levers are pulled over a connection that stays open: it is never restarted."""
    with SandboxProcess.start(rate=0) as sandbox:
        sandbox._session.headers["Connection"] = "keep-alive"
        yield sandbox


class World:
    """The clock, the providers, the merchant, and two services over one database.

    `broken`: what was seen that must never be; the test looks after each step.
    """

    def __init__(
        self, sandbox: SandboxProcess, end: MerchantEnd, folder: Path, budget: int, server: PostgresServer | None
    ) -> None:
        """`server`: where the database is; None: in a file."""
        self.sandbox, self.end, self.folder, self.budget = sandbox, end, folder, budget
        self._postgresql = None if server is None else Postgresql(server, goes=False)
        self._url = self._postgresql.url if self._postgresql else f"sqlite:///{folder / 'orchestrator.db'}"
        self.now = BEGINNING
        self.broken: list[str] = []
        self.pins: dict[str, tuple[str | None, str]] = {}
        self.after_share: dict[str, str | None] = {}
        self.acted: dict[str, list[str]] = defaultdict(list)
        """callbackUrls of the shares that OSL Pay acted upon, by merchantUserId."""
        self.user_ids: dict[str, str] = {}
        """OSL Pay's ids of those whom it knows."""
        self.calls: list[tuple[Run, Call]] = []
        self.told: list[Told] = []
        self.runs: list[Run] = []
        """Those that are stopped half-way."""
        self._begun: list[str] = []
        """The ids of all onboardings, the oldest first."""
        self._random = random.Random(7)
        end.refusals = 0
        sandbox.clear_faults()
        self.set_clock(0)
        self.services = [self._open(), self._open()]
        self.services[0].migrate()
        self._db = opened(self._url)

    def close(self) -> None:
        for run in self.runs:
            run.kill()
        self.runs.clear()
        self._db.close()
        for service in self.services:
            service.close()
        if self._postgresql:
            self._postgresql.close()
        self.sandbox.clear_faults()

    # Time and runs ----------------------------------------------------------------------------------------------

    def set_clock(self, step: int) -> None:
        """Everybody's clock; the providers' follows when they are next called."""
        self.now += step
        if self._postgresql:
            self._postgresql.tell(self.now)
        self._providers_clock_is_right = False

    def _set_providers_clock(self) -> None:
        if not self._providers_clock_is_right:
            self.sandbox.clock_offset(self.now - time.time_ns() // 1_000_000)
            self._providers_clock_is_right = True

    def context(self, process: int) -> Context:
        return self.services[process].context

    def run(
        self,
        kind: str,
        work: Callable[[], Any],
        stop_after: int | None = None,
        claim: Claim | None = None,
        delivery: Delivery | None = None,
    ) -> Run:
        """Begin an operation; it is kept in `runs` while it is stopped half-way."""
        run = Run(kind, work, claim, delivery)
        run.start(stop_after)
        if not run.done:
            self.runs.append(run)
        return run

    def go_on(self, run: Run, stop_after: int | None) -> None:
        run.go_on(stop_after)
        if run.done:
            self.runs.remove(run)

    def kill(self, run: Run) -> None:
        run.kill()
        self.runs.remove(run)

    def restart(self, process: int) -> None:
        """The process starts anew over the same files."""
        self.services[process].close()
        self.services[process] = self._open()

    # What is stored ---------------------------------------------------------------------------------------------

    def rows(self, sql: str, *values: Any) -> list[dict[str, Any]]:
        with closing(self._db.execute(sql, values)) as cursor:
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def onboardings(self) -> list[Onboarding]:
        """All, the oldest first."""
        found = [rows.onboarding(row) for row in self.rows("select * from onboardings")]
        return sorted(found, key=lambda row: self._begun.index(row.id))

    def onboarding(self, onboarding_id: str) -> Onboarding:
        return rows.onboarding(self.rows("select * from onboardings where id = ?", onboarding_id)[0])

    def transitions(self, onboarding_id: str) -> list[Transition]:
        found = self.rows("select * from transitions where onboarding_id = ? order by seq", onboarding_id)
        return [rows.transition(row) for row in found]

    def callbacks(self, onboarding_id: str) -> list[Callback]:
        found = self.rows("select * from callbacks where onboarding_id = ?", onboarding_id)
        return [rows.callback(row) for row in found]

    def tokens(self, onboarding_id: str) -> list[str]:
        """The secrets of its callbackUrls, oldest round first."""
        found = self.rows("select * from callback_tokens where onboarding_id = ? order by round", onboarding_id)
        sealer = self.context(0).sealer
        return [
            sealer.open(row["sealed"], "callback_tokens", onboarding_id, str(row["round"])).decode() for row in found
        ]

    def receipts(self) -> int:
        """How many webhooks were stored or counted."""
        return int(self.rows("select coalesce(sum(seen), 0) as seen from callbacks")[0]["seen"])

    # Providers --------------------------------------------------------------------------------------------------

    def pin(self, merchant_user_id: str, status: str | None, reason: str = "") -> None:
        """From now on OSL Pay says this; before it has a share of the user it can only say that it knows nobody."""
        self.after_share[merchant_user_id] = status
        if status is None or self.acted[merchant_user_id]:
            self.sandbox.pin_status(merchant_user_id, status, reason)
            self.pins[merchant_user_id] = (status, reason)

    def _open(self) -> Service:
        service = build(
            Config.from_env(self._environ()),
            now_ms=lambda: self.now,
            token=lambda: base64.urlsafe_b64encode(self._random.randbytes(32)).decode().rstrip("="),
            rand=self._random.random,
        )
        send = service.outgoing.send

        def gated(provider: str, method: str, url: str, **how: Any) -> Reply:
            return self._send(lambda: send(provider, method, url, **how), provider, url)

        service.outgoing.send = gated  # type: ignore[method-assign]
        context = replace(
            service.context,
            store=_GatedStore(service.driver, self._committed),
            schedule=_GatedSchedule(service.driver),
        )
        return replace(service, context=context)

    def _environ(self) -> dict[str, str]:
        return {
            **self.sandbox.environ,
            "ORCHESTRATOR_DATABASE_URL": self._url,
            "ORCHESTRATOR_DOCUMENTS_URL": f"file:{self.folder / 'documents'}",
            "ORCHESTRATOR_ENCRYPTION_KEYS": base64.b64encode(bytes(range(32))).decode(),
            "ORCHESTRATOR_PUBLIC_URL": PUBLIC_URL,
            "ORCHESTRATOR_SIGNUP_SECRETS": "whsec_" + base64.b64encode(b"signup-secret-of-24-byte").decode(),
            "ORCHESTRATOR_NOTIFY_URL": self.end.url,
            "ORCHESTRATOR_NOTIFY_SECRET": "whsec_" + base64.b64encode(b"notify-secret-of-24-byte").decode(),
            "ORCHESTRATOR_LOG_LEVEL": "ERROR",
            "OSL_REQUESTS_PER_SECOND": str(self.budget),
        }

    def _send(self, send: Callable[[], Reply], provider: str, url: str) -> Reply:
        stop_here()
        run = current()
        if provider == "merchant":
            return self._told(run, send)
        assert run.claim is not None, f"{run.kind} called {provider}"
        user = run.claim.onboarding.merchant_user_id
        operation = _OPERATIONS[urlsplit(url).path.rsplit("/", 1)[1]]
        call = Call(operation, self.now, self.pins.get(user, (None, ""))[0])
        self._check_sent(run, call)
        self._set_providers_clock()
        run.calls.append(call)
        self.calls.append((run, call))
        try:
            reply = send()
            call.status = reply.status
            if operation == "osl.status":
                call.said = _said(reply)
            return reply
        finally:
            if operation == "osl.share":
                self._learn_shares(user)
            stop_here()
            call.answered_at = self.now

    def _told(self, run: Run, send: Callable[[], Reply]) -> Reply:
        self.end.last = None
        try:
            return send()
        finally:
            assert self.end.last is not None
            delivery_id, body, status = self.end.last
            overdue = self.now >= (run.lease_until or 0)
            data = body["data"]
            self.told.append(Told(delivery_id, data["id"], body["type"], data["state"], status < 300, overdue))

    def _learn_shares(self, user: str) -> None:
        """What OSL Pay has of this user now; from the first share on it says what it was told to say."""
        calls = self.sandbox.requests("osl.share", user)
        self.acted[user] = [call["fields"]["callbackUrl"] for call in calls if call["acted"]]
        wanted = self.after_share.get(user, "PROCESS")
        if self.acted[user] and (user not in self.pins or self.pins[user][0] != wanted):
            self.pin(user, wanted, "it was not legible")
        if self.acted[user] and user not in self.user_ids:
            self.sandbox.send_webhook(url=self.end.url, merchantUserId=user, kycStatus="PROCESS")
            assert self.end.last is not None
            self.user_ids[user] = self.end.last[1]["data"]["userId"]

    # What must hold whenever something is sent or stored -----------------------------------------------------------

    def _check_sent(self, run: Run, call: Call) -> None:
        assert run.claim is not None
        claimed, row = run.claim.onboarding, self.onboarding(run.claim.onboarding.id)
        if run.calls:
            self.broken.append(f"one step made two calls: {run.calls[-1].operation}, {call.operation}")
        wanted = {
            State.UPLOADING: ("btse.upload",),
            State.SHARING: ("osl.upload", "osl.share", "osl.status"),
        }.get(claimed.state, ("osl.status",))
        if claimed.state in (State.CANCELLED, State.EXPIRED) or call.operation not in wanted:
            self.broken.append(f"{call.operation} was called for a row claimed in {claimed.state}")
        if claimed.submitted_at is None or (claimed.state is State.COLLECTING and claimed.share_sent_at is None):
            self.broken.append(f"{call.operation} was called before anything was submitted")
        if call.operation == "osl.share":
            intended = run.commits[-1].after if run.commits else claimed
            if intended.share is not ShareOutcome.INTENDED or intended.state is not State.SHARING:
                self.broken.append(f"a share was sent without intent in {intended.state}, now {row.state}")
        if call.operation.startswith("osl."):
            self._check_budget(run, call)

    def _check_budget(self, run: Run, call: Call) -> None:
        if _was_held_up(run, call):
            return
        if run.claim is not None and run.claim.slot is None:
            self.broken.append("OSL Pay was called without a slot")
        recent = [
            other
            for holder, other in self.calls
            if other.operation.startswith("osl.")
            and not _was_held_up(holder, other)
            and other.sent_at <= self.now
            and other.sent_at > self.now - DEADLINE_MS
            and _over_at(holder, other, self.now) > self.now - SECOND
        ]
        if len(recent) >= self.budget:
            self.broken.append(f"{len(recent) + 1} requests to OSL Pay in a second, {self.budget} are allowed")

    def _committed(self, run: Run, change: Change) -> None:
        before = change.before
        if before is None:
            self._begun.append(change.after.id)
            return
        if run.claim is not None and self.now < before.updated_at - DAY:
            self.broken.append("time ran backwards by days")
        at, number = before.state, before.round
        for row in change.transitions:
            self._check_way(run, before, row, at, number)
            at, number = row.to_state, row.round
        if number != change.after.round or at is not change.after.state:
            self.broken.append(f"{at} {number} became {change.after.state} {change.after.round} without a transition")
        self._check_recorded(run, change)

    def _check_way(self, run: Run, before: Onboarding, row: Transition, at: State, number: int) -> None:
        """The only ways into an outcome or another round."""
        said = run.said
        if row.to_state is State.APPROVED and at is not State.APPROVED:
            good = row.event in (Event.ANSWERED_PASS, Event.CONFIRMED_PASS) and said == "PASS"
            if not good or before.share_sent_at is None:
                self.broken.append(f"approved by {row.event} when OSL Pay said {said}")
        if row.to_state is State.REJECTED and at is not State.REJECTED:
            agree = {
                Event.ANSWERED_FINAL_REJECT: ("FINAL_REJECT",),
                Event.CONFIRMED_FINAL_REJECT: ("FINAL_REJECT", "REJECT"),
            }
            if said not in agree.get(row.event, ()):
                self.broken.append(f"rejected by {row.event} when OSL Pay said {said}")
        if row.round != number:
            agreed = row.event is Event.CONFIRMED_REJECT and said == "REJECT"
            asked = run.kind == "verb" and row.event in (Event.RESUBMISSION_ASKED, Event.SUBMITTED_AGAIN)
            if row.round != number + 1 or not (agreed or asked):
                self.broken.append(f"round {number} became {row.round} by {row.event} when OSL Pay said {said}")
        elif row.to_state is State.COLLECTING and at is not State.COLLECTING:
            self.broken.append(f"back to collecting by {row.event} in the same round")
        if row.event.startswith("confirmed_"):
            claimed = run.claim.onboarding if run.claim else None
            if claimed is None or claimed.claim_callback != before.claim_callback or claimed.round != number:
                self.broken.append(f"{row.event} without the claim that OSL Pay was asked about")
        if row.event is Event.SHARE_INTENDED:
            self._check_share(before)

    def _check_share(self, before: Onboarding) -> None:
        """A second share of a round only after the first one's answer was lost, and without any proof of it."""
        tokens = {plain_hash(token): f"{PUBLIC_URL}/callbacks/oslpay/{token}" for token in self.tokens(before.id)}
        stored = self.rows(
            "select hash from callback_tokens where onboarding_id = ? and round = ?", before.id, before.round
        )
        if not stored:
            return
        url = tokens[stored[0]["hash"]]
        acted = self.acted[before.merchant_user_id].count(url)
        if acted == 0:
            return
        lost = [
            row
            for row in self.transitions(before.id)
            if row.round == before.round and row.event is Event.SHARE_UNPROVEN
        ]
        proofs = [
            row.verdict
            for row in self.callbacks(before.id)
            if row.token_hash == stored[0]["hash"] and row.verdict is not Verdict.FORGED
        ]
        if acted > 1 or not lost or proofs or before.share is ShareOutcome.ARRIVED:
            self.broken.append(f"share {acted + 1} of a round: {len(lost)} losses, {before.share}, webhooks {proofs}")

    def _check_recorded(self, run: Run, change: Change) -> None:
        """What a provider answered is never dropped."""
        if run.claim is None or not run.calls or run.calls[-1].status is None or change.held is None:
            return
        acted = run.calls[-1].operation != "osl.status" and run.calls[-1].status < 300
        if change.held.release and acted and not change.transitions and change.after.last_error_sealed is None:
            self.broken.append(f"the answer to {run.calls[-1].operation} was dropped in {change.after.state}")


def _was_held_up(run: Run, call: Call) -> bool:
    """Whether the process stood still, right before it sent this, for longer than any call may take: its slot has been
    another's since, and nothing that it could look at would have told it."""
    claimed = run.claim.onboarding if run.claim is not None else None
    until = claimed.lease_until if claimed is not None else None
    return until is not None and call.sent_at >= until - 30 * SECOND


def _over_at(run: Run, call: Call, now: int) -> int:
    """When a request was last on its way; that of a run that died is known to have been sent."""
    if call.answered_at is not None:
        return call.answered_at
    return call.sent_at if run.done else now


def _said(reply: Reply) -> str | None:
    try:
        answer: Mapping[str, Any] = json.loads(reply.body)
        if reply.status != 200 or answer["code"] != "00000":
            return UNASKED
        return None if answer["data"] is None else answer["data"]["kycStatus"]
    except (ValueError, KeyError, TypeError):
        return UNASKED


ROOM: Mapping[Lane, int] = dict.fromkeys(Lane, 3)
