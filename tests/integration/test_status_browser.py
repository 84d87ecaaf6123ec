"""The operators' pages in a browser: accessible, on phone and desk, up to date, with scripts and without."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from playwright.sync_api import Route, expect

from orchestrator.machine import Event, State
from orchestrator.onboarding import access, collect
from tests.browser import DESKTOP, LONGEST_PAGE, PHONE, OpenBrowser, Visitor
from tests.make_screenshots import seed
from tests.pages_server import PROFILE, PUBLIC_URL, Pages, pages_server, put_documents

LIST = "/status/onboardings"
LOOK = "document.dispatchEvent(new Event('visibilitychange'))"
"""What makes a page that stays up to date look at once."""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    """Onboardings in all states."""
    with pages_server(tmp_path_factory.mktemp("pages")) as running:
        seed(running)
        yield running


def signed_in(open_browser: OpenBrowser, pages: Pages, screen: object = DESKTOP, **how: object) -> Visitor:
    """An operator's browser."""
    visitor = open_browser(pages.url, screen, **how)
    secret, _ = access.sign_in(pages.context, pages.operator, "127.0.0.1")
    visitor.context.add_cookies([{"name": "orchestrator", "value": secret, "url": pages.url}])
    return visitor


def path_of(pages: Pages, name: str) -> str:
    row = pages.context.store.newest_onboarding(name)
    assert row
    return f"{LIST}/{row.id}"


@pytest.mark.parametrize(("screen", "dark"), [(PHONE, False), (DESKTOP, True)], ids=["phone", "desk"])
def test_axe_finds_nothing_on_any_page_and_nothing_sticks_out(
    open_browser: OpenBrowser, pages: Pages, screen: dict[str, object], dark: bool
) -> None:
    visitor = signed_in(open_browser, pages, screen, dark=dark)
    ones = [path_of(pages, name) for name in ("shop-48436", "shop-48415", "shop-48452", "shop-48447", "shop-48440")]
    empty = [f"{LIST}?q=nobody", f"{LIST}?state=approved&verdict=applied&sort=oldest&age=30d", f"{LIST}/onb_none"]
    for path in ("/status", LIST, *(ones[1:] if dark else ones[:2]), *(empty if dark else empty[:1])):
        visitor.go(path)
        visitor.page.evaluate("document.querySelectorAll('main details').forEach((part) => { part.open = true })")
        visitor.check_accessible()
        visitor.check_fits()
    visitor.go(ones[0])
    visitor.page.get_by_role("button", name="Show personal data").click()
    expect(visitor.page.get_by_text(PROFILE["lastName"])).to_be_visible()
    visitor.check_accessible()
    visitor.check_fits()
    visitor.go(LIST)
    visitor.page.get_by_role("checkbox").nth(1).check()
    visitor.page.get_by_role("button", name="Retry").click()
    expect(visitor.page.get_by_role("heading", level=1)).to_have_text("Retry: 0 of 1 done")
    visitor.check_accessible()
    visitor.check_fits()


def test_every_page_is_light_as_a_browser_weighs_it(open_browser: OpenBrowser, pages: Pages) -> None:
    visitor = signed_in(open_browser, pages)
    for path in ("/status", LIST, path_of(pages, "shop-48436")):
        assert 10_000 < visitor.weight(path) < LONGEST_PAGE, path


def test_times_are_in_the_readers_zone_with_utc_on_hover(open_browser: OpenBrowser, pages: Pages) -> None:
    visitor = signed_in(open_browser, pages, timezone_id="America/New_York")
    visitor.go(path_of(pages, "shop-48201"))
    began = visitor.page.locator("dt:text-is('Began') + dd time")
    expect(began).to_have_text("2026-11-22 05:00:00")
    assert began.get_attribute("title") == "2026-11-22 10:00:00 UTC"
    expect(visitor.page.locator("[data-zone]")).to_contain_text("America/New_York")
    visitor.go(f"{LIST}?q=shop-48201")
    expect(visitor.page.locator("tbody time").first).to_have_text("2026-11-22 05:00")
    plain = signed_in(open_browser, pages, scripts=False)
    plain.go(path_of(pages, "shop-48201"))
    expect(plain.page.locator("dt:text-is('Began') + dd time")).to_have_text("2026-11-22 10:00:00 UTC")
    expect(plain.page.locator("[data-zone]")).to_have_text("Times are in UTC.")


