"""Pictures of the pages for the documentation: `python -m tests.make_screenshots [FOLDER]` (default docs/images).

Needs Chromium at /usr/bin/chromium. With a folder it takes every page there, at both widths, light and dark.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from PIL import Image
from playwright.sync_api import BrowserContext, Page, sync_playwright

from orchestrator.health import Outcome
from orchestrator.machine import Event, State
from orchestrator.store import Change
from tests.pages_server import PROFILE, Pages, pages_server, put_documents

CHROMIUM = "/usr/bin/chromium"
DOCS = Path("docs/images")
WIDTHS = {"phone": 360, "desk": 1280}
_MINUTE, _HOUR, _DAY = 60_000, 3_600_000, 86_400_000
_STORY = (
    (State.APPROVED, "shop-48201"),
    (State.EXPIRED, "shop-48355"),
    (State.APPROVED, "shop-48377"),
    (State.REJECTED, "shop-48402"),
    (State.APPROVED, "shop-48415"),
    (State.IN_REVIEW, "shop-48419"),
    (State.CANCELLED, "shop-48430"),
    (State.NEEDS_ATTENTION, "shop-48436"),
    (State.AWAITING_CALLBACK, "shop-48440"),
    (State.APPROVED, "shop-48441"),
    (State.CONFIRMING, "shop-48443"),
    (State.SHARING, "shop-48447"),
    (State.UPLOADING, "shop-48450"),
    (State.COLLECTING, "shop-48452"),
)


def seed(pages: Pages) -> None:
    """Onboardings in all states, healthy providers and a working worker."""
    for number, (state, name) in enumerate(_STORY):
        row = pages.sign_up(name, profile=PROFILE)
        put_documents(pages, row.id, "idFileFront", "selfie")
        pages.clock.now += 2 * _MINUTE
        pages.in_state(state, name)
        if state is State.SHARING:
            later = {"attempts": 3, "failing_since": pages.clock.now, "step_at": pages.clock.now + 8 * _MINUTE}
            pages.happen(row.id, Event.STEP_FAILED, changes=later)
        pages.clock.now += (17 if number < 8 else 1) * _MINUTE
    context, newest = pages.context, pages.sign_up(_STORY[-1][1])
    for name, skew in (("btse", 400), ("osl", -900)):
        outcome = Outcome(name, newest.id, pages.clock.now - 4_000, skew_ms=skew)
        context.store.commit(Change(newest, newest, outcome=outcome))
        newest = pages.sign_up(_STORY[-1][1])
    context.schedule.beat("worker", pages.clock.now - 2_000, 0, 60_000)


def history(pages: Pages) -> None:
    """A month of users before the others, most of them approved, ever more of them."""
    end = pages.clock.now
    for number in range(90):
        ago = int(29 * _DAY * (1 - (number / 90) ** 0.7)) + (number % 9) * _HOUR
        pages.clock.now = end - ago
        row = pages.in_state(State.AWAITING_CALLBACK, f"shop-{47_900 + number}")
        pages.clock.now += (2 + number * number % 173) * _MINUTE
        pages.happen(row.id, Event.CALLBACK_FINAL_REJECT if number % 8 == 5 else Event.CALLBACK_PASS)
        pages.happen(row.id, Event.CONFIRMED_FINAL_REJECT if number % 8 == 5 else Event.CONFIRMED_PASS)
    pages.clock.now = end


def targets(pages: Pages) -> Iterator[tuple[str, str, bool]]:
    """Name, path, and whether it is taken signed in."""
    yield "login", "/login", False
    yield "overview", "/status", True
    yield "list", "/status/onboardings", True
    yield "list-empty", "/status/onboardings?q=nobody&state=approved", True
    for state, name in _STORY:
        row = pages.context.store.newest_onboarding(name)
        assert row
        if name in ("shop-48436", "shop-48415", "shop-48452", "shop-48447", "shop-48440"):
            yield f"one-{state}", f"/status/onboardings/{row.id}", True
        if name in ("shop-48452", "shop-48402", "shop-48440", "shop-48441", "shop-48355"):
            yield f"user-{state}", pages.link(row.id), False
        if name == "shop-48452":
            for screen in ("type", "name", "about", "document", "address", "questions", "front", "selfie", "check"):
                yield f"user-{screen}", f"{pages.link(row.id)}?step={screen}", False
                yield f"user-{screen}-zh", f"{pages.link(row.id)}?step={screen}&lang=zh-Hant-TW", False
    yield "unknown", "/u/unknown", False
    yield "forbidden", "/status/onboardings/onb_none", True


def all_pages(context: BrowserContext, pages: Pages, folder: Path, suffix: str) -> None:
    """Every page as a picture; complains about a page that is wider than its window."""
    page = context.new_page()
    for name, path, signed_in in targets(pages):
        if signed_in:
            sign_in(page, pages)
        page.goto(pages.url + path)
        page.screenshot(path=folder / f"{name}-{suffix}.png", full_page=True)
        wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        if wide > 0:
            print(f"{name} {suffix}: {wide} px too wide")


def sign_in(page: Page, pages: Pages) -> None:
    """Sign in as an operator unless that was done."""
    page.goto(f"{pages.url}/status")
    if "/login" in page.url:
        page.fill("#token", pages.operator)
        page.click("main button")


def smaller(path: Path) -> None:
    """Write a picture again with few colours."""
    with Image.open(path) as image:
        image.convert("RGB").quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)


def main() -> None:
    """Take the documentation's pictures, or all into a folder."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    with tempfile.TemporaryDirectory() as place, pages_server(Path(place)) as pages, sync_playwright() as play:
        history(pages)
        seed(pages)
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        chromium = play.chromium.launch(executable_path=CHROMIUM, args=arguments)
        for suffix, width in WIDTHS.items():
            for scheme in ("light", "dark") if folder else ("light",):
                context = chromium.new_context(
                    viewport={"width": width, "height": 800},
                    color_scheme=scheme,
                    has_touch=suffix == "phone",
                    is_mobile=suffix == "phone",
                )
                if folder:
                    folder.mkdir(parents=True, exist_ok=True)
                    all_pages(context, pages, folder, f"{suffix}-{scheme}")
                else:
                    documentation(context.new_page(), pages, suffix)
                context.close()
        chromium.close()


