"""What gunicorn serves: `gunicorn orchestrator.wsgi:app`, or `gunicorn wsgi:app` in a checkout."""

import resource
import sys

from orchestrator import bootstrap
from orchestrator.config import Config
from orchestrator.errors import ConfigurationError, StoreUnavailable
from orchestrator.web.app import create_app

# What a crash would write to the disk holds every key and plain documents.
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
try:
    _service = bootstrap.build(Config.from_env())
    _service.open()
    app = create_app(_service)
except (ConfigurationError, StoreUnavailable) as error:
    print(error, file=sys.stderr)  # noqa: T201 - gunicorn hides why a worker did not boot
    # The status by which gunicorn's workers say that starting more of them is of no use.
    sys.exit(4)
