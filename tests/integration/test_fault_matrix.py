"""Every row of the fault matrix, brought about over real HTTP, and every column compared."""

from __future__ import annotations

import dataclasses
import json
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import Conflict, Kind, ProviderError
from orchestrator.machine import Event, State
from orchestrator.onboarding import advance, collect, look, operate, receive
from orchestrator.onboarding.context import Context
from orchestrator.records import Delivery, DeliveryStatus, Onboarding, Verdict
from orchestrator.store.claiming import Claim
from tests.integration import fault_matrix as matrix
from tests.integration.fault_matrix import DELIVERY, FILE, QUERY, SHARE, UPLOAD, Row
from tests.sandbox_process import SandboxProcess
from tests.scripted_server import Peer, Received, ScriptedServer, answer, answering, scripted_server, self_signed
from tests.service import DAY, HOUR, MINUTE, NOTIFY_SECRET, SECOND, Bench, Clock, signed, status_change
from tests.waiting import until

CALLS = {"upload_kyc": "upload", "upload_file": "file", "share": "share", "kyc_status": "question", "send": "try"}
OPERATIONS = {UPLOAD: "btse.upload", FILE: "osl.upload", SHARE: "osl.share", QUERY: "osl.status"}
KINDS = {Kind.TRANSIENT: matrix.TRANSIENT, Kind.REFUSED: matrix.REFUSED, Kind.UNAUTHORIZED: matrix.UNAUTHORIZED}
ENDS = (State.NEEDS_ATTENTION, State.CANCELLED)
LONGEST = 4 * DAY


class WallClock(Clock):
    """Goes by itself, as a provider's does, and can still be moved."""

    goes = True

    def __init__(self) -> None:
        super().__init__()
        self._ahead = 0

    @property
    def now(self) -> int:  # type: ignore[override]
        return time.time_ns() // 1_000_000 + self._ahead

    @now.setter
    def now(self, moment: int) -> None:
        self._ahead = max(0, moment - time.time_ns() // 1_000_000)
        for tell in self._followers:
            tell(self.now)


@dataclasses.dataclass(frozen=True)
class Call:
    """One call that the service made for an onboarding, and how it went wrong."""

    onboarding: str
    name: str
    error: ProviderError | None


class _Watched:
    """A client whose calls are noted."""

    def __init__(self, real: Any, note: Callable[[str, ProviderError | None], None]) -> None:
        self._real = real
        self._note = note

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._real, name)
        if name not in CALLS:
            return method

        def call(*arguments: Any, **named: Any) -> Any:
            try:
                answered = method(*arguments, **named)
            except ProviderError as error:
                self._note(CALLS[name], error)
                raise
            self._note(CALLS[name], None)
            return answered

        return call


class WatchedBench(Bench):
    """A service whose calls and steps are noted. `faulty`: the context that does the work, if not its own."""

    calls: list[Call]
    steps: list[tuple[str, int]]
    faulty: Context | None = None

    def watched(self, onboarding_id: str) -> Context:
        context = self.faulty or self.context

        def note(name: str, error: ProviderError | None) -> None:
            self.calls.append(Call(onboarding_id, name, error))

        clients = {name: getattr(context, name) for name in ("btse", "osl", "merchant")}
        watched: dict[str, Any] = {name: _Watched(real, note) for name, real in clients.items() if real}
        return dataclasses.replace(context, **watched)

    def advance(self, claims: list[Claim], context: Context | None = None) -> None:
        # The time that a test jumps over is no skew.
        self._keep_nonces_fresh()
        for claim in claims:
            self.steps.append((claim.onboarding.id, self.clock.now))
            super().advance([claim], context or self.watched(claim.onboarding.id))

    def deliver(self, deliveries: list[Delivery]) -> None:
        for delivery in deliveries:
            self.steps.append((delivery.onboarding_id, self.clock.now))
            advance.deliver(self.watched(delivery.onboarding_id), delivery)

    def run_out_of(self, row: Onboarding, state: State) -> State:
        """Work until the onboarding is elsewhere, as a worker would; where it is then."""
        end = self.clock.now + LONGEST
        while self.state(row) is state:
            if not self.step():
                then = self._something_changes()
                assert then is not None, f"{state} is never left"
                assert then <= end, f"{state} is not left in time"
                self.clock.now = then
        return self.state(row)

    def made_for(self, row: Onboarding) -> list[Call]:
        return [call for call in self.calls if call.onboarding == row.id]

    def done(self, row: Row, user: Onboarding | None) -> int:
        """How many calls the provider has carried out."""
        assert self.sandbox
        who = user.merchant_user_id if user and row.operation is not FILE else None
        return sum(call["acted"] for call in self.sandbox.requests(OPERATIONS[row.operation], who))


