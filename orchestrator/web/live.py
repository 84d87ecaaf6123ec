"""Pages that stay up to date: their script asks for the same page again and gets 304 while nothing changed."""

from __future__ import annotations

import hashlib
from typing import Any

from flask import Response, render_template, request

from orchestrator.web import words


def live_page(template: str, now: int, **values: Any) -> Response:
    """The page with an `ETag` over everything but the time at which it was made (`now`, ms)."""
    page = render_template(template, now=now, live=request.full_path.rstrip("?"), words=words, **values)
    without_time = page.replace(str(words.moment(now)), "")
    response = Response(page)
    response.set_etag(hashlib.sha256(without_time.encode()).hexdigest()[:32])
    response.make_conditional(request)
    return response
