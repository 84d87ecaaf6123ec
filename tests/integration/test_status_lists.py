"""The operators' list and overview over real HTTP: filters, order, pages, several at once, CSV, and what is counted."""

from __future__ import annotations

import csv
import html
import re
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest

from orchestrator.errors import Conflict, Kind
from orchestrator.health import Outcome
from orchestrator.machine import Event, State
from orchestrator.onboarding import listing, look, operate, retain
from orchestrator.onboarding.overview import overview
from orchestrator.records import DeliveryStatus, Verdict
from orchestrator.store import Change
from tests.command_line import orchestrator
from tests.pages_server import PROFILE, Pages, pages_server, put_documents, visible

HOUR, DAY = 3_600_000, 86_400_000
LIST = "/status/onboardings"
SECRETS = [PROFILE["lastName"], PROFILE["idNumber"], PROFILE["ip"], "secret.person@example.com"]


@pytest.fixture
def pages(tmp_path: Path) -> Iterator[Pages]:
    with pages_server(tmp_path) as running:
        yield running


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory, database: None) -> Iterator[Pages]:
    """A hundred users, one an hour, the last just now; of ten one is approved and one has a forged webhook."""
    with pages_server(tmp_path_factory.mktemp("many")) as running:
        end = running.clock.now
        for number in range(100):
            running.clock.now = end - (99 - number) * HOUR
            if number % 10 == 0:
                running.in_state(State.APPROVED, f"u-{number:02d}")
            elif number % 10 == 5:
                row = running.in_state(State.AWAITING_CALLBACK, f"u-{number:02d}")
                running.forge(row.id)
            else:
                running.sign_up(f"u-{number:02d}")
        running.clock.now = end + 1
        yield running


def listed(page: str) -> list[str]:
    """The merchantUserIds of the list."""
    return re.findall(r'<th scope="row"><a [^>]*>([^<]*)</a>', page)


def all_listed(pages: Pages, query: str) -> list[str]:
    """Over all pages of the list."""
    browser = pages.browser(pages.viewer)
    path, found = f"{LIST}?{query}", []
    while path:
        page = browser.get(path).text
        found += listed(page)
        following = re.search(r'rel="next" href="([^"]+)"', page)
        path = following[1].replace("&amp;", "&") if following else ""
    return found


def names(numbers: range | list[int]) -> list[str]:
    return [f"u-{number:02d}" for number in numbers]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", names(range(99, -1, -1))),
        ("sort=oldest", names(range(100))),
        ("sort=unchanged", names(range(100))),
        ("sort=changed", names(range(99, -1, -1))),
        ("state=approved", names(range(90, -1, -10))),
        ("state=approved&sort=oldest", names(range(0, 100, 10))),
        ("state=approved&sort=unchanged", names(range(0, 100, 10))),
        ("age=1d", names(range(99, 75, -1))),
        ("age=over-1d", names(range(75, -1, -1))),
        ("age=over-1d&sort=oldest&state=approved", names(range(0, 76, 10))),
        ("age=1h&sort=changed", ["u-99"]),
        ("verdict=forged", names(range(95, -1, -10))),
        ("verdict=applied", names(range(90, -1, -10))),
        ("verdict=applied&state=approved&age=1d", ["u-90", "u-80"]),
        ("verdict=forged&state=approved", []),
        ("verdict=stale", []),
        ("q=u-15&verdict=forged", ["u-15"]),
        ("q=u-15&verdict=applied", []),
        ("q=u-15&age=1d", []),
    ],
)
def test_the_list_shows_what_is_asked_for_in_the_order_that_is_asked_for(
    many: Pages, query: str, expected: list[str]
) -> None:
    assert all_listed(many, query) == expected


@pytest.mark.parametrize("order", listing.ORDERS)
@pytest.mark.parametrize("state", [None, State.COLLECTING])
def test_pages_of_every_order_join_without_a_gap(many: Pages, order: str, state: State | None) -> None:
    asked = listing.Wanted(state=state, order=order)
    cursor: str | None = ""
    found = []
    while cursor is not None:
        rows, cursor = listing.page(many.context, asked, cursor, 7, by_email=False)
        found += [row.id for row in rows]
    assert len(found) == len(set(found)) == (80 if state else 100)
    assert found == [row.id for row in listing.every(many.context, asked, by_email=False)]


