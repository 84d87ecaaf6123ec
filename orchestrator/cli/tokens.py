"""`token`: who may call the API and open the pages."""

from __future__ import annotations

import json

import click

from orchestrator.cli.wiring import opened
from orchestrator.onboarding import access
from orchestrator.records import iso


@click.group()
def token() -> None:
    """Make, list and revoke access tokens."""


@token.command()
@click.option("--role", required=True, type=click.Choice(access.ROLES), help="What it may do.")
@click.option("--name", required=True, help="Who holds it; shown in timelines.")
def create(role: str, name: str) -> None:
    """Print a new token, once."""
    with opened() as service:
        click.echo(access.create_token(service.context, name, role))


@token.command("list")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def list_tokens(as_json: bool) -> None:
    """List all tokens, without their secrets."""
    with opened() as service:
        rows = [
            {"name": row.name, "role": row.role, "createdAt": iso(row.created_at), "revokedAt": iso(row.revoked_at)}
            for row in access.tokens(service.context)
        ]
    if as_json:
        click.echo(json.dumps({"items": rows}))
        return
    for row in rows:
        click.echo(f"{row['name']:<32} {row['role']:<10} {'revoked' if row['revokedAt'] else 'works'}")


@token.command()
@click.argument("name")
def revoke(name: str) -> None:
    """Make a token and its sessions stop working."""
    with opened() as service:
        access.revoke_token(service.context, name)
    click.echo(f"revoked {name}")
