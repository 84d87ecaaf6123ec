"""What is on disk before anybody relies on it: a power cut takes no document, erasure or archive that is named."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from orchestrator import backup, bootstrap
from orchestrator.onboarding import collect, look, retain
from tests.service import Bench, pdf


class Disk:
    """What was done about files and rows, in order. Of a file: how much of it there was, of its whole length."""

    def __init__(self, root: Path, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done: list[tuple[str, ...]] = []
        self._root = root
        self._patch = monkeypatch
        self._real = {name: getattr(os, name) for name in ("fsync", "rename")}
        self._synced: dict[Path, int] = {}
        monkeypatch.setattr(os, "fsync", self._fsync)
        monkeypatch.setattr(os, "rename", self._rename)
        commit = bench.context.store.commit

        def committed(change: Any) -> bool:
            self.done.append(("row",))
            return commit(change)

        monkeypatch.setattr(bench.context.store, "commit", committed)

    def length(self, path: Path) -> int:
        """How long the file was when it was synced."""
        return self._synced[path]

    def _name(self, path: Path) -> str:
        return str(path.relative_to(self._root))

    def _fsync(self, descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        self._synced[path] = path.stat().st_size
        self.done.append(("sync", self._name(path)))
        self._real["fsync"](descriptor)

    def _rename(self, old: Path, new: Path) -> None:
        self.done.append(("rename", self._name(old), self._name(new)))
        self._real["rename"](old, new)


def test_a_document_its_name_and_both_its_folders_are_on_disk_before_its_row(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = bench.sign_up()
    root = bench.folder / "documents"
    disk = Disk(root, bench, monkeypatch)
    collect.put_document(bench.context, look.find(bench.context, row.id), "selfie", pdf(), "test")

    [document] = bench.context.store.documents(row.id)
    unfinished = document.location.replace("/", "/.")
    assert disk.done == [
        ("sync", unfinished),
        ("rename", unfinished, document.location),
        ("sync", row.id),
        ("sync", "."),
        ("row",),
    ]
    assert disk.length(root / unfinished) == (root / document.location).stat().st_size, "all of it"


def test_an_erasure_is_noted_on_disk_before_the_row_is_erased(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    row = bench.collected()
    root = bench.folder / "documents"
    disk = Disk(root, bench, monkeypatch)
    retain.erase_here(bench.context, row.id, "test")

    assert disk.done[0] == ("sync", "erasures.log")
    assert disk.done[-1] == ("row",)
    assert disk.length(root / "erasures.log") == (root / "erasures.log").stat().st_size, "all of it"
    assert bench.context.documents.shelf.erasures() == [row.id]


def test_a_note_that_a_full_disk_cut_off_takes_no_other_erasure_with_it(bench: Bench) -> None:
    rows = [bench.collected() for _ in range(2)]
    retain.erase_here(bench.context, rows[0].id, "test")
    with (bench.folder / "documents" / "erasures.log").open("a") as log:
        log.write("2026-11-27T10:00:00+00:00 onb_")
    retain.erase_here(bench.context, rows[1].id, "test")
    noted = bench.context.documents.shelf.erasures()
    assert [onboarding_id for onboarding_id in noted if onboarding_id != "onb_"] == [row.id for row in rows]


def test_an_archive_and_its_name_are_on_disk_when_a_backup_is_done(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.collected()
    disk = Disk(bench.folder, bench, monkeypatch)
    archive = bench.folder / "backup.tar"
    backup.write(bench.service.driver, bench.context.documents.shelf, bench.context.sealer, bootstrap.database, archive)

    [sync_archive, rename, sync_folder] = disk.done
    unfinished = rename[1]
    assert sync_archive == ("sync", unfinished)
    assert rename == ("rename", unfinished, "backup.tar")
    assert sync_folder == ("sync", ".")
    assert disk.length(bench.folder / unfinished) == archive.stat().st_size, "all of it"