# The merchant's receiver


class Receiver:
    """Behaves as a row wants towards one user, well towards all others. `taken`: what it has acted upon."""

    def __init__(self, row: Row) -> None:
        self.row = row
        self.faulty: str | None = None
        self.left = row.times if row.receiver else 0
        self.taken: list[tuple[str, str]] = []

    def behave(self, peer: Peer, request: Received) -> None:
        who = json.loads(request.body)["data"]["merchantUserId"]
        if who == self.faulty and self.left != 0:
            self.left = None if self.left is None else self.left - 1
            self._misbehave(peer, request, who)
        else:
            self._take(request, who)
            peer.send(answer(204))

    def _take(self, request: Received, who: str) -> None:
        self.taken.append((who, request.headers["webhook-id"]))

    def _misbehave(self, peer: Peer, request: Received, who: str) -> None:
        what = self.row.receiver
        if what.split()[0].isdigit() and what != "50 MB":
            more = {"Retry_After": "700"} if what.endswith("700 s") else {}
            more |= {"Location": "/elsewhere"} if what == "302" else {}
            peer.send(answer(int(what.split()[0]), **more))
            return
        if what != "hang before":
            self._take(request, who)
        if what.startswith("hang"):
            peer.stall()
        elif what == "reset":
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
            # The half has to be read before the reset throws it away.
            time.sleep(0.05)
            peer.reset()
        elif what == "drip":
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
            peer.drip(b"x", 1.0)
        elif what == "50 MB":
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 50000000\r\n\r\n")
            for _ in range(500):
                peer.send(bytes(100_000))
        else:
            peer.send(answer(200, b"<html>Welcome</html>", Content_Type="text/html"))


# One row, from the fault to its end


def _uploading(bench: Bench) -> Onboarding:
    return bench.submitted()


def _with_files(bench: Bench) -> Onboarding:
    row = bench.run_to(bench.submitted(), State.SHARING)
    bench.clock.advance(SECOND)
    return row


def _sharing(bench: Bench) -> Onboarding:
    return bench.to_share()


def _confirming(bench: Bench) -> Onboarding:
    row = bench.shared()
    assert bench.sandbox
    bench.sandbox.pin_status(row.merchant_user_id, "PASS")
    bench.receive(row, "PASS")
    return bench.row(row)


STARTS: dict[str, Callable[[Bench], Onboarding]] = {
    UPLOAD: _uploading,
    FILE: _with_files,
    SHARE: _sharing,
    QUERY: _confirming,
    DELIVERY: _uploading,
}


@contextmanager
def _bench(folder: Path, sandbox: SandboxProcess, clock: Clock | None, **settings: str) -> Iterator[WatchedBench]:
    bench = WatchedBench(folder, sandbox, clock=clock, **settings)
    bench.calls, bench.steps = [], []
    try:
        yield bench
    finally:
        bench.close()


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """`nowhere.invalid` has no address, and nobody outside is asked."""
    really = socket.getaddrinfo

    def lookup(host: Any, *more: Any, **named: Any) -> Any:
        if host in ("nowhere.invalid", b"nowhere.invalid"):
            raise socket.gaierror(socket.EAI_NONAME, "no such host")
        return really(host, *more, **named)

    monkeypatch.setattr(socket, "getaddrinfo", lookup)


