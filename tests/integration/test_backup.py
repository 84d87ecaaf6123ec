"""Backup while everything runs, and restore: nothing missing, nothing sent twice, nobody erased comes back."""

from __future__ import annotations

import base64
import hashlib
import io
import itertools
import json
import os
import shutil
import sqlite3
import subprocess
import tarfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from orchestrator import backup as archives
from orchestrator import bootstrap
from orchestrator.errors import InvalidInput, NotFound, SealBroken, StoreUnavailable
from orchestrator.machine import State
from orchestrator.onboarding import access, advance, audit, collect, look, operate, retain
from orchestrator.records import Onboarding, ShareOutcome
from orchestrator.seal import Sealer, plain_hash
from tests.command_line import orchestrator
from tests.postgres_server import PostgresServer
from tests.sandbox_process import SECRET_KEY, SandboxProcess, private_pem, rsa_key
from tests.service import ENCRYPTION_KEY, HOUR, MINUTE, SECOND, SIGNUP_SECRET, Bench, pdf

Change = Callable[[Path, Path], None]


def back_up(bench: Bench, name: str = "backup.tar") -> Path:
    """What `orchestrator backup` writes."""
    archive = bench.folder / name
    context = bench.context
    archives.write(bench.service.driver, context.documents.shelf, context.sealer, bootstrap.database, archive)
    return archive


def restore(bench: Bench, archive: Path) -> int:
    """What `orchestrator restore` does but for settling: the archive in place of an empty installation."""
    shelf, sealer = bench.context.documents.shelf, bench.context.sealer
    return archives.read(
        bench.service.driver, shelf, sealer, bootstrap.database, lambda copied: None, lambda copied: None, archive
    )


def restored(folder: Path, archive: Path, like: Bench, erasures: bool = True) -> Bench:
    """A new installation with the settings and the clock of `like`, restored by the command."""
    (folder / "documents").mkdir(parents=True)
    log = like.folder / "documents" / "erasures.log"
    if erasures and log.exists():
        shutil.copy(log, folder / "documents")
    bench = Bench(folder, like.sandbox, clock=like.clock, **like.settings)
    orchestrator(bench.environ(), folder, "restore", archive)
    return bench


def link(bench: Bench, row: Onboarding) -> str:
    return bench.context.sealer.open(row.link_sealed, "onboardings", row.id, "link").decode()


def all_rows(bench: Bench) -> list[Onboarding]:
    return [bench.row(onboarding_id) for onboarding_id, *_ in bench.context.store.heads()]


def check_whole(bench: Bench) -> int:
    """Every row has its file, each opens to what its row says, and every chain is whole; how many documents."""
    count = 0
    for row in all_rows(bench):
        for document in bench.context.store.documents(row.id):
            content = bench.context.documents.get(document)
            assert (len(content), hashlib.sha256(content).hexdigest()) == (document.size, document.sha256)
            count += 1
        bench.context.identity(row)
    assert list(audit.faults(bench.context)) == []
    return count


def everything_changes(bench: Bench, number: int, stopping: threading.Event) -> None:
    """One thread of people who upload, replace and remove documents, and sign up and leave."""
    rows = [bench.sign_up() for _ in range(2)]
    for turn in itertools.count():
        for row in rows:
            for kind in ("idFileFront", "selfie"):
                collect.put_document(
                    bench.context,
                    look.find(bench.context, row.id),
                    kind,
                    pdf(f"{kind} {number} {turn} {row.id}"),
                    "test",
                )
            if turn % 3 == 0:
                collect.remove_document(bench.context, row.id, "selfie", "test")
        operate.cancel(bench.context, bench.collected().id, "test")
        if stopping.is_set():
            return


