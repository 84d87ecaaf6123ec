"""The pure parts of the status pages: the machine's picture, bars, the story, durations, and what a change counts."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

import pytest

from orchestrator.errors import Kind
from orchestrator.health import Outcome
from orchestrator.machine import TABLE, CellKind, Event, State
from orchestrator.onboarding.overview import Flow
from orchestrator.records import Callback, Onboarding, Transition, Verdict
from orchestrator.store import flow
from orchestrator.web import charts, words
from orchestrator.web.picture import HEIGHT, WIDTH, picture
from orchestrator.web.timeline import timeline

NOW = 1_795_341_723_456
ROW = Onboarding("onb_1", "u-1", State.COLLECTING, NOW, NOW, b"", "", "", b"")


# The picture -----------------------------------------------------------------------------------------------------


def test_the_picture_has_a_box_for_every_state_and_none_lies_over_another() -> None:
    boxes = picture().boxes
    assert [box.state for box in boxes] == list(State)
    for number, one in enumerate(boxes):
        assert 0 <= one.x <= one.x + one.width <= WIDTH
        assert 0 <= one.y <= one.y + one.height <= HEIGHT
        for other in boxes[number + 1 :]:
            assert abs(one.x - other.x) >= one.width or abs(one.y - other.y) >= one.height


def test_every_move_of_the_table_is_an_arrow_or_told_in_words_and_no_other_is() -> None:
    drawn = {(arrow.start, arrow.end) for arrow in picture().arrows}
    drawn |= {(arrow.end, arrow.start) for arrow in picture().arrows if arrow.both}
    told = set(picture().from_many)
    moves = {
        (state, cell.to): event
        for event, row in TABLE.items()
        for state, cell in row.items()
        if cell.to is not None and cell.to is not state and (event, cell.to) not in told
    }
    back = {
        (state, start)
        for row in TABLE.values()
        for state, cell in row.items()
        if cell.kind is CellKind.RESUME
        for start, end in moves
        if end is state
    }

    assert drawn == set(moves) | back
    assert told == {
        (Event.CANCEL_ASKED, State.CANCELLED),
        (Event.ERASED, State.CANCELLED),
        (Event.ANSWERED_PASS, State.APPROVED),
    }


def test_every_move_that_is_not_drawn_has_its_words() -> None:
    assert words.MOVES.keys() == {event for event, _ in picture().from_many}


def test_every_arrow_begins_and_ends_at_the_borders_of_its_boxes() -> None:
    places = {box.state: box for box in picture().boxes}
    for arrow in picture().arrows:
        first = re.match(r"M(\d+) (\d+)", arrow.path)
        assert first, arrow.path
        box, x, y = places[arrow.start], int(first[1]), int(first[2])
        assert x in (box.x, box.x + box.width) or y in (box.y, box.y + box.height), arrow


# Bars ------------------------------------------------------------------------------------------------------------


def test_bars_are_as_high_as_their_numbers_and_stay_inside() -> None:
    chart = charts.flow_chart([Flow(0, 10, 4, 6), Flow(1, 0, 0, 0), Flow(2, 5, 0, 0)])
    heights = {(bar.x, bar.kind): bar.height for bar in chart.bars}

    assert chart.most == 10
    assert len(heights) == 4
    assert heights[(0.0, "came")] == pytest.approx(2 * heights[(224.0, "came")], abs=0.2)
    for bar in chart.bars:
        assert 0 <= bar.x <= bar.x + bar.width <= charts.WIDTH
        assert 0 <= bar.y <= bar.y + bar.height <= charts.HEIGHT
    assert chart.rows == [(2, 5, 0, 0), (0, 10, 4, 6)]


def test_a_chart_of_nothing_has_no_bars_and_does_not_fail() -> None:
    assert charts.flow_chart([Flow(0, 0, 0, 0)]).bars == []
    assert charts.histogram([("1", 0), ("more", 0)]).rows == [("1 min", 0), ("more", 0)]


# What a change counts --------------------------------------------------------------------------------------------


def whats(counted: Counter[flow.Key]) -> list[tuple[str, str]]:
    return sorted((span, what) for (span, _, what), number in counted.items() for _ in range(number))


def test_a_signup_a_submit_and_an_outcome_are_counted_by_hour_and_day() -> None:
    submitted = replace(ROW, state=State.UPLOADING, submitted_at=NOW)
    approved = replace(submitted, state=State.APPROVED, settled_at=NOW + 120_000)

    assert whats(flow.of_change(None, ROW)) == [("day", "began"), ("hour", "began")]
    assert whats(flow.of_change(ROW, submitted)) == []
    assert whats(flow.of_change(submitted, approved)) == [("day", "approved"), ("day", "took:5"), ("hour", "approved")]
    assert flow.of_change(approved, replace(approved, doubted_at=NOW)) == Counter()


def test_an_outcome_that_turns_round_is_counted_as_what_it_is_now() -> None:
    approved = replace(ROW, state=State.APPROVED, submitted_at=NOW, settled_at=NOW + 1)
    rejected = replace(approved, state=State.REJECTED, settled_at=NOW + 9)

    assert ("hour", "rejected") in whats(flow.of_change(approved, rejected))


def test_the_span_of_a_count_is_a_whole_hour_or_day_in_utc() -> None:
    for span, begins_at, _ in flow.of_change(None, ROW):
        assert begins_at % flow.SPANS[span] == 0
        assert 0 <= NOW - begins_at < flow.SPANS[span]


def test_an_answer_of_a_provider_is_counted_as_one_that_worked_or_failed() -> None:
    assert whats(flow.of_outcome(Outcome("osl", "onb_1", NOW))) == [("hour", "osl:worked")]
    assert whats(flow.of_outcome(Outcome("btse", "onb_1", NOW, Kind.REFUSED))) == [("hour", "btse:failed")]


@pytest.mark.parametrize(("minutes", "word"), [(0, "took:1"), (1, "took:1"), (2, "took:5"), (4_321, "took:more")])
def test_a_time_belongs_to_the_first_bar_that_holds_it(minutes: int, word: str) -> None:
    assert flow.took_word(minutes * 60_000) == word


# The story -------------------------------------------------------------------------------------------------------


def test_the_story_tells_durations_rounds_and_who_did_it() -> None:
    def step(
        seq: int, at: int, start: State | None, end: State, event: Event, actor: str, number: int = 1
    ) -> Transition:
        return Transition("onb_1", seq, NOW + at, start, end, event, number, actor, "", "")

    told = timeline(
        [
            step(1, 0, None, State.COLLECTING, Event.SIGNED_UP, "merchant:shop"),
            step(2, 5_000, State.COLLECTING, State.COLLECTING, Event.EDITED, "user"),
            step(3, 60_000, State.COLLECTING, State.UPLOADING, Event.SUBMITTED, "operator:olga"),
            step(4, 90_000, State.UPLOADING, State.COLLECTING, Event.CONFIRMED_REJECT, "worker", 2),
        ],
        [Callback("cbk_1", NOW + 80_000, "app", NOW, "", "onb_1", 1, "t", "REJECT", None, b"", "", Verdict.APPLIED, 3)],
    )

    assert [moment.title for moment in told] == [
        *("Signed up", "Edited", "Submitted", "Webhook REJECT", "Confirmed reject")
    ]
    assert [moment.after for moment in told] == [None, 5_000, 55_000, 20_000, 10_000]
    assert [moment.source for moment in told] == ["merchant shop", "the user", "operator olga", "OSL Pay", "the worker"]
    assert [moment.lasted for moment in told][2] == (State.COLLECTING, 60_000)
    assert [moment.lasted for moment in told][4] == (State.UPLOADING, 30_000)
    assert [moment.opens for moment in told] == [None, None, None, None, 2]
    assert told[3].seen == 3


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        *((0, "0 s"), (400, "0.4 s"), (1_000, "1 s"), (59_000, "59 s"), (60_000, "1 min"), (3_599_000, "59 min")),
        *((3_600_000, "1 h"), (7_500_000, "2 h 5 min"), (86_400_000, "1 d"), (97_200_000, "1 d 3 h")),
    ],
)
def test_a_duration_is_told_in_at_most_two_units(milliseconds: int, text: str) -> None:
    assert words.span(milliseconds) == text


def test_text_between_backquotes_is_code_and_nothing_else_is_markup() -> None:
    assert words.with_code("run `a <b>` & c") == "run <code>a &lt;b&gt;</code> &amp; c"
