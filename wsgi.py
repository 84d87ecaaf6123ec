"""For `gunicorn wsgi:app` in a checkout."""

from orchestrator.wsgi import app

__all__ = ["app"]