def _name(row: Row) -> str:
    return f"{row.operation}: {row.fault}"


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as entered:
        yield entered


@pytest.mark.parametrize("row", [row for row in matrix.ROWS if row.operation is not DELIVERY], ids=_name)
def test_a_call_to_a_provider_that_goes_wrong_has_the_consequences_of_the_table(
    row: Row, tmp_path: Path, sandbox: SandboxProcess, stack: ExitStack
) -> None:
    bench = stack.enter_context(_bench(tmp_path, sandbox, WallClock() if row.clock else None))
    beside = bench.to_share() if row.others is matrix.AT_OSL else None
    user = STARTS[row.operation](bench)
    beside = beside or bench.submitted()
    start, done = user.state, bench.done(row, user)
    bench.calls.clear()
    _make_it_go_wrong(bench, row, user, stack)

    began = bench.clock.now
    claims = bench.claim()
    mine = [claim for claim in claims if claim.onboarding.id == user.id]
    others = [claim for claim in claims if claim.onboarding.id != user.id]
    bench.steps.clear()
    with _in_a_thread(lambda: bench.advance(mine)) as thread:
        until(lambda: not thread.is_alive() or _met(bench, row, user), every=0.01)
        said = _meanwhile(bench, row, user)
        assert not row.meanwhile or thread.is_alive(), "the call did not hang for long enough"
        _bring_on(bench, row, beside, others, began)
    expected = 1 if row.lever.get("act") or row.lever.keys() & {"hangAfter", "drip"} else 0
    until(lambda: bench.done(row, None if row.operation is FILE else user) >= done + expected, every=0.01)

    [first] = bench.made_for(user)
    reads = said or _reads(bench, row, user, first.error)
    _mend(bench, row)
    next_state = bench.run_out_of(user, start)
    calls = Counter(call.name for call in bench.made_for(user))
    later = [at for who, at in bench.steps if who == user.id][1:]
    files_of_others = 2 if row.operation is FILE else 0
    assert {
        "kind": _kind(first.error),
        "waits": _seconds(row, later[0] - began) if later and first.error else None,
        "then": next_state.value,
        "calls": calls,
        "done": bench.done(row, user) - done - files_of_others,
        "reads": reads,
    } == {
        "kind": row.kind,
        "waits": row.waits,
        "then": row.then,
        "calls": row.calls,
        "done": row.done,
        "reads": row.reads,
    }
    _look_at_the_end(bench, row, user)


def _make_it_go_wrong(bench: WatchedBench, row: Row, user: Onboarding, stack: ExitStack) -> None:
    assert bench.sandbox
    if row.lever:
        match = "*" if row.operation is FILE else user.merchant_user_id
        bench.sandbox.fault(OPERATIONS[row.operation], match=match, times=row.times, **row.lever)
    if row.clock:
        # The bench's own may have been moved on the way here.
        ahead = bench.clock.now - time.time_ns() // 1_000_000
        bench.sandbox.clock_offset(row.clock * SECOND + ahead)
    if row.environ:
        _use(bench, row, stack)


def _use(bench: WatchedBench, row: Row, stack: ExitStack) -> None:
    """From now on a process with the row's settings does the work."""
    assert bench.sandbox
    values = {name: value.replace("{sandbox}", bench.sandbox.url) for name, value in row.environ.items()}
    if any("{tls}" in value for value in values.values()):
        tls = self_signed(bench.folder / "self-signed.pem")
        server = stack.enter_context(scripted_server(answering(answer()), tls))
        values = {name: value.replace("{tls}", server.url) for name, value in values.items()}
    before = dict(bench.settings)
    bench.settings |= values
    bench.faulty = bench.open().context
    bench.services.insert(0, bench.services.pop())
    bench.settings = before


