"""What operators do on the pages: each form one verb of the service, then back to the page with what became of it."""

from __future__ import annotations

from collections.abc import Callable

from flask import Blueprint, g, redirect, request, url_for
from flask.typing import ResponseReturnValue

from orchestrator.errors import Conflict, InvalidInput
from orchestrator.onboarding import collect, operate
from orchestrator.web import words
from orchestrator.web.auth import service
from orchestrator.web.one import answer
from orchestrator.web.session import require_page_role

blueprint = Blueprint("actions", __name__)


@blueprint.post("/status/onboardings/<onboarding_id>/retry")
@require_page_role("operator")
def retry(onboarding_id: str) -> ResponseReturnValue:
    """Go on where it stopped."""
    return _do("retry", onboarding_id, lambda: operate.retry(service(), onboarding_id, g.actor))


@blueprint.post("/status/onboardings/<onboarding_id>/hurry")
@require_page_role("operator")
def hurry(onboarding_id: str) -> ResponseReturnValue:
    """Take the next step now."""
    return _do("hurry", onboarding_id, lambda: operate.hurry(service(), onboarding_id, g.actor))


@blueprint.post("/status/onboardings/<onboarding_id>/cancel")
@require_page_role("operator")
def cancel(onboarding_id: str) -> ResponseReturnValue:
    """Give it up."""
    return _do("cancel", onboarding_id, lambda: operate.cancel(service(), onboarding_id, g.actor))


@blueprint.post("/status/onboardings/<onboarding_id>/resubmission")
@require_page_role("operator")
def resubmission(onboarding_id: str) -> ResponseReturnValue:
    """Ask the user to submit again, for the form's `reason`."""
    reason = request.form.get("reason", "")
    act = operate.ask_for_resubmission
    return _do("resubmission", onboarding_id, lambda: act(service(), onboarding_id, reason, g.actor))


@blueprint.post("/status/onboardings/<onboarding_id>/link")
@require_page_role("operator")
def link(onboarding_id: str) -> ResponseReturnValue:
    """A new link for the end user."""
    return _do("link", onboarding_id, lambda: collect.renew_link(service(), onboarding_id, g.actor))


@blueprint.post("/status/onboardings/<onboarding_id>/reveal")
@require_page_role("operator")
def reveal(onboarding_id: str) -> ResponseReturnValue:
    """The personal data, in this one answer; who looked is on record first."""
    try:
        email, profile = operate.reveal(service(), onboarding_id, g.actor)
    except Conflict as error:
        return answer(onboarding_id, problem=words.problem(error)), 409
    return answer(onboarding_id, personal={"email": email, **profile})


@blueprint.post("/status/deliveries/<delivery_id>/resend")
@require_page_role("operator")
def resend(delivery_id: str) -> ResponseReturnValue:
    """Tell the merchant once more."""
    onboarding_id = operate.resend_delivery(service(), delivery_id)
    return redirect(url_for("one.onboarding", onboarding_id=onboarding_id, done="resend"), 303)


def _do(code: str, onboarding_id: str, act: Callable[[], object]) -> ResponseReturnValue:
    """Back to the page with `code`; where `act` is not possible, the page says why."""
    try:
        act()
    except Conflict as error:
        return answer(onboarding_id, problem=words.problem(error)), 409
    except InvalidInput as error:
        return answer(onboarding_id, problem=words.problem(error)), 422
    return redirect(url_for("one.onboarding", onboarding_id=onboarding_id, done=code), 303)
