"""The command `orchestrator`. Each subcommand is loaded by name, so that `--help` is quick."""

from __future__ import annotations

import errno
import importlib
import os
import resource
import sys
from typing import Any

import click

from orchestrator import __version__
from orchestrator.cli.refusals import tell
from orchestrator.errors import ConfigurationError, OrchestratorError

_NOT_WRITTEN = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EPIPE)
_COMMANDS = {
    "serve": ("run", "Run web and worker together."),
    "worker": ("run", "Run the worker alone."),
    "migrate": ("run", "Bring the database up to date."),
    "doctor": ("doctor", "Check the installation and say what to do."),
    "demo": ("demo", "Play every story against the sandbox and show what happens."),
    "sandbox": ("sandbox", "Play BTSE Pay and OSL Pay over real HTTP."),
    "token": ("tokens", "Make, list and revoke access tokens."),
    "show": ("onboardings", "Show one onboarding with its timeline."),
    "retry": ("onboardings", "Let onboardings that need attention go on."),
    "cancel": ("onboardings", "Give an onboarding up."),
    "resubmit": ("onboardings", "Ask the user to submit again."),
    "replay": ("trying", "Ask OSL Pay because of a stored callback."),
    "delivery": ("trying", "List and resend what the merchant is told."),
    "import": ("bulk", "Begin and submit the users of a file."),
    "export": ("bulk", "Print onboardings without personal data."),
    "trigger": ("trying", "Send a signed signup hook or callback, to try things."),
    "erase": ("retention", "Erase all personal data of a user."),
    "purge": ("retention", "Delete what is past its time."),
    "reseal": ("retention", "Seal everything anew with the first key."),
    "backup": ("archive", "Write one archive of database and documents."),
    "restore": ("archive", "Restore an archive into an empty installation."),
    "copy": ("moving", "Copy the database to another place and close this one."),
    "audit": ("audit", "Verify the chains of transitions."),
}


class _ByName(click.Group):
    """Loads a subcommand's module only when that subcommand is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"orchestrator.cli.{_COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, "import_" if cmd_name == "import" else cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in _COMMANDS.items()])


@click.group(cls=_ByName, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def cli() -> None:
    """Carries each user of a merchant through KYC at BTSE Pay and OSL Pay."""


def main(arguments: list[str] | None = None) -> Any:
    """Run a command and exit: 0 done, 1 could not be done, 2 wrong use or settings."""
    # What a crash would write to the disk holds every key and plain documents.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        try:
            cli.main(arguments, prog_name="orchestrator")
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except ConfigurationError as error:
        click.echo(str(error), err=True)
        sys.exit(2)
    except OrchestratorError as error:
        tell(error)
        sys.exit(1)
    except OSError as error:
        if error.errno not in _NOT_WRITTEN:
            raise
        # What is left to be written would be tried again at the very end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if error.errno != errno.EPIPE:
            click.echo(
                f"Error: not everything could be written ({error.strerror}): make room, then see how far it came",
                err=True,
            )
        sys.exit(1)