def test_a_backup_made_while_everybody_writes_restores_to_rows_that_all_have_their_files(
    bench: Bench, tmp_path: Path
) -> None:
    before = bench.collected()
    stopping = threading.Event()
    threads = [threading.Thread(target=everything_changes, args=(bench, number, stopping)) for number in range(3)]
    for thread in threads:
        thread.start()
    try:
        found = [bench.folder / f"{number}.tar" for number in range(3)]
        for archive in found:
            said = orchestrator(bench.environ(), bench.folder, "backup", archive).stdout
            assert f"wrote {archive}" in said
            assert "ORCHESTRATOR_ENCRYPTION_KEYS" in said
    finally:
        stopping.set()
        for thread in threads:
            thread.join()
    counts = []
    for number, archive in enumerate(found):
        again = restored(tmp_path / f"restored-{number}", archive, bench)
        counts.append(check_whole(again))
        assert again.row(before).state is State.COLLECTING
        assert {document.kind for document in again.context.store.documents(before.id)} == {"idFileFront", "selfie"}
        again.close()
    assert counts == sorted(counts)
    assert counts[-1] > counts[0] > 2, "people went on meanwhile"


def test_a_backup_goes_on_when_a_user_is_erased_meanwhile(bench: Bench, tmp_path: Path) -> None:
    users = sorted((bench.collected() for _ in range(3)), key=lambda row: row.id)
    shelf = bench.context.documents.shelf

    class WhileRead:
        def __getattr__(self, name: str) -> Any:
            return getattr(shelf, name)

        def read(self, location: str) -> bytes | None:
            if (last := bench.row(users[-1])).erased_at is None:
                retain.erase_here(bench.context, last.id, "test")
            return shelf.read(location)

    sealer, archive = bench.context.sealer, tmp_path / "archive"
    assert archives.write(bench.service.driver, WhileRead(), sealer, bootstrap.database, archive) == 4
    again = restored(tmp_path / "restored", archive, bench)
    assert check_whole(again) == 4
    again.close()


def test_an_archive_holds_no_key_no_secret_and_no_plain_document(bench: Bench) -> None:
    row = bench.collected(firstName="Wilhelmina")
    archive = back_up(bench)
    content = archive.read_bytes()
    pem = "".join(private_pem(rsa_key("merchant")).splitlines()[1:-1])
    for secret in (
        ENCRYPTION_KEY.encode(),
        base64.b64decode(ENCRYPTION_KEY),
        SIGNUP_SECRET.encode(),
        SECRET_KEY.encode(),
        pem[:40].encode(),
        b"Wilhelmina",
        b"%PDF-",
        link(bench, row).encode(),
    ):
        assert secret not in content
    assert archive.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in bench.folder.glob(".*backup*")] == [], "nothing half-written remains"


def test_a_backup_never_overwrites_a_file_and_says_where_it_cannot_write(bench: Bench, tmp_path: Path) -> None:
    there = tmp_path / "there.tar"
    there.write_text("mine")
    said = orchestrator(bench.environ(), tmp_path, "backup", there, expect=1).stderr
    assert "exists already" in said
    assert there.read_text() == "mine"
    said = orchestrator(bench.environ(), tmp_path, "backup", tmp_path / "nowhere" / "new.tar", expect=1).stderr
    assert "could not be written" in said


def test_a_file_without_its_row_does_no_harm_in_an_archive(bench: Bench, tmp_path: Path) -> None:
    row = bench.collected()
    bench.context.documents.put(row.id, "selfie", "0" * 64, b"never acknowledged")
    (bench.folder / "documents" / row.id / ".selfie-00").write_bytes(b"half")
    again = restored(tmp_path / "restored", back_up(bench), bench)
    assert check_whole(again) == 2
    again.close()


# Archives that are refused --------------------------------------------------------------------------------------


def members(archive: Path) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    with tarfile.open(archive) as opened:
        for member in opened:
            data = opened.extractfile(member)
            yield member, data.read() if data else b""


def rewritten(change: Callable[[tarfile.TarInfo, bytes], tuple[str, bytes] | None]) -> Change:
    """Every member as `change` would have it; None leaves it out."""

    def work(source: Path, target: Path) -> None:
        with tarfile.open(target, "w") as archive:
            for member, content in members(source):
                kept = change(member, content)
                if kept is not None:
                    add(archive, *kept)

    return work


