"""The browser that tests use sees what it must see; and every page of the product is shown in it once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from flask import Flask

from tests.browser import PHONE, OpenBrowser
from tests.pages_server import Pages, pages_server
from tests.service import served

_POLICY = "default-src 'none'; script-src 'self'; img-src data:"
_BAD = {
    "inline": ("<p style='color: red'>Red</p>", "Content Security Policy"),
    "script": ("<script src='/script.js'></script>", "a script failed: .*oops"),
    "elsewhere": ("<form action='http://127.0.0.2:9/'><button>Go</button></form>", "a request to another host"),
    "missing": ("<script src='/none.js'></script>", "404 for .*none.js"),
}


@pytest.fixture(scope="module")
def bad_pages() -> Iterator[str]:
    """The base of a server with pages that should not be."""
    app = Flask("bad")
    app.add_url_rule("/script.js", "script", lambda: ("throw new Error('oops')", {"Content-Type": "text/javascript"}))

    @app.get("/<name>")
    def show(name: str) -> tuple[str, int, dict[str, str]]:
        found = name in _BAD
        body = f"<!doctype html><html><link rel=icon href=data:,>{_BAD[name][0] if found else ''}"
        return body, 200 if found else 404, {"Content-Security-Policy": _POLICY}

    with served(app) as url:
        yield url


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    with pages_server(tmp_path_factory.mktemp("pages")) as running:
        yield running


@pytest.mark.parametrize("name", _BAD)
def test_what_must_not_happen_on_a_page_is_a_problem(open_browser: OpenBrowser, bad_pages: str, name: str) -> None:
    visitor = open_browser(bad_pages)
    visitor.go(f"/{name}")
    if name == "elsewhere":
        visitor.page.get_by_role("button").click(no_wait_after=True)
        visitor.page.wait_for_timeout(200)
    with pytest.raises(AssertionError, match=_BAD[name][1]):
        visitor.close()
    visitor.problems.clear()


def test_axe_finds_what_is_wrong_with_a_page(open_browser: OpenBrowser, bad_pages: str) -> None:
    visitor = open_browser(bad_pages)
    visitor.go("/elsewhere")
    with pytest.raises(pytest.fail.Exception, match="html-has-lang"):
        visitor.check_accessible()


def test_the_login_is_shown_on_a_phone_without_a_complaint(open_browser: OpenBrowser, pages: Pages) -> None:
    visitor = open_browser(pages.url, PHONE, dark=True, locale="zh-TW")
    assert visitor.go("/login").status == 200
    visitor.check_accessible()
    visitor.check_fits()
    assert 1_000 < visitor.weight("/login") < 60_000
