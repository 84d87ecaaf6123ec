"""The API's description as JSON, and the same for people: one page without a script or another host."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from flask import Blueprint, Response, current_app, render_template
from markupsafe import Markup, escape

from orchestrator.web.auth import open_to
from orchestrator.web.described import BEARER, JSON, Answer, described

blueprint = Blueprint("reference", __name__)


@dataclass(frozen=True)
class Operation:
    """One operation as the page shows it."""

    method: str
    path: str
    said: Mapping[str, Any]


@blueprint.get("/openapi.json")
@open_to("anyone: it says what may be asked, not what is there")
@described("getDescription", {200: Answer("OpenAPI 3.1.", "OpenApi")})
def description() -> Response:
    """This description."""
    return Response(json.dumps(_description()), mimetype=JSON)


@blueprint.get("/docs")
@open_to("anyone: the same as a page")
def page() -> str:
    """The description as a page."""
    spec = _description()
    return render_template(
        "reference.html",
        spec=spec,
        operations=list(_operations(spec)),
        shapes=spec["components"]["schemas"],
        errors={
            name.removeprefix("Error"): answer["description"]
            for name, answer in spec["components"]["responses"].items()
        },
    )


def _description() -> Mapping[str, Any]:
    return cast(Mapping[str, Any], current_app.extensions["openapi"])


def _operations(spec: Mapping[str, Any]) -> Iterator[Operation]:
    for path, methods in spec["paths"].items():
        for method, said in methods.items():
            yield Operation(method.upper(), path, said)


def shape_name(shape: Mapping[str, Any]) -> str:
    """What a member is, in a few words: the name of a component, a list of them, or its type."""
    if "$ref" in shape:
        return str(shape["$ref"]).rpartition("/")[2]
    if "items" in shape:
        return f"list of {shape_name(shape['items'])}"
    if "anyOf" in shape:
        return " or ".join(dict.fromkeys(shape_name(part) for part in shape["anyOf"]))
    kind = shape.get("type", shape.get("format", "any"))
    return " or ".join(kind) if isinstance(kind, list) else str(kind)


def shape_limits(shape: Mapping[str, Any]) -> str:
    """What a member may hold beyond its type."""
    said = []
    if "enum" in shape:
        said.append(", ".join("null" if word is None else str(word) for word in shape["enum"]))
    if "const" in shape:
        said.append(str(shape["const"]))
    if "format" in shape:
        said.append(str(shape["format"]))
    if "minLength" in shape or "maxLength" in shape:
        said.append(f"{shape.get('minLength', 0)} to {shape.get('maxLength', 'any')} characters")
    if "minimum" in shape or "maximum" in shape:
        said.append(f"{shape.get('minimum', '')} to {shape.get('maximum', 'any number')}".strip())
    return "; ".join(said)


def coded(text: str) -> Markup:
    """Text in which what stands between backticks is code."""
    parts = [escape(part) for part in text.split("`")]
    return Markup().join(Markup("<code>{}</code>").format(part) if n % 2 else part for n, part in enumerate(parts))


def callers(operation: Operation) -> str:
    """Who may call, in words."""
    schemes = operation.said["security"]
    roles = [role for scheme in schemes for role in scheme.get(BEARER, [])]
    if roles:
        return f"a token of the role {' or '.join(roles)}"
    return f"who signs: {', '.join(schemes[0])}" if schemes else "anyone"


for _filter in (shape_name, shape_limits, coded, callers):
    blueprint.add_app_template_filter(_filter)
