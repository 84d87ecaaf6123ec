"""Signing in and out, and what guards the pages' forms, over real HTTP."""

from __future__ import annotations

import html
import re
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import unquote

import pytest
import requests

from orchestrator.errors import TooManyAttempts, Unauthenticated
from orchestrator.machine import State
from orchestrator.onboarding import access
from tests.pages_server import PUBLIC_URL, Pages, pages_server, visible

HOUR_MS = 3_600_000


@pytest.fixture
def pages(tmp_path: Path) -> Iterator[Pages]:
    with pages_server(tmp_path) as running:
        yield running


def cookie(answer: requests.Response) -> str:
    return answer.headers["Set-Cookie"]


def csrf(page: requests.Response) -> str:
    found = re.search(r'name="csrf" value="([0-9a-f]{64})"', page.text)
    assert found
    return found[1]


@pytest.mark.parametrize("role", ["operator", "viewer"])
def test_an_operator_and_a_viewer_can_sign_in(pages: Pages, role: str) -> None:
    browser = pages.browser()
    answer = browser.sign_in(getattr(pages, role))
    assert (answer.status_code, answer.headers["Location"]) == (303, "/status")
    page = browser.get("/status")
    assert page.status_code == 200
    assert f'<span class="quietly">{role}</span>' in page.text


@pytest.mark.parametrize("token", ["", "orc_wrong", "nonsense", "orc_\x00é"])
def test_a_wrong_token_is_refused(pages: Pages, token: str) -> None:
    answer = pages.browser().sign_in(token)
    assert answer.status_code == 401
    assert not cookie(answer).startswith("orchestrator=")
    assert "not a working viewer or operator token" in answer.text


def test_a_merchant_token_and_a_revoked_one_do_not_sign_in(pages: Pages) -> None:
    assert pages.browser().sign_in(pages.merchant).status_code == 401
    access.revoke_token(pages.context, "olga")
    assert pages.browser().sign_in(pages.operator).status_code == 401


def test_the_eleventh_wrong_token_in_a_minute_has_to_wait(pages: Pages) -> None:
    browser = pages.browser()
    assert [browser.sign_in("orc_wrong").status_code for _ in range(10)] == [401] * 10
    answer = browser.sign_in(pages.operator)
    assert answer.status_code == 429
    assert 0 < int(answer.headers["Retry-After"]) <= 60
    pages.clock.now += 60_001
    assert browser.sign_in(pages.operator).status_code == 303


