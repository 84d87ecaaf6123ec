"""`doctor`: every finding, and what it says to do."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from orchestrator import bootstrap
from orchestrator.onboarding import advance
from orchestrator.onboarding.doctor import Finding, Level, examine
from tests.command_line import orchestrator
from tests.sandbox_process import SandboxProcess, private_pem, public_pem, rsa_key
from tests.service import MINUTE, Bench, Web, web_of


def findings(bench: Bench, **urls: str) -> dict[str, Finding]:
    service = bench.open()
    found = examine(service.context, service.outgoing, bootstrap.btse_variants(service), urls)
    return {finding.check: finding for finding in found}


def test_a_sound_installation_is_told_so_and_the_command_exits_with_0(played: Bench) -> None:
    with web_of(played) as web:
        played.settings["ORCHESTRATOR_PUBLIC_URL"] = web.url
        advance.beat(played.context, "wrk_1")
        done = orchestrator(played.environ(), played.folder, "doctor", "--json")
        found = [json.loads(line) for line in done.stdout.splitlines()]
        assert {finding["level"] for finding in found} == {"ok"}
        assert {"settings", "schema", "database", "documents", "worker", "BTSE Pay", "OSL Pay"} <= {
            finding["check"] for finding in found
        }
        assert all(set(finding) == {"check", "level", "text"} for finding in found)
        said = orchestrator(played.environ(), played.folder, "doctor").stdout
        assert "ok       OSL Pay: answers, and accepts the signature" in said
    assert played.context.schedule.health("btse").last_success_at is None, "nothing here changes health"


def test_it_looks_at_everything_before_the_first_migration(tmp_path: Path) -> None:
    bench = Bench.__new__(Bench)
    bench.folder, bench.sandbox, bench.settings = tmp_path, None, {}
    done = orchestrator(bench.environ(), tmp_path, "doctor", "--json", expect=1)
    found = {finding["check"]: finding for finding in map(json.loads, done.stdout.splitlines())}
    assert found["schema"]["level"] == "error"
    assert {"worker", "BTSE Pay", "OSL Pay", "keys"} <= set(found), "it does not end at the first fault"


def test_faulty_settings_are_named_one_by_one(bench: Bench) -> None:
    environ = {**bench.environ(), "ORCHESTRATOR_ENCRYPTION_KEYS": "short", "OSL_PRIVATE_KEY": "no key"}
    done = orchestrator(environ, bench.folder, "doctor", expect=1)
    assert done.stdout.count("error") >= 2
    assert "ORCHESTRATOR_ENCRYPTION_KEYS" in done.stdout
    assert "openssl rand" in done.stdout


def test_our_own_public_key_in_place_of_osl_pays_is_an_error(bench: Bench) -> None:
    environ = {**bench.environ(), "OSL_PRIVATE_KEY": private_pem(rsa_key("osl"))}
    environ["OSL_WEBHOOK_PUBLIC_KEY"] = public_pem(rsa_key("osl"))
    said = orchestrator(environ, bench.folder, "doctor", expect=1).stdout
    assert "error    OSL_WEBHOOK_PUBLIC_KEY: is the public part of OSL_PRIVATE_KEY" in said


def test_a_wrong_btse_secret_is_an_error_that_no_variant_mends(played: Bench) -> None:
    played.settings["BTSE_SECRET_KEY"] = "wrong"
    found = findings(played)
    assert found["BTSE Pay"].level is Level.ERROR
    assert found["BTSE Pay assumptions"].level is Level.ERROR
    assert "check the keys" in found["BTSE Pay assumptions"].text
    assert found["OSL Pay"].level is Level.OK


def test_a_btse_that_takes_base64_alone_is_told_which_line_to_write(tmp_path: Path) -> None:
    with SandboxProcess.start(sign_encoding="base64") as sandbox:
        bench = Bench(tmp_path, sandbox)
        found = findings(bench)["BTSE Pay assumptions"]
        assert found.level is Level.ERROR
        assert 'BTSE Pay accepts sign_encoding = "base64": write that below [btse]' in found.text
        overrides = tmp_path / "providers.toml"
        overrides.write_text('[btse]\nsign_encoding = "base64"\n')
        bench.settings["ORCHESTRATOR_PROVIDERS_FILE"] = str(overrides)
        assert findings(bench)["BTSE Pay assumptions"].level is Level.OK, "the line that it named"
        bench.close()


@pytest.mark.parametrize(
    ("encoding", "prefix", "lines"),
    [
        ("hex", "/payment", ['path_authorization = "/pay-api/v1/user/authorization"']),
        ("hex", "/payment/pay-api/v1", ['path_authorization = "/user/authorization"']),
        (
            "base64",
            "/payment/pay-api",
            ['path_authorization = "/v1/user/authorization"', 'sign_encoding = "base64"'],
        ),
    ],
)
def test_a_base_url_that_holds_a_part_of_the_path_is_found_out(
    tmp_path: Path, encoding: str, prefix: str, lines: list[str]
) -> None:
    with SandboxProcess.start(sign_encoding=encoding) as sandbox:
        bench = Bench(tmp_path, sandbox, BTSE_BASE_URL=f"{sandbox.btse_url}{prefix}")
        found = findings(bench)["BTSE Pay assumptions"]
        assert found.level is Level.ERROR
        assert f"BTSE Pay accepts {' and '.join(lines)}: write that" in found.text
        assert "BTSE_BASE_URL" in found.text
        overrides = tmp_path / "providers.toml"
        overrides.write_text("\n".join(["[btse]", *lines]))
        bench.settings["ORCHESTRATOR_PROVIDERS_FILE"] = str(overrides)
        assert findings(bench)["BTSE Pay assumptions"].level is Level.OK, "the lines that it named"
        bench.close()


def test_trying_variants_is_reading_alone(played: Bench) -> None:
    played.settings["BTSE_SECRET_KEY"] = "wrong"
    findings(played)
    assert played.sandbox
    asked = played.sandbox.requests(merchant_user_id="orchestrator-doctor")
    assert {request["operation"] for request in asked} <= {"btse.authorization", "osl.status"}
    assert played.context.schedule.health("btse").unauthorized_ids == ()


def test_a_wrong_osl_key_speaks_of_the_signature(played: Bench) -> None:
    from cryptography.hazmat.primitives.asymmetric import rsa

    played.settings["OSL_PRIVATE_KEY"] = private_pem(rsa.generate_private_key(65537, 1024))
    found = findings(played)
    assert found["OSL Pay"].level is Level.ERROR
    assert "OSL_PRIVATE_KEY" in found["OSL Pay's 00001"].text


@pytest.mark.parametrize(("offset", "level"), [(0, Level.OK), (15_000, Level.WARNING), (-15_000, Level.WARNING)])
def test_a_clock_far_from_the_providers_is_a_warning(played: Bench, offset: int, level: Level) -> None:
    assert played.sandbox
    played.sandbox.clock_offset(offset)
    for name in ("BTSE Pay's clock", "OSL Pay's clock"):
        found = findings(played)[name]
        assert found.level is level
        assert ("NTP" in found.text) is (level is Level.WARNING)


def test_rows_under_an_older_key_and_under_a_missing_one_are_counted(bench: Bench) -> None:
    bench.collected()
    new = base64.b64encode(b"the new key has thirty-two bytes").decode()
    old = bench.environ()["ORCHESTRATOR_ENCRYPTION_KEYS"]
    old_id = bench.context.sealer.key_ids()[0]
    bench.settings["ORCHESTRATOR_ENCRYPTION_KEYS"] = f"{new},{old}"
    found = findings(bench)[f"key {old_id}"]
    assert found.level is Level.WARNING
    assert "orchestrator reseal" in found.text
    bench.settings["ORCHESTRATOR_ENCRYPTION_KEYS"] = new
    found = findings(bench)[f"key {old_id}"]
    assert found.level is Level.ERROR
    assert "add it back" in found.text


def test_a_silent_worker_is_a_warning(bench: Bench) -> None:
    assert findings(bench)["worker"].level is Level.WARNING
    advance.beat(bench.context, "wrk_1")
    assert findings(bench)["worker"].level is Level.OK
    bench.clock.advance(MINUTE)
    assert "orchestrator worker" in findings(bench)["worker"].text


def test_http_beyond_this_machine_is_a_warning(bench: Bench) -> None:
    urls = {
        "far": "http://osl.example.com",
        "safe": "https://osl.example.com",
        "here": "http://127.0.0.1:9000",
        "here6": "http://[::1]:9000",
        "local": "http://localhost:9000",
        "trap": "http://127.0.0.1.example.com",
    }
    found = findings(bench, **urls)
    warned = {name for name in urls if found[name].level is Level.WARNING}
    assert warned == {"far", "trap"}


def test_providers_that_are_away_are_errors_and_a_public_url_a_warning(bench: Bench) -> None:
    found = findings(bench)
    assert found["BTSE Pay"].level is Level.ERROR
    assert found["OSL Pay"].level is Level.ERROR
    assert found["ORCHESTRATOR_PUBLIC_URL"].level is Level.WARNING


def test_it_takes_a_slot_of_the_budget_and_says_when_there_is_none(played: Bench) -> None:
    now = played.clock()
    while played.context.schedule.take_slot(now, "somebody", now + MINUTE) is not None:
        pass
    assert played.sandbox
    before = len(played.sandbox.requests("osl.status"))
    assert findings(played)["OSL Pay"].level is Level.WARNING
    assert len(played.sandbox.requests("osl.status")) == before


def test_a_folder_that_cannot_be_made_is_an_error(bench: Bench) -> None:
    blocked = bench.folder / "a file"
    blocked.write_text("")
    bench.settings["ORCHESTRATOR_DOCUMENTS_URL"] = f"file:{blocked}/documents"
    assert findings(bench)["documents"].level is Level.ERROR


def test_a_document_that_is_gone_is_an_error_that_names_it(bench: Bench) -> None:
    row = bench.collected()
    assert findings(bench)["documents' files"].level is Level.OK
    lost = bench.context.documents.of(row.id)[0]
    bench.context.documents.shelf.remove(lost)
    found = findings(bench)["documents' files"]
    assert found == Finding(
        "documents' files", Level.ERROR, f"1 are gone, the first is {lost}: put them back from a backup"
    )


def test_a_database_that_cannot_be_written_is_an_error(bench: Bench) -> None:
    in_the_way = bench.folder / "a-folder.db"
    in_the_way.mkdir()
    bench.settings["ORCHESTRATOR_DATABASE_URL"] = f"sqlite:///{in_the_way}"
    done = orchestrator(bench.environ(), bench.folder, "doctor", "--json", expect=1)
    found = {finding["check"]: finding for finding in map(json.loads, done.stdout.splitlines())}
    assert (found["database"]["level"], found["schema"]["level"]) == ("error", "error")
    assert {"documents", "BTSE Pay", "OSL Pay"} <= set(found)


def test_a_database_that_has_moved_is_said_once_as_a_finding(bench: Bench) -> None:
    bench.close()
    with bench.open().driver.alone() as whole:
        whole.move_away("postgresql://host/database", bench.clock())
    done = orchestrator(bench.environ(), bench.folder, "doctor", "--json", expect=2)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [finding["check"] for finding in found if finding["level"] == "error"] == ["ORCHESTRATOR_DATABASE_URL"]
    assert "its contents moved to postgresql://host/database" in found[-1]["text"]


def test_webhooks_that_are_never_signed_by_the_key_that_is_set_are_a_warning(web: Web) -> None:
    bench = web.bench
    assert findings(bench)["webhooks"].level is Level.OK
    bench.settings["OSL_WEBHOOK_PUBLIC_KEY"] = public_pem(rsa_key("stranger"))
    row = bench.shared_on_paper()
    path, sent = f"/callbacks/oslpay/{bench.callback_secret(row)}", bench.webhook(row, "PASS")
    assert web.anyone("POST", path, data=sent.body, headers={**sent.headers, "signature": "no"}).status_code == 401
    bench.context.tally.flush()
    found = findings(bench)["webhooks"]
    assert (found.level, "OSL_WEBHOOK_PUBLIC_KEY" in found.text) == (Level.WARNING, True)
    assert web.anyone("POST", path, data=sent.body, headers=sent.headers).status_code == 200
    assert findings(bench)["webhooks"].level is Level.OK


def test_every_finding_is_one_line_and_what_is_not_ok_says_what_to_do(bench: Bench) -> None:
    """With nobody to talk to, everything that can be wrong from outside is."""
    done = orchestrator(bench.environ(), bench.folder, "doctor", expect=1)
    lines = done.stdout.splitlines()
    found = [
        json.loads(line)
        for line in orchestrator(bench.environ(), bench.folder, "doctor", "--json", expect=1).stdout.splitlines()
    ]
    assert len(lines) == len(found)
    for line in lines:
        level, rest = line.split(maxsplit=1)
        assert level in set(Level)
        check, text = rest.split(": ", 1)
        assert check
        assert text
        if level != Level.OK:
            assert any(mark in text for mark in (": ", "; ")), f"{line!r} says nothing to do"
