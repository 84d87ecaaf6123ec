"""The end user's page in a real Chromium: photos made small, connections lost, checks made at once, other tabs."""

from __future__ import annotations

import base64
import re
import threading
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Request, Route, expect

from orchestrator.machine import Event, State
from orchestrator.onboarding import collect, operate
from orchestrator.onboarding.context import Context
from orchestrator.onboarding.profile import LARGEST_DOCUMENT
from orchestrator.records import Onboarding
from tests.browser import DESKTOP, LONGEST_PAGE, PHONE, OpenBrowser, Visitor
from tests.pages_server import PROFILE, Pages, pages_server, picture, put_documents

GPS = 0x8825
SCREENS = ("type", "name", "about", "document", "address", "questions", "front", "back", "selfie", "check")
LOGO = '<svg xmlns="http://www.w3.org/2000/svg" width="99" height="36"><rect width="99" height="36" fill="red"/></svg>'
HEIC = b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic" + bytes(2_000)
DROP = """([name, type, base64]) => {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  const data = new DataTransfer();
  data.items.add(new File([bytes], name, { type }));
  document.querySelector(".choose").dispatchEvent(
    new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
}"""
DROP_TWO = """() => {
  const data = new DataTransfer();
  for (const name of ["one.jpg", "two.jpg"]) data.items.add(new File(["x"], name, { type: "image/jpeg" }));
  document.querySelector(".choose").dispatchEvent(
    new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
}"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    folder = tmp_path_factory.mktemp("pages")
    logo = folder / "logo.svg"
    logo.write_text(LOGO)
    settings = {
        "ORCHESTRATOR_MERCHANT_NAME": "Example Shop",
        "ORCHESTRATOR_MERCHANT_LOGO_FILE": str(logo),
        "ORCHESTRATOR_ACCENT_COLOR": "#f5c400",
        "ORCHESTRATOR_SUPPORT_CONTACT": "help@shop.example",
    }
    with pages_server(folder, **settings) as running:
        yield running


@pytest.fixture
def row(pages: Pages, request: pytest.FixtureRequest) -> Onboarding:
    """An onboarding of this test's own, of somebody with an identity card and nothing else."""
    return pages.sign_up(request.node.name[:100], profile={"idType": "ID_CARD"})


@pytest.fixture
def at(pages: Pages, open_browser: OpenBrowser, row: Onboarding) -> Callable[..., Visitor]:
    """`at(screen, PHONE, …)`: a browser that has opened this screen of `row`'s page."""

    def opened(screen: str, *how: object, **more: object) -> Visitor:
        visitor = open_browser(pages.url, *how, **more)
        visitor.go(f"{pages.link(row.id)}?step={screen}")
        return visitor

    return opened


def photo(width: int, height: int, *, noisy: bool = False) -> bytes:
    """A JPEG as a camera writes it, with the place where it was taken."""
    image = (
        Image.effect_noise((width, height), 90).convert("RGB") if noisy else Image.new("RGB", (width, height), "teal")
    )
    exif = Image.Exif()
    exif[0x010F] = "Camera of Ana"
    exif.get_ifd(GPS).update({1: "N", 2: (22.0, 16.0, 48.0), 3: "E", 4: (114.0, 9.0, 36.0)})
    buffer = BytesIO()
    image.save(buffer, "JPEG", quality=97, exif=exif)
    return buffer.getvalue()


def choose(visitor: Visitor, kind: str, content: bytes, name: str = "photo.jpg", media: str = "image/jpeg") -> None:
    visitor.page.set_input_files(f"#{kind}", {"name": name, "mimeType": media, "buffer": content})


def arrived(visitor: Visitor) -> None:
    expect(visitor.page.locator("#sending")).to_contain_text("Sent.", timeout=60_000)


def stored(pages: Pages, row: Onboarding, kind: str) -> bytes:
    document = next(item for item in pages.context.store.documents(row.id) if item.kind == kind)
    return pages.context.documents.get(document)


def until(happened: Callable[[], bool], visitor: Visitor) -> None:
    """Wait while the browser goes on."""
    for _ in range(200):
        if happened():
            return
        visitor.page.wait_for_timeout(100)
    pytest.fail("it did not happen within 20 s")


