"""`audit`: verify the chains of transitions."""

from __future__ import annotations

import json
import sys

import click

from orchestrator.cli.wiring import opened
from orchestrator.onboarding import operate


@click.group()
def audit() -> None:
    """Verify the chains of transitions."""


@audit.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def verify(as_json: bool) -> None:
    """Find every changed, removed, inserted or reordered transition; exit status 1 if there is one."""
    faults = 0
    with opened() as service:
        for fault in operate.audit(service.context):
            faults += 1
            if as_json:
                click.echo(json.dumps({"id": fault.onboarding_id, "problem": fault.problem}))
            else:
                click.echo(f"{fault.onboarding_id}: {fault.problem}")
    if not as_json:
        click.echo(f"{faults} fault(s)" if faults else "every chain is whole")
    sys.exit(1 if faults else 0)