def _mend(bench: WatchedBench, row: Row) -> None:
    bench.faulty = None
    if row.clock and bench.sandbox:
        bench.sandbox.clock_offset(0)


@contextmanager
def _in_a_thread(work: Callable[[], None]) -> Iterator[threading.Thread]:
    raised: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised again in the test's own thread
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield thread
    finally:
        thread.join(30)
    assert not thread.is_alive()
    if raised:
        raise raised[0]


def _met(bench: Bench, row: Row, user: Onboarding) -> bool:
    """Whether the call has come to where it goes wrong."""
    assert bench.sandbox
    who = None if row.operation is FILE else user.merchant_user_id
    calls = bench.sandbox.requests(OPERATIONS[row.operation], who)
    return any(call["fault"] and (call["acted"] or not row.meanwhile) for call in calls[-3:])


def _meanwhile(bench: Bench, row: Row, user: Onboarding) -> str:
    if row.meanwhile == "cancel":
        operate.cancel(bench.context, user.id, "test")
    elif row.meanwhile == "webhook":
        known = bench.context.osl.kyc_status(user.merchant_user_id, None).value
        assert known
        assert known.user_id
        sent = signed(bench.clock(), status_change(known.user_id, user.merchant_user_id, "PASS"))
        secret = bench.callback_secret(user)
        assert receive.receive(bench.context, secret, sent.headers, sent.body) is Verdict.EARLY
    elif row.meanwhile == "edit":
        with pytest.raises(Conflict) as caught:
            collect.edit(bench.context, user.id, {"occupation": "Student"}, "test")
        return str(caught.value)
    return ""


def _bring_on(bench: WatchedBench, row: Row, beside: Onboarding, claims: list[Claim], began: int) -> None:
    """Another user goes all the way that is open to them, while no time passes that they would have to wait for."""
    goal = State.SHARING if row.others is matrix.AT_BTSE else State.AWAITING_CALLBACK
    bench.advance(claims)
    while bench.state(beside) is not goal:
        claims = [claim for claim in bench.claim() if claim.onboarding.id == beside.id]
        assert claims, f"{row.others}: the other user is held up in {bench.state(beside)}"
        bench.advance(claims)
    if not row.clock:
        assert bench.clock.now == began


def _seconds(row: Row, milliseconds: int) -> float:
    """A clock that goes by itself has gone on a little while the call was made."""
    return milliseconds // (10 * SECOND) * 10 if row.clock else round(milliseconds / SECOND, 1)


def _kind(error: ProviderError | None) -> str:
    if error is None:
        return matrix.NONE
    return matrix.UNKNOWN if error.unknown_outcome else KINDS[error.kind]


def _reads(bench: Bench, row: Row, user: Onboarding, error: ProviderError | None) -> str:
    if error is None:
        found = [warning for warning in look.warnings(bench.context) if "btse's clock" in warning]
        return _about(" ".join(found)) if row.clock else ""
    last = bench.view(user).last_error
    assert last
    assert last["provider"] == error.provider
    return _about(f"`{last['code']}` {last['message']}".rstrip())


def _about(words: str) -> str:
    """Without what differs from run to run: nonces, and the second by which a clock is read coarsely."""
    words = re.sub(r"nonce \d+ is -?\d+ ms old", "nonce … is … ms old", words)
    words = re.sub(r"\b(24|26) s\b", "25 s", words)
    return re.sub(r"\b(39|41) s\b", "40 s", words)


