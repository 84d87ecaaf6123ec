"""How a command says what could not be done."""

from __future__ import annotations

import click

from orchestrator.errors import OrchestratorError


def tell(error: OrchestratorError, about: str = "Error") -> None:
    """On standard error: `about: what is wrong`, and below it each field that is at fault."""
    click.echo(f"{about}: {error}", err=True)
    for path, messages in getattr(error, "errors", {}).items():
        click.echo(f"  {path}: {'; '.join(messages)}", err=True)
