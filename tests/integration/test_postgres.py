"""The same service over a real PostgreSQL: nothing given twice, nothing lost, nothing out of order."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from orchestrator.errors import ConfigurationError, StoreUnavailable, Unauthenticated
from orchestrator.machine import Event, State
from orchestrator.onboarding import advance, audit, collect, listing, look, operate, receive, retain, signup
from orchestrator.onboarding.apply import Step, apply
from orchestrator.onboarding.overview import overview
from orchestrator.records import Delivery, DeliveryStatus, Lane, Onboarding, Verdict
from orchestrator.store import Change, LeaseLost
from orchestrator.store.change import Held
from orchestrator.store.postgres import PostgresDriver
from tests.command_line import CHECKOUT, orchestrator
from tests.cutting_proxy import CuttingProxy
from tests.databases import unmigrated
from tests.merchant_end import MerchantEnd
from tests.postgres_server import PostgresServer, postgres_server
from tests.sandbox_process import SandboxProcess
from tests.service import SECOND, Bench, Clock, new_user, pdf, web_of
from tests.waiting import until

__all__ = ["postgres_server"]
THREADS = 4


class RealClock(Clock):
    """Leases and slots follow the server's clock, which no test moves."""

    def __call__(self) -> int:
        return time.time_ns() // 1_000_000


def bench_over(server: PostgresServer, folder: Path, sandbox: SandboxProcess | None = None, **settings: str) -> Bench:
    settings = {"ORCHESTRATOR_DATABASE_URL": server.new_database(), "CALLBACK_PATIENCE_SECONDS": "0.3", **settings}
    return Bench(folder, sandbox, clock=RealClock(), **settings)


@pytest.fixture
def shared_bench(postgres_server: PostgresServer, tmp_path: Path) -> Iterator[Bench]:
    made = bench_over(postgres_server, tmp_path)
    yield made
    made.close()


