"""`sandbox`: both providers over real HTTP."""

from __future__ import annotations

import sys

import click

from orchestrator.config import environment
from orchestrator.sandbox import SandboxSettings, SandboxSettingsError, serve


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=9000, show_default=True, type=click.IntRange(0, 65535), help="0: any free one.")
@click.option("--rate", default=10, show_default=True, help="OSL Pay's requests per second; 0 is unlimited.")
def sandbox(host: str, port: int, rate: int) -> None:
    """Play BTSE Pay (/btse) and OSL Pay (/osl) over real HTTP until SIGTERM.

    The credentials come from the settings BTSE_API_KEY, BTSE_SECRET_KEY, OSL_APP_ID and OSL_PRIVATE_KEY;
    SANDBOX_OSL_PRIVATE_KEY is OSL Pay's own key, whose public part is OSL_WEBHOOK_PUBLIC_KEY.
    """
    try:
        settings = SandboxSettings.from_environ(environment(), rate=rate)
    except SandboxSettingsError as error:
        click.echo(str(error), err=True)
        sys.exit(2)
    serve(host, port, settings, click.echo)
