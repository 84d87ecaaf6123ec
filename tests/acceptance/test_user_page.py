"""Users in a real browser, from their link to the end: gunicorn, worker and sandbox are real processes."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Error, expect

from tests.acceptance.conftest import Install
from tests.browser import DESKTOP, PHONE, OpenBrowser, Visitor
from tests.installation import Installation
from tests.waiting import until

ANSWERS = {
    "type": {"idType": "ID_CARD"},
    "name": {"firstName": "Ana", "lastName": "Lee"},
    "about": {"nationality": "HKG", "residentialCountry": "HKG", "dob": "1990-12-31", "phoneNumber": "+852 5555 1234"},
    "document": {"idNumber": ""},
    "address": {"street": "Nathan Road", "city": "Kowloon"},
    "questions": {
        "accountPurpose": "Savings",
        "monthSpend": "Less than 1,000 USD",
        "sourceFunds": "Salary",
        "occupation": "Employed",
    },
}
KINDS = {"front": "idFileFront", "back": "idFileBack", "selfie": "selfie"}


@pytest.fixture(scope="module")
def site(installed: Install) -> Installation:
    return installed()


def begin(site: Installation, story: str) -> dict[str, Any]:
    """A signup with nothing but an email; what the merchant's program is answered."""
    answer = site.post_signup({"merchantUserId": f"{story}-page", "email": f"{story}+page@example.com"})
    assert answer.status_code == 202
    told: dict[str, Any] = answer.json()
    return told


def path_of(told: dict[str, Any]) -> str:
    return f"/u/{told['uploadUrl'].rpartition('/')[2]}"


def picture(colour: str) -> dict[str, Any]:
    """A photo of this colour, large enough to be looked at."""
    buffer = BytesIO()
    Image.new("RGB", (640, 400), colour).save(buffer, "JPEG")
    return {"name": f"{colour}.jpg", "mimeType": "image/jpeg", "buffer": buffer.getvalue()}


def answer_screen(visitor: Visitor, screen: str, number: str) -> None:
    """Fill in what a screen with questions asks; `number`: of the document."""
    page = visitor.page
    page.locator("main button").wait_for()  # it comes last: all fields are there
    for name, value in ANSWERS[screen].items():
        if name == "idType":
            page.check(f"#{name}-{value}")
        elif page.locator(f"select#{name}").count():
            page.select_option(f"#{name}", value)
        else:
            page.fill(f"#{name}", number if name == "idNumber" else value)
    page.locator("main button").click()


def test_a_user_with_a_phone_comes_from_the_link_to_approved_in_chinese(
    site: Installation, open_browser: OpenBrowser
) -> None:
    told = begin(site, "pass")
    visitor = open_browser(site.url, PHONE, locale="zh-HK")
    page = visitor.page
    visitor.go(path_of(told))
    page.get_by_role("link", name="開始").click()
    for screen in ANSWERS:
        page.wait_for_url(f"**?step={screen}")
        answer_screen(visitor, screen, "K7654321")
    for number, (screen, kind) in enumerate(KINDS.items()):
        page.wait_for_url(f"**?step={screen}")
        page.set_input_files(f"#{kind}-camera", picture(("teal", "navy", "olive")[number]))
        expect(page.locator("#sending")).to_contain_text("已傳送")
        page.get_by_role("button", name="繼續").click()
    page.wait_for_url("**?step=check")
    expect(page.locator("main")).to_contain_text("資料已齊全")
    page.get_by_role("button", name="提交").click()
    # Nothing is clicked from here on: the page follows by itself.
    expect(page.locator("h1")).to_have_text("您的身分已確認", timeout=45_000)
    visitor.check_accessible()
    row = site.call("GET", f"onboardings/{told['id']}").json()
    assert row["state"] == "approved"
    assert site.sandbox
    [upload] = site.sandbox.requests("btse.upload", told["merchantUserId"])
    assert {file["sha256"] for file in upload["files"]} == {document["sha256"] for document in row["documents"]}
    assert {document["mediaType"] for document in row["documents"]} == {"image/jpeg"}


def test_without_scripts_a_user_sends_a_photo_again_and_is_approved(
    site: Installation, open_browser: OpenBrowser
) -> None:
    told = begin(site, "reject")
    visitor = open_browser(site.url, DESKTOP, scripts=False)
    page = visitor.page
    visitor.go(path_of(told))
    page.get_by_role("link", name="Start").click()
    for screen in ANSWERS:
        page.wait_for_url(f"**?step={screen}")
        answer_screen(visitor, screen, "K1234567")
    for screen, kind in KINDS.items():
        page.wait_for_url(f"**?step={screen}")
        assert "Files are sent as they are" in page.locator("noscript").inner_text()
        page.set_input_files(f"#{kind}", picture({"front": "teal", "back": "olive", "selfie": "navy"}[screen]))
        page.get_by_role("button", name="Continue").click()
    page.get_by_role("button", name="Submit").click()
    expect(page.locator("h1")).to_contain_text("checking your details")

    def shown(words: str) -> bool:
        try:
            page.reload()
        except Error as error:  # the page was going elsewhere by itself at that moment
            raise AssertionError(str(error)) from error
        assert words in page.inner_text("h1")
        return True

    until(lambda: shown("Please send some of it again"), 45)
    expect(page.locator(".banner")).to_contain_text("Why")
    page.get_by_role("link", name="Send again: Photo of you").click()
    page.set_input_files("#selfie", picture("purple"))
    page.get_by_role("button", name="Continue").click()
    expect(page.locator(".overview")).to_contain_text("Sent again")
    page.get_by_role("button", name="Submit").click()
    until(lambda: shown("Your identity is confirmed"), 45)
    row = site.call("GET", f"onboardings/{told['id']}").json()
    assert (row["state"], row["round"]) == ("approved", 2)
