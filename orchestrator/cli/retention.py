"""`erase` and `purge`: personal data that goes."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from orchestrator.cli.wiring import opened
from orchestrator.onboarding import look, retain

_ANSWER_SECONDS = 10.0


@click.command()
@click.argument("id_", metavar="ID")
def erase(id_: str) -> None:
    """Erase documents, profile, providers' words and webhook bodies of a user at once; the chain stays."""
    with opened(longest_call=_ANSWER_SECONDS) as service:
        row = look.find_by_any_id(service.context, id_)
        cancelled = retain.erase(service.context, row.id, "command_line")
    click.echo(f"erased {row.id}")
    if not cancelled:
        click.echo("BTSE Pay's authorization was NOT cancelled: BTSE Pay did not answer; cancel it there", err=True)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def purge(as_json: bool) -> None:
    """Delete documents and profiles that are past their time; the worker does so daily."""
    with opened() as service:
        purged = retain.purge(service.context)
    if as_json:
        click.echo(json.dumps(asdict(purged)))
    else:
        click.echo(
            f"deleted: documents of {purged.documents}, profiles of {purged.profiles}, {purged.strays} stray files"
        )
