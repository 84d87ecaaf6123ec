"""Many users at once, and the commands that try things: import, export, trigger, replay, delivery."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli.bulk import _take_in
from orchestrator.errors import InvalidInput
from orchestrator.machine import Event, State
from orchestrator.onboarding import advance, bulk, look, operate, signup
from orchestrator.records import Onboarding
from tests.command_line import CHECKOUT, orchestrator
from tests.merchant_end import MerchantEnd
from tests.service import DAY, MINUTE, Bench, new_user, pdf, web_of
from tests.waiting import until


def users(count: int) -> list[dict[str, Any]]:
    return [new_user() for _ in range(count)]


def folder_of(root: Path, data: list[dict[str, Any]]) -> Path:
    """Documents as `import` looks for them."""
    for user in data:
        own = root / "scans" / user["merchantUserId"]
        own.mkdir(parents=True)
        for kind in ("idFileFront", "selfie"):
            (own / f"{kind}.pdf").write_bytes(pdf(f"{kind} of {user['merchantUserId']}"))
    return root / "scans"


def as_csv(root: Path, data: list[dict[str, Any]], bom: str = "") -> Path:
    names = ["merchantUserId", "email", *data[0]["profile"]]
    stream = io.StringIO()
    writer = csv.DictWriter(stream, names)
    writer.writeheader()
    writer.writerows(
        {"merchantUserId": user["merchantUserId"], "email": user["email"], **user["profile"]} for user in data
    )
    file = root / "users.csv"
    file.write_text(bom + stream.getvalue(), "utf-8")
    return file


def as_json(root: Path, data: list[dict[str, Any]], bom: str = "") -> Path:
    file = root / "users.jsonl"
    file.write_text(bom + "".join(f"{json.dumps(user)}\n\n" for user in data), "utf-8")
    return file


def everybody(bench: Bench) -> list[Onboarding]:
    return [bench.row(onboarding_id) for onboarding_id, *_ in bench.context.store.heads()]


@pytest.mark.parametrize("bom", ["", "\ufeff"])
@pytest.mark.parametrize("write", [as_csv, as_json])
def test_users_of_a_file_are_validated_begun_and_submitted_and_never_twice(
    bench: Bench, tmp_path: Path, write: Any, bom: str
) -> None:
    data = users(3)
    file, scans = write(tmp_path, data, bom), folder_of(tmp_path, data)
    said = orchestrator(bench.environ(), tmp_path, "import", file, "--documents", scans, "--dry-run").stdout
    assert said == "3 users are fit to be imported\n"
    assert everybody(bench) == []
    first = next(bulk.entries(file, scans))
    bulk.take_in(bench.context, first, "import")  # as if it was stopped after the first
    for _ in range(2):
        said = orchestrator(bench.environ(), tmp_path, "import", file, "--documents", scans).stdout
        assert said == "imported 3 of 3 users\n"
    rows = everybody(bench)
    assert {row.merchant_user_id for row in rows} == {user["merchantUserId"] for user in data}
    assert [row.state for row in rows] == [State.UPLOADING] * 3
    for row in rows:
        assert bench.context.identity(row)[1]["firstName"] == "Anastasia"
        assert [document.kind for document in bench.context.store.documents(row.id)] == ["idFileFront", "selfie"]


def test_who_is_submitted_while_the_import_is_at_them_is_no_fault(bench: Bench, tmp_path: Path) -> None:
    (entry,) = bulk.entries(many(tmp_path / "users", 1), tmp_path / "users")

    class SubmittedMeanwhile(dict[str, Path]):
        """Another import is faster, after this one's first document."""

        def items(self) -> Any:
            first, *others = super().items()
            yield first
            bulk.take_in(bench.context, entry, "the other")
            # Not what the other one sent.
            yield from ((kind, Path(__file__).parents[2] / "docs" / "images" / "status.png") for kind, _ in others)

    row = bulk.take_in(bench.context, replace(entry, documents=SubmittedMeanwhile(entry.documents)), "import")
    assert row.state is State.UPLOADING
    assert bench.events(row).count(Event.SUBMITTED) == 1


