"""The end user's page over real HTTP, as a browser without scripts uses it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import requests

from orchestrator.machine import Event, State
from orchestrator.onboarding import collect, look, operate
from orchestrator.onboarding.profile import PAGE_FIELDS
from orchestrator.web.app import create_app
from orchestrator.web.upload_form import FILES, detail_steps
from tests.pages_server import PROFILE, PUBLIC_URL, Browser, Pages, pages_server, picture, put_documents, visible

ANSWERS = {name: value for name, value in PROFILE.items() if name not in ("ip", "deviceId")}


@pytest.fixture
def pages(tmp_path: Path) -> Iterator[Pages]:
    with pages_server(tmp_path) as running:
        yield running


def send(
    browser: Browser, path: str, answers: Mapping[str, str], action: str = "save", **documents: bytes
) -> requests.Response:
    """The form as a browser sends it: every input of the page, empty ones and files not chosen too."""
    fields = {name: (None, answers.get(name, "")) for name in {*PAGE_FIELDS, *answers}}
    chosen: list[tuple[str, Any]] = []
    for kind in FILES:
        content = documents.get(kind)
        chosen.append((kind, ("", b"") if content is None else (f"{kind}.jpg", content, "image/jpeg")))
    empty_camera = ("selfie", ("", b"", "application/octet-stream"))
    parts = [*fields.items(), *chosen, empty_camera, ("action", (None, action))]
    return multipart(browser, path, parts)


def multipart(browser: Browser, path: str, parts: list[tuple[str, Any]]) -> requests.Response:
    boundary = "----boundary7f3a"
    body = b""
    for name, (filename, content, *rest) in parts:
        disposition = f'form-data; name="{name}"' + ("" if filename is None else f'; filename="{filename}"')
        kind = "" if filename is None else f"Content-Type: {rest[0] if rest else 'application/octet-stream'}\r\n"
        data = content.encode() if isinstance(content, str) else content
        body += f"--{boundary}\r\nContent-Disposition: {disposition}\r\n{kind}\r\n".encode() + data + b"\r\n"
    body += f"--{boundary}--\r\n".encode()
    return browser.post(path, body, headers={"Content-Type": f"multipart/form-data; boundary={boundary}"})  # type: ignore[arg-type]


def field_error(page: str, name: str) -> str:
    """What is said at a field, or in the summary about a field of another screen."""
    found = re.search(rf'id="{name}-error">([^<]+)<', page) or re.search(rf'#{name}">[^<]*</a>: ([^<]*)<', page)
    return found[1] if found else ""


def given(browser: Browser, path: str, step: str, name: str) -> bool:
    """Whether a screen says that this is there."""
    found = re.search(rf'for="{name}">.*?</div>', browser.get(f"{path}?step={step}").text, re.DOTALL)
    assert found, name
    return "Given" in found[0]


def test_a_user_fills_everything_in_and_submits_at_once(pages: Pages) -> None:
    row = pages.sign_up("u-1")
    browser, path = pages.browser(), pages.link(row.id)
    assert "Confirm your identity" in browser.get(path).text
    answer = send(browser, path, ANSWERS, "submit", idFileFront=picture(), selfie=picture("red", "PNG"))
    assert (answer.status_code, answer.headers["Location"]) == (303, path)
    assert pages.state(row.id) is State.UPLOADING
    assert "We are checking your details" in browser.get(path).text
    kinds = {document.kind: document.media_type for document in pages.context.store.documents(row.id)}
    assert kinds == {"idFileFront": "image/jpeg", "selfie": "image/png"}
    assert {name: pages.profile(row.id)[name] for name in ANSWERS} == ANSWERS
    assert {moment.actor for moment in look.transitions(pages.context, row)} == {"merchant:shop", "user"}


def test_a_user_comes_back_to_finish(pages: Pages) -> None:
    row = pages.sign_up("u-1")
    browser, path = pages.browser(), pages.link(row.id)
    first = {"firstName": ANSWERS["firstName"], "idType": "ID_CARD"}
    answer = send(browser, path, first, idFileFront=picture())
    assert (answer.status_code, answer.headers["Location"]) == (303, f"{path}?step=check")
    page = browser.get(path).text
    assert "Go on where you were" in page
    assert 'href="?step=name"' in page
    assert given(browser, path, "name", "firstName")
    assert not given(browser, path, "name", "lastName")
    assert "You need not send it again" in browser.get(f"{path}?step=front").text
    rest = {name: value for name, value in ANSWERS.items() if name not in ("firstName", "idType")}
    answer = send(browser, path, rest, "submit", idFileBack=picture("blue"), selfie=picture("red"))
    assert answer.status_code == 303
    assert pages.state(row.id) is State.UPLOADING
    assert pages.profile(row.id)["firstName"] == "Ana-Zoraida"


def test_one_screen_after_the_other_leads_to_the_check(pages: Pages) -> None:
    row = pages.sign_up("u-1")
    browser, path = pages.browser(), pages.link(row.id)
    seen, at = [], "type"
    while at != "check":
        seen.append(at)
        page = browser.get(f"{path}?step={at}").text
        fields = {name: ANSWERS[name] for name in ANSWERS if f'name="{name}"' in page}
        files = {kind: picture() for kind in FILES if f'name="{kind}"' in page}
        answer = send(browser, f"{path}?step={at}", fields, **files)
        assert answer.status_code == 303
        at = answer.headers["Location"].rpartition("=")[2]
    assert seen == ["type", "name", "about", "document", "address", "questions", "front", "selfie"]
    assert "Everything is here" in browser.get(f"{path}?step=check").text


def test_a_screen_left_without_what_it_needs_says_so_and_keeps_the_rest(pages: Pages) -> None:
    row = pages.sign_up("u-1")
    browser, path = pages.browser(), pages.link(row.id)
    answer = send(browser, f"{path}?step=about", {"nationality": "HKG", "phoneNumber": "call <me>"})
    assert answer.status_code == 422
    assert field_error(answer.text, "residentialCountry") == "This is still needed."
    assert "+852" in field_error(answer.text, "phoneNumber")
    assert "call &lt;me&gt;" in answer.text
    assert pages.profile(row.id)["nationality"] == "HKG"
    answer = send(browser, f"{path}?step=selfie", {})
    assert "take a photo or choose a file" in field_error(answer.text, "selfie")


def test_who_came_to_change_something_returns_to_the_check(pages: Pages) -> None:
    row = pages.sign_up("u-1", profile=PROFILE)
    answer = send(pages.browser(), f"{pages.link(row.id)}?step=name&from=check", {"firstName": "Eve"})
    assert answer.headers["Location"] == f"{pages.link(row.id)}?step=check"


def test_a_file_is_sent_on_its_own_and_what_is_there_is_told(pages: Pages) -> None:
    row = pages.sign_up("u-1")
    browser, path = pages.browser(), pages.link(row.id)

    def put(kind: str, content: bytes, **headers: str) -> requests.Response:
        how = {"Origin": browser.base, "Accept": "application/json", **headers}
        return browser.session.put(f"{browser.base}{path}/documents/{kind}", content, headers=how, timeout=20)

    told = put("selfie", picture())
    assert told.status_code == 200
    assert told.json() == browser.get(f"{path}/progress").json()
    assert told.json()["shows"] == "collecting-1"
    assert list(told.json()["documents"]) == ["selfie"]
    assert [put("selfie", picture("red")).status_code, put("amlReport", picture()).status_code] == [200, 404]
    assert put("selfie", picture(), Origin="https://elsewhere.example").status_code == 403
    refused = put("selfie", b"hello", **{"Accept-Language": "zh-HK"})
    assert refused.status_code == 415
    assert "JPG、PNG 或 PDF" in refused.json()["detail"]
    large = put("selfie", b"x" * 5_000_001)
    assert (large.status_code, large.json()["detail"][:36]) == (413, "This file is larger than 5 MB. Choos")
    assert {document.size for document in pages.context.store.documents(row.id)} == {len(picture("red"))}
    collect.renew_link(pages.context, row.id, "merchant:shop")
    assert [put("selfie", picture()).status_code, browser.get(f"{path}/progress").status_code] == [410, 410]


def test_what_the_page_shows_has_a_name_that_changes_with_it(pages: Pages) -> None:
    seen = {}
    for state in (State.COLLECTING, State.UPLOADING, State.CONFIRMING, State.IN_REVIEW, State.APPROVED, State.REJECTED):
        row = pages.in_state(state, f"u-{state}", profile=PROFILE)
        told = pages.browser().get(f"{pages.link(row.id)}/progress").json()
        assert told["isFinal"] is (state in (State.APPROVED, State.REJECTED))
        seen[state] = told["shows"]
    assert list(seen.values()) == ["collecting-1", "checking", "checking", "reviewing", "approved", "rejected"]


def test_the_language_is_the_browsers_until_it_is_chosen_by_hand(pages: Pages) -> None:
    path = pages.link(pages.sign_up("u-1").id)

    def shown(accepted: str, browser: Browser | None = None, query: str = "") -> str:
        answer = (browser or pages.browser()).get(path + query, headers={"Accept-Language": accepted})
        found = re.search(r'<html lang="([^"]+)">', answer.text)
        assert found
        assert ("確認您的身分" in answer.text) is (found[1] == "zh-Hant-TW")
        return found[1]

    for accepted in ("zh-TW", "zh-HK,zh;q=0.9,en;q=0.8", "zh-Hant-MO", "fr-FR,zh;q=0.5"):
        assert shown(accepted) == "zh-Hant-TW"
    for accepted in ("en-HK,zh-HK;q=0.9", "fr-FR", "", "*", "x" * 300):
        assert shown(accepted) == "en"
    browser = pages.browser()
    assert shown("en", browser, "?lang=zh-Hant-TW") == shown("en", browser) == "zh-Hant-TW"
    assert shown("zh-TW", browser, "?lang=en") == shown("zh-TW", browser) == "en"
    assert shown("zh-TW", browser, "?lang=%00<b>") == "en"
    assert '<html lang="en">' in browser.get("/login", headers={"Accept-Language": "zh-TW"}).text


def test_no_stored_value_is_ever_shown(pages: Pages) -> None:
    row = pages.sign_up("u-1", profile=PROFILE)
    browser, path = pages.browser(), pages.link(row.id)
    texts = [browser.get(path).text, send(browser, path, {"dob": "nonsense", "city": "Sai Kung"}).text]
    texts.append(browser.get(path).text)
    for page in texts:
        for value in ("Ana-Zoraida", "Quillfeather", "K7734191", "203.0.113.77", "device-of-ana", "Sai Kung"):
            assert value not in page
        assert "secret.person" not in page
        assert "selected" not in page
        assert "u-1" not in visible(page)


def test_empty_inputs_leave_stored_values_alone(pages: Pages) -> None:
    row = pages.sign_up("u-1", profile=PROFILE)
    assert send(pages.browser(), pages.link(row.id), {}).status_code == 303
    assert pages.profile(row.id) == PROFILE


@pytest.mark.parametrize(
    "name", ["ip", "deviceId", "email", "kycType", "shareToken", "registerTime", "unknown", "csrf"]
)
def test_a_field_that_is_not_the_users_is_422_and_nothing_is_kept(pages: Pages, name: str) -> None:
    row = pages.sign_up("u-1")
    answer = send(pages.browser(), pages.link(row.id), {"firstName": "Ana", name: "203.0.113.9"})
    assert answer.status_code == 422
    assert pages.profile(row.id) == {}


def test_a_field_that_is_not_the_users_is_named_to_programs(pages: Pages) -> None:
    row = pages.sign_up("u-1")
    answer = pages.browser().post(pages.link(row.id), {"ip": "1.2.3.4"}, headers={"Accept": "application/json"})
    assert answer.status_code == 422
    assert answer.json()["errors"] == {"profile.ip": ["may not be set here"]}


def test_a_document_of_another_kind_is_422(pages: Pages) -> None:
    row = pages.sign_up("u-1")
    part = ("amlReport", ("report.pdf", b"%PDF-1.7", "application/pdf"))
    assert multipart(pages.browser(), pages.link(row.id), [part]).status_code == 422
    text = ("selfie", (None, "not a file"))
    assert multipart(pages.browser(), pages.link(row.id), [text]).status_code == 422


def test_what_is_good_is_kept_and_each_fault_is_told_at_its_field(pages: Pages) -> None:
    row = pages.sign_up("u-1")
    browser, path = pages.browser(), pages.link(row.id)
    answers = ANSWERS | {"idType": "ID_CARD", "dob": "31.12.1990", "phoneNumber": "call <me>", "nationality": "Narnia"}
    answer = send(browser, path, answers, "submit", idFileFront=b"hello", idFileBack=b"x" * 5_000_001, selfie=picture())
    assert answer.status_code == 422
    page = answer.text
    assert "such as 1990-12-31" in field_error(page, "dob")
    assert "+852" in field_error(page, "phoneNumber")
    assert "from the list" in field_error(page, "nationality")
    assert "cannot be read as a JPG, PNG or PDF" in field_error(page, "idFileFront")
    assert "larger than 5 MB" in field_error(page, "idFileBack")
    summary = page[page.index('role="alert"') : page.index("<form")]
    assert "5 things need your attention" in summary
    targets = re.findall(r'href="[?]step=(\w+)&amp;from=check#([^"]+)"', summary)
    assert {name for _, name in targets} == {"dob", "phoneNumber", "nationality", "idFileFront", "idFileBack"}
    assert all(f'id="{name}"' in browser.get(f"{path}?step={step}").text for step, name in targets)
    assert "<title>Error:" in page
    kept = pages.profile(row.id)
    assert kept["lastName"] == "Quillfeather"
    assert not {"dob", "phoneNumber", "nationality"} & kept.keys()
    assert [document.kind for document in pages.context.store.documents(row.id)] == ["selfie"]
    assert pages.state(row.id) is State.COLLECTING


def test_submitting_too_early_names_what_is_still_needed(pages: Pages) -> None:
    row = pages.sign_up("u-1", profile={"idType": "DRIVERS"})
    page = send(pages.browser(), pages.link(row.id), {"firstName": "Ana"}, "submit").text
    needed = {"lastName", "idNumber", "nationality", "residentialCountry", "occupation", *FILES}
    for name in needed:
        assert field_error(page, name).startswith("This is still needed")
    for name in ("firstName", "idType", "dob", "gender"):
        assert field_error(page, name) == ""
    assert pages.state(row.id) is State.COLLECTING


def test_an_email_that_only_the_merchant_can_give_is_asked_of_the_merchant(pages: Pages) -> None:
    row = pages.sign_up("u-1", profile=PROFILE)
    put_documents(pages, row.id, "idFileFront", "selfie")
    sealed = pages.context.seal_json({"email": "", "profile": PROFILE}, "onboardings", row.id, "profile")
    pages.happen(row.id, Event.EDITED, changes={"profile_sealed": sealed})
    page = send(pages.browser(), pages.link(row.id), {}, "submit")
    assert page.status_code == 422
    assert "has not given us your email address" in page.text
    assert "email missing" in visible(pages.browser(pages.viewer).get(f"/status/onboardings/{row.id}").text)


def test_files_that_are_too_large_together_are_refused_at_their_field(pages: Pages) -> None:
    row = pages.sign_up("u-1")
    large = picture() + b"\0" * 4_900_000
    browser, path = pages.browser(), pages.link(row.id)
    assert send(browser, path, {}, idFileFront=large, selfie=large).status_code == 303
    page = send(browser, path, {}, idFileBack=large).text
    assert "together are too large" in field_error(page, "idFileBack")


def test_a_photo_and_a_file_for_the_same_document_are_one_too_many(pages: Pages) -> None:
    row = pages.sign_up("u-1")
    chosen = ("selfie", ("a.jpg", picture(), "image/jpeg"))
    answer = multipart(pages.browser(), pages.link(row.id), [chosen, chosen])
    assert "Choose only one" in field_error(answer.text, "selfie")


@pytest.mark.parametrize(("id_type", "asked"), [("PASSPORT", False), ("ID_CARD", True), ("DRIVERS", True), ("", True)])
def test_the_back_side_is_asked_for_only_where_it_may_be_needed(pages: Pages, id_type: str, asked: bool) -> None:
    row = pages.sign_up("u-1", profile={"idType": id_type} if id_type else {})
    answer = pages.browser().get(f"{pages.link(row.id)}?step=back")
    assert ('name="idFileBack"' in answer.text) is asked
    assert bool(answer.history) is not asked


def test_a_photo_of_the_user_may_be_taken_or_chosen(pages: Pages) -> None:
    row = pages.sign_up("u-1")
    for step, kind, camera in (("selfie", "selfie", "user"), ("front", "idFileFront", "environment")):
        page = pages.browser().get(f"{pages.link(row.id)}?step={step}").text
        taken, chosen = re.findall(rf'<input type="file"[^>]*name="{kind}"[^>]*>', page)
        assert f'capture="{camera}"' in taken
        assert "capture" not in chosen
        assert 'accept="image/jpeg,image/png,application/pdf"' in chosen


def test_the_page_asks_for_exactly_what_it_may_set(pages: Pages) -> None:
    row = pages.sign_up("u-1")
    with create_app(pages.service).test_request_context("/u/x"):
        asked = detail_steps(pages.context)
    assert sorted(question.name for step in asked for question in step.asked) == sorted(PAGE_FIELDS)
    texts = [pages.browser().get(f"{pages.link(row.id)}?step={step.name}").text for step in asked]
    texts += [pages.browser().get(f"{pages.link(row.id)}?step={name}").text for name in ("front", "back", "selfie")]
    page = "".join(texts)
    names = set(re.findall(r'<(?:input|select|textarea|button)[^>]* name="([^"]+)"', page))
    assert names == {*PAGE_FIELDS, *FILES, "action"}
    for name in names - {"action", "idType"}:
        assert f'<label for="{name}"' in page
    assert '<label class="choice" for="idType-PASSPORT">' in page
    assert '<option value="HKG">Hong Kong</option>' in page
    assert '<option value="Self-employed">' in page


def test_the_address_and_a_lasting_device_id_are_noted(pages: Pages) -> None:
    row = pages.sign_up("u-1")
    browser, path = pages.browser(), pages.link(row.id)
    flags = browser.get(path).headers["Set-Cookie"].split("; ")
    assert {"HttpOnly", "SameSite=Lax", "Path=/u", "Max-Age=31536000"} <= set(flags)
    device = browser.session.cookies["device"]
    headers = {"X-Forwarded-For": "198.51.100.7"}
    assert browser.post(path, {"firstName": "Ana"}, headers=headers).status_code == 303
    assert pages.profile(row.id) == {"firstName": "Ana", "ip": "198.51.100.7", "deviceId": device}
    assert "Set-Cookie" not in browser.get(path).headers


def test_a_form_of_fields_alone_is_small(pages: Pages) -> None:
    path = pages.link(pages.sign_up("u-1").id)
    fields = "&".join(f"{number:x}" for number in range(60_000)).encode()
    how = {"headers": {"Content-Type": "application/x-www-form-urlencoded"}}
    assert pages.browser().post(path, fields, **how).status_code == 413
    assert pages.browser().post(path, fields[:200_000], **how).status_code == 422


@pytest.mark.parametrize(
    ("told", "noted"),
    [
        ("198.51.100.7:4711", "198.51.100.7"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ("2001:db8::1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("unknown", None),
        ("[198.51.100.7", None),
    ],
)
def test_of_what_a_proxy_says_of_the_sender_only_an_address_is_noted(
    pages: Pages, told: str, noted: str | None
) -> None:
    row = pages.sign_up("u-1")
    assert pages.browser().post(pages.link(row.id), {"dob": ""}, headers={"X-Forwarded-For": told}).status_code == 303
    assert pages.profile(row.id).get("ip") == noted


def test_a_browser_without_the_cookie_gets_the_id_that_is_stored(pages: Pages) -> None:
    row = pages.sign_up("u-1")
    browser = pages.browser()
    browser.session.cookies.set("device", "x\ty", domain="127.0.0.1", path="/u")
    browser.post(pages.link(row.id), {"dob": "wrong"})
    stored = pages.profile(row.id)["deviceId"]
    assert len(stored) == 43
    assert stored in {kept.value for kept in browser.session.cookies}


def test_what_the_merchant_gave_is_not_replaced(pages: Pages) -> None:
    row = pages.sign_up("u-1", profile={"ip": "203.0.113.77", "deviceId": "device-of-ana"})
    send(pages.browser(), pages.link(row.id), {"firstName": "Ana"})
    assert pages.profile(row.id) == {"ip": "203.0.113.77", "deviceId": "device-of-ana", "firstName": "Ana"}


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (State.UPLOADING, "We are checking your details"),
        (State.AWAITING_CALLBACK, "We are checking your details"),
        (State.CONFIRMING, "We are checking your details"),
        (State.IN_REVIEW, "We are still checking your details"),
        (State.NEEDS_ATTENTION, "We are still checking your details"),
        (State.APPROVED, "Your identity is confirmed"),
        (State.REJECTED, "Your identity could not be confirmed"),
        (State.CANCELLED, "This check was ended"),
    ],
)
def test_after_submit_only_what_became_of_it_is_shown(pages: Pages, state: State, words: str) -> None:
    row = pages.in_state(state, "u-1", profile=PROFILE)
    browser, path = pages.browser(), pages.link(row.id)
    page = browser.get(path)
    assert page.status_code == 200
    assert words in page.text
    assert "<form" not in page.text
    assert "blurred" not in page.text
    answer = send(browser, path, {"firstName": "Eve"})
    assert answer.status_code == 409
    assert words in answer.text
    assert pages.profile(row.id) == PROFILE


def test_a_rejection_is_explained(pages: Pages) -> None:
    row = pages.in_state(State.CONFIRMING, "u-1")
    pages.happen(row.id, Event.CONFIRMED_FINAL_REJECT, reason="The document <b>has expired</b>")
    page = pages.browser().get(pages.link(row.id)).text
    assert "The document &lt;b&gt;has expired&lt;/b&gt;" in page


def test_a_later_round_says_why_and_asks_again(pages: Pages) -> None:
    row = pages.in_state(State.IN_REVIEW, "u-1", profile=PROFILE)
    operate.ask_for_resubmission(pages.context, row.id, "The photo is blurred", "operator:olga")
    page = pages.browser().get(pages.link(row.id)).text
    assert "Please send some of it again" in page
    assert "The photo is blurred" in page
    assert "<form" in page


def test_a_replaced_link_is_gone_and_an_unknown_one_was_never_there(pages: Pages) -> None:
    row = pages.sign_up("u-1")
    browser, old = pages.browser(), pages.link(row.id)
    collect.renew_link(pages.context, row.id, "merchant:shop")
    for answer in (browser.get(old), send(browser, old, {"firstName": "Eve"})):
        assert answer.status_code == 410
        assert "This link no longer works" in answer.text
        assert "ask for one: the company that sent you this link" in visible(answer.text)
    for answer in (browser.get("/u/unknown"), send(browser, "/u/unknown", {"firstName": "Eve"})):
        assert answer.status_code == 404
        assert "We do not know this link" in answer.text
    assert pages.profile(row.id) == {}


def test_an_expired_link_is_gone(pages: Pages) -> None:
    row = pages.in_state(State.EXPIRED, "u-1")
    assert pages.browser().get(pages.link(row.id)).status_code == 410


def test_the_link_needs_no_session_and_the_session_opens_no_link(pages: Pages) -> None:
    row = pages.sign_up("u-1")
    page = pages.browser(pages.operator).get(pages.link(row.id)).text
    assert "olga" not in page
    assert "Sign out" not in page
    assert pages.link(row.id).removeprefix("/u/") not in page.replace(f'action="{pages.link(row.id)}"', "")
    assert PUBLIC_URL not in page


def test_documents_are_never_written_in_plain(pages: Pages, tmp_path: Path) -> None:
    row = pages.sign_up("u-1")
    marker = b"%PDF-1.7 MARKER-OF-A-PLAIN-DOCUMENT" + b"." * 2_000_000
    assert send(pages.browser(), pages.link(row.id), {}, idFileFront=marker).status_code == 303
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any("documents" in path.parts for path in files)
    assert not [path for path in files if b"MARKER-OF-A-PLAIN-DOCUMENT" in path.read_bytes()]


@pytest.mark.parametrize(
    ("name", "right", "wrong", "words"),
    [
        # The clock stands at 2026-11-22 in UTC: a day more or less may be the user's own.
        ("dob", "2026-11-22", "2026-11-23", "not come yet"),
        ("idExpiry", "2026-11-21", "2026-11-20", "has expired"),
    ],
)
def test_a_day_that_cannot_be_right_is_told_and_not_kept(
    pages: Pages, name: str, right: str, wrong: str, words: str
) -> None:
    row = pages.sign_up("u-1")
    browser, path = pages.browser(), pages.link(row.id)
    refused = send(browser, path, {name: wrong, "firstName": "Ana", "phoneNumber": "call me"})
    assert refused.status_code == 422
    assert words in field_error(refused.text, name)
    assert "+852" in field_error(refused.text, "phoneNumber")
    kept = pages.profile(row.id)
    assert (kept["firstName"], kept.get(name)) == ("Ana", None)
    assert words in field_error(send(browser, path, {name: wrong}, "submit").text, name)
    assert send(browser, path, {name: right}).status_code == 303
    assert pages.profile(row.id)[name] == right


def test_a_day_that_cannot_be_right_is_told_in_chinese_too(pages: Pages) -> None:
    row = pages.sign_up("u-1")
    page = send(
        pages.browser(), f"{pages.link(row.id)}?lang=zh-Hant-TW", {"dob": "2999-01-01", "idExpiry": "1999-01-01"}
    )
    assert "這一天還沒到" in field_error(page.text, "dob")
    assert "證件已過期" in field_error(page.text, "idExpiry")


def test_the_api_takes_any_day(pages: Pages) -> None:
    days = {"dob": "2999-01-01", "idExpiry": "1999-01-01"}
    assert pages.profile(pages.sign_up("u-1", profile=days).id) == days


def test_who_typed_something_comes_back_to_it_without_any_file(pages: Pages) -> None:
    row = pages.sign_up("u-1")
    browser, path = pages.browser(), pages.link(row.id)
    page = browser.get(path).text
    assert "What is already here" not in page
    assert "Start" in visible(page)
    send(browser, f"{path}?step=name", {"firstName": "Ana", "lastName": "Lee"})
    page = browser.get(path).text
    assert "Go on where you were" in page
    assert "What is already here Your name What happens" in visible(page)


def test_what_the_merchant_gave_is_told_to_who_comes_first(pages: Pages) -> None:
    row = pages.sign_up("u-1", profile={"idType": "PASSPORT"})
    page = visible(pages.browser().get(pages.link(row.id)).text)
    assert "What is already here Type of document What happens" in page
    assert "Go on where you were" not in page


def test_odd_spaces_are_forgiven(pages: Pages) -> None:
    row = pages.sign_up("u-1")
    send(pages.browser(), pages.link(row.id), {"firstName": "  Ana\u00a0Maria \t", "lastName": " \u3000 "})
    kept = pages.profile(row.id)
    assert kept["firstName"] == "Ana Maria"
    assert "lastName" not in kept
