"""gunicorn's own lines, in the form of all others."""

from __future__ import annotations

from typing import Any

from gunicorn.glogging import Logger

from orchestrator import telemetry
from orchestrator.config import Config
from orchestrator.errors import ConfigurationError


class ServerLog(Logger):  # type: ignore[misc]  # gunicorn has no types
    """`--logger-class orchestrator.web.server_log.ServerLog`."""

    def setup(self, cfg: Any) -> None:
        """As gunicorn's, but written as ORCHESTRATOR_LOG_FORMAT says; the access log stays off."""
        super().setup(cfg)
        try:
            form = Config.from_env().log_format
        except ConfigurationError:
            return  # whoever serves says so at once, and ends
        self.error_log.handlers = [telemetry.handler(form)]