def test_documents_that_are_too_large_together_are_told_before_anybody_is_imported(
    bench: Bench, tmp_path: Path
) -> None:
    data = users(2)
    data[1]["profile"]["idType"] = "ID_CARD"
    file, scans = as_json(tmp_path, data), folder_of(tmp_path, data)
    for kind in ("idFileFront", "idFileBack", "selfie"):
        (scans / data[1]["merchantUserId"] / f"{kind}.pdf").write_bytes(pdf(kind).ljust(3_400_000))
    done = orchestrator(bench.environ(), tmp_path, "import", file, "--documents", scans, "--dry-run", expect=1)
    assert [line.split(": ")[:2] for line in done.stderr.splitlines() if line.startswith("line")] == [
        ["line 3", "documents"]
    ]
    assert everybody(bench) == []


def test_an_import_in_which_somebody_cannot_be_submitted_goes_on_and_fails(bench: Bench, tmp_path: Path) -> None:
    data = users(2)
    file, scans = as_json(tmp_path, data), folder_of(tmp_path, data)
    begun = signup.checked_signup(bench.context, {name: data[0][name] for name in ("merchantUserId", "email")})
    signup.sign_up(bench.context, begun, "test")  # which keeps its data, as it was given
    done = orchestrator(bench.environ(), tmp_path, "import", file, "--documents", scans, expect=1)
    assert done.stdout == "imported 1 of 2 users\n"
    assert "line 1: something is missing" in done.stderr
    assert [row.state for row in everybody(bench)].count(State.UPLOADING) == 1


def test_everything_that_is_wrong_is_told_by_line_and_field_and_nothing_is_imported(
    bench: Bench, tmp_path: Path
) -> None:
    data = users(4)
    scans = folder_of(tmp_path, data)
    data[1]["email"] = "no email"
    data[1]["profile"]["ip"] = "nowhere"
    data[2]["profile"]["callbackUrl"] = "https://evil"
    (scans / data[3]["merchantUserId"] / "selfie.pdf").write_bytes(b"GIF89a")
    (scans / data[3]["merchantUserId"] / "idFileFront.pdf").unlink()
    file = tmp_path / "users.jsonl"
    file.write_text("".join(f"{json.dumps(user)}\n" for user in data))
    done = orchestrator(bench.environ(), tmp_path, "import", file, "--documents", scans, expect=1)
    lines = {line.split(": ")[0] + ": " + line.split(": ")[1] for line in done.stderr.splitlines() if ": " in line}
    assert {
        "line 2: email",
        "line 2: profile.ip",
        "line 3: profile.callbackUrl",
        "line 4: idFileFront",
        "line 4: selfie",
    } <= lines
    assert not any(line.startswith("line 1:") for line in lines)
    assert "nothing was imported" in done.stderr
    assert everybody(bench) == []


@pytest.mark.parametrize("name", ["../secret", "..", "/etc", "a/../../secret", "x\0y", "文" * 100, "x" * 300])
def test_a_hostile_or_odd_user_id_reads_nothing_outside_the_folder(bench: Bench, tmp_path: Path, name: str) -> None:
    (tmp_path / "secret").mkdir()
    for kind in ("idFileFront", "selfie"):
        (tmp_path / "secret" / f"{kind}.pdf").write_bytes(pdf("of somebody else"))
    data = [{**user, "merchantUserId": name} for user in users(1)]
    scans = tmp_path / "scans"
    scans.mkdir()
    file = as_json(tmp_path, data)
    with pytest.raises(InvalidInput, match=r"^line 1: a document's path"):
        list(bulk.entries(file, scans))
    assert everybody(bench) == []


@pytest.mark.parametrize("name", ["x/../u-2", "./u-2", "u-2/.", "u-2/", "u-1//../u-2", "."])
def test_nobody_is_given_the_documents_of_another_user(bench: Bench, tmp_path: Path, name: str) -> None:
    (own,) = users(1)
    scans = folder_of(tmp_path, [{**own, "merchantUserId": "u-2"}])
    (scans / "x").mkdir()
    file = as_json(tmp_path, [{**own, "merchantUserId": name}])
    said = orchestrator(bench.environ(), tmp_path, "import", file, "--documents", scans, expect=1).stderr
    assert "line 1: a document's path: its merchantUserId cannot be the name of a folder: name its documents in" in said
    named = {**own, "merchantUserId": name, "idFileFront": "u-2/idFileFront.pdf", "selfie": "u-2/selfie.pdf"}
    (entry,) = bulk.entries(as_json(tmp_path, [named]), scans)
    assert sorted(path.name for path in entry.documents.values()) == ["idFileFront.pdf", "selfie.pdf"]


