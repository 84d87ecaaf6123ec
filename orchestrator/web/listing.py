"""The list of onboardings: filtered, sorted, page by page; several at once; as CSV."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from flask import Blueprint, Response, g, render_template, request, url_for
from flask.typing import ResponseReturnValue

from orchestrator.errors import Conflict, InvalidInput, NotFound
from orchestrator.machine import State
from orchestrator.onboarding import listing, look, operate
from orchestrator.onboarding.context import Context
from orchestrator.onboarding.cursor import read
from orchestrator.onboarding.outlook import WAITS, due_words, waits_for
from orchestrator.records import Onboarding, Verdict
from orchestrator.web import words
from orchestrator.web.auth import service
from orchestrator.web.export import csv_lines
from orchestrator.web.live import live_page
from orchestrator.web.session import require_page_role

blueprint = Blueprint("listing", __name__)

ROWS = 50
_FILTERS = ("state", "verdict", "age", "sort", "q")
_VERBS: Mapping[str, Callable[[Context, str, str], Onboarding]] = {"retry": operate.retry, "cancel": operate.cancel}


@dataclass(frozen=True)
class Outcome:
    """What became of one of several: its name, and what kept the verb from being done."""

    id: str
    name: str
    state: State | None
    problem: str = ""


@blueprint.get("/status/onboardings")
@require_page_role("viewer")
def onboardings() -> ResponseReturnValue:
    """A page of onboardings."""
    context = service()
    asked, wanted = _asked()
    cursor = request.args.get("cursor", "")
    rows, following = listing.page(context, wanted, cursor, ROWS, by_email=g.session.role == "operator")
    return live_page(
        "list.html",
        context.now_ms(),
        rows=rows,
        asked=asked,
        kept={name: value for name, value in asked.items() if value},
        here=list_query(),
        cursor=cursor,
        following=following,
        states=look.counts(context),
        verdicts=[verdict for verdict in Verdict if verdict not in (Verdict.DUPLICATE, Verdict.ORPHAN)],
        operator=g.session.role == "operator",
        waits=WAITS,
        waits_for=waits_for,
        due_words=due_words,
    )


@blueprint.get("/status/onboardings.csv")
@require_page_role("viewer")
def export() -> ResponseReturnValue:
    """All that the list shows, as CSV."""
    context = service()
    _, wanted = _asked()
    rows = listing.every(context, wanted, by_email=g.session.role == "operator")
    disposition = {"Content-Disposition": 'attachment; filename="onboardings.csv"'}
    return Response(csv_lines(rows), mimetype="text/csv", headers=disposition)


@blueprint.post("/status/onboardings")
@require_page_role("operator")
def act_on_several() -> ResponseReturnValue:
    """Retry or cancel those that were selected; each alone, and what became of each is shown."""
    name = request.form.get("action", "")
    if name not in _VERBS:
        raise InvalidInput("the form is not valid", {"action": [f"must be one of {', '.join(_VERBS)}"]})
    ids = list(dict.fromkeys(request.form.getlist("id")))
    if not ids:
        back = ("Back to the list", url_for("listing.onboardings", **list_query()))
        detail = f"Tick one or more onboardings in the list, then press “{words.label(name)}”."
        return render_template("message.html", title="Nothing selected", detail=detail, back=back), 422
    if len(ids) > ROWS:
        raise InvalidInput(f"select 1 to {ROWS} onboardings", {"id": [f"must be 1 to {ROWS} ids"]})
    outcomes = [_act(name, onboarding_id) for onboarding_id in ids]
    return render_template("several.html", name=name, outcomes=outcomes, here=list_query(), words=words)


def list_query() -> dict[str, Any]:
    """The list that this request's page was reached from, or is: its filters and page; {} for all, or none valid."""
    if "list_query" not in g:
        kept = {name: request.args.get(name, "").strip() for name in (*_FILTERS, "cursor")}
        g.list_query = {name: value for name, value in kept.items() if value}
        try:
            _asked()
            if kept["cursor"]:
                read(kept["cursor"], "onb_", "cbk_")
        except InvalidInput:
            g.list_query = {}
    return cast(dict[str, Any], g.list_query)


def _act(name: str, onboarding_id: str) -> Outcome:
    try:
        row = _VERBS[name](service(), onboarding_id, g.actor)
    except NotFound as error:
        return Outcome("", onboarding_id[:40], None, str(error))
    except (Conflict, InvalidInput) as error:
        row = look.find(service(), onboarding_id)
        return Outcome(row.id, row.merchant_user_id, row.state, words.problem(error))
    return Outcome(row.id, row.merchant_user_id, row.state)


def _asked() -> tuple[dict[str, str], listing.Wanted]:
    """The filters as they were sent, and checked. Raises InvalidInput."""
    asked = {name: request.args.get(name, "").strip() for name in _FILTERS}
    wanted = listing.wanted(
        state=asked["state"], verdict=asked["verdict"], age=asked["age"], order=asked["sort"], query=asked["q"]
    )
    return asked, wanted
