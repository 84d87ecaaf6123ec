"""The API's description says what is served: all of it, nothing else, and in shapes that answers have."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from orchestrator import notify
from orchestrator.machine import State
from orchestrator.onboarding import access
from orchestrator.web.app import create_app
from orchestrator.web.openapi import ANYWHERE, ERRORS, described_views, path_of
from tests.service import NOTIFY_SECRET, Bench, Web, web_of

HTTP = (Path(__file__).parents[2] / "docs" / "http.md").read_text("utf-8")
PAGES = {"actions", "listing", "one", "pages", "session", "upload", "static", "brand"}
"""Blueprints for browsers: they are no part of the API."""


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("openapi")
    made = Bench(folder, ORCHESTRATOR_NOTIFY_URL="http://127.0.0.1:9/", ORCHESTRATOR_NOTIFY_SECRET=NOTIFY_SECRET)
    yield made
    made.close()


@pytest.fixture(scope="module")
def app(bench: Bench) -> Flask:
    return create_app(bench.service)


@pytest.fixture(scope="module")
def web(bench: Bench) -> Iterator[Web]:
    with web_of(bench) as made:
        yield made


@pytest.fixture(scope="module")
def spec(web: Web) -> dict[str, Any]:
    """As anyone gets it."""
    answer = web.anyone("GET", "/openapi.json")
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/json")
    described: dict[str, Any] = answer.json()
    return described


def operations(spec: Mapping[str, Any]) -> dict[str, Any]:
    """`GET /healthz` and so on."""
    return {
        f"{method.upper()} {path}": said for path, methods in spec["paths"].items() for method, said in methods.items()
    }


def faults(spec: Mapping[str, Any], shape: Mapping[str, Any], value: Any) -> list[str]:
    """Where `value` is not as the schema says."""
    whole = {**shape, "components": spec["components"]}
    checker = Draft202012Validator.FORMAT_CHECKER
    return [error.message for error in Draft202012Validator(whole, format_checker=checker).iter_errors(value)]


def bodies(spec: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Everything that has a media type, and where."""
    for route, said in {**operations(spec), **{kind: each["post"] for kind, each in spec["webhooks"].items()}}.items():
        for kind, body in said.get("requestBody", {}).get("content", {}).items():
            yield f"{route} takes {kind}", body
        for status, answer in said["responses"].items():
            for kind, body in answer.get("content", {}).items():
                yield f"{route} answers {status} {kind}", body
    for name, answer in spec["components"]["responses"].items():
        yield from ((name, body) for body in answer["content"].values())


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from (text for name, text in value.items() if name == "$ref")
        for part in value.values():
            yield from references(part)
    elif isinstance(value, list):
        for part in value:
            yield from references(part)


def test_it_is_valid_openapi(spec: dict[str, Any]) -> None:
    assert spec["openapi"].startswith("3.1")
    OpenAPIV31SpecValidator(spec).validate()


def test_it_names_no_other_host_and_nothing_of_the_installation(spec: dict[str, Any], bench: Bench) -> None:
    assert spec["servers"] == [{"url": "/"}]
    text = json.dumps(spec)
    assert set(re.findall(r"https?://([^/\"]+)", text)) <= {"onboarding.example.com"}
    assert str(bench.folder) not in text


def test_every_route_but_the_pages_is_described_and_nothing_else(app: Flask, spec: dict[str, Any]) -> None:
    there = {
        f"{method} {path_of(rule)}"
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD"}
        if rule.endpoint.partition(".")[0] not in PAGES and rule.rule != "/docs"
    }

    assert set(operations(spec)) == there


def test_no_page_is_described(app: Flask) -> None:
    assert not {rule.endpoint.partition(".")[0] for rule, _ in described_views(app)} & PAGES


def test_the_description_and_the_documents_name_the_same_routes(spec: dict[str, Any]) -> None:
    told = set(re.findall(r"^(?:### |\| )`((?:GET|POST|PUT|PATCH|DELETE) /[^`]*)`", HTTP, re.MULTILINE))
    pages = {route for route in told if re.search(r" /(?:u/|brand/|login|logout|status|static|docs)", route)}

    assert set(operations(spec)) == told - pages


