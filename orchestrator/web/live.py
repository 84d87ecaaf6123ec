"""Pages that stay up to date: their script asks for the same page again and gets 304 while nothing changed."""

from __future__ import annotations

import hashlib
from typing import Any

from flask import Response, render_template, request
from markupsafe import Markup

from orchestrator.records import iso
from orchestrator.web import words

_AS_OF = Markup("<!-- as of -->")
"""Stands for the time until the rest is hashed; no text of a row can be a comment."""


def live_page(template: str, now: int, **values: Any) -> Response:
    """The page with an `ETag` over everything but the time at which it was made (`now`, ms).

    That time is in the header `X-As-Of`: a 304 has no page that tells it.
    """
    page = render_template(template, now=now, as_of=_AS_OF, live=request.full_path.rstrip("?"), words=words, **values)
    response = Response(page.replace(_AS_OF, words.moment(now)))
    response.headers["X-As-Of"] = iso(now)
    response.set_etag(hashlib.sha256(page.encode()).hexdigest()[:32])
    response.make_conditional(request)
    return response
