"""Pieces of work that one thread does in turns."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextvars import ContextVar

from orchestrator.turns import do_together, in_turns

_WHO: ContextVar[str] = ContextVar("_WHO", default="nobody")


class Told:
    """What happened, in order."""

    def __init__(self) -> None:
        self.all: list[str] = []

    def together(self, what: Sequence[str]) -> None:
        self.all.append("+".join(what))

    def piece(self, name: str, times: int = 1) -> Callable[[], None]:
        def work() -> None:
            self.all.append(f"{name} begins")
            for time in range(times):
                do_together(f"{name}{time}", self.together)
            self.all.append(f"{name} ends")

        return work


def test_all_begin_then_what_they_need_is_done_once_then_all_end() -> None:
    told = Told()
    in_turns([told.piece("a"), told.piece("b"), told.piece("c")])
    assert told.all == ["a begins", "b begins", "c begins", "a0+b0+c0", "a ends", "b ends", "c ends"]


def test_who_needs_it_again_has_it_done_again_and_who_needs_nothing_ends_at_once() -> None:
    told = Told()
    in_turns([told.piece("a", 2), told.piece("b", 0), told.piece("c", 3)])
    assert told.all == [
        *("a begins", "b begins", "b ends", "c begins", "a0+c0"),
        *("a1+c1", "a ends"),
        *("c2", "c ends"),
    ]


def test_without_turns_it_is_done_at_once() -> None:
    told = Told()
    told.piece("a", 2)()
    in_turns([])
    told.piece("b")()
    assert told.all == ["a begins", "a0", "a1", "a ends", "b begins", "b0", "b ends"]


def test_another_thread_takes_no_part() -> None:
    told, others = Told(), Told()

    def beside() -> None:
        told.piece("a")()
        thread = threading.Thread(target=others.piece("z"))
        thread.start()
        thread.join()

    in_turns([beside, told.piece("b")])
    assert others.all == ["z begins", "z0", "z ends"]
    assert "a0+b0" in told.all


def test_each_has_a_context_of_its_own() -> None:
    seen: list[str] = []

    def piece(name: str) -> Callable[[], None]:
        def work() -> None:
            seen.append(_WHO.get())
            _WHO.set(name)
            do_together(name, lambda _: None)
            seen.append(_WHO.get())

        return work

    in_turns([piece("a"), piece("b")])
    assert seen == ["nobody", "nobody", "a", "b"]
    assert _WHO.get() == "nobody"
