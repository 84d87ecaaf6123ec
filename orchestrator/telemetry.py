"""Logs: one event name a line, with ids and never with personal data."""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog

Log = structlog.typing.FilteringBoundLogger


def configure(level: str, form: str) -> None:
    """Log to standard error. `level`: DEBUG, INFO, WARNING or ERROR; `form`: console or json."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: Any = (
        structlog.processors.JSONRenderer() if form == "json" else structlog.dev.ConsoleRenderer(colors=False)
    )
    # Not by way of the standard library's loggers, which make every line twice as dear.
    structlog.configure(
        processors=[*shared, structlog.processors.format_exc_info, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )
    _take_the_standard_librarys(level, shared, renderer)


def _take_the_standard_librarys(level: str, shared: list[Any], renderer: Any) -> None:
    """What modules log that import nothing of ours looks the same."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger("orchestrator")
    root.handlers = [handler]
    root.propagate = False
    root.setLevel(level)


def logger(name: str) -> Log:
    """The logger of one room, e.g. `logger("worker")`."""
    log: Log = structlog.get_logger(name)
    return log
