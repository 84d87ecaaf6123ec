"""The overview: the whole installation at a glance."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, g
from flask.typing import ResponseReturnValue

from orchestrator.onboarding.outlook import PROVIDERS
from orchestrator.onboarding.overview import overview
from orchestrator.web import charts, picture, words
from orchestrator.web.auth import service
from orchestrator.web.live import live_page
from orchestrator.web.session import require_page_role

blueprint = Blueprint("pages", __name__)
for _filter in (
    words.label,
    words.tone,
    words.moment,
    words.minute,
    words.size,
    words.span,
    words.ago,
    words.sentence,
    words.capital,
    words.with_code,
):
    blueprint.add_app_template_filter(_filter)


@blueprint.get("/status")
@require_page_role("viewer")
def status() -> ResponseReturnValue:
    """Counts, flow, health, what needs a person and what is stuck."""
    context = service()
    seen = overview(context)
    return live_page(
        "status.html",
        context.now_ms(),
        seen=seen,
        total=sum(seen.counts.values()),
        picture=picture.picture(),
        size=(picture.WIDTH, picture.HEIGHT),
        charts={"hours": charts.flow_chart(seen.hours), "days": charts.flow_chart(seen.days)},
        took=charts.histogram(seen.took),
        chart_size=(charts.WIDTH, charts.HEIGHT),
        providers=PROVIDERS,
    )


def _globals() -> dict[str, Any]:
    return {"signed_in": g.get("session")}


blueprint.app_context_processor(_globals)
