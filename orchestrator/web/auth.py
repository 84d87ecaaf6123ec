"""Bearer tokens with roles for the API."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

from flask import current_app, g, request

from orchestrator.errors import Forbidden, Unauthenticated
from orchestrator.onboarding import access
from orchestrator.onboarding.context import Context

View = TypeVar("View", bound=Callable[..., Any])


def service() -> Context:
    """The service's context of the running application."""
    return cast(Context, current_app.extensions["orchestrator"].context)


def allow(*roles: str) -> Callable[[View], View]:
    """Let only bearers of these roles in; `g.actor` is then `role:name`. Raises Unauthenticated, Forbidden."""

    def decorate(view: View) -> View:
        @wraps(view)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            scheme, _, secret = request.headers.get("Authorization", "").partition(" ")
            if scheme.lower() != "bearer":
                raise Unauthenticated("a valid token is needed: Authorization: Bearer orc_…")
            token = access.token(service(), secret.strip())
            if token.role not in roles:
                raise Forbidden(f"this needs a token of the role {' or '.join(roles)}")
            g.actor, g.role = f"{token.role}:{token.name}", token.role
            return view(*args, **kwargs)

        guarded.roles = roles  # type: ignore[attr-defined]
        return cast(View, guarded)

    return decorate


def open_to(who: str) -> Callable[[View], View]:
    """State who may call a route that takes no bearer token, and why that is safe."""

    def decorate(view: View) -> View:
        view.roles = (who,)  # type: ignore[attr-defined]
        return view

    return decorate
