"""`python -m benchmarks`: all of them, one after the other, and at the end which goals were reached."""

from __future__ import annotations

import time

import click

from benchmarks import (
    acknowledge,
    burst,
    documents,
    end_to_end,
    growth,
    limit,
    pages,
    signup_to_approved,
    start,
    waiting,
)

_ALL = {
    "acknowledge": acknowledge.measure,
    "end_to_end": end_to_end.measure,
    "limit": limit.measure,
    "growth": growth.measure,
    "waiting": waiting.measure,
    "burst": burst.measure,
    "documents": documents.measure,
    "pages": pages.measure,
    "start": start.measure,
    "signup_to_approved": signup_to_approved.measure,
}


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(sorted(_ALL)))
@click.option("--short", is_flag=True, help="Only to see that they work.")
def main(names: tuple[str, ...], short: bool) -> None:
    """Run these benchmarks, or all."""
    began = time.monotonic()
    goals = [goal for name in names or _ALL for goal in _ALL[name](short=short)]
    missed = [goal for goal in goals if not goal.met]
    click.echo(f"\nAfter {(time.monotonic() - began) / 60:.1f} minutes: {len(goals) - len(missed)} goals met.")
    for goal in missed:
        click.echo(f"  {goal}")


main()
