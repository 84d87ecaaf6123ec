"""What all benchmarks share: interleaved rounds, medians, goals, and how they are printed and kept."""

from __future__ import annotations

import json
import operator
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import click

MOST_STEAL = 0.08
"""Of the processor's time, what other guests of the machine may take in a round that counts."""
_REPEATS = 2
_RESULTS = Path(__file__).parent
_COMPARE = {"at most": operator.le, "at least": operator.ge, "exactly": operator.eq}

T = TypeVar("T")


@dataclass(frozen=True)
class Goal:
    """What was measured, and what it has to be. `relation`: `at most`, `at least` or `exactly`."""

    name: str
    measured: float
    relation: str
    bound: float
    unit: str = ""

    @property
    def met(self) -> bool:
        """Whether it was reached."""
        return bool(_COMPARE[self.relation](self.measured, self.bound))

    def __str__(self) -> str:
        word = "met   " if self.met else "MISSED"
        unit = f" {self.unit}" if self.unit else ""
        return f"{word} {self.name}: {self.measured:.4g}{unit}, {self.relation} {self.bound:g}{unit}"


def rounds(count: int, play: Callable[[int], T]) -> list[T]:
    """What `play(number)` gave in each round.

    A round in which the machine's other guests took too much is played again, twice at most.
    """
    return [_undisturbed(number, play) for number in range(count)]


def _undisturbed(number: int, play: Callable[[int], T]) -> T:
    for attempt in range(_REPEATS + 1):
        before = _processor_times()
        result = play(number)
        stolen = _stolen(before, _processor_times())
        if stolen < MOST_STEAL or attempt == _REPEATS:
            break
        click.echo(f"round {number + 1}: {stolen:.0%} of the processor was taken by others; it is played again")
    return result


def _processor_times() -> list[int]:
    return [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]


def _stolen(before: Sequence[int], after: Sequence[int]) -> float:
    spent = [now - then for then, now in zip(before, after, strict=True)]
    return spent[7] / max(1, sum(spent))


def ratio(mine: Sequence[float], theirs: Sequence[float]) -> float:
    """The median of the ratios within each round."""
    return statistics.median(one / other for one, other in zip(mine, theirs, strict=True))


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that `share` of all values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def report(name: str, title: str, rows: Sequence[Mapping[str, object]], goals: Sequence[Goal]) -> Sequence[Goal]:
    """Print the table and the goals, and write both to `benchmarks/<name>.json`; gives the goals."""
    click.echo(f"\n{title}\n")
    columns = list(rows[0])
    lines = [columns, *([_text(row[column]) for column in columns] for row in rows)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(columns))]
    for line in lines:
        cells = [line[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        click.echo("  " + "  ".join(cells))
    click.echo("")
    for goal in goals:
        click.echo(f"  {goal}")
    kept = {
        "rows": list(rows),
        "goals": [{"name": goal.name, "measured": goal.measured, "met": goal.met} for goal in goals],
    }
    (_RESULTS / f"{name}.json").write_text(json.dumps(kept, indent=1) + "\n", "utf-8")
    return goals


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
