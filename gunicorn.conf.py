"""Read by `gunicorn wsgi:app` in a checkout; `orchestrator serve` passes the same settings by itself."""

import resource
import sys
from contextlib import closing
from typing import Any

from orchestrator import bootstrap
from orchestrator.config import Config
from orchestrator.errors import ConfigurationError, StoreUnavailable

worker_class = "orchestrator.web.gather.GatheringWorker"
logger_class = "orchestrator.web.server_log.ServerLog"
workers = 2
threads = 8
keepalive = 5
graceful_timeout = 20
# What proxies say is believed by ORCHESTRATOR_TRUSTED_PROXIES alone.
forwarded_allow_ips = ""

# A core dump would hold every key.
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def on_starting(server: Any) -> None:
    """Do not start with faulty settings, nor on a database that has moved; say which."""
    del server
    try:
        service = bootstrap.build(Config.from_env())
        with closing(service):
            service.open()
    except (ConfigurationError, StoreUnavailable) as error:
        print(error, file=sys.stderr)  # noqa: T201 - there is no log yet
        sys.exit(2 if isinstance(error, ConfigurationError) else 1)
