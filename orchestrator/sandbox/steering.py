"""`/sandbox/…`: what was received, and the levers that tests pull. No provider has anything like it."""

from __future__ import annotations

import json
from typing import Any

from flask import Blueprint, Response, abort, jsonify, request

from orchestrator.sandbox.clock import Clock
from orchestrator.sandbox.faults import Faults
from orchestrator.sandbox.journal import Journal, SlidingSecond
from orchestrator.sandbox.people import People, Person, Standing
from orchestrator.sandbox.webhooks import PostOffice, Webhook


def steering(
    clock: Clock, journal: Journal, rate: SlidingSecond, people: People, office: PostOffice, faults: Faults
) -> Blueprint:
    """The routes below `/sandbox`."""
    routes = Blueprint("steering", __name__, url_prefix="/sandbox")

    @routes.get("/requests")
    def requests_received() -> Response:
        return jsonify(journal.calls(request.args.get("operation"), request.args.get("merchantUserId")))

    @routes.get("/webhooks")
    def webhooks_sent() -> Response:
        skip = request.args.get("skip", 0, int)
        return jsonify(journal.webhooks(request.args.get("merchantUserId"))[max(0, skip) :])

    @routes.get("/summary")
    def summary() -> Response:
        return jsonify(
            {
                **journal.counts(),
                "mostOslRequestsInASecond": rate.most,
                "rateViolations": rate.violations,
                "webhooks": journal.webhooks(),
            }
        )

    @routes.post("/faults")
    def add_fault() -> tuple[str, int]:
        wanted = _object()
        try:
            if "clockOffsetMs" in wanted:
                clock.offset_ms = int(wanted.pop("clockOffsetMs"))
            faults.add(wanted)
        except (ValueError, TypeError) as error:
            abort(_problem(str(error)))
        return "", 204

    @routes.delete("/faults")
    def clear_faults() -> tuple[str, int]:
        clock.offset_ms = 0
        faults.clear()
        return "", 204

    @routes.post("/sign")
    def sign() -> Response:
        return jsonify(office.headers(str(_object().get("timestamp") or clock.now_ms())))

    @routes.post("/webhooks")
    def send_webhook() -> Response:
        sent = office.deliver(_wanted_webhook(_object(), clock, people, office), again=False)
        return jsonify(sent.as_json())

    @routes.post("/users/<path:merchant_user_id>")
    def pin_status(merchant_user_id: str) -> tuple[str, int]:
        wanted = _object()
        if "kycStatus" not in wanted:
            abort(_problem("kycStatus is wanted: a string, or null for a user that is not known"))
        person = people.see(merchant_user_id)
        people.register(person)
        person.pinned = Standing(0.0, wanted["kycStatus"], str(wanted.get("rejectReason", "")))
        return "", 204

    @routes.delete("/users/<path:merchant_user_id>")
    def unpin_status(merchant_user_id: str) -> tuple[str, int]:
        people.see(merchant_user_id).pinned = None
        return "", 204

    return routes


def _wanted_webhook(wanted: dict[str, Any], clock: Clock, people: People, office: PostOffice) -> Webhook:
    merchant_user_id = wanted.get("merchantUserId")
    person = people.find(merchant_user_id) if merchant_user_id else None
    url = wanted.get("url") or (person.share.callback_url if person and person.share else None)
    if not url:
        abort(_problem("url is wanted, or the merchantUserId of a user who was shared with a callbackUrl"))
    timestamp = str(wanted.get("timestamp") or _fresh_timestamp(clock, person))
    body = wanted.get("body")
    if body is None:
        if person is None or "kycStatus" not in wanted:
            abort(_problem("body is wanted, or the merchantUserId of a known user and a kycStatus"))
        kyc_status, reason = str(wanted["kycStatus"]), str(wanted.get("reason", ""))
        return office.status_change(
            url, person.merchant_user_id, people.register(person), kyc_status, reason, timestamp
        )
    raw = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False)
    headers = {**office.headers(timestamp), **wanted.get("headers", {})}
    return Webhook(merchant_user_id, url, wanted.get("kycStatus"), timestamp, headers, raw.encode())


def _fresh_timestamp(clock: Clock, person: Person | None) -> int:
    if person is None:
        return clock.now_ms()
    person.last_timestamp = max(clock.now_ms(), person.last_timestamp + 1)
    return person.last_timestamp


def _object() -> dict[str, Any]:
    body = request.get_json(silent=True)
    if not isinstance(body, dict):
        abort(_problem("a JSON object is wanted"))
    return body


def _problem(detail: str) -> Response:
    response = jsonify({"title": "Bad Request", "status": 400, "detail": detail})
    response.status_code = 400
    response.content_type = "application/problem+json"
    return response
