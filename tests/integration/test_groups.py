"""Writes taken in groups: whom a group waits for, and for how long at most."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from orchestrator.errors import StoreUnavailable
from orchestrator.store import groups
from orchestrator.store.groups import Groups, Job

LONG = 10.0
"""Seconds of patience when a test shows that something else than its end lets a group go."""


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "PATIENCE", LONG)


@contextmanager
def running(work: Callable[[], None]) -> Iterator[threading.Thread]:
    thread = threading.Thread(target=work)
    thread.start()
    yield thread
    thread.join(LONG)
    assert not thread.is_alive()


@contextmanager
def somebody_expected(waiting: Groups, then: Callable[[], object] = lambda: None) -> Iterator[threading.Event]:
    """Somebody is expected to write, until the event is set; then does what is to be done, and leaves."""
    is_expected, go_on = threading.Event(), threading.Event()

    def answer() -> None:
        with waiting.expected():
            is_expected.set()
            go_on.wait(LONG)
            then()

    with running(answer):
        assert is_expected.wait(LONG)
        yield go_on


def add(waiting: Groups, number: int = 0) -> Job:
    """A write that puts its number into a list, which stands for the database."""
    return waiting.add(lambda written: written.append(number))


def write(waiting: Groups, group: list[Job]) -> list[int]:
    """What a writer does with a group."""
    written: list[int] = []
    assert all(job.run(written) for job in group)
    waiting.end(group)
    return written


def seconds(work: Callable[[], object]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


@pytest.mark.usefixtures("patient")
def test_what_nobody_else_is_expected_for_is_taken_at_once() -> None:
    waiting = Groups()
    add(waiting, 1)
    add(waiting, 2)
    group: list[Job] = []
    assert seconds(lambda: group.extend(waiting.take())) < LONG / 10
    assert write(waiting, group) == [1, 2]


@pytest.mark.usefixtures("patient")
def test_who_is_expected_is_waited_for() -> None:
    waiting = Groups()
    with somebody_expected(waiting, lambda: add(waiting, 2).result()) as may_write:
        add(waiting, 1)
        threading.Timer(0.05, may_write.set).start()
        assert write(waiting, waiting.take()) == [1, 2]


@pytest.mark.usefixtures("patient")
def test_who_leaves_without_a_write_lets_the_others_go_at_once() -> None:
    waiting = Groups()
    with somebody_expected(waiting) as may_leave:
        add(waiting, 1)
        threading.Timer(0.05, may_leave.set).start()
        group: list[Job] = []
        assert seconds(lambda: group.extend(waiting.take())) < LONG / 10
        assert write(waiting, group) == [1]
        add(waiting, 2)
        assert write(waiting, waiting.take()) == [2]


def test_who_does_not_come_is_waited_for_a_moment_only() -> None:
    waiting = Groups()
    with somebody_expected(waiting) as may_leave:
        add(waiting, 1)
        assert write(waiting, waiting.take()) == [1]
        may_leave.set()


@pytest.mark.usefixtures("patient")
def test_who_came_after_the_group_began_is_not_waited_for() -> None:
    waiting = Groups()
    group: list[Job] = []
    with somebody_expected(waiting, lambda: add(waiting, 2).result()) as first_may_write:
        add(waiting, 1)
        with running(lambda: group.extend(waiting.take())):
            time.sleep(0.05)  # the group has begun
            with somebody_expected(waiting) as second_may_leave:
                first_may_write.set()
                until = time.monotonic() + LONG / 10
                while not group and time.monotonic() < until:
                    time.sleep(0.01)
                assert write(waiting, group) == [1, 2]
                second_may_leave.set()


@pytest.mark.usefixtures("patient")
def test_who_wrote_is_expected_again_until_it_leaves() -> None:
    waiting = Groups()
    wrote_once = threading.Event()

    def answer() -> None:
        with waiting.expected():
            add(waiting, 1).result()
            wrote_once.set()
            time.sleep(0.05)
            add(waiting, 3).result()

    with running(answer):
        assert write(waiting, waiting.take()) == [1]
        wrote_once.wait(LONG)
        add(waiting, 2)
        assert write(waiting, waiting.take()) == [2, 3]


def test_a_group_has_a_largest_size() -> None:
    waiting = Groups()
    for number in range(groups.SIZE + 3):
        add(waiting, number)
    assert [len(waiting.take()), len(waiting.take())] == [groups.SIZE, 3]


def test_what_waits_is_taken_before_the_end() -> None:
    waiting = Groups()
    add(waiting, 1)
    waiting.stop()
    assert write(waiting, waiting.take()) == [1]
    assert waiting.take() == []


def test_of_a_group_that_could_not_be_written_everybody_is_told() -> None:
    waiting = Groups()
    jobs = [add(waiting, number) for number in range(3)]
    waiting.end(waiting.take(), StoreUnavailable("the disk is full"))
    for job in jobs:
        with pytest.raises(StoreUnavailable, match="the disk is full"):
            job.result()
