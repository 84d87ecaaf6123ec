"""Browser sessions: signing in with a token, signing out, and what guards every form of the pages."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

from flask import Blueprint, Response, g, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from orchestrator.errors import Forbidden, TooManyAttempts, Unauthenticated
from orchestrator.onboarding import access
from orchestrator.web.address import client_address
from orchestrator.web.auth import open_to, service

blueprint = Blueprint("session", __name__)
View = TypeVar("View", bound=Callable[..., Any])

_ADMITTED = {"viewer": ("viewer", "operator"), "operator": ("operator",)}
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
_HOME = "/status"


@blueprint.get("/login")
@open_to("anyone: it shows a form")
def login() -> ResponseReturnValue:
    """The form, or onwards for a browser that is signed in."""
    onwards = _local_path(request.args.get("next", ""))
    try:
        _open_session()
    except Unauthenticated:
        return _login_page(onwards)
    return redirect(onwards, 303)


@blueprint.post("/login")
@open_to("whoever has a viewer or operator token")
def sign_in() -> ResponseReturnValue:
    """A new session under a new secret, whatever cookie the browser came with."""
    check_origin()
    if request.headers.get("Origin") == "null":
        _check_csrf(_visitor_cookie())
    context = service()
    onwards = _local_path(request.form.get("next", ""))
    try:
        secret, _ = access.sign_in(context, request.form.get("token", ""), client_address())
    except TooManyAttempts as error:
        answer = _login_page(onwards, str(error), 429)
        answer.headers["Retry-After"] = str(error.retry_after)
        return answer
    except Unauthenticated:
        words = "This is not a working viewer or operator token. Check that it was copied whole: it begins with orc_."
        return _login_page(onwards, words, 401)
    if earlier := request.cookies.get(_cookie_name()):
        access.sign_out(context, earlier)
    answer = cast(Response, redirect(onwards, 303))
    answer.set_cookie(_cookie_name(), secret, secure=request.is_secure, httponly=True, samesite="Lax", path="/")
    return answer


@blueprint.post("/logout")
@open_to("whoever is signed in")
def sign_out() -> ResponseReturnValue:
    """End the session, if there is one."""
    check_origin()
    answer = cast(Response, redirect(url_for("session.login"), 303))
    answer.delete_cookie(_cookie_name(), secure=request.is_secure, httponly=True, samesite="Lax", path="/")
    try:
        _open_session()
    except Unauthenticated:
        return answer
    _check_csrf(_cookie_name())
    access.sign_out(service(), request.cookies[_cookie_name()])
    return answer


def require_page_role(role: str) -> Callable[[View], View]:
    """Let signed-in browsers of `role` (viewer or operator) in; operators may do what viewers may.

    Sets `g.session`, `g.csrf` and `g.actor` (`role:name`). A GET without session is led to the login; a POST
    raises Unauthenticated, and Forbidden when it comes from elsewhere, lacks the session's token or the role.
    """

    def decorate(view: View) -> View:
        @wraps(view)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            reads = request.method in ("GET", "HEAD")
            if not reads:
                check_origin()  # and below the form's token, without which `Origin: null` proves nothing
            try:
                _open_session()
            except Unauthenticated:
                if not reads:
                    raise Unauthenticated("nothing was done: sign in and do it again") from None
                return redirect(url_for("session.login", next=request.full_path.rstrip("?")))
            if not reads:
                _check_csrf(_cookie_name())
            if g.session.role not in _ADMITTED[role]:
                raise Forbidden(f"this needs a token of the role {role}")
            return view(*args, **kwargs)

        guarded.roles = _ADMITTED[role]  # type: ignore[attr-defined]
        return cast(View, guarded)

    return decorate


def check_origin() -> None:
    """Raises Forbidden for a form that another site sent, as far as its headers tell.

    Pages with `Referrer-Policy: no-referrer` tell nobody where they are, so browsers send `Origin: null` with their
    forms; a sandboxed frame on any site sends it too. It passes unless the browser says that the form comes from
    elsewhere, and the caller must check a secret that another site cannot know: the form's token, or a link.
    """
    origin = request.headers.get("Origin", "null")
    # Older browsers do not say, nor does any over plain http beyond this machine.
    comes_from_here = request.headers.get("Sec-Fetch-Site", "none") in ("none", "same-origin")
    if not (origin == "null" and comes_from_here) and origin.casefold() not in _own_origins():
        raise Forbidden("this form was sent from another site: open the page here and try again")


def _open_session() -> None:
    """What a page's script asks for by itself (X-Live) does not keep a forgotten browser signed in."""
    secret = request.cookies.get(_cookie_name(), "")
    g.session = access.session(service(), secret, used="X-Live" not in request.headers)
    g.csrf = _csrf_of(secret)
    g.actor = f"{g.session.role}:{g.session.token_name}"


def _login_page(onwards: str, words: str = "", status: int = 200) -> Response:
    """The form, with a token of this browser's own: nobody can sign it in from elsewhere."""
    visitor = request.cookies.get(_visitor_cookie(), "") or service().token()
    g.csrf = _csrf_of(visitor)
    answer = Response(render_template("login.html", next=onwards, problem=words), status)
    if visitor != request.cookies.get(_visitor_cookie()):
        answer.set_cookie(_visitor_cookie(), visitor, secure=request.is_secure, httponly=True, samesite="Lax", path="/")
    return answer


def _csrf_of(secret: str) -> str:
    return hmac.new(secret.encode(), b"csrf", hashlib.sha256).hexdigest()


def _check_csrf(cookie: str) -> None:
    """Raises Forbidden unless the form was made for the browser that holds this cookie."""
    secret, given = request.cookies.get(cookie, ""), request.form.get("csrf", "")
    if not secret or not hmac.compare_digest(given.encode(), _csrf_of(secret).encode()):
        raise Forbidden("this form belongs to another session: open the page again and repeat what you did")


def _cookie_name() -> str:
    return "__Host-orchestrator" if request.is_secure else "orchestrator"


def _visitor_cookie() -> str:
    return f"{_cookie_name()}-visitor"


def _own_origins() -> set[str]:
    """Where the request says that it came to, and the public base."""
    public = urlsplit(service().rules.public_url.casefold())
    return {
        f"{request.scheme}://{request.host}".casefold(),
        f"{public.scheme}://{public.netloc.removesuffix(_DEFAULT_PORTS[public.scheme])}",
    }


def _local_path(text: str) -> str:
    """`text` if it is a path on this host, else the status page."""
    is_local = text.startswith("/") and not text.startswith("//") and "\\" not in text and text.isprintable()
    return text if is_local else _HOME
