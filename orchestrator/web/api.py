"""The API for merchants and operators."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, g, request
from flask.typing import ResponseReturnValue

from orchestrator.errors import InvalidInput
from orchestrator.onboarding import collect, listing, look, operate, signup
from orchestrator.onboarding.media import MEDIA_TYPES
from orchestrator.onboarding.profile import LARGEST_DOCUMENT
from orchestrator.records import Onboarding
from orchestrator.web.asked import OnboardingQuerySchema
from orchestrator.web.auth import allow, service
from orchestrator.web.bodies import document_body, json_object
from orchestrator.web.described import JSON, Answer, described
from orchestrator.web.schemas import callback_json, delivery_json, onboarding_json, transition_json

blueprint = Blueprint("api", __name__, url_prefix="/api/v1")
LARGEST_JSON = 256_000
_BOTH = ("merchant", "operator")
_FILES = {
    **dict.fromkeys(MEDIA_TYPES, "File"),
    "multipart/form-data": "FileForm",
}


@blueprint.post("/onboardings")
@allow(*_BOTH)
@described(
    "createOnboarding",
    {201: Answer("The new onboarding.", "Onboarding"), 200: Answer("The live one of this user.", "Onboarding")},
    422,
    body="Signup",
)
def create() -> ResponseReturnValue:
    """Begin an onboarding: 201, or 200 and the live one there is."""
    context = service()
    onboarding, created = signup.sign_up(context, signup.checked_signup(context, json_object(LARGEST_JSON)), g.actor)
    return _shown(onboarding), 201 if created else 200


@blueprint.get("/onboardings")
@allow(*_BOTH)
@described("listOnboardings", {200: Answer("A page.", "Onboardings")}, 422, query="OnboardingQuery")
def page() -> dict[str, Any]:
    """Onboardings newest first: `items` and `nextCursor`."""
    _check_query()
    context = service()
    wanted = listing.wanted(state=request.args.get("state", ""), query=request.args.get("q", ""))
    rows, cursor = listing.page(context, wanted, request.args.get("cursor", ""), _limit(), by_email=True)
    return {
        "items": [onboarding_json(look.view(context, row), with_link=False, with_error=_is_operator()) for row in rows],
        "nextCursor": cursor,
    }


@blueprint.get("/onboardings/<onboarding_id>")
@allow(*_BOTH)
@described("getOnboarding", {200: Answer("The onboarding.", "Onboarding")}, 404)
def one(onboarding_id: str) -> dict[str, Any]:
    """One onboarding."""
    return _shown(look.find(service(), onboarding_id))


@blueprint.patch("/onboardings/<onboarding_id>/profile")
@allow(*_BOTH)
@described(
    "patchProfile",
    {200: Answer("The onboarding.", "Onboarding")},
    404,
    409,
    422,
    body={"application/merge-patch+json": "ProfilePatch", JSON: "ProfilePatch"},
)
def edit(onboarding_id: str) -> dict[str, Any]:
    """JSON merge patch of the profile; takes `email` too."""
    return _shown(collect.edit(service(), onboarding_id, json_object(LARGEST_JSON), g.actor))


@blueprint.put("/onboardings/<onboarding_id>/documents/<kind>")
@allow(*_BOTH)
@described("putDocument", {200: Answer("The onboarding.", "Onboarding")}, 404, 409, 415, 422, body=_FILES)
def put_document(onboarding_id: str, kind: str) -> dict[str, Any]:
    """A document, raw or as the form part `file`."""
    context = service()
    found = look.find(context, onboarding_id)
    collect.check_document_size(kind, 0)
    content = document_body(LARGEST_DOCUMENT)
    return _shown(collect.put_document(context, found, kind, content, g.actor))


@blueprint.delete("/onboardings/<onboarding_id>/documents/<kind>")
@allow(*_BOTH)
@described("deleteDocument", {204: Answer("It is gone.")}, 404, 409)
def remove_document(onboarding_id: str, kind: str) -> ResponseReturnValue:
    """Remove a document."""
    collect.remove_document(service(), onboarding_id, kind, g.actor)
    return "", 204


@blueprint.post("/onboardings/<onboarding_id>/submit")
@allow(*_BOTH)
@described("submitOnboarding", {202: Answer("It goes to the providers.", "Onboarding")}, 404, 409, 422)
def submit(onboarding_id: str) -> ResponseReturnValue:
    """Send what was collected to the providers."""
    return _shown(collect.submit(service(), onboarding_id, g.actor)), 202


@blueprint.post("/onboardings/<onboarding_id>/cancel")
@allow(*_BOTH)
@described("cancelOnboarding", {202: Answer("It is given up.", "Onboarding")}, 404, 409)
def cancel(onboarding_id: str) -> ResponseReturnValue:
    """Give the onboarding up."""
    return _shown(operate.cancel(service(), onboarding_id, g.actor)), 202


@blueprint.post("/onboardings/<onboarding_id>/retry")
@allow("operator")
@described("retryOnboarding", {202: Answer("It goes on.", "Onboarding")}, 404, 409, 422)
def retry(onboarding_id: str) -> ResponseReturnValue:
    """Go on where it stopped."""
    return _shown(operate.retry(service(), onboarding_id, g.actor)), 202


@blueprint.post("/onboardings/<onboarding_id>/resubmission")
@allow("operator")
@described("askForResubmission", {202: Answer("The next round.", "Onboarding")}, 404, 409, 422, body="Resubmission")
def ask_for_resubmission(onboarding_id: str) -> ResponseReturnValue:
    """Ask the user to submit again: `{"reason": …}`."""
    reason = json_object(LARGEST_JSON).get("reason")
    return _shown(operate.ask_for_resubmission(service(), onboarding_id, reason, g.actor)), 202


@blueprint.post("/onboardings/<onboarding_id>/link")
@allow(*_BOTH)
@described("renewLink", {200: Answer("The onboarding with its new link.", "Onboarding")}, 404, 409)
def renew_link(onboarding_id: str) -> dict[str, Any]:
    """A new `uploadUrl`; the old one stops working."""
    return _shown(collect.renew_link(service(), onboarding_id, g.actor))


@blueprint.get("/onboardings/<onboarding_id>/transitions")
@allow(*_BOTH)
@described("listTransitions", {200: Answer("The chain.", "Transitions")}, 404)
def transitions(onboarding_id: str) -> dict[str, Any]:
    """The chain, oldest first."""
    context = service()
    rows = look.transitions(context, look.find(context, onboarding_id))
    return {"items": [transition_json(row) for row in rows]}


@blueprint.get("/onboardings/<onboarding_id>/callbacks")
@allow("operator")
@described("listCallbacks", {200: Answer("The webhooks.", "Callbacks")}, 404)
def callbacks(onboarding_id: str) -> dict[str, Any]:
    """OSL Pay's webhooks and what was made of each."""
    context = service()
    rows = look.callbacks(context, look.find(context, onboarding_id))
    return {"items": [callback_json(row) for row in rows]}


