"""The API's description as JSON, and the same for people: one page without a script or another host."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from flask import Blueprint, Response, current_app, render_template
from markupsafe import Markup

from orchestrator.onboarding.profile import PRINTABLE
from orchestrator.web.auth import open_to
from orchestrator.web.described import BEARER, JSON, Answer, described
from orchestrator.web.words import marked

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


def members(shape: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The members of a shape. The component that one may be by an alternative of the shape is one of its own too."""
    alternatives = [part.get("properties", {}) for part in shape.get("anyOf", ())]
    found = {}
    for name, member in shape["properties"].items():
        components = [its[name] for its in alternatives if "$ref" in its.get(name, {})]
        found[name] = {**member, "anyOf": [*components, member]} if components else member
    return found


def shape_name(shape: Mapping[str, Any]) -> str:
    """What a member is, in a few words: a component, between backticks; a list of them; or its type."""
    if "$ref" in shape:
        return f"`{shape['$ref'].rpartition('/')[2]}`"
    if "items" in shape:
        return f"list of {shape_name(shape['items'])}"
    if "anyOf" in shape:
        return " or ".join(dict.fromkeys(shape_name(part) for part in shape["anyOf"]))
    kind = shape.get("type", shape.get("format", "any"))
    return " or ".join(kind) if isinstance(kind, list) else str(kind)


def shape_limits(shape: Mapping[str, Any]) -> str:
    """What a member may hold beyond its type; code is between backticks. That texts are printable is said elsewhere."""
    said = []
    if "enum" in shape:
        said.append(", ".join({None: "null", "": "or empty"}.get(word, str(word)) for word in shape["enum"]))
    if "const" in shape:
        said.append(str(shape["const"]))
    if "format" in shape:
        said.append(str(shape["format"]))
    if "minLength" in shape or "maxLength" in shape:
        said.append(f"{shape.get('minLength', 0)} to {shape.get('maxLength', 'any')} characters")
    if "minimum" in shape or "maximum" in shape:
        said.append(f"{shape.get('minimum', '')} to {shape.get('maximum', 'any number')}".strip())
    if shape.get("pattern", PRINTABLE) != PRINTABLE:
        said.append(f"pattern `{shape['pattern']}`")
    return "; ".join(said)


def linked(shape: Mapping[str, Any]) -> Markup:
    """What a member is, with links to where the page has the components."""
    return marked(shape_name(shape), Markup('<a href="#{0}">{0}</a>'))


def callers(operation: Operation, schemes: Mapping[str, Any]) -> str:
    """Who may call, in words. `schemes`: what the credentials are, by their names in the description."""
    needed = operation.said["security"]
    roles = [role for scheme in needed for role in scheme.get(BEARER, [])]
    if roles:
        return f"a token of the role {' or '.join(roles)}"
    headers = [f"`{schemes[name]['name']}`" for scheme in needed for name in scheme]
    return f"whoever signs, in the headers {', '.join(headers)}" if headers else "anyone"


for _filter in (members, shape_limits, linked, callers):
    blueprint.add_app_template_filter(_filter)