def _look_at_the_end(bench: WatchedBench, row: Row, user: Onboarding) -> None:
    """What the columns do not say, and holds for all rows."""
    assert bench.chain_faults(user) == []
    view, last = bench.view(user), bench.transitions(user)[-1]
    if row.then == State.NEEDS_ATTENTION:
        assert view.last_error
        assert _about(f"`{view.last_error['code']}` {view.last_error['message']}".rstrip()) == row.reads
        assert last.detail == row.timeline
    elif row.then != State.CANCELLED:
        assert view.last_error is None, "it went on"
    if State(row.then) in ENDS:
        made = len(bench.made_for(user))
        bench.run(DAY)
        assert len(bench.made_for(user)) == made, "nothing more goes out"
    if row.operation is SHARE:
        urls = {call["fields"]["callbackUrl"] for call in bench.requests(user, "osl.share")}
        assert len(urls) <= 1
    if row.meanwhile == "cancel":
        event = Event.SHARE_LOST if row.environ else Event.SHARED
        assert (last.event, last.from_state, last.to_state) == (event, State.CANCELLED, State.CANCELLED)
    if row.meanwhile == "webhook":
        assert bench.verdicts(user) == [Verdict.APPLIED]


def test_an_error_that_is_over_is_no_longer_shown(played: Bench) -> None:
    assert played.sandbox
    played.sandbox.fault("osl.upload", status=503)
    row = played.run_to(played.submitted(), State.SHARING)
    played.step()
    assert played.view(row).last_error
    while played.context.store.documents(row.id)[0].url_sealed is None:
        played.clock.advance(SECOND)
        [claim] = played.claim()
        played.advance([claim])
    assert (played.state(row), played.view(row).last_error) == (State.SHARING, None)
    row = played.run_to(row, State.AWAITING_CALLBACK)
    played.sandbox.pin_status(row.merchant_user_id, "PROCESS")
    played.sandbox.fault("osl.status", status=503)
    played.run(HOUR)
    assert played.view(row).last_error
    played.run(MINUTE)
    assert (played.state(row), played.view(row).last_error) == (State.AWAITING_CALLBACK, None)
    played.sandbox.fault("osl.status", status=503)
    played.receive(row, "PASS")
    played.step()
    assert played.view(row).last_error
    played.run(SECOND)
    assert (played.state(row), played.view(row).last_error) == (State.CONFIRMING, None)


# For all users


@pytest.mark.parametrize("row", matrix.FOR_ALL, ids=_name)
def test_a_provider_that_lets_nobody_in_is_asked_once_a_minute_and_then_all_go_on(
    row: Row, tmp_path: Path, sandbox: SandboxProcess, stack: ExitStack
) -> None:
    bench = stack.enter_context(_bench(tmp_path, sandbox, None))
    users = [STARTS[row.operation](bench) for _ in range(3)] if row.operation is UPLOAD else _all_sharing(bench)
    start = users[0].state
    done = bench.done(row, None)
    bench.calls.clear()
    bench.steps.clear()
    sandbox.fault(OPERATIONS[row.operation], times=row.times, **row.lever)

    began = bench.clock.now
    bench.run(5 * MINUTE)
    errors = [call.error for call in bench.calls]
    times = [at - began for _, at in bench.steps]
    warnings = [warning for warning in look.warnings(bench.context) if "answers" in warning]
    assert {_kind(error) for error in errors} == {row.kind}
    assert times == [0, 0, 0, *(number * 60 * SECOND for number in range(1, 6))], "the others wait as well"
    assert len({who for who, _ in bench.steps[3:]}) == 3, "each time another one is asked for"
    assert warnings == [row.reads]
    assert {bench.state(user) for user in users} == {start}

    sandbox.clear_faults()
    sandbox.clock_offset(bench._offset)
    for user in users:
        bench.run_out_of(user, start)
    calls = Counter(call.name for call in bench.calls if call.name in row.calls)
    assert ({bench.state(user).value for user in users}, calls) == ({row.then}, row.calls)
    assert bench.done(row, None) - done == row.done
    assert [warning for warning in look.warnings(bench.context) if "answers" in warning] == []


def _all_sharing(bench: Bench) -> list[Onboarding]:
    users = [bench.submitted() for _ in range(3)]
    for user in users:
        # The share of the first is not to begin before the files of the last are there.
        while any(not document.url_sealed for document in bench.context.store.documents(user.id)):
            claims = [claim for claim in bench.claim() if _lacks_files(bench, claim)]
            bench.advance(claims)
    # Who was claimed and not advanced comes free with its lease.
    bench.clock.advance(MINUTE)
    return [bench.row(user) for user in users]


