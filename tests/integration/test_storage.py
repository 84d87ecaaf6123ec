"""Storage that fails: nothing acknowledged is lost, nothing else is acknowledged, and the message says what to do."""

from __future__ import annotations

import base64
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import pytest
from sqlite_utils import Database

from orchestrator.errors import OrchestratorError, SealBroken, StoreUnavailable
from orchestrator.machine import State
from orchestrator.onboarding import collect, look
from orchestrator.onboarding.context import Context
from orchestrator.store import sqlite as sqlite_driver
from orchestrator.store.driver import migrations
from tests.command_line import CHECKOUT, orchestrator
from tests.service import Bench, pdf, web_of

MOUNT, UMOUNT = shutil.which("mount"), shutil.which("umount")
SMALL = 3_000_000


@contextmanager
def tmpfs(folder: Path, options: str) -> Iterator[None]:
    """A file system in memory at `folder`. Raises PermissionError where nothing may be mounted."""
    folder.mkdir(parents=True, exist_ok=True)
    words = ["-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if MOUNT is None or UMOUNT is None or subprocess.run([MOUNT, *words], capture_output=True, check=False).returncode:
        raise PermissionError
    try:
        yield
    finally:
        subprocess.run([UMOUNT, "--lazy", str(folder)], check=True)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as entered:
        yield entered


# A full disk ----------------------------------------------------------------------------------------------------------


class FullDisk:
    """A service whose disk can be filled and emptied. `how` says by what."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.how = "a tmpfs of 3 MB"
        try:
            stack.enter_context(tmpfs(folder, f"size={SMALL}"))
        except PermissionError:
            self.how = "PRAGMA max_page_count, because nothing may be mounted here"
        self.bench = Bench(folder)
        stack.callback(self.bench.close)
        self._ballast = folder / "ballast"

    def fill(self) -> None:
        if "max_page_count" in self.how:
            self._limit(1)
            return
        with suppress(OSError), self._ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))

    def make_room(self) -> None:
        if "max_page_count" in self.how:
            self._limit(1 << 30)
        self._ballast.unlink(missing_ok=True)

    def _limit(self, pages: int) -> None:
        self.bench.service.driver.write(
            lambda session: session._database.execute(f"pragma max_page_count = {pages}").fetchall()  # type: ignore[attr-defined]
        )


def test_on_a_full_disk_nothing_is_acknowledged_and_nothing_acknowledged_is_lost(
    tmp_path: Path, stack: ExitStack, record_property: Callable[[str, object], None]
) -> None:
    disk = FullDisk(tmp_path / "disk", stack)
    record_property("the disk is filled by", disk.how)
    print(f"the disk is filled by {disk.how}")
    bench = disk.bench
    acknowledged = [bench.sign_up() for _ in range(3)]
    refused: list[OrchestratorError] = []
    disk.fill()
    for _ in range(200):
        try:
            acknowledged.append(bench.sign_up())
            collect.put_document(
                bench.context, look.find(bench.context, acknowledged[-1].id), "selfie", pdf(size=20_000), "test"
            )
        except StoreUnavailable as error:
            refused.append(error)
            if len(refused) == 3:
                break
    assert len(refused) == 3
    assert all("make room" in str(error) or "check the space" in str(error) for error in refused), refused
    heads = {onboarding_id for onboarding_id, *_ in bench.context.store.heads()}
    assert {row.id for row in acknowledged} <= heads
    disk.make_room()
    later = bench.sign_up()
    for row in [*acknowledged, later]:
        assert bench.state(row) is State.COLLECTING
        assert bench.context.identity(row) == bench.context.identity(bench.row(row))
        for document in bench.context.store.documents(row.id):
            assert bench.context.documents.get(document)
        assert bench.chain_faults(row) == []
    assert list((tmp_path / "disk" / "documents").glob("*/.*")) == [], "half a file is removed at once"


def test_a_disk_without_room_for_documents_is_named_while_the_database_still_goes_on(
    tmp_path: Path, stack: ExitStack
) -> None:
    """SQLite writes into the log that it has already, so that signups are taken and no document is."""
    folder = tmp_path / "documents"
    try:
        stack.enter_context(tmpfs(folder, f"size={SMALL}"))
    except PermissionError:
        pytest.skip("nothing may be mounted here")
    bench = Bench(tmp_path)
    stack.callback(bench.close)
    bench.sign_up()
    look.check_ready(bench.context)
    assert "the disk of the document folder is full, and users can send nothing: make room" in look.warnings(
        bench.context
    )
    done = orchestrator(bench.environ(), tmp_path, "doctor", expect=1)
    assert "error    documents: the disk of the document folder is full" in done.stdout


# A database that may not be written -----------------------------------------------------------------------------------


def test_a_read_only_disk_is_named_and_all_is_there_when_it_can_be_written_again(
    tmp_path: Path, stack: ExitStack
) -> None:
    folder = tmp_path / "disk"
    try:
        stack.enter_context(tmpfs(folder, "size=20m"))
    except PermissionError:
        pytest.skip("nothing may be mounted here: test_store.py takes a file's permission to write instead")
    bench = Bench(folder)
    stack.callback(bench.close)
    row = bench.collected()
    bench.service.close()
    remount(folder, "ro")
    context = bench.context = bench.open().context
    for touch in (lambda: context.store.onboarding(row.id), context.schedule.check_writable):
        with pytest.raises(StoreUnavailable, match="check owner and permissions"):
            touch()
    with pytest.raises(StoreUnavailable, match="ORCHESTRATOR_DOCUMENTS_URL"):
        context.documents.put(row.id, "selfie", "0" * 64, b"a file")
    remount(folder, "rw")
    context.schedule.check_writable()
    assert context.identity(bench.row(row)) == context.identity(row)
    assert [context.documents.get(item)[:5] for item in context.store.documents(row.id)] == [b"%PDF-"] * 2


def test_a_process_that_may_open_no_more_files_is_told_so(bench: Bench) -> None:
    """SQLite itself says only that it cannot open the file."""
    fresh = bench.open().context

    def told(context: Context) -> str:
        with pytest.raises(StoreUnavailable) as refused:
            context.store.counts()
        return str(refused.value)

    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ThreadPoolExecutor(1) as pool:
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
        try:
            said = [told(fresh), pool.submit(told, bench.context).result()]
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert all("`ulimit -n`" in text for text in said), said


def remount(folder: Path, how: str) -> None:
    """Have a file system take writes, or not."""
    subprocess.run([MOUNT or "mount", "-o", f"remount,{how}", str(folder)], check=True)


# A damaged file -------------------------------------------------------------------------------------------------------


def test_a_corrupt_page_is_named_with_the_way_back_and_a_backup_brings_everything(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "site")
    rows = [bench.collected() for _ in range(3)]
    archive = tmp_path / "backup.tar"
    orchestrator(bench.environ(), tmp_path, "backup", archive)
    bench.close()
    with closing(sqlite3.connect(bench.database)) as database:
        database.execute("pragma wal_checkpoint(truncate)")
        [(page,)] = database.execute("select rootpage from sqlite_schema where name = 'onboardings'")
        size = database.execute("pragma page_size").fetchone()[0]
    with bench.database.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(os.urandom(size))

    context = bench.open().context
    for touch in (lambda: context.store.onboarding(rows[0].id), bench.sign_up):
        bench.context = context
        with pytest.raises(StoreUnavailable, match=r"damaged.*orchestrator restore"):
            touch()
    said = orchestrator(bench.environ(), tmp_path, "show", rows[0].id, expect=1).stderr
    assert said.startswith("Error: the database could not be used")
    bench.close()

    again = Bench(tmp_path / "again")
    orchestrator(again.environ(), tmp_path, "restore", archive)
    for row in rows:
        assert again.context.identity(again.row(row)) == again.context.identity(row)
        assert len([again.context.documents.get(item) for item in again.context.store.documents(row.id)]) == 2
    again.close()


def test_what_only_the_wal_holds_is_there_after_a_kill(tmp_path: Path) -> None:
    """The process dies with everything it acknowledged in the -wal, and nothing of it in the database file."""
    bench = Bench(tmp_path)
    bench.close()
    with closing(sqlite3.connect(bench.database)) as database:
        database.execute("pragma wal_checkpoint(truncate)")
    code = (
        "import os, signal, sys\n"
        "from orchestrator.bootstrap import build\nfrom orchestrator.config import Config\n"
        "from orchestrator.onboarding import signup\n"
        "context = build(Config.from_env()).context\n"
        "for number in range(5):\n"
        "    data = {'merchantUserId': f'u-{number}', 'email': 'a@example.com'}\n"
        "    print(signup.sign_up(context, signup.checked_signup(context, data), 'test')[0].id, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environ = {**os.environ, **bench.environ()}
    killed = subprocess.run(
        [sys.executable, "-c", code], env=environ, cwd=CHECKOUT, capture_output=True, text=True, check=False, timeout=60
    )
    assert killed.returncode == -signal.SIGKILL
    acknowledged = killed.stdout.split()
    assert len(acknowledged) == 5
    wal = bench.database.with_name("orchestrator.db-wal")
    assert wal.stat().st_size > 0
    assert acknowledged[0].encode() not in bench.database.read_bytes(), "it is in the -wal alone"
    context = bench.open().context
    assert [context.store.onboarding(each) is not None for each in acknowledged] == [True] * 5
    bench.close()


# Another version, another key -----------------------------------------------------------------------------------------


def test_a_database_of_an_older_version_is_refused_in_words_and_migrated_whole(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    row = bench.collected()
    bench.close()
    _make_older(bench.database)
    said = orchestrator(bench.environ(), tmp_path, "worker", expect=1).stderr
    assert said.startswith("Error: the database lacks 0002")
    assert "run `orchestrator migrate` first" in said
    orchestrator(bench.environ(), tmp_path, "migrate")
    context = bench.context = bench.open().context
    assert context.pending_migrations() == []
    assert context.identity(bench.row(row)) == context.identity(row)
    assert len([context.documents.get(item) for item in context.store.documents(row.id)]) == 2
    assert (context.store.counts(), bench.chain_faults(row)) == ({State.COLLECTING: 1}, [])
    bench.close()


def _make_older(database: Path) -> None:
    """The same rows as the first version of the schema has them."""
    newer = database.with_name("newer.db")
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("pragma wal_checkpoint(truncate)")
    database.rename(newer)
    for ending in ("-wal", "-shm"):
        database.with_name(f"{database.name}{ending}").unlink(missing_ok=True)
    second = migrations(**sqlite_driver._MARKS)[1][0]
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("pragma journal_mode = wal")
        sqlite_driver._known_migrations().apply(Database(connection), stop_before=second)
        connection.execute("attach ? as newer", (str(newer),))
        tables = "select name from main.sqlite_schema where type = 'table' and name not like '\\_%' escape '\\'"
        for (table,) in connection.execute(tables).fetchall():
            columns = ", ".join(column for _, column, *_ in connection.execute(f"pragma main.table_info({table})"))
            connection.execute(f"insert or ignore into main.{table} ({columns}) select {columns} from newer.{table}")


def test_a_key_that_is_not_configured_is_named_and_nothing_is_lost_until_it_is_back(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    row = bench.submitted()
    own = bench.environ()["ORCHESTRATOR_ENCRYPTION_KEYS"]
    stranger = base64.b64encode(b"another key, of thirty-two bytes").decode()
    bench.settings["ORCHESTRATOR_ENCRYPTION_KEYS"] = stranger
    bench.context = bench.open().context
    key_id = bench.service.context.sealer.key_id(row.profile_sealed)
    with web_of(bench) as web:
        answers = [
            web.operator("GET", f"/api/v1/onboardings/{row.id}"),
            web.anyone("GET", "/readyz"),
        ]
        for answer in answers:
            assert answer.status_code == 503
            assert answer.headers["Content-Type"] == "application/problem+json"
        assert key_id in answers[0].json()["detail"]
        assert "ORCHESTRATOR_ENCRYPTION_KEYS: add it back" in answers[0].json()["detail"]
    [claim] = bench.claim()
    with pytest.raises(SealBroken, match="add it back"):
        bench.advance([claim])
    findings = orchestrator(bench.environ(), tmp_path, "doctor", "--json", expect=1).stdout
    assert key_id in findings
    assert bench.row(row).attempts == 0, "the user is not charged for it"
    bench.settings["ORCHESTRATOR_ENCRYPTION_KEYS"] = f"{stranger},{own}"
    bench.context = bench.open().context
    bench.clock.advance(60_000)
    assert [claim.onboarding.id for claim in bench.claim()] == [row.id], "the lease is over: it goes on"
    assert bench.context.identity(bench.row(row))[0].startswith("silent")
    assert [bench.context.documents.get(item)[:5] for item in bench.context.store.documents(row.id)] == [b"%PDF-"] * 2
    bench.close()
