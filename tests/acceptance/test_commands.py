"""The command line and the processes as operators start them, with the product's own waits."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import click
import pytest
import requests
from click.testing import CliRunner

from orchestrator.cli import cli
from orchestrator.config import Config
from tests.acceptance.conftest import Install
from tests.installation import CHECKOUT, Installation, User, http
from tests.waiting import until


@pytest.fixture(scope="module")
def site(installed: Install) -> Installation:
    """An installation whose worker and web were started apart."""
    return installed(settings={"CALLBACK_PATIENCE_SECONDS": "600"})


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[Installation]:
    """Nothing runs and nothing is migrated yet; the product's own waits."""
    with Installation(tmp_path / "bare", timings={}) as site:
        yield site


# serve -----------------------------------------------------------------------------------------------------------


def serve(site: Installation) -> subprocess.Popen[bytes]:
    """Started on an empty database. A SQLite file it migrates itself; a server is migrated first, or nothing starts."""
    if site.server is not None:
        assert "orchestrator migrate" in site.command("serve", "--port", str(site.port), expect=1).stderr
        site.command("migrate")
    process = site.spawn("serve", "orchestrator", "serve", "--port", str(site.port))
    site.web = process
    site.wait_for_web()
    return process


def test_serve_migrates_runs_everything_and_ends_within_30_seconds_without_losing_a_call(bare: Installation) -> None:
    bare.start_sandbox()
    assert bare.sandbox
    serving = serve(bare)
    bare.make_token()
    user = bare.collect("silent")
    bare.sandbox.fault("osl.share", user.name, hangAfter=3.0)
    bare.submit(user)
    until(lambda: bare.calls(user, "osl.share"))
    processes = descendants(serving.pid)
    assert len(processes) >= 4, "gunicorn, two of its own, the worker"
    began = time.monotonic()
    serving.terminate()
    assert serving.wait(30) == 0
    assert time.monotonic() - began < 30
    assert not any(Path(f"/proc/{pid}").exists() for pid in processes)
    with pytest.raises(requests.ConnectionError):
        bare.get("/healthz")
    # The answer of the call that was under way is stored.
    assert bare.command("show", user.name).stdout.splitlines()[0].endswith("awaiting_callback, round 1")
    assert bare.shares(user) == [1]
    bare.check_chains()


def test_serve_starts_again_what_is_killed(bare: Installation) -> None:
    bare.start_sandbox()
    serving = serve(bare)
    bare.make_token()
    children = [pid for pid in descendants(serving.pid) if parent(pid) == serving.pid]
    assert len(children) == 2
    for pid in children:
        os.kill(pid, signal.SIGKILL)
    until(lambda: len({pid for pid in descendants(serving.pid) if parent(pid) == serving.pid} - set(children)) == 2)
    bare.wait_for_web()
    user = bare.begin("pass")
    bare.wait_for(user, "approved")
    assert serving.poll() is None


def test_a_reload_with_faulty_files_is_refused_and_everything_goes_on(bare: Installation) -> None:
    providers, dotenv = bare.folder / "providers.toml", bare.folder / ".env"
    providers.write_text("")
    bare.environ["ORCHESTRATOR_PROVIDERS_FILE"] = str(providers)
    serving = serve(bare)
    before = descendants(serving.pid)

    def reload() -> None:
        refused = bare.log("serve").count("reload_refused")
        serving.send_signal(signal.SIGUSR1)
        until(lambda: bare.log("serve").count("reload_refused") > refused)
        assert serving.poll() is None
        assert descendants(serving.pid) == before, "nobody was ended or started"

    providers.write_text('[osl]\npath_shair = "/x"\n')
    reload()
    assert "ORCHESTRATOR_PROVIDERS_FILE: " in bare.log("serve")
    assert "osl.path_shair is not a key of dialects.toml" in bare.log("serve")
    providers.write_text("")
    dotenv.write_bytes(b"OSL_APP_ID=\xff")
    reload()
    assert ".env: it is no text in UTF-8" in bare.log("serve")
    assert "Traceback" not in bare.log("serve")
    assert bare.get("/healthz").status_code == 200
    for words in (["migrate"], ["copy", "--to", "sqlite:///other.db"], ["sandbox"], ["doctor"]):
        done = bare.command(*words, expect=1 if words == ["doctor"] else 2)
        assert ".env: it is no text in UTF-8" in done.stdout + done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.sqlite
