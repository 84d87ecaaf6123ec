"""The API's description (OpenAPI 3.1), made from the routes, their roles, their docstrings and their schemas."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from flask import Flask
from marshmallow import Schema
from werkzeug.routing import Rule

from orchestrator.onboarding.access import ROLES
from orchestrator.onboarding.profile import DOCUMENT_KINDS, PRINTABLE, ProfileRules
from orchestrator.web import asked, schemas
from orchestrator.web.described import BEARER, JSON, SIGNUP_SIGNATURE, Answer, Described
from orchestrator.web.examples import ERROR_EXAMPLES, EXAMPLES, TOLD_EXAMPLES

PROBLEM = "application/problem+json"
ANYWHERE = (400, 408, 411, 413, 414, 417, 431, 500, 503)
"""What any route may answer."""
ERRORS: Mapping[int, tuple[str, str]] = {
    400: ("Problem", "The request, or a signed body, is not well formed."),
    401: ("Problem", "No valid token or signature."),
    403: ("Problem", "A valid token of another role."),
    404: ("Problem", "There is no such thing."),
    408: ("Problem", "The request did not arrive in time."),
    409: ("Conflict", "The state does not allow it."),
    411: ("Problem", "A body without `Content-Length`."),
    413: ("Problem", "The body is larger than allowed there."),
    414: ("Problem", "The request line is too long."),
    415: ("Problem", "No jpg, png or pdf, by its content."),
    417: ("Problem", "An expectation other than `100-continue`."),
    422: ("Invalid", "The data is not valid, or the body is not JSON."),
    431: ("Problem", "The head is larger than 32 KB."),
    500: ("Problem", "A fault of ours; nothing was stored by the failed write."),
    502: ("ProviderFault", "A provider did not do what was asked."),
    503: ("Problem", "Database or documents cannot be used; `Retry-After` says when to try again."),
}
"""Status → the component that its body is, and what it means."""
_SHAPES: tuple[type[Schema], ...] = (
    schemas.DocumentSchema,
    schemas.LastErrorSchema,
    schemas.OnboardingSchema,
    schemas.ListedOnboardingSchema,
    schemas.OnboardingsSchema,
    schemas.TransitionSchema,
    schemas.TransitionsSchema,
    schemas.CallbackSchema,
    schemas.CallbacksSchema,
    schemas.DeliverySchema,
    schemas.DeliveriesSchema,
    schemas.ProblemSchema,
    schemas.InvalidSchema,
    schemas.ConflictSchema,
    schemas.ProviderFaultSchema,
    asked.ResubmissionSchema,
    asked.AuthorizationCancelSchema,
    asked.CallbackDataSchema,
    asked.ReceivedSchema,
    asked.HealthSchema,
    asked.ReadinessSchema,
    asked.NotificationDataSchema,
    asked.NotificationSchema,
)
"""What is a part of another one stands before it, or it would be added without its description."""
_QUERIES: Mapping[str, type[Schema]] = {"OnboardingQuery": asked.OnboardingQuerySchema}
_TAGS = {
    "api": ("API", "For the merchant's systems and for operators."),
    "hooks": ("Signup hook", "Called by the merchant's backend."),
    "callbacks": ("OSL Pay's webhooks", "Called by OSL Pay."),
    "watch": ("Watching", "For those who keep the service running."),
    "metrics": ("Watching", "For those who keep the service running."),
    "reference": ("Watching", "For those who keep the service running."),
}
_PATH_PARAMETERS: Mapping[str, Mapping[str, Any]] = {
    "kind": {"schema": {"type": "string", "enum": list(DOCUMENT_KINDS)}, "description": "Kind of document."},
    "token": {"schema": {"type": "string"}, "description": "The secret of one round's `callbackUrl`."},
    "id": {"schema": {"type": "string"}, "description": "Id."},
}
_SECURITY: Mapping[str, Mapping[str, str]] = {
    BEARER: {"type": "http", "scheme": "bearer", "description": "`orc_…`, made by `orchestrator token create`."},
    "webhookId": {
        "name": "webhook-id",
        "description": "Standard Webhooks: 1 to 256 characters, the same for all tries.",
    },
    "webhookTimestamp": {
        "name": "webhook-timestamp",
        "description": "Standard Webhooks: seconds, 5 minutes off at most.",
    },
    "webhookSignature": {"name": "webhook-signature", "description": "Standard Webhooks: `v1,` and a base64 HMAC."},
    "oslAppId": {"name": "appId", "description": "OSL Pay: the merchant's appId."},
    "oslTimestamp": {"name": "timestamp", "description": "OSL Pay: 13 digits, milliseconds."},
    "oslSignature": {"name": "signature", "description": "OSL Pay: RSA over appId and timestamp, base64."},
}
_TIMESTAMP = {
    "type": "string",
    "format": "date-time",
    "description": "When it happened. Not looked at: `webhook-timestamp` counts.",
}
_INTRODUCTION = (
    "JSON is camelCase in UTF-8, times are ISO 8601 in UTC with milliseconds. Errors are RFC 9457 problems. Requests "
    "need a `Content-Length`. Whatever is texts has printable characters only."
)


def description(app: Flask, rules: ProfileRules) -> dict[str, Any]:
    """The whole description of what `app` serves, with the profile that `rules` let in."""
    spec = APISpec(
        "KYC onboarding orchestrator",
        "1",
        "3.1.0",
        plugins=[MarshmallowPlugin()],
        info={"description": _INTRODUCTION, "license": {"name": "MIT", "identifier": "MIT"}},
        servers=[{"url": "/"}],
        tags=[{"name": name, "description": says} for name, says in dict(_TAGS.values()).items()],
        webhooks=_webhooks(),
    )
    _add_shapes(spec, rules)
    for name, scheme in _SECURITY.items():
        spec.components.security_scheme(
            name, {"type": "apiKey", "in": "header", **scheme} if "name" in scheme else {**scheme}
        )
    for status, (shape, says) in ERRORS.items():
        spec.components.response(f"Error{status}", _error(status, shape, says))
    for rule, view in described_views(app):
        path = path_of(rule)
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            spec.path(path, operations={method.lower(): _operation(spec, rule, view)})
    return spec.to_dict()


def described_views(app: Flask) -> Iterator[tuple[Rule, Any]]:
    """The routes that are described, and their views."""
    for rule in app.url_map.iter_rules():
        view = app.view_functions[rule.endpoint]
        if hasattr(view, "described"):
            yield rule, view


def path_of(rule: Rule) -> str:
    """`/onboardings/<onboarding_id>` as `/onboardings/{id}`."""
    return re.sub(r"<(?:\w+:)?(?:\w+_)?(\w+)>", r"{\1}", rule.rule)


def _add_shapes(spec: APISpec, rules: ProfileRules) -> None:
    for shape in _SHAPES:
        spec.components.schema(shape.__name__.removesuffix("Schema"), {"description": shape.__doc__}, schema=shape)
    spec.components.schema("Profile", {"description": "Whatever is known of the user."}, schema=rules.schema)
    members = spec.components.schemas["Profile"]["properties"]
    email = {"type": "string", "format": "email", "maxLength": 254}
    patch = {name: _or_null(member) for name, member in members.items()}
    own = {
        "ProfilePatch": _object({**patch, "email": email}, says="A merge patch (RFC 7396) of `Profile`: null removes."),
        "Signup": _object(
            {"merchantUserId": _text(128), "email": email, "profile": _ref("Profile")},
            "merchantUserId",
            "email",
            says="A user to be onboarded; the rest of the profile may come later.",
        ),
        "SignupEvent": _event("user.signup", "Signup", timestamp=_TIMESTAMP),
        "OslWebhook": _event("kyc_status_change", "CallbackData"),
        "BtseAuthorization": {"type": "object", "description": "As BTSE Pay gave it."},
        "Metrics": {"type": "string", "description": "Lines of figures."},
        "OpenApi": {"type": "object", "required": ["openapi", "info", "paths"], "description": "This document."},
        "File": {"type": "string", "format": "binary", "description": "A jpg, png or pdf."},
        "FileForm": {
            "type": "object",
            "description": "The file as a part of a form; other parts are not looked at.",
            "properties": {"file": _ref("File")},
            "required": ["file"],
        },
    }
    for name, component in own.items():
        spec.components.schema(name, component)


def _or_null(member: Mapping[str, Any]) -> dict[str, Any]:
    """The same texts, within the same limits, or null."""
    nulls = {"enum": None, "anyOf": {"type": "null"}}
    alternatives = {name: [*member[name], null] for name, null in nulls.items() if name in member}
    return {**member, **alternatives, "type": [member["type"], "null"]}


def _object(members: Mapping[str, Any], *required: str, says: str) -> dict[str, Any]:
    return {
        "type": "object",
        "description": says,
        "properties": dict(members),
        **({"required": list(required)} if required else {}),
        "additionalProperties": False,
    }


def _text(longest: int) -> dict[str, Any]:
    return {"type": "string", "minLength": 1, "maxLength": longest, "pattern": PRINTABLE}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _event(kind: str, data: str, **more: Mapping[str, Any]) -> dict[str, Any]:
    """An event of the one type that concerns us, or of any other, which changes nothing. `more`: optional members."""
    word = {"type": "string", "minLength": 1, "maxLength": 64, "pattern": PRINTABLE}
    members = {"type": word, **more, "data": {"type": "object", "description": f"`{data}` if the type is `{kind}`."}}
    ours = {"properties": {"type": {"const": kind}, "data": _ref(data)}}
    other = {"properties": {"type": {"not": {"const": kind}}}}
    says = f"`{kind}`; another type changes nothing."
    required = ["type", "data"]
    return {"type": "object", "description": says, "properties": members, "required": required, "anyOf": [ours, other]}


def _operation(spec: APISpec, rule: Rule, view: Any) -> dict[str, Any]:
    said: Described = view.described
    blueprint = rule.endpoint.partition(".")[0]
    summary, _, rest = " ".join((view.__doc__ or "").split()).partition(". ")
    operation: dict[str, Any] = {
        "operationId": said.name,
        "tags": [_TAGS[blueprint][0]],
        "summary": summary.rstrip("."),
        **({"description": rest} if rest else {}),
        "security": _security(view.roles, said),
        "parameters": _parameters(spec, rule, said),
        "responses": {str(status): _answer(answer) for status, answer in said.answers.items()}
        | {str(status): f"Error{status}" for status in _errors(view.roles, said)},
    }
    if said.body:
        operation["requestBody"] = {
            "required": True,
            "content": {kind: _content(name) for kind, name in said.body.items()},
        }
    return operation


def _security(roles: tuple[str, ...], said: Described) -> list[dict[str, list[str]]]:
    """Alternatives: a token of one of the roles; or all headers of a signature; or nothing."""
    if said.signature:
        return [{scheme: [] for scheme in said.signature}]
    return [{BEARER: [role]} for role in roles if role in ROLES]


def _errors(roles: tuple[str, ...], said: Described) -> list[int]:
    guarded = (401, 403) if set(roles) & set(ROLES) else (401,) if said.signature else ()
    return sorted({*ANYWHERE, *guarded, *said.errors})


def _parameters(spec: APISpec, rule: Rule, said: Described) -> list[dict[str, Any]]:
    names = re.findall(r"\{(\w+)\}", path_of(rule))
    path = [{"in": "path", "name": name, "required": True, **_PATH_PARAMETERS[name]} for name in names]
    if said.query is None:
        return path
    converter = spec.plugins[0].converter  # type: ignore[attr-defined]
    return path + list(converter.schema2parameters(_QUERIES[said.query], location="query"))


def _answer(answer: Answer) -> dict[str, Any]:
    if answer.schema is None:
        return {"description": answer.words}
    return {"description": answer.words, "content": {answer.media_type: _content(answer.schema)}}


def _content(name: str) -> dict[str, Any]:
    example = {"example": EXAMPLES[name]} if name in EXAMPLES else {}
    return {"schema": _ref(name), **example}


def _error(status: int, shape: str, says: str) -> dict[str, Any]:
    title = HTTPStatus(status).phrase
    example = {"type": "about:blank", "title": title, "status": status, **ERROR_EXAMPLES[status]}
    headers = {
        401: {"WWW-Authenticate": {"description": "Where a token is asked for.", "schema": {"type": "string"}}},
        503: {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}},
    }
    return {
        "description": says,
        "content": {PROBLEM: {"schema": _ref(shape), "example": example}},
        **({"headers": headers[status]} if status in headers else {}),
    }


def _webhooks() -> dict[str, Any]:
    """What the merchant is told, at the URL that the settings name."""
    return {kind: {"post": _notification(kind, says)} for kind, says in asked.NOTIFICATIONS.items()}


def _notification(kind: str, says: str) -> dict[str, Any]:
    shape = {"allOf": [_ref("Notification"), {"properties": {"type": {"const": kind}}}]}
    return {
        "summary": says.rstrip("."),
        "security": [{scheme: [] for scheme in SIGNUP_SIGNATURE}],
        "requestBody": {"required": True, "content": {JSON: {"schema": shape, "example": TOLD_EXAMPLES[kind]}}},
        "responses": {
            "2XX": {"description": "Taken; it is not sent again."},
            "default": {"description": "Sent again later, under the same `webhook-id`."},
        },
    }
