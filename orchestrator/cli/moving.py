"""`copy`: the whole database to another place."""

from __future__ import annotations

from pathlib import Path

import click

from orchestrator import bootstrap, moving
from orchestrator.config import Config, environment
from orchestrator.errors import InvalidInput, StoreUnavailable
from orchestrator.onboarding import audit, look
from orchestrator.onboarding.context import Context

_SETTING = "ORCHESTRATOR_DATABASE_URL"


@click.command()
@click.option("--to", required=True, metavar="URL", help=f"The database to copy into, as {_SETTING} would name it.")
def copy(to: str) -> None:
    """Copy the database into an empty one and close this one, while nothing else runs.

    Stopped in the middle, the same command begins anew; until it is done, the old database stays as it was.
    """
    config, other = Config.from_env(), _config_of(to)
    places = _place(config), _place(other)
    if places[0] == places[1]:
        raise InvalidInput("that is this database: name another one")
    source, target = bootstrap.build(config), bootstrap.build(other)
    try:
        with click.progressbar(length=0, label="copying", update_min_steps=100) as bar:

            def begin(rows: int) -> None:
                bar.length = rows

            watch = moving.Watch(
                may_begin=lambda: check_silent(source.context),
                problems=lambda: (f"{fault.onboarding_id}: {fault.problem}" for fault in audit.faults(target.context)),
                begin=begin,
                passed=lambda: bar.update(1),
            )
            rows = moving.copy(source.driver, target.driver, places, source.context.now_ms(), watch)
    finally:
        source.close()
        target.close()
    click.echo(f"copied {rows} rows and verified them, every chain is whole" if rows else "it had been copied before")
    click.echo(f"{places[0]} is closed; set {_SETTING} to {places[1]} (with its password) and start again")
    click.echo("documents stay where ORCHESTRATOR_DOCUMENTS_URL says")


def _config_of(url: str) -> Config:
    environ = {**environment(), _SETTING: url}
    environ.pop(f"{_SETTING}_FILE", None)
    return Config.from_env(environ)


def _place(config: Config) -> str:
    """How a database is called where anybody may read it: without password and options."""
    if config.database_url.startswith("sqlite:"):
        return f"sqlite:///{Path(config.database_path).resolve()}"
    rest = config.database_url.partition("://")[2]
    who, at, where = rest.partition("@") if "@" in rest.partition("/")[0] else ("", "", rest)
    user = who.partition(":")[0]
    return f"postgresql://{user}{at if user else ''}{where.partition('?')[0]}"


def check_silent(context: Context) -> None:
    """Raises StoreUnavailable when a worker was there a moment ago."""
    beat, now = look.last_beat(context), context.now_ms()
    if beat is not None and now - beat <= context.timings.worker_silent:
        seconds = context.timings.worker_silent // 1000
        raise StoreUnavailable(
            f"a worker was there {max(0, now - beat) // 1000} s ago: stop it; one that was killed is forgotten after "
            f"{seconds} s"
        )
