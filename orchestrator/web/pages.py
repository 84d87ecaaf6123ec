"""The status pages: all onboardings, one onboarding, and what operators may do to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, g, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from orchestrator.errors import Conflict, InvalidInput
from orchestrator.machine import CLOSED, TABLE, CellKind, Event, State
from orchestrator.onboarding import collect, look, operate
from orchestrator.onboarding.profile import PAGE_FIELDS
from orchestrator.records import Callback, DeliveryStatus, Onboarding, Transition
from orchestrator.web import words
from orchestrator.web.auth import service
from orchestrator.web.session import require_page_role

blueprint = Blueprint("pages", __name__)
for _filter in (words.label, words.tone, words.moment, words.minute, words.size):
    blueprint.add_app_template_filter(_filter)

ROWS = 50
_EVENTS = {
    "retry": Event.RETRIED,
    "resubmission": Event.RESUBMISSION_ASKED,
    "cancel": Event.CANCEL_ASKED,
}


@dataclass(frozen=True)
class Moment:
    """One line of the timeline. `verdict`: set for a callback, whose `seen` says how often it came."""

    at: int
    title: str
    text: str
    round: int | None
    source: str
    state: State | None = None
    verdict: str | None = None
    seen: int = 1


@blueprint.get("/status")
@require_page_role("viewer")
def status() -> ResponseReturnValue:
    """Counts, warnings, providers' health, and a page of onboardings, newest first."""
    context = service()
    asked = {name: request.args.get(name, "").strip() for name in ("state", "q", "cursor")}
    rows, following = look.page(
        context,
        asked["state"] or None,
        asked["q"] or None,
        asked["cursor"] or None,
        ROWS,
        by_email=g.session.role == "operator",
    )
    counts = look.counts(context)
    beat, now = look.last_beat(context), context.now_ms()
    return render_template(
        "status.html",
        rows=rows,
        asked=asked,
        following=following,
        counts=counts,
        total=sum(counts.values()),
        warnings=look.warnings(context),
        providers=look.health(context),
        beat=beat,
        silent=beat is None or now - beat > context.timings.worker_silent,
        now=now,
        words=words,
    )


@blueprint.get("/status/onboardings/<onboarding_id>")
@require_page_role("viewer")
def onboarding(onboarding_id: str) -> ResponseReturnValue:
    """One onboarding."""
    return _page(onboarding_id, done=words.DONE.get(request.args.get("done", "")))


@blueprint.post("/status/onboardings/<onboarding_id>/retry")
@require_page_role("operator")
def retry(onboarding_id: str) -> ResponseReturnValue:
    """Go on where it stopped."""
    return _do("retry", onboarding_id, lambda: operate.retry(service(), onboarding_id, g.actor))


@blueprint.post("/status/onboardings/<onboarding_id>/cancel")
@require_page_role("operator")
def cancel(onboarding_id: str) -> ResponseReturnValue:
    """Give it up."""
    return _do("cancel", onboarding_id, lambda: operate.cancel(service(), onboarding_id, g.actor))


@blueprint.post("/status/onboardings/<onboarding_id>/resubmission")
@require_page_role("operator")
def ask_for_resubmission(onboarding_id: str) -> ResponseReturnValue:
    """Ask the user to submit again, for the form's `reason`."""
    reason = request.form.get("reason", "")
    act = operate.ask_for_resubmission
    return _do("resubmission", onboarding_id, lambda: act(service(), onboarding_id, reason, g.actor))


@blueprint.post("/status/onboardings/<onboarding_id>/link")
@require_page_role("operator")
def renew_link(onboarding_id: str) -> ResponseReturnValue:
    """A new link for the end user."""
    return _do("link", onboarding_id, lambda: collect.renew_link(service(), onboarding_id, g.actor))


@blueprint.post("/status/deliveries/<delivery_id>/resend")
@require_page_role("operator")
def resend(delivery_id: str) -> ResponseReturnValue:
    """Tell the merchant once more."""
    onboarding_id = operate.resend_delivery(service(), delivery_id)
    return redirect(url_for("pages.onboarding", onboarding_id=onboarding_id, done="resend"), 303)


def _do(code: str, onboarding_id: str, act: Callable[[], object]) -> ResponseReturnValue:
    """Back to the page with `code`; where `act` is not possible, the page says why."""
    try:
        act()
    except Conflict as error:
        return _page(onboarding_id, problem=_sentence(str(error))), 409
    except InvalidInput as error:
        faults = "; ".join(f"{path} {messages[0]}" for path, messages in error.errors.items())
        return _page(onboarding_id, problem=_sentence(f"{error}: {faults}")), 422
    return redirect(url_for("pages.onboarding", onboarding_id=onboarding_id, done=code), 303)


def _page(onboarding_id: str, **said: str | None) -> str:
    context = service()
    view = look.view(context, look.find(context, onboarding_id))
    row = view.onboarding
    operator = g.session.role == "operator"
    return render_template(
        "onboarding.html",
        row=row,
        view=view,
        can=_can(row) if operator else {},
        link=view.upload_url if operator and row.state not in CLOSED else None,
        last_error=view.last_error if operator else None,
        fields=_fields(view),
        timeline=_timeline(look.transitions(context, row), look.callbacks(context, row)),
        deliveries=look.deliveries(context, row),
        finished=(DeliveryStatus.DELIVERED, DeliveryStatus.FAILED) if operator else (),
        now=context.now_ms(),
        words=words,
        **said,
    )


def _can(row: Onboarding) -> Mapping[str, bool]:
    """What the machine lets an operator do now."""
    allowed = {name: TABLE[event][row.state].kind is not CellKind.REFUSE for name, event in _EVENTS.items()}
    return {**allowed, "link": row.state not in CLOSED}


def _fields(view: look.View) -> dict[str, bool]:
    """Names of fields and whether they are there: what there is, and what is missing to submit."""
    missing = {path.removeprefix("profile.") for path in view.missing if not path.startswith("documents.")}
    order = sorted(view.fields_present | missing, key=lambda name: (name not in PAGE_FIELDS, name.casefold()))
    return {name: name in view.fields_present for name in order}


def _timeline(transitions: list[Transition], callbacks: list[Callback]) -> list[Moment]:
    """What happened, oldest first; a callback stands before what it led to."""
    moments: list[tuple[tuple[int, int, int], Moment]] = []
    for number, callback in enumerate(callbacks):
        moments.append(((callback.received_at, 0, number), _of_callback(callback)))
    for row in transitions:
        moments.append(((row.at, 1, row.seq), _of_transition(row)))
    return [moment for _, moment in sorted(moments, key=lambda pair: pair[0])]


def _of_callback(row: Callback) -> Moment:
    title = f"Webhook {row.kyc_status or row.type}"
    return Moment(row.received_at, title, words.VERDICTS[row.verdict], row.round, "osl", None, row.verdict, row.seen)


def _of_transition(row: Transition) -> Moment:
    moved = row.to_state if row.from_state is not row.to_state else None
    text = " ".join(part for part in (row.event.meaning, row.detail and f"({row.detail})") if part)
    return Moment(row.at, words.label(row.event), text, row.round, row.actor, moved)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _globals() -> dict[str, Any]:
    return {"signed_in": g.get("session")}


blueprint.app_context_processor(_globals)
