"""Who may call what: every route states it, and every route holds to it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from flask import Flask
from werkzeug.routing import Rule

from orchestrator.onboarding import access, look
from orchestrator.records import Onboarding
from orchestrator.web.app import create_app
from tests.service import Bench, Client, Web, web_of

BOTH, OPERATOR = {"merchant", "operator"}, {"operator"}
API = {
    "POST /api/v1/onboardings": BOTH,
    "GET /api/v1/onboardings": BOTH,
    "GET /api/v1/onboardings/{onboarding_id}": BOTH,
    "PATCH /api/v1/onboardings/{onboarding_id}/profile": BOTH,
    "PUT /api/v1/onboardings/{onboarding_id}/documents/{kind}": BOTH,
    "DELETE /api/v1/onboardings/{onboarding_id}/documents/{kind}": BOTH,
    "POST /api/v1/onboardings/{onboarding_id}/submit": BOTH,
    "POST /api/v1/onboardings/{onboarding_id}/cancel": BOTH,
    "POST /api/v1/onboardings/{onboarding_id}/retry": OPERATOR,
    "POST /api/v1/onboardings/{onboarding_id}/resubmission": OPERATOR,
    "POST /api/v1/onboardings/{onboarding_id}/link": BOTH,
    "GET /api/v1/onboardings/{onboarding_id}/transitions": BOTH,
    "GET /api/v1/onboardings/{onboarding_id}/callbacks": OPERATOR,
    "GET /api/v1/onboardings/{onboarding_id}/deliveries": OPERATOR,
    "POST /api/v1/deliveries/{delivery_id}/resend": OPERATOR,
    "GET /api/v1/onboardings/{onboarding_id}/authorization": OPERATOR,
    "POST /api/v1/onboardings/{onboarding_id}/authorization/cancel": OPERATOR,
    "GET /metrics": {"operator", "viewer"},
}
"""The roles that may call a route of the API; nobody else may."""
PAGES = {
    "GET /status": {"viewer", "operator"},
    "GET /status/onboardings/{onboarding_id}": {"viewer", "operator"},
    "GET /status/onboardings": {"viewer", "operator"},
    "GET /status/onboardings.csv": {"viewer", "operator"},
    "POST /status/onboardings": OPERATOR,
    "POST /status/onboardings/{onboarding_id}/retry": OPERATOR,
    "POST /status/onboardings/{onboarding_id}/hurry": OPERATOR,
    "POST /status/onboardings/{onboarding_id}/reveal": OPERATOR,
    "POST /status/onboardings/{onboarding_id}/cancel": OPERATOR,
    "POST /status/onboardings/{onboarding_id}/resubmission": OPERATOR,
    "POST /status/onboardings/{onboarding_id}/link": OPERATOR,
    "POST /status/deliveries/{delivery_id}/resend": OPERATOR,
}
"""The roles whose sessions open a page."""
SIGNED = ["POST /hooks/signup", "POST /callbacks/oslpay", "POST /callbacks/oslpay/{token}"]
OPEN = ["GET /healthz", "GET /readyz", "GET /openapi.json", "GET /docs", "GET /login", "GET /static/{filename}"]
OPEN += ["GET /brand/logo", "GET /brand/colors.css"]
BY_LINK = ["GET /u/{token}", "POST /u/{token}", "GET /u/{token}/progress", "PUT /u/{token}/documents/{kind}"]
BY_FORM = ["POST /login", "POST /logout"]
BEARERS = ["none", "merchant", "operator", "viewer", "revoked", "garbage"]


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory, database: None) -> Iterator[Web]:
    """One service for all tests here: none of them needs it untouched."""
    bench = Bench(tmp_path_factory.mktemp("roles"))
    with web_of(bench) as made:
        yield made
    bench.close()


@pytest.fixture(scope="module")
def app(web: Web) -> Flask:
    return create_app(web.bench.service)


@pytest.fixture
def row(web: Web) -> Onboarding:
    return web.bench.collected()


@pytest.fixture(scope="module")
def bearers(web: Web) -> Iterator[dict[str, Client]]:
    """A client for every kind of credential, good and bad."""
    revoked = access.create_token(web.bench.context, "gone", "operator")
    access.revoke_token(web.bench.context, "gone")
    made = {"revoked": Client(web.url, revoked), "garbage": Client(web.url, "orc_garbage")}
    yield {
        "none": web.anyone,
        "merchant": web.merchant,
        "operator": web.operator,
        "viewer": web.viewer,
        **made,
    }
    for client in made.values():
        client.close()


def routes_of(rule: Rule) -> set[str]:
    """`GET /u/{token}` and so on."""
    path = rule.rule.replace("<path:", "<").replace("<", "{").replace(">", "}")
    return {f"{method} {path}" for method in (rule.methods or set()) - {"HEAD"}}


def path_of(route: str, row: Onboarding) -> tuple[str, str]:
    """Method and a path that leads somewhere as far as it can."""
    method, path = route.split(" ")
    named = {"onboarding_id": row.id, "kind": "selfie", "delivery_id": "dlv_1", "token": "t", "filename": "style.css"}
    return method, path.format(**named)


def test_every_route_states_who_may_call_it(app: Flask) -> None:
    for rule in app.url_map.iter_rules():
        roles = getattr(app.view_functions[rule.endpoint], "roles", ())
        assert roles, f"{rule.rule} states nobody"
        assert all(isinstance(role, str) and role for role in roles)


def test_every_route_is_in_exactly_one_of_these_tables(app: Flask) -> None:
    there = [route for rule in app.url_map.iter_rules() for route in routes_of(rule)]

    assert sorted(there) == sorted([*API, *PAGES, *SIGNED, *OPEN, *BY_LINK, *BY_FORM])


def test_what_a_route_states_is_what_the_tables_say(app: Flask) -> None:
    for rule in app.url_map.iter_rules():
        for route in routes_of(rule):
            stated = set(getattr(app.view_functions[rule.endpoint], "roles", ()))
            expected = API.get(route) or PAGES.get(route)
            assert stated == expected if expected else not stated & set(access.ROLES), route


@pytest.mark.parametrize("route", API)
def test_the_api_is_open_to_its_roles_alone(route: str, row: Onboarding, bearers: dict[str, Client]) -> None:
    method, path = path_of(route, row)
    answered = {}
    for name in BEARERS:
        status = bearers[name](method, path).status_code
        answered[name] = status if status in (401, 403) else "other"

    expected = {name: "other" if name in API[route] else 403 for name in access.ROLES}
    assert answered == {"none": 401, "revoked": 401, "garbage": 401, **expected}


@pytest.mark.parametrize("route", [route for route in API if route.startswith("GET ")])
def test_head_is_guarded_as_get_is(route: str, row: Onboarding, bearers: dict[str, Client]) -> None:
    _, path = path_of(route, row)

    assert {bearers[name]("HEAD", path).status_code for name in ("none", "revoked", "garbage")} == {401}
    refused = set(access.ROLES) - API[route]
    assert {bearers[name]("HEAD", path).status_code for name in refused} == {403}


@pytest.mark.parametrize("route", API)
def test_a_refused_caller_changes_nothing(web: Web, route: str, row: Onboarding, bearers: dict[str, Client]) -> None:
    method, path = path_of(route, row)
    before = (web.bench.row(row), web.bench.transitions(row), look.counts(web.bench.context))
    for name in set(BEARERS) - API[route]:
        bearers[name](method, path, json={"reason": "no", "userKey": "no", "merchantUserId": "no", "email": "a@b.co"})

    assert (web.bench.row(row), web.bench.transitions(row), look.counts(web.bench.context)) == before


@pytest.mark.parametrize("route", SIGNED)
def test_no_token_stands_for_a_signature(route: str, row: Onboarding, bearers: dict[str, Client]) -> None:
    method, path = path_of(route, row)

    assert {bearers[name](method, path, json={}).status_code for name in BEARERS} == {401}


@pytest.mark.parametrize("route", PAGES)
def test_pages_are_opened_by_sessions_and_not_by_bearers(
    route: str, row: Onboarding, bearers: dict[str, Client]
) -> None:
    method, path = path_of(route, row)

    assert {bearers[name](method, path).status_code for name in BEARERS} == {302 if method == "GET" else 401}


@pytest.mark.parametrize("route", OPEN)
def test_what_is_open_is_open_to_everyone_alike(route: str, row: Onboarding, bearers: dict[str, Client]) -> None:
    method, path = path_of(route, row)

    # The merchant's own colours and logo are not there unless a setting names them.
    expected = 404 if path.startswith("/brand/") else 200
    assert {bearers[name](method, path).status_code for name in BEARERS} == {expected}


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer  ",
        "Basic b3JjXw==",
        "orc_x",
        "Bearer orc_",
        "Bearer \xff\xfe",
        "Bearer orc_ x y",
    ],
)
def test_no_garbled_header_comes_in(web: Web, authorization: str) -> None:
    answer = web.anyone("GET", "/api/v1/onboardings", headers={"Authorization": authorization.encode("latin-1")})

    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_the_scheme_is_written_in_any_case_and_is_no_other(web: Web) -> None:
    token = access.create_token(web.bench.context, "case", "merchant")
    for scheme in ("bearer", "BEARER", "Bearer"):
        answer = web.anyone("GET", "/api/v1/onboardings", headers={"Authorization": f"{scheme} {token}"})
        assert answer.status_code == 200
    for words in (token, f"Basic {token}", f"Token {token}", f"Bearer{token}"):
        answer = web.anyone("GET", "/api/v1/onboardings", headers={"Authorization": words})
        assert answer.status_code == 401, "only a bearer's token is looked at"


def test_a_browsers_session_does_not_open_the_api(web: Web) -> None:
    token = access.create_token(web.bench.context, "browser", "operator")
    browser = Client(web.url)
    assert browser("POST", "/login", data={"token": token}).status_code == 303

    assert browser("GET", "/status").status_code == 200
    assert browser("GET", "/api/v1/onboardings").status_code == 401
    browser.close()


@pytest.mark.parametrize("path", ["/api//v1/onboardings", "/api/v1/onboardings/", "/status/"])
def test_no_other_spelling_of_a_path_leads_to_a_route(web: Web, path: str) -> None:
    assert web.operator("GET", path).status_code == 404


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE", "PURGE"])
def test_no_route_takes_a_method_it_does_not_state(app: Flask, web: Web, row: Onboarding, method: str) -> None:
    for rule in app.url_map.iter_rules():
        path = path_of(next(iter(routes_of(rule))), row)[1]
        answer = web.operator(method, path)
        assert answer.status_code == 405, path
        assert set(answer.headers["Allow"].split(", ")) <= {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"}
