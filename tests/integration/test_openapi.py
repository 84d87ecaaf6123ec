"""The API's description says what is served: all of it, nothing else, and in shapes that answers have."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from orchestrator import notify
from orchestrator.machine import State
from orchestrator.onboarding import access, operate
from orchestrator.onboarding.profile import PHONE_NUMBER, PRINTABLE
from orchestrator.records import Onboarding
from orchestrator.web.app import create_app
from orchestrator.web.openapi import ANYWHERE, ERRORS, described_views, path_of
from orchestrator.web.reference import shape_limits, shape_name
from tests.sandbox_process import SandboxProcess
from tests.service import DAY, NOTIFY_SECRET, Bench, Web, pdf, web_of

HTTP, API = ((Path(__file__).parents[2] / "docs" / name).read_text("utf-8") for name in ("http.md", "api.md"))
NOTIFIED = {"ORCHESTRATOR_NOTIFY_URL": "http://127.0.0.1:9/", "ORCHESTRATOR_NOTIFY_SECRET": NOTIFY_SECRET}
PAGES = {"actions", "listing", "one", "pages", "session", "upload", "static", "brand"}
"""Blueprints for browsers: they are no part of the API."""


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("openapi")
    made = Bench(folder, **NOTIFIED)
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


def test_every_component_says_what_it_is(spec: dict[str, Any]) -> None:
    assert {name for name, shape in spec["components"]["schemas"].items() if not shape.get("description")} == set()


def test_who_gets_no_last_error_can_be_read(spec: dict[str, Any], web: Web) -> None:
    row = web.bench.submitted()
    web.bench.step()
    path = f"/api/v1/onboardings/{row.id}"

    assert web.operator("GET", path).json()["lastError"]
    assert web.merchant("GET", path).json()["lastError"] is None
    for name in ("Onboarding", "ListedOnboarding"):
        said = spec["components"]["schemas"][name]["properties"]["lastError"]
        assert "For operators; null for others." in said["description"]


def test_the_profile_is_described_by_what_checks_it(spec: dict[str, Any], bench: Bench) -> None:
    rules = bench.context.profile_rules
    shapes = spec["components"]["schemas"]

    assert set(shapes["Profile"]["properties"]) == rules.names
    assert set(shapes["ProfilePatch"]["properties"]) == rules.names | {"email"}
    assert shapes["Profile"]["properties"]["idType"]["enum"] == list(bench.context.dialects.osl.id_types)


def test_a_patch_says_the_limits_of_each_field_and_that_it_may_be_null(spec: dict[str, Any]) -> None:
    shapes = spec["components"]["schemas"]
    for name, member in shapes["Profile"]["properties"].items():
        patch = shapes["ProfilePatch"]["properties"][name]
        assert shape_limits(patch).replace(", null", "") == shape_limits(member) != "", name
        assert "null" in shape_name(patch).split(" or "), name
        assert faults(spec, patch, None) == []
        for example in member.get("examples", member.get("enum", ["x"])):
            assert faults(spec, patch, example) == []
        assert faults(spec, patch, "x" * 5_000) != []


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


def test_a_form_with_more_than_its_file_is_taken_as_described(spec: dict[str, Any], web: Web) -> None:
    path = f"/api/v1/onboardings/{web.bench.sign_up().id}/documents/selfie"
    assert web.merchant("PUT", path, data={"more": "1"}, files={"file": pdf()}).status_code == 200
    assert faults(spec, {"$ref": "#/components/schemas/FileForm"}, {"file": "…", "more": "1"}) == []


def test_the_shapes_leave_nothing_open(spec: dict[str, Any], web: Web) -> None:
    """A member more or fewer is a fault: the shapes cannot drift from what is served."""
    shown = web.operator("GET", f"/api/v1/onboardings/{web.bench.collected().id}").json()
    onboarding = {"$ref": "#/components/schemas/Onboarding"}

    assert faults(spec, onboarding, shown) == []
    assert faults(spec, onboarding, shown | {"more": 1})
    for name in shown:
        assert faults(spec, onboarding, {key: value for key, value in shown.items() if key != name})


def test_what_is_taken_with_members_that_are_not_looked_at_fits_too(spec: dict[str, Any], web: Web) -> None:
    row = web.bench.shared_on_paper()
    sent = web.bench.webhook(row, "REVIEW")
    hook = json.loads(sent.body) | {"more": 1}
    hook["data"] |= {"merchantCode": "m-1", "more": 1}
    assert faults(spec, {"$ref": "#/components/schemas/OslWebhook"}, hook) == []
    asked = {"reason": "The photo is too dark.", "more": 1}
    assert faults(spec, {"$ref": "#/components/schemas/Resubmission"}, asked) == []
    assert web.operator("POST", f"/api/v1/onboardings/{row.id}/resubmission", json=asked).status_code == 202


def test_every_member_of_the_signup_event_is_described(spec: dict[str, Any]) -> None:
    example = spec["paths"]["/hooks/signup"]["post"]["requestBody"]["content"]["application/json"]["example"]
    assert set(example) == set(spec["components"]["schemas"]["SignupEvent"]["properties"])


# Notifications -----------------------------------------------------------------------------------------------------


def told(bench: Bench, row: Onboarding) -> list[dict[str, Any]]:
    """The bodies of the notifications about an onboarding, in order."""
    return [
        json.loads(bench.context.sealer.open(delivery.body_sealed, "deliveries", delivery.id, "body"))
        for delivery in bench.context.store.deliveries(row.id)
    ]


def told_of_all(bench: Bench) -> Iterator[dict[str, Any]]:
    """One notification of every type, the last of an onboarding that came to it in the usual way."""
    assert bench.sandbox
    yield told(bench, bench.submitted())[-1]
    for claim, state in (
        ("REVIEW", State.IN_REVIEW),
        ("PASS", State.APPROVED),
        ("REJECT", State.COLLECTING),
        ("FINAL_REJECT", State.REJECTED),
    ):
        row = bench.shared()
        bench.sandbox.pin_status(row.merchant_user_id, claim, "why" if "REJECT" in claim else "")
        bench.receive(row, claim)
        yield told(bench, bench.run_to(row, state))[-1]
    yield told(bench, bench.run_to(bench.submitted("declined"), State.NEEDS_ATTENTION))[-1]
    yield told(bench, operate.cancel(bench.context, bench.sign_up().id, "test"))[-1]
    yield told(bench, bench.run_to(bench.sign_up(), State.EXPIRED, 100 * DAY))[-1]


def gist(body: Mapping[str, Any]) -> dict[str, Any]:
    """What a notification says, whoever it is about."""
    data = body["data"]
    given = {name: data[name] is not None for name in ("reason", "oslUserId")}
    return {name: data[name] for name in ("state", "previousState", "round")} | given


def test_the_example_of_each_webhook_is_what_is_sent(
    spec: dict[str, Any], tmp_path: Path, sandbox: SandboxProcess
) -> None:
    bench = Bench(tmp_path, sandbox, **NOTIFIED)
    sent = {body["type"]: gist(body) for body in told_of_all(bench)}
    bench.close()
    examples = [
        said["post"]["requestBody"]["content"]["application/json"]["example"] for said in spec["webhooks"].values()
    ]

    assert {example["type"]: gist(example) for example in examples} == sent


def test_the_webhooks_are_the_notifications_there_are(spec: dict[str, Any]) -> None:
    assert set(spec["webhooks"]) == {*notify._NOTICES.values(), notify.SUBMITTED}
    for kind, said in spec["webhooks"].items():
        assert f"| `{kind}` |" in HTTP
        shape = said["post"]["requestBody"]["content"]["application/json"]["schema"]
        assert faults(spec, shape, said["post"]["requestBody"]["content"]["application/json"]["example"]) == []
        assert faults(spec, shape, {"type": "onboarding.other"})


def test_a_notification_has_the_shape_that_is_described(spec: dict[str, Any], bench: Bench) -> None:
    row = bench.run_to(bench.sign_up(), State.EXPIRED, 100 * 86_400_000)
    sent = told(bench, row)
    assert sent

    for body in sent:
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


@dataclass(frozen=True)
class Shown:
    """The description for people: on the page, or in the documents. `shapes`: the part about each component."""

    text: str
    shapes: Mapping[str, str]
    link: str
    code: str

    def links(self, part: str) -> set[str]:
        """The components that a part names and leads to, in lower case."""
        return {name.lower() for name, anchor in re.findall(self.link, part) if name.lower() == anchor.lower()}

    def coded(self, text: str) -> str:
        return self.code.format(escape(text) if "<" in self.code else text.replace("|", "\\|"))


@pytest.fixture(params=["page", "document"])
def shown(request: pytest.FixtureRequest, web: Web) -> Shown:
    if request.param == "page":
        text = web.anyone("GET", "/docs").text
        parts = re.split(r'<h3 class="shape" id="(\w+)">', text)
        link, code = r'<a href="#(\w+)">(\w+)</a>', "<code>{}</code>"
    else:
        text = API
        parts = re.split(r"^### (\w+)$", text.split("\n## Shapes\n")[1], flags=re.MULTILINE)
        link, code = r"\[(\w+)\]\(#(\w+)\)", "`{}`"
    return Shown(text, dict(zip(parts[1::2], parts[2::2], strict=True)), link, code)


def test_who_signs_is_told_in_which_headers(spec: dict[str, Any], shown: Shown) -> None:
    schemes = spec["components"]["securitySchemes"]
    seen = 0
    for said in operations(spec).values():
        names = [name for scheme in said["security"] for name in scheme if name != "bearer"]
        seen += len(names)
        assert not names or ", ".join(shown.coded(schemes[name]["name"]) for name in names) in shown.text
    assert seen == 9
    for name, scheme in schemes.items():
        assert name == "bearer" or name not in shown.text
        assert shown.coded(scheme.get("name", "Authorization")) in shown.text


def test_a_shape_leads_to_the_shapes_within_it(spec: dict[str, Any], shown: Shown) -> None:
    shapes = spec["components"]["schemas"]
    assert list(shown.shapes) == list(shapes)

    for name, shape in shapes.items():
        within = {reference.rpartition("/")[2].lower() for reference in references(shape)}
        assert shown.links(shown.shapes[name]) == within, name
    assert shown.links(shown.shapes["SignupEvent"]) == {"signup"}
    assert shown.links(shown.shapes["OslWebhook"]) == {"callbackdata"}


def test_the_form_of_a_text_is_shown_unless_any_printable_text_will_do(spec: dict[str, Any], shown: Shown) -> None:
    patterns = {
        (name, member["pattern"])
        for name, shape in spec["components"]["schemas"].items()
        for member in shape.get("properties", {}).values()
        if "pattern" in member
    }
    forms = {(name, pattern) for name, pattern in patterns if pattern != PRINTABLE}

    assert ("Profile", PHONE_NUMBER) in forms
    assert forms < patterns
    assert {(name, form) for name, form in forms if shown.coded(form) not in shown.shapes[name]} == set()
    assert shown.coded(PRINTABLE) not in shown.text


def test_the_empty_word_is_shown_where_it_is_allowed(shown: Shown) -> None:
    assert "cancelled, expired, or empty" in shown.text
    assert not re.search(r", *(?:[)|]|</span>)", shown.text)
