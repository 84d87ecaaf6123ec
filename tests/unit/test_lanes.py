"""Which complete requests are answered when."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from orchestrator.turns import do_together
from orchestrator.web import lanes
from orchestrator.web.lanes import Done, FewAtOnce, TogetherLane


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


def test_few_are_begun_and_the_next_in_order_when_one_is_over() -> None:
    begun: list[str] = []
    few = FewAtOnce(2, begun.append)
    for name in "abcd":
        few.add(name)
    assert begun == ["a", "b"]
    few.over("b")
    assert begun == ["a", "b", "c"]
    few.over("b")  # said again: no room for another
    few.over("stranger")
    assert begun == ["a", "b", "c"]
    few.over("a")
    few.over("c")
    few.over("d")
    few.add("e")
    assert begun == ["a", "b", "c", "d", "e"]