def test_a_page_that_looked_through_enough_goes_on_from_there(many: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.store.status.LOOKED_THROUGH", 4)
    asked = listing.Wanted(state=State.APPROVED, verdict=Verdict.APPLIED)
    assert [row.merchant_user_id for row in listing.every(many.context, asked, by_email=False)] == names(
        range(90, -1, -10)
    )


def test_the_csv_has_what_the_list_shows_and_nothing_personal(many: Pages) -> None:
    answer = many.browser(many.viewer).get(f"{LIST}.csv?state=approved&sort=oldest")
    assert answer.headers["Content-Type"].startswith("text/csv")
    assert "attachment" in answer.headers["Content-Disposition"]
    assert answer.headers["Cache-Control"] == "no-store"
    rows = list(csv.DictReader(StringIO(answer.text)))
    assert [row["merchantUserId"] for row in rows] == names(range(0, 100, 10))
    assert {row["state"] for row in rows} == {"approved"}
    assert not [secret for secret in SECRETS if secret in answer.text]
    assert many.browser(many.viewer).get(f"{LIST}.csv?state=x").status_code == 422


@pytest.mark.parametrize("start", ["=", "+", "-", "@"])
def test_no_cell_is_a_formula_on_the_page_or_from_the_command(tmp_path: Path, start: str) -> None:
    with pages_server(tmp_path) as pages:
        pages.sign_up(f"{start}1+1")
        text = pages.browser(pages.viewer).get(f"{LIST}.csv").text
        assert f",'{start}1+1,collecting," in text
        if start == "=":
            told = orchestrator(pages.environ, tmp_path, "export").stdout
            assert told.splitlines() == text.splitlines()


def test_several_are_retried_or_cancelled_and_each_says_what_became_of_it(pages: Pages) -> None:
    ready = pages.sign_up("u-ready", profile=PROFILE)
    put_documents(pages, ready.id, "idFileFront", "selfie")
    ready = pages.in_state(State.NEEDS_ATTENTION, "u-ready")
    lacking = pages.in_state(State.NEEDS_ATTENTION, "u-lacking", profile=PROFILE)
    approved = pages.in_state(State.APPROVED, "u-approved")
    browser = pages.browser(pages.operator)
    ids = [ready.id, lacking.id, approved.id, "onb_unknown", ready.id]
    answer = browser.act(LIST, LIST, action="retry", id=ids)
    assert answer.status_code == 200
    text = visible(answer.text)
    assert "Retry: 1 of 4 done" in text
    assert "u-ready Done" in text
    assert "u-lacking Not done Needs attention" in text
    assert "documents.selfie" in text
    assert "u-approved Not done Approved This is not possible while the onboarding is approved." in text
    assert "onb_unknown Not done" in text
    assert [pages.state(row.id) for row in (ready, lacking)] == [State.SHARING, State.NEEDS_ATTENTION]
    assert look.transitions(pages.context, ready)[-1].actor == "operator:olga"

    assert "This cannot be undone: nothing more is sent, and the merchant is told of each." in visible(
        browser.get(LIST).text
    )
    again = visible(browser.act(LIST, LIST, action="cancel", id=[ready.id, lacking.id]).text)
    assert "Cancel: 2 of 2 done" in again
    assert pages.state(lacking.id) is State.CANCELLED


def test_several_need_the_sessions_token_an_operator_and_a_verb(pages: Pages) -> None:
    row = pages.in_state(State.NEEDS_ATTENTION, "u-1")
    browser = pages.browser(pages.operator)
    assert browser.post(LIST, {"action": "cancel", "id": row.id}).status_code == 403
    assert pages.browser(pages.viewer).act("/status", LIST, action="cancel", id=row.id).status_code == 403
    assert browser.act(LIST, LIST, action="erase", id=row.id).status_code == 422
    assert browser.act(LIST, LIST, action="cancel").status_code == 422
    assert browser.act(LIST, LIST, action="cancel", id=[f"onb_{number}" for number in range(51)]).status_code == 422
    assert pages.state(row.id) is State.NEEDS_ATTENTION
    assert 'name="id"' not in pages.browser(pages.viewer).get(LIST).text


def test_pressing_a_button_with_nothing_selected_leads_back_to_the_same_list(pages: Pages) -> None:
    browser = pages.browser(pages.operator)
    pages.sign_up("u-1")
    answer = browser.act(LIST, f"{LIST}?state=collecting&sort=oldest", action="retry")
    assert answer.status_code == 422
    assert "<h1>Nothing selected</h1>" in answer.text
    assert f'href="{LIST}?state=collecting&amp;sort=oldest"' in answer.text
    assert answer.headers["Cache-Control"] == "no-store"
    missing = browser.get(f"{LIST}/onb_none").text
    assert '<a class="button" href="/status">Overview</a>' in missing


def test_the_list_that_one_came_from_is_kept_on_the_way_through_it(pages: Pages) -> None:
    rows = [pages.in_state(State.AWAITING_CALLBACK, f"u-{number}") for number in range(52)]
    browser = pages.browser(pages.operator)
    first = browser.get(f"{LIST}?state=awaiting_callback&sort=unchanged&verdict=").text
    following = re.search(r'rel="next" href="([^"]+)"', first)
    assert following
    for text in (following[1], f"{LIST}?state=awaiting_callback&amp;sort=unchanged"):
        query = text.partition("?")[2]
        page = browser.get(html.unescape(text)).text
        links = re.findall(r'<th scope="row"><a href="([^"]+)"', page)
        assert links
        for link in (links[0], links[-1]):
            assert sorted(link.partition("?")[2].split("&amp;")) == sorted(query.split("&amp;"))
            assert back_of(browser.get(html.unescape(link)).text) == sorted(query.split("&amp;"))
        done = browser.act(LIST, html.unescape(links[0].replace("?", "/link?")))
        assert done.status_code == 303
        assert back_of(browser.get(done.headers["Location"]).text) == sorted(query.split("&amp;"))
        form = re.search(r'<form method="post" action="([^"]+)">\s*<div class="several">', page)
        assert form
        told = browser.act(LIST, html.unescape(form[1]), action="retry", id=rows[0].id).text
        assert back_of(told) == sorted(query.split("&amp;"))
    plain = browser.get(f"{LIST}/{rows[0].id}").text
    assert f'<a href="{LIST}">All onboardings</a>' in plain


@pytest.mark.parametrize("query", ["state=x", "cursor=x&state=approved", "sort=//evil.example", "from=//evil.example"])
def test_a_way_back_that_is_no_list_is_forgotten(pages: Pages, query: str) -> None:
    row = pages.sign_up("u-1")
    page = pages.browser(pages.operator).get(f"{LIST}/{row.id}?{query}").text
    assert f'<a href="{LIST}">All onboardings</a>' in page
    assert f'action="{LIST}/{row.id}/cancel"' in page


def back_of(page: str) -> list[str]:
    """The filters of the list that the page leads back to."""
    found = re.search(rf'<nav class="back"[^>]*><a href="{LIST}\?([^"]*)">Back to the list</a>', page)
    assert found
    return sorted(found[1].split("&amp;"))


# What is counted -------------------------------------------------------------------------------------------------


def test_the_flow_counts_what_came_and_what_was_settled_by_hour_and_day(pages: Pages) -> None:
    start = pages.clock.now - pages.clock.now % DAY
    for at, state in (
        (start - 3 * DAY, State.APPROVED),
        (start - 3 * DAY + HOUR, State.REJECTED),
        (start + 5 * HOUR, State.APPROVED),
        (start + 5 * HOUR, State.APPROVED),
        (start + 6 * HOUR, State.COLLECTING),
    ):
        pages.clock.now = at
        pages.in_state(state, f"u-{at}-{len(look.counts(pages.context))}-{pages.context.new_id('x')}")
    pages.clock.now = start + 6 * HOUR + 1
    seen = overview(pages.context)
    assert {flow.at: (flow.began, flow.approved, flow.rejected) for flow in seen.days if flow.began} == {
        start - 3 * DAY: (2, 1, 1),
        start: (3, 2, 0),
    }
    assert {flow.at: (flow.began, flow.approved) for flow in seen.hours if flow.began} == {
        start + 5 * HOUR: (2, 2),
        start + 6 * HOUR: (1, 0),
    }
    assert (len(seen.hours), len(seen.days)) == (24, 30)
    assert seen.approval(seen.hours) == 1.0
    assert seen.approval(seen.days) == 0.75
    assert dict(seen.took)["1"] == 4
    text = visible(pages.browser(pages.viewer).get("/status").text)
    assert "The last 30 days came in 5 approved 3 rejected 1" in text
    assert "Approval rate 75 %" in text


def test_the_overview_names_who_needs_a_person_and_what_is_stuck_since_when(pages: Pages) -> None:
    parked = pages.in_state(State.NEEDS_ATTENTION, "u-parked")
    failing = pages.in_state(State.UPLOADING, "u-failing")
    since = pages.clock.now
    later = {"attempts": 3, "failing_since": since, "step_at": since + 9 * HOUR}
    pages.happen(failing.id, Event.STEP_FAILED, changes=later)
    silent = pages.in_state(State.AWAITING_CALLBACK, "u-silent")
    claimed = pages.context.schedule.claim_deliveries(pages.clock.now, "lease", pages.clock.now + 90_000, 1)[0]
    given_up = {**vars(claimed), "status": DeliveryStatus.FAILED, "due_at": None, "attempts": 10}
    pages.context.schedule.settle_delivery(type(claimed)(**given_up), "lease", pages.clock.now)
    pages.clock.now += 2 * HOUR
    seen = overview(pages.context)
    assert [row.id for row in seen.needs_person] == [parked.id]
    assert [item.id for item in seen.failed_deliveries] == [claimed.id]
    assert seen.failed_delivery_count == 1
    stuck = {item.onboarding.id: (item.why, item.since) for item in seen.stuck}
    assert stuck[failing.id] == ("its step fails again and again", since)
    assert stuck[silent.id][0] in ("its next step is overdue", "no webhook came")
    text = visible(pages.browser(pages.viewer).get("/status").text)
    assert "u-parked since 2026-11-22 10:00:0" in text
    assert "(2 h)" in text


def test_those_who_are_stuck_beyond_what_is_shown_are_counted_with_a_way_to_them(pages: Pages) -> None:
    for number in range(9):
        row = pages.in_state(State.AWAITING_CALLBACK, f"u-silent-{number}")
        pages.happen(row.id, Event.ANSWERED_OPEN, changes={"step_at": pages.clock.now + DAY})
    assert overview(pages.context).more_stuck.number == 0
    pages.clock.now += 2 * HOUR
    for number in range(7):
        pages.in_state(State.UPLOADING, f"u-late-{number}")
    pages.clock.now += 3 * 60_000
    seen = overview(pages.context)
    assert len(seen.stuck) == 10
    more = seen.more_stuck
    assert (more.number, more.at_least) == (6, False)
    assert more.lists == [(State.AWAITING_CALLBACK, "over-1h"), (State.UPLOADING, "")]
    browser = pages.browser(pages.viewer)
    page = browser.get("/status").text
    assert "And 6 more: Awaiting callback, over an hour , Uploading" in visible(page)
    links = [html.unescape(link) for link in re.findall(r'href="([^"]*sort=unchanged[^"]*)"', page)]
    assert [len(listed(browser.get(link).text)) for link in links] == [9, 7]


def test_more_are_stuck_than_are_looked_at(pages: Pages) -> None:
    for number in range(51):
        pages.in_state(State.UPLOADING, f"u-{number}")
    pages.clock.now += HOUR
    assert "And at least 45 more: Uploading" in visible(pages.browser(pages.viewer).get("/status").text)


def test_a_providers_answers_and_its_budget_are_shown(pages: Pages) -> None:
    row = pages.sign_up("u-1")
    for failure in (None, None, Kind.TRANSIENT):
        outcome = Outcome("osl", row.id, pages.clock.now, failure, "503")
        assert pages.context.store.commit(Change(row, row, outcome=outcome))
        row = look.find(pages.context, row.id)
    pages.context.schedule.take_slot(pages.clock.now, "me", pages.clock.now + 5_000)
    osl = next(provider for provider in overview(pages.context).providers if provider.health.name == "osl")
    assert (osl.worked, osl.failed, osl.in_use, osl.budget) == (2, 1, 1, 10)
    assert "Errors, 24 h 33.3 % of 3 calls" in visible(pages.browser(pages.viewer).get("/status").text)


def test_counts_by_the_hour_are_forgotten_after_a_week_and_those_by_the_day_stay(pages: Pages) -> None:
    pages.in_state(State.APPROVED, "u-1")
    pages.clock.now += 8 * DAY
    retain.purge(pages.context)
    assert pages.context.status.flow("hour", 0) == {}
    assert pages.context.status.flow("day", 0) != {}


# Up to date ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/status", LIST, "one"])
def test_a_page_is_304_until_something_changes_whatever_the_time(pages: Pages, path: str) -> None:
    row = pages.in_state(State.APPROVED, "u-1")
    pages.context.schedule.beat("worker", pages.clock.now, 0, 60_000)
    path = f"{LIST}/{row.id}" if path == "one" else path
    browser = pages.browser(pages.viewer)
    pages.clock.now += 400
    tag = browser.get(path).headers["ETag"]
    pages.clock.now += 400
    assert browser.get(path, headers={"If-None-Match": tag}).status_code == 304
    pages.happen(row.id, Event.CONFIRMED_REJECT)
    assert browser.get(path, headers={"If-None-Match": tag}).status_code == 200


def test_a_page_that_is_only_open_does_not_keep_its_session(pages: Pages) -> None:
    browser, user = pages.browser(pages.viewer), pages.browser(pages.viewer)
    for _ in range(6):
        pages.clock.now += 11 * 60_000
        last = browser.get("/status", headers={"X-Live": "1"}, allow_redirects=False)
        assert user.get("/status", allow_redirects=False).status_code == 200
    assert (last.status_code, last.headers["Location"].partition("?")[0]) == (302, "/login")


# Revealing and hurrying -------------------------------------------------------------------------------------------


def test_personal_data_is_shown_to_operators_only_once_it_is_on_record(pages: Pages) -> None:
    row = pages.sign_up("u-1", profile=PROFILE)
    path = f"{LIST}/{row.id}"
    browser = pages.browser(pages.operator)
    hidden = browser.get(path).text
    assert not [secret for secret in SECRETS if secret in hidden]
    answer = browser.act(path, f"{path}/reveal")
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    assert all(secret in answer.text for secret in SECRETS)
    assert "data-live" not in answer.text
    last = look.transitions(pages.context, row)[-1]
    assert (last.event, last.actor, last.detail) == (Event.REVEALED, "operator:olga", "email, profile")
    after = browser.get(path).text
    assert "Revealed An operator looked at the personal data. (email, profile)" in visible(after)
    assert not [secret for secret in SECRETS if secret in after]

    viewer = pages.browser(pages.viewer)
    assert "reveal" not in viewer.get(path).text
    assert viewer.act("/status", f"{path}/reveal").status_code == 403
    assert browser.get(f"{path}/reveal").status_code == 405
    assert browser.post(f"{path}/reveal").status_code == 403
    assert len(look.transitions(pages.context, row)) == 2


def test_what_was_erased_cannot_be_revealed_and_the_page_says_so(pages: Pages) -> None:
    row = pages.sign_up("u-1", profile=PROFILE)
    retain.erase_here(pages.context, row.id, "command_line")
    path = f"{LIST}/{row.id}"
    browser = pages.browser(pages.operator)
    text = visible(browser.get(path).text)
    assert "Everything personal was erased on request at 2026-11-22 10:00:00 UTC" in text
    assert "Show personal data" not in text
    answer = browser.act("/status/onboardings", f"{path}/reveal") if 'name="csrf"' in browser.get(LIST).text else None
    assert answer is not None
    assert answer.status_code == 409
    assert "no longer kept" in answer.text
    assert look.transitions(pages.context, row)[-1].event is Event.ERASED


def test_an_unhealthy_provider_is_tried_at_once_when_an_operator_says_so(pages: Pages) -> None:
    rows = [pages.in_state(State.UPLOADING, f"u-{number}") for number in range(3)]
    for row in rows:
        later = {"unauthorized": 1, "step_at": pages.clock.now + 60_000}
        failed = pages.happen(row.id, Event.STEP_FAILED, changes=later)
        outcome = Outcome("btse", row.id, pages.clock.now, Kind.UNAUTHORIZED, "401")
        assert pages.context.store.commit(Change(failed, failed, outcome=outcome))
    health = pages.context.schedule.health("btse")
    assert health.next_probe_at == pages.clock.now + 60_000
    path = f"{LIST}/{rows[0].id}"
    browser = pages.browser(pages.operator)
    answer = browser.act(path, f"{path}/hurry")
    assert answer.status_code == 303
    assert "taken now" in browser.get(answer.headers["Location"]).text
    assert pages.context.schedule.health("btse").next_probe_at == pages.clock.now
    row = look.find(pages.context, rows[0].id)
    assert row.due_at == pages.clock.now
    assert look.transitions(pages.context, row)[-1].event is Event.HURRIED
    again = browser.act(path, f"{path}/hurry")
    assert again.status_code == 409
    assert "It is due already" in again.text


def test_osl_pay_is_asked_at_most_once_a_minute_however_often_it_is_wanted(pages: Pages) -> None:
    row = pages.in_state(State.AWAITING_CALLBACK, "u-1")
    operate.hurry(pages.context, row.id, "operator:olga")
    with pytest.raises(Conflict, match="due already"):
        operate.hurry(pages.context, row.id, "operator:olga")
    pages.happen(row.id, Event.ANSWERED_OPEN, changes={"step_at": pages.clock.now + HOUR})
    pages.clock.now += 1_000
    asked = operate.hurry(pages.context, row.id, "operator:olga")
    assert asked.due_at == pages.clock.now - 1_000 + pages.context.timings.ask_every
