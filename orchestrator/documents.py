"""Sealed documents in a local folder. No plain byte of a document is ever on disk.

A file is synced and renamed before its row is written, and removed after its row is gone: a row always has its
file. The associated data of the seal names onboarding, kind and content, so that files cannot be swapped.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from orchestrator.errors import StoreUnavailable
from orchestrator.records import Document
from orchestrator.seal import Sealer

ERASURES = "erasures.log"
_HEAD_BYTES = 64


class DocumentFolder:
    """Documents below `root`, one folder an onboarding. `new_name()`: a name not used before."""

    def __init__(self, root: Path, sealer: Sealer, new_name: Callable[[], str]) -> None:
        self._root = root
        self._sealer = sealer
        self._new_name = new_name

    def put(self, onboarding_id: str, kind: str, sha256: str, content: bytes) -> str:
        """Seal and store `content`; its location, once it is durable. Raises StoreUnavailable."""
        sealed = self._sealer.seal(content, "documents", onboarding_id, kind, sha256)
        location = f"{onboarding_id}/{kind}-{self._new_name()}"
        path = self._root / location
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _write_durably(path, sealed)
        except OSError as error:
            raise StoreUnavailable(
                f"the document could not be stored ({error.strerror}): check the space and permissions of "
                "the folder that ORCHESTRATOR_DOCUMENTS_URL names"
            ) from error
        return location

    def get(self, document: Document) -> bytes:
        """The plain content. Raises StoreUnavailable, SealBroken."""
        try:
            sealed = (self._root / document.location).read_bytes()
        except OSError as error:
            raise StoreUnavailable(f"document {document.location} could not be read ({error.strerror})") from error
        return self._sealer.open(sealed, "documents", document.onboarding_id, document.kind, document.sha256)

    def is_current(self, document: Document) -> bool:
        """Whether the first key sealed the file. Raises StoreUnavailable, SealBroken."""
        try:
            with (self._root / document.location).open("rb") as file:
                return self._sealer.is_current(file.read(_HEAD_BYTES))
        except OSError as error:
            raise StoreUnavailable(f"document {document.location} could not be read ({error.strerror})") from error

    def remove(self, location: str) -> None:
        """Remove a file whose row is gone; nothing happens if it is not there."""
        path = self._root / location
        with suppress(OSError):
            path.unlink(missing_ok=True)
            path.parent.rmdir()

    def strays(self, known: Callable[[str], set[str]], older_than: float) -> Iterator[str]:
        """Locations of files that no row names, last written before `older_than` (unix seconds).

        `known(onboarding_id)`: the locations that the rows of an onboarding name.
        """
        for location in self.locations():
            onboarding_id = location.split("/")[0]
            if self.path(location).stat().st_mtime < older_than and location not in known(onboarding_id):
                yield location

    def path(self, location: str) -> Path:
        """Where the sealed file of a location lies."""
        return self._root / location

    def locations(self) -> Iterator[str]:
        """Every file there is, by folder."""
        for folder in sorted(path for path in self._root.glob("*") if path.is_dir()):
            yield from (f"{folder.name}/{path.name}" for path in sorted(folder.iterdir()))

    def put_sealed(self, location: str, sealed: bytes) -> None:
        """Store a file that was sealed before, durably."""
        path = self._root / location
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write_durably(path, sealed)

    def log_erasure(self, onboarding_id: str, at: str) -> None:
        """Note an erasure, durably, where neither database nor backup holds it: `erasures.log`, ids and times only."""
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._root / ERASURES, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(descriptor, f"{at} {onboarding_id}\n".encode())
            os.fsync(descriptor)
        except OSError as error:
            raise StoreUnavailable(f"the erasure could not be noted ({error.strerror})") from error
        finally:
            os.close(descriptor)

    def erasures(self) -> list[str]:
        """The ids in `erasures.log`."""
        path = self._root / ERASURES
        lines = path.read_text("utf-8").splitlines() if path.exists() else []
        return [line.split(" ")[1] for line in lines if " " in line]

    def check_writable(self) -> None:
        """Raises StoreUnavailable when a document could not be stored."""
        try:
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StoreUnavailable(f"the document folder cannot be made ({error.strerror})") from error
        if not os.access(self._root, os.W_OK | os.X_OK):
            raise StoreUnavailable("the document folder is not writable: check its permissions")


def _write_durably(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
        _sync_folder(path.parent)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _sync_folder(folder: Path) -> None:
    for place in (folder, folder.parent):
        descriptor = os.open(place, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
