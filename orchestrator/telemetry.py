"""Logs: one event name a line, with ids and never with personal data."""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog

Log = structlog.stdlib.BoundLogger


def configure(level: str, form: str) -> None:
    """Log to standard error. `level`: DEBUG, INFO, WARNING or ERROR; `form`: console or json."""
    structlog.configure(
        processors=[
            *_SHARED,
            structlog.processors.format_exc_info,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger("orchestrator")
    root.handlers = [handler(form)]
    root.propagate = False
    root.setLevel(level)


def handler(form: str) -> logging.Handler:
    """Writes lines of ours, and those of other software under the name of that software, to standard error."""
    renderer: Any = (
        structlog.processors.JSONRenderer() if form == "json" else structlog.dev.ConsoleRenderer(colors=False)
    )
    made = logging.StreamHandler(sys.stderr)
    made.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*_SHARED, structlog.stdlib.ExtraAdder(), _named, structlog.processors.format_exc_info],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    return made


def logger(name: str) -> Log:
    """The logger of one room, e.g. `logger("worker")`."""
    log: Log = structlog.stdlib.get_logger(f"orchestrator.{name}")
    return log


def begin(**ids: str) -> None:
    """A new request or step begins in this thread: its lines carry these ids and no earlier ones."""
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(**ids)


def about(onboarding_id: str) -> None:
    """What this thread does concerns this onboarding from here on: its lines say so."""
    structlog.contextvars.bind_contextvars(onboarding_id=onboarding_id)


def _named(_logger: Any, _method: str, line: Any) -> Any:
    """A line of other software: what it says is no name of an event."""
    software = line["_record"].name.partition(".")[0]
    return line if software == "orchestrator" else {**line, "says": line["event"], "event": software}


_SHARED: list[Any] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]
