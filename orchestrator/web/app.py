"""The Flask application: its blueprints, and the one place where errors become answers."""

from __future__ import annotations

import re
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import IO, Any

from flask import Flask, Request, Response, current_app, g, render_template, request
from werkzeug.datastructures import ImmutableDict
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge
from werkzeug.http import parse_date
from werkzeug.middleware.proxy_fix import ProxyFix

from orchestrator import errors, telemetry
from orchestrator.bootstrap import Service
from orchestrator.onboarding.context import Context
from orchestrator.telemetry import logger
from orchestrator.web import (
    actions,
    api,
    callbacks,
    hooks,
    listing,
    metrics,
    one,
    openapi,
    pages,
    reference,
    session,
    upload_live,
    watch,
)
from orchestrator.web.auth import open_to
from orchestrator.web.brand import wear
from orchestrator.web.headers import PAGE_PATHS, SECURITY_HEADERS
from orchestrator.web.language import PAGE, speak
from orchestrator.web.problems import problem

_STATUSES: dict[type[errors.OrchestratorError], int] = {
    errors.InvalidInput: 422,
    errors.Unauthenticated: 401,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.Gone: 410,
    errors.Conflict: 409,
    errors.TooLarge: 413,
    errors.UnsupportedDocument: 415,
    errors.MalformedCallback: 400,
    errors.TooManyAttempts: 429,
    errors.StoreUnavailable: 503,
    errors.SealBroken: 503,
    errors.ProviderError: 502,
}
_MAY_BE_KEPT = ("static", "brand.logo", "brand.colors")
_LARGEST_FORM = 16_500_000
_LARGEST_FIELDS = 256_000
"""Bytes of a form without its files: taken apart, a field of few bytes takes hundreds in memory."""
_QUIET = ("callbacks.", "metrics.", "watch.", "static")
"""How the endpoints begin whose requests come often and have figures, or a line of their own."""
_TOGETHER = re.compile(rb"POST /(?:(?:callbacks|hooks)/|api/v1/onboardings(?:/[^/ ]+/submit)? )")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_DATES = ("HTTP_IF_MODIFIED_SINCE", "HTTP_IF_RANGE")


class _Request(Request):
    """No part of a form is ever spooled to a temporary file: a document's plain bytes stay in memory."""

    max_content_length = _LARGEST_FORM
    max_form_memory_size = _LARGEST_FIELDS
    max_form_parts = 100

    def _get_file_stream(
        self,
        total_content_length: int | None,
        content_type: str | None,
        filename: str | None = None,
        content_length: int | None = None,
    ) -> IO[bytes]:
        return BytesIO()


class _Flask(Flask):
    """Takes the methods that routes state and no other: OPTIONS would go past their roles."""

    request_class = _Request
    together: re.Pattern[bytes] | None = None
    """Beginnings of requests that wait for nothing but the database, and are cheaper answered many at a time."""
    count_refused: Callable[[int], None]
    """Told the status of every answer to a request that never came here. Returns at once."""
    default_config = ImmutableDict({**Flask.default_config, "PROVIDE_AUTOMATIC_OPTIONS": False})

    def wsgi_app(self, environ: Any, start_response: Any) -> Any:
        """As Flask's, with the security headers on every answer. Through werkzeug's, each would be checked anew."""
        _forget_dates(environ)

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            return start_response(status, [*headers, *SECURITY_HEADERS.items()], exc_info)

        return super().wsgi_app(environ, start)

    def ensure_sync(self, func: Any) -> Any:
        """No function of ours is asynchronous: Flask's looks at each anew for every request."""
        return func


def create_app(service: Service) -> Flask:
    """The application over a wired service; `app.extensions["orchestrator"]` is that service."""
    app = _Flask("orchestrator", static_folder=str(_here("web/static")), template_folder=str(_here("templates")))
    app.extensions["orchestrator"] = service
    app.count_refused = lambda status: service.context.tally.count("refused", str(status))
    if service.driver.commits_together:
        app.together = _TOGETHER
    app.json.sort_keys = False  # type: ignore[attr-defined]
    proxies = service.config.trusted_proxies
    if proxies:
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=proxies, x_proto=proxies)  # type: ignore[method-assign]
    app.url_map.merge_slashes = False  # another spelling of a path is 404, not a redirect
    for module in (
        *(actions, api, callbacks, hooks, listing, metrics),
        *(one, pages, reference, session, upload_live, watch),
    ):
        app.register_blueprint(module.blueprint)
    wear(app, service.config)
    speak(app)
    app.register_error_handler(Exception, _answer)
    app.before_request(_identify)
    app.after_request(_tell)
    app.after_request(_secure)
    app.view_functions["static"] = open_to("anyone: styles, scripts and icon")(app.view_functions["static"])
    app.extensions["openapi"] = openapi.description(app, service.context.profile_rules)
    return app


