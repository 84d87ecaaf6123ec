"""`doctor`: is this installation fit, and if not, what to do."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace

import click

from orchestrator import bootstrap
from orchestrator.bootstrap import Service
from orchestrator.config import Config
from orchestrator.errors import ConfigurationError, StoreUnavailable
from orchestrator.onboarding.doctor import Finding, Level, examine

_LONGEST_CALL = 10.0
_URLS = {
    "ORCHESTRATOR_PUBLIC_URL's scheme": "public_url",
    "ORCHESTRATOR_NOTIFY_URL's scheme": "notify_url",
    "BTSE_BASE_URL's scheme": "btse_base_url",
    "OSL_BASE_URL's scheme": "osl_base_url",
}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON, one line a check.")
def doctor(as_json: bool) -> None:
    """Check settings, storage, keys, worker, providers and clocks.

    The exit status is 1 if there is an error, 2 if the database has moved.
    """
    worst = 0
    for finding in _findings():
        worst = max(worst, finding.level is Level.ERROR)
        text = " ".join(finding.text.split())
        line = (
            json.dumps({**asdict(finding), "text": text}) if as_json else f"{finding.level:<8} {finding.check}: {text}"
        )
        click.echo(line)
    sys.exit(worst)


def _findings() -> Iterator[Finding]:
    try:
        config = Config.from_env()
        seconds = min(_LONGEST_CALL, config.provider_deadline_seconds)
        service = bootstrap.build(replace(config, provider_deadline_seconds=seconds))
    except ConfigurationError as error:
        yield from _faults(error)
        return
    yield Finding("settings", Level.OK, "are all there and well formed")
    if config.osl_private_key.public_key() == config.osl_webhook_public_key:
        text = "is the public part of OSL_PRIVATE_KEY: it must be OSL Pay's own key"
        yield Finding("OSL_WEBHOOK_PUBLIC_KEY", Level.ERROR, text)
    urls = {name: getattr(config, field) for name, field in _URLS.items() if getattr(config, field)}
    try:
        yield from _connection(service)
        yield from examine(service.context, service.outgoing, bootstrap.btse_variants(service), urls)
    except ConfigurationError as error:
        yield from _faults(error)
        sys.exit(2)  # as whatever opens a database that has moved
    finally:
        service.close()


def _faults(error: ConfigurationError) -> Iterator[Finding]:
    for fault in error.faults:
        make = f"; make one: {fault.command}" if fault.command else ""
        yield Finding(fault.name, Level.ERROR, f"{fault.problem}; example: {fault.example}{make}")


def _connection(service: Service) -> Iterator[Finding]:
    """Why a server lets nobody in, which whoever waits for a connection to be there is not told.

    Raises ConfigurationError when the contents of the database have moved: nothing here is in use any more.
    """
    try:
        service.driver.open()
    except StoreUnavailable as error:
        if not service.config.database_url.startswith("sqlite:"):
            yield Finding("connection", Level.ERROR, str(error))
