"""The trigger: a signed signup hook, or the API, begins an onboarding."""

from __future__ import annotations

import binascii
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from orchestrator.errors import InvalidInput, StoreUnavailable, Unauthenticated
from orchestrator.machine import State
from orchestrator.onboarding.apply import begin
from orchestrator.onboarding.context import Context
from orchestrator.onboarding.profile import checked_email, checked_merchant_user_id
from orchestrator.records import Onboarding
from orchestrator.seal import plain_hash
from orchestrator.telemetry import about

LONGEST_WEBHOOK_ID = 256
_TRIES = 20


@dataclass(frozen=True)
class Signup:
    """What a signup asks for, validated."""

    merchant_user_id: str
    email: str
    profile: Mapping[str, str]


def verify_hook(context: Context, headers: Mapping[str, str], body: bytes) -> str:
    """The `webhook-id` of a hook signed with one of the signup secrets. Raises Unauthenticated, whatever is wrong."""
    webhook_id = headers.get("webhook-id", "")
    if not 0 < len(webhook_id) <= LONGEST_WEBHOOK_ID or not webhook_id.isprintable():
        raise Unauthenticated(f"webhook-id must be there and have at most {LONGEST_WEBHOOK_ID} characters")
    try:
        body.decode()
    except UnicodeDecodeError:
        raise Unauthenticated("the body is not in UTF-8, so its signature cannot be verified") from None
    for secret in context.rules.signup_secrets:
        try:
            Webhook(secret).verify(body, dict(headers), json_parse=False)
        except (WebhookVerificationError, binascii.Error, ValueError, OverflowError):
            continue
        return webhook_id
    raise Unauthenticated(
        "the signature is missing, wrong or too old: sign with a secret of ORCHESTRATOR_SIGNUP_SECRETS"
    )


def checked_signup(context: Context, data: Any) -> Signup:
    """`data` of a signup, validated. Raises InvalidInput naming every fault at once."""
    if not isinstance(data, dict):
        raise InvalidInput("the data is not valid", {"data": ["must be an object"]})
    errors: dict[str, list[str]] = {}
    values: dict[str, Any] = {}
    checks: dict[str, Callable[[], Any]] = {
        "merchantUserId": lambda: checked_merchant_user_id(data.get("merchantUserId")),
        "email": lambda: checked_email(data.get("email")),
        "profile": lambda: context.profile_rules.checked(data.get("profile", {})),
    }
    for name, check in checks.items():
        try:
            values[name] = check()
        except InvalidInput as error:
            errors.update(error.errors)
    errors |= {str(name)[:64]: ["is not a known field"] for name in data if name not in checks}
    if errors:
        raise InvalidInput("the data is not valid", errors)
    return Signup(values["merchantUserId"], values["email"], values["profile"])


def sign_up(context: Context, signup: Signup, actor: str, webhook_id: str | None = None) -> tuple[Onboarding, bool]:
    """The onboarding of this signup, and whether it is new.

    The same `webhook_id` gives what it first gave; a merchantUserId that has a live onboarding gives that one.
    """
    for _ in range(_TRIES):
        existing = _existing(context, signup, webhook_id)
        if existing is not None:
            about(existing.id)
            return existing, False
        new = _new(context, signup)
        about(new.id)
        begun = begin(context, new, actor, webhook_id)
        if begun is not None:
            return begun, True
    raise StoreUnavailable("this user is signed up too often at the same time: try again")


def _existing(context: Context, signup: Signup, webhook_id: str | None) -> Onboarding | None:
    if webhook_id is not None and (first := context.store.onboarding_of_signup(webhook_id)) is not None:
        return first
    live = context.store.live_onboarding(signup.merchant_user_id)
    if live is not None and webhook_id is not None:
        context.store.remember_signup(webhook_id, live.id, context.now_ms())
        return context.store.onboarding_of_signup(webhook_id) or live
    return live


def _new(context: Context, signup: Signup) -> Onboarding:
    now = context.now_ms()
    onboarding_id = context.new_id("onb")
    link = context.token()
    identity = {"email": signup.email, "profile": dict(signup.profile)}
    return Onboarding(
        id=onboarding_id,
        merchant_user_id=signup.merchant_user_id,
        state=State.COLLECTING,
        created_at=now,
        updated_at=now,
        profile_sealed=context.seal_json(identity, "onboardings", onboarding_id, "profile"),
        email_hash=context.sealer.hash("email", signup.email.casefold()),
        link_hash=plain_hash(link),
        link_sealed=context.sealer.seal(link.encode(), "onboardings", onboarding_id, "link"),
    )
