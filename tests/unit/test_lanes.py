"""Which complete requests are answered when."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from orchestrator.turns import do_together
from orchestrator.web import lanes
from orchestrator.web.lanes import Done, LargeLane, TogetherLane


class Conn:
    """A connection whose socket notes whether its answer was given, and takes it or does not."""

    def __init__(self, name: str, *, takes: bool = True) -> None:
        self.name, self.takes, self.given = name, takes, False
        self.sock = self

    def give(self) -> bool:
        self.given = True
        return self.takes


class Lane:
    """A lane whose threads run when the test says so."""

    def __init__(self, answer: Callable[[Conn], bool] | None = None) -> None:
        self.threads: list[Callable[[], None]] = []
        self.finished: list[list[tuple[str, bool]]] = []
        self.writes: list[int] = []
        self.arriving: list[Conn] = []
        self.lane = TogetherLane(answer or self._answer, self._finish, self.threads.append)

    def _answer(self, conn: Conn) -> bool:
        do_together(conn, lambda conns: self.writes.append(len(conns)))
        return True

    def _finish(self, done: Done) -> None:
        self.finished.append([(conn.name, answered) for conn, answered in done])
        for conn in self.arriving:
            self.lane.add(conn)
        self.arriving = []

    def run(self) -> None:
        threads, self.threads[:] = self.threads[:], []
        for thread in threads:
            thread()


def test_all_that_are_there_are_answered_by_one_thread_with_one_write() -> None:
    lane = Lane()
    conns = [Conn(name) for name in "abc"]
    for conn in conns:
        lane.lane.add(conn)
    assert len(lane.threads) == 1
    lane.run()
    assert lane.finished == [[("a", True), ("b", True), ("c", True)]]
    assert lane.writes == [3]
    assert all(conn.given for conn in conns)


def test_those_that_come_meanwhile_are_next_and_later_ones_have_a_thread_again() -> None:
    lane = Lane()
    lane.arriving = [Conn("b"), Conn("c")]
    lane.lane.add(Conn("a"))
    lane.run()
    assert lane.finished == [[("a", True)], [("b", True), ("c", True)]]
    assert lane.threads == []
    lane.lane.add(Conn("d"))
    lane.run()
    assert lane.finished[2:] == [[("d", True)]]


def test_so_many_at_once_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "MOST_TOGETHER", 2)
    lane = Lane()
    for name in "abc":
        lane.lane.add(Conn(name))
    lane.run()
    assert lane.writes == [2, 1]


def test_whose_answer_was_not_taken_brings_no_other_request() -> None:
    lane = Lane(lambda conn: conn.name != "b")
    for conn in (Conn("a", takes=False), Conn("b"), Conn("c")):
        lane.lane.add(conn)
    lane.run()
    assert lane.finished == [[("a", False), ("b", False), ("c", True)]]


def test_few_large_ones_are_begun_and_the_next_in_order_when_one_is_over() -> None:
    begun: list[str] = []
    lane = LargeLane(100, 2, begun.append)
    for name in "abcd":
        lane.add(name, 1)
    assert begun == ["a", "b"]
    lane.over("b")
    assert begun == ["a", "b", "c"]
    lane.over("b")  # said again: no room for another
    lane.over("stranger")
    assert begun == ["a", "b", "c"]
    lane.over("a")
    lane.over("c")
    lane.over("d")
    lane.add("e", 1)
    assert begun == ["a", "b", "c", "d", "e"]


def test_beside_those_that_fill_the_room_no_other_is_begun() -> None:
    begun: list[str] = []
    lane = LargeLane(10, 8, begun.append)
    for name, size in (("huge", 1_000), ("a", 6), ("b", 6), ("c", 1)):
        lane.add(name, size)
    assert begun == ["huge"]
    lane.over("huge")
    assert begun == ["huge", "a", "b"]
    lane.over("a")
    assert begun == ["huge", "a", "b", "c"]