def test_a_list_changes_under_the_readers_eyes_and_nothing_else_does(open_browser: OpenBrowser, pages: Pages) -> None:
    pages.sign_up("z-first")
    row = pages.in_state(State.AWAITING_CALLBACK, "z-second")
    visitor = signed_in(open_browser, pages)
    visitor.go(LIST)
    page = visitor.page
    page.get_by_role("checkbox", name="z-second").check()
    expect(page.locator("[data-selected]")).to_have_text("1 selected:")
    page.locator(".several summary").click()
    page.locator("#q").fill("half typ")
    scrolled = page.evaluate("scrollTo({top: 80, behavior: 'instant'}); window.opened = true; scrollY")
    assert scrolled > 0
    pages.happen(row.id, Event.CALLBACK_REVIEW)
    pages.sign_up("z-third")
    page.evaluate(LOOK)
    expect(page.get_by_role("row", name="z-second")).to_contain_text("In review")
    expect(page.get_by_role("row", name="z-third")).to_be_visible()
    assert page.evaluate("window.opened")
    assert page.evaluate("scrollY") == scrolled
    assert page.evaluate("document.activeElement.id") == "q"
    assert page.locator("#q").input_value() == "half typ"
    expect(page.get_by_role("checkbox", name="z-second")).to_be_checked()
    expect(page.get_by_role("checkbox", name="z-first")).not_to_be_checked()
    expect(page.get_by_role("checkbox", name="z-third")).not_to_be_checked()
    expect(page.locator("[data-selected]")).to_have_text("1 selected:")
    assert page.locator(".several details").get_attribute("open") is not None


def test_what_is_open_stays_open_and_nothing_else_opens_where_a_part_goes_away(
    open_browser: OpenBrowser, pages: Pages
) -> None:
    row = pages.in_state(State.AWAITING_CALLBACK, "k-open")
    visitor = signed_in(open_browser, pages)
    page = visitor.page
    visitor.go(path_of(pages, "k-open"))
    parts = page.locator(".actions summary")
    assert parts.all_inner_texts() == ["Ask the user to submit again…", "Link for the user…", "Cancel…"]
    parts.nth(1).click()
    pages.happen(row.id, Event.CALLBACK_PASS)
    page.evaluate(LOOK)
    expect(page.locator(".badges")).to_contain_text("Confirming")
    expect(parts).to_have_text(["Link for the user…", "Cancel…"])
    expect(page.locator(".actions details[open]")).to_have_count(1)
    expect(page.locator("#link")).to_be_visible()
    expect(page.get_by_role("button", name="Cancel this onboarding")).to_be_hidden()
    assert page.evaluate("document.activeElement.textContent") == "Link for the user…"
    expect(page.get_by_role("button", name="Print this page")).to_be_visible()


def test_an_open_page_shows_the_link_that_works(open_browser: OpenBrowser, pages: Pages) -> None:
    row = pages.sign_up("k-link")
    visitor = signed_in(open_browser, pages)
    visitor.go(path_of(pages, "k-link"))
    link = visitor.page.locator("#link")
    before = f"{PUBLIC_URL}{pages.link(row.id)}"
    expect(link).to_have_value(before)
    collect.renew_link(pages.context, row.id, "operator:olga")
    visitor.page.evaluate(LOOK)
    expect(link).to_have_value(f"{PUBLIC_URL}{pages.link(row.id)}")
    expect(link).not_to_have_value(before)