def test_a_huge_photo_is_sent_small_and_without_its_place(
    pages: Pages, at: Callable[..., Visitor], row: Onboarding, tmp_path: Path
) -> None:
    huge = tmp_path / "huge.jpg"
    huge.write_bytes(photo(3200, 2400, noisy=True))
    assert huge.stat().st_size > LARGEST_DOCUMENT
    visitor = at("front", PHONE)
    visitor.page.set_input_files("#idFileFront", huge)
    arrived(visitor)
    expect(visitor.page.locator(".preview img")).to_be_visible()
    sent = stored(pages, row, "idFileFront")
    assert len(sent) <= 3_000_000
    with Image.open(BytesIO(sent)) as image:
        assert max(image.size) <= 3000
        assert image.size[0] * 3 == image.size[1] * 4
        assert not image.getexif()
    assert b"Camera of Ana" not in sent
    visitor.check_accessible()


def test_a_photo_taken_on_its_side_stands_upright(pages: Pages, at: Callable[..., Visitor], row: Onboarding) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = BytesIO()
    Image.new("RGB", (400, 200), "teal").save(buffer, "JPEG", exif=exif)
    visitor = at("selfie")
    choose(visitor, "selfie", buffer.getvalue())
    arrived(visitor)
    with Image.open(BytesIO(stored(pages, row, "selfie"))) as image:
        assert image.size == (200, 400)


def test_a_photo_of_the_heif_family_that_the_browser_can_decode_is_sent_as_a_jpeg(
    pages: Pages, at: Callable[..., Visitor], row: Onboarding
) -> None:
    """Chromium decodes AVIF: the same container as HEIC, with another codec inside."""
    buffer = BytesIO()
    Image.new("RGB", (640, 400), "teal").save(buffer, "AVIF")
    assert buffer.getvalue()[4:8] == b"ftyp"
    visitor = at("front")
    choose(visitor, "idFileFront", buffer.getvalue(), "IMG_0001.heic", "image/heic")
    arrived(visitor)
    expect(visitor.page.locator("#idFileFront-error")).to_be_empty()
    with Image.open(BytesIO(stored(pages, row, "idFileFront"))) as image:
        assert (image.format, image.size) == ("JPEG", (640, 400))


def test_what_is_chosen_before_the_script_is_there_is_sent_by_it(
    pages: Pages, open_browser: OpenBrowser, row: Onboarding
) -> None:
    visitor = open_browser(pages.url, PHONE)
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    visitor.page.route("**/upload.js*", hold)
    visitor.page.goto(f"{pages.url}{pages.link(row.id)}?step=front", wait_until="commit")
    choose(visitor, "idFileFront", photo(640, 400))
    visitor.page.wait_for_timeout(100)
    assert pages.context.store.documents(row.id) == []
    [script] = held
    script.continue_()
    arrived(visitor)
    assert stored(pages, row, "idFileFront").startswith(b"\xff\xd8")


def test_what_cannot_be_used_is_told_at_once_and_nothing_is_sent(
    pages: Pages, at: Callable[..., Visitor], row: Onboarding
) -> None:
    visitor = at("front")
    error = visitor.page.locator("#idFileFront-error")
    cases = (
        (HEIC, "photo.heic", "image/heic", "Open this link on your phone and take the photo there"),
        (b"hello", "photo.jpg", "image/jpeg", "cannot be read as a JPG, PNG or PDF"),
        (b"%PDF-1.7" + bytes(LARGEST_DOCUMENT), "scan.pdf", "application/pdf", "larger than 5 MB"),
    )
    for content, name, media, words in cases:
        choose(visitor, "idFileFront", content, name, media)
        expect(error).to_contain_text(words)
    visitor.page.get_by_role("button", name="Continue").click()
    expect(error).to_contain_text("take a photo or choose a file")
    visitor.check_accessible()
    assert pages.context.store.documents(row.id) == []
    choose(visitor, "idFileFront", b"%PDF-1.7 small", "scan.pdf", "application/pdf")
    arrived(visitor)
    expect(error).to_be_empty()
    assert stored(pages, row, "idFileFront") == b"%PDF-1.7 small"


def test_who_holds_a_phone_is_told_of_the_button_that_takes_a_photo(at: Callable[..., Visitor]) -> None:
    visitor = at("front", PHONE)
    choose(visitor, "idFileFront", HEIC, "photo.heic", "image/heic")
    expect(visitor.page.locator("#idFileFront-error")).to_contain_text("Take the photo with the button here")
    expect(visitor.page.locator(".camera label")).to_be_visible()