def with_more(*names: str) -> Change:
    """One more document of each name, in front of all others."""

    def work(source: Path, target: Path) -> None:
        with tarfile.open(target, "w") as archive:
            for name in names:
                add(archive, name, b"evil")
            for member, content in members(source):
                add(archive, member.name, content)

    return work


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def linked(source: Path, target: Path) -> None:
    with tarfile.open(target, "w") as archive:
        member = tarfile.TarInfo("documents/onb_evil/selfie-00")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(member)
        for member, content in members(source):
            add(archive, member.name, content)


def huge(source: Path, target: Path) -> None:
    """A file of which only the head is there."""
    member = tarfile.TarInfo("documents/onb_a/selfie-00")
    member.size = 1 << 50
    target.write_bytes(member.tobuf() + source.read_bytes())


def sparse(source: Path, target: Path) -> None:
    """A file that is nothing but a hole."""
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo("documents/onb_a/selfie-00")
        member.pax_headers = {"GNU.sparse.map": "0,0", "GNU.sparse.size": str(1 << 50)}
        archive.addfile(member)
        for each, content in members(source):
            add(archive, each.name, content)


def cut(keep: float) -> Change:
    def work(source: Path, target: Path) -> None:
        content = source.read_bytes()
        target.write_bytes(content[: int(len(content) * keep)])

    return work


