"""A whole database copied into an empty one, on whatever driver; one of the two is closed at every moment.

The copy is written in one transaction that also notes, over there, that it is not whole yet. Only when it has been
verified is the old database closed, and only then is the new one opened. So whoever is stopped in the middle, at any
point, runs the same again: an unfinished copy is written anew, a finished one is only opened.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from orchestrator.errors import InvalidInput, StoreUnavailable
from orchestrator.store.driver import Contents, Driver, Whole, check_open

TABLES = (
    "onboardings",
    "state_counts",
    "tallies",
    "flow",
    "signups",
    "links",
    "documents",
    "transitions",
    "callback_tokens",
    "callbacks",
    "deliveries",
    "access_tokens",
    "sessions",
    "login_failures",
    "slots",
    "providers",
    "chores",
)
"""In the order in which they may be filled. Who works at the moment (`workers`) is not copied: nobody does."""
_OURS = ("onboardings", "access_tokens", "signups")
"""A database with any row in these is somebody's."""


@dataclass(frozen=True)
class Watch:
    """What the caller adds. `begin(rows)`: so many rows are going to be copied; `passed()`: one of them was read.

    `may_begin()` raises when somebody is still at work; `problems()`: what is wrong with the chains of the copy.
    """

    may_begin: Callable[[], None]
    problems: Callable[[], Iterable[str]]
    begin: Callable[[int], None]
    passed: Callable[[], None]


def copy(source: Driver, target: Driver, places: tuple[str, str], now: int, watch: Watch) -> int:
    """Copy all of `source` into `target`, close the one and open the other; how many rows that were.

    `places`: how the two are called, without passwords. `now`: unix ms. Both drivers are closed afterwards. Raises
    ConfigurationError when the source has moved elsewhere before, InvalidInput when the target is not empty,
    StoreUnavailable when one of them is in use or the copy is not what was copied; then the source stays in use.
    """
    here, there = places
    with source.alone() as old, target.alone() as new:
        if old.moves().get("away") == there and new.moves().get("here") == here:
            new.arrive()
            return 0
        check_open(old.moves())
        if source.pending_migrations():
            raise StoreUnavailable("this database is not up to date: run `orchestrator migrate` first")
        watch.may_begin()
        target.migrate()
        if "here" not in new.moves() and any(new.count(table) for table in _OURS):
            raise InvalidInput("the other database is not empty: name a new one")
        watch.begin(sum(old.count(table) for table in TABLES))
        sums = _Sums(watch.passed)
        new.replace(TABLES, sums.of(old), here, now)
        _check_same(sums, new)
        if problems := list(watch.problems()):
            raise StoreUnavailable(f"the copy's chains are not whole, so the old database stays in use: {problems[0]}")
        old.move_away(there, now)
        new.arrive()
        return sum(count for count, _ in sums.found.values())


class _Sums:
    """Of each table how many rows it has, and a sum over their hashes, which no order changes."""

    def __init__(self, passed: Callable[[], None] = lambda: None) -> None:
        self.found: dict[str, tuple[int, int]] = {}
        self._passed = passed

    def of(self, whole: Whole) -> Iterator[Contents]:
        """The tables' contents, summed up as they are read."""
        for table in TABLES:
            contents = whole.contents(table)
            order = sorted(range(len(contents.columns)), key=contents.columns.__getitem__)
            yield replace(contents, rows=self._summed(table, contents.rows, order))

    def _summed(self, table: str, rows: Iterable[Sequence[Any]], order: Sequence[int]) -> Iterator[Sequence[Any]]:
        count = total = 0
        for row in rows:
            text = repr([row[index] for index in order])
            total = (total + int.from_bytes(hashlib.sha256(text.encode()).digest())) % (1 << 256)
            count += 1
            self._passed()
            yield row
        self.found[table] = (count, total)


def _check_same(sums: _Sums, new: Whole) -> None:
    copied = _Sums()
    for contents in copied.of(new):
        for _ in contents.rows:
            """Read to the end, it is summed up."""
    wrong = [table for table in TABLES if copied.found[table] != sums.found[table]]
    if wrong:
        raise StoreUnavailable(f"the copy is not what was copied, so the old database stays in use: {', '.join(wrong)}")
