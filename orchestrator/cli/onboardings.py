"""`show`, `retry`, `cancel` and `resubmit`: one onboarding from the command line."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import click

from orchestrator.cli.refusals import tell
from orchestrator.cli.wiring import ACTOR, opened
from orchestrator.errors import OrchestratorError
from orchestrator.onboarding import look, operate
from orchestrator.onboarding.context import Context
from orchestrator.onboarding.outlook import Outlook, outlook
from orchestrator.records import Onboarding, iso
from orchestrator.web.schemas import callback_json, delivery_json, onboarding_json, transition_json

_as_json = click.option("--json", "as_json", is_flag=True, help="As JSON.")


@click.command()
@click.argument("id_", metavar="ID")
@_as_json
def show(id_: str, as_json: bool) -> None:
    """Show an onboarding (by its id or merchantUserId) with its timeline."""
    with opened() as service:
        context = service.context
        row = look.find_by_any_id(context, id_)
        view = look.view(context, row)
        around = look.circumstances(context, view, context.now_ms())
        shown: dict[str, Any] = onboarding_json(view, with_link=False, with_error=True)
        shown["transitions"] = [transition_json(item) for item in around.transitions]
        shown["callbacks"] = [callback_json(item) for item in around.callbacks]
        shown["deliveries"] = [delivery_json(item) for item in around.deliveries]
    click.echo(json.dumps(shown, ensure_ascii=False) if as_json else _told(shown, outlook(row, around)))


@click.command()
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
def retry(ids: tuple[str, ...]) -> None:
    """Let onboardings that need attention go on."""
    _each(ids, lambda context, row: operate.retry(context, row.id, ACTOR))


@click.command()
@click.argument("id_", metavar="ID")
def cancel(id_: str) -> None:
    """Give an onboarding up."""
    _each((id_,), lambda context, row: operate.cancel(context, row.id, ACTOR))


@click.command()
@click.argument("id_", metavar="ID")
@click.option("--reason", required=True, help="What the user should hear.")
def resubmit(id_: str, reason: str) -> None:
    """Ask the user to submit again."""
    _each((id_,), lambda context, row: operate.ask_for_resubmission(context, row.id, reason, ACTOR))


def _each(ids: tuple[str, ...], verb: Callable[[Context, Onboarding], Onboarding]) -> None:
    failed = False
    with opened() as service:
        for text in ids:
            try:
                row = verb(service.context, look.find_by_any_id(service.context, text))
                click.echo(f"{row.id} {row.state}")
            except OrchestratorError as error:
                failed = True
                tell(error, text)
    sys.exit(1 if failed else 0)


def _told(shown: dict[str, Any], now: Outlook) -> str:
    lines = [
        f"{shown['id']}  {shown['merchantUserId']}  {shown['state']}, round {shown['round']}",
        f"created {shown['createdAt']}, next attempt {shown['nextAttemptAt'] or 'none'}",
    ]
    lines.append(f"waits for {now.waits} since {iso(now.since)}")
    lines.append(f"next, by itself: {now.then}{f' {iso(now.at)}' if now.at else ''}")
    if now.cause is not None:
        lines.append(f"likely cause: {now.cause.text}{f', since {iso(now.cause.since)}' if now.cause.since else ''}")
        lines.append(f"what helps: {now.cause.advice}")
    if shown["missing"]:
        lines.append(f"missing: {', '.join(shown['missing'])}")
    if shown["lastError"]:
        error = shown["lastError"]
        lines.append(f"last error: {error['provider']} {error['code']} {error['message']}")
    lines.append("")
    for row in shown["transitions"]:
        detail = f" ({row['detail']})" if row["detail"] else ""
        lines.append(f"{row['at']}  {row['from'] or '-'} -> {row['to']}  {row['event']} by {row['actor']}{detail}")
    for row in shown["callbacks"]:
        lines.append(
            f"{row['receivedAt']}  callback {row['kycStatus'] or row['type']}: {row['verdict']}, seen {row['seen']}"
        )
    for row in shown["deliveries"]:
        lines.append(f"{row['createdAt']}  told {row['type']}: {row['status']}, {row['attempts']} tries")
    return "\n".join(lines)
