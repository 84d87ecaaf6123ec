"""What every command that works on the database starts with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from orchestrator import bootstrap
from orchestrator.bootstrap import Service
from orchestrator.config import Config
from orchestrator.errors import StoreUnavailable

ACTOR = "command_line"
"""Who does what a command does, in the chain."""


@contextmanager
def opened(longest_call: float | None = None) -> Iterator[Service]:
    """A wired service over a migrated database. Raises ConfigurationError, StoreUnavailable.

    `longest_call`: seconds that one call to a provider may take, if less than the setting.
    """
    config = Config.from_env()
    if longest_call is not None:
        seconds = min(longest_call, config.provider_deadline_seconds)
        config = replace(config, provider_deadline_seconds=seconds)
    service = bootstrap.build(config)
    try:
        check_migrated(service)
        yield service
    finally:
        service.close()


def check_migrated(service: Service) -> None:
    """Raises ConfigurationError when the database has moved, StoreUnavailable when the schema is not this version's."""
    service.driver.open()
    pending = service.driver.pending_migrations()
    if pending:
        raise StoreUnavailable(f"the database lacks {', '.join(pending)}: run `orchestrator migrate` first")
