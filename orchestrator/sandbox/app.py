"""The Flask app: both providers below their prefixes, and the levers."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import IO, Any

from flask import Flask, Request, Response
from werkzeug.exceptions import RequestEntityTooLarge

from orchestrator.sandbox.btse import Btse
from orchestrator.sandbox.clock import Clock
from orchestrator.sandbox.envelopes import Answer, Provider, Refusal, unknown_path
from orchestrator.sandbox.faults import Faults
from orchestrator.sandbox.journal import Call, Journal, SlidingSecond
from orchestrator.sandbox.narrator import Narrator
from orchestrator.sandbox.operations import Desk, Operation
from orchestrator.sandbox.osl import Osl
from orchestrator.sandbox.people import People
from orchestrator.sandbox.schedule import Schedule
from orchestrator.sandbox.settings import SandboxSettings
from orchestrator.sandbox.steering import steering
from orchestrator.sandbox.webhooks import PostOffice

LARGEST_REQUEST = 64_000_000
LARGEST_TEXT = 1_000_000


class InMemoryRequest(Request):
    """Keeps uploaded parts in memory: identity documents are never spooled to a temporary file."""

    def _get_file_stream(
        self,
        total_content_length: int | None,
        content_type: str | None,
        filename: str | None = None,
        content_length: int | None = None,
    ) -> IO[bytes]:
        return io.BytesIO()


class Sandbox(Flask):
    """Flask with the request class that keeps files in memory."""

    request_class = InMemoryRequest


def create_app(settings: SandboxSettings) -> Flask:
    """Wire everything. Starts the threads that send webhooks, so it belongs after any fork."""
    app = Sandbox(__name__, static_folder=None)
    app.config.update(MAX_CONTENT_LENGTH=LARGEST_REQUEST, MAX_FORM_MEMORY_SIZE=LARGEST_TEXT, PROPAGATE_EXCEPTIONS=True)
    clock = Clock()
    journal, faults, people = Journal(clock), Faults(), People(clock)
    rate = SlidingSecond(settings.rate, clock)
    schedule = Schedule()
    office = PostOffice(settings, clock, schedule, journal)
    narrator = Narrator(settings, clock, schedule, people, office, faults)
    desk = Desk(clock, journal, rate, people, faults)
    btse = Btse(settings, clock, people)
    osl = Osl(settings, clock, people, narrator, journal)

    routes: list[tuple[str, str, Operation[Any]]] = [
        ("GET", "/btse/payment/pay-api/v1/user/authorization", btse.authorization),
        ("POST", "/btse/payment/pay-api/v1/user/authorization/cancel", btse.cancel),
        ("POST", "/btse/payment/pay-api/v1/user/kyc", btse.upload),
        ("POST", "/osl/api/v1/user/kyc/upload-file", osl.upload),
        ("POST", "/osl/api/v1/user/kyc/share", osl.share),
        ("POST", "/osl/api/v1/user/kyc/status/query", osl.status),
        *((method, "/btse/<path:rest>", _nothing("btse")) for method in ("GET", "POST")),
        *((method, "/osl/<path:rest>", _nothing("osl")) for method in ("GET", "POST")),
    ]
    for method, path, operation in routes:
        app.add_url_rule(path, f"{method} {path}", _view(desk, operation), methods=[method])
    app.register_blueprint(steering(clock, journal, rate, people, office, faults))
    app.register_error_handler(RequestEntityTooLarge, _too_large)
    return app


def _view(desk: Desk, operation: Operation[Any]) -> Callable[..., Response]:
    def view(rest: str = "") -> Response:
        return desk.handle(operation)

    return view


def _nothing(provider: Provider) -> Operation[None]:
    """A path that the provider does not have; it counts against the rate all the same."""

    def read(request: Request, call: Call) -> None:
        call.fields = {"path": request.path}
        raise Refusal(unknown_path(provider))

    def act(wanted: None) -> Answer:
        return unknown_path(provider)

    return Operation(f"{provider}.unknown", provider, read, act)


def _too_large(error: RequestEntityTooLarge) -> tuple[str, int]:
    return "the request is too large", 413