@pytest.mark.parametrize("playing", [False, True], ids=["while it starts", "while it plays"])
def test_ctrl_c_stops_the_demo_without_more_words(tmp_path: Path, playing: bool) -> None:
    said = tmp_path / "said"
    with said.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "orchestrator", "demo"],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(CHECKOUT), "PYTHONUNBUFFERED": "1"},
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        until(lambda: "sharing" in said.read_text() if playing else len(descendants(process.pid)) >= 2, 60)
        before = descendants(process.pid)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        assert process.wait(40) == 1
    finally:
        process.kill()
        process.wait()
    lines = said.read_text().splitlines()
    assert lines[-1] == "stopped"
    assert "Traceback" not in said.read_text()
    assert not any(line.startswith(("After", "  NOT", "Viewer")) for line in lines)
    # Who was left without a parent is collected by another one a moment later.
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in before), 10)


def test_worker_and_gunicorn_run_apart_and_end_cleanly(bare: Installation) -> None:
    bare.command("migrate")
    bare.start_sandbox()
    web = bare.spawn(
        "web",
        "gunicorn",
        *("wsgi:app", "--bind", f"127.0.0.1:{bare.port}", "--worker-class", "orchestrator.web.gather.GatheringWorker"),
        *("--threads", "4"),
    )
    bare.web = web
    bare.wait_for_web()
    bare.make_token()
    assert any("no worker is running" in warning for warning in bare.get("/readyz").json()["warnings"])
    worker = bare.spawn("worker", "orchestrator", "worker")
    until(lambda: bare.get("/readyz").json()["warnings"] == [])
    user = bare.begin("pass")
    bare.wait_for(user, "approved")
    bare.wait_until_told(user, "submitted", "approved")
    for process in (worker, web):
        process.terminate()
        assert process.wait(20) == 0
    assert "worker_stopped" in bare.log("worker")


