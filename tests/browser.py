"""A real Chromium for tests. Whatever a page complains about fails the test: see `Visitor`.

    def test_something(open_browser: OpenBrowser, pages: Pages) -> None:
        visitor = open_browser(pages.url, PHONE, locale="zh-TW")
        visitor.go("/login")
        visitor.check_accessible()

`visitor.page` is Playwright's page. Without Chromium these tests are skipped; in CI they fail.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Error,
    Page,
    Playwright,
    Request,
    Response,
    WebError,
    expect,
    sync_playwright,
)

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # Nothing can be asked of another host, even if a page tried.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]
PHONE: dict[str, Any] = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}
DESKTOP: dict[str, Any] = {"viewport": {"width": 1280, "height": 800}}
LONGEST_PAGE = 60_000
"""Bytes of a page with its style and scripts, without pictures, as they are before compression."""
_TIMEOUT_MS = 15_000
_ANSWER_SEEN_ELSEWHERE = re.compile(r"Failed to load resource: the server responded with a status of \d+")


@dataclass
class Visitor:
    """One person's browser: its own cookies, one page. `problems`: what must not happen, told when the test ends.

    These are complaints on the console (a violation of the Content Security Policy is one), errors of scripts,
    requests to any other host than `base`'s, and styles, scripts or pictures that are not there.
    """

    context: BrowserContext
    base: str
    scripts: bool = True
    problems: list[str] = field(default_factory=list)
    _tolerated: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.context.set_default_timeout(_TIMEOUT_MS)
        self.context.on("console", self._console)
        self.context.on("weberror", self._error)
        self.context.on("request", self._request)
        self.context.on("response", self._response)
        self.page: Page = self.context.new_page()

    def go(self, path: str) -> Response:
        """Open a path of `base`."""
        answer = self.page.goto(self.base + path)
        assert answer is not None
        return answer

    @contextmanager
    def tolerating(self, pattern: str) -> Iterator[None]:
        """Problems that contain `pattern` (a regular expression) are meant to happen in here."""
        self._tolerated.append(pattern)
        try:
            yield
            self.page.wait_for_timeout(50)  # what was complained about arrives a little later
        finally:
            self._tolerated.remove(pattern)

    @contextmanager
    def without_network(self) -> Iterator[None]:
        """The connection is lost in here."""
        with self.tolerating(r"net::ERR_INTERNET_DISCONNECTED"):
            self.context.set_offline(True)
            yield
            self.context.set_offline(False)

    def check_accessible(self) -> None:
        """axe finds nothing on the page as it is now. Needs a visitor with scripts."""
        assert self.scripts, "axe is a script: open the page in a browser with scripts"
        results = Axe().run(self.page)
        if results.violations_count:
            pytest.fail(f"{self.page.url}: {results.generate_report()}", pytrace=False)

    def check_fits(self) -> None:
        """Nothing sticks out of the window sideways."""
        wide = self.page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0, f"{self.page.url} is {wide} px wider than its window"

    def weight(self, path: str) -> int:
        """Bytes of a page with its style and scripts, without pictures, opened in an empty browser."""
        answers: list[Response] = []
        assert self.context.browser
        fresh = self.context.browser.new_context(storage_state=self.context.storage_state())
        try:
            page = fresh.new_page()
            page.on("response", lambda answer: answers.append(answer))  # noqa: PLW0108 - Playwright marks what it calls
            page.goto(self.base + path, wait_until="load")
            weighed = ("document", "stylesheet", "script")
            return sum(len(answer.body()) for answer in answers if answer.request.resource_type in weighed)
        finally:
            fresh.close()

    def close(self) -> None:
        """End this browser; raises AssertionError with everything that must not have happened."""
        with suppress(Error):  # a page that was closed by its test
            self.page.wait_for_timeout(1)
        self.context.close()
        assert not self.problems, "\n".join(self.problems)

    def _problem(self, text: str) -> None:
        if not any(re.search(pattern, text) for pattern in self._tolerated):
            self.problems.append(text)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not _ANSWER_SEEN_ELSEWHERE.match(message.text):
            self._problem(f"{message.type} on the console: {message.text} ({message.location.get('url')})")

    def _error(self, error: WebError) -> None:
        self._problem(f"a script failed: {error.error}")

    def _request(self, request: Request) -> None:
        url = urlsplit(request.url)
        if url.scheme not in ("blob", "data", "about") and url.netloc != urlsplit(self.base).netloc:
            self._problem(f"a request to another host: {request.url}")

    def _response(self, response: Response) -> None:
        if response.status >= 400 and response.request.resource_type not in ("document", "fetch", "xhr"):
            self._problem(f"{response.status} for {response.url}")


OpenBrowser = Callable[..., Visitor]
"""`open_browser(base, PHONE or DESKTOP, dark=False, scripts=True, locale="en-GB", **context)` → Visitor."""


@pytest.fixture(scope="session")
def playwright() -> Iterator[Playwright]:
    """Playwright itself; skips, or fails in CI, where Chromium is missing."""
    if not os.access(CHROMIUM, os.X_OK):
        words = "Chromium is missing: install it with `apt-get install chromium` (Debian), or run .ci/packages as root"
        if os.environ.get("CI"):
            pytest.fail(words)
        pytest.skip(words)
    expect.set_options(timeout=_TIMEOUT_MS)
    with sync_playwright() as running:
        yield running


@pytest.fixture(scope="session")
def chromium(playwright: Playwright) -> Iterator[Browser]:
    """The browser program, started once in each test process."""
    browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
    yield browser
    browser.close()


def visitor_of(browser: Browser, base: str, screen: dict[str, Any], **how: Any) -> Visitor:
    """A browser of its own on `screen`; `how` as for OpenBrowser."""
    scripts = how.pop("scripts", True)
    scheme = "dark" if how.pop("dark", False) else "light"
    options = {"locale": "en-GB", "timezone_id": "Asia/Hong_Kong", **screen, **how}
    return Visitor(browser.new_context(java_script_enabled=scripts, color_scheme=scheme, **options), base, scripts)


@pytest.fixture
def open_browser(chromium: Browser) -> Iterator[OpenBrowser]:
    """Opens browsers; when the test ends, whatever a page complained about fails it."""
    with ExitStack() as stack:

        def start(base: str, screen: dict[str, Any] = DESKTOP, **how: Any) -> Visitor:
            visitor = visitor_of(chromium, base, screen, **how)
            stack.callback(visitor.close)
            return visitor

        yield start
