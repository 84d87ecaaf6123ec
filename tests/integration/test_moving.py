"""`copy`: a database goes to another place whole, or stays where it is."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from orchestrator import moving
from orchestrator.bootstrap import build
from orchestrator.cli import main
from orchestrator.cli.moving import _place
from orchestrator.config import Config
from orchestrator.errors import ConfigurationError, InvalidInput, StoreUnavailable
from orchestrator.onboarding import access, advance, audit, signup
from orchestrator.store.driver import Driver
from orchestrator.store.sqlite import SqliteDriver
from tests.command_line import CHECKOUT, orchestrator
from tests.postgres_server import PostgresServer, postgres_server
from tests.service import SECOND, Bench, new_user
from tests.waiting import until

pytestmark = pytest.mark.long

__all__ = ["postgres_server"]
UNDISTURBED = moving.Watch(lambda: None, lambda: [], lambda rows: None, lambda: None)
PLACES = ("here", "there")


def a_few_users(bench: Bench) -> None:
    """Users in several states, a callback, a notification's worth of transitions, a token."""
    bench.collected()
    bench.receive(bench.shared_on_paper(), "REVIEW")
    bench.submitted()
    access.create_token(bench.context, "the-operator", "operator")
    bench.context.access.add_login_failure("somebody", bench.clock.now, 0)


def contents(driver: Driver) -> dict[str, list[tuple[object, ...]]]:
    with driver.alone() as whole:
        return {table: sorted(map(tuple, whole.contents(table).rows), key=repr) for table in moving.TABLES}


def copy_by_hand(source: Path, target: Path, watch: moving.Watch = UNDISTURBED) -> int:
    return moving.copy(SqliteDriver(source), SqliteDriver(target), PLACES, 1, watch)


@pytest.fixture
def old(bench: Bench) -> Bench:
    """A service that was stopped."""
    a_few_users(bench)
    bench.close()
    return bench


Command = Callable[..., str]


