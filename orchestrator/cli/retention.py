"""`erase`, `purge` and `reseal`: personal data that goes, or changes its key."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

import click

from orchestrator.cli.wiring import ACTOR, opened
from orchestrator.onboarding import look, retain
from orchestrator.onboarding.reseal import reseal as reseal_all

_ANSWER_SECONDS = 10.0


@click.command()
@click.argument("id_", metavar="ID")
def erase(id_: str) -> None:
    """Erase documents, profile, providers' words and webhook bodies of a user at once; the chain stays.

    That is one onboarding. When the user has another one, of an earlier signup, its id is said.
    """
    with opened(longest_call=_ANSWER_SECONDS) as service:
        row = look.find_by_any_id(service.context, id_)
        cancelled = retain.erase(service.context, row.id, ACTOR)
        other = service.context.store.newest_onboarding(row.merchant_user_id)
    click.echo(f"erased {row.id}")
    if other is not None:
        click.echo(f"another onboarding of this user is still there: `orchestrator erase {other.id}`", err=True)
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


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def reseal(as_json: bool) -> None:
    """Seal everything anew with the first of ORCHESTRATOR_ENCRYPTION_KEYS; then the others can go."""
    with opened() as service:
        total = sum(look.counts(service.context).values())
        with click.progressbar(length=total, label="resealing", file=sys.stderr) as bar:
            done = reseal_all(service.context, lambda _: bar.update(1))
    if as_json:
        click.echo(json.dumps(asdict(done)))
    else:
        click.echo(f"sealed anew: {done.onboardings} onboardings, {done.documents} documents, {done.bodies} bodies")
    for problem in done.gone:
        click.echo(f"not sealed anew: {problem}, or erase the user; then run this again", err=True)
    sys.exit(1 if done.gone else 0)
