"""What every answer carries, and what every error looks like: all routes, all kinds of error."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import NoReturn

import pytest
from flask import Flask
from structlog.processors import format_exc_info
from structlog.testing import capture_logs
from werkzeug.routing import Rule
from werkzeug.test import TestResponse

from orchestrator import errors
from orchestrator.onboarding import access
from orchestrator.web.app import create_app
from orchestrator.web.headers import PAGE_PATHS
from orchestrator.web.request_head import Refusal, asks_for_page
from tests.service import Bench, raw_request, served

HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
POLICY = {
    "default-src 'none'",
    "script-src 'self'",
    "connect-src 'self'",
    "style-src 'self'",
    "img-src 'self' data: blob:",
    "form-action 'self'",
    "frame-ancestors 'none'",
    "base-uri 'none'",
}
FAULTS: dict[str, tuple[int, Exception]] = {
    "a crash": (500, RuntimeError("Ana Lee's passport")),
    "a crash over data": (500, KeyError("Ana Lee's passport")),
    "no database": (503, errors.StoreUnavailable("the database cannot be written")),
    "a broken seal": (503, errors.SealBroken("sealed bytes could not be opened")),
    "an unreadable document": (415, errors.UnsupportedDocument("no jpg, png or pdf")),
    "too much": (413, errors.TooLarge("a document may have 5000000 bytes")),
    "bad data": (422, errors.InvalidInput("the data is not valid", {"profile.ip": ["must be an address"]})),
    "a conflict": (409, errors.Conflict("nothing can be changed", "approved")),
    "gone": (410, errors.Gone("the time to use this link is over")),
    "too often": (429, errors.TooManyAttempts("too many wrong tokens", 60)),
    "a provider": (502, errors.ProviderError("btse", errors.Kind.TRANSIENT, "timeout", words="Ana Lee's passport")),
}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    made = Bench(tmp_path_factory.mktemp("headers"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def operator(bench: Bench) -> dict[str, str]:
    return {"Authorization": f"Bearer {access.create_token(bench.context, 'olga', 'operator')}"}


@pytest.fixture
def app(bench: Bench) -> Flask:
    return create_app(bench.service)


@pytest.fixture(scope="module")
def rules(bench: Bench) -> list[Rule]:
    return list(create_app(bench.service).url_map.iter_rules())


def path_of(bench: Bench, rule: Rule) -> str:
    row = next(iter(bench.context.status.page(1)), None) or bench.collected()
    named = {"onboarding_id": row.id, "kind": "selfie", "delivery_id": "dlv_1", "token": "t", "filename": "style.css"}
    return rule.rule.replace("<path:", "<").replace("<", "{").replace(">", "}").format(**named)


def method_of(rule: Rule) -> str:
    return next(iter((rule.methods or set()) - {"HEAD"}))


def is_page(path: str) -> bool:
    return path.startswith(PAGE_PATHS)


def check_headers(answer: TestResponse, path: str) -> None:
    """What must be on every answer, good or bad."""
    headers = answer.headers
    assert set(headers["Content-Security-Policy"].split("; ")) == POLICY
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Cross-Origin-Opener-Policy"] == headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "geolocation=()" in headers["Permissions-Policy"]
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["X-Request-ID"].startswith("req_")
    if not path.startswith("/static/") or answer.status_code >= 400:
        assert headers["Cache-Control"] == "no-store"
    assert "Access-Control-Allow-Origin" not in headers


@pytest.mark.parametrize("given", ["a", "Shop-4711_x.y", "7" * 64])
def test_a_request_keeps_the_id_that_it_came_with(app: Flask, given: str) -> None:
    answer = app.test_client().get("/api/v1/onboardings", headers={"X-Request-ID": given})

    assert answer.headers["X-Request-ID"] == given


@pytest.mark.parametrize("given", ["", "8" * 65, "two words", "line\u2028", "naïve", "a,b", "<b>", 'x"y', "\u0661"])
def test_a_request_whose_id_could_do_harm_gets_another(app: Flask, given: str) -> None:
    answer = app.test_client().get("/api/v1/onboardings", environ_overrides={"HTTP_X_REQUEST_ID": given})

    assert answer.headers["X-Request-ID"].startswith("req_")
    assert answer.headers["X-Request-ID"] != app.test_client().get("/healthz").headers["X-Request-ID"]


def check_problem(answer: TestResponse, status: int) -> None:
    """RFC 9457, whatever the caller accepts."""
    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = json.loads(answer.data)
    assert problem["type"] == "about:blank"
    assert problem["status"] == status
    assert problem["title"]
    assert problem["title"] != "Error"
    assert isinstance(problem["detail"], str)
    assert problem["detail"]


def check_page(answer: TestResponse, status: int) -> None:
    """For a person: our own page, in words."""
    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "<h1>" in answer.text
    assert re.search(r'href="/static/(?:style|upload)\.css"', answer.text)
    assert "Werkzeug" not in answer.text


def check_error(answer: TestResponse, path: str, status: int) -> None:
    check_headers(answer, path)
    if is_page(path):
        check_page(answer, status)
    else:
        check_problem(answer, status)


def test_every_answer_of_every_route_carries_the_headers(
    app: Flask, bench: Bench, rules: list[Rule], operator: dict[str, str]
) -> None:
    for rule in rules:
        path = path_of(bench, rule)
        for headers in ({}, HTML, operator, {**operator, **HTML}):
            answer = app.test_client().open(path, method=method_of(rule), headers=headers, buffered=True)
            check_headers(answer, path)


def test_another_method_is_405_everywhere(app: Flask, bench: Bench, rules: list[Rule]) -> None:
    for rule in rules:
        path = path_of(bench, rule)
        there = {method for other in rules if path_of(bench, other) == path for method in other.methods or set()}
        method = next(name for name in ("DELETE", "PUT", "GET") if name not in there)
        answer = app.test_client().open(path, method=method, headers=HTML)
        check_error(answer, path, 405)
        assert set(answer.headers["Allow"].split(", ")) == there


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_has_its_answer_on_every_route(app: Flask, bench: Bench, rules: list[Rule], fault: str) -> None:
    status, error = FAULTS[fault]

    def raises(**_: object) -> NoReturn:
        raise error

    for rule in rules:
        app.view_functions[rule.endpoint] = raises
        path = path_of(bench, rule)
        with capture_logs() as lines:
            answer = app.test_client().open(path, method=method_of(rule), headers=HTML)
        check_error(answer, path, status)
        logged = str([format_exc_info(None, "", line) for line in lines])
        assert ("in raises" in logged) is (status == 500), "where it crashed"
        assert "passport" not in answer.text + logged
        assert "RuntimeError" not in answer.text


def test_a_program_that_calls_a_page_reads_a_problem(app: Flask) -> None:
    for path in ("/u/unknown", "/status/onboardings/x"):
        check_problem(app.test_client().delete(path, headers={"Accept": "application/json"}), 405)
    check_problem(app.test_client().get("/u/unknown", headers={"Accept": "application/json"}), 404)


@pytest.mark.parametrize(
    "path",
    ["/", "/nothing", "/api", "/api/v1", "/api/v2/onboardings", "/hooks", "/callbacks", "/.env", "/%00", "/%ff", "/ä"],
)
def test_what_is_not_there_is_404(app: Flask, path: str) -> None:
    answer = app.test_client().get(path, headers=HTML)
    check_headers(answer, path)
    check_problem(answer, 404)


@pytest.mark.parametrize(
    "path", ["/static/../app.py", "/static/%2e%2e/app.py", "/static/nothing", "/static//etc/passwd"]
)
def test_static_gives_its_own_files_alone(app: Flask, path: str) -> None:
    answer = app.test_client().get(path)
    check_headers(answer, path)
    check_problem(answer, 404)


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"", "application/json", 422),
        (b"{", "application/json", 422),
        (b"[]", "application/json", 422),
        (b"null", "application/json", 422),
        (b'{"a": NaN}', "application/json", 422),
        (b'{"a": "\xff"}', "application/json", 422),
        (b'"\\ud800"', "application/json", 422),
        (b"[" * 100_000, "application/json", 422),
        (b"9" * 5_000, "application/json", 422),
        (b"x" * 256_001, "application/json", 413),
    ],
)
def test_a_malformed_body_is_a_problem(
    app: Flask, operator: dict[str, str], body: bytes, content_type: str, status: int
) -> None:
    answer = app.test_client().post("/api/v1/onboardings", data=body, headers=operator, content_type=content_type)
    check_headers(answer, "/api/v1/onboardings")
    check_problem(answer, status)


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"no document", "image/png", 415),
        (b"", "image/png", 415),
        (b"%PDF-" + bytes(5_000_000), "application/pdf", 413),
        (b"--x", "multipart/form-data", 422),
        (b"--x", "multipart/form-data; boundary=x", 422),
        (b"--x\r\n\r\n", "multipart/form-data; boundary=x", 422),
        (b"--x\r\nContent-Disposition: form-data; name=file\r\n\r\nx\r\n--x--", "multipart/form-data; boundary=x", 422),
        (b"--x\r\nContent-Disposition: form-data; name=f; filename=f\r\n\r\nx", "multipart/form-data; boundary=x", 422),
    ],
)
def test_a_malformed_document_is_a_problem(
    app: Flask, bench: Bench, operator: dict[str, str], body: bytes, content_type: str, status: int
) -> None:
    path = f"/api/v1/onboardings/{bench.sign_up().id}/documents/selfie"
    answer = app.test_client().put(path, data=body, headers=operator, content_type=content_type)
    check_headers(answer, path)
    check_problem(answer, status)


@pytest.mark.parametrize("body", [b"--x", b"--x\r\n", b"\xff" * 50, b"a" * 16_500_001, b"&".join([b"a=1"] * 5_000)])
@pytest.mark.parametrize("content_type", ["multipart/form-data; boundary=x", "application/x-www-form-urlencoded"])
def test_a_malformed_form_is_a_page(app: Flask, bench: Bench, body: bytes, content_type: str) -> None:
    path = bench.view(bench.sign_up()).upload_url.removeprefix(bench.context.rules.public_url)
    answer = app.test_client().post(path, data=body, content_type=content_type, headers=HTML)
    check_headers(answer, path)
    assert answer.status_code in (303, 400, 413, 422)
    if answer.status_code != 303:
        check_page(answer, answer.status_code)


@pytest.mark.parametrize("path", ["/healthz", "/api/v1/onboardings", "/status", "/u/x"])
@pytest.mark.parametrize("host", ["", "a b", "[", "a/b", "a@b", "x:99999", "\xff"])
def test_a_garbled_host_is_no_fault_of_ours(bench: Bench, path: str, host: str) -> None:
    with served(create_app(bench.service)) as url:
        head = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: text/html\r\nConnection: close\r\n\r\n"
        answer = raw_request(url, head.encode("latin-1"))

    assert answer.status in (200, 302, 400, 401, 404)
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("year", ["9" * 11, "9" * 400])
@pytest.mark.parametrize("more", [{}, {"Range": "bytes=0-1"}])
@pytest.mark.parametrize("name", ["If-Modified-Since", "If-Range"])
def test_a_date_that_is_none_is_ignored(app: Flask, name: str, more: dict[str, str], year: str) -> None:
    headers = {name: f"Thu, 01 Jan {year} 00:00:00 GMT", **more}
    answer = app.test_client().get("/static/style.css", headers=headers)
    check_headers(answer, "/static/style.css")
    assert answer.status_code == (206 if more and name != "If-Range" else 200)
    answer.close()


def test_a_refusal_before_any_thread_is_taken_carries_the_headers_too() -> None:
    for status in (400, 408, 411, 413, 414, 417, 431, 500):
        for as_page in (False, True):
            head, body = Refusal(status, "Something.").answer("now", as_page=as_page).split(b"\r\n\r\n", 1)
            lines = head.decode().split("\r\n")
            assert f"Content-Length: {len(body)}" in lines
            assert {"Referrer-Policy: no-referrer", "X-Content-Type-Options: nosniff", "Cache-Control: no-store"} <= {
                *lines
            }
            assert any(line.startswith("Content-Security-Policy: default-src 'none'; ") for line in lines)
            assert ("Content-Type: text/html; charset=utf-8" in lines) is as_page
            assert body.startswith(b"<!doctype html>" if as_page else b'{"type": "about:blank"')


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        (b"POST /u/3fP71Z HTTP/1.1\r\n", True),
        (b"GET /status?state=approved HTTP/1.1\r\n", True),
        (b"POST /login HTTP/1.1\r\n", True),
        (b"POST /hooks/signup HTTP/1.1\r\n", False),
        (b"PUT /api/v1/onboardings/u/documents/selfie HTTP/1.1\r\n", False),
        (b"PUT /u/x HTTP/1.1\r\n", False),
        (b"", False),
        (b"POST", False),
    ],
)
def test_a_refusal_is_a_page_for_those_who_look_at_pages(start: bytes, expected: bool) -> None:
    assert asks_for_page(bytearray(start)) is expected