def test_the_photo_chosen_last_is_kept_though_an_earlier_one_is_still_being_sent(
    pages: Pages, at: Callable[..., Visitor], row: Onboarding
) -> None:
    visitor = at("front", PHONE)
    tries: list[Request] = []
    ends: list[Request] = []

    def note(where: list[Request]) -> Callable[[Request], None]:
        return lambda request: where.append(request) if request.method == "PUT" else None

    def sent() -> int:
        percent: int = visitor.page.evaluate("document.querySelector('.sending progress').value")
        return percent

    visitor.page.on("request", note(tries))
    visitor.page.on("requestfinished", note(ends))
    visitor.page.on("requestfailed", note(ends))
    slow = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 150_000}
    visitor.context.new_cdp_session(visitor.page).send("Network.emulateNetworkConditions", slow)
    choose(visitor, "idFileFront", photo(1200, 900, noisy=True))
    until(lambda: 20 < sent() < 90, visitor)
    choose(visitor, "idFileFront", photo(64, 48))
    arrived(visitor)
    # The first one's end changes neither what is there nor what the page says.
    until(lambda: len(ends) == 2, visitor)
    assert len(tries) == 2
    assert sent() == 100
    with Image.open(BytesIO(stored(pages, row, "idFileFront"))) as image:
        assert image.size == (64, 48)


