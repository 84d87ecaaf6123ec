"""`audit`: verify the chains of transitions."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from orchestrator.cli.wiring import opened
from orchestrator.errors import InvalidInput
from orchestrator.onboarding import audit as chains

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group()
def audit() -> None:
    """Verify the chains of transitions."""


@audit.command()
@click.option("--head", "head_file", type=_FILE, help="What `audit head` printed: find what no longer leads from it.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, one line a fault.")
def verify(head_file: Path | None, as_json: bool) -> None:
    """Find every changed, removed, inserted or reordered transition; exit status 1 if there is one."""
    count = 0
    known = _lines(head_file) if head_file is not None else None
    with opened() as service:
        found = [*chains.faults(service.context)]
        if known is not None:
            found += chains.faults_since(service.context, known)
    for fault in found:
        count += 1
        if as_json:
            click.echo(json.dumps({"id": fault.onboarding_id, "problem": fault.problem}))
        else:
            click.echo(f"{fault.onboarding_id}: {fault.problem}")
    if not as_json:
        click.echo(f"{count} fault(s)" if count else "every chain is whole")
    sys.exit(1 if count else 0)


@audit.command()
def head() -> None:
    """Print the head of every chain, to be kept where this database's writers cannot reach."""
    with opened() as service:
        for line in chains.head(service.context):
            click.echo(line)


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text("utf-8").splitlines()
    except OSError as error:
        raise InvalidInput(f"{file} cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{file} is not what `audit head` printed: it is no text in UTF-8") from error