def test_operations_have_names_of_their_own_and_say_what_they_do(spec: dict[str, Any]) -> None:
    said = list(operations(spec).values())

    assert len({each["operationId"] for each in said}) == len(said)
    assert all(each["summary"] and each["tags"] for each in said)
    assert {tag for each in said for tag in each["tags"]} == {tag["name"] for tag in spec["tags"]}


def test_who_may_call_is_what_the_route_states(app: Flask, spec: dict[str, Any]) -> None:
    for rule, view in described_views(app):
        for method in (rule.methods or set()) - {"HEAD"}:
            said = operations(spec)[f"{method} {path_of(rule)}"]
            roles = [role for scheme in said["security"] for role in scheme.get("bearer", [])]
            assert set(roles) == set(view.roles) & set(access.ROLES)
            assert ("403" in said["responses"]) is bool(roles)
            assert ("401" in said["responses"]) is bool(said["security"])


def test_signatures_are_described_header_by_header(spec: dict[str, Any]) -> None:
    schemes = spec["components"]["securitySchemes"]
    headers = {
        route: {schemes[name]["name"] for name in said["security"][0]}
        for route, said in operations(spec).items()
        if said["security"] and "bearer" not in said["security"][0]
    }

    osl = {"appId", "timestamp", "signature"}
    assert headers == {
        "POST /hooks/signup": {"webhook-id", "webhook-timestamp", "webhook-signature"},
        "POST /callbacks/oslpay": osl,
        "POST /callbacks/oslpay/{token}": osl,
    }


def test_every_error_is_a_problem_and_those_that_may_come_from_anywhere_are_everywhere(spec: dict[str, Any]) -> None:
    for route, said in operations(spec).items():
        errors = {status: answer for status, answer in said["responses"].items() if int(status) >= 400}
        assert {int(status) for status in errors} <= set(ERRORS), route
        assert {int(status) for status in errors} >= set(ANYWHERE), route
        assert all(answer == {"$ref": f"#/components/responses/Error{status}"} for status, answer in errors.items())
    for answer in spec["components"]["responses"].values():
        assert list(answer["content"]) == ["application/problem+json"]


def test_every_body_has_a_schema_and_every_json_body_an_example_that_fits(spec: dict[str, Any]) -> None:
    seen = 0
    for where, body in bodies(spec):
        assert body["schema"], where
        if "json" in where.rpartition(" ")[2] and "/openapi.json" not in where:
            assert "example" in body, where
        if "example" in body:
            seen += 1
            assert faults(spec, body["schema"], body["example"]) == [], where
    assert seen > 50


def test_examples_within_schemas_fit_too(spec: dict[str, Any]) -> None:
    for name, shape in spec["components"]["schemas"].items():
        for member, said in shape.get("properties", {}).items():
            for example in said.get("examples", []):
                assert faults(spec, said, example) == [], f"{name}.{member}"


def test_every_component_is_used(spec: dict[str, Any]) -> None:
    used = set(references(spec))

    assert {f"#/components/schemas/{name}" for name in spec["components"]["schemas"]} <= used
    assert {f"#/components/responses/{name}" for name in spec["components"]["responses"]} <= used


def test_the_profile_is_described_by_what_checks_it(spec: dict[str, Any], bench: Bench) -> None:
    rules = bench.context.profile_rules
    shapes = spec["components"]["schemas"]

    assert set(shapes["Profile"]["properties"]) == rules.names
    assert set(shapes["ProfilePatch"]["properties"]) == rules.names | {"email"}
    assert shapes["Profile"]["properties"]["idType"]["enum"] == list(bench.context.dialects.osl.id_types)


# What is served ----------------------------------------------------------------------------------------------------


def check(spec: Mapping[str, Any], name: str, value: Any) -> None:
    assert faults(spec, {"$ref": f"#/components/schemas/{name}"}, value) == []


