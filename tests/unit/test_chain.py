"""The chain of transitions: whatever is done to it afterwards is found."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.machine import Event, State
from orchestrator.onboarding import chain
from orchestrator.records import Transition

NOW = 1_763_805_600_123
STORY = [
    (None, State.COLLECTING, Event.SIGNED_UP, 1),
    (State.COLLECTING, State.COLLECTING, Event.EDITED, 1),
    (State.COLLECTING, State.UPLOADING, Event.SUBMITTED, 1),
    (State.UPLOADING, State.SHARING, Event.UPLOADED, 1),
    (State.SHARING, State.AWAITING_CALLBACK, Event.SHARED, 1),
    (State.AWAITING_CALLBACK, State.CONFIRMING, Event.CALLBACK_REJECT, 1),
    (State.CONFIRMING, State.COLLECTING, Event.CONFIRMED_REJECT, 2),
]


def rows() -> list[Transition]:
    """A whole chain."""
    linked: list[Transition] = []
    for number, (start, end, event, round_number) in enumerate(STORY, 1):
        row = Transition(
            "onb_1", number, NOW + number, start, end, event, round_number, "merchant", f"detail {number}", ""
        )
        linked.append(chain.link(linked[-1].hash if linked else "", row))
    return linked


WHOLE = rows()
LAST = WHOLE[-1]


def faults(transitions: Sequence[Transition], head: Transition = LAST) -> list[str]:
    """The faults of a chain, the onboarding's row being as `head` left it."""
    return chain.faults(transitions, head.to_state, head.seq, head.hash)


def relinked(transitions: Sequence[Transition]) -> list[Transition]:
    """The chain as somebody who can write to the database would compute it anew."""
    linked: list[Transition] = []
    for number, row in enumerate(transitions, 1):
        linked.append(chain.link(linked[-1].hash if linked else "", replace(row, seq=number)))
    return linked


def test_a_whole_chain_has_no_fault() -> None:
    assert faults(WHOLE) == []


def test_the_frozen_vector_is_hashed_as_ever() -> None:
    first = Transition("onb_1", 1, 1_763_805_600_123, None, State.COLLECTING, Event.SIGNED_UP, 1, "merchant", "", "")
    text = (
        '{"actor":"merchant","at":1763805600123,"detail":"","event":"signed_up","from_state":null,"hash":"",'
        '"onboarding_id":"onb_1","round":1,"seq":1,"to_state":"collecting"}'
    )

    assert chain.link("", first).hash == "41669eb378af8107c88a31a9281a727b5053268e3c23ba57baace12bea4ef01a"
    assert hashlib.sha256(text.encode()).hexdigest() == chain.link("", first).hash


def test_a_hash_covers_the_hash_before_it() -> None:
    assert chain.link("a" * 64, WHOLE[0]).hash != chain.link("b" * 64, WHOLE[0]).hash


def test_linking_sets_the_hash_and_nothing_else() -> None:
    assert replace(chain.link("", WHOLE[0]), hash="") == replace(WHOLE[0], hash="")


CHANGED: dict[str, Any] = {
    "onboarding_id": "onb_2",
    "seq": 99,
    "at": NOW - 1,
    "from_state": State.EXPIRED,
    "to_state": State.APPROVED,
    "event": Event.CONFIRMED_PASS,
    "round": 7,
    "actor": "somebody",
    "detail": "something",
    "hash": "0" * 64,
}


def test_a_change_is_tried_in_every_column() -> None:
    assert set(CHANGED) == {field.name for field in dataclasses.fields(Transition)}


@pytest.mark.parametrize("column", CHANGED)
@pytest.mark.parametrize("index", range(len(STORY)))
def test_a_changed_column_is_found_in_every_row(column: str, index: int) -> None:
    changed = [*WHOLE]
    changed[index] = replace(changed[index], **{column: CHANGED[column]})

    expected = f"row {index + 1} is missing" if column == "seq" else f"row {index + 1} was changed"
    assert faults(changed) == [expected]


@pytest.mark.parametrize("index", range(len(STORY) - 1))
def test_a_removed_row_is_found(index: int) -> None:
    assert faults(WHOLE[:index] + WHOLE[index + 1 :]) == [f"row {index + 1} is missing"]


@pytest.mark.parametrize("index", range(len(STORY) - 1))
def test_a_removed_row_is_found_when_the_others_are_numbered_anew(index: int) -> None:
    left = [replace(row, seq=number) for number, row in enumerate(WHOLE[:index] + WHOLE[index + 1 :], 1)]

    assert faults(left) == [f"row {index + 1} was changed"]