def test_of_many_wrong_tokens_at_once_ten_are_told_so_and_the_others_wait(
    pages: Pages, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are looked at by nobody before all of them have found that there were none."""
    many = 24
    together = threading.Barrier(many, timeout=20)
    ask = pages.context.access.login_failures

    def asked(address_hash: str, since: int) -> tuple[int, int]:
        found = ask(address_hash, since)
        together.wait()
        return found

    monkeypatch.setattr(pages.context.access, "login_failures", asked)

    def attempt(number: int) -> int:
        try:
            access.sign_in(pages.context, f"orc_wrong-{number}", "198.51.100.9")
        except Unauthenticated:
            return 401
        except TooManyAttempts as error:
            return 429 if 0 < error.retry_after <= 60 else error.retry_after
        return 303

    with ThreadPoolExecutor(many) as pool:
        statuses = Counter(pool.map(attempt, range(many)))

    assert statuses == {401: 10, 429: many - 10}
    monkeypatch.undo()
    pages.clock.now += 60_001
    access.sign_in(pages.context, pages.operator, "198.51.100.9")


def test_another_port_is_no_other_address(pages: Pages) -> None:
    browser = pages.browser()
    answers = [
        browser.post("/login", {"token": "orc_wrong"}, headers={"X-Forwarded-For": f"198.51.100.9:{4000 + number}"})
        for number in range(11)
    ]
    assert [answer.status_code for answer in answers] == [401] * 10 + [429]


def test_wrong_tokens_of_another_address_do_not_count(pages: Pages) -> None:
    browser = pages.browser()
    for _ in range(10):
        browser.post("/login", {"token": "orc_wrong"}, headers={"X-Forwarded-For": "198.51.100.9"})
    assert browser.sign_in(pages.operator).status_code == 303


def test_the_cookie_on_http_is_hidden_from_scripts_and_other_sites(pages: Pages) -> None:
    flags = cookie(pages.browser().sign_in(pages.operator))
    assert flags.startswith("orchestrator=")
    assert {"HttpOnly", "Path=/", "SameSite=Lax"} <= set(flags.split("; "))
    assert "Secure" not in flags
    assert "Domain" not in flags


def test_the_cookie_on_https_is_bound_to_the_host(pages: Pages) -> None:
    secure = {"X-Forwarded-Proto": "https"}
    origin = pages.url.replace("http:", "https:")
    answer = pages.browser().post("/login", {"token": pages.operator}, origin=origin, headers=secure)
    assert answer.status_code == 303
    flags = cookie(answer)
    assert flags.startswith("__Host-orchestrator=")
    assert {"HttpOnly", "Path=/", "SameSite=Lax", "Secure"} <= set(flags.split("; "))
    assert "Domain" not in flags


def test_every_login_makes_a_new_session_and_ends_the_one_before(pages: Pages) -> None:
    browser = pages.browser()
    browser.session.cookies.set("orchestrator", "chosen-by-an-attacker", domain="127.0.0.1", path="/")
    browser.sign_in(pages.operator)
    first = browser.session.cookies["orchestrator"]
    assert first != "chosen-by-an-attacker"
    browser.sign_in(pages.operator)
    second = browser.session.cookies["orchestrator"]
    assert second != first
    browser.session.cookies.set("orchestrator", first, domain="127.0.0.1", path="/")
    assert browser.get("/status", allow_redirects=False).status_code == 302


@pytest.mark.parametrize(("idle_ms", "answer"), [(HOUR_MS, 200), (HOUR_MS + 1, 302)])
def test_a_session_ends_after_an_idle_hour(pages: Pages, idle_ms: int, answer: int) -> None:
    browser = pages.browser(pages.viewer)
    pages.clock.now += idle_ms
    assert browser.get("/status", allow_redirects=False).status_code == answer


def test_a_session_ends_after_twelve_hours_however_busy(pages: Pages) -> None:
    browser = pages.browser(pages.viewer)
    for _ in range(24):
        assert browser.get("/status", allow_redirects=False).status_code == 200
        pages.clock.now += HOUR_MS // 2
    pages.clock.now += 1
    assert browser.get("/status", allow_redirects=False).status_code == 302


def test_a_session_ends_with_its_token(pages: Pages) -> None:
    browser = pages.browser(pages.viewer)
    access.revoke_token(pages.context, "vic")
    assert browser.get("/status", allow_redirects=False).status_code == 302


def test_signing_out_ends_the_session_on_the_server(pages: Pages) -> None:
    browser = pages.browser(pages.operator)
    secret = browser.session.cookies["orchestrator"]
    answer = browser.act("/status", "/logout")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/login")
    assert "orchestrator" not in browser.session.cookies
    browser.session.cookies.set("orchestrator", secret, domain="127.0.0.1", path="/")
    assert browser.get("/status", allow_redirects=False).status_code == 302


def test_all_processes_know_the_same_sessions_and_the_same_wrong_tokens(pages: Pages) -> None:
    here = pages.browser(pages.operator)
    with pages.elsewhere() as there:
        there.session.cookies.update(here.session.cookies)
        assert there.get("/status").status_code == 200
        assert there.act("/status", "/logout").status_code == 303
        assert here.get("/status", allow_redirects=False).status_code == 302
        wrong = [browser.sign_in("orc_wrong").status_code for _ in range(5) for browser in (here, there)]
        assert wrong == [401] * 10
        assert [browser.sign_in(pages.operator).status_code for browser in (here, there)] == [429, 429]


def test_signing_out_twice_leads_to_the_login(pages: Pages) -> None:
    assert pages.browser().post("/logout").status_code == 303


def test_who_presses_a_button_after_the_session_ended_hears_that_nothing_was_done_and_is_led_back(
    pages: Pages,
) -> None:
    row = pages.sign_up("u-late")
    browser = pages.browser(pages.operator)
    pages.clock.now += 13 * HOUR_MS
    answer = browser.post(f"/status/onboardings/{row.id}/cancel?state=collecting", {"csrf": "0"})
    assert answer.status_code == 401
    assert "Nothing was done: sign in and do it again." in visible(answer.text)
    [link] = re.findall(r'href="(/login[^"]*)"', answer.text)
    assert f"/status/onboardings/{row.id}?state=collecting" in unquote(html.unescape(link))
    form = browser.get(html.unescape(link)).text
    onwards = re.search(r'name="next" value="([^"]*)"', form)
    assert onwards
    assert html.unescape(onwards[1]) == f"/status/onboardings/{row.id}?state=collecting"
    assert pages.state(row.id) is State.COLLECTING


def test_signing_out_needs_the_forms_token(pages: Pages) -> None:
    browser = pages.browser(pages.operator)
    assert browser.post("/logout").status_code == 403
    assert browser.get("/status", allow_redirects=False).status_code == 200


def test_who_is_not_signed_in_is_led_to_the_login_and_back(pages: Pages) -> None:
    browser = pages.browser()
    answer = browser.get("/status?state=approved&q=a%26b", allow_redirects=False)
    assert answer.status_code == 302
    assert answer.headers["Location"] == "/login?next=/status?state%3Dapproved%26q%3Da%2526b"
    form = browser.get(answer.headers["Location"])
    onwards = re.search(r'name="next" value="([^"]*)"', form.text)
    assert onwards
    back = browser.post("/login", {"token": pages.viewer, "next": onwards[1].replace("&amp;", "&")})
    assert back.headers["Location"] == "/status?state=approved&q=a%26b"
    assert browser.get("/login", allow_redirects=False).status_code == 303


@pytest.mark.parametrize(
    "onwards", ["https://evil.example/", "//evil.example", "/\\evil.example", "evil", "/\t/evil.example", "", "\\\\x"]
)
def test_the_login_leads_nowhere_else(pages: Pages, onwards: str) -> None:
    answer = pages.browser().post("/login", {"token": pages.operator, "next": onwards})
    assert answer.headers["Location"] == "/status"


@pytest.mark.parametrize(
    ("origin", "fetch_site"),
    [
        ("https://evil.example", None),
        ("https://evil.example", "cross-site"),
        ("https://evil.example", "same-origin"),
        ("null", "cross-site"),
        ("null", "same-site"),
        ("http://127.0.0.1:1", "same-site"),
        ("http://127.0.0.1.evil.example", None),
    ],
)
def test_forms_from_another_origin_are_refused(pages: Pages, origin: str, fetch_site: str | None) -> None:
    row = pages.in_state(State.NEEDS_ATTENTION, "u-1")
    browser = pages.browser(pages.operator)
    token = csrf(browser.get("/status"))
    headers = {"Sec-Fetch-Site": fetch_site} if fetch_site else {}
    for path in ("/login", "/logout", f"/status/onboardings/{row.id}/cancel", pages.link(row.id)):
        answer = browser.post(path, {"csrf": token, "token": pages.operator}, origin=origin, headers=headers)
        assert answer.status_code == 403, path
        assert "Set-Cookie" not in answer.headers
    assert pages.state(row.id) is State.NEEDS_ATTENTION


@pytest.mark.parametrize("headers", [{}, {"Sec-Fetch-Site": "same-origin"}])
def test_a_form_that_does_not_say_where_it_comes_from_needs_its_token(pages: Pages, headers: dict[str, str]) -> None:
    row = pages.in_state(State.NEEDS_ATTENTION, "u-1")
    stranger, browser = pages.browser(), pages.browser()
    of_a_stranger = csrf(stranger.get("/login"))
    for token in (None, "", "0" * 64, of_a_stranger):
        given = {"token": pages.operator} | ({} if token is None else {"csrf": token})
        answer = browser.post("/login", given, origin="null", headers=headers)
        assert answer.status_code == 403, "before it has seen the login"
        browser.get("/login")
        assert browser.post("/login", given, origin="null", headers=headers).status_code == 403
        browser.session.cookies.clear()
    own = {"token": pages.operator, "csrf": csrf(browser.get("/login"))}
    assert browser.post("/login", own, origin="null", headers=headers).status_code == 303
    for path in ("/logout", f"/status/onboardings/{row.id}/cancel"):
        for token in ("", own["csrf"], of_a_stranger):
            assert browser.post(path, {"csrf": token}, origin="null", headers=headers).status_code == 403
    assert pages.state(row.id) is State.NEEDS_ATTENTION
    token = csrf(browser.get("/status"))
    cancel = browser.post(f"/status/onboardings/{row.id}/cancel", {"csrf": token}, origin="null", headers=headers)
    assert cancel.status_code == 303
    assert pages.state(row.id) is State.CANCELLED
    assert browser.post("/logout", {"csrf": token}, origin="null", headers=headers).status_code == 303


def test_a_wrong_token_leaves_the_login_usable(pages: Pages) -> None:
    browser = pages.browser()
    form = browser.get("/login")
    for _ in range(2):
        form = browser.post("/login", {"token": "orc_wrong", "csrf": csrf(form)}, origin="null")
        assert form.status_code == 401
    assert browser.post("/login", {"token": pages.viewer, "csrf": csrf(form)}, origin="null").status_code == 303


@pytest.mark.parametrize(
    ("fetch_site", "status"),
    [(None, 303), ("same-origin", 303), ("none", 303), ("cross-site", 403), ("same-site", 403)],
)
def test_without_an_origin_the_browser_must_not_say_that_it_is_another_site(
    pages: Pages, fetch_site: str | None, status: int
) -> None:
    headers = {"Sec-Fetch-Site": fetch_site} if fetch_site else {}
    answer = pages.browser().post("/login", {"token": pages.operator}, origin=None, headers=headers)
    assert answer.status_code == status


def test_the_public_address_is_our_own_origin_too(pages: Pages) -> None:
    assert pages.browser().post("/login", {"token": pages.operator}, origin=PUBLIC_URL).status_code == 303


@pytest.mark.parametrize(
    ("public_url", "origin"),
    [
        ("https://kyc.example:443", "https://kyc.example"),
        ("http://kyc.example:80", "http://kyc.example"),
        ("https://kyc.example:8443", "https://kyc.example:8443"),
    ],
)
def test_the_public_address_may_name_the_port_that_browsers_leave_out(
    tmp_path: Path, public_url: str, origin: str
) -> None:
    with pages_server(tmp_path, ORCHESTRATOR_PUBLIC_URL=public_url) as pages:
        assert pages.browser().post("/login", {"token": pages.operator}, origin=origin).status_code == 303
        assert pages.browser().post("/login", {"token": pages.operator}, origin=f"{origin}1").status_code == 403


@pytest.mark.parametrize("token", [None, "", "0" * 64, "é", "another session's"])
def test_a_form_without_its_sessions_token_is_refused(pages: Pages, token: str | None) -> None:
    row = pages.in_state(State.NEEDS_ATTENTION, "u-1")
    browser = pages.browser(pages.operator)
    if token == "another session's":
        token = csrf(pages.browser(pages.operator).get("/status"))
    answer = browser.post(f"/status/onboardings/{row.id}/retry", {} if token is None else {"csrf": token})
    assert answer.status_code == 403
    assert pages.state(row.id) is State.NEEDS_ATTENTION


def test_a_form_of_nobody_is_answered_401(pages: Pages) -> None:
    row = pages.in_state(State.NEEDS_ATTENTION, "u-1")
    path = f"/status/onboardings/{row.id}/cancel"
    assert pages.browser().post(path).status_code == 401
    problem = pages.browser().post(path, headers={"Accept": "application/json"})
    assert (problem.status_code, problem.headers["Content-Type"]) == (401, "application/problem+json")


def test_pages_are_not_kept_or_framed_or_scripted_from_elsewhere(pages: Pages) -> None:
    row = pages.sign_up("u-1")
    browser = pages.browser(pages.operator)
    for path in ("/status", f"/status/onboardings/{row.id}", "/login", pages.link(row.id), "/u/unknown"):
        headers = browser.get(path, allow_redirects=False).headers
        assert headers["Cache-Control"] == "no-store"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        policy = headers["Content-Security-Policy"].split("; ")
        assert {"default-src 'none'", "script-src 'self'", "style-src 'self'", "form-action 'self'"} <= set(policy)
        assert {"frame-ancestors 'none'", "base-uri 'none'"} <= set(policy)


def test_no_page_has_a_script_or_a_style_within_itself(pages: Pages) -> None:
    row = pages.in_state(State.NEEDS_ATTENTION, "u-1")
    browser = pages.browser(pages.operator)
    for path in ("/status", f"/status/onboardings/{row.id}", "/login", pages.link(row.id)):
        text = browser.get(path).text
        assert not re.search(r"<script(?! src=\"/static/)|<style|\sstyle=|\son[a-z]+=|javascript:", text)
        assert not re.search(r'(?:src|href)="(?:https?:)?//', text)
    assert browser.get("/static/style.css").status_code == 200
    assert browser.get("/static/icon.svg").status_code == 200