@pytest.fixture
def command(old: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """The command line in this process, over the old service's settings and others: what it says."""

    def run(*arguments: str, expect: int = 0, database: str | None = None) -> str:
        with monkeypatch.context() as patched:
            patched.chdir(tmp_path)
            for name, value in old.environ().items():
                patched.setenv(name, value)
            if database:
                patched.setenv("ORCHESTRATOR_DATABASE_URL", database)
            capfd.readouterr()
            with pytest.raises(SystemExit) as ended:
                main([*arguments])
        said = "".join(capfd.readouterr())
        assert ended.value.code == expect, said
        return said

    return run


def test_every_table_is_copied_but_who_works_and_what_moves(bench: Bench) -> None:
    with closing(bench.service.driver):
        database = bench.service.driver._open()  # type: ignore[attr-defined]
        there = {name for name in database.table_names() if not name.startswith(("_sqlite", "sqlite_"))}
        database.close()
    assert there == {*moving.TABLES, "workers", "moves"}


def test_all_goes_to_postgresql_and_back_and_the_old_databases_say_where_it_is(
    old: Bench, postgres_server: PostgresServer, tmp_path: Path, command: Command
) -> None:
    head = command("audit", "head")
    there = postgres_server.new_database()
    with_password = there.replace("postgres@", "postgres:not-for-everybody@")
    said = command("copy", "--to", with_password)
    assert "every chain is whole" in said
    assert "not-for-everybody" not in said
    for words in (("token", "list"), ("serve", "--port", "1"), ("worker",), ("migrate",), ("doctor",)):
        refused = command(*words, expect=2)
        assert there in refused, words
        assert "not-for-everybody" not in refused
    assert command("audit", "head", database=with_password) == head
    assert "the-operator" in command("token", "list", database=with_password)
    command("copy", "--to", "sqlite:///back.db", database=with_password)
    assert str(tmp_path / "back.db") in command("token", "list", expect=2, database=with_password)
    assert command("audit", "head", database="sqlite:///back.db") == head
    assert contents(SqliteDriver(tmp_path / "back.db")) == contents(SqliteDriver(old.database))


def test_a_moved_database_starts_no_gunicorn_and_the_new_one_takes_new_users(old: Bench, tmp_path: Path) -> None:
    orchestrator(old.environ(), tmp_path, "copy", "--to", "sqlite:///new.db")
    done = subprocess.run(
        [sys.executable, "-m", "gunicorn", "orchestrator.wsgi:app", "--bind", "127.0.0.1:0"],
        env={"PYTHONPATH": str(CHECKOUT), "PATH": "/usr/bin", **old.environ()},
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, f"sqlite:///{tmp_path / 'new.db'}" in done.stderr) == (2, True), done.stderr
    environ = old.environ() | {"ORCHESTRATOR_DATABASE_URL": f"sqlite:///{tmp_path / 'new.db'}"}
    with closing(build(Config.from_env(environ))) as service:
        context = service.context
        row, created = signup.sign_up(context, signup.checked_signup(context, new_user()), "test")
        assert created
        assert list(audit.faults(context)) == []
        assert context.store.onboarding(row.id) == row


def test_nothing_is_copied_while_somebody_is_there(old: Bench, command: Command) -> None:
    with closing(old.open()) as web:
        web.driver.open()
        said = command("copy", "--to", "sqlite:///new.db", expect=1)
        assert "stop web, workers and all other commands first" in said
        worker = old.clock.now
        advance.beat(web.context, "wrk_1")
    assert "a worker was there" in command("copy", "--to", "sqlite:///new.db", expect=1)
    with closing(old.open()) as service:
        service.context.schedule.beat("wrk_1", worker - 60 * SECOND, 0, 60 * SECOND)
    command("copy", "--to", "sqlite:///new.db")


def test_nothing_is_copied_into_or_out_of_a_postgresql_that_somebody_uses(
    old: Bench, postgres_server: PostgresServer, command: Command
) -> None:
    there = postgres_server.new_database()
    environ = old.environ() | {"ORCHESTRATOR_DATABASE_URL": there}
    with closing(build(Config.from_env(environ))) as service:
        service.migrate()
        assert "others use this database" in command("copy", "--to", there, expect=1)
        assert "others use this database" in command("copy", "--to", "sqlite:///other.db", expect=1, database=there)
    command("copy", "--to", there)
    back = command("copy", "--to", f"sqlite:///{old.database}", expect=1, database=there)
    assert "name a new one" in back


def test_nobody_comes_in_while_it_is_copied(old: Bench, postgres_server: PostgresServer, tmp_path: Path) -> None:
    def come(environ: dict[str, str]) -> None:
        with closing(build(Config.from_env(environ))) as late, pytest.raises(StoreUnavailable, match="being copied"):
            late.driver.open()

    there = old.environ() | {"ORCHESTRATOR_DATABASE_URL": postgres_server.new_database()}
    source, target = build(Config.from_env(old.environ())), build(Config.from_env(there))
    came = []

    def problems() -> list[str]:
        for environ in (old.environ(), there):
            come(environ)
            came.append(environ)
        return []

    watch = moving.Watch(lambda: None, problems, lambda rows: None, lambda: None)
    assert moving.copy(source.driver, target.driver, PLACES, 1, watch) > 10
    assert len(came) == 2


def test_a_copy_that_is_killed_is_made_again_and_the_old_database_stays_in_use(
    old: Bench, postgres_server: PostgresServer, tmp_path: Path, command: Command
) -> None:
    there = postgres_server.new_database()
    environ = old.environ() | {"ORCHESTRATOR_DATABASE_URL": there}
    with closing(build(Config.from_env(environ))) as service:
        service.migrate()
    words = [sys.executable, "-m", "orchestrator", "copy", "--to", there]
    with closing(psycopg.connect(there)) as lock:
        lock.execute("lock table transitions")  # in the midst of the tables, the copy waits
        process = subprocess.Popen(words, env={"PYTHONPATH": str(CHECKOUT), **old.environ()}, cwd=tmp_path)
        waiting = "select 1 from pg_locks where not granted"
        until(lambda: postgres_server.execute(waiting, there))
        process.send_signal(signal.SIGKILL)
        process.wait()
    until(lambda: not postgres_server.execute("select 1 from pg_locks where locktype = 'advisory'", there))
    assert "the-operator" in command("token", "list")
    command("copy", "--to", there)
    assert "the-operator" in command("token", "list", database=there)


def test_a_copy_that_is_not_right_is_not_opened_and_is_made_again(old: Bench, tmp_path: Path) -> None:
    before = contents(SqliteDriver(old.database))
    broken = moving.Watch(lambda: None, lambda: ["onb_1: row 2 was changed"], lambda rows: None, lambda: None)
    with pytest.raises(StoreUnavailable, match="row 2 was changed"):
        copy_by_hand(old.database, tmp_path / "new.db", broken)
    with pytest.raises(StoreUnavailable, match="is not whole"):
        SqliteDriver(tmp_path / "new.db").open()
    with closing(SqliteDriver(old.database)) as driver:
        driver.open()
    assert contents(SqliteDriver(old.database)) == before
    assert copy_by_hand(old.database, tmp_path / "new.db") == sum(len(rows) for rows in before.values())
    assert contents(SqliteDriver(tmp_path / "new.db")) == before


def test_rows_that_change_while_they_are_copied_are_noticed(old: Bench, tmp_path: Path) -> None:
    def tamper() -> list[str]:
        raise AssertionError("the rows are compared before the chains")

    class Forgetful(SqliteDriver):
        def migrate(self) -> list[str]:
            done = super().migrate()
            database = self._open()
            database.execute(
                "create trigger forgets after insert on callbacks begin delete from callbacks where id = new.id; end"
            )
            database.close()
            return done

    watch = moving.Watch(lambda: None, tamper, lambda rows: None, lambda: None)
    with pytest.raises(StoreUnavailable, match=r"not what was copied.*: callbacks"):
        moving.copy(SqliteDriver(old.database), Forgetful(tmp_path / "new.db"), PLACES, 1, watch)


def test_a_copy_that_was_stopped_before_the_new_database_was_opened_is_finished(old: Bench, tmp_path: Path) -> None:
    copied = copy_by_hand(old.database, tmp_path / "new.db")
    assert copied > 10
    with SqliteDriver(tmp_path / "new.db").alone() as whole:
        whole._note("here", "here", 1)  # type: ignore[attr-defined]
    with pytest.raises(ConfigurationError):
        SqliteDriver(old.database).open()
    with pytest.raises(StoreUnavailable):
        SqliteDriver(tmp_path / "new.db").open()
    assert copy_by_hand(old.database, tmp_path / "new.db") == 0
    with closing(SqliteDriver(tmp_path / "new.db")) as driver:
        driver.open()
    with pytest.raises(ConfigurationError, match="there"):
        copy_by_hand(old.database, tmp_path / "another.db")


def test_a_database_is_not_copied_over_another_ones_users_or_itself(
    old: Bench, tmp_path: Path, command: Command
) -> None:
    other = Bench(tmp_path / "other")
    other.sign_up()
    other.close()
    with pytest.raises(InvalidInput, match="not empty"):
        copy_by_hand(old.database, other.database)
    assert "that is this database" in command("copy", "--to", f"sqlite:///{old.database}", expect=1)
    command("copy", "--to", "mysql://localhost/x", expect=2)


def test_no_part_of_a_password_is_said_of_the_place_to_copy_to(old: Bench, command: Command) -> None:
    faulty = command("copy", "--to", "postgresql://orc:S3cretPass%zz@db/kyc", expect=2)
    assert "ORCHESTRATOR_DATABASE_URL: it is no URL that PostgreSQL takes" in faulty
    assert "S3cret" not in faulty
    for url in (
        "postgresql://orc:S3cret#?:x@db:1,db2/kyc?sslmode=require",
        "postgresql://orc@db:1,db2/kyc?password=S3cret",
    ):
        config = Config.from_env(old.environ() | {"ORCHESTRATOR_DATABASE_URL": url})
        assert _place(config) == "postgresql://orc@db:1,db2/kyc"