def test_the_fields_that_are_at_fault_are_named_whoever_refuses(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    row = bench.submitted()
    said = orchestrator(bench.environ(), tmp_path, "resubmit", row.id, "--reason", "", expect=1).stderr
    assert said.splitlines()[0].startswith(f"{row.id}: ")
    assert said.splitlines()[1].startswith("  reason: ")

    def refuse(*_: object) -> None:
        raise InvalidInput("the data is not valid", {"profile.ip": ["is no address"]})

    monkeypatch.setattr(bulk, "take_in", refuse)
    assert _take_in(bench.context, many(tmp_path / "users", 1), tmp_path / "users") == 1
    assert capsys.readouterr().err.splitlines()[-2:] == ["line 2: the data is not valid", "  profile.ip: is no address"]


def test_a_file_that_is_not_what_it_should_be_is_refused_by_line(bench: Bench, tmp_path: Path) -> None:
    contents = {
        "a.jsonl": b'{"merchantUserId": "u"}\nhello\n',
        "b.jsonl": b'{"merchantUserId": "u"}\n\xff\xfe\n',
        "c.jsonl": b"{}\n[]\n",
        "d.csv": b"merchantUserId,email\nu,e,more\n",
        "e.csv": b'merchantUserId,email\n"u\xff",e\n',
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InvalidInput, match=r"line \d .*(JSON|cells|CSV)"):
            list(bulk.entries(tmp_path / name, None))
    said = orchestrator(bench.environ(), tmp_path, "import", tmp_path / "none.csv", expect=1).stderr
    assert "there is no file" in said


def test_an_export_has_no_formula_no_personal_data_and_takes_filters(bench: Bench) -> None:
    hostile = ["=1+1", "+1", "-1", "@SUM(A1)"]
    for name in hostile:
        data = {**new_user(), "merchantUserId": name}
        from orchestrator.onboarding import signup

        signup.sign_up(bench.context, signup.checked_signup(bench.context, data), "test")
    operate.cancel(bench.context, look.find_by_any_id(bench.context, "+1").id, "test")
    said = orchestrator(bench.environ(), bench.folder, "export").stdout
    rows = list(csv.DictReader(io.StringIO(said)))
    assert sorted(row["merchantUserId"] for row in rows) == sorted(f"'{name}" for name in hostile)
    assert "Anastasia" not in said
    assert "@example.com" not in said
    said = orchestrator(bench.environ(), bench.folder, "export", "--state", "cancelled", "--format", "jsonl").stdout
    assert [json.loads(line)["merchantUserId"] for line in said.splitlines()] == ["+1"]
    assert "Error" in orchestrator(bench.environ(), bench.folder, "export", "--state", "none", expect=1).stderr
    assert orchestrator(bench.environ(), bench.folder, "export", "--since", "2099-01-01").stdout.count("\n") == 1
    now = bench.clock()
    assert len(list(bulk.listed(bench.context, None, now))) == 4
    assert list(bulk.listed(bench.context, None, now + DAY)) == []
    cells = {text: bulk.safe_cell(text) for text in ("\t=1", "\r=1", "\ta", "a=1", "", "-")}
    assert cells == {"\t=1": "'\t'=1", "\r=1": "'\r'=1", "\ta": "'\ta", "a=1": "a=1", "": "", "-": "'-"}
    assert (bulk.safe_cell(None), bulk.safe_cell(3)) == ("", "3")


@pytest.mark.sqlite
@pytest.mark.parametrize("separator", [";", ",", "\t", "|"])
def test_no_separator_that_a_spreadsheet_may_be_told_makes_a_formula_of_an_export(separator: str) -> None:
    for hostile in (f"x{separator}=1+1{separator}", f"x{separator} @A1", f'x{separator}"=1+1"', f'x{separator}""-1'):
        stream = io.StringIO()
        csv.writer(stream).writerow(["onb_1", bulk.safe_cell(hostile), "collecting"])
        (cells,) = csv.reader(io.StringIO(stream.getvalue()), delimiter=separator)
        assert [cell for cell in cells if cell.strip(' "').startswith(("=", "+", "-", "@"))] == [], hostile


def test_a_state_that_there_is_not_is_refused_before_anything_is_printed(bench: Bench) -> None:
    done = orchestrator(bench.environ(), bench.folder, "export", "--state", "nonsense", expect=1)
    assert done.stdout == ""
    assert "  state: must be one of collecting, " in done.stderr


def many(root: Path, count: int) -> Path:
    """A CSV of so many users who all share two files, named by columns."""
    root.mkdir(exist_ok=True)
    for kind in ("idFileFront", "selfie"):
        (root / f"{kind}.pdf").write_bytes(pdf(kind))
    profile = new_user()["profile"]
    with (root / f"{count}.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["merchantUserId", "email", *profile, "idFileFront", "selfie"])
        for number in range(count):
            own = [f"u-{number}", f"pass+{number}@example.com", *profile.values()]
            writer.writerow([*own, "idFileFront.pdf", "selfie.pdf"])
    return root / f"{count}.csv"


def peak_memory(bench: Bench, file: Path, *more: str) -> int:
    """Of the import of a file, in kilobytes."""
    command = [sys.executable, "-m", "orchestrator", "import", str(file), "--documents", str(file.parent), *more]
    environ = {**bench.environ(), "PATH": os.environ["PATH"], "PYTHONPATH": str(CHECKOUT)}
    with (file.parent / "said").open("wb") as said:
        process = subprocess.Popen(command, env=environ, cwd=bench.folder, stdout=said, stderr=said)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, (file.parent / "said").read_text()
    return used.ru_maxrss


def test_an_import_that_is_interrupted_goes_on_where_it_was_and_begins_nobody_twice(
    bench: Bench, tmp_path: Path
) -> None:
    file = many(tmp_path / "users", 60)
    arguments = ["import", str(file), "--documents", str(file.parent)]
    environ = {**bench.environ(), "PATH": os.environ["PATH"], "PYTHONPATH": str(CHECKOUT)}
    process = subprocess.Popen(
        [sys.executable, "-m", "orchestrator", *arguments],
        env=environ,
        cwd=bench.folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
    )
    until(lambda: len(everybody(bench)) >= 5, every=0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    begun = {row.id for row in everybody(bench)}
    assert process.returncode == 1
    assert "run the same command again" in said
    assert "Traceback" not in said
    assert 5 <= len(begun) < 60

    assert orchestrator(bench.environ(), bench.folder, *arguments).stdout == "imported 60 of 60 users\n"
    rows = everybody(bench)
    assert begun <= {row.id for row in rows}, "nobody was begun anew"
    assert sorted(row.merchant_user_id for row in rows) == sorted(f"u-{number}" for number in range(60))
    assert {row.state for row in rows} == {State.UPLOADING}
    for row in rows:
        assert bench.events(row).count(Event.SUBMITTED) == 1
        assert {document.kind for document in bench.context.store.documents(row.id)} == {"idFileFront", "selfie"}
        assert bench.chain_faults(row) == []


def test_a_user_who_stands_on_two_lines_is_told(bench: Bench, tmp_path: Path) -> None:
    file = many(tmp_path / "users", 3)
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines, lines[2]]) + "\n")
    done = orchestrator(bench.environ(), bench.folder, "import", file, "--documents", file.parent, expect=1)

    assert "line 5: merchantUserId: is on an earlier line too" in done.stderr
    assert everybody(bench) == []