def test_a_photo_that_is_being_stored_is_replaced_only_afterwards(
    pages: Pages, at: Callable[..., Visitor], row: Onboarding, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All its bytes have left the browser: giving it up would not keep the server from storing it last."""
    put = collect.put_document
    begun: list[str] = []
    may_go_on = threading.Event()

    def slow(context: Context, began: Onboarding, *how: Any) -> Onboarding:
        begun.append(began.id)
        if len(begun) == 1:
            assert may_go_on.wait(20)
        return put(context, began, *how)

    monkeypatch.setattr(collect, "put_document", slow)
    visitor = at("front", PHONE)
    choose(visitor, "idFileFront", photo(300, 200))
    until(lambda: len(begun) == 1, visitor)
    visitor.page.wait_for_timeout(500)
    choose(visitor, "idFileFront", photo(64, 48))
    expect(visitor.page.locator(".preview img")).to_be_visible()
    visitor.page.wait_for_timeout(500)
    assert len(begun) == 1
    may_go_on.set()
    arrived(visitor)
    with Image.open(BytesIO(stored(pages, row, "idFileFront"))) as image:
        assert image.size == (64, 48)


def test_two_files_at_once_give_up_what_is_being_sent(
    pages: Pages, at: Callable[..., Visitor], row: Onboarding
) -> None:
    visitor = at("front", DESKTOP)
    visitor.page.route("**/documents/idFileFront", lambda route: None)
    with visitor.page.expect_request("**/documents/idFileFront"):
        choose(visitor, "idFileFront", photo(300, 200))
    with visitor.page.expect_event("requestfailed"):
        visitor.page.evaluate(DROP_TWO)
    expect(visitor.page.locator("#idFileFront-error")).to_contain_text("Choose only one")
    expect(visitor.page.locator(".sending")).to_be_hidden()
    assert pages.context.store.documents(row.id) == []


def test_a_file_is_dragged_onto_the_page_and_replaced(
    pages: Pages, at: Callable[..., Visitor], row: Onboarding
) -> None:
    visitor = at("selfie", DESKTOP)
    for colour in ("teal", "red"):
        before = [document.sha256 for document in pages.context.store.documents(row.id)]
        content = base64.b64encode(picture(colour, "PNG")).decode()
        with visitor.page.expect_response(re.compile("/documents/selfie")) as answered:
            visitor.page.evaluate(DROP, ["selfie.png", "image/png", content])
        assert answered.value.status == 200
        arrived(visitor)
        after = [document.sha256 for document in pages.context.store.documents(row.id)]
        assert len(after) == 1
        assert after != before


def test_a_lost_connection_is_tried_again_until_the_file_is_there(
    pages: Pages, at: Callable[..., Visitor], row: Onboarding
) -> None:
    visitor = at("front", PHONE)
    with visitor.without_network():
        choose(visitor, "idFileFront", photo(300, 200))
        expect(visitor.page.locator("#sending")).to_contain_text("The connection was lost")
        visitor.page.get_by_role("button", name="Continue").click()
        expect(visitor.page.locator("#sending")).to_contain_text("still being sent")
    # As soon as the connection is back it arrives, and the page goes on as was wished.
    visitor.page.wait_for_url("**?step=back")
    assert [document.kind for document in pages.context.store.documents(row.id)] == ["idFileFront"]


def test_a_connection_cut_in_the_middle_and_a_server_that_fails_are_tried_again(
    pages: Pages, at: Callable[..., Visitor], row: Onboarding
) -> None:
    visitor = at("front")
    tries: list[int] = []

    def cut(route: Route) -> None:
        tries.append(1)
        if len(tries) == 1:
            route.abort("connectionreset")
        elif len(tries) == 2:
            route.fulfill(status=503, body="{}", content_type="application/problem+json")
        else:
            route.continue_()

    visitor.page.route("**/documents/idFileFront", cut)
    with visitor.tolerating("net::ERR_CONNECTION_RESET"):
        choose(visitor, "idFileFront", photo(300, 200))
        arrived(visitor)
    assert len(tries) == 3
    visitor.go(f"{pages.link(row.id)}?step=front")
    expect(visitor.page.locator("#received")).to_contain_text("Received")


def test_a_proxy_that_finds_a_photo_too_large_gets_a_smaller_one(
    pages: Pages, at: Callable[..., Visitor], row: Onboarding
) -> None:
    """Its answer has no words for the user: without a further try nothing would be said."""
    visitor = at("front", PHONE)
    limit, tries = 1_500_000, list[int]()

    def proxy(route: Route) -> None:
        tries.append(len(route.request.post_data_buffer or b""))
        if tries[-1] > limit:
            route.fulfill(status=413, body="<h1>413</h1>", content_type="text/html")
        else:
            route.continue_()

    visitor.page.route("**/documents/idFileFront", proxy)
    choose(visitor, "idFileFront", photo(2400, 1800, noisy=True))
    expect(visitor.page.locator("#sending")).to_contain_text("did not work yet")
    arrived(visitor)
    assert tries[0] > limit > tries[-1]
    assert len(stored(pages, row, "idFileFront")) == tries[-1]


def test_another_tab_and_another_device_see_what_is_there(
    pages: Pages, at: Callable[..., Visitor], row: Onboarding
) -> None:
    one, other = at("selfie", PHONE), at("selfie", DESKTOP)
    expect(other.page.locator("#received")).to_have_count(0)
    choose(one, "selfie", photo(300, 200))
    arrived(one)
    other.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(other.page.locator("#received")).to_contain_text("You need not send it again")


def test_who_comes_back_while_the_service_is_away_keeps_the_page(at: Callable[..., Visitor]) -> None:
    """As from taking a photo: a proxy answers for the service, and a reload would show that in place of the page."""
    visitor = at("selfie", PHONE)
    visitor.page.evaluate("window.opened = true")
    visitor.page.route("**/progress", lambda route: route.fulfill(status=502, body="Bad Gateway"))
    with visitor.page.expect_response("**/progress"):
        visitor.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    visitor.page.wait_for_timeout(500)
    assert visitor.page.evaluate("window.opened")


WRONG = {
    "phoneNumber": ("call me", "2345", "+852 5555 1234", "12"),
    "firstName": ("Ana", "A\u202eb", "A\ue000b", "\u00c9lo\u00efse d\u2019Or", "\u9673\u5927\u6587"),
    "street": ("1 Main St.", "a\u0007b"),
    "dob": ("1990-12-31", "2999-01-01"),
    "idExpiry": ("1999-01-01", "2999-12-31"),
}
SCREEN_OF = {"firstName": "name", "phoneNumber": "about", "street": "address", "dob": "about", "idExpiry": "document"}


def test_the_browser_says_what_the_server_would_say(pages: Pages, at: Callable[..., Visitor], row: Onboarding) -> None:
    visitor, browser, path = at("name"), pages.browser(), pages.link(row.id)
    for name, screen in SCREEN_OF.items():
        visitor.go(f"{path}?step={screen}")
        for text in WRONG[name]:
            answer = browser.post(f"{path}?step=check", {name: text}).text
            told = re.search(rf'#{name}">[^<]*</a>: ([^<]*)<', answer)
            visitor.page.fill(f"#{name}", text)
            visitor.page.locator(f"#{name}").dispatch_event("change")
            assert visitor.page.inner_text(f"#{name}-error") == (told[1] if told else ""), text


PASTED = {
    "phoneNumber": {
        "\u202a+852 5555 1234\u202c": "+852 5555 1234",
        "\uff0b\uff18\uff15\uff12 \uff15\uff15\uff15\uff15 1234": "+852 5555 1234",
        "+852\u00a05555\u20111234": "+852 5555-1234",
    },
    "firstName": {
        "\u200eAna \u200b": "Ana",
        "\u0639\u0644\u06cc\u200c\u0631\u0636\u0627": "\u0639\u0644\u06cc\u0631\u0636\u0627",
    },
}


def test_what_nobody_sees_in_a_pasted_answer_is_in_nobodys_way(
    pages: Pages, at: Callable[..., Visitor], row: Onboarding
) -> None:
    """A list of contacts puts marks of direction around its numbers; full-width digits come from Chinese keyboards."""
    visitor = at("name")
    for name, cases in PASTED.items():
        for pasted, kept in cases.items():
            visitor.go(f"{pages.link(row.id)}?step={SCREEN_OF[name]}")
            visitor.page.fill(f"#{name}", pasted)
            visitor.page.locator(f"#{name}").dispatch_event("change")
            expect(visitor.page.locator(f"#{name}-error")).to_be_empty()
            pages.browser().post(f"{pages.link(row.id)}?step={SCREEN_OF[name]}", {name: pasted})
            assert pages.profile(row.id)[name] == kept


def test_a_date_is_judged_only_once_its_year_is_whole(at: Callable[..., Visitor]) -> None:
    visitor = at("document")
    error = visitor.page.locator("#idExpiry-error")
    visitor.page.focus("#idExpiry")
    visitor.page.keyboard.type("12122")
    assert visitor.page.input_value("#idExpiry") == "0002-12-12"
    expect(error).to_be_empty()
    visitor.page.get_by_role("button", name="Continue").click()
    expect(error).to_contain_text("has expired")
    visitor.page.fill("#idExpiry", "")
    visitor.page.focus("#idExpiry")
    visitor.page.keyboard.type("12121999")
    expect(error).to_contain_text("has expired")
    visitor.page.fill("#idExpiry", "2999-12-31")
    visitor.page.locator("#idExpiry").dispatch_event("change")
    expect(error).to_be_empty()


def test_what_is_missing_is_told_before_anything_is_sent(pages: Pages, at: Callable[..., Visitor]) -> None:
    visitor = at("about", PHONE)
    sent: list[str] = []
    visitor.page.on("request", lambda request: sent.append(request.method))
    visitor.page.select_option("#nationality", "HKG")
    visitor.page.get_by_role("button", name="Continue").click()
    expect(visitor.page.locator("#residentialCountry-error")).to_have_text("This is still needed.")
    expect(visitor.page.locator("#residentialCountry")).to_be_focused()
    assert "POST" not in sent
    visitor.check_accessible()


def test_what_is_refused_where_the_focus_already_is_is_told_to_who_hears_the_page(at: Callable[..., Visitor]) -> None:
    """A screen reader tells of a description only when the focus comes; what changes later has to be live."""
    visitor = at("front", DESKTOP)
    visitor.page.focus("#idFileFront")
    choose(visitor, "idFileFront", b"hello")
    expect(visitor.page.get_by_role("alert")).to_contain_text("cannot be read as a JPG, PNG or PDF")
    visitor.page.goto(visitor.page.url.replace("step=front", "step=about"))
    visitor.page.fill("#phoneNumber", "call me")
    visitor.page.keyboard.press("Enter")
    told = visitor.page.locator("#phoneNumber-error")
    expect(told).to_contain_text("with its country code")
    expect(told).to_have_attribute("aria-live", "polite")


def test_who_types_sees_where_the_focus_went_when_nothing_was_chosen(at: Callable[..., Visitor], pages: Pages) -> None:
    row = pages.sign_up("u-undecided")
    visitor = at("start", DESKTOP)
    visitor.go(f"{pages.link(row.id)}?step=type")
    visitor.page.locator("button.primary").focus()
    visitor.page.keyboard.press("Enter")
    expect(visitor.page.locator("#idType-error")).to_have_text("Choose one to go on.")
    expect(visitor.page.locator("#idType")).to_be_focused()
    expect(visitor.page.locator("#idType")).to_have_css("outline-style", "solid")


@pytest.mark.parametrize(("dark", "locale"), [(False, "en-GB"), (True, "zh-HK")])
def test_every_screen_is_accessible_and_fits_a_phone(
    pages: Pages, open_browser: OpenBrowser, dark: bool, locale: str
) -> None:
    row = pages.sign_up(f"u-{locale}", profile={"idType": "ID_CARD", "firstName": "Ana"})
    put_documents(pages, row.id, "idFileBack")
    visitor = open_browser(pages.url, PHONE, dark=dark, locale=locale)
    for screen in ("start", *SCREENS):
        visitor.go(f"{pages.link(row.id)}?step={screen}")
        expect(visitor.page.locator("html")).to_have_attribute("lang", "zh-Hant-TW" if dark else "en")
        visitor.check_fits()
        # The screens with questions are made alike: the largest stands for them in one of the languages.
        if not dark or screen in ("start", "type", "about", "back", "check"):
            visitor.check_accessible()


def test_how_far_one_is_can_be_seen_in_colours_of_the_readers_own(at: Callable[..., Visitor]) -> None:
    visitor = at("front", PHONE, forced_colors="active")
    with Image.open(BytesIO(visitor.page.locator(".progress progress").screenshot())) as image:
        row = [image.convert("RGB").getpixel((x, image.height // 2)) for x in range(image.width)]
    begun, left = row[image.width // 4], row[image.width - 8]
    assert begun != left, "what is done does not differ from what is left"


@pytest.mark.parametrize("locale", ["en-GB", "zh-TW"])
def test_every_screen_fits_a_phone_with_text_of_twice_the_size(
    pages: Pages, open_browser: OpenBrowser, locale: str
) -> None:
    row = pages.sign_up(f"u-large-{locale}", profile={"idType": "ID_CARD", "firstName": "Ana"})
    put_documents(pages, row.id, "idFileFront")
    visitor = open_browser(pages.url, PHONE | {"viewport": {"width": 390, "height": 844}}, locale=locale)
    for screen in ("start", *SCREENS):
        visitor.go(f"{pages.link(row.id)}?step={screen}")
        visitor.page.evaluate("document.documentElement.style.fontSize = '200%'")
        visitor.check_fits()
        # Nothing within a card sticks out of what it stands in.
        tight = "main .card, main .choose, main .field, main .overview"
        wide = "(all) => all.filter((one) => one.scrollWidth > one.clientWidth).map((one) => one.className)"
        assert visitor.page.eval_on_selector_all(tight, wide) == [], screen


def test_every_screen_weighs_little(pages: Pages, open_browser: OpenBrowser, row: Onboarding) -> None:
    visitor = open_browser(pages.url)
    visitor.go(f"{pages.link(row.id)}?lang=zh-Hant-TW")
    weights = {screen: visitor.weight(f"{pages.link(row.id)}?step={screen}") for screen in ("about", "front", "check")}
    print(weights)
    assert max(weights.values()) < LONGEST_PAGE


def test_every_end_is_accessible_and_names_whom_to_ask(pages: Pages, open_browser: OpenBrowser) -> None:
    visitor = open_browser(pages.url, PHONE)
    old = pages.sign_up("u-old")
    links = {"no longer works": pages.link(old.id), "do not know this link": "/u/unknown"}
    collect.renew_link(pages.context, old.id, "merchant:shop")
    for state, words in (
        (State.UPLOADING, "are checking"),
        (State.IN_REVIEW, "still checking"),
        (State.APPROVED, "is confirmed"),
        (State.REJECTED, "could not be confirmed"),
        (State.CANCELLED, "was ended"),
        (State.EXPIRED, "no longer works."),
    ):
        links[words] = pages.link(pages.in_state(state, f"u-{state}", profile=PROFILE).id)
    for words, path in links.items():
        visitor.go(path)
        expect(visitor.page.locator("h1")).to_contain_text(words.rstrip("."))
        expect(visitor.page.get_by_role("link", name="help@shop.example").first).to_be_visible()
        visitor.check_accessible()
        visitor.check_fits()


def test_the_outcome_shows_by_itself_and_nothing_is_asked_in_a_hidden_tab(
    pages: Pages, open_browser: OpenBrowser
) -> None:
    row = pages.in_state(State.CONFIRMING, "u-outcome", profile=PROFILE)
    visitor = open_browser(pages.url, PHONE)
    asked: list[str] = []
    visitor.page.on("request", lambda request: asked.append(request.url) if "/progress" in request.url else None)
    visitor.page.clock.install()
    visitor.go(pages.link(row.id))
    hide = "Object.defineProperty(document, 'hidden', {configurable: true, get: () => %s})"
    turn = "document.dispatchEvent(new Event('visibilitychange'))"
    visitor.page.evaluate(hide % "true")
    visitor.page.evaluate(turn)
    visitor.page.clock.fast_forward(600_000)
    assert asked == []
    visitor.page.evaluate(hide % "false")
    with visitor.page.expect_response(re.compile("/progress")):
        visitor.page.evaluate(turn)
    pages.happen(row.id, Event.CONFIRMED_PASS)
    visitor.page.clock.fast_forward(10_000)
    expect(visitor.page.locator("h1")).to_have_text("Your identity is confirmed")
    seen = len(asked)
    visitor.page.clock.fast_forward(600_000)
    assert len(asked) == seen


def test_a_later_round_tells_the_reason_and_asks_only_for_that_again(pages: Pages, open_browser: OpenBrowser) -> None:
    row = pages.sign_up("u-again", profile=PROFILE)
    put_documents(pages, row.id, "idFileFront", "selfie")
    for event in (Event.SUBMITTED, Event.UPLOADED, Event.SHARE_INTENDED, Event.SHARED, Event.CALLBACK_REVIEW):
        pages.clock.now += 1_000
        pages.happen(row.id, event, changes={"changed": False})
    visitor = open_browser(pages.url, PHONE)
    visitor.go(pages.link(row.id))
    operate.ask_for_resubmission(pages.context, row.id, "The photo is blurred", "operator:olga")
    visitor.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(visitor.page.locator(".banner")).to_contain_text("The photo is blurred")
    expect(visitor.page.locator("form")).to_contain_text("You have not changed anything yet.")
    visitor.check_accessible()
    pages.clock.now += 60_000
    visitor.page.get_by_role("link", name="Send again: Front of your document").click()
    choose(visitor, "idFileFront", photo(600, 400))
    arrived(visitor)
    visitor.page.get_by_role("button", name="Continue").click()
    expect(visitor.page.locator(".overview")).to_contain_text("Sent again")
    visitor.page.get_by_role("button", name="Submit").click()
    expect(visitor.page.locator("h1")).to_have_text("We are checking your details")
    assert pages.state(row.id) is State.UPLOADING


def test_a_reason_is_read_in_the_direction_of_its_script(pages: Pages, open_browser: OpenBrowser) -> None:
    row = pages.in_state(State.IN_REVIEW, "u-arabic", profile=PROFILE)
    operate.ask_for_resubmission(pages.context, row.id, "\u0627\u0644\u0635\u0648\u0631\u0629 (2).", "operator:olga")
    visitor = open_browser(pages.url, PHONE)
    visitor.go(pages.link(row.id))
    expect(visitor.page.locator(".quote")).to_have_css("direction", "rtl")
    expect(visitor.page.locator("h1")).to_have_css("direction", "ltr")


def test_the_page_is_the_merchants(pages: Pages, at: Callable[..., Visitor], tmp_path: Path) -> None:
    visitor = at("start")
    expect(visitor.page.get_by_role("img", name="Example Shop")).to_be_visible()
    expect(visitor.page.locator("main")).to_contain_text("Example Shop asks you to show who you are")
    colours = visitor.page.eval_on_selector(
        ".primary", "(button) => [getComputedStyle(button).backgroundColor, getComputedStyle(button).color]"
    )
    assert colours == ["rgb(245, 196, 0)", "rgb(0, 0, 0)"]
    logo = pages.browser().get("/brand/logo")
    assert (logo.headers["Content-Type"], logo.text) == ("image/svg+xml", LOGO)
    with pages_server(tmp_path) as plain:
        assert [plain.browser().get(f"/brand/{name}").status_code for name in ("logo", "colors.css")] == [404, 404]