def test_what_is_served_has_the_shapes_that_are_described(spec: dict[str, Any], web: Web) -> None:
    bench = web.bench
    row = bench.shared_on_paper()
    bench.receive(row, "REVIEW")
    bench.receive(row, "PASS", timestamp=bench.clock() - 1)
    path = f"/api/v1/onboardings/{row.id}"

    for client in (web.operator, web.merchant):
        check(spec, "Onboarding", client("GET", path).json())
        check(spec, "Onboardings", client("GET", "/api/v1/onboardings").json())
        check(spec, "Transitions", client("GET", f"{path}/transitions").json())
    callbacks = web.operator("GET", f"{path}/callbacks").json()
    assert len(callbacks["items"]) == 2
    check(spec, "Callbacks", callbacks)
    deliveries = web.operator("GET", f"{path}/deliveries").json()
    assert deliveries["items"]
    check(spec, "Deliveries", deliveries)
    check(spec, "Conflict", web.operator("POST", f"{path}/retry").json())
    check(spec, "ProviderFault", web.operator("GET", f"{path}/authorization").json())
    check(spec, "Invalid", web.operator("POST", "/api/v1/onboardings", json={"email": "x"}).json())
    check(spec, "Readiness", web.anyone("GET", "/readyz").json())
    check(spec, "Health", web.anyone("GET", "/healthz").json())


def test_an_onboarding_after_an_error_has_the_shape_that_is_described(spec: dict[str, Any], web: Web) -> None:
    row = web.bench.submitted()
    web.bench.step()
    shown = web.operator("GET", f"/api/v1/onboardings/{row.id}").json()

    assert shown["lastError"]["provider"] == "btse"
    check(spec, "Onboarding", shown)


def test_the_shapes_leave_nothing_open(spec: dict[str, Any], web: Web) -> None:
    """A member more or fewer is a fault: the shapes cannot drift from what is served."""
    shown = web.operator("GET", f"/api/v1/onboardings/{web.bench.collected().id}").json()
    onboarding = {"$ref": "#/components/schemas/Onboarding"}

    assert faults(spec, onboarding, shown) == []
    assert faults(spec, onboarding, shown | {"more": 1})
    for name in shown:
        assert faults(spec, onboarding, {key: value for key, value in shown.items() if key != name})


# Notifications -----------------------------------------------------------------------------------------------------


def test_the_webhooks_are_the_notifications_there_are(spec: dict[str, Any]) -> None:
    assert set(spec["webhooks"]) == {*notify._NOTICES.values(), notify.SUBMITTED}
    for kind, said in spec["webhooks"].items():
        assert f"| `{kind}` |" in HTTP
        shape = said["post"]["requestBody"]["content"]["application/json"]["schema"]
        assert faults(spec, shape, said["post"]["requestBody"]["content"]["application/json"]["example"]) == []
        assert faults(spec, shape, {"type": "onboarding.other"})


def test_a_notification_has_the_shape_that_is_described(spec: dict[str, Any], bench: Bench) -> None:
    row = bench.run_to(bench.sign_up(), State.EXPIRED, 100 * 86_400_000)
    told = bench.context.store.deliveries(row.id)
    assert told

    for delivery in told:
        body = json.loads(bench.context.sealer.open(delivery.body_sealed, "deliveries", delivery.id, "body"))
        shape = spec["webhooks"][body["type"]]["post"]["requestBody"]["content"]["application/json"]["schema"]
        assert faults(spec, shape, body) == []


# The page ----------------------------------------------------------------------------------------------------------


def test_the_page_shows_everything_without_a_script_or_another_host(spec: dict[str, Any], web: Web) -> None:
    answer = web.anyone("GET", "/docs", headers={"Accept": "text/html"})
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    text = answer.text

    for route, said in operations(spec).items():
        method, path = route.split(" ")
        assert f'<details id="{said["operationId"]}"' in text
        assert f'<span class="badge">{method}</span> <code>{path}</code>' in text
    for name in (*spec["components"]["schemas"], *spec["webhooks"]):
        assert name in text
    assert not re.search(r"<script|<style|\sstyle=|\son[a-z]+=|javascript:", text)
    assert not re.search(r'(?:src|href)="(?:https?:)?//', text)
    links = set(re.findall(r'href="#([^"]+)"', text)) - {"main"}
    assert links <= set(re.findall(r'id="([^"]+)"', text))
