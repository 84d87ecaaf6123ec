"""How many webhooks are verified, judged, stored and acknowledged in a second, and how long each takes.

Every webhook is signed, is another onboarding's, and moves it; 100,000 are stored. Beside it a Flask route that does
nothing, on the same gunicorn with the same settings: the goals are ratios within the same round.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path

import click

from benchmarks import sending, stored
from benchmarks.measuring import Goal, percentile, ratio, report, rounds
from benchmarks.processes import Processes, Settings, processor_seconds
from benchmarks.sending import Sent
from benchmarks.webhooks import passes
from orchestrator.cli.demo_installation import free_port

CONNECTIONS = 64
ROUNDS = 5
_LEAST_RATIO = 0.40
_MOST_LATENCY = 3.0


@dataclass(frozen=True)
class _Size:
    stored: int
    warming: int
    """Before anything is measured."""
    webhooks: int
    """In one burst as fast as they are answered."""
    steady: int
    """At half of that rate."""
    rounds: int


_FULL = _Size(100_000, 500, 2_500, 1_200, ROUNDS)
_SHORT = _Size(300, 30, 40, 20, 1)


@dataclass
class _Round:
    ours: Sent
    bare: Sent
    processor: float
    processor_bare: float


def measure(*, short: bool = False) -> Sequence[Goal]:
    """Run it and report."""
    size = _SHORT if short else _FULL
    with tempfile.TemporaryDirectory() as folder, Processes(Path(folder)) as processes:
        settings = Settings(Path(folder))
        needed = (size.webhooks + size.steady) * size.rounds * 3 + size.warming
        stored.store_waiting(settings, max(size.stored, needed), whole=needed)
        bare_port = free_port()
        web = processes.gunicorn("orchestrator.wsgi:app", settings.port, settings.environ)
        bare = processes.gunicorn("benchmarks.bare:app", bare_port, {})
        numbers = count()

        def requests(many: int, port: int) -> list[bytes]:
            return list(passes(settings, islice(numbers, many), port))

        warming = requests(size.warming, settings.port)
        for port in (settings.port, bare_port):
            sending.at_full_speed(port, warming, CONNECTIONS)

        def full(_: int) -> _Round:
            waiting = requests(size.webhooks, settings.port)
            before = processor_seconds(web)
            ours = sending.at_full_speed(settings.port, waiting, CONNECTIONS)
            used, before = processor_seconds(web) - before, processor_seconds(bare)
            idle = sending.at_full_speed(bare_port, waiting, CONNECTIONS)
            return _Round(ours, idle, used, processor_seconds(bare) - before)

        fast = rounds(size.rounds, full)
        half = min(one.ours.per_second for one in fast) / 2

        def steady(_: int) -> _Round:
            waiting = requests(size.steady, settings.port)
            ours = sending.at_rate(settings.port, waiting, CONNECTIONS, half)
            return _Round(ours, sending.at_rate(bare_port, waiting, CONNECTIONS, half), 0.0, 0.0)

        even = rounds(size.rounds, steady)
    _check(_all(fast + even))
    return _report(fast, even, half)


def _all(played: Sequence[_Round]) -> Iterator[Sent]:
    for one in played:
        yield one.ours
        yield one.bare


def _check(sent: Iterator[Sent]) -> None:
    for one in sent:
        if set(one.statuses) != {200}:
            raise click.ClickException(f"not every webhook was answered 200: {one.statuses}")


def _report(fast: Sequence[_Round], even: Sequence[_Round], half: float) -> Sequence[Goal]:
    table = [
        {
            "round": str(number + 1),
            "webhooks/s": one.ours.per_second,
            "bare/s": one.bare.per_second,
            "ratio": one.ours.per_second / one.bare.per_second,
            "CPU ms": one.processor / len(one.ours.latencies) * 1000,
            "bare CPU ms": one.processor_bare / len(one.bare.latencies) * 1000,
            "p50 ms": percentile(slow.ours.latencies, 0.5) * 1000,
            "p99 ms": percentile(slow.ours.latencies, 0.99) * 1000,
            "bare p50": percentile(slow.bare.latencies, 0.5) * 1000,
            "bare p99": percentile(slow.bare.latencies, 0.99) * 1000,
        }
        for number, (one, slow) in enumerate(zip(fast, even, strict=True))
    ]
    speed = ratio([one.ours.per_second for one in fast], [one.bare.per_second for one in fast])
    ours, bare = ([percentile(sent.latencies, 0.99) for sent in group] for group in _apart(even))
    goals = [
        Goal("webhooks per second, of bare Flask's", speed, "at least", _LEAST_RATIO),
        Goal(f"p99 at {half:.0f} a second, of bare Flask's", ratio(ours, bare), "at most", _MOST_LATENCY),
    ]
    return report("acknowledge", "Webhooks acknowledged, beside a Flask route that does nothing", table, goals)


def _apart(even: Sequence[_Round]) -> tuple[list[Sent], list[Sent]]:
    return [one.ours for one in even], [one.bare for one in even]
