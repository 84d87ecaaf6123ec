"""The status pages over real HTTP: the list, one onboarding, and what operators do there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.errors import Kind
from orchestrator.health import Outcome
from orchestrator.machine import TABLE, CellKind, Event, State
from orchestrator.onboarding import collect, look, retain
from orchestrator.records import DeliveryStatus
from orchestrator.store import Change
from orchestrator.web import words
from tests.pages_server import PROFILE, PUBLIC_URL, Pages, pages_server, put_documents, visible

SECRETS = [
    *(value for name, value in PROFILE.items() if name not in ("idType", "nationality", "residentialCountry")),
    "secret.person@example.com",
]
ACTIONS = {"retry": Event.RETRIED, "resubmission": Event.RESUBMISSION_ASKED, "cancel": Event.CANCEL_ASKED}


@pytest.fixture
def pages(tmp_path: Path) -> Iterator[Pages]:
    with pages_server(tmp_path) as running:
        yield running


def listed(page: str) -> list[str]:
    """The merchantUserIds of the list."""
    return re.findall(r'<th scope="row"><a [^>]*>([^<]*)</a>', page)


LIST = "/status/onboardings"


def one(onboarding_id: str) -> str:
    return f"/status/onboardings/{onboarding_id}"


def test_every_state_is_counted_and_listed(pages: Pages) -> None:
    for state in State:
        pages.in_state(state, f"u-{state}", profile=PROFILE)
    pages.sign_up("u-more")
    browser = pages.browser(pages.viewer)
    assert set(listed(browser.get(LIST).text)) == {*(f"u-{state}" for state in State), "u-more"}
    page = browser.get("/status").text
    boxes = re.findall(
        r'href="[^"]*state=(\w+)"[^>]*>.*?<text[^>]*>([^<]+)</text>\s*<text[^>]*>([\d,]+)<', page, re.DOTALL
    )
    assert {state: (name, number) for state, name, number in boxes} == {
        state.value: (words.label(state), "2" if state is State.COLLECTING else "1") for state in State
    }
    assert "All 12" in visible(page)


def test_the_list_is_filtered_by_state(pages: Pages) -> None:
    pages.in_state(State.APPROVED, "u-good")
    pages.in_state(State.REJECTED, "u-bad")
    assert listed(pages.browser(pages.viewer).get(f"{LIST}?state=approved").text) == ["u-good"]


def test_the_list_comes_in_pages_newest_first(pages: Pages) -> None:
    for number in range(120):
        pages.clock.now += number % 2
        pages.sign_up(f"u-{number}")
    browser = pages.browser(pages.viewer)
    path, seen, sizes = f"{LIST}?state=collecting", [], []
    while path:
        page = browser.get(path).text
        seen += listed(page)
        sizes.append(len(listed(page)))
        following = re.search(r'rel="next" href="([^"]+)"', page)
        path = following[1].replace("&amp;", "&") if following else ""
    assert sizes == [50, 50, 20]
    assert sorted(seen) == sorted(f"u-{number}" for number in range(120))
    assert seen[0] in ("u-119", "u-118")


@pytest.mark.parametrize("query", ["state=nonsense", "cursor=nonsense", "verdict=x", "age=2d", "sort=up", "cursor=MQ"])
def test_a_garbled_query_is_answered_422(pages: Pages, query: str) -> None:
    assert pages.browser(pages.viewer).get(f"{LIST}?{query}").status_code == 422


def test_a_search_finds_whole_ids(pages: Pages) -> None:
    row = pages.in_state(State.AWAITING_CALLBACK, "u-1")
    pages.sign_up("u-10")
    browser = pages.browser(pages.viewer)
    for text in ("u-1", row.id, row.osl_user_id or ""):
        assert listed(browser.get(LIST, params={"q": text}).text) == ["u-1"]
    assert listed(browser.get(f"{LIST}?q=u-1&state=approved").text) == []
    assert "Nothing matches" in browser.get(f"{LIST}?q=u").text


def test_only_operators_may_search_by_email(pages: Pages) -> None:
    pages.sign_up("u-1", email="Ana@example.com")
    query = {"q": " ana@EXAMPLE.com "}
    assert listed(pages.browser(pages.operator).get(LIST, params=query).text) == ["u-1"]
    assert listed(pages.browser(pages.viewer).get(LIST, params=query).text) == []
    assert "u-1" in pages.browser(pages.operator).get(f"{LIST}.csv", params=query).text
    assert "u-1" not in pages.browser(pages.viewer).get(f"{LIST}.csv", params=query).text


def test_warnings_health_and_the_last_beat_are_shown(pages: Pages) -> None:
    browser = pages.browser(pages.viewer)
    assert "No worker is running" in visible(browser.get("/status").text)
    row = pages.sign_up("u-1")
    refused = Outcome("osl", row.id, pages.clock.now, Kind.UNAUTHORIZED, "401", skew_ms=12_000)
    pages.context.store.commit(Change(row, row, outcome=refused))
    pages.context.schedule.beat("worker", pages.clock.now, 0, 60_000)
    text = visible(browser.get("/status").text)
    assert "No worker is running" not in text
    assert "Worker Working Last seen 2026-11-22 10:00:00 UTC" in text
    assert "OSL Pay Unauthorized answers" in text
    assert "Errors, 24 h 100.0 % of 1 calls Its clock +12.0 s from ours Budget 0 of 10 requests" in text
    assert "heck its base URL" in text
    assert "u-1 Collecting OSL Pay does not let it in, since 2026-11-22 10:00:00 UTC" in text


@pytest.mark.parametrize("state", State)
def test_one_onboarding_is_shown_in_every_state_without_personal_data(pages: Pages, state: State) -> None:
    row = pages.sign_up("u-1", profile=PROFILE)
    put_documents(pages, row.id, "idFileFront")
    pages.in_state(state, "u-1")
    for token in (pages.operator, pages.viewer):
        browser = pages.browser(token)
        page = browser.get(one(row.id)).text
        text = visible(page)
        assert state.meaning in text
        assert words.label(state) in text
        assert "idFileFront image/jpeg" in text
        assert "idNumber" in text
        for secret in SECRETS:
            assert secret not in page
            assert secret not in browser.get("/status").text
            assert secret not in browser.get(LIST).text


@pytest.mark.parametrize("state", State)
def test_operators_are_offered_exactly_what_the_machine_allows(pages: Pages, state: State) -> None:
    row = pages.in_state(state, "u-1")
    browser = pages.browser(pages.operator)
    page = browser.get(one(row.id)).text
    allowed = {name for name, event in ACTIONS.items() if TABLE[event][state].kind is not CellKind.REFUSE}
    for name in ACTIONS:
        assert (f'action="{one(row.id)}/{name}"' in page) is (name in allowed), name
    for name in ACTIONS.keys() - allowed:
        answer = browser.act("/status", f"{one(row.id)}/{name}", reason="Please try again")
        assert answer.status_code == 409
        assert "not possible while the onboarding is" in answer.text
    assert pages.state(row.id) is state


def test_viewers_get_neither_link_nor_buttons_nor_a_providers_words(pages: Pages) -> None:
    row = pages.in_state(State.NEEDS_ATTENTION, "u-1")
    operators, viewers = (pages.browser(token).get(one(row.id)).text for token in (pages.operator, pages.viewer))
    assert f'value="{PUBLIC_URL}/u/' in operators
    assert "is blurred" in operators
    assert "/u/" not in viewers
    assert "blurred" not in viewers
    assert re.findall(r'<form[^>]* action="([^"]*)"', viewers) == ["/logout"]


@pytest.mark.parametrize("name", ["retry", "cancel", "resubmission", "link"])
def test_viewers_may_do_nothing(pages: Pages, name: str) -> None:
    row = pages.in_state(State.NEEDS_ATTENTION, "u-1")
    link = pages.link(row.id)
    answer = pages.browser(pages.viewer).act("/status", f"{one(row.id)}/{name}", reason="Please try again")
    assert answer.status_code == 403
    assert pages.state(row.id) is State.NEEDS_ATTENTION
    assert pages.link(row.id) == link


@pytest.mark.parametrize(
    ("name", "state", "message"),
    [
        ("retry", State.SHARING, "goes on where it stopped"),
        ("cancel", State.CANCELLED, "was cancelled"),
        ("resubmission", State.COLLECTING, "asked to submit again"),
    ],
)
def test_an_operator_acts_and_is_led_back_with_a_message(pages: Pages, name: str, state: State, message: str) -> None:
    row = pages.sign_up("u-1", profile=PROFILE)
    put_documents(pages, row.id, "idFileFront", "selfie")
    pages.in_state(State.NEEDS_ATTENTION, "u-1")
    pages.happen(row.id, Event.UPLOADED, changes={"changed": False})
    browser = pages.browser(pages.operator)
    answer = browser.act(one(row.id), f"{one(row.id)}/{name}", reason="Please send a sharper photo")
    assert answer.status_code == 303
    assert pages.state(row.id) is state
    assert message in browser.get(answer.headers["Location"]).text
    assert look.transitions(pages.context, row)[-1].actor == "operator:olga"
    again = browser.act(one(row.id), f"{one(row.id)}/{name}", reason="Please send a sharper photo")
    assert again.status_code == 409


def test_a_retry_names_what_is_missing(pages: Pages) -> None:
    row = pages.in_state(State.NEEDS_ATTENTION, "u-1", profile=PROFILE)
    browser = pages.browser(pages.operator)
    answer = browser.act(one(row.id), f"{one(row.id)}/retry")
    assert answer.status_code == 422
    assert "documents.selfie" in answer.text


@pytest.mark.parametrize("reason", ["", "   ", "x" * 501])
def test_resubmission_needs_a_reason(pages: Pages, reason: str) -> None:
    row = pages.in_state(State.IN_REVIEW, "u-1")
    browser = pages.browser(pages.operator)
    answer = browser.act(one(row.id), f"{one(row.id)}/resubmission", reason=reason)
    assert answer.status_code == 422
    assert "reason must be a text of 1 to 500 characters." in answer.text
    assert pages.state(row.id) is State.IN_REVIEW


def test_a_new_link_is_shown_and_replaces_the_old_one(pages: Pages) -> None:
    row = pages.sign_up("u-1")
    old = pages.link(row.id)
    browser = pages.browser(pages.operator)
    answer = browser.act(one(row.id), f"{one(row.id)}/link")
    new = pages.link(row.id)
    assert new != old
    assert f'value="{PUBLIC_URL}{new}"' in browser.get(answer.headers["Location"]).text
    assert browser.get(old).status_code == 410
    assert browser.get(new).status_code == 200


def test_of_an_erased_one_no_link_is_shown_or_made(pages: Pages) -> None:
    row = pages.in_state(State.APPROVED, "u-1")
    browser = pages.browser(pages.operator)
    assert "Link for the user" in browser.get(one(row.id)).text
    retain.erase_here(pages.context, row.id, "operator")
    page = browser.get(one(row.id)).text
    assert "Link for the user" not in page
    assert "/u/" not in page
    refused = browser.act("/status", f"{one(row.id)}/link")
    assert refused.status_code == 409
    assert "everything personal was erased" in refused.text


def test_a_delivery_is_resent_once_it_is_over(pages: Pages) -> None:
    row = pages.in_state(State.UPLOADING, "u-1")
    browser = pages.browser(pages.operator)
    delivery = look.deliveries(pages.context, row)[0]
    path = f"/status/deliveries/{delivery.id}/resend"
    assert path not in browser.get(one(row.id)).text
    assert browser.act("/status", path).status_code == 409

    claimed = pages.context.schedule.claim_deliveries(pages.clock.now, "lease", pages.clock.now + 90_000, 1)[0]
    failed = {**vars(claimed), "status": DeliveryStatus.FAILED, "due_at": None, "attempts": 10, "last_error": "500"}
    pages.context.schedule.settle_delivery(type(claimed)(**failed), "lease", pages.clock.now)
    page = browser.get(one(row.id)).text
    assert path in page
    assert "onboarding.submitted Failed 500 10" in visible(page)
    assert path not in pages.browser(pages.viewer).get(one(row.id)).text
    assert pages.browser(pages.viewer).act("/status", path).status_code == 403

    answer = browser.act(one(row.id), path)
    assert (answer.status_code, answer.headers["Location"]) == (303, f"{one(row.id)}?done=resend")
    assert look.deliveries(pages.context, row)[0].status is DeliveryStatus.PENDING
    assert browser.act("/status", "/status/deliveries/dlv_none/resend").status_code == 404


def test_the_timeline_merges_transitions_and_callbacks(pages: Pages) -> None:
    row = pages.in_state(State.APPROVED, "u-1")
    callback = look.callbacks(pages.context, row)[0]
    for _ in range(4):
        pages.context.store.count_again(callback.id)
    text = visible(pages.browser(pages.viewer).get(one(row.id)).text)
    order = ["Signed up", "Submitted", "Shared", "Webhook PASS", "Callback pass", "Confirmed pass"]
    positions = [text.index(title, text.index("Timeline")) for title in order]
    assert positions == sorted(positions)
    assert "Webhook PASS Applied Seen 5× Believed and acted upon." in text


def test_a_doubt_and_the_next_attempt_are_shown(pages: Pages) -> None:
    row = pages.in_state(State.APPROVED, "u-1")
    pages.happen(row.id, Event.CALLBACK_REJECT)
    pages.context.schedule.beat("worker", pages.clock.now, 0, 60_000)
    text = visible(pages.browser(pages.viewer).get(one(row.id)).text)
    assert "Doubted since 2026-11-22" in text
    assert "A webhook claims otherwise than approved" in text
    assert "Waits for OSL Pay’s answer about a contrary claim. Since 2026-11-22 10:00:06 UTC" in text
    assert "Next, by itself OSL Pay is asked 2026-11-22 10:00:06 UTC (due now)." in text


def test_the_reason_is_shown_masked(pages: Pages) -> None:
    row = pages.in_state(State.IN_REVIEW, "u-1", profile=PROFILE)
    browser = pages.browser(pages.operator)
    browser.act(one(row.id), f"{one(row.id)}/resubmission", reason="Is Quillfeather your name?")
    page = browser.get(one(row.id)).text
    assert "Is &lt;lastName&gt; your name?" in page


def test_failures_are_told_as_people_count(pages: Pages) -> None:
    row = pages.in_state(State.UPLOADING, "u-1")
    pages.context.schedule.beat("worker", pages.clock.now, 0, 60_000)
    browser = pages.browser(pages.viewer)
    for number, says in ((1, "Attempts 1 failed since"), (2, "Attempts 2 failed in a row since")):
        later = {"attempts": number, "failing_since": pages.clock.now, "step_at": pages.clock.now + 60_000}
        pages.happen(row.id, Event.STEP_FAILED, changes=later)
        assert says in visible(browser.get(one(row.id)).text)


def test_moves_that_are_not_drawn_are_told_as_sentences(pages: Pages) -> None:
    text = visible(pages.browser(pages.viewer).get("/status").text)
    assert "the merchant or an operator cancels (cancelled); everything personal is erased on request" in text
    assert "cancel asked" not in text


def test_too_many_wrong_tokens_are_answered_with_a_sentence(pages: Pages) -> None:
    browser = pages.browser()
    answers = (browser.sign_in("orc_wrong") for _ in range(50))
    limited = next(answer for answer in answers if answer.status_code == 429)
    assert re.search(r"Too many wrong tokens: wait \d+ seconds\.<", limited.text)


def test_an_unknown_onboarding_is_404(pages: Pages) -> None:
    browser = pages.browser(pages.operator)
    answer = browser.get(one("onb_none"))
    assert answer.status_code == 404
    assert "There is no such onboarding" in answer.text
    assert browser.act("/status", f"{one('onb_none')}/cancel").status_code == 404


def test_markup_in_a_merchants_id_is_only_text(pages: Pages) -> None:
    evil = '"><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7 * 7 }}'
    row = pages.sign_up(evil)
    browser = pages.browser(pages.operator)
    for answer in (
        browser.get("/status"),
        browser.get(LIST),
        browser.get(one(row.id)),
        browser.get(LIST, params={"q": evil}),
    ):
        assert answer.status_code == 200
        assert "<script>" not in answer.text
        assert "<img" not in answer.text
        assert "/status?" in answer.url or answer.url.endswith("/status") or evil in visible(answer.text)


def test_each_page_weighs_less_than_60_kb_with_its_styles_and_scripts(pages: Pages) -> None:
    for number in range(60):
        pages.in_state(State.AWAITING_CALLBACK, f"shop-user-{number:05d}")
    row = pages.in_state(State.NEEDS_ATTENTION, "u-1", profile=PROFILE)
    browser = pages.browser(pages.operator)
    weights = {}
    for path in ("/login", "/status", LIST, one(row.id)):
        page = (browser if path != "/login" else pages.browser()).get(path)
        parts = re.findall(r'(?:href|src)="(/static/[^"]+)"', page.text)
        assert parts
        weights[path] = len(page.content) + sum(len(browser.get(part).content) for part in parts)
    assert max(weights.values()) < 60_000, weights


def test_edits_of_the_profile_name_fields_only(pages: Pages) -> None:
    row = pages.sign_up("u-1")
    collect.edit(pages.context, row.id, {"idNumber": "K7734191"}, "merchant:shop")
    page = pages.browser(pages.viewer).get(one(row.id)).text
    assert "(idNumber)" in page
    assert "K7734191" not in page
