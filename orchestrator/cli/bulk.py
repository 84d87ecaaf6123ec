"""`import` and `export`: many users at once."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import click

from orchestrator.cli.refusals import tell
from orchestrator.cli.wiring import opened
from orchestrator.errors import InvalidInput, OrchestratorError
from orchestrator.onboarding import bulk
from orchestrator.onboarding.context import Context
from orchestrator.web.export import COLUMNS, csv_lines, values

_ACTOR = "import"
_FAULTS_SHOWN = 100
_FILE = click.Path(dir_okay=False, path_type=Path)
_FOLDER = click.Path(file_okay=False, path_type=Path)


@click.command("import")
@click.argument("file", type=_FILE)
@click.option("--documents", type=_FOLDER, help="Documents as DIR/<merchantUserId>/<kind>.*")
@click.option("--dry-run", is_flag=True, help="Validate only.")
def import_(file: Path, documents: Path | None, dry_run: bool) -> None:
    """Begin and submit the users of a CSV or JSON Lines file; may be stopped and run again."""
    if not file.is_file():
        raise InvalidInput(f"there is no file {file}")
    with opened() as service:
        count, faults = _validate(service.context, file, documents)
        if faults:
            click.echo(f"{faults} faults in {count} users: nothing was imported", err=True)
            sys.exit(1)
        if dry_run:
            click.echo(f"{count} users are fit to be imported")
            return
        failed = _take_in(service.context, file, documents)
    click.echo(f"imported {count - failed} of {count} users")
    sys.exit(1 if failed else 0)


def _validate(context: Context, file: Path, documents: Path | None) -> tuple[int, int]:
    """How many users there are, and how many faults, the first of which are told."""
    count = faults = 0
    earlier: set[int] = set()
    with _bar(file, "validating") as advance:
        for entry in bulk.entries(file, documents):
            count += 1
            for fault in (*bulk.entry_faults(context, entry), *bulk.repeated(entry, earlier)):
                faults += 1
                if faults <= _FAULTS_SHOWN:
                    click.echo(f"line {fault.line}: {fault.field}: {fault.problem}", err=True)
            advance()
    return count, faults


def _take_in(context: Context, file: Path, documents: Path | None) -> int:
    """How many users could not be begun and submitted, which is told of each."""
    done = failed = 0
    with _bar(file, "importing") as advance:
        try:
            for entry in bulk.entries(file, documents):
                try:
                    bulk.take_in(context, entry, _ACTOR)
                except OrchestratorError as error:
                    failed += 1
                    tell(error, f"line {entry.line}")
                done += 1
                advance()
        except KeyboardInterrupt:
            click.echo(f"\nstopped after {done} users: run the same command again to go on", err=True)
            sys.exit(1)
    return failed


@click.command()
@click.option("--state", help="Only those in this state.")
@click.option(
    "--since", type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]), help="Begun at this UTC time or later."
)
@click.option("--format", "form", type=click.Choice(["csv", "jsonl"]), default="csv", show_default=True)
def export(state: str | None, since: datetime | None, form: str) -> None:
    """Print onboardings, newest first, without personal data."""
    since_ms = int(since.replace(tzinfo=UTC).timestamp() * 1000) if since is not None else 0
    with opened() as service:
        rows = bulk.listed(service.context, state, since_ms)
        if form == "csv":
            sys.stdout.writelines(csv_lines(rows))
            return
        for row in rows:
            click.echo(json.dumps(dict(zip(COLUMNS, values(row), strict=True)), ensure_ascii=False))


@contextmanager
def _bar(file: Path, label: str) -> Iterator[Callable[[], None]]:
    """A progress bar on a terminal, by lines of the file."""
    with file.open("rb") as stream:
        lines = sum(1 for _ in stream)
    with click.progressbar(length=lines, label=label, file=sys.stderr) as bar:
        yield lambda: bar.update(1)
