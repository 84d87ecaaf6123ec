"""Logs: one event name a line, with ids and never with personal data."""

from __future__ import annotations

import logging
import sys
from contextlib import suppress
from typing import Any, TextIO, cast

import structlog

Log = structlog.typing.FilteringBoundLogger


class _Forgiving:
    """A stream whose lines may be lost: no request or step fails because the disk under the log is full."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with suppress(OSError):
            self._stream.write(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()


def configure(level: str, form: str) -> None:
    """Log to standard error. `level`: DEBUG, INFO, WARNING or ERROR; `form`: console or json."""
    # Not by way of the standard library's loggers, which make every line twice as dear.
    structlog.configure(
        processors=[*_SHARED, structlog.processors.format_exc_info, _renderer(form)],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(cast(TextIO, _Forgiving(sys.stderr))),
    )
    root = logging.getLogger("orchestrator")
    root.handlers = [handler(form)]
    root.propagate = False
    root.setLevel(level)


def handler(form: str) -> logging.Handler:
    """Writes lines of ours, and those of other software under the name of that software, to standard error."""
    made = logging.StreamHandler(sys.stderr)
    made.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*_SHARED, structlog.stdlib.ExtraAdder(), _named, structlog.processors.format_exc_info],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _renderer(form)],
        )
    )
    return made


def logger(name: str) -> Log:
    """The logger of one room, e.g. `logger("worker")`."""
    log: Log = structlog.get_logger(name)
    return log


def _renderer(form: str) -> Any:
    return structlog.processors.JSONRenderer() if form == "json" else structlog.dev.ConsoleRenderer(colors=False)


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
