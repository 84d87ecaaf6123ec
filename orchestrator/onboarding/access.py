"""Who may come in: bearer tokens with roles, and sessions of signed-in browsers."""

from __future__ import annotations

import re

from orchestrator.errors import Conflict, InvalidInput, NotFound, TooManyAttempts, Unauthenticated
from orchestrator.onboarding.context import Context
from orchestrator.records import AccessToken, Session
from orchestrator.seal import plain_hash
from orchestrator.store.access import MOST_FAILURES

ROLES = ("merchant", "operator", "viewer")
PAGE_ROLES = ("operator", "viewer")
_TOUCH_EVERY = 60_000


def create_token(context: Context, name: str, role: str) -> str:
    """A new token `orc_…`, told once. Raises InvalidInput for a bad name or role, Conflict for a taken name."""
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", name):
        raise InvalidInput("the name must be 1 to 64 letters, digits, dots, dashes or underscores")
    if role not in ROLES:
        raise InvalidInput(f"the role must be one of {', '.join(ROLES)}")
    token = f"orc_{context.token()}"
    if not context.access.add_token(AccessToken(name, role, plain_hash(token), context.now_ms())):
        raise Conflict(f"there is a token called {name} already: choose another name", "taken")
    return token


def tokens(context: Context) -> list[AccessToken]:
    """All tokens, revoked ones too."""
    return context.access.tokens()


def revoke_token(context: Context, name: str) -> None:
    """The token and its sessions stop working. Raises NotFound."""
    if not context.access.revoke_token(name, context.now_ms()):
        raise NotFound(f"there is no working token called {name}")


def token(context: Context, secret: str) -> AccessToken:
    """The working token. Raises Unauthenticated."""
    found = context.access.token(plain_hash(secret)) if secret.startswith("orc_") else None
    if found is None:
        raise Unauthenticated("a valid token is needed: Authorization: Bearer orc_…")
    return found


def sign_in(context: Context, secret: str, address: str) -> tuple[str, AccessToken]:
    """A new session's secret for a viewer or operator token.

    Raises Unauthenticated, and TooManyAttempts from the eleventh wrong token in a minute from one address.
    """
    now = context.now_ms()
    window = context.timings.login_window
    address_hash = context.sealer.hash("address", address)

    def check(failures: int, first_at: int) -> None:
        if failures >= MOST_FAILURES:
            wait = max(1, -(-(first_at + window - now) // 1000))
            raise TooManyAttempts(f"too many wrong tokens: wait {wait} seconds", wait)

    check(*context.access.login_failures(address_hash, now - window))
    try:
        found = token(context, secret.strip())
        if found.role not in PAGE_ROLES:
            raise Unauthenticated("the pages need a viewer or operator token")
    except Unauthenticated:
        # Counted again with it: of many at once no more are told that they are wrong than one after another.
        check(*context.access.add_login_failure(address_hash, now, now - window))
        raise
    session = context.token()
    timings = context.timings
    context.access.add_session(
        plain_hash(session), found.name, now, now - timings.session_longest, now - timings.session_idle
    )
    return session, found


def session(context: Context, secret: str, *, used: bool = True) -> Session:
    """The session of a browser, while it lasts; `used`: a person did something. Raises Unauthenticated."""
    found = context.access.session(plain_hash(secret)) if secret else None
    now, timings = context.now_ms(), context.timings
    if found is None or now - found.created_at > timings.session_longest or now - found.seen_at > timings.session_idle:
        raise Unauthenticated("sign in first")
    if used and now - found.seen_at > _TOUCH_EVERY:
        context.access.touch_session(found.hash, now)
    return found


def sign_out(context: Context, secret: str) -> None:
    """End a session."""
    context.access.remove_session(plain_hash(secret))
