"""OSL Pay's webhooks: raw bytes and headers go to the service, which verifies."""

from __future__ import annotations

from flask import Blueprint, Response, request

from orchestrator.onboarding import receive
from orchestrator.web.auth import open_to, service
from orchestrator.web.bodies import raw_body
from orchestrator.web.described import OSL_SIGNATURE, Answer, described

blueprint = Blueprint("callbacks", __name__, url_prefix="/callbacks")
_HEADERS = ("appId", "timestamp", "signature")
_DONE = b'{"code":"00000","msg":"success"}'
_RECEIVED = {200: Answer("It is stored and judged, whatever was made of it.", "Received")}


@blueprint.post("/oslpay/<token>")
@open_to("whoever signs with OSL Pay's key")
@described("receiveCallback", _RECEIVED, 404, body="OslWebhook", signature=OSL_SIGNATURE)
def receive_addressed(token: str) -> Response:
    """A webhook at the callbackUrl of one round."""
    return _receive(token)


@blueprint.post("/oslpay")
@open_to("whoever signs with OSL Pay's key")
@described("receiveUnaddressedCallback", _RECEIVED, body="OslWebhook", signature=OSL_SIGNATURE)
def receive_unaddressed() -> Response:
    """A webhook at the merchant-wide URL."""
    return _receive(None)


def _receive(token: str | None) -> Response:
    body = raw_body(receive.LARGEST_BODY)
    headers = {name: request.headers.get(name, "") for name in _HEADERS}
    receive.receive(service(), token, headers, body)
    return Response(_DONE, mimetype="application/json")
