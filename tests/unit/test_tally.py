"""Counting what is turned away: exactly, and without a write for each."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping

from orchestrator.errors import StoreUnavailable
from orchestrator.onboarding.tally import Tally


class Written:
    """What was written, and in how many writes; refuses the first `failing` of them."""

    def __init__(self, failing: int = 0) -> None:
        self.sums: Counter[tuple[str, str]] = Counter()
        self.writes = 0
        self.failing = failing
        self.called = threading.Event()

    def __call__(self, counted: Mapping[tuple[str, str], int]) -> None:
        self.writes += 1
        try:
            if self.writes <= self.failing:
                raise StoreUnavailable("the disk is full")
            self.sums.update(counted)
        finally:
            self.called.set()


def test_a_flood_is_written_as_one_sum() -> None:
    written = Written()
    tally = Tally(written, every=3_600)

    def flood(word: str) -> None:
        for _ in range(5_000):
            tally.count("verdicts", word)

    threads = [threading.Thread(target=flood, args=(word,)) for word in ("unsigned", "malformed") * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert written.writes == 0
    tally.flush()
    tally.flush()
    assert written.sums == {("verdicts", "unsigned"): 20_000, ("verdicts", "malformed"): 20_000}
    assert written.writes == 1


def test_the_first_one_counted_sees_to_the_writing() -> None:
    written = Written()
    tally = Tally(written, every=0.01)
    for number in range(1, 4):
        written.called.clear()
        tally.count("verdicts", "unsigned")
        assert written.called.wait(20)
        assert written.sums == {("verdicts", "unsigned"): number}


def test_what_cannot_be_written_is_kept_for_the_next_time() -> None:
    written = Written(failing=2)
    tally = Tally(written, every=3_600)
    for _ in range(3):
        tally.count("verdicts", "unsigned")
        tally.flush()
    assert (written.writes, written.sums) == (3, {("verdicts", "unsigned"): 3})


def test_with_nothing_to_count_nothing_is_written() -> None:
    written = Written()
    Tally(written).flush()
    assert written.writes == 0
