"""Read by `gunicorn wsgi:app` in a checkout; `orchestrator serve` passes the same settings by itself."""

import sys
from typing import Any

from orchestrator.config import Config
from orchestrator.errors import ConfigurationError

worker_class = "orchestrator.web.gather.GatheringWorker"
workers = 2
threads = 8
keepalive = 5
graceful_timeout = 20
# What proxies say is believed by ORCHESTRATOR_TRUSTED_PROXIES alone.
forwarded_allow_ips = ""


def on_starting(server: Any) -> None:
    """Do not start with faulty settings; say which."""
    del server
    try:
        Config.from_env()
    except ConfigurationError as error:
        print(error, file=sys.stderr)  # noqa: T201 - there is no log yet
        sys.exit(2)