def _lacks_files(bench: Bench, claim: Claim) -> bool:
    documents = bench.context.store.documents(claim.onboarding.id)
    return any(not document.url_sealed for document in documents)


# Notifications


@pytest.mark.parametrize("row", [row for row in matrix.ROWS if row.operation is DELIVERY], ids=_name)
def test_a_notification_that_goes_wrong_has_the_consequences_of_the_table(
    row: Row, tmp_path: Path, sandbox: SandboxProcess, stack: ExitStack
) -> None:
    receiver = Receiver(row)
    server: ScriptedServer = stack.enter_context(scripted_server(receiver.behave))
    told = {"ORCHESTRATOR_NOTIFY_URL": server.url, "ORCHESTRATOR_NOTIFY_SECRET": NOTIFY_SECRET}
    bench = stack.enter_context(_bench(tmp_path, sandbox, None, **told))
    user, beside = bench.submitted(), bench.submitted()
    receiver.faulty = user.merchant_user_id
    [first] = bench.context.store.deliveries(user.id)
    if row.environ:
        _use(bench, row, stack)

    began = bench.clock.now
    claims = advance.claim_deliveries(bench.context, 8)
    mine = [claim for claim in claims if claim.onboarding_id == user.id]
    others = [claim for claim in claims if claim.onboarding_id == beside.id]
    with _in_a_thread(lambda: bench.deliver(mine)) as thread:
        until(lambda: not thread.is_alive() or server.received, every=0.01)
        if row.others is matrix.GO_ON:
            bench.deliver(others)
            assert [item.status for item in bench.context.store.deliveries(beside.id)] == [DeliveryStatus.DELIVERED]
        else:
            _bring_on(bench, row, beside, [], began)
    bench.faulty = None

    seen = bench.context.store.delivery(first.id)
    assert seen
    after: Delivery | None = seen
    while after and after.due_at is not None:
        bench.clock.now = max(bench.clock.now, after.due_at)
        bench.deliver([item for item in advance.claim_deliveries(bench.context, 8) if item.id == first.id])
        after = bench.context.store.delivery(first.id)
    assert after
    steps = [at for who, at in bench.steps if who == user.id]
    errors = [call.error for call in bench.made_for(user) if call.name == "try"]
    taken = [item for who, item in receiver.taken if who == user.merchant_user_id]
    assert {
        "kind": _kind(errors[0]),
        "waits": round((steps[1] - began) / SECOND, 1) if len(steps) > 1 else None,
        "then": after.status.value,
        "calls": {"try": len(errors)},
        "done": len(taken),
        "reads": f"`{seen.last_error}`" if seen.last_error else "",
    } == {
        "kind": row.kind,
        "waits": row.waits,
        "then": row.then,
        "calls": row.calls,
        "done": row.done,
        "reads": row.reads,
    }
    assert set(taken) <= {first.id}, "the same webhook-id for all tries"


# The table as a whole


def test_the_table_has_a_time_out_before_and_after_the_act_for_every_operation() -> None:
    timed_out = {(row.operation, row.done) for row in matrix.ROWS if row.fault.startswith("time-out")}
    assert {operation for operation, _ in timed_out} == {UPLOAD, FILE, SHARE, QUERY, DELIVERY}
    assert len([row for row in matrix.ROWS if row.fault.startswith("time-out")]) == 10


def test_no_row_is_there_twice_and_every_row_is_in_a_chapter() -> None:
    rows = [*matrix.ROWS, *matrix.FOR_ALL]
    assert len({_name(row) for row in rows}) == len(rows)
    assert sorted(map(_name, rows)) == sorted(_name(row) for _, chapter in matrix.CHAPTERS for row in chapter)
