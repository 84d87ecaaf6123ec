"""The store over a real SQLite file: all or nothing, whoever comes first, and what a broken file makes of it."""

from __future__ import annotations

import os
import random
import sqlite3
import threading
from collections import Counter
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from orchestrator.errors import Conflict, OrchestratorError, StoreUnavailable
from orchestrator.machine import CLOSED, Event, State
from orchestrator.onboarding import collect, look, operate
from orchestrator.onboarding.apply import Step, apply
from orchestrator.records import (
    AccessToken,
    Callback,
    CallbackToken,
    Delivery,
    DeliveryStatus,
    Document,
    Onboarding,
    Transition,
    Verdict,
)
from orchestrator.store import Change, LeaseLost, SqliteDriver, Store
from orchestrator.store.change import Held
from orchestrator.store.driver import Duplicate
from tests.databases import Plain
from tests.service import SECOND, Bench

TABLES = ("onboardings", "transitions", "callbacks", "callback_tokens", "deliveries", "documents", "signups", "links")


def counted(bench: Bench) -> dict[str, int]:
    """How many rows each table has."""
    with bench.connected() as database:
        return {table: database.execute(f"select count(*) from {table}").fetchone()[0] for table in TABLES}


def sibling(row: Onboarding, number: int, **columns: Any) -> Onboarding:
    """Another onboarding, as yet unwritten."""
    other = replace(row, id=f"onb_{number:05d}", merchant_user_id=f"u-{number}", link_hash=f"link-{number}")
    return replace(other, **columns)


def everything(row: Onboarding, after: Onboarding) -> Change:
    """A change that writes to every table."""
    seq, at = row.seq + 1, row.created_at
    return Change(
        row,
        after,
        transitions=[
            Transition(row.id, seq, at, row.state, after.state, Event.EDITED, 1, "test", "", f"hash-{row.id}"),
        ],
        deliveries=[Delivery(f"dlv_{row.id}", row.id, 0, "x", b"", DeliveryStatus.PENDING, at, None)],
        callbacks=[
            Callback(f"cbk_{row.id}", at, "app", at, "t", row.id, 1, "x", "PASS", "9", b"", "", Verdict.APPLIED),
        ],
        callback_token=CallbackToken(f"token-{row.id}", row.id, 7, b"", at),
        document=Document(row.id, "selfie", "image/png", 1, "", f"place-{row.id}", at),
        signup_id=f"signup-{row.id}",
        replaced_link=f"old-{row.id}",
    )


# Opening -----------------------------------------------------------------------------------------------------------


def test_migrations_run_once_and_know_what_is_pending(tmp_path: Path) -> None:
    driver = SqliteDriver(tmp_path / "var" / "new.db")
    applied = driver.migrate()
    assert applied[0] == "0001_first"
    assert driver.pending_migrations() == []
    assert driver.migrate() == []
    other = SqliteDriver(tmp_path / "var" / "new.db")
    assert (other.pending_migrations(), other.migrate()) == ([], [])
    for each in (driver, other):
        each.close()