def descendants(pid: int) -> list[int]:
    """All processes below `pid`."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError):
            parents[int(path.name)] = parent(int(path.name))
    found, before = [pid], 0
    while len(found) > before:
        before = len(found)
        found += [child for child, its in parents.items() if its in found and child not in found]
    return found[1:]


def parent(pid: int) -> int:
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    return 0


# Settings --------------------------------------------------------------------------------------------------------

REQUIRED = [
    "ORCHESTRATOR_ENCRYPTION_KEYS",
    "ORCHESTRATOR_PUBLIC_URL",
    "ORCHESTRATOR_SIGNUP_SECRETS",
    "BTSE_BASE_URL",
    "BTSE_API_KEY",
    "BTSE_SECRET_KEY",
    "OSL_BASE_URL",
    "OSL_APP_ID",
    "OSL_PRIVATE_KEY",
    "OSL_WEBHOOK_PUBLIC_KEY",
]
STARTED = {
    "serve": (["-m", "orchestrator", "serve"], True),
    "worker": (["-m", "orchestrator", "worker"], True),
    "migrate": (["-m", "orchestrator", "migrate"], True),
    "gunicorn": (["-m", "gunicorn", "wsgi:app", "--bind", "127.0.0.1:0"], False),
}


@pytest.mark.sqlite
@pytest.mark.parametrize("name", STARTED)
def test_whatever_is_missing_is_named_in_one_message_and_nothing_starts(tmp_path: Path, name: str) -> None:
    arguments, exits_with_2 = STARTED[name]
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(CHECKOUT), "OSL_REQUESTS_PER_SECOND": "eleven"}
    done = subprocess.run(
        [sys.executable, *arguments], env=environ, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode == 2) if exits_with_2 else done.returncode
    assert done.stderr.count("must be mended before anything starts") == 1
    for setting in (*REQUIRED, "OSL_REQUESTS_PER_SECOND"):
        assert done.stderr.count(f"  {setting}: ") == 1
    assert "openssl rand -base64 32" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("**/*.db")), "nothing was made"


def test_the_required_settings_are_those_without_a_default() -> None:
    with pytest.raises(Exception, match="must be mended") as caught:
        Config.from_env({})
    assert sorted(fault.name for fault in caught.value.faults) == sorted(REQUIRED)


def test_settings_are_read_from_a_dotenv_file_and_secrets_from_files(bare: Installation) -> None:
    secret = bare.folder / "secret"
    secret.write_text(bare.environ.pop("BTSE_SECRET_KEY") + "\n")
    (bare.folder / ".env").write_text(f"BTSE_SECRET_KEY_FILE={secret}\nOSL_APP_ID={bare.environ.pop('OSL_APP_ID')}\n")
    bare.command("migrate")
    both = bare.command("migrate", expect=2, BTSE_SECRET_KEY="s3cret-value")
    assert "BTSE_SECRET_KEY and BTSE_SECRET_KEY_FILE are both set" in both.stderr
    assert "s3cret-value" not in both.stderr


def test_migrate_prepares_the_database_once_and_nothing_works_before(bare: Installation) -> None:
    for command in (["worker"], ["token", "list"], ["audit", "verify"], ["show", "u-1"]):
        done = bare.command(*command, expect=1)
        assert "orchestrator migrate" in done.stderr
    assert bare.command("migrate").stdout.startswith("applied ")
    assert bare.command("migrate").stdout == "nothing to do\n"
    assert bare.command("token", "list").stdout == ""


@pytest.mark.sqlite
def test_migrate_makes_a_file_for_its_owner_alone(bare: Installation) -> None:
    bare.command("migrate")
    assert bare.database.stat().st_mode & 0o777 == 0o600


# One onboarding --------------------------------------------------------------------------------------------------


def test_tokens_are_made_listed_and_revoked(site: Installation) -> None:
    lines = site.command("token", "create", "--role", "merchant", "--name", "shop").stdout.splitlines()
    token = next(line for line in lines if line.startswith("orc_"))
    headers = {"Authorization": f"Bearer {token}"}
    assert http("GET", f"{site.url}/api/v1/onboardings", headers=headers).status_code == 200
    assert http("POST", f"{site.url}/api/v1/onboardings/onb_x/retry", headers=headers).status_code == 403
    listed = site.command("token", "list", "--json").stdout
    assert token not in listed
    (row,) = [row for row in json.loads(listed)["items"] if row["name"] == "shop"]
    assert (row["role"], row["revokedAt"]) == ("merchant", None)
    assert site.command("token", "create", "--role", "viewer", "--name", "shop", expect=1).stderr.startswith("Error: ")
    site.command("token", "create", "--role", "king", "--name", "k", expect=2)
    site.command("token", "revoke", "shop")
    assert http("GET", f"{site.url}/api/v1/onboardings", headers=headers).status_code == 401
    site.command("token", "revoke", "nobody", expect=1)


def test_show_tells_the_same_as_the_api(site: Installation) -> None:
    user = site.begin("pass")
    site.wait_for(user, "approved")
    site.wait_until_told(user, "submitted", "approved")
    shown = json.loads(site.command("show", user.id, "--json").stdout)
    row = site.onboarding(user)
    assert shown | {"uploadUrl": row["uploadUrl"]} == row | {
        what: site.items(user, what) for what in ("transitions", "callbacks", "deliveries")
    }
    told = site.command("show", user.name).stdout
    assert f"{user.id}  {user.name}  approved, round 1" in told
    assert "waits for nothing since 2" in told
    assert "next, by itself: Its documents are deleted 2" in told
    assert "confirming -> approved  confirmed_pass by worker (PASS)" in told
    assert "callback PASS: applied, seen 1" in told
    assert "told onboarding.approved: delivered, 1 tries" in told
    refused = site.begin("declined")
    site.wait_for(refused, "needs_attention")
    told = site.command("show", refused.name).stdout
    assert "likely cause: OSL Pay refused what it was sent (00002), since 2" in told
    assert "what helps: Its words name the field or the file." in told
    assert site.command("show", "nobody", expect=1).stderr.startswith("Error: there is no onboarding")


def test_a_triggered_callback_comes_signed_from_the_sandbox(site: Installation) -> None:
    user, early = site.begin("silent"), site.collect("silent")
    site.wait_for(user, "awaiting_callback")
    assert site.command("trigger", "callback", user.name, "--status", "REVIEW").stdout.startswith("20")
    site.wait_for(user, "in_review")
    assert site.verdicts(user) == [("applied", 1)]
    # Of one who was never shared OSL Pay knows no callback URL.
    said = site.command("trigger", "callback", early.id, expect=1)
    assert said.stdout.startswith("4")
    assert site.onboarding(early)["state"] == "collecting"


def test_an_operator_retries_cancels_and_asks_for_resubmission_from_the_command_line(site: Installation) -> None:
    declined, refused = site.begin("declined"), site.begin("refused")
    for user in (declined, refused):
        site.wait_for(user, "needs_attention")
    done = site.command("retry", declined.name, "nobody", refused.id, expect=1)
    assert [line.split()[0] for line in done.stdout.splitlines()] == [declined.id, refused.id]
    assert done.stderr.startswith("nobody: ")
    for user in (declined, refused):
        until(lambda user=user: site.onboarding(user)["state"] == "needs_attention" and _retried(site, user))
    site.command("resubmit", declined.name, expect=2)
    site.command("resubmit", declined.name, "--reason", "the photo is dark")
    row = site.onboarding(declined)
    assert (row["state"], row["round"], row["reason"]) == ("collecting", 2, "the photo is dark")
    assert site.command("cancel", refused.name).stdout.split() == [refused.id, "cancelled"]
    assert "cancelled" in site.command("cancel", refused.name, expect=1).stderr
    site.command("retry", refused.name, expect=1)
    site.wait_until_told(refused, "submitted", "needs_attention", "needs_attention", "cancelled")
    site.wait_until_told(declined, "submitted", "needs_attention", "needs_attention", "resubmission_required")
    assert {row["actor"] for row in site.items(declined, "transitions") if row["event"] in ("retried",)} == {
        "command_line"
    }
    site.check_chains()


def _retried(site: Installation, user: User) -> bool:
    return [row["event"] for row in site.items(user, "transitions")].count("gave_up") == 2


TAMPERED = {
    "changed": "update transitions set detail = 'other' where onboarding_id = :id and seq = 3",
    "removed": "delete from transitions where onboarding_id = :id and seq = 4",
    "cut": "delete from transitions where onboarding_id = :id and seq = (select max(seq) from transitions where "
    "onboarding_id = :id)",
    "moved": "update onboardings set state = 'rejected' where id = :id",
    "reordered": "update transitions set at = (select 2 * o.at from transitions o where o.onboarding_id = :id and "
    "o.seq = 2) where onboarding_id = :id and seq = 2",
    "inserted": "insert into transitions select onboarding_id, 99, at, from_state, to_state, event, round, actor, "
    "detail, hash from transitions where onboarding_id = :id and seq = 2",
}


def test_audit_verify_names_each_chain_that_was_tampered_with_and_no_other(install: Install) -> None:
    site = install()
    users = {what: site.begin("pass") for what in (*TAMPERED, "untouched")}
    for user in users.values():
        site.wait_for(user, "approved")
        site.wait_until_told(user, "submitted", "approved")
    assert site.command("audit", "verify").stdout == "every chain is whole\n"
    for what, sql in TAMPERED.items():
        assert site.change(sql, id=users[what].id) == 1, what
    lines = site.command("audit", "verify", expect=1).stdout.splitlines()
    assert {line.split(":")[0] for line in lines[:-1]} == {users[what].id for what in TAMPERED}
    faults = [json.loads(line) for line in site.command("audit", "verify", "--json", expect=1).stdout.splitlines()]
    assert {fault["id"] for fault in faults} == {users[what].id for what in TAMPERED}
    assert {fault["problem"] for fault in faults if fault["id"] == users["changed"].id} == {"row 3 was changed"}


def test_every_command_has_help_and_wrong_use_is_2() -> None:
    runner, context = CliRunner(), click.Context(cli)
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command
        assert command.help
        for words in ([name], *([name, below] for below in getattr(command, "commands", ()))):
            done = runner.invoke(cli, [*words, "--help"])
            assert (done.exit_code, done.output.startswith("Usage: ")) == (0, True), words
    for wrong in (["serve", "--port", "none"], ["nonsense"], ["token", "create"]):
        assert runner.invoke(cli, wrong).exit_code == 2
