"""What SQLite says when it cannot go on, in words that say what to do."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from orchestrator.errors import StoreUnavailable

_RESTORE = (
    "stop everything, keep the file and its -wal for whoever looks into it, and restore the newest backup into a new "
    "database (`orchestrator restore`)"
)
_FULL = "the disk is full: make room; nothing of what was under way was acknowledged"
_PERMISSIONS = (
    "it may not be written: check owner and permissions of the file and its folder, and how the disk is mounted"
)
_FILES = "more files than this process may open are open: raise its limit (`ulimit -n`, `LimitNOFILE`)"
_CANNOT_OPEN = (
    "it cannot be opened: check that ORCHESTRATOR_DATABASE_URL names a file in a folder of this user, and that this "
    "process may open more files (`ulimit -n`, `LimitNOFILE`)"
)
_ADVICE: Mapping[int, str] = {
    sqlite3.SQLITE_FULL: _FULL,
    sqlite3.SQLITE_READONLY: _PERMISSIONS,
    sqlite3.SQLITE_PERM: _PERMISSIONS,
    sqlite3.SQLITE_CANTOPEN: _CANNOT_OPEN,
    sqlite3.SQLITE_CORRUPT: f"the file is damaged: {_RESTORE}",
    sqlite3.SQLITE_NOTADB: f"the file is no database any more, or never was: {_RESTORE}",
    sqlite3.SQLITE_IOERR: "the disk could not be read or written: check its space and its health",
    sqlite3.SQLITE_BUSY: "another program holds it: end that, or have it let go",
}
_BY_ERRNO: Mapping[int, str] = {
    errno.ENOSPC: _FULL,
    errno.EFBIG: _FULL,
    errno.EROFS: _PERMISSIONS,
    errno.EACCES: _PERMISSIONS,
    errno.EPERM: _PERMISSIONS,
    errno.EMFILE: _FILES,
    errno.ENFILE: _FILES,
}
_UNKNOWN = "run `orchestrator migrate` if it was never migrated; else check the disk and the file"


@contextmanager
def translated() -> Iterator[None]:
    """Have StoreUnavailable raised for whatever makes the database unusable; faults of ours stay what they are."""
    try:
        yield
    except (sqlite3.DatabaseError, OSError) as error:
        if isinstance(error, (sqlite3.IntegrityError, sqlite3.ProgrammingError)):
            raise
        raise StoreUnavailable(f"the database could not be used ({error}): {_advice(error)}") from error


def _advice(error: Exception) -> str:
    if isinstance(error, OSError):
        return _BY_ERRNO.get(error.errno or 0, _CANNOT_OPEN)
    # The low byte is the primary code, the rest says more about it.
    return _ADVICE.get(getattr(error, "sqlite_errorcode", 0) & 0xFF, _UNKNOWN)
