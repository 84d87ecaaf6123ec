"""Writes of many threads, committed in groups by whichever of them comes first."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from orchestrator.errors import StoreUnavailable
from orchestrator.store import groups
from orchestrator.store.groups import Groups, Job

LONG = 10.0


class Database:
    """Stands for one: a list of what was written, by group."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.refusal: BaseException | None = None
        self.refusal_of_many: BaseException | None = None
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self.is_busy = threading.Event()
        self.waiting = Groups(self._commit)

    def job(self, number: int) -> Job:
        return Job(lambda written: written.append(number) or number)

    def write(self, number: int) -> Any:
        job = self.job(number)
        self.waiting.write([job])
        return job.result()

    def _commit(self, group: Sequence[Job]) -> None:
        self.is_busy.set()
        assert self.may_go_on.wait(LONG)
        if self.refusal is not None:
            raise self.refusal
        if self.refusal_of_many is not None and len(group) > 1:
            raise self.refusal_of_many
        written: list[int] = []
        for job in group:
            job.run(written)
        self.groups.append(written)


@pytest.fixture
def database() -> Database:
    return Database()


def until(condition: Callable[[], bool]) -> None:
    for _ in range(1_000):
        if condition():
            return
        threading.Event().wait(LONG / 1_000)
    raise AssertionError("it did not come to pass")


def waiting_for(database: Database) -> int:
    return len(database.waiting._waiting)


def test_one_alone_is_written_at_once(database: Database) -> None:
    assert database.write(1) == 1
    assert database.groups == [[1]]


def test_what_comes_while_a_group_is_written_makes_the_next_one(database: Database) -> None:
    database.may_go_on.clear()
    with ThreadPoolExecutor(5) as pool:
        first = pool.submit(database.write, 0)
        assert database.is_busy.wait(LONG)
        others = [pool.submit(database.write, number) for number in range(1, 5)]
        until(lambda: waiting_for(database) == 4)
        database.may_go_on.set()
        assert [first.result(LONG), *(other.result(LONG) for other in others)] == [0, 1, 2, 3, 4]
    assert database.groups[0] == [0]
    assert sorted(database.groups[1]) == [1, 2, 3, 4]
    assert len(database.groups) == 2


def test_several_of_one_thread_are_one_group(database: Database) -> None:
    jobs = [database.job(number) for number in range(3)]
    database.waiting.write(jobs)
    assert [job.result() for job in jobs] == [0, 1, 2]
    assert database.groups == [[0, 1, 2]]


def test_a_group_has_a_largest_size(database: Database) -> None:
    jobs = [database.job(number) for number in range(groups.SIZE + 3)]
    database.waiting.write(jobs)
    assert [len(group) for group in database.groups] == [groups.SIZE, 3]
    assert all(job.is_over for job in jobs)


def test_what_a_write_raises_is_raised_where_it_was_wanted(database: Database) -> None:
    def fail(_: Any) -> None:
        raise ValueError("it was refused")

    failing, other = Job(fail), database.job(1)
    database.waiting.write([failing, other])
    with pytest.raises(ValueError, match="it was refused"):
        failing.result()
    assert other.result() == 1


@pytest.mark.parametrize("refusal", [StoreUnavailable("the disk is full"), ValueError("a fault of ours")])
def test_of_a_group_that_could_not_be_written_everybody_is_told(database: Database, refusal: Exception) -> None:
    database.refusal = refusal
    jobs = [database.job(number) for number in range(3)]
    database.waiting.write(jobs)
    for job in jobs:
        with pytest.raises(type(refusal), match=str(refusal)):
            job.result()
    database.refusal = None
    assert database.write(4) == 4


def test_whom_an_interrupted_thread_had_taken_along_is_told_and_does_not_wait_for_ever(database: Database) -> None:
    database.may_go_on.clear()
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(database.write, 1)
        assert database.is_busy.wait(LONG)
        others = [pool.submit(database.write, number) for number in (2, 3)]
        until(lambda: waiting_for(database) == 2)
        database.refusal_of_many = KeyboardInterrupt()
        database.may_go_on.set()
        assert first.result(LONG) == 1
        ends = [type(other.exception(LONG)) for other in others]
    assert sorted(ends, key=str) == sorted([KeyboardInterrupt, StoreUnavailable], key=str)
    assert database.write(4) == 4


def test_many_threads_lose_nothing(database: Database) -> None:
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(database.write, range(500))) == list(range(500))
    assert sorted(number for group in database.groups for number in group) == list(range(500))
