"""What gunicorn serves in tests that need short waits: the product's own app, wired by `tests.launch`."""

import os

from tests.kill_points import KILLS
from tests.launch import shorten

shorten("web")

from orchestrator.wsgi import app  # noqa: E402 - wired while it is imported

if KILLS in os.environ:
    # Who waits at a kill point must not keep others from theirs.
    app.together = None

__all__ = ["app"]
