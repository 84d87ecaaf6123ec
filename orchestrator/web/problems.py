"""RFC 9457 problem details."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

from flask import Response


def problem(status: int, detail: str, **members: Any) -> Response:
    """An `application/problem+json` answer with `type`, `title`, `status`, `detail` and further members."""
    title = HTTPStatus(status).phrase if status in set(HTTPStatus) else "Error"
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail, **members}
    return Response(json.dumps(body), status, mimetype="application/problem+json")
