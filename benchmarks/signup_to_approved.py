"""How long a user takes from the signup hook to approved, on the sandbox.

Users of the story `early` follow each other, one at a time: its one webhook comes with the share, so that what is
measured is the service and not the sandbox's pauses. Two documents are sent over the API in between.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import click

from benchmarks.measuring import Goal, percentile, report
from orchestrator.cli.demo_installation import Installation
from orchestrator.cli.demo_stories import Player

_LONGEST = 30.0


def measure(*, short: bool = False) -> Sequence[Goal]:
    """Run it and report."""
    users = 2 if short else 50
    with tempfile.TemporaryDirectory() as folder, Installation(Path(folder)) as installation:
        installation.start()
        player = Player(installation)
        _one(player, 0)
        times = [_one(player, number) for number in range(1, users + 1)]
    row = {
        "users": users,
        "p50 ms": statistics.median(times),
        "p99 ms": percentile(times, 0.99),
        "worst ms": max(times),
    }
    return report("signup_to_approved", "From the signup hook to approved, one user at a time", [row], [])


def _one(player: Player, number: int) -> float:
    began = time.monotonic()
    onboarding_id = player.begin("early", number)
    while time.monotonic() - began < _LONGEST:
        if player.state(onboarding_id) == "approved":
            return (time.monotonic() - began) * 1000
        time.sleep(0.01)
    raise click.ClickException(f"user {number} did not settle within {_LONGEST:.0f} s")