def test_a_longer_file_takes_no_more_memory(bench: Bench, tmp_path: Path) -> None:
    short, long = (peak_memory(bench, many(tmp_path / "users", count), "--dry-run") for count in (50, 3_000))

    assert long - short < 6_000


@pytest.mark.soak
def test_a_hundred_thousand_users_are_validated_and_thousands_imported_in_bounded_memory(
    bench: Bench, tmp_path: Path
) -> None:
    short = peak_memory(bench, many(tmp_path / "users", 100))
    validated = peak_memory(bench, many(tmp_path / "users", 100_000), "--dry-run")
    imported = peak_memory(bench, many(tmp_path / "users", 5_000))
    print(f"peak: 100 users {short} kB, 100,000 validated {validated} kB, 5,000 imported {imported} kB")

    assert validated - short < 30_000
    assert imported - short < 30_000
    assert len(everybody(bench)) == 5_000


# Trying things --------------------------------------------------------------------------------------------------


def test_a_triggered_signup_is_signed_as_the_merchant_signs(bench: Bench) -> None:
    with web_of(bench) as web:
        arguments = ("trigger", "signup", "--merchant-user-id", "u-1", "--email", "pass@example.com", "--url", web.url)
        said = orchestrator(bench.environ(), bench.folder, *arguments, "--profile", "firstName=Ana").stdout
        assert said.startswith("202 ")
        assert bench.context.identity(look.find_by_any_id(bench.context, "u-1"))[1] == {"firstName": "Ana"}
        assert orchestrator(bench.environ(), bench.folder, *arguments).stdout.startswith("200 ")
    gone = orchestrator(bench.environ(), bench.folder, *arguments, expect=1).stderr
    assert "is it running" in gone
    orchestrator(bench.environ(), bench.folder, *arguments, "--profile", "nothing", expect=2)


