"""What machines that watch the service ask: whether it answers, and whether it could store a webhook."""

from __future__ import annotations

from typing import Any

from flask import Blueprint

from orchestrator.onboarding import look
from orchestrator.web.auth import open_to, service
from orchestrator.web.described import Answer, described

blueprint = Blueprint("watch", __name__)


@blueprint.get("/healthz")
@open_to("anyone: it says nothing but that the process answers")
@described("getHealth", {200: Answer("It answers.", "Health")})
def healthz() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@blueprint.get("/readyz")
@open_to("anyone: it names no version, path or host")
@described("getReadiness", {200: Answer("It is ready.", "Readiness")})
def readyz() -> dict[str, Any]:
    """A webhook could be stored now; `warnings` names what should be looked at all the same."""
    context = service()
    look.check_ready(context)
    return {"status": "ok", "warnings": look.warnings(context)}