@pytest.mark.parametrize("index", range(len(STORY) + 1))
def test_an_inserted_row_is_found(index: int) -> None:
    new = replace(LAST, seq=index + 1, event=Event.CONFIRMED_PASS, to_state=State.APPROVED)
    new = chain.link(WHOLE[index - 1].hash if index else "", new)
    inserted = [*WHOLE[:index], new, *(replace(row, seq=row.seq + 1) for row in WHOLE[index:])]

    assert faults(inserted)


@pytest.mark.parametrize("index", range(len(STORY) - 1))
def test_two_rows_in_another_order_are_found(index: int) -> None:
    one, two = WHOLE[index], WHOLE[index + 1]
    as_they_are = [*WHOLE[:index], two, one, *WHOLE[index + 2 :]]
    renumbered = [*WHOLE[:index], replace(two, seq=one.seq), replace(one, seq=two.seq), *WHOLE[index + 2 :]]

    assert faults(as_they_are) == [f"row {index + 1} is missing"]
    assert faults(renumbered) == [f"row {index + 1} was changed"]


@pytest.mark.parametrize("kept", range(len(STORY)))
def test_a_cut_tail_is_found(kept: int) -> None:
    found = faults(WHOLE[:kept])

    assert f"the chain has {kept} rows, the onboarding counts {len(STORY)}" in found


def test_a_cut_tail_is_found_when_the_count_is_cut_with_it() -> None:
    cut = WHOLE[:-1]

    found = chain.faults(cut, cut[-1].to_state, cut[-1].seq, LAST.hash)

    assert found == ["the chain does not end in the hash that the onboarding keeps"]


def test_another_state_in_the_onboardings_row_is_found() -> None:
    assert chain.faults(WHOLE, State.APPROVED, LAST.seq, LAST.hash) == [
        "the chain ends in collecting, the onboarding is in approved"
    ]


def test_another_users_chain_is_found() -> None:
    others = relinked([replace(row, onboarding_id="onb_2") for row in WHOLE])

    assert faults(others) == ["the chain does not end in the hash that the onboarding keeps"]


def test_a_chain_computed_anew_is_found_by_the_hash_that_was_kept() -> None:
    forged = relinked([*WHOLE[:-1], replace(LAST, detail="as if nothing had been")])

    assert faults(forged) == ["the chain does not end in the hash that the onboarding keeps"]
    assert faults(forged, forged[-1]) == []


def test_a_row_that_does_not_start_where_the_one_before_ended_is_found() -> None:
    jumped = relinked([*WHOLE[:3], replace(WHOLE[3], from_state=State.IN_REVIEW), *WHOLE[4:]])

    assert faults(jumped, jumped[-1]) == ["row 4 does not start where row 3 ended"]


def test_a_chain_without_its_beginning_is_found() -> None:
    headless = relinked(WHOLE[1:])

    assert faults(headless, headless[-1]) == ["row 1 does not start where row 0 ended"]


def test_no_rows_at_all_are_found() -> None:
    assert faults([]) == [
        f"the chain has 0 rows, the onboarding counts {len(STORY)}",
        "the chain ends in None, the onboarding is in collecting",
    ]


def test_the_states_of_the_chain_rebuild_the_onboardings_state() -> None:
    state = None
    for row in WHOLE:
        assert row.from_state is state
        state = row.to_state

    assert state is LAST.to_state


def test_no_two_different_rows_read_the_same_when_they_are_hashed() -> None:
    shifted = [
        replace(WHOLE[1], actor='merchant","at":1', detail="x"),
        replace(WHOLE[1], actor="merchant", detail='x","at":1'),
        replace(WHOLE[1], actor="merchantdetail", detail=""),
        replace(WHOLE[1], actor="merchant", detail="détail"),
    ]

    assert len({chain.link("", row).hash for row in shifted}) == len(shifted)


@given(
    index=st.integers(0, len(STORY) - 1),
    detail=st.text(st.characters(exclude_categories=("Cs",)), max_size=20),
    actor=st.text(st.characters(exclude_categories=("Cs",)), max_size=20),
)
@settings(max_examples=80, deadline=None, derandomize=True)
def test_any_other_words_in_a_row_are_found(index: int, detail: str, actor: str) -> None:
    changed = [*WHOLE]
    changed[index] = replace(changed[index], detail=detail, actor=actor)

    assert (faults(changed) == []) == (changed == WHOLE)