def test_callbacks_are_triggered_at_a_sandbox_alone(bench: Bench) -> None:
    row = bench.sign_up()
    environ = {**bench.environ(), "OSL_BASE_URL": "https://api.osl.example.com"}
    said = orchestrator(environ, bench.folder, "trigger", "callback", row.id, expect=1).stderr
    assert "not on this machine" in said


def test_what_the_service_answers_to_a_triggered_callback_is_how_the_command_ends(played: Bench) -> None:
    assert played.sandbox
    with web_of(played) as web:
        played.settings["ORCHESTRATOR_PUBLIC_URL"] = web.url
        played.context = played.open().context
        row = played.shared()
        done = orchestrator(played.environ(), played.folder, "trigger", "callback", row.id, "--status", "", expect=1)
        assert json.loads(done.stdout.removeprefix("200 "))["status"] == 400
        done = orchestrator(played.environ(), played.folder, "trigger", "callback", row.id, "--status", "REVIEW")
        assert json.loads(done.stdout.removeprefix("200 "))["status"] == 200


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device here is always full")
@pytest.mark.parametrize(
    "words", ["token create --role viewer --name dashboard", "export", "export --format jsonl", "audit head"]
)
def test_what_cannot_be_printed_on_a_full_disk_is_no_success(bench: Bench, words: str) -> None:
    bench.sign_up()
    environ = {**bench.environ(), "PATH": os.environ["PATH"], "PYTHONPATH": str(CHECKOUT)}
    with Path("/dev/full").open("wb") as full:
        command = [sys.executable, "-m", "orchestrator", *words.split()]
        done = subprocess.run(
            command, env=environ, cwd=bench.folder, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 1
    assert done.stderr.startswith("Error: not everything could be written (No space left on device): ")
    assert done.stderr.count("\n") == 1


def test_heads_that_are_no_text_are_refused(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "heads").write_bytes(b"onb_1 \xff")
    said = orchestrator(bench.environ(), tmp_path, "audit", "verify", "--head", "heads", expect=1).stderr
    assert said == "Error: heads is not what `audit head` printed: it is no text in UTF-8\n"


def test_a_replayed_callback_has_osl_pay_asked(bench: Bench) -> None:
    row = bench.shared_on_paper()
    bench.receive(row, "REVIEW")
    (callback,) = bench.callbacks(row)
    said = orchestrator(bench.environ(), bench.folder, "replay", callback.id).stdout
    assert "OSL Pay will be asked" in said
    assert bench.row(row).due_at is not None
    done = orchestrator(bench.environ(), bench.folder, "replay", "cbk_none", callback.id, expect=1)
    assert "no such callback" in done.stderr
    assert callback.id in done.stdout, "the others are replayed all the same"


def test_deliveries_are_listed_and_resent(tmp_path: Path) -> None:
    merchant = MerchantEnd()
    settings = {"ORCHESTRATOR_NOTIFY_URL": merchant.url, "ORCHESTRATOR_NOTIFY_SECRET": merchant.secret}
    bench = Bench(tmp_path, **settings)
    row = bench.submitted()
    (item,) = bench.context.store.deliveries(row.id)
    said = orchestrator(bench.environ(), tmp_path, "delivery", "resend", item.id, expect=1).stderr
    assert "still being tried" in said
    for delivery in advance.claim_deliveries(bench.context, 1):
        advance.deliver(bench.context, delivery)
    listed = json.loads(orchestrator(bench.environ(), tmp_path, "delivery", "list", row.id, "--json").stdout)["items"]
    assert [(found["id"], found["status"]) for found in listed] == [(item.id, "delivered")]
    bench.clock.advance(MINUTE)
    assert "in line again" in orchestrator(bench.environ(), tmp_path, "delivery", "resend", item.id).stdout
    for delivery in advance.claim_deliveries(bench.context, 1):
        advance.deliver(bench.context, delivery)
    assert [notice.id for notice in merchant.notices] == [item.id, item.id]
    bench.close()
    merchant.stop()