def test_many_that_migrate_at_once_do_it_once(tmp_path: Path) -> None:
    applied: list[list[str]] = []

    def migrate() -> None:
        driver = SqliteDriver(tmp_path / "var" / "new.db")
        applied.append(driver.migrate())
        driver.close()

    threads = [threading.Thread(target=migrate) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(applied) == 8
    assert sum(bool(names) for names in applied) == 1


def test_an_unmigrated_database_says_what_is_pending(tmp_path: Path) -> None:
    (tmp_path / "var").mkdir()
    driver = SqliteDriver(tmp_path / "var" / "new.db")
    assert driver.pending_migrations()[0] == "0001_first"
    driver.close()


@pytest.mark.sqlite
def test_files_are_for_their_owner_alone_whatever_the_umask(tmp_path: Path) -> None:
    umask = os.umask(0)
    try:
        bench = Bench(tmp_path)
        bench.sign_up()
    finally:
        os.umask(umask)
    folder = bench.database.parent
    assert folder.stat().st_mode & 0o777 == 0o700
    modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
    assert {"orchestrator.db", "orchestrator.db-wal", "orchestrator.db-shm"} <= set(modes)
    assert set(modes.values()) == {0o600}, modes
    bench.close()


@pytest.mark.sqlite
def test_it_is_in_wal_mode_and_flushes_every_commit(bench: Bench) -> None:
    def pragma(session: Any) -> tuple[Any, ...]:
        database = session.database
        names = ("journal_mode", "synchronous", "foreign_keys")
        return tuple(database.execute(f"pragma {name}").fetchone()[0] for name in names)

    assert bench.service.driver.read(pragma) == ("wal", 2, 1)
    assert bench.service.driver.write(pragma) == ("wal", 2, 1)


def test_services_that_come_and_go_leave_the_others_alone(bench: Bench) -> None:
    row = bench.sign_up()
    for _ in range(5):
        service = bench.open()
        collect.renew_link(service.context, row.id, "test")
        service.close()
        collect.renew_link(bench.context, row.id, "test")
    assert bench.row(row).version == row.version + 10


# Commit --------------------------------------------------------------------------------------------------------------


def test_a_change_is_written_whole(bench: Bench) -> None:
    row = bench.sign_up()
    before = counted(bench)
    assert bench.context.store.commit(everything(row, replace(row, osl_user_id="9")))
    gained = {table: count - before[table] for table, count in counted(bench).items()}
    assert gained == {table: int(table != "onboardings") for table in TABLES}
    assert bench.row(row) == replace(row, osl_user_id="9", version=row.version + 1)


@pytest.mark.parametrize(
    "spoil",
    [
        {"signup_id": "taken"},
        {"replaced_link": "taken"},
        {"callback_token": "taken"},
        {"transitions": "taken"},
        {"deliveries": "taken"},
        {"document": "taken"},
    ],
    ids=str,
)
def test_a_change_of_which_one_row_is_refused_is_not_written_at_all(bench: Bench, spoil: dict[str, str]) -> None:
    first, second = bench.sign_up(), bench.sign_up()
    store = bench.context.store
    assert store.commit(everything(first, first))
    [name] = spoil
    taken = getattr(everything(first, first), name)
    if name == "transitions":
        taken = [replace(taken[0], onboarding_id=second.id, seq=1)]
    if name == "document":
        taken = replace(taken, onboarding_id=second.id)
    before = counted(bench)
    assert store.commit(replace(everything(second, second), **{name: taken})) is False
    assert counted(bench) == before
    assert bench.row(second) == second


def test_a_change_that_breaks_a_rule_of_the_schema_is_not_written_at_all(bench: Bench) -> None:
    row = bench.sign_up()
    before = counted(bench)
    broken = Document(row.id, "passport", "image/png", 1, "", "place", 0)
    with pytest.raises(Exception, match=r"(?i)constraint"):
        bench.context.store.commit(replace(everything(row, row), document=broken))
    assert counted(bench) == before
    assert bench.context.store.commit(everything(row, row)), "and the writer goes on"


def test_who_decided_on_an_old_row_loses(bench: Bench) -> None:
    row = bench.sign_up()
    store = bench.context.store
    assert store.commit(Change(row, replace(row, osl_user_id="first")))
    before = counted(bench)
    assert store.commit(everything(row, replace(row, osl_user_id="second"))) is False
    assert (counted(bench), bench.row(row).osl_user_id) == (before, "first")


def test_the_loser_decides_again_on_the_row_as_it_is(bench: Bench) -> None:
    row = bench.sign_up()
    seen: list[str | None] = []

    def decide(current: Onboarding) -> list[Step]:
        seen.append(current.osl_user_id)
        if len(seen) == 1:
            operate.cancel(bench.context, row.id, "faster")
        return [Step(Event.UPLOADED, "slower", changes={"osl_user_id": "9"})]

    after = apply(bench.context, row.id, decide)
    assert (len(seen), after.state, after.osl_user_id) == (2, State.CANCELLED, "9")
    assert bench.row(row) == after
    assert [(each.event, each.to_state) for each in bench.transitions(row)[1:]] == [
        (Event.CANCEL_ASKED, State.CANCELLED),
        (Event.UPLOADED, State.CANCELLED),
    ]


def test_a_decision_that_raises_writes_nothing(bench: Bench) -> None:
    row = bench.sign_up()

    def decide(current: Onboarding) -> list[Step]:
        raise Conflict("no", current.state)

    with pytest.raises(Conflict):
        apply(bench.context, row.id, decide)
    assert bench.row(row) == row


def test_one_that_is_overtaken_for_ever_gives_up(bench: Bench) -> None:
    row = bench.sign_up()

    def decide(current: Onboarding) -> list[Step]:
        bench.context.store.commit(Change(current, current))
        return [Step(Event.EDITED, "slow")]

    with pytest.raises(StoreUnavailable):
        apply(bench.context, row.id, decide)
    assert bench.events(row) == [Event.SIGNED_UP]


def test_one_merchant_user_id_has_one_live_onboarding(bench: Bench) -> None:
    row = bench.sign_up()
    store = bench.context.store
    twin = replace(sibling(row, 1), merchant_user_id=row.merchant_user_id)
    assert store.commit(Change(None, twin)) is False
    assert store.onboarding(twin.id) is None
    for state in CLOSED:
        now = bench.row(row)
        assert store.commit(Change(now, replace(now, state=state)))
        assert store.commit(Change(None, replace(twin, id=f"onb_after_{state}", link_hash=state)))
        assert store.commit(Change(bench.row(row), replace(bench.row(row), state=State.COLLECTING))) is False
        now = bench.row(f"onb_after_{state}")
        assert store.live_onboarding(row.merchant_user_id) == now
        assert store.newest_onboarding(row.merchant_user_id) is not None
        assert store.commit(Change(now, replace(now, state=State.CANCELLED)))
        now = bench.row(row)
        assert store.commit(Change(now, replace(now, state=State.COLLECTING)))


def test_two_onboardings_never_share_a_link(bench: Bench) -> None:
    row = bench.sign_up()
    assert bench.context.store.commit(Change(None, replace(sibling(row, 1), link_hash=row.link_hash))) is False


def test_only_the_holder_of_a_lease_may_commit_under_it(bench: Bench) -> None:
    row = bench.submitted()
    [claim] = bench.claim()
    before, store = counted(bench), bench.context.store
    current = bench.row(row)
    for lease in ("another", ""):
        with pytest.raises(LeaseLost):
            store.commit(replace(everything(current, current), held=Held(lease)))
    assert (counted(bench), bench.row(row)) == (before, current)
    assert store.commit(Change(current, current, held=Held(claim.lease, release=False)))
    assert bench.row(row).lease == claim.lease, "kept"
    current = bench.row(row)
    assert store.commit(Change(current, current, held=Held(claim.lease)))
    assert (bench.row(row).lease, bench.row(row).lease_until) == (None, None)
    with pytest.raises(LeaseLost):
        store.commit(Change(bench.row(row), bench.row(row), held=Held(claim.lease)))


# Groups --------------------------------------------------------------------------------------------------------------


def test_of_writes_committed_together_only_the_failing_one_is_undone(bench: Bench) -> None:
    """While the writer is busy others queue up: they are one group, and one commit."""
    rows = [bench.sign_up() for _ in range(6)]
    driver, store = bench.service.driver, bench.context.store
    inside, go_on = threading.Event(), threading.Event()

    def busy(session: Any) -> None:
        inside.set()
        assert go_on.wait(10)

    def fail(session: Any) -> None:
        session.run("remove_document", onboarding_id=rows[2].id, kind="selfie")
        session.run("seen_again", id="x")
        session.count("count_state", 5, state=State.COLLECTING)
        raise Conflict("on purpose", "none")

    results: dict[int, Any] = {}

    def write(number: int) -> None:
        try:
            if number == 2:
                driver.write(fail)
            elif number == 4:
                results[number] = store.commit(Change(replace(rows[4], version=99), rows[4]))
            else:
                results[number] = store.commit(everything(rows[number], rows[number]))
        except OrchestratorError as error:
            results[number] = type(error)

    first = threading.Thread(target=lambda: driver.write(busy))
    first.start()
    assert inside.wait(10)
    threads = [threading.Thread(target=write, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    go_on.set()
    for thread in (first, *threads):
        thread.join()
    assert results == {0: True, 1: True, 2: Conflict, 3: True, 4: False, 5: True}
    assert [bench.row(row).version - row.version for row in rows] == [1, 1, 0, 1, 0, 1]
    assert store.counts() == {State.COLLECTING: 6}
    assert store.tallies()["verdicts", Verdict.APPLIED] == 4


def test_what_a_write_raises_reaches_its_caller_alone(bench: Bench) -> None:
    def twice(session: Any) -> None:
        for _ in range(2):
            session.run("insert_token", name="x", role="viewer", hash="h", created_at=1)

    with pytest.raises(Duplicate):
        bench.service.driver.write(twice)
    assert bench.context.access.tokens() == []
    assert bench.context.access.add_token(AccessToken("x", "viewer", "h", 1)) is True
    assert bench.context.access.add_token(AccessToken("x", "operator", "other", 1)) is False


def test_a_read_sees_one_moment(bench: Bench) -> None:
    row = bench.sign_up()

    def look_twice(session: Any) -> tuple[int, int]:
        first = session.rows("onboarding", id=row.id)[0]["version"]
        writer = threading.Thread(target=lambda: collect.renew_link(bench.context, row.id, "test"))
        writer.start()
        writer.join()
        return first, session.rows("onboarding", id=row.id)[0]["version"]

    assert bench.service.driver.read(look_twice) == (row.version, row.version)
    assert bench.row(row).version == row.version + 1


# Broken files --------------------------------------------------------------------------------------------------------


def _missing(folder: Path) -> Path:
    return folder / "not" / "there.db"


def _a_folder(folder: Path) -> Path:
    (folder / "folder.db").mkdir()
    return folder / "folder.db"


def _garbage(folder: Path) -> Path:
    (folder / "garbage.db").write_bytes(b"this was never a database" * 400)
    return folder / "garbage.db"


def _below_a_file(folder: Path) -> Path:
    (folder / "file").write_text("")
    return folder / "file" / "x.db"


def _empty(folder: Path) -> Path:
    (folder / "empty.db").write_bytes(b"")
    return folder / "empty.db"


@pytest.mark.parametrize("make", [_missing, _a_folder, _garbage, _below_a_file, _empty])
def test_a_file_that_cannot_be_used_is_one_exception_and_the_next_try_may_work(tmp_path: Path, make: Any) -> None:
    path = make(tmp_path)
    driver = SqliteDriver(path)
    store = Store(driver)
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            store.onboarding("onb_1")
        with pytest.raises(StoreUnavailable):
            store.count_again("cbk_1")
    driver.close()


@pytest.mark.parametrize("make", [_a_folder, _garbage, _below_a_file])
def test_migrating_such_a_file_is_refused(tmp_path: Path, make: Any) -> None:
    driver = SqliteDriver(make(tmp_path))
    with pytest.raises(StoreUnavailable):
        driver.migrate()
    driver.close()


def test_a_file_that_is_repaired_works_without_a_restart(tmp_path: Path) -> None:
    driver = SqliteDriver(tmp_path / "late" / "x.db")
    store = Store(driver)
    with pytest.raises(StoreUnavailable):
        store.count_again("cbk_1")
    driver.migrate()
    store.count_again("cbk_1")
    assert store.counts() == {}
    driver.close()


@pytest.mark.sqlite
def test_pages_that_were_overwritten_are_one_exception(bench: Bench) -> None:
    row = bench.sign_up()
    bench.service.driver.close()
    store = bench.open().context.store
    with closing(sqlite3.connect(bench.database)) as database:
        database.execute("pragma wal_checkpoint(truncate)")
        pages = [
            page
            for (page,) in database.execute(
                "select rootpage from sqlite_schema where tbl_name in ('onboardings', 'state_counts')"
            )
        ]
        size = database.execute("pragma page_size").fetchone()[0]
    sound = bench.database.read_bytes()
    with bench.database.open("r+b") as file:
        for page in pages:
            file.seek((page - 1) * size)
            file.write(b"\xaa" * size)
    with pytest.raises(StoreUnavailable):
        store.onboarding(row.id)
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            store.commit(Change(row, row))
    bench.service.driver.close()
    bench.database.write_bytes(sound)
    for name in ("orchestrator.db-wal", "orchestrator.db-shm"):
        bench.database.with_name(name).unlink(missing_ok=True)
    assert bench.open().context.store.commit(Change(row, row)), "put back from a copy it is as it was"


@pytest.mark.sqlite
@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_file_that_may_not_be_written_is_one_exception(bench: Bench) -> None:
    bench.service.driver.close()
    bench.database.chmod(0o400)
    with pytest.raises(StoreUnavailable):
        bench.context.schedule.check_writable()


@pytest.mark.sqlite
def test_a_full_disk_acknowledges_nothing_and_is_survived(bench: Bench) -> None:
    row = bench.sign_up()

    def limit(pages: int) -> None:
        bench.service.driver.write(
            lambda session: session.database.execute(f"pragma max_page_count = {pages}").fetchall()  # type: ignore[attr-defined]
        )

    limit(1)
    big = replace(row, profile_sealed=bytes(3_000_000))
    with pytest.raises(StoreUnavailable):
        bench.context.store.commit(Change(row, big))
    limit(1 << 30)
    assert bench.row(row) == row
    assert bench.context.store.commit(Change(row, big))


# Types and references ------------------------------------------------------------------------------------------------


def refuse(bench: Bench, column: str, value: Any) -> None:
    row = bench.sign_up()
    with bench.connected() as database:
        database.execute("update onboardings set lane = null, due_at = null, claim = null, claim_callback = null")
    with pytest.raises((sqlite3.IntegrityError, psycopg.Error)), bench.connected() as database:
        database.execute(f"update onboardings set {column} = ? where id = ?", (value, row.id))


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("created_at", "soon"),
        ("merchant_user_id", None),
        ("state", "nowhere"),
        ("round", 0),
        ("attempts", -1),
        ("changed", 2),
        ("lane", "fast"),
        ("due_at", 5),
        ("claim", "callback_pass"),
        ("lease", "x"),
    ],
)
def test_a_value_that_does_not_fit_is_refused(bench: Bench, column: str, value: Any) -> None:
    refuse(bench, column, value)


@pytest.mark.sqlite
@pytest.mark.parametrize(
    ("column", "value"), [("created_at", 1.5), ("profile_sealed", "a text"), ("merchant_user_id", b"b")]
)
def test_a_value_of_another_type_is_refused_although_sqlite_would_take_it(
    bench: Bench, column: str, value: Any
) -> None:
    refuse(bench, column, value)


@pytest.mark.sqlite
def test_every_table_is_strict(bench: Bench) -> None:
    with closing(sqlite3.connect(bench.database)) as database:
        tables = database.execute(
            "select name, strict from pragma_table_list where schema = 'main' and name not like 'sqlite%' "
            "and name not like '%migrations%'"
        ).fetchall()
    assert len(tables) > 10
    assert [name for name, strict in tables if not strict] == []


def delete_all(database: Plain) -> None:
    if isinstance(database, sqlite3.Connection):
        database.execute("pragma foreign_keys = on")
    database.execute("delete from onboardings")


def test_what_belongs_to_an_onboarding_needs_one(bench: Bench) -> None:
    row = bench.sign_up()
    nobody = replace(row, id="onb_nobody")
    parts = everything(nobody, nobody)
    for name in ("transitions", "deliveries", "callbacks", "callback_token", "document"):
        with pytest.raises(Exception, match=r"(?i)foreign key"):
            bench.context.store.commit(Change(row, row, **{name: getattr(parts, name)}))
    with pytest.raises((sqlite3.IntegrityError, psycopg.IntegrityError)), bench.connected() as database:
        delete_all(database)


# Finding -------------------------------------------------------------------------------------------------------------


def test_keyset_pages_find_each_row_once_whatever_is_added_meanwhile(bench: Bench) -> None:
    template = bench.sign_up()
    store, status = bench.context.store, bench.context.status
    for number in range(15):
        at = template.created_at + number // 4
        state = State.CANCELLED if number % 3 else State.EXPIRED
        assert store.commit(Change(None, sibling(template, number, created_at=at, state=state, lane=None, due_at=None)))
    everyone = sorted(status.page(100), key=lambda row: (row.created_at, row.id), reverse=True)
    assert len(everyone) == 16
    for state in (None, State.CANCELLED):
        wanted = [row.id for row in everyone if state in (None, row.state)]
        for limit in (1, 4, 7):
            found: list[str] = []
            cursor = None
            while page := status.page(limit, state=state, cursor=cursor):
                found += [row.id for row in page]
                cursor = (page[-1].created_at, page[-1].id)
                newer = len(status.page(1_000)) + 100
                added = sibling(template, newer, created_at=template.created_at + 1_000, state=State.CANCELLED)
                assert store.commit(Change(None, replace(added, lane=None, due_at=None)))
            assert [name for name in found if name in wanted] == wanted
            assert len(found) == len(set(found))


def test_a_search_by_each_key_finds_exactly_it(bench: Bench) -> None:
    row, other = bench.sign_up(), bench.sign_up()
    store, sealer = bench.context.status, bench.context.sealer
    row = apply(bench.context, row.id, lambda row: [Step(None, "test", changes={"osl_user_id": "osl-1"})])
    email, _ = bench.context.identity(row)
    for text in (row.id, row.merchant_user_id, "osl-1"):
        assert [found.id for found in store.search(text, [], None, None, 10)] == [row.id]
    assert [found.id for found in store.search(email, sealer.hashes("email", email), None, None, 10)] == [row.id]
    assert store.search(email, [], None, None, 10) == []
    assert store.search("", [], None, None, 10) == []
    newer, older = sorted((row, other), key=lambda found: (found.created_at, found.id), reverse=True)
    hashes = sealer.hashes("email", email)
    assert [found.id for found in store.search(other.id, hashes, None, None, 1)] == [newer.id]
    after = (newer.created_at, newer.id)
    assert [found.id for found in store.search(other.id, hashes, None, after, 1)] == [older.id]


def test_of_what_was_believed_a_webhook_is_judged_by_the_newest_of_its_round(bench: Bench) -> None:
    row = replace(bench.sign_up(), round=2)

    def believed(name: str, number: int, timestamp: int) -> Callback:
        return Callback(
            name, timestamp, "app", timestamp, f"t{number}", row.id, number, "x", "PASS", "9", b"", "", Verdict.APPLIED
        )

    kept = [believed("cbk_1", 1, 9_000), believed("cbk_2", 2, 5_000), believed("cbk_3", 2, 6_000)]
    assert bench.context.store.commit(Change(bench.row(row), row, callbacks=kept))
    judged = bench.context.store.callbacks_to_judge_by(row, token_hash="t2", app_id="app", timestamp=4_000)
    assert [callback.id for callback in judged] == ["cbk_3"]
    again = bench.context.store.callbacks_to_judge_by(row, token_hash="t2", app_id="app", timestamp=5_000)
    assert [callback.id for callback in again] == ["cbk_2", "cbk_3"], "and by those of its identity"


def test_each_key_leads_to_its_onboarding(bench: Bench) -> None:
    row = bench.shared_on_paper("9001")
    store = bench.context.store
    assert store.live_onboarding(row.merchant_user_id) == row
    assert store.newest_onboarding(row.merchant_user_id) == row
    assert store.onboarding_of_osl_user("9001") == row
    assert store.onboarding_of_link(row.link_hash) == row
    token = store.callback_token_of_round(row.id, 1)
    assert token is not None
    assert store.addressee(token.hash) == (row, 1)
    assert store.callback_token_of_round(row.id, 2) is None
    for nothing in ("", "x", row.id, "%"):
        assert store.live_onboarding(nothing) is None
        assert store.onboarding_of_osl_user(nothing) is None
        assert store.onboarding_of_link(nothing) is None
        assert store.onboarding_of_signup(nothing) is None
        assert store.addressee(nothing) is None
    operate.cancel(bench.context, row.id, "test")
    assert store.live_onboarding(row.merchant_user_id) is None
    assert store.onboarding_of_osl_user("9001") is None
    assert store.newest_onboarding(row.merchant_user_id) is not None


def test_a_link_that_was_replaced_is_remembered(bench: Bench) -> None:
    row = bench.sign_up()
    after = collect.renew_link(bench.context, row.id, "test")
    store = bench.context.store
    assert (store.onboarding_of_link(row.link_hash), store.link_was_replaced(row.link_hash)) == (None, True)
    assert store.onboarding_of_link(after.link_hash) is not None
    assert store.link_was_replaced(after.link_hash) is False


def test_a_callback_counts_once_more_and_takes_a_new_verdict_but_nothing_else(bench: Bench) -> None:
    row = bench.shared_on_paper()
    bench.receive(row, "PROCESS")
    [callback] = bench.callbacks(row)
    bench.context.store.count_again(callback.id)
    changed = replace(callback, verdict=Verdict.CONTRADICTED, body_sealed=b"other", received_at=1)
    current = bench.row(row)
    assert bench.context.store.commit(Change(current, current, callbacks=[changed]))
    assert bench.callbacks(row) == [replace(callback, verdict=Verdict.CONTRADICTED, seen=2)]


def test_counts_are_those_of_a_recount_after_many_moves(bench: Bench) -> None:
    chance = random.Random(7)
    rows = [bench.sign_up() for _ in range(8)]
    events = [event for event in Event if event is not Event.SIGNED_UP]

    def wander(part: list[Onboarding], seed: int) -> None:
        here = random.Random(seed)
        for _ in range(40):
            row = bench.row(here.choice(part))
            event = here.choice(events)
            step = Step(event, "test", claim_callback="cbk_1")
            try:
                apply(bench.context, row.id, lambda row, step=step: [step])
            except Conflict:
                continue

    threads = [threading.Thread(target=wander, args=(rows, chance.random())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    recount = Counter(row.state for row in bench.context.status.page(100))
    assert look.counts(bench.context) == {state: recount.get(state, 0) for state in State}
    assert sum(recount.values()) == len(rows)
    for row in rows:
        assert bench.chain_faults(row) == []


def test_heads_lists_everybody_in_the_order_of_ids(bench: Bench) -> None:
    template = bench.sign_up()
    for number in range(12):
        assert bench.context.store.commit(Change(None, sibling(template, number)))
    heads = list(bench.context.store.heads())
    assert [head[0] for head in heads] == sorted(head[0] for head in heads)
    assert len(heads) == 13
    assert (template.id, template.state, template.seq, template.hash) in heads


# Access --------------------------------------------------------------------------------------------------------------


def test_a_session_ends_with_its_token(bench: Bench) -> None:
    access, now = bench.context.access, bench.clock()
    access.add_token(AccessToken("ana", "operator", "hash", now))
    access.add_session("session", "ana", now, now - SECOND, now - SECOND)
    found = access.session("session")
    assert found is not None
    assert (found.role, found.token_name) == ("operator", "ana")
    access.touch_session("session", now + 5)
    assert (access.session("session") or found).seen_at == now + 5
    assert access.revoke_token("ana", now)
    assert not access.revoke_token("ana", now)
    assert (access.session("session"), access.token("hash")) == (None, None)


def test_a_session_needs_a_token(bench: Bench) -> None:
    with pytest.raises(Exception, match=r"(?i)foreign key"):
        bench.context.access.add_session("session", "nobody", 1, 0, 0)
