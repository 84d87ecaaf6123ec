"""One archive of database and sealed documents, consistent while everything runs; never the keys.

The archive is a tar file of `database.sqlite`, `documents/…` and, last, `manifest.json`: an archive without it is not
whole. The manifest holds a hash over each, sealed: who has not the keys can change nothing. A document's file is
written once and never changed, so the files are archived first; what the copy of the database names beyond them is new,
and is added at once.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import re
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

from orchestrator.documents import Shelf, sync_folder
from orchestrator.errors import InvalidInput, StoreUnavailable
from orchestrator.seal import Sealer
from orchestrator.store import Store
from orchestrator.store.driver import Driver, check_open

_FORMAT = 2
_DATABASE, _MANIFEST, _DOCUMENTS = "database.sqlite", "manifest.json", "documents/"
_PLACE = ("archives", "manifest", "hashes")
_LOCATION = re.compile(r"onb_[A-Za-z0-9]+/[A-Za-z]+-[0-9a-f]+")
_TRIES = 20
OpenCopy = Callable[[Path], Driver]
Settle = Callable[[Driver], None]


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...

    def hexdigest(self) -> str: ...


def write(driver: Driver, shelf: Shelf, sealer: Sealer, open_copy: OpenCopy, file: Path) -> int:
    """Write the archive `file`; how many documents it holds. `open_copy`: a driver over a copied database.

    Raises InvalidInput when the file exists, StoreUnavailable.
    """
    if file.exists():
        raise InvalidInput(f"{file} exists already: name a new file")
    try:
        # The folder is for its owner alone; one that is left was left by a backup that was killed.
        with tempfile.TemporaryDirectory(dir=file.parent, prefix=".backup-") as folder:
            partial = Path(folder) / "archive"
            with partial.open("xb") as raw:
                partial.chmod(0o600)
                with tarfile.open(fileobj=raw, mode="w") as archive:
                    count = _fill(archive, driver, shelf, sealer, open_copy, Path(folder))
                raw.flush()
                os.fsync(raw.fileno())
            partial.rename(file)
        sync_folder(file.parent)
    except OSError as error:
        raise StoreUnavailable(f"the archive could not be written ({error.strerror})") from error
    return count


def read(
    driver: Driver, shelf: Shelf, sealer: Sealer, open_copy: OpenCopy, check: Settle, settle: Settle, file: Path
) -> int:
    """Put the archive `file` in place of an empty installation; how many documents it held.

    `check` raises when the copied database is of no use here; then nothing is written. `settle` makes it safe to work
    on *before* it is put in place: whenever this is killed, the database is still empty, and the same archive can be
    restored again. Raises InvalidInput when the archive is not what was backed up or the installation not empty,
    SealBroken when the key that it was sealed with is not there, StoreUnavailable.
    """
    _check_empty(driver)
    count = 0
    try:
        with (
            tempfile.TemporaryDirectory(prefix="orchestrator-restore-") as folder,
            tarfile.open(file, "r:") as archive,
        ):
            copy = Path(folder) / _DATABASE
            held = _check(archive, sealer, copy)
            # Files that a restore left which was killed are those of the archive, maybe half written.
            if any(location.replace("/.", "/") not in held for location, _ in shelf.locations()):
                raise InvalidInput("the document folder is not empty: restore into a new one")
            with closing(open_copy(copy)) as copied:
                copied.migrate()
                check(copied)
                for name, content in _members(archive):
                    if name not in (_DATABASE, _MANIFEST):
                        shelf.write(_location(name), content)
                        count += 1
                settle(copied)
            # Once more: what somebody who was started too early has acknowledged meanwhile would be lost.
            driver.restore(copy, lambda: _check_empty(driver))
    except (EOFError, tarfile.TarError) as error:
        raise InvalidInput("this is no whole archive that `orchestrator backup` wrote") from error
    except OSError as error:
        raise StoreUnavailable(f"the archive could not be restored ({error.strerror})") from error
    return count


def _check_empty(driver: Driver) -> None:
    if not Store(driver).is_empty():
        raise InvalidInput("this installation is not empty: restore into a new database and document folder")


@contextmanager
def in_place(driver: Driver) -> Iterator[None]:
    """Nobody else in a database that other means put in place, and that is brought up to date; then it is closed.

    Raises ConfigurationError when its contents have moved, InvalidInput when it is empty, StoreUnavailable when others
    use it.
    """
    with driver.alone() as whole:
        check_open(whole.moves())
        driver.migrate()
        if Store(driver).is_empty():
            raise InvalidInput("this database is empty: put the backup in place first, into a new database")
        yield


def missing(driver: Driver, shelf: Shelf) -> set[str]:
    """Where documents should lie that are not there. Raises StoreUnavailable."""
    return set(Store(driver).document_locations()) - {location for location, _ in shelf.locations()}


def _fill(
    archive: tarfile.TarFile, driver: Driver, shelf: Shelf, sealer: Sealer, open_copy: OpenCopy, folder: Path
) -> int:
    archived: set[str] = set()
    documents = hashlib.sha256()
    for location, _ in shelf.locations():
        _add(archive, shelf, location, archived, documents)
    for attempt in range(_TRIES):
        copy = folder / f"{attempt}.sqlite"
        driver.backup(copy)
        with closing(open_copy(copy)) as copied:
            named = set(Store(copied).document_locations())
        for location in sorted(named - archived):
            _add(archive, shelf, location, archived, documents)
        if named <= archived:
            content = copy.read_bytes()
            _add_bytes(archive, _DATABASE, content)
            sealed = sealer.seal(_hashes(hashlib.sha256(content), documents), *_PLACE)
            manifest = {"format": _FORMAT, "sealed": base64.b64encode(sealed).decode()}
            _add_bytes(archive, _MANIFEST, json.dumps(manifest).encode())
            return len(archived)
    raise StoreUnavailable("documents change faster than they can be archived: try again when there is less to do")


def _add(archive: tarfile.TarFile, shelf: Shelf, location: str, archived: set[str], documents: _Hash) -> None:
    """Archive a file, unless it went in the meantime. `documents`: the hash over all that are archived."""
    content = shelf.read(location)
    if content is not None and _LOCATION.fullmatch(location):
        name = f"{_DOCUMENTS}{location}"
        _add_bytes(archive, name, content)
        documents.update(_line(name, content))
        archived.add(location)


def _add_bytes(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), 0o600
    archive.addfile(member, BytesIO(content))


def _check(archive: tarfile.TarFile, sealer: Sealer, copy: Path) -> set[str]:
    """Where the archived documents lay; the database goes to the new file `copy`.

    Nothing else is written, and the database is not opened, before it is known that all is what was backed up. Raises
    InvalidInput when it is not, SealBroken.
    """
    held: set[str] = set()
    manifest: dict[str, Any] = {}
    database, documents = hashlib.sha256(), hashlib.sha256()
    for name, content in _members(archive):
        if name == _DATABASE:
            database = hashlib.sha256(content)
            copy.write_bytes(content)
        elif name == _MANIFEST:
            manifest = _parsed(content)
        else:
            held.add(_location(name))
            documents.update(_line(name, content))
    if not manifest:
        raise InvalidInput("this is no whole archive that `orchestrator backup` wrote")
    if manifest.get("format") != _FORMAT:
        raise InvalidInput("this archive is of another version: restore it with the version that wrote it")
    if sealer.open(_sealed(manifest), *_PLACE) != _hashes(database, documents):
        raise InvalidInput("the archive is damaged or was changed: its content is not what was backed up")
    return held


def _members(archive: tarfile.TarFile) -> Iterator[tuple[str, bytes]]:
    """Names and contents. Raises InvalidInput for what `write` does not write, such as more than the archive holds."""
    whole = Path(str(archive.name)).stat().st_size
    for member in archive:
        data = archive.extractfile(member) if member.isreg() and not member.issparse() else None
        if data is None:
            raise InvalidInput("the archive holds something that is no file: it was changed")
        if member.offset_data + member.size > whole:
            raise InvalidInput("this is no whole archive that `orchestrator backup` wrote")
        yield member.name, data.read()


def _parsed(manifest: bytes) -> dict[str, Any]:
    try:
        value = json.loads(manifest)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _sealed(manifest: dict[str, Any]) -> bytes:
    try:
        return base64.b64decode(manifest.get("sealed", ""), validate=True)
    except (TypeError, ValueError, binascii.Error):
        raise InvalidInput("this is no whole archive that `orchestrator backup` wrote") from None


def _hashes(database: _Hash, documents: _Hash) -> bytes:
    return f"{database.hexdigest()} {documents.hexdigest()}".encode()


def _line(name: str, content: bytes) -> bytes:
    return f"{name} {hashlib.sha256(content).hexdigest()}\n".encode()


def _location(name: str) -> str:
    location = name.removeprefix(_DOCUMENTS)
    if not _LOCATION.fullmatch(location):
        raise InvalidInput("the archive holds a file that is no document: it was changed")
    return location