def zipped_and_cut(source: Path, target: Path) -> None:
    with tarfile.open(target, "w:gz") as archive:
        for member, content in members(source):
            add(archive, member.name, content)
    content = target.read_bytes()
    target.write_bytes(content[: len(content) // 2])


def flipped(name: str) -> Change:
    def change(member: tarfile.TarInfo, content: bytes) -> tuple[str, bytes]:
        if member.name.startswith(name):
            middle = len(content) // 2
            content = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        return member.name, content

    return rewritten(change)


def without(name: str) -> Change:
    return rewritten(lambda member, content: None if member.name.startswith(name) else (member.name, content))


REFUSED: dict[str, Change] = {
    "half of it": cut(0.5),
    "all but the end": cut(0.8),
    "nothing": cut(0),
    "half of a zipped one": zipped_and_cut,
    "a text": lambda _, target: (target.write_text("a text " * 500), None)[1],
    "a foreign tar": lambda _, target: foreign(target),
    "another version": rewritten(
        lambda member, content: (member.name, content.replace(b'"format": 2', b'"format": 9'))
    ),
    "a manifest of something else": rewritten(
        lambda member, content: (member.name, b"[]" if member.name == "manifest.json" else content)
    ),
    "a manifest without its seal": rewritten(
        lambda member, content: (member.name, b'{"format": 2}' if member.name == "manifest.json" else content)
    ),
    "a manifest whose seal is no text": rewritten(
        lambda member, content: (
            member.name,
            b'{"format": 2, "sealed": 7}' if member.name == "manifest.json" else content,
        )
    ),
    "a manifest whose seal is broken": rewritten(
        lambda member, content: (member.name, content.replace(b'"sealed": "', b'"sealed": "AAAA'))
    ),
    "a changed database": flipped("database.sqlite"),
    "a changed document": flipped("documents/"),
    "no database": without("database.sqlite"),
    "no manifest": without("manifest.json"),
    "no documents": without("documents/"),
    "a way out": with_more("documents/../evil"),
    "a long way out": with_more("documents/onb_a/../../../evil-00"),
    "a way from the root": with_more("documents//tmp/evil-00"),
    "a document that is no document": with_more("documents/onb_a/evil.sh"),
    "a document more": with_more("documents/onb_a/selfie-00"),
    "a link": linked,
    "more than there is": huge,
    "a hole": sparse,
}


def foreign(target: Path) -> None:
    with tarfile.open(target, "w") as archive:
        add(archive, "hello.txt", b"hello")


def test_archives_that_are_not_what_was_backed_up_are_refused_and_nothing_of_them_is_kept(
    bench: Bench, tmp_path: Path
) -> None:
    row = bench.collected()
    source = back_up(bench)
    empty = Bench(tmp_path / "empty")
    for name, change in REFUSED.items():
        changed = bench.folder / f"{name}.tar"
        change(source, changed)
        with pytest.raises((InvalidInput, StoreUnavailable, SealBroken)) as refused:
            restore(empty, changed)
        assert "archive" in str(refused.value) or "sealed" in str(refused.value), name
        assert list(tmp_path.rglob("evil*")) == [], name
        assert empty.context.store.is_empty(), name
        assert list(empty.context.documents.shelf.locations()) == [], name
    assert restore(empty, source) == 2, "the whole one is welcome after that"
    assert empty.row(row).state is State.COLLECTING
    empty.close()


def test_the_command_refuses_a_damaged_archive_in_words(bench: Bench, tmp_path: Path) -> None:
    changed = tmp_path / "changed.tar"
    bench.collected()
    flipped("documents/")(back_up(bench), changed)
    empty = Bench(tmp_path / "empty")
    said = orchestrator(empty.environ(), tmp_path, "restore", changed, expect=1).stderr
    assert said.startswith("Error: the archive is damaged")
    empty.close()


def test_an_archive_that_was_changed_and_whose_hashes_were_written_anew_is_refused(
    bench: Bench, tmp_path: Path
) -> None:
    """Whoever has the backups and not the keys puts a token of their own among those that let people in."""
    row = bench.collected()
    source = back_up(bench)
    database = tmp_path / "database.sqlite"
    database.write_bytes(next(content for member, content in members(source) if member.name == database.name))
    with closing(sqlite3.connect(database)) as opened:
        opened.execute("insert into access_tokens values ('me', 'operator', ?, 0, null)", (plain_hash("orc_mine"),))
        opened.commit()
    documents = hashlib.sha256()
    for member, content in members(source):
        if member.name.startswith("documents/"):
            documents.update(f"{member.name} {hashlib.sha256(content).hexdigest()}\n".encode())
    hashes = hashlib.sha256(database.read_bytes()).hexdigest(), documents.hexdigest()
    genuine = json.loads(next(content for member, content in members(source) if member.name == "manifest.json"))
    stranger = Sealer([bytes(32)], os.urandom)
    manifests = {
        "as it was before there was a seal": {"format": 1, "databaseSha256": hashes[0], "documentsSha256": hashes[1]},
        "with the seal of before": genuine | {"databaseSha256": hashes[0], "documentsSha256": hashes[1]},
        "sealed with a key of one's own": genuine
        | {"sealed": base64.b64encode(stranger.seal(" ".join(hashes).encode(), *archives._PLACE)).decode()},
        "with something else that was sealed": genuine | {"sealed": base64.b64encode(row.profile_sealed).decode()},
    }
    empty = Bench(tmp_path / "empty")
    for name, manifest in manifests.items():
        contents = {"database.sqlite": database.read_bytes(), "manifest.json": json.dumps(manifest).encode()}
        changed = tmp_path / f"{name}.tar"
        with tarfile.open(changed, "w") as archive:
            for member, content in members(source):
                add(archive, member.name, contents.get(member.name, content))
        with pytest.raises((InvalidInput, SealBroken)):
            restore(empty, changed)
        assert empty.context.store.is_empty(), name
        assert list(empty.context.documents.shelf.locations()) == [], name
    empty.close()


def with_an_onboarding(bench: Bench) -> None:
    bench.sign_up()


def with_a_token(bench: Bench) -> None:
    orchestrator(bench.environ(), bench.folder, "token", "create", "--role", "viewer", "--name", "somebody")


def with_a_file(bench: Bench) -> None:
    bench.context.documents.put("onb_1", "selfie", "0" * 64, b"a file")


@pytest.mark.parametrize("begun", [with_an_onboarding, with_a_token, with_a_file])
def test_only_an_empty_installation_is_restored_into(
    bench: Bench, tmp_path: Path, begun: Callable[[Bench], None]
) -> None:
    row = bench.collected()
    archive = back_up(bench)
    other = Bench(tmp_path / "other")
    begun(other)
    with pytest.raises(InvalidInput, match="is not empty"):
        restore(other, archive)
    with pytest.raises(NotFound):
        other.row(row)
    other.close()


def test_a_signup_that_is_acknowledged_while_an_archive_is_restored_is_not_lost(bench: Bench, tmp_path: Path) -> None:
    bench.collected()
    archive = back_up(bench)
    other = Bench(tmp_path / "other")
    shelf = other.context.documents.shelf
    begun: list[Onboarding] = []

    class StartedTooEarly:
        """Somebody serves while the documents are put in place."""

        def __getattr__(self, name: str) -> Any:
            return getattr(shelf, name)

        def write(self, location: str, sealed: bytes) -> None:
            shelf.write(location, sealed)
            begun.append(other.sign_up())

    def nothing(copied: Any) -> None:
        """Neither checked nor settled."""

    with pytest.raises(InvalidInput, match="is not empty"):
        archives.read(
            other.service.driver,
            StartedTooEarly(),
            other.context.sealer,
            bootstrap.database,
            nothing,
            nothing,
            archive,
        )
    assert [other.state(row) for row in begun] == [State.COLLECTING] * 2
    other.close()


def test_who_keeps_data_on_servers_is_told_what_to_use_instead(bench: Bench, tmp_path: Path) -> None:
    archive = back_up(bench)
    postgres = {"ORCHESTRATOR_DATABASE_URL": "postgresql://nobody:nothing@127.0.0.1:9/none"}
    s3 = {"ORCHESTRATOR_DOCUMENTS_URL": "s3://bucket/prefix", "AWS_DEFAULT_REGION": "us-east-1"}
    for arguments in (("backup", tmp_path / "new.tar"), ("restore", archive)):
        said = orchestrator(bench.environ() | postgres, tmp_path, *arguments, expect=1).stderr
        assert "pg_dump" in said
        said = orchestrator(bench.environ() | s3, tmp_path, *arguments, expect=1).stderr
        assert "versioning" in said
    assert not (tmp_path / "new.tar").exists()


# What happened after the backup ---------------------------------------------------------------------------------


def shares(sandbox: SandboxProcess) -> Counter[str]:
    """How many shares the sandbox acted upon, by user."""
    found: Counter[str] = Counter()
    for share in sandbox.summary()["shares"]:
        found[share["merchantUserId"]] += share["count"]
    return found


def test_what_was_shared_after_the_backup_is_not_shared_again(played: Bench, tmp_path: Path) -> None:
    approved = played.run_to(played.shared(), State.APPROVED, 2 * HOUR)
    shared, at_the_share = played.shared(), played.to_share()
    uploading, collecting, unsent = played.submitted(), played.collected(), played.collected()
    archive = back_up(played)
    collect.submit(played.context, collecting.id, "test")
    played.run(3 * HOUR)
    everybody = [collecting, uploading, at_the_share, shared, approved]
    assert [played.state(row) for row in everybody] == [State.APPROVED] * 5
    assert all(shares(played.sandbox)[row.merchant_user_id] == 1 for row in everybody if played.sandbox)

    again = restored(tmp_path / "restored", archive, played)
    for row in (collecting, uploading, at_the_share, unsent):
        if again.state(row) is not State.AWAITING_CALLBACK:
            assert again.row(row).share is ShareOutcome.LOST, "nothing is sent before OSL Pay was asked"
    assert played.sandbox
    before = len(played.sandbox.requests("osl.share"))
    for row in (collecting, unsent):
        collect.submit(again.context, row.id, "test")
    again.run(3 * HOUR)
    again.run(MINUTE)
    for row in everybody:
        assert again.state(row) is State.APPROVED
        assert again.chain_faults(row) == []
    assert again.state(unsent) is State.APPROVED
    assert {row.merchant_user_id: shares(played.sandbox)[row.merchant_user_id] for row in [*everybody, unsent]} == {
        row.merchant_user_id: 1 for row in [*everybody, unsent]
    }
    assert len(played.sandbox.requests("osl.share")) == before + 1, "of the one whom nobody had shared"
    again.close()


def test_who_was_erased_after_the_backup_is_erased_again_by_the_restore(played: Bench, tmp_path: Path) -> None:
    erased, kept = played.shared(), played.collected()
    name = erased.merchant_user_id
    archive = back_up(played)
    assert retain.erase(played.context, erased.id, "test")
    again = restored(tmp_path / "restored", archive, played)
    row = again.row(erased)
    assert (row.state, row.erased_at is not None, row.email_hash) == (State.CANCELLED, True, "")
    assert name not in row.merchant_user_id
    assert again.context.identity(row) == ("", {})
    assert again.context.store.documents(row.id) == []
    assert not (again.folder / "documents" / row.id).exists()
    assert check_whole(again) == 2
    assert again.state(kept) is State.COLLECTING
    again.close()


def test_the_restore_says_how_many_are_asked_about_and_how_many_were_erased(played: Bench, tmp_path: Path) -> None:
    erased = played.collected()
    played.submitted()
    operate.cancel(played.context, played.collected().id, "test")
    archive = back_up(played)
    retain.erase(played.context, erased.id, "test")
    bench = Bench(tmp_path / "restored", clock=played.clock)
    (bench.folder / "documents").mkdir()
    shutil.copy(played.folder / "documents" / "erasures.log", bench.folder / "documents")
    said = orchestrator(bench.environ(), tmp_path, "restore", archive).stdout
    assert "restored 6 documents" in said
    assert "1 open onboardings are asked about" in said
    assert "1 erasures were repeated" in said
    bench.clock.advance(SECOND)
    assert bench.context.store.counts()[State.CANCELLED] == 2
    bench.close()


def test_the_restore_says_that_tokens_revoked_since_the_backup_work_again(bench: Bench, tmp_path: Path) -> None:
    secret = access.create_token(bench.context, "stolen", "operator")
    archive = back_up(bench)
    access.revoke_token(bench.context, "stolen")
    new = Bench(tmp_path / "restored", clock=bench.clock)
    said = orchestrator(new.environ(), new.folder, "restore", archive).stdout
    assert access.token(new.context, secret).name == "stolen"
    assert "1 access tokens work as they did then: revoke again what was revoked since" in said
    new.close()


def test_with_other_keys_nothing_is_restored_and_the_right_ones_are_welcome_afterwards(
    bench: Bench, tmp_path: Path
) -> None:
    row = bench.collected()
    archive = back_up(bench)
    other = Bench(tmp_path / "other")
    said = orchestrator(other.environ() | STRANGE_KEYS, tmp_path, "restore", archive, expect=1).stderr
    assert f"sealed with key {bench.context.sealer.key_ids()[0]}, which is not in ORCHESTRATOR_ENCRYPTION_KEYS" in said
    assert other.context.store.is_empty()
    assert list(other.context.documents.shelf.locations()) == []
    assert "restored 2 documents" in orchestrator(other.environ(), tmp_path, "restore", archive).stdout
    assert other.state(row) is State.COLLECTING
    other.close()


# What other means put in place -----------------------------------------------------------------------------------

STRANGE_KEYS = {"ORCHESTRATOR_ENCRYPTION_KEYS": base64.b64encode(b"another key, of thirty-two bytes").decode()}


class Elsewhere:
    """Two places for a database of one kind, and how the one is backed up and put back into the other."""

    def __init__(self, folder: Path, server: PostgresServer | None) -> None:
        self.server = server
        self.folders = folder / "old", folder / "new"
        self.settings = [{"ORCHESTRATOR_DATABASE_URL": server.new_database()} if server else {} for _ in range(2)]
        self.dump = folder / "dump"

    def back_up(self) -> None:
        """Database and documents, as docs/how-to/back-up-and-restore.md says."""
        old, _ = self.folders
        if self.server is None:
            shutil.copytree(old / "var", self.dump)
        else:
            self._run("pg_dump", "-Fc", "--file", str(self.dump), self.settings[0]["ORCHESTRATOR_DATABASE_URL"])
        shutil.copytree(old / "documents", self.folders[1] / "documents")

    def put_back(self) -> None:
        """The database of then, the documents of then, and the erasures of now."""
        old, new = self.folders
        if self.server is None:
            shutil.copytree(self.dump, new / "var")
        else:
            url = self.settings[1]["ORCHESTRATOR_DATABASE_URL"]
            self._run("pg_restore", "--no-owner", "--exit-on-error", "--dbname", url, str(self.dump))
        shutil.copy(old / "documents" / "erasures.log", new / "documents")

    def _run(self, program: str, *arguments: str) -> None:
        assert self.server
        subprocess.run([self.server._binaries / program, *arguments], check=True, capture_output=True)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.long)])
