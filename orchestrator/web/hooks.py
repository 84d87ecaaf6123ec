"""The merchant's signup hook (Standard Webhooks)."""

from __future__ import annotations

from flask import Blueprint, request
from flask.typing import ResponseReturnValue

from orchestrator.errors import InvalidInput
from orchestrator.onboarding import look, signup
from orchestrator.web.auth import open_to, service
from orchestrator.web.bodies import parsed_json, raw_body
from orchestrator.web.described import SIGNUP_SIGNATURE, Answer, described
from orchestrator.web.schemas import onboarding_json

blueprint = Blueprint("hooks", __name__)
LARGEST_HOOK = 256_000
_TYPE = "user.signup"
_HEADERS = ("webhook-id", "webhook-timestamp", "webhook-signature")


@blueprint.post("/hooks/signup")
@open_to("whoever signs with a signup secret")
@described(
    "receiveSignup",
    {
        202: Answer("The new onboarding.", "Onboarding"),
        200: Answer("What this `webhook-id` first gave, or the live one of this user.", "Onboarding"),
        204: Answer("An event of another type: nothing to do."),
    },
    422,
    body="SignupEvent",
    signature=SIGNUP_SIGNATURE,
)
def receive_signup() -> ResponseReturnValue:
    """Begin an onboarding: 202 and it, 200 and the one there is, 204 for another type of event."""
    context = service()
    body = raw_body(LARGEST_HOOK)
    headers = {name: request.headers.get(name, "") for name in _HEADERS}
    webhook_id = signup.verify_hook(context, headers, body)
    event = parsed_json(body)
    if not isinstance(event, dict) or not isinstance(event.get("type"), str):
        raise InvalidInput("the body must be an object with `type` and `data`")
    if event["type"] != _TYPE:
        return "", 204
    asked = signup.checked_signup(context, event.get("data"))
    onboarding, created = signup.sign_up(context, asked, "signup_hook", webhook_id)
    return onboarding_json(look.view(context, onboarding), with_link=True, with_error=False), 202 if created else 200
