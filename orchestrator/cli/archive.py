"""`backup` and `restore`."""

from __future__ import annotations

from pathlib import Path

import click

from orchestrator import backup as archives
from orchestrator import bootstrap
from orchestrator.cli.moving import check_silent
from orchestrator.cli.wiring import opened
from orchestrator.config import Config
from orchestrator.errors import InvalidInput
from orchestrator.onboarding.restore import Restored, check_keys, settle_restored


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def backup(file: Path) -> None:
    """Write one archive of database and sealed documents, while everything runs; never the keys."""
    _check_local(Config.from_env())
    with opened() as service:
        context = service.context
        count = archives.write(service.driver, context.documents.shelf, context.sealer, bootstrap.database, file)
    click.echo(f"wrote {file} with {count} documents; keep ORCHESTRATOR_ENCRYPTION_KEYS elsewhere, they are not in it")


@click.command()
@click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--in-place",
    is_flag=True,
    help="There is no FILE: database and documents were put back by other means (pg_restore, a copied folder).",
)
def restore(file: Path | None, in_place: bool) -> None:
    """Restore an archive into an empty installation, before `serve` or `worker` is started.

    What was restored is made safe to work on: OSL Pay is asked before anything is sent again, and erasures are
    repeated. With --in-place this alone is done; if it is stopped, run it again.
    """
    if (file is None) is not in_place:
        raise click.UsageError("name either FILE or --in-place")
    done = _settled_in_place() if file is None else _restored(file)
    click.echo(f"{done.asked} open onboardings are asked about at OSL Pay before anything is sent again")
    click.echo(f"{done.erased} erasures were repeated")
    if done.tokens:
        listed = "`orchestrator token list` names them"
        click.echo(f"{done.tokens} access tokens work as they did then: revoke again what was revoked since; {listed}")


def _restored(file: Path) -> Restored:
    config = Config.from_env()
    _check_local(config)
    service = bootstrap.build(config)
    settled: list[Restored] = []
    try:
        service.migrate()
        count = archives.read(
            service.driver,
            service.context.documents.shelf,
            service.context.sealer,
            bootstrap.database,
            lambda copied: check_keys(service.over(copied)),
            lambda copied: settled.append(settle_restored(service.over(copied))),
            file,
        )
    finally:
        service.close()
    click.echo(f"restored {count} documents")
    return settled[0]


def _settled_in_place() -> Restored:
    service = bootstrap.build(Config.from_env())
    context = service.context
    try:
        with archives.in_place(service.driver):
            check_silent(context)
            check_keys(context)
            done = settle_restored(context)
            missing = sorted(archives.missing(service.driver, context.documents.shelf))
    finally:
        service.close()
    if missing:
        text = f"{len(missing)} documents are not where ORCHESTRATOR_DOCUMENTS_URL says, the first is {missing[0]}"
        click.echo(f"{text}: put them back before anything is started", err=True)
    return done


def _check_local(config: Config) -> None:
    """Raises InvalidInput where database or documents lie on servers, which have better ways of their own."""
    if not config.database_url.startswith("sqlite:"):
        raise InvalidInput("with PostgreSQL use pg_dump and pg_restore, then `orchestrator restore --in-place`")
    if not config.documents_url.startswith("file:"):
        raise InvalidInput(
            "with S3 use the versioning of the bucket, and keep a copy of the database beside it; once both are back, "
            "run `orchestrator restore --in-place`"
        )