@blueprint.get("/onboardings/<onboarding_id>/deliveries")
@allow("operator")
@described("listDeliveries", {200: Answer("The notifications.", "Deliveries")}, 404)
def deliveries(onboarding_id: str) -> dict[str, Any]:
    """The notifications to the merchant."""
    context = service()
    rows = look.deliveries(context, look.find(context, onboarding_id))
    return {"items": [delivery_json(row) for row in rows]}


@blueprint.post("/deliveries/<delivery_id>/resend")
@allow("operator")
@described("resendDelivery", {202: Answer("It is back in line.", "Delivery")}, 404, 409)
def resend_delivery(delivery_id: str) -> ResponseReturnValue:
    """Send a notification again."""
    context = service()
    operate.resend_delivery(context, delivery_id)
    return delivery_json(look.delivery(context, delivery_id)), 202


@blueprint.get("/onboardings/<onboarding_id>/authorization")
@allow("operator")
@described("getAuthorization", {200: Answer("BTSE Pay's data.", "BtseAuthorization")}, 404, 502)
def authorization(onboarding_id: str) -> dict[str, Any]:
    """BTSE Pay's Get Authorization Information."""
    return dict(operate.authorization(service(), onboarding_id))


@blueprint.post("/onboardings/<onboarding_id>/authorization/cancel")
@allow("operator")
@described(
    "cancelAuthorization",
    {200: Answer("BTSE Pay's data.", "BtseAuthorization")},
    404,
    409,
    422,
    502,
    body="AuthorizationCancel",
)
def cancel_authorization(onboarding_id: str) -> dict[str, Any]:
    """BTSE Pay's Cancel Authorization: `{"userKey": …}`."""
    user_key = json_object(LARGEST_JSON).get("userKey")
    return dict(operate.cancel_authorization(service(), onboarding_id, user_key))


def _shown(onboarding: Onboarding) -> dict[str, Any]:
    return onboarding_json(look.view(service(), onboarding), with_link=True, with_error=_is_operator())


def _is_operator() -> bool:
    return bool(g.role == "operator")


def _check_query() -> None:
    """Raises InvalidInput for a misspelt filter, which would otherwise list everybody, and for one given twice."""
    faults = {}
    for name, values in request.args.lists():
        if name not in OnboardingQuerySchema._declared_fields:
            faults[name[:64]] = ["is not a parameter"]
        elif len(values) > 1:
            faults[name] = ["may be given once"]
    if faults:
        raise InvalidInput("the query is not valid", faults)


def _limit() -> int:
    text = request.args.get("limit", "50")
    if not text.isascii() or not text.isdigit() or len(text) > 3 or not 1 <= int(text) <= 200:
        raise InvalidInput("the query is not valid", {"limit": ["must be 1 to 200"]})
    return int(text)