def elsewhere(request: pytest.FixtureRequest, tmp_path: Path) -> Elsewhere:
    server = request.getfixturevalue("postgres_server") if request.param == "postgresql" else None
    return Elsewhere(tmp_path, server)


def test_what_other_means_put_in_place_is_settled_like_an_archive(elsewhere: Elsewhere, tmp_path: Path) -> None:
    old = Bench(elsewhere.folders[0], **elsewhere.settings[0])
    erased, shared, begun = old.collected(), old.shared_on_paper(state=State.SHARING), old.collected()
    old.close()
    elsewhere.back_up()
    old.context = old.open().context
    retain.erase(old.context, erased.id, "test")
    old.close()

    elsewhere.put_back()
    new = Bench(elsewhere.folders[1], **elsewhere.settings[1])
    assert new.row(erased).erased_at is None
    lost = tmp_path / "new" / "documents" / new.context.store.documents(begun.id)[0].location
    command = tmp_path, "restore", "--in-place"
    assert "others use this database" in orchestrator(new.environ(), *command, expect=1).stderr
    advance.beat(new.context, "wrk_1")
    new.close()
    assert "a worker was there" in orchestrator(new.environ(), *command, expect=1).stderr
    with new.connected() as database:
        database.execute("delete from workers")
    assert "sealed with key" in orchestrator(new.environ() | STRANGE_KEYS, *command, expect=1).stderr
    lost.unlink()

    for turn in range(2):
        done = orchestrator(new.environ(), *command)
        assert "2 open onboardings are asked about at OSL Pay before anything is sent again" in done.stdout
        assert f"{1 - turn} erasures were repeated" in done.stdout, "again is as good as once"
        assert "1 documents are not where ORCHESTRATOR_DOCUMENTS_URL says" in done.stderr
    with closing(new.open()) as service:
        new.context = service.context
        row = new.row(erased)
        assert (row.state, row.erased_at is not None, row.email_hash) == (State.CANCELLED, True, "")
        assert not (tmp_path / "new" / "documents" / row.id).exists()
        assert (new.row(shared).share, new.row(shared).share_losses) == (ShareOutcome.LOST, 1)
        assert list(audit.faults(new.context)) == []


def test_in_place_is_for_a_database_that_was_put_there_and_for_no_archive(bench: Bench, tmp_path: Path) -> None:
    bench.close()
    said = orchestrator(bench.environ(), tmp_path, "restore", "--in-place", expect=1).stderr
    assert "this database is empty: put the backup in place first" in said
    archive = tmp_path / "archive.tar"
    archive.touch()
    for arguments in ((), (archive, "--in-place")):
        said = orchestrator(bench.environ(), tmp_path, "restore", *arguments, expect=2).stderr
        assert "name either FILE or --in-place" in said