@pytest.mark.parametrize("path", ["/status", LIST, "one"])
def test_a_page_says_since_when_it_is_no_longer_up_to_date(open_browser: OpenBrowser, pages: Pages, path: str) -> None:
    visitor = signed_in(open_browser, pages, timezone_id="UTC")
    page = visitor.page
    visitor.go(path_of(pages, "shop-48201") if path == "one" else path)
    stamp, stale = page.locator("[data-as-of] time"), page.locator("[data-stale]")
    page.evaluate(LOOK)
    for _ in range(2):  # the second is a 304
        pages.clock.now += 1_000
        page.evaluate(LOOK)
        expect(stamp).to_have_text(f"{datetime.fromtimestamp(pages.clock.now / 1000, UTC):%Y-%m-%d %H:%M:%S}")
    last = stamp.inner_text()
    with visitor.without_network():
        for _ in range(2):
            expect(stale).to_be_empty()
            with page.expect_event("requestfailed"):
                page.evaluate(LOOK)
        expect(stale).to_have_text(f"Not up to date since {last}: no connection")
    visitor.check_accessible()
    page.evaluate(LOOK)
    expect(stale).to_be_empty()
    page.route("**/status**", lambda route: route.fulfill(status=503))
    for _ in range(2):
        with page.expect_response("**/status**"):
            page.evaluate(LOOK)
    expect(stale).to_have_text(f"Not up to date since {last}: the service answers 503")


def test_what_left_the_list_is_no_longer_counted_as_selected(open_browser: OpenBrowser, pages: Pages) -> None:
    row = pages.in_state(State.AWAITING_CALLBACK, "k-selected")
    visitor = signed_in(open_browser, pages)
    page = visitor.page
    visitor.go(f"{LIST}?state=awaiting_callback")
    page.get_by_role("checkbox", name="k-selected").check()
    expect(page.locator("[data-selected]")).to_have_text("1 selected:")
    pages.happen(row.id, Event.CALLBACK_PASS)
    page.evaluate(LOOK)
    expect(page.get_by_role("checkbox", name="k-selected")).to_have_count(0)
    expect(page.locator("[data-selected]")).to_have_text("Select some, then:")


@pytest.mark.parametrize(("width", "size"), [(390, 200), (740, 100), (768, 100), (820, 100)])
def test_nothing_sticks_out_on_a_tablet_or_where_text_is_twice_as_large(
    open_browser: OpenBrowser, pages: Pages, width: int, size: int
) -> None:
    pages.in_state(State.AWAITING_CALLBACK, f"merchant-user-{width:08}")
    visitor = signed_in(open_browser, pages, {"viewport": {"width": width, "height": 900}})
    for path in ("/status", f"{LIST}?state=awaiting_callback", path_of(pages, "shop-48436"), f"{LIST}/onb_none"):
        visitor.go(path)
        visitor.page.evaluate(f"document.documentElement.style.fontSize = '{size}%'")
        visitor.page.evaluate("document.querySelectorAll('main details').forEach((part) => { part.open = true })")
        visitor.check_fits()


@pytest.mark.parametrize("width", [320, 390, 740, 768, 1100, 1280])
def test_every_choice_of_the_filter_can_be_read_whole(open_browser: OpenBrowser, pages: Pages, width: int) -> None:
    """Also where very many are in a state."""
    visitor = signed_in(open_browser, pages, {"viewport": {"width": width, "height": 900}})
    visitor.go(LIST)
    cut = visitor.page.evaluate(
        """() => [...document.querySelectorAll(".find select")].map((select) => {
          for (const option of select.options) option.text = option.text.replace(/[(].*[)]/, "(12,345)");
          const probe = document.body.appendChild(select.cloneNode(true)), style = getComputedStyle(select);
          for (const name of ["font", "padding", "border"]) probe.style[name] = style[name];
          Object.assign(probe.style, { position: "absolute", width: "max-content", minWidth: "0" });
          return [select.id, probe.offsetWidth - select.offsetWidth];
        }).filter(([, lacking]) => lacking > 0)"""
    )
    assert not cut
    visitor.check_fits()


