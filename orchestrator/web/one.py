"""The page of one onboarding: what now, its timeline, what the merchant was told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Blueprint, g, render_template, request
from flask.typing import ResponseReturnValue

from orchestrator.machine import TABLE, CellKind, Event
from orchestrator.onboarding import look
from orchestrator.onboarding.collect import link_refused
from orchestrator.onboarding.outlook import PROVIDERS, hurry_refused, outlook
from orchestrator.onboarding.profile import PAGE_FIELDS
from orchestrator.records import DeliveryStatus, Onboarding
from orchestrator.web import words
from orchestrator.web.auth import service
from orchestrator.web.listing import list_query
from orchestrator.web.live import live_page
from orchestrator.web.session import require_page_role
from orchestrator.web.timeline import timeline

blueprint = Blueprint("one", __name__)
_EVENTS = {
    "retry": Event.RETRIED,
    "resubmission": Event.RESUBMISSION_ASKED,
    "cancel": Event.CANCEL_ASKED,
}


@blueprint.url_defaults
def _from_the_same_list(endpoint: str, values: dict[str, Any]) -> None:
    """Every link to the page of one carries the list that it was reached from, so that one finds the way back."""
    del endpoint
    for name, value in list_query().items():
        values.setdefault(name, value)


@blueprint.get("/status/onboardings/<onboarding_id>")
@require_page_role("viewer")
def onboarding(onboarding_id: str) -> ResponseReturnValue:
    """One onboarding."""
    values = _values(onboarding_id)
    return live_page("onboarding.html", done=words.DONE.get(request.args.get("done", "")), **values)


def answer(onboarding_id: str, **said: Any) -> str:
    """The page as the answer to a form: with a `problem`, or with what is `personal`. It does not stay up to date."""
    return render_template("onboarding.html", words=words, **_values(onboarding_id), **said)


def _values(onboarding_id: str) -> dict[str, Any]:
    context = service()
    now = context.now_ms()
    view = look.view(context, look.find(context, onboarding_id))
    row = view.onboarding
    operator = g.session.role == "operator"
    around = look.circumstances(context, view, now)
    return {
        "row": row,
        "view": view,
        "outlook": outlook(row, around),
        "can": _can(row, now) if operator else {},
        "operator": operator,
        "link": view.upload_url if operator and link_refused(row) is None else None,
        "last_error": view.last_error if operator else None,
        "fields": _fields(view),
        "timeline": timeline(around.transitions, around.callbacks),
        "deliveries": around.deliveries,
        "finished": (DeliveryStatus.DELIVERED, DeliveryStatus.FAILED) if operator else (),
        "providers": PROVIDERS,
        "here": list_query(),
        "now": now,
    }


def _can(row: Onboarding, now: int) -> Mapping[str, bool]:
    """What an operator may do now: what the machine allows, and what does no harm."""
    allowed = {name: TABLE[event][row.state].kind is not CellKind.REFUSE for name, event in _EVENTS.items()}
    return {
        **allowed,
        "hurry": hurry_refused(row, now) is None,
        "link": link_refused(row) is None,
        "reveal": row.profile_deleted_at is None,
    }


def _fields(view: look.View) -> dict[str, bool]:
    """Names of fields and whether they are there: what there is, and what is missing to submit."""
    missing = {path.removeprefix("profile.") for path in view.missing if not path.startswith("documents.")}
    order = sorted(view.fields_present | missing, key=lambda name: (name not in PAGE_FIELDS, name.casefold()))
    return {name: name in view.fields_present for name in order}
