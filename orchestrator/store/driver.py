"""What a database driver does for the store, and the named statements that it runs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any, Protocol, TypeVar

from orchestrator.errors import ConfigurationError, OrchestratorError, SettingFault, StoreUnavailable

T = TypeVar("T")
Row = Mapping[str, Any]

_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


class Duplicate(OrchestratorError):
    """A unique index refused a row: somebody else was first."""


class Session(Protocol):
    """Named statements within one transaction."""

    def rows(self, name: str, /, **parameters: Any) -> list[Row]:
        """The rows that the statement called `name` gives."""

    def now(self, local: int) -> int:
        """The database's own clock (unix ms), where it has one that all machines share; else `local`."""

    def run(self, name: str, /, **parameters: Any) -> int:
        """How many rows the statement called `name` changed. Raises Duplicate."""

    def count(self, name: str, difference: int, /, **key: Any) -> None:
        """Have the statement called `name` add `difference` to what `key` names, at the end of the transaction."""


class Counts:
    """What a transaction counts. The rows that hold counts are everybody's: each is written once, as late as can be,
    and always in the same order, so that no two writers wait for each other."""

    def __init__(self) -> None:
        self._sums: Counter[tuple[str, tuple[tuple[str, Any], ...]]] = Counter()

    def add(self, name: str, difference: int, key: Mapping[str, Any]) -> None:
        """See Session.count."""
        self._sums[name, tuple(key.items())] += difference

    def write(self, session: Session) -> None:
        """Write all of it."""
        for (name, key), difference in sorted(self._sums.items()):
            if difference:
                session.run(name, **dict(key), difference=difference)
        self.forget()

    def kept(self) -> Counter[tuple[str, tuple[tuple[str, Any], ...]]]:
        """What was counted so far."""
        return self._sums.copy()

    def forget(self, kept: Counter[tuple[str, tuple[tuple[str, Any], ...]]] | None = None) -> None:
        """Count nothing, or only what was counted before."""
        self._sums = kept or Counter()


@dataclass(frozen=True)
class Contents:
    """A table's columns, and its rows in no particular order."""

    table: str
    columns: Sequence[str]
    rows: Iterable[Sequence[Any]]


class Whole(Protocol):
    """A database in which nobody else is, taken as a whole."""

    def contents(self, table: str) -> Contents:
        """A table, read as it is iterated: in bounded memory, however long it is."""

    def count(self, table: str) -> int:
        """How many rows a table has."""

    def replace(self, tables: Sequence[str], contents: Iterable[Contents], place: str, now: int) -> None:
        """Empty `tables` and fill them, in this order, in one transaction that also notes that what is at `place` is
        being copied here."""

    def moves(self) -> Mapping[str, str]:
        """Direction (`away`, `here`) → place."""

    def move_away(self, place: str, now: int) -> None:
        """Close this database: all of it is at `place` now (unix ms)."""

    def arrive(self) -> None:
        """What was copied here is whole: the database may be opened."""


class Driver(Protocol):
    """One database."""

    commits_together: bool
    """Whether writes of one thread's turns are committed together (`turns.do_together`)."""

    def open(self) -> None:
        """Begin to use the database, beside others, until `close`; whatever else is called first does it too.

        Raises ConfigurationError when its contents have moved away, StoreUnavailable.
        """

    def alone(self) -> AbstractContextManager[Whole]:
        """Nobody else in the database meanwhile, which may be closed. Raises StoreUnavailable when somebody uses it."""

    def read(self, work: Callable[[Session], T]) -> T:
        """`work` on one consistent snapshot. Raises StoreUnavailable."""

    def rows(self, name: str, /, **parameters: Any) -> list[Row]:
        """The rows that the statement called `name` gives by itself. Raises StoreUnavailable."""

    def write(self, work: Callable[[Session], T]) -> T:
        """`work` in one write transaction, durable when this returns; all undone when it raises.

        `work` may run in another thread and may be run again: it must do nothing but talk to the session.
        Raises StoreUnavailable (nothing was stored), Duplicate, or what `work` raises.
        """

    def migrate(self) -> list[str]:
        """Bring the schema up to date; the names of the migrations that were applied."""

    def pending_migrations(self) -> list[str]:
        """The names of the migrations that have not been applied."""

    def backup(self, target: Path) -> None:
        """A consistent copy of the whole database in the new file `target`."""

    def restore(self, source: Path, check: Callable[[], None]) -> None:
        """Put the copy `source` in place of this database, unless `check` raises; nobody writes in between."""

    def close(self) -> None:
        """Give back connections and threads."""


def check_open(moves: Mapping[str, str]) -> None:
    """Raises ConfigurationError when a database's contents are somewhere else, or not all here yet."""
    if "away" in moves:
        place = moves["away"]
        raise ConfigurationError(
            [
                SettingFault(
                    "ORCHESTRATOR_DATABASE_URL", f"that database is closed: its contents moved to {place}", place
                )
            ]
        )
    if "here" in moves:
        raise StoreUnavailable(
            f"what is at {moves['here']} was being copied here and is not whole: stop everything and run "
            "`orchestrator copy` there again"
        )


BUSY = "others use this database: stop web, workers and all other commands first"
BEING_COPIED = "the database is being copied to another place: wait until that is done"


def first(rows: list[Row]) -> Row | None:
    """The only or first row, if there is one."""
    return rows[0] if rows else None


def tally(session: Session, differences: Mapping[tuple[str, str], int]) -> None:
    """Count so many more, or fewer, of each (what, word)."""
    for (what, word), difference in differences.items():
        session.count("tally", difference, what=what, word=word)


def count_flow(session: Session, counted: Mapping[tuple[str, int, str], int]) -> None:
    """Count so many more by hour and day."""
    for (span, begins_at, what), difference in counted.items():
        session.count("count_flow", difference, span=span, begins_at=begins_at, what=what)


@cache
def statements(**marks: str) -> Mapping[str, str]:
    """queries.sql by statement name, its marks filled for one database."""
    text = Template(files("orchestrator.store").joinpath("queries.sql").read_text("utf-8")).substitute(marks)
    parts = _NAME.split(text)[1:]
    return {name: body.strip().rstrip(";") for name, body in zip(parts[::2], parts[1::2], strict=True)}


def migrations(**marks: str) -> list[tuple[str, str]]:
    """The numbered migrations in order: name and SQL, marks filled for one database."""
    folder = files("orchestrator.store").joinpath("migrations")
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    return [
        (name.removesuffix(".sql"), Template(folder.joinpath(name).read_text("utf-8")).substitute(marks))
        for name in names
    ]