def test_a_list_is_printed_with_its_rows_and_without_what_is_pressed(open_browser: OpenBrowser, pages: Pages) -> None:
    visitor = signed_in(open_browser, pages, {"viewport": {"width": 718, "height": 1000}})
    visitor.page.emulate_media(media="print")
    visitor.go(f"{LIST}?q=shop-48436")
    expect(visitor.page.get_by_role("row", name="shop-48436")).to_contain_text("Needs attention")
    expect(visitor.page.locator("main :is(input, select, button, .button):visible")).to_have_count(0)
    visitor.check_fits()


@pytest.mark.parametrize("width", [320, 360])
def test_on_a_phone_tables_stay_in_their_card_and_colours_with_their_word(
    open_browser: OpenBrowser, pages: Pages, width: int
) -> None:
    visitor = signed_in(open_browser, pages, {"viewport": {"width": width, "height": 740}})
    visitor.go("/status")
    visitor.page.evaluate("document.querySelectorAll('.flow > details').forEach((part) => { part.open = true })")
    wide = "(all) => all.filter((one) => one.scrollWidth > one.clientWidth).length"
    assert visitor.page.eval_on_selector_all("main, main .card", wide) == 0
    for word in visitor.page.locator(".key > *").all():
        assert word.evaluate("(one) => one.getClientRects().length") == 1
        expect(word).to_contain_text(" ")


def test_on_a_phone_the_way_back_and_the_time_of_the_page_do_not_overlap(
    open_browser: OpenBrowser, pages: Pages
) -> None:
    visitor = signed_in(open_browser, pages, PHONE)
    visitor.go(path_of(pages, "shop-48436"))
    back, stamp = visitor.page.locator(".back").bounding_box(), visitor.page.locator(".as-of").bounding_box()
    assert back
    assert stamp
    assert back["y"] + back["height"] <= stamp["y"]


def test_in_colours_of_the_readers_own_charts_keep_their_key_and_the_page_one_is_on_its_mark(
    open_browser: OpenBrowser, pages: Pages
) -> None:
    visitor = signed_in(open_browser, pages, forced_colors="active")
    visitor.go("/status")
    colours = "(all) => all.map((one) => getComputedStyle(one).backgroundColor)"
    keys = visitor.page.eval_on_selector_all("[aria-labelledby=hourly] .key i", colours)
    assert len(set(keys)) == 3
    here = visitor.page.get_by_role("link", name="Overview")
    there = visitor.page.get_by_role("link", name="Onboardings")
    expect(here).to_have_css("border-bottom-style", "solid")
    expect(there).to_have_css("border-bottom-style", "none")


def test_an_open_page_asks_only_while_it_is_seen_and_gets_nothing_while_nothing_changes(
    open_browser: OpenBrowser, pages: Pages
) -> None:
    visitor = signed_in(open_browser, pages)
    page = visitor.page
    page.clock.install()
    visitor.go("/status")
    answers: list[int] = []
    page.on("response", lambda answer: answers.append(answer.status) if answer.url.endswith("/status") else None)
    for _ in range(3):
        with page.expect_response(lambda answer: answer.url.endswith("/status")):
            page.clock.run_for(5_100)
    assert answers[1:] == [304, 304]
    page.evaluate("Object.defineProperty(document, 'hidden', {value: true, configurable: true})")
    page.evaluate(LOOK)
    page.clock.run_for(60_000)
    page.wait_for_timeout(50)
    assert len(answers) == 3
    page.evaluate("Object.defineProperty(document, 'hidden', {value: false})")
    with page.expect_response(lambda answer: answer.url.endswith("/status")):
        page.evaluate(LOOK)


def test_revealed_data_stays_until_it_is_hidden(open_browser: OpenBrowser, pages: Pages) -> None:
    visitor = signed_in(open_browser, pages)
    visitor.go(path_of(pages, "shop-48419"))
    visitor.page.get_by_role("button", name="Show personal data").click()
    visitor.page.evaluate(LOOK)
    visitor.page.wait_for_timeout(200)
    expect(visitor.page.get_by_text(PROFILE["idNumber"])).to_be_visible()
    visitor.page.get_by_role("link", name="Hide").click()
    expect(visitor.page.get_by_text(PROFILE["idNumber"])).to_have_count(0)
    expect(visitor.page.get_by_role("region", name="Timeline")).to_contain_text("by operator olga")


