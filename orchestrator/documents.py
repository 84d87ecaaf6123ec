"""Sealed documents, in a local folder or (bucket.py) in S3. No plain byte of a document ever leaves the memory.

A file is durable before its row is written, and removed after its row is gone: a row always has its file. Files are
never changed. The associated data of the seal names onboarding, kind and content, so that files cannot be swapped.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Protocol

from orchestrator.errors import DocumentGone, StoreUnavailable
from orchestrator.records import Document
from orchestrator.seal import Sealer

ERASURES = "erasures.log"
_LEAST_ROOM = 20_000_000
"""Bytes: a page's form with all its files has less."""


class Shelf(Protocol):
    """Where sealed files lie, by location such as `onb_1/selfie-0a1b`. Every method raises StoreUnavailable."""

    def write(self, location: str, sealed: bytes) -> None:
        """Store a new file; it is durable when this returns."""

    def read(self, location: str) -> bytes | None:
        """A file's bytes; None: there is no such file."""

    def remove(self, location: str) -> None:
        """Remove a file; nothing happens if it is not there."""

    def locations(self) -> Iterator[tuple[str, float]]:
        """Every file and when it was written (unix seconds)."""

    def note_erasure(self, onboarding_id: str, at: str) -> None:
        """Note an erasure, durably, where neither database nor backup holds it: ids and times only."""

    def erasures(self) -> list[str]:
        """The ids noted."""

    def check_writable(self) -> None:
        """Raises StoreUnavailable when a file could not be stored."""


class Documents:
    """Seals and opens what lies on a shelf. `new_name()`: a name not used before."""

    def __init__(self, shelf: Shelf, sealer: Sealer, new_name: Callable[[], str]) -> None:
        self.shelf = shelf
        self._sealer = sealer
        self._new_name = new_name

    def put(self, onboarding_id: str, kind: str, sha256: str, content: bytes) -> str:
        """Seal and store `content`; its location, once it is durable. Raises StoreUnavailable."""
        location = f"{onboarding_id}/{kind}-{self._new_name()}"
        self.shelf.write(location, self._sealer.seal(content, "documents", onboarding_id, kind, sha256))
        return location

    def get(self, document: Document) -> bytes:
        """The plain content. Raises StoreUnavailable, SealBroken."""
        sealed = self._sealed(document)
        return self._sealer.open(sealed, "documents", document.onboarding_id, document.kind, document.sha256)

    def is_current(self, document: Document) -> bool:
        """Whether the first key sealed the file. Raises StoreUnavailable, SealBroken."""
        return self._sealer.is_current(self._sealed(document))

    def remove(self, location: str) -> None:
        """Remove a file whose row is gone."""
        self.shelf.remove(location)

    def of(self, onboarding_id: str) -> list[str]:
        """Locations of all files of an onboarding, with or without a row. Raises StoreUnavailable."""
        return [location for location, _ in self.shelf.locations() if location.startswith(f"{onboarding_id}/")]

    def strays(self, known: Callable[[str], set[str]], older_than: float) -> Iterator[str]:
        """Locations of files that no row names, written before `older_than` (unix seconds).

        `known(onboarding_id)`: the locations that the rows of an onboarding name.
        """
        for location, written_at in self.shelf.locations():
            if written_at < older_than and location not in known(location.split("/")[0]):
                yield location

    def _sealed(self, document: Document) -> bytes:
        sealed = self.shelf.read(document.location)
        if sealed is None:
            raise DocumentGone(f"the file {document.location} is gone: restore it from a backup")
        return sealed


class Folder:
    """A shelf in a local folder, one folder below it for each onboarding."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def write(self, location: str, sealed: bytes) -> None:
        """See Shelf.write."""
        path = self._root / location
        try:
            _write_in_folder(path, sealed)
        except OSError as error:
            raise StoreUnavailable(
                f"the document could not be stored ({error.strerror}): check the space and permissions of "
                "the folder that ORCHESTRATOR_DOCUMENTS_URL names"
            ) from error

    def read(self, location: str) -> bytes | None:
        """See Shelf.read."""
        try:
            return (self._root / location).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreUnavailable(f"document {location} could not be read ({error.strerror})") from error

    def remove(self, location: str) -> None:
        """See Shelf.remove."""
        path = self._root / location
        with suppress(OSError):
            path.unlink(missing_ok=True)
            path.parent.rmdir()

    def locations(self) -> Iterator[tuple[str, float]]:
        """See Shelf.locations."""
        for folder in sorted(path for path in self._root.glob("*") if path.is_dir()):
            files: list[Path] = []
            # A folder goes with its last file, and a file with its row: also while this looks.
            with suppress(FileNotFoundError):
                files = sorted(folder.iterdir())
            for path in files:
                with suppress(FileNotFoundError):
                    yield f"{folder.name}/{path.name}", path.stat().st_mtime

    def note_erasure(self, onboarding_id: str, at: str) -> None:
        """See Shelf.note_erasure: a line of `erasures.log` at the folder's root."""
        try:
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self._root / ERASURES, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            with os.fdopen(descriptor, "ab+") as log:
                # The end of a line that a full disk cut off must not become the beginning of this one.
                begins = "\n" if _is_cut_off(log) else ""
                log.write(f"{begins}{at} {onboarding_id}\n".encode())
                log.flush()
                os.fsync(log.fileno())
            sync_folder(self._root)
        except OSError as error:
            raise StoreUnavailable(f"the erasure could not be noted ({error.strerror})") from error

    def erasures(self) -> list[str]:
        """See Shelf.erasures."""
        path = self._root / ERASURES
        lines = path.read_text("utf-8").splitlines() if path.exists() else []
        return [line.split(" ")[1] for line in lines if " " in line]

    def check_writable(self) -> None:
        """See Shelf.check_writable."""
        try:
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StoreUnavailable(f"the document folder cannot be made ({error.strerror})") from error
        # The database may go on for hours in the room that its own files have already.
        if shutil.disk_usage(self._root).free < _LEAST_ROOM:
            raise StoreUnavailable("the disk of the document folder is full, and users can send nothing: make room")
        if not os.access(self._root, os.W_OK | os.X_OK):
            raise StoreUnavailable("the document folder is not writable: check its permissions")


def _is_cut_off(log: BinaryIO) -> bool:
    """Whether the last line of a file has no end."""
    if log.seek(0, os.SEEK_END) == 0:
        return False
    log.seek(-1, os.SEEK_END)
    return log.read(1) != b"\n"


def _write_in_folder(path: Path, data: bytes) -> None:
    """Write a file and its folder, which may be removed at any moment while it is empty."""
    for _ in range(10):
        with suppress(FileNotFoundError):
            _write_durably(path, data)
            return
        # One after the other: `parents` would make the upper ones for everybody.
        path.parent.parent.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.parent.parent.mkdir(mode=0o700, exist_ok=True)
        path.parent.mkdir(mode=0o700, exist_ok=True)
    _write_durably(path, data)


def _write_durably(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}")
    # One that is there was left by a process that was killed: names are never used twice.
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
        for folder in (path.parent, path.parent.parent):
            sync_folder(folder)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def sync_folder(folder: Path) -> None:
    """Have it on disk which files are in a folder."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
