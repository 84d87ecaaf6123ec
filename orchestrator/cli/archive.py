"""`backup` and `restore`."""

from __future__ import annotations

from pathlib import Path

import click

from orchestrator import backup as archives
from orchestrator import bootstrap
from orchestrator.cli.wiring import opened
from orchestrator.config import Config
from orchestrator.errors import InvalidInput
from orchestrator.onboarding.restore import Restored, settle_restored


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def backup(file: Path) -> None:
    """Write one archive of database and sealed documents, while everything runs; never the keys."""
    _check_local(Config.from_env())
    with opened() as service:
        count = archives.write(service.driver, service.context.documents.shelf, bootstrap.database, file)
    click.echo(f"wrote {file} with {count} documents; keep ORCHESTRATOR_ENCRYPTION_KEYS elsewhere, they are not in it")


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def restore(file: Path) -> None:
    """Restore an archive into an empty installation, before `serve` or `worker` is started."""
    config = Config.from_env()
    _check_local(config)
    service = bootstrap.build(config)
    settled: list[Restored] = []
    try:
        service.migrate()
        count = archives.read(
            service.driver,
            service.context.documents.shelf,
            bootstrap.database,
            lambda copied: settled.append(settle_restored(service.over(copied))),
            file,
        )
    finally:
        service.close()
    click.echo(f"restored {count} documents")
    for done in settled:
        click.echo(f"{done.asked} open onboardings are asked about at OSL Pay before anything is sent again")
        click.echo(f"{done.erased} erasures were repeated")


def _check_local(config: Config) -> None:
    """Raises InvalidInput where database or documents lie on servers, which have better ways of their own."""
    if not config.database_url.startswith("sqlite:"):
        raise InvalidInput("with PostgreSQL use pg_dump and pg_restore, and the versioning of the bucket for documents")
    if not config.documents_url.startswith("file:"):
        raise InvalidInput("with S3 use the versioning of the bucket, and keep a copy of the database beside it")
