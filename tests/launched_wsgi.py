"""What gunicorn serves in tests that need short waits: the product's own app, wired by `tests.launch`."""

from tests.launch import shorten

shorten("web")

from orchestrator.wsgi import app  # noqa: E402 - wired while it is imported

__all__ = ["app"]