def _forget_dates(environ: dict[str, Any]) -> None:
    """A date that is none is ignored (RFC 9110, 13.1.3); over one whose year has too many digits werkzeug fails."""
    for name in _DATES:
        try:
            parse_date(environ.get(name))
        except OverflowError:
            environ[name] = ""


def _here(name: str) -> Path:
    return Path(__file__).parent.parent / name


def _context() -> Context:
    service: Service = current_app.extensions["orchestrator"]
    return service.context


def _identify() -> None:
    given = request.headers.get("X-Request-ID", "")
    g.request_id = given if _REQUEST_ID.fullmatch(given) else _context().new_id("req")
    g.began_at = _context().now_ms()
    telemetry.begin(request_id=g.request_id)
    # A document is a PUT: some programs call whatever they send a form unless they are told better.
    is_form = request.method == "POST" and request.mimetype == "application/x-www-form-urlencoded"
    if is_form and (request.content_length or 0) > _LARGEST_FIELDS:
        raise RequestEntityTooLarge


def _secure(response: Response) -> Response:
    headers = response.headers
    if request.endpoint not in _MAY_BE_KEPT or response.status_code >= 400:
        headers["Cache-Control"] = "no-store"
    if request.is_secure:
        headers.setdefault("Strict-Transport-Security", "max-age=31536000")
    headers["X-Request-ID"] = g.get("request_id", "")
    return response


def _tell(response: Response) -> Response:
    """A line for each request, without anything that it brought: paths and queries can hold tokens and an email."""
    log = logger("web")
    rule = request.url_rule
    tell = log.debug if rule is not None and rule.endpoint.startswith(_QUIET) else log.info
    tell(
        "request",
        method=request.method if rule else None,
        route=rule.rule if rule else None,
        status=response.status_code,
        milliseconds=_context().now_ms() - g.began_at,
    )
    return response


def _answer(error: Exception) -> Response:
    """Any error as problem+json, or as a page for a browser; nothing of the request is echoed."""
    status, detail, extra, headers = _described(error)
    if status >= 500 and not isinstance(error, errors.ProviderError):
        log = logger("web").bind(route=request.url_rule.rule if request.url_rule else None, kind=type(error).__name__)
        if isinstance(error, errors.OrchestratorError):
            log.error("unavailable", problem=str(error))
        else:
            log.error("crashed", exc_info=_without_values(error))
    if request.path.startswith(PAGE_PATHS) and request.accept_mimetypes.best_match(["text/html"]):
        template = "user_message.html" if request.path.startswith(PAGE) else "message.html"
        response = Response(render_template(template, status=status, detail=detail), status)
    else:
        response = problem(status, detail, **extra)
    response.headers.extend(headers)
    return response


def _described(error: Exception) -> tuple[int, str, dict[str, Any], dict[str, str]]:
    if isinstance(error, errors.OrchestratorError):
        status = next((code for kind, code in _STATUSES.items() if isinstance(error, kind)), 500)
        return status, str(error), _members(error), _headers(error)
    if isinstance(error, RequestEntityTooLarge):
        return 413, "the body is larger than allowed here", {}, {}
    if isinstance(error, HTTPException) and error.code is not None:
        allowed = getattr(error, "valid_methods", None) or ()
        return error.code, error.description or "", {}, {"Allow": ", ".join(sorted(allowed))} if allowed else {}
    return 500, "something went wrong here; nothing was stored", {}, {}


def _members(error: errors.OrchestratorError) -> dict[str, Any]:
    if isinstance(error, errors.InvalidInput) and error.errors:
        return {"errors": error.errors}
    if isinstance(error, errors.Conflict):
        return {"state": error.state}
    if isinstance(error, errors.ProviderError):
        return {"kind": error.kind.value, "code": error.code}
    return {}


def _headers(error: errors.OrchestratorError) -> dict[str, str]:
    if isinstance(error, errors.TooManyAttempts):
        return {"Retry-After": str(error.retry_after)}
    if isinstance(error, errors.StoreUnavailable):
        return {"Retry-After": "5"}
    if isinstance(error, errors.Unauthenticated) and request.path.startswith(("/api/", "/metrics")):
        return {"WWW-Authenticate": "Bearer"}
    return {}


class _Hidden(Exception):
    """Stands for an exception whose message may quote a user's data."""


def _without_values(error: Exception) -> Exception:
    return _Hidden(type(error).__name__).with_traceback(error.__traceback__)