def test_everything_works_without_scripts(open_browser: OpenBrowser, pages: Pages) -> None:
    row = pages.sign_up("n-1", profile=PROFILE)
    put_documents(pages, row.id, "idFileFront", "selfie")
    pages.in_state(State.NEEDS_ATTENTION, "n-1")
    other = pages.in_state(State.NEEDS_ATTENTION, "n-2", profile=PROFILE)
    visitor = open_browser(pages.url, PHONE, scripts=False)
    visitor.go(LIST)
    visitor.page.get_by_label("Access token").fill(pages.operator)
    visitor.page.get_by_role("button", name="Sign in").click()
    page = visitor.page
    page.get_by_label("State").select_option("needs_attention")
    page.get_by_label("Sort").select_option("oldest")
    page.get_by_role("button", name="Show").click()
    expect(page.locator("tbody tr").last).to_contain_text("n-2")
    for name in ("n-1", "n-2"):
        page.get_by_role("checkbox", name=name).check()
    page.get_by_role("button", name="Retry").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Retry: 1 of 2 done")
    expect(page.get_by_role("row", name="n-2")).to_contain_text("documents.selfie")
    page.get_by_role("link", name="n-2").click()
    expect(page.get_by_role("region", name="What now")).to_contain_text("OSL Pay refused what it was sent (00002)")
    page.locator("summary", has_text="Cancel…").click()
    page.get_by_role("button", name="Cancel this onboarding").click()
    expect(page.get_by_role("status")).to_have_text("The onboarding was cancelled.")
    assert pages.state(other.id) is State.CANCELLED
    page.get_by_role("link", name="Overview").click()
    page.locator("svg.machine a", has_text="Cancelled").click()
    expect(page.locator("tbody tr").first).to_contain_text("n-2")


def test_the_list_can_be_used_with_the_keyboard_alone(open_browser: OpenBrowser, pages: Pages) -> None:
    visitor = signed_in(open_browser, pages)
    page = visitor.page
    visitor.go(LIST)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    page.wait_for_url("**#main")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "q"
    page.keyboard.type("shop-48436")
    page.keyboard.press("Enter")
    expect(page.locator("tbody tr")).to_have_count(1)
    expect(page.locator("label.all")).to_be_visible()  # once the script is there
    page.locator("[data-all]").focus()
    page.keyboard.press("Space")
    expect(page.locator("[data-selected]")).to_have_text("1 selected:")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("shop-48436")


def test_what_was_ticked_before_the_script_came_is_counted(open_browser: OpenBrowser, pages: Pages) -> None:
    visitor = signed_in(open_browser, pages)
    page = visitor.page
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route("**/status.js*", hold)
    page.goto(f"{pages.url}{LIST}", wait_until="commit")
    page.locator("input[name=id]").first.check()
    expect(page.locator("[data-selected]")).to_have_text("Select some, then:")
    held[0].continue_()
    expect(page.locator("[data-selected]")).to_have_text("1 selected:")
    expect(page.locator("label.all")).to_be_visible()


def test_a_printed_onboarding_has_its_story_and_no_buttons(open_browser: OpenBrowser, pages: Pages) -> None:
    visitor = signed_in(open_browser, pages)
    visitor.go(path_of(pages, "shop-48415"))
    expect(visitor.page.get_by_role("button", name="Print this page")).to_be_visible()
    visitor.page.emulate_media(media="print")
    expect(visitor.page.get_by_role("region", name="Timeline")).to_be_visible()
    assert visitor.page.locator("button:visible").count() == 0
    assert visitor.page.locator("header:visible, footer:visible, nav:visible").count() == 0
