"""How long a user takes from the signup hook to approved, on the sandbox.

`python -m benchmarks.signup_to_approved` prints a table and writes `benchmarks/signup_to_approved.json`. Users of the
story `early` follow each other, one at a time: its one webhook comes with the share, so that what is measured is the
service and not the sandbox's pauses. Two documents are sent over the API in between.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from pathlib import Path

import click

from orchestrator.cli.demo_installation import Installation
from orchestrator.cli.demo_stories import Player

_RESULT = Path(__file__).with_suffix(".json")
_LONGEST = 30.0


@click.command()
@click.option("--users", default=50, show_default=True, type=click.IntRange(2, 10_000))
def main(users: int) -> None:
    """Run the benchmark."""
    with tempfile.TemporaryDirectory() as folder, Installation(Path(folder)) as installation:
        installation.start()
        player = Player(installation)
        _one(player, 0)
        times = sorted(_one(player, number) for number in range(1, users + 1))
    figures = {
        "users": users,
        "p50Ms": round(statistics.median(times)),
        "p99Ms": round(times[min(users - 1, int(users * 0.99))]),
        "worstMs": round(times[-1]),
    }
    for name, value in figures.items():
        click.echo(f"{name:<8} {value:>8}")
    _RESULT.write_text(json.dumps(figures) + "\n", "utf-8")


def _one(player: Player, number: int) -> float:
    began = time.monotonic()
    onboarding_id = player.begin("early", number)
    while time.monotonic() - began < _LONGEST:
        if player.state(onboarding_id) == "approved":
            return (time.monotonic() - began) * 1000
        time.sleep(0.01)
    raise click.ClickException(f"user {number} did not settle within {_LONGEST:.0f} s")


if __name__ == "__main__":
    main()