def all_at_once(work: Callable[[int], None], threads: int = THREADS) -> None:
    """`work(number)` in threads; what one raises is raised here."""
    errors: list[BaseException] = []

    def run(number: int) -> None:
        try:
            work(number)
        except BaseException as error:  # noqa: BLE001 - raised again by the test's own thread
            errors.append(error)

    workers = [threading.Thread(target=run, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for error in errors:
        raise error


def one_more(row: Onboarding) -> list[Step]:
    return [Step(Event.EDITED, "test", changes={"share_losses": row.share_losses + 1})]


def counted(row: Onboarding) -> list[Step]:
    return [Step(None, "test", changes={"share_losses": row.share_losses + 1})]


def test_two_processes_that_migrate_at_once_do_it_once_and_nothing_starts_before(
    postgres_server: PostgresServer, tmp_path: Path
) -> None:
    url = postgres_server.new_database()
    bench = Bench.__new__(Bench)
    bench.folder, bench.sandbox = tmp_path, None
    bench.settings = {"ORCHESTRATOR_DATABASE_URL": url}
    environ = bench.environ()
    said = orchestrator(environ, tmp_path, "token", "list", expect=1).stderr
    assert "run `orchestrator migrate` first" in said
    command = [sys.executable, "-m", "orchestrator", "migrate"]
    processes = [
        subprocess.Popen(command, env={**environ, "PYTHONPATH": str(CHECKOUT)}, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    found = sorted(process.communicate(timeout=60)[0] for process in processes)
    assert [process.returncode for process in processes] == [0, 0]
    assert found[0].startswith("applied 0001_first")
    assert found[1] == "nothing to do\n"
    assert orchestrator(environ, tmp_path, "token", "list").stdout == ""


def test_a_migration_and_a_writer_that_wait_for_each_other_both_get_through(shared_bench: Bench) -> None:
    """The migration renames `tallies` first and takes `slots` then; who gives a slot back does it the other way."""
    shared_bench.context.schedule.set_budget(1)
    shared_bench.context.tally.flush()
    with shared_bench.connected() as database:
        unmigrated(database, "0004_all_tallies", "0006_free_slots")
        database.execute("drop index slots_free")
        database.execute("delete from tallies where what = 'transitions'")
    url = shared_bench.settings["ORCHESTRATOR_DATABASE_URL"]
    migrating: list[str] = []
    thread = threading.Thread(target=lambda: migrating.extend(shared_bench.open().driver.migrate()))
    with psycopg.connect(url) as writing, psycopg.connect(url, autocommit=True) as watching:
        # So long that it is the migration which the server undoes.
        writing.execute("set deadlock_timeout = '10s'")
        writing.execute("update slots set holder = 'test'")
        thread.start()
        waits = "select pid from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
        until(lambda: bool(watching.execute(waits).fetchall()), every=0.001)
        writing.execute("insert into tallies (what, word, number) values ('verdicts', 'stale', 1)")
    thread.join()
    assert migrating == ["0004_all_tallies", "0006_free_slots"]
    assert shared_bench.context.store.tallies()["verdicts", "stale"] == 1


def test_a_change_of_what_has_changed_meanwhile_is_not_stored(shared_bench: Bench) -> None:
    row = shared_bench.sign_up()
    store = shared_bench.context.store
    assert store.commit(Change(row, replace(row, round=2)))
    assert not store.commit(Change(row, replace(row, round=3))), "the row is another one by now"
    assert store.onboarding(row.id) == replace(row, round=2, version=2)
    assert not store.commit(Change(None, row)), "it is there already"
    assert store.counts()[State.COLLECTING] == 1, "nothing of a refused change remains"


def test_threads_that_change_one_row_and_sign_one_user_up_all_get_through(shared_bench: Bench) -> None:
    row = shared_bench.sign_up()
    data = signup.checked_signup(shared_bench.context, new_user())
    ids: set[str] = set()

    def work(number: int) -> None:
        ids.add(signup.sign_up(shared_bench.context, data, "hook", f"msg-{number}")[0].id)
        for _ in range(10):
            apply(shared_bench.context, row.id, one_more)

    all_at_once(work)
    assert len(ids) == 1
    assert shared_bench.row(row).share_losses == THREADS * 10
    assert list(audit.faults(shared_bench.context)) == []


def test_a_lease_that_another_took_over_stores_nothing(shared_bench: Bench) -> None:
    row = shared_bench.submitted()
    (claim,) = shared_bench.claim()
    assert claim.onboarding.id == row.id
    assert shared_bench.claim() == [], "it is given once"
    with pytest.raises(LeaseLost):
        apply(shared_bench.context, row.id, counted, held=Held("another"))
    assert shared_bench.row(row).share_losses == 0
    apply(shared_bench.context, row.id, counted, held=Held(claim.lease))
    assert shared_bench.row(row).lease is None
    with pytest.raises(LeaseLost):
        apply(shared_bench.context, row.id, counted, held=Held(claim.lease))


def test_what_is_due_is_never_given_to_two_of_four_claimers(shared_bench: Bench) -> None:
    ids = {shared_bench.submitted().id for _ in range(40)}
    contexts = [shared_bench.open().context for _ in range(THREADS)]
    given: list[list[str]] = [[] for _ in contexts]
    room = {**dict.fromkeys(Lane, 0), Lane.UPLOAD: 3}

    def work(number: int) -> None:
        while claims := advance.claim(contexts[number], room):
            given[number] += [claim.onboarding.id for claim in claims]

    all_at_once(work)
    # Who skips what others hold may find nothing once: then the rest is still there, and given now.
    given.append([claim.onboarding.id for claim in shared_bench.claim({**room, Lane.UPLOAD: 40})])
    together = [onboarding_id for found in given for onboarding_id in found]
    assert sorted(together) == sorted(ids)


def test_no_more_is_claimed_than_asked_for_though_the_server_once_knew_of_one_row(shared_bench: Bench) -> None:
    """A server that takes a table for tiny may run a subquery for each of its rows."""
    context = shared_bench.context
    rows = [shared_bench.sign_up() for _ in range(8)]

    def tell(row: Onboarding) -> None:
        before = shared_bench.row(row)
        told = Delivery(f"dlv_{row.id}", row.id, 0, "x", b"x", DeliveryStatus.PENDING, shared_bench.clock(), None)
        assert context.store.commit(Change(before, before, deliveries=[told]))

    tell(rows[0])
    with shared_bench.connected() as database:
        database.execute("analyze deliveries")
    for row in rows[1:]:
        tell(row)
    now = shared_bench.clock()
    assert len(context.schedule.claim_deliveries(now, "lease", now + SECOND, 2)) == 2


def test_four_threads_never_take_more_slots_in_any_second_than_there_are(
    postgres_server: PostgresServer, tmp_path: Path
) -> None:
    budget = 7
    bench = bench_over(postgres_server, tmp_path, OSL_REQUESTS_PER_SECOND=str(budget))
    contexts = [bench.open().context for _ in range(THREADS)]
    sent: list[float] = []
    ends = time.monotonic() + 3.5

    def work(number: int) -> None:
        context, holder = contexts[number], f"holder-{number}"
        while time.monotonic() < ends:
            now = context.now_ms()
            slot = context.schedule.take_slot(now, holder, now + 10 * SECOND)
            if slot is not None:
                sent.append(time.monotonic())
                now = context.now_ms()
                context.schedule.free_slot(slot, holder, now, now + SECOND)

    all_at_once(work)
    sent.sort()
    assert len(sent) >= 3 * budget
    assert min(later - earlier for earlier, later in zip(sent, sent[budget:], strict=False)) >= 0.99
    bench.close()


def test_notifications_stay_in_order_while_some_write_and_others_send(
    postgres_server: PostgresServer, tmp_path: Path
) -> None:
    merchant = MerchantEnd()
    settings = {"ORCHESTRATOR_NOTIFY_URL": merchant.url, "ORCHESTRATOR_NOTIFY_SECRET": merchant.secret}
    bench = bench_over(postgres_server, tmp_path, **settings)
    rows = [bench.collected() for _ in range(2)]
    contexts = [bench.open().context for _ in range(THREADS)]
    written = threading.Event()

    def write(row: Onboarding) -> None:
        for number in range(4):
            collect.submit(bench.context, row.id, "test")
            steps = [Step(Event.UPLOADED, "worker"), Step(Event.SHARED, "worker")]
            apply(bench.context, row.id, lambda _, steps=steps: steps)
            operate.ask_for_resubmission(bench.context, row.id, f"again {number}", "test")
        operate.cancel(bench.context, row.id, "test")

    def send(context: Any) -> None:
        while True:
            last_look = written.is_set()
            claimed = advance.claim_deliveries(context, 2)
            for delivery in claimed:
                advance.deliver(context, delivery)
            if last_look and not claimed:
                return

    def work(number: int) -> None:
        if number < len(rows):
            write(rows[number])
        else:
            send(contexts[number - len(rows)])

    def finish() -> None:
        until(lambda: all(bench.state(row) is State.CANCELLED for row in rows))
        until(lambda: not any(pending(bench, row) for row in rows))
        written.set()

    finishing = threading.Thread(target=finish)
    finishing.start()
    try:
        all_at_once(work, len(rows) + THREADS)
    finally:
        written.set()
        finishing.join()
    for row in rows:
        expected = [delivery.id for delivery in bench.context.store.deliveries(row.id)]
        assert len(expected) == 9
        assert [notice.id for notice in merchant.arrived(row.merchant_user_id)] == expected, "each once, in order"
    bench.close()
    merchant.stop()


def pending(bench: Bench, row: Onboarding) -> bool:
    return any(item.status is DeliveryStatus.PENDING for item in bench.context.store.deliveries(row.id))


def test_writers_that_wait_for_each_other_are_both_served(shared_bench: Bench) -> None:
    rows = [shared_bench.sign_up() for _ in range(2)]
    meeting = threading.Barrier(2, timeout=20)
    tries = [0, 0]

    def work(number: int) -> None:
        first, second = (rows[number].id, rows[1 - number].id)

        def write(session: Any) -> None:
            tries[number] += 1
            session.rows("lock_onboarding", id=first)
            if tries[number] == 1:
                meeting.wait()
            session.rows("lock_onboarding", id=second)
            session.run("insert_signup", webhook_id=f"msg-{number}", onboarding_id=first, received_at=1)

        shared_bench.service.driver.write(write)

    all_at_once(work, 2)
    # One is undone, and again if it is back while the other still waits.
    assert min(tries) == 1
    assert max(tries) > 1, "the server undid one of them"
    for number in range(2):
        found = shared_bench.context.store.onboarding_of_signup(f"msg-{number}")
        assert found
        assert found.id == rows[number].id


def refused_by_osl(bench: Bench) -> None:
    """Everybody is due, and OSL Pay may be tried."""
    before = bench.clock() - SECOND
    with bench.connected() as database:
        database.execute("update onboardings set due_at = 1, step_at = 1")
        database.execute(
            "insert into providers (name, unauthorized_ids, unhealthy_since, next_probe_at, last_probed) "
            "values ('osl', '[]', ?, ?, null)",
            (before, before),
        )


def test_who_would_probe_a_provider_that_is_healed_at_that_moment_holds_nobody_up(shared_bench: Bench) -> None:
    context = shared_bench.context
    context.schedule.set_budget(10)
    for _ in range(4):
        shared_bench.shared_on_paper()
    url = shared_bench.settings["ORCHESTRATOR_DATABASE_URL"]
    refused_by_osl(shared_bench)
    room = {**dict.fromkeys(Lane, 0), Lane.POLL: 1}
    claiming = threading.Thread(target=advance.claim, args=(shared_bench.open().context, room))
    with psycopg.connect(url) as healing:
        healing.execute(
            "update providers set unhealthy_since = null, next_probe_at = null, last_success_at = %s",
            (shared_bench.clock(),),
        )
        claiming.start()
        waits = "select pid from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
        with psycopg.connect(url, autocommit=True) as watching:
            until(lambda: bool(watching.execute(waits).fetchall()))
    claiming.join()
    assert context.schedule.health("osl").next_probe_at is None
    assert len(shared_bench.claim(room)) == 1
    due = advance.next_due(context).step
    assert due is not None
    assert due <= shared_bench.clock() + SECOND, "nobody waits for a probe"


def test_a_probe_for_which_others_hold_the_last_slots_at_that_moment_is_not_taken_for_made(shared_bench: Bench) -> None:
    context = shared_bench.context
    context.schedule.set_budget(10)
    shared_bench.shared_on_paper()
    refused_by_osl(shared_bench)
    room = {**dict.fromkeys(Lane, 0), Lane.POLL: 1}
    with psycopg.connect(shared_bench.settings["ORCHESTRATOR_DATABASE_URL"]) as other:
        other.execute("select * from slots for update")
        assert shared_bench.claim(room) == []
    assert context.schedule.health("osl").last_probed is None
    assert len(shared_bench.claim(room)) == 1


def test_a_connection_that_ends_before_the_commit_is_no_success(
    postgres_server: PostgresServer, shared_bench: Bench
) -> None:
    row = shared_bench.sign_up()
    url = shared_bench.settings["ORCHESTRATOR_DATABASE_URL"]

    def write(session: Any) -> str:
        session.run("insert_signup", webhook_id="msg-lost", onboarding_id=row.id, received_at=1)
        postgres_server.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() "
            "and pid <> pg_backend_pid()",
            url,
        )
        return "done"

    with pytest.raises(StoreUnavailable):
        shared_bench.service.driver.write(write)
    assert shared_bench.context.store.onboarding_of_signup("msg-lost") is None, "it connects again"


@pytest.fixture
def far_bench(postgres_server: PostgresServer, tmp_path: Path) -> Iterator[tuple[Bench, CuttingProxy]]:
    """A service that reaches its database through a proxy."""
    proxy = CuttingProxy(postgres_server.port)
    url = postgres_server.new_database().replace(str(postgres_server.port), str(proxy.port))
    made = bench_over(postgres_server, tmp_path, ORCHESTRATOR_DATABASE_URL=url)
    yield made, proxy
    made.close()
    proxy.close()


@pytest.mark.parametrize("passed", [False, True], ids=["the commit never arrived", "the commit was done"])
def test_a_connection_that_is_lost_at_the_commit_is_no_success_and_who_asks_again_finds_out(
    far_bench: tuple[Bench, CuttingProxy], passed: bool
) -> None:
    bench, proxy = far_bench
    context = bench.context
    data = signup.checked_signup(context, new_user())
    bench.context.tally.flush()  # or its own commit, a second later, is the one that is cut
    proxy.cut(b"COMMIT", passed=passed)
    with pytest.raises(StoreUnavailable):
        signup.sign_up(context, data, "hook", "msg-1")
    assert proxy.cuts == 1
    stored = until(lambda: [found] if (found := context.store.onboarding_of_signup("msg-1")) or not passed else None)
    assert (stored[0] is not None) == passed
    row, created = signup.sign_up(context, data, "hook", "msg-1")
    assert created is not passed
    assert stored[0] in (None, row)
    assert sum(context.store.counts().values()) == 1

    row = bench.submitted()
    (claim,) = [claim for claim in bench.claim() if claim.onboarding.id == row.id]
    bench.context.tally.flush()  # or its own commit, a second later, is the one that is cut
    proxy.cut(b"COMMIT", passed=passed)
    with pytest.raises(StoreUnavailable):
        apply(context, row.id, counted, held=Held(claim.lease))
    again = pytest.raises(LeaseLost) if passed else nullcontext()
    with again:  # a step whose outcome is stored has no lease any more, and is not stored a second time
        apply(context, row.id, counted, held=Held(claim.lease))
    assert bench.row(row).share_losses == 1
    assert list(audit.faults(context)) == []


def test_a_connection_that_is_lost_while_a_webhook_is_stored_gives_503_and_the_webhook_counts_once(
    far_bench: tuple[Bench, CuttingProxy],
) -> None:
    bench, proxy = far_bench
    row = bench.shared_on_paper()
    sent = bench.webhook(row, "PROCESS")
    path = f"/callbacks/oslpay/{bench.callback_secret(row)}"
    with web_of(bench) as web:
        bench.context.tally.flush()  # or its own commit, a second later, is the one that is cut
        proxy.cut(b"COMMIT", passed=True)
        answers = [web.anyone("POST", path, headers=sent.headers, data=sent.body).status_code for _ in range(2)]
    assert answers == [503, 200]
    ((verdict, seen),) = [(callback.verdict.value, callback.seen) for callback in bench.callbacks(row)]
    assert (verdict, seen) == ("applied", 2)


def test_a_machine_whose_clock_is_behind_the_servers_goes_on_with_what_others_left(shared_bench: Bench) -> None:
    """Leases end by the server's clock, so that is the one by which a worker looks for work."""
    row = shared_bench.submitted()
    assert len(shared_bench.claim()) == 1
    with shared_bench.connected() as database:
        database.execute("update onboardings set lease_until = ?", (shared_bench.clock() - 1,))
    late = shared_bench.open().context
    late = replace(late, now_ms=lambda: shared_bench.clock() - 600 * SECOND)
    due = advance.next_due(late)
    assert due.step is not None
    assert due.step <= late.now_ms()
    assert [claim.onboarding.id for claim in advance.claim(late, {**dict.fromkeys(Lane, 8)})] == [row.id]


def test_a_server_that_dies_in_the_middle_loses_nothing_that_was_acknowledged(
    postgres_server: PostgresServer, shared_bench: Bench
) -> None:
    row = shared_bench.sign_up()
    acknowledged: list[int] = []
    failures: list[StoreUnavailable] = []
    stopping = threading.Event()

    def work(number: int) -> None:
        del number
        while not stopping.is_set():
            try:
                acknowledged.append(apply(shared_bench.context, row.id, one_more).share_losses)
            except StoreUnavailable as error:
                failures.append(error)
                stopping.wait(0.05)

    threads = threading.Thread(target=all_at_once, args=(work,))
    threads.start()
    try:
        until(lambda: len(acknowledged) > 20)
        postgres_server.kill()
        until(lambda: failures)
        before = len(acknowledged)
        postgres_server.start()
        until(lambda: len(acknowledged) > before + 20)
    finally:
        stopping.set()
        threads.join()
    stored = shared_bench.row(row).share_losses
    assert len(set(acknowledged)) == len(acknowledged), "no value was acknowledged twice"
    assert set(acknowledged) <= set(range(1, stored + 1))
    assert stored - len(acknowledged) <= THREADS, "at most what was under way when it died"
    assert list(audit.faults(shared_bench.context)) == []


def test_stories_go_to_their_ends_over_postgresql(
    postgres_server: PostgresServer, tmp_path: Path, sandbox: SandboxProcess
) -> None:
    bench = bench_over(postgres_server, tmp_path, sandbox, OSL_REQUESTS_PER_SECOND="100")
    silent, review, final = (bench.submitted(story) for story in ("silent", "review", "final"))
    erased = bench.submitted("silent")

    def work_until(row: Onboarding, *states: State) -> None:
        def there() -> bool:
            bench.step()
            assert bench.state(row) in states, f"{bench.state(row)}: {bench.events(row)}"
            return True

        until(there, 20, every=0.02)

    work_until(final, State.AWAITING_CALLBACK, State.REJECTED)
    if bench.state(final) is State.AWAITING_CALLBACK:
        assert bench.receive(final, "FINAL_REJECT").value == "applied"
    work_until(final, State.REJECTED)
    work_until(silent, State.APPROVED)
    work_until(review, State.APPROVED)
    work_until(erased, State.APPROVED)
    retain.erase(bench.context, erased.id, "operator")
    assert bench.context.store.documents(erased.id) == []
    for row in (silent, review, final, erased):
        assert bench.chain_faults(row) == []
        assert (
            sum(
                share["count"]
                for share in sandbox.summary()["shares"]
                if share["merchantUserId"] == row.merchant_user_id
            )
            == 1
        )
    collect.put_document(bench.context, look.find(bench.context, bench.sign_up().id), "selfie", pdf("another"), "test")
    assert orchestrator(bench.environ(), tmp_path, "audit", "verify").stdout == "every chain is whole\n"
    bench.close()


def test_lists_and_the_flow_are_the_same_as_with_sqlite(shared_bench: Bench) -> None:
    context = shared_bench.context
    made = [shared_bench.sign_up() for _ in range(5)]
    operate.cancel(context, made[2].id, "operator:olga")
    for order, expected in {"newest": made[::-1], "oldest": made}.items():
        found = listing.every(context, listing.Wanted(order=order), by_email=False)
        assert sorted(row.id for row in found) == sorted(row.id for row in expected)
    changed = listing.page(context, listing.Wanted(order="changed"), "", 2, by_email=False)
    assert (changed[0][0].id, len(changed[0])) == (made[2].id, 2)
    assert changed[1] is not None
    assert len(listing.page(context, listing.Wanted(order="changed"), changed[1], 9, by_email=False)[0]) == 3
    shared = shared_bench.shared_on_paper()
    sent = shared_bench.webhook(shared, "PASS", timestamp=shared_bench.clock() - 1)
    body = sent.body.replace(b"9001", b"9002")
    with pytest.raises(Unauthenticated):
        receive.receive(context, shared_bench.callback_secret(shared), sent.headers, body)
    for state, number in ((None, 1), (State.AWAITING_CALLBACK, 1), (State.APPROVED, 0)):
        asked = listing.Wanted(verdict=Verdict.FORGED, state=state)
        assert len(list(listing.every(context, asked, by_email=False))) == number
    seen = overview(context)
    assert (seen.hours[-1].began, seen.days[-1].began) == (6, 6)
    assert seen.counts[State.CANCELLED] == 1
    context.status.forget_hours(shared_bench.clock() + 1)
    assert context.status.flow("hour", 0) == {}


def test_a_commit_reaches_the_disk_and_a_vanished_process_lets_go_whatever_the_server_says(
    postgres_server: PostgresServer, tmp_path: Path
) -> None:
    url = postgres_server.new_database()
    with psycopg.connect(url, autocommit=True) as connection:
        for setting in ("synchronous_commit = off", "idle_in_transaction_session_timeout = 0"):
            connection.execute(f"alter database {url.rpartition('/')[2]} set {setting}")  # type: ignore[call-overload]
    bench = bench_over(postgres_server, tmp_path, ORCHESTRATOR_DATABASE_URL=url)
    driver = bench.service.driver
    assert isinstance(driver, PostgresDriver)
    with driver._connection() as connection:
        names = ("synchronous_commit", "idle_in_transaction_session_timeout")
        said = [list(connection.execute(f"show {name}").fetchone().values()) for name in names]
    bench.close()
    assert said == [["on"], ["30s"]]


# Why a database cannot be used ---------------------------------------------------------------------------------

PASSWORD = "dOnOtShOwMe"


@pytest.fixture
def strangers(postgres_server: PostgresServer) -> Iterator[str]:
    """The URL of a database, for a user who needs a password and owns nothing of it."""
    url = postgres_server.new_database()
    postgres_server.execute(f"create role stranger login password '{PASSWORD}'")
    listed = postgres_server._folder / "data" / "pg_hba.conf"
    before = listed.read_text()
    rules = ("host all stranger 127.0.0.1/32 scram-sha-256", "host all unlisted 127.0.0.1/32 reject")
    listed.write_text("\n".join([*rules, before]))
    postgres_server.execute("select pg_reload_conf()")
    yield url.replace("postgres@", f"stranger:{PASSWORD}@")
    listed.write_text(before)
    postgres_server.execute("select pg_reload_conf()")
    postgres_server.execute("drop role stranger")


def migrating(url: str) -> str:
    """Why it could not be done."""
    with closing(PostgresDriver(url)) as driver, pytest.raises(StoreUnavailable) as refused:
        driver.migrate()
    return str(refused.value)


def test_what_a_server_refuses_is_told_apart_and_nothing_of_the_setting_is_repeated(
    postgres_server: PostgresServer, strangers: str, tmp_path: Path
) -> None:
    missing = postgres_server.url("nowhere")
    wrong = strangers.replace(PASSWORD, f"{PASSWORD}2")
    for url in (wrong, strangers.replace(f":{PASSWORD}", ""), strangers.replace(f"stranger:{PASSWORD}", "nobody")):
        until(lambda url=url: "refuses this user or password" in migrating(url))
    assert "in its pg_hba.conf" in migrating(strangers.replace(f"stranger:{PASSWORD}", "unlisted"))
    assert "no such database" in migrating(missing)
    assert "make this user the owner" in migrating(strangers)

    bench = Bench.__new__(Bench)
    bench.folder, bench.sandbox, bench._postgresql = tmp_path, None, None
    bench.settings = {"ORCHESTRATOR_DATABASE_URL": wrong}
    said = orchestrator(bench.environ(), tmp_path, "migrate", expect=1).stderr
    assert said.splitlines() == [f"Error: {migrating(wrong)}"], "the library's own lines may quote what they know"
    done = orchestrator(bench.environ(), tmp_path, "doctor", expect=1)
    assert f"error    connection: {migrating(wrong)}" in done.stdout
    assert PASSWORD not in done.stdout + done.stderr + said


def test_a_database_that_takes_no_writes_is_called_a_standby(shared_bench: Bench) -> None:
    url = shared_bench.settings["ORCHESTRATOR_DATABASE_URL"]
    with psycopg.connect(url, autocommit=True) as connection:
        name = url.rpartition("/")[2]
        connection.execute(f"alter database {name} set default_transaction_read_only = on")  # type: ignore[call-overload]
    shared_bench.context = shared_bench.open().context
    with pytest.raises(StoreUnavailable, match="takes no writes: is it a standby"):
        shared_bench.sign_up()


def test_a_user_without_rights_to_the_tables_is_told_what_to_be(
    postgres_server: PostgresServer, strangers: str, tmp_path: Path
) -> None:
    bench_over(
        postgres_server, tmp_path, ORCHESTRATOR_DATABASE_URL=strangers.replace(f"stranger:{PASSWORD}", "postgres")
    ).close()
    with (
        closing(PostgresDriver(strangers)) as driver,
        pytest.raises(StoreUnavailable, match="make this user the owner"),
    ):
        driver.rows("count_slots")


@pytest.mark.parametrize("rest", ["?nope=1", "?sslmode", "?user=%zz"])
def test_a_url_that_the_library_cannot_read_is_a_fault_of_the_setting(rest: str) -> None:
    with pytest.raises(
        ConfigurationError, match="ORCHESTRATOR_DATABASE_URL: it is no URL that PostgreSQL takes"
    ) as said:
        PostgresDriver(f"postgresql://orc:{PASSWORD}@db/kyc{rest}")
    assert PASSWORD not in str(said.value)
    assert said.value.__cause__ is None
    assert said.value.__suppress_context__