def documentation(page: Page, pages: Pages, suffix: str) -> None:
    """The operators' pages at a desk, the overview and all that an end user sees on a phone."""
    known = {name: path for name, path, _ in targets(pages)}
    if suffix == "desk":
        take(page, pages, "login", known["login"])
        sign_in(page, pages)
        take(page, pages, "status", known["overview"], whole=True)
        take(page, pages, "list", known["list"])
        take(page, pages, "onboarding", known["one-needs_attention"], whole=True)
        take(page, pages, "message", known["forbidden"])
        take(page, pages, "reference", "/docs")
        return
    for name in ("awaiting_callback", "approved", "rejected", "expired"):
        take(page, pages, f"upload-{name}", known[f"user-{name}"])
    take(page, pages, "upload-unknown", known["unknown"])
    row = pages.sign_up("shop-48999", profile={"firstName": "Ana", "nationality": "HKG"})
    put_documents(pages, row.id, "idFileFront")
    screens = {name: f"?step={name}" for name in ("type", "name", "document", "address", "questions")}
    screens |= {"photo": "?step=selfie", "check": "?step=check&lang=zh-Hant-TW"}
    take(page, pages, "upload", pages.link(row.id))
    for name, query in screens.items():
        take(page, pages, f"upload-{name}", pages.link(row.id) + query)
    sign_in(page, pages)
    take(page, pages, "status-phone", known["overview"])


def take(page: Page, pages: Pages, name: str, path: str, *, whole: bool = False) -> None:
    """One picture: of the window, or of the whole page."""
    page.goto(pages.url + path)
    page.screenshot(path=DOCS / f"{name}.png", full_page=whole)
    smaller(DOCS / f"{name}.png")


if __name__ == "__main__":
    main()
