"""What a real browser does with the headers of the pages: it tells no address onwards, and its forms still work."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import pytest
from playwright.sync_api import Browser, Page, Playwright, Request

from orchestrator.machine import State
from tests.pages_server import PROFILE, Pages, pages_server, put_documents

CHROMIUM = "/usr/bin/chromium"
pytestmark = pytest.mark.skipif(
    not Path(CHROMIUM).exists() and os.environ.get("CI") != "true", reason="there is no Chromium here"
)


@dataclass
class Seen:
    """Every request of a page to the service: method, path and headers."""

    page: Page
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)

    def note(self, request: Request) -> None:
        self.requests.append((request.method, urlsplit(request.url).path, request.all_headers()))

    def posts(self, path: str, count: int) -> list[dict[str, str]]:
        """The headers of every POST to a path once there are so many: told of a little later than they are answered."""
        for _ in range(100):
            found = [headers for method, where, headers in self.requests if method == "POST" and where == path]
            if len(found) >= count:
                break
            self.page.wait_for_timeout(50)
        assert len(found) == count, path
        return found


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    with pages_server(tmp_path_factory.mktemp("pages")) as running:
        yield running


@pytest.fixture(scope="module")
def chromium(playwright: Playwright) -> Iterator[Browser]:
    """One that knows `localhost` as well, which is another site than 127.0.0.1."""
    running = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
    yield running
    running.close()


@contextmanager
def watched(chromium: Browser) -> Iterator[tuple[Page, Seen]]:
    """A page of a new browser, and what it asks for."""
    context = chromium.new_context()
    page = context.new_page()
    seen = Seen(page)
    page.on("requestfinished", seen.note)
    yield page, seen
    context.close()


def sign_in(page: Page, pages: Pages) -> None:
    page.goto(f"{pages.url}/status")
    page.fill("#token", pages.operator)
    page.click("main button")
    assert urlsplit(page.url).path == "/status"


def test_a_users_form_is_sent_and_the_link_is_told_to_nobody(pages: Pages, chromium: Browser) -> None:
    row = pages.sign_up("of-a-browser", profile=PROFILE)
    put_documents(pages, row.id, "idFileFront", "selfie")
    link = pages.link(row.id)
    with watched(chromium) as (page, seen):
        page.goto(pages.url + link)
        page.goto(f"{pages.url}{link}?step=check")
        page.locator('button[value="submit"]').first.click()
        page.wait_for_load_state("load")
        assert pages.state(row.id) is State.UPLOADING
        paths = {path for _, path, _ in seen.requests}
        assert link in paths
        assert any(path.startswith("/static/") for path in paths)
        assert [headers for _, _, headers in seen.requests if "referer" in headers] == []


def test_an_operators_forms_work_without_telling_where_they_come_from(pages: Pages, chromium: Browser) -> None:
    row = pages.in_state(State.NEEDS_ATTENTION, "for-an-operator")
    with watched(chromium) as (page, seen):
        sign_in(page, pages)
        page.goto(f"{pages.url}/status/onboardings/{row.id}")
        cancel = page.locator(f'form[action="/status/onboardings/{row.id}/cancel"]')
        page.evaluate("for (const closed of document.querySelectorAll('details')) closed.open = true")
        cancel.locator("button").click()
        page.wait_for_load_state("load")
        assert pages.state(row.id) is State.CANCELLED
        page.locator('form[action="/logout"] button').click()
        page.wait_for_load_state("load")
        assert urlsplit(page.url).path == "/login"
        for path in ("/login", "/logout", f"/status/onboardings/{row.id}/cancel"):
            [headers] = seen.posts(path, 1)
            assert (headers["origin"], headers["sec-fetch-site"]) == ("null", "same-origin"), path
        assert [headers for _, _, headers in seen.requests if "referer" in headers] == []


FORM = """<form method="post" action="{action}" target="_top">
<input name="csrf" value="{csrf}"><input name="token" value="{token}"><input name="action" value="save">
<button id="go">Go</button></form>"""
QUOTED = FORM.replace("\n", " ").replace('"', "&quot;")
SHAPES = {
    "plain": FORM,
    "telling no address": '<meta name="referrer" content="no-referrer">' + FORM,
    "in a frame": "<iframe sandbox='allow-forms allow-top-navigation allow-same-origin' "
    "srcdoc='<meta name=referrer content=no-referrer>" + QUOTED + "'></iframe>",
    "in a frame of no origin": "<iframe sandbox='allow-forms allow-top-navigation' srcdoc='" + QUOTED + "'></iframe>",
}


class _Elsewhere(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(unquote(self.path[1:]).encode())

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[int]:
    """The port of another site, that shows the text in its path as a page."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Elsewhere)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"], ids=["same-site", "cross-site"])
def test_forms_of_another_site_do_nothing_whatever_it_hides(
    pages: Pages, chromium: Browser, elsewhere: int, host: str
) -> None:
    row = pages.in_state(State.NEEDS_ATTENTION, f"victim-{host}")
    user = pages.sign_up(f"user-{host}", profile=PROFILE)
    cancel = f"/status/onboardings/{row.id}/cancel"
    attacks = [(cancel, shape) for shape in SHAPES]
    attacks += [(path, "in a frame of no origin") for path in ("/logout", "/login", pages.link(user.id))]
    with watched(chromium) as (page, seen):
        sign_in(page, pages)
        sent_to = Counter({"/login": 1})
        for action, shape in attacks:
            # Even a working token and a link that they know do not help.
            text = SHAPES[shape].format(action=pages.url + action, csrf="0" * 64, token=pages.viewer)
            page.goto(f"http://{host}:{elsewhere}/{quote(text)}")
            with page.expect_navigation() as navigated:
                page.frames[-1].click("#go")
            answer = navigated.value
            assert answer
            assert answer.status == 403, f"{action} from a form that is {shape}"
            sent_to[action] += 1
            sent = seen.posts(action, sent_to[action])[-1]
            same_site = host == "127.0.0.1" and shape != "in a frame of no origin"
            assert sent["sec-fetch-site"] == ("same-site" if same_site else "cross-site")
        page.goto(f"{pages.url}/status")
        assert urlsplit(page.url).path == "/status", "still signed in"
        assert "olga" in page.content()
    assert pages.state(row.id) is State.NEEDS_ATTENTION
