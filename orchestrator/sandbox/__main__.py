"""`python -m orchestrator.sandbox`: the sandbox alone, with every switch that tests need."""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from orchestrator.sandbox.server import serve
from orchestrator.sandbox.settings import SandboxSettings, SandboxSettingsError


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=9000, show_default=True, help="0 lets the system choose; the URL is printed.")
@click.option("--rate", default=10, show_default=True, help="OSL Pay requests a second; 0 is unlimited.")
@click.option("--lag-seconds", default=20.0, show_default=True, help="The lag of the story `lag`.")
@click.option("--pace", default=1.0, show_default=True, help="Scales the pauses between webhooks.")
@click.option("--sign-encoding", type=click.Choice(["hex", "base64"]), default="hex", show_default=True)
@click.option(
    "--multipart-message",
    type=click.Choice(["fields", "none", "json"]),
    default="fields",
    show_default=True,
    help="What BTSE Pay wants signed for uploads.",
)
@click.option(
    "--upload-answer",
    type=click.Choice(["string", "object"]),
    default="string",
    show_default=True,
    help="How OSL Pay answers a file's URL.",
)
@click.option("--merchant-wide-url", help="Where webhooks go when a share names no callbackUrl.")
def main(host: str, port: int, **options: Any) -> None:
    """Play BTSE Pay (/btse) and OSL Pay (/osl) over HTTP until SIGTERM.

    The credentials come from the environment: BTSE_API_KEY, BTSE_SECRET_KEY, OSL_APP_ID, OSL_PRIVATE_KEY
    (the merchant's) and SANDBOX_OSL_PRIVATE_KEY (OSL Pay's own, whose public part is
    OSL_WEBHOOK_PUBLIC_KEY); each may be given as NAME_FILE.
    """
    try:
        settings = SandboxSettings.from_environ(os.environ, **options)
    except SandboxSettingsError as error:
        click.echo(str(error), err=True)
        sys.exit(2)
    serve(host, port, settings, click.echo)


if __name__ == "__main__":
    main(prog_name="python -m orchestrator.sandbox")
