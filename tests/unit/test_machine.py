"""The machine: its table is total, and each cell that the design names is what the design says."""

from __future__ import annotations

import re

import pytest

from orchestrator.machine import (
    CLAIMS,
    CLOSED,
    EDITABLE,
    OPEN,
    SETTLED,
    TABLE,
    CellKind,
    Event,
    Move,
    State,
    next_move,
)

S, E = State, Event
WAITING = (S.AWAITING_CALLBACK, S.IN_REVIEW)
WORKING = (S.UPLOADING, S.SHARING, *WAITING, S.CONFIRMING)
CALLBACKS = CLAIMS | {E.CALLBACK_PROCESS, E.CALLBACK_REVIEW}
ANSWERS = [event for event in Event if event.name.startswith("ANSWERED_")]

# A conscious copy of the whole table: `-` ignore, `!` refuse, `?` stay and ask, `+` keep for later, `<` resume,
# `=` stay, otherwise the state that is moved to, with `+` behind it where the next round begins.
COLUMNS = ["col", "upl", "sha", "awa", "rev", "con", "app", "rej", "att", "can", "exp"]
GOLDEN = """
                        col   upl   sha   awa   rev   con   app   rej   att   can   exp
signed_up               -     -     -     -     -     -     -     -     -     -     -
edited                  =     !     !     !     !     !     !     !     =     !     !
submitted               upl   !     !     !     !     !     !     !     upl   !     !
submitted_unchanged     upl   !     !     !     !     !     !     !     <     !     !
submitted_again         !     !     !     !     !     !     !     !     upl+  !     !
retried                 !     !     !     !     !     !     !     !     <     !     !
retried_changed         !     !     !     !     !     !     !     !     upl   !     !
resubmission_asked      !     !     !     col+  col+  !     !     !     col+  !     !
cancel_asked            can   can   can   can   can   can   !     !     can   !     !
hurried                 !     =     =     ?     ?     =     ?     ?     ?     !     !
revealed                =     =     =     =     =     =     =     =     =     =     =
erased                  can   can   can   can   can   can   =     =     can   =     =
documents_deleted       -     -     -     -     -     -     =     =     -     =     =
profile_deleted         -     -     -     -     -     -     =     =     -     =     =
restored                =     =     =     =     =     =     -     -     =     -     -
time_ran_out            exp   -     -     -     -     -     -     -     -     -     -
uploaded                =     sha   =     =     =     =     =     =     =     =     =
file_uploaded           =     =     =     =     =     =     =     =     =     =     =
share_intended          -     -     =     -     -     -     -     -     -     -     -
shared                  =     =     awa   =     =     =     =     =     =     =     =
share_lost              =     =     =     =     =     =     =     =     =     =     =
share_found             =     =     awa   =     =     =     =     =     =     =     =
share_unproven          =     =     =     =     =     =     =     =     =     =     =
step_failed             =     =     =     =     =     =     =     =     =     =     =
gave_up                 =     att   att   att   att   att   =     =     =     =     =
callback_process        -     +     +     =     =     -     -     -     =     -     -
callback_review         -     +     +     rev   =     -     -     -     rev   -     -
callback_pass           -     +     +     con   con   =     -     ?     con   -     -
callback_reject         -     +     +     con   con   =     ?     ?     con   -     -
callback_final_reject   -     +     +     con   con   =     ?     -     con   -     -
callback_doubted        ?     ?     ?     ?     ?     ?     ?     ?     ?     -     -
answered_pass           app   app   app   app   app   -     -     app   app   =     =
answered_review         -     -     -     rev   =     -     -     -     -     =     =
answered_open           -     -     -     =     =     -     -     -     -     =     =
answered_reject         -     -     -     =     =     -     -     -     -     =     =
answered_reject_again   -     -     -     att   att   -     -     -     -     =     =
answered_final_reject   -     -     -     rej   rej   -     -     -     -     =     =
confirmed_pass          -     -     -     -     -     app   -     app   -     -     -
confirmed_reject        -     -     -     -     -     col+  col+  col+  -     -     -
confirmed_final_reject  -     -     -     -     -     rej   rej   -     -     -     -
unconfirmed             -     -     -     -     -     =     =     =     -     -     -
contradicted            -     -     -     -     -     <     =     =     -     -     -
"""
SIGNS = {CellKind.IGNORE: "-", CellKind.REFUSE: "!", CellKind.ASK: "?", CellKind.KEEP: "+", CellKind.RESUME: "<"}


def drawn(event: Event, state: State) -> str:
    """One cell as the golden table writes it."""
    cell = TABLE[event][state]
    if cell.kind in SIGNS:
        return SIGNS[cell.kind]
    assert cell.to is not None
    if cell.to is state and not cell.next_round:
        return "="
    return COLUMNS[list(State).index(cell.to)] + ("+" if cell.next_round else "")


def kind(event: Event, state: State) -> CellKind:
    return TABLE[event][state].kind


def moved(event: Event, state: State, resume: State | None = None) -> State:
    """Where a move leads; the round must not count up."""
    move = next_move(state, event, resume)
    assert move.kind in (CellKind.MOVE, CellKind.RESUME)
    assert not move.next_round
    return move.to


def stays(event: Event, state: State) -> bool:
    return next_move(state, event, None) == Move(CellKind.MOVE, state)


def opens_the_next_round(event: Event, state: State, to: State) -> bool:
    return next_move(state, event, None) == Move(CellKind.MOVE, to, next_round=True)


# The table -----------------------------------------------------------------------------------------------------


def test_the_table_has_exactly_one_cell_for_every_event_in_every_state() -> None:
    assert list(TABLE) == list(Event)
    for event, row in TABLE.items():
        assert list(row) == list(State), event


def test_every_cell_is_of_one_of_the_designed_kinds_and_only_a_move_names_a_state() -> None:
    assert {kind.value for kind in CellKind} == {"move", "resume", "ask", "keep", "ignore", "refuse"}
    for row in TABLE.values():
        for cell in row.values():
            assert isinstance(cell.kind, CellKind)
            assert (cell.to is not None) == (cell.kind is CellKind.MOVE)
            assert cell.kind is CellKind.MOVE or not cell.next_round


@pytest.mark.parametrize("event", Event)
def test_a_changed_cell_is_a_conscious_change(event: Event) -> None:
    lines = {line.split()[0]: line.split()[1:] for line in GOLDEN.strip().splitlines()[1:]}

    assert [drawn(event, state) for state in State] == lines[event]


def test_the_copy_of_the_table_names_every_event_and_no_other() -> None:
    assert sorted(line.split()[0] for line in GOLDEN.strip().splitlines()[1:]) == sorted(Event)


def test_every_state_and_event_says_what_it_means_in_a_sentence() -> None:
    for member in [*State, *Event]:
        assert re.fullmatch(r"[A-Z].{10,}[.?]", member.meaning), member


def test_the_states_are_those_of_the_contract() -> None:
    assert [state.value for state in State] == [
        "collecting",
        "uploading",
        "sharing",
        "awaiting_callback",
        "in_review",
        "confirming",
        "approved",
        "rejected",
        "needs_attention",
        "cancelled",
        "expired",
    ]


def test_settled_closed_and_open_states_are_all_states_and_do_not_overlap() -> None:
    assert {S.APPROVED, S.REJECTED} == SETTLED
    assert {S.CANCELLED, S.EXPIRED} == CLOSED
    assert set(State) == OPEN | SETTLED | CLOSED
    assert len(OPEN) + len(SETTLED) + len(CLOSED) == len(State)


def test_a_cell_that_stays_where_it_is_gives_the_state_itself() -> None:
    for kind_of_cell, event, state in (
        (CellKind.IGNORE, E.TIME_RAN_OUT, S.SHARING),
        (CellKind.ASK, E.CALLBACK_DOUBTED, S.COLLECTING),
        (CellKind.KEEP, E.CALLBACK_PASS, S.SHARING),
        (CellKind.REFUSE, E.RETRIED, S.SHARING),
    ):
        assert next_move(state, event, S.UPLOADING) == Move(kind_of_cell, state)


# collecting ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("event", [E.SUBMITTED, E.SUBMITTED_UNCHANGED])
def test_in_collecting_submit_leads_to_uploading(event: Event) -> None:
    assert moved(event, S.COLLECTING) is S.UPLOADING


def test_in_collecting_running_out_of_time_expires() -> None:
    assert moved(E.TIME_RAN_OUT, S.COLLECTING) is S.EXPIRED


@pytest.mark.parametrize("state", [state for state in State if state is not S.COLLECTING])
def test_time_runs_out_in_collecting_alone(state: State) -> None:
    assert kind(E.TIME_RAN_OUT, state) is CellKind.IGNORE


def test_in_collecting_edits_stay() -> None:
    assert stays(E.EDITED, S.COLLECTING)


def test_in_collecting_a_webhook_of_an_earlier_round_makes_the_worker_ask() -> None:
    assert kind(E.CALLBACK_DOUBTED, S.COLLECTING) is CellKind.ASK


def test_in_collecting_an_answer_pass_approves() -> None:
    assert moved(E.ANSWERED_PASS, S.COLLECTING) is S.APPROVED


# uploading and sharing -----------------------------------------------------------------------------------------


def test_in_uploading_the_finished_upload_leads_to_sharing() -> None:
    assert moved(E.UPLOADED, S.UPLOADING) is S.SHARING


def test_in_sharing_the_finished_share_leads_to_awaiting_callback() -> None:
    assert moved(E.SHARED, S.SHARING) is S.AWAITING_CALLBACK


def test_in_sharing_a_share_that_is_proved_to_have_arrived_leads_to_awaiting_callback() -> None:
    assert moved(E.SHARE_FOUND, S.SHARING) is S.AWAITING_CALLBACK


@pytest.mark.parametrize("event", sorted(CALLBACKS))
def test_in_sharing_a_webhook_of_this_round_is_kept_for_later(event: Event) -> None:
    assert kind(event, S.SHARING) is CellKind.KEEP


@pytest.mark.parametrize("event", [E.FILE_UPLOADED, E.SHARE_INTENDED, E.SHARE_LOST, E.SHARE_UNPROVEN, E.STEP_FAILED])
def test_in_sharing_a_file_an_intent_a_loss_and_a_failure_stay(event: Event) -> None:
    assert stays(event, S.SHARING)


@pytest.mark.parametrize("state", [state for state in State if state is not S.SHARING])
def test_a_share_is_intended_in_sharing_alone(state: State) -> None:
    assert kind(E.SHARE_INTENDED, state) is CellKind.IGNORE


# awaiting_callback and in_review -------------------------------------------------------------------------------


def test_in_awaiting_callback_a_review_leads_to_in_review() -> None:
    assert moved(E.CALLBACK_REVIEW, S.AWAITING_CALLBACK) is S.IN_REVIEW


@pytest.mark.parametrize("state", WAITING)
def test_while_waiting_a_process_is_applied_and_stays(state: State) -> None:
    assert stays(E.CALLBACK_PROCESS, state)


def test_in_in_review_another_review_is_applied_and_stays() -> None:
    assert stays(E.CALLBACK_REVIEW, S.IN_REVIEW)


@pytest.mark.parametrize("state", WAITING)
@pytest.mark.parametrize("claim", sorted(CLAIMS))
def test_while_waiting_a_claim_leads_to_confirming(state: State, claim: Event) -> None:
    assert moved(claim, state) is S.CONFIRMING


@pytest.mark.parametrize("state", WAITING)
def test_while_waiting_an_answer_pass_approves(state: State) -> None:
    assert moved(E.ANSWERED_PASS, state) is S.APPROVED


@pytest.mark.parametrize("state", WAITING)
def test_while_waiting_an_answer_final_reject_rejects(state: State) -> None:
    assert moved(E.ANSWERED_FINAL_REJECT, state) is S.REJECTED


@pytest.mark.parametrize("state", WAITING)
def test_while_waiting_an_answer_review_leads_to_in_review(state: State) -> None:
    assert moved(E.ANSWERED_REVIEW, state) is S.IN_REVIEW


@pytest.mark.parametrize("state", WAITING)
def test_while_waiting_an_answer_process_null_or_unknown_stays(state: State) -> None:
    assert stays(E.ANSWERED_OPEN, state)


@pytest.mark.parametrize("state", WAITING)
def test_while_waiting_a_first_answer_reject_stays(state: State) -> None:
    assert stays(E.ANSWERED_REJECT, state)


@pytest.mark.parametrize("state", WAITING)
def test_while_waiting_a_second_answer_reject_needs_attention(state: State) -> None:
    assert moved(E.ANSWERED_REJECT_AGAIN, state) is S.NEEDS_ATTENTION


# confirming ----------------------------------------------------------------------------------------------------


def test_in_confirming_an_agreed_pass_approves() -> None:
    assert moved(E.CONFIRMED_PASS, S.CONFIRMING) is S.APPROVED


def test_in_confirming_an_agreed_final_reject_rejects() -> None:
    assert moved(E.CONFIRMED_FINAL_REJECT, S.CONFIRMING) is S.REJECTED


def test_in_confirming_an_agreed_reject_opens_the_next_round_in_collecting() -> None:
    assert opens_the_next_round(E.CONFIRMED_REJECT, S.CONFIRMING, S.COLLECTING)


@pytest.mark.parametrize("resume", [*WAITING, S.NEEDS_ATTENTION])
def test_in_confirming_a_contradiction_leads_back_to_resume(resume: State) -> None:
    assert moved(E.CONTRADICTED, S.CONFIRMING, resume) is resume


def test_in_confirming_an_answer_that_does_not_agree_yet_stays() -> None:
    assert stays(E.UNCONFIRMED, S.CONFIRMING)


@pytest.mark.parametrize("claim", sorted(CLAIMS))
def test_in_confirming_a_newer_claim_is_confirmed_instead(claim: Event) -> None:
    assert moved(claim, S.CONFIRMING) is S.CONFIRMING


@pytest.mark.parametrize("event", [E.CALLBACK_PROCESS, E.CALLBACK_REVIEW])
def test_in_confirming_process_and_review_are_ignored(event: Event) -> None:
    assert kind(event, S.CONFIRMING) is CellKind.IGNORE


@pytest.mark.parametrize("answer", ANSWERS)
def test_in_confirming_the_answer_to_a_question_asked_before_the_claim_moves_nothing(answer: Event) -> None:
    assert kind(answer, S.CONFIRMING) is CellKind.IGNORE


# approved and rejected -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "claim"),
    [
        (S.APPROVED, E.CALLBACK_REJECT),
        (S.APPROVED, E.CALLBACK_FINAL_REJECT),
        (S.REJECTED, E.CALLBACK_PASS),
        (S.REJECTED, E.CALLBACK_REJECT),
    ],
)
def test_a_settled_onboarding_stays_and_asks_about_a_contrary_claim(state: State, claim: Event) -> None:
    assert kind(claim, state) is CellKind.ASK


@pytest.mark.parametrize(("state", "claim"), [(S.APPROVED, E.CALLBACK_PASS), (S.REJECTED, E.CALLBACK_FINAL_REJECT)])
def test_a_settled_onboarding_ignores_the_claim_that_it_already_believes(state: State, claim: Event) -> None:
    assert kind(claim, state) is CellKind.IGNORE


def test_in_approved_an_agreed_final_reject_rejects() -> None:
    assert moved(E.CONFIRMED_FINAL_REJECT, S.APPROVED) is S.REJECTED


def test_in_rejected_an_agreed_pass_approves() -> None:
    assert moved(E.CONFIRMED_PASS, S.REJECTED) is S.APPROVED


@pytest.mark.parametrize("state", sorted(SETTLED))
def test_in_a_settled_state_an_agreed_reject_opens_the_next_round_in_collecting(state: State) -> None:
    assert opens_the_next_round(E.CONFIRMED_REJECT, state, S.COLLECTING)


@pytest.mark.parametrize("state", sorted(SETTLED))
@pytest.mark.parametrize("event", [E.UNCONFIRMED, E.CONTRADICTED])
def test_in_a_settled_state_an_answer_that_does_not_agree_stays(state: State, event: Event) -> None:
    assert stays(event, state)


@pytest.mark.parametrize("state", sorted(SETTLED))
def test_in_a_settled_state_nothing_can_be_given_up_any_more(state: State) -> None:
    assert stays(E.GAVE_UP, state)
    assert kind(E.CANCEL_ASKED, state) is CellKind.REFUSE


# needs_attention -----------------------------------------------------------------------------------------------


def test_in_needs_attention_retry_leads_to_resume() -> None:
    assert moved(E.RETRIED, S.NEEDS_ATTENTION, S.IN_REVIEW) is S.IN_REVIEW


def test_in_needs_attention_retry_after_changes_leads_to_uploading_wherever_it_stopped() -> None:
    assert moved(E.RETRIED_CHANGED, S.NEEDS_ATTENTION, S.IN_REVIEW) is S.UPLOADING


def test_in_needs_attention_submit_before_a_share_arrived_is_the_same_as_retry() -> None:
    for resume in WORKING:
        for submit, retry in ((E.SUBMITTED_UNCHANGED, E.RETRIED), (E.SUBMITTED, E.RETRIED_CHANGED)):
            assert next_move(S.NEEDS_ATTENTION, submit, resume) == next_move(S.NEEDS_ATTENTION, retry, resume)


def test_in_needs_attention_submit_after_the_share_arrived_opens_the_next_round_in_uploading() -> None:
    assert opens_the_next_round(E.SUBMITTED_AGAIN, S.NEEDS_ATTENTION, S.UPLOADING)


def test_in_needs_attention_edits_stay() -> None:
    assert stays(E.EDITED, S.NEEDS_ATTENTION)


@pytest.mark.parametrize("event", sorted(CALLBACKS))
def test_in_needs_attention_a_webhook_of_this_round_does_as_in_awaiting_callback(event: Event) -> None:
    waiting = next_move(S.AWAITING_CALLBACK, event, None)
    parked = next_move(S.NEEDS_ATTENTION, event, None)

    assert parked.kind is waiting.kind
    assert parked.to is (S.NEEDS_ATTENTION if waiting.to is S.AWAITING_CALLBACK else waiting.to)


def test_in_needs_attention_a_process_is_applied_and_stays() -> None:
    assert stays(E.CALLBACK_PROCESS, S.NEEDS_ATTENTION)


def test_in_needs_attention_a_review_leads_to_in_review() -> None:
    assert moved(E.CALLBACK_REVIEW, S.NEEDS_ATTENTION) is S.IN_REVIEW


@pytest.mark.parametrize("claim", sorted(CLAIMS))
def test_in_needs_attention_a_claim_leads_to_confirming(claim: Event) -> None:
    assert moved(claim, S.NEEDS_ATTENTION) is S.CONFIRMING


def test_in_needs_attention_giving_up_again_stays() -> None:
    assert stays(E.GAVE_UP, S.NEEDS_ATTENTION)


# cancelled and expired -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", sorted(CLOSED))
@pytest.mark.parametrize("event", [*sorted(CALLBACKS), E.CALLBACK_DOUBTED])
def test_in_a_closed_state_every_webhook_is_ignored(state: State, event: Event) -> None:
    assert kind(event, state) is CellKind.IGNORE


@pytest.mark.parametrize("state", sorted(CLOSED))
@pytest.mark.parametrize("event", Event)
def test_nothing_leaves_a_closed_state(state: State, event: Event) -> None:
    assert next_move(state, event, S.UPLOADING).to is state


@pytest.mark.parametrize("state", sorted(CLOSED))
@pytest.mark.parametrize(
    "event",
    [
        E.UPLOADED,
        E.FILE_UPLOADED,
        E.SHARED,
        E.SHARE_LOST,
        E.SHARE_FOUND,
        E.SHARE_UNPROVEN,
        E.STEP_FAILED,
        E.GAVE_UP,
        *ANSWERS,
    ],
)
def test_in_a_closed_state_what_a_provider_answered_is_a_transition_to_itself(state: State, event: Event) -> None:
    assert stays(event, state)


# Across the states ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", WORKING)
def test_while_the_worker_works_giving_up_needs_attention(state: State) -> None:
    assert moved(E.GAVE_UP, state) is S.NEEDS_ATTENTION


@pytest.mark.parametrize("state", sorted(OPEN))
def test_cancel_closes_every_state_that_is_neither_settled_nor_closed(state: State) -> None:
    assert moved(E.CANCEL_ASKED, state) is S.CANCELLED


@pytest.mark.parametrize("state", sorted(SETTLED | CLOSED))
def test_cancel_is_refused_once_settled_or_closed(state: State) -> None:
    assert kind(E.CANCEL_ASKED, state) is CellKind.REFUSE


@pytest.mark.parametrize("state", sorted(OPEN))
def test_erasing_cancels_what_is_neither_settled_nor_closed(state: State) -> None:
    assert moved(E.ERASED, state) is S.CANCELLED


@pytest.mark.parametrize("state", sorted(SETTLED | CLOSED))
@pytest.mark.parametrize("event", [E.ERASED, E.DOCUMENTS_DELETED, E.PROFILE_DELETED])
def test_what_is_deleted_after_the_end_is_a_transition_to_itself(state: State, event: Event) -> None:
    assert stays(event, state)


@pytest.mark.parametrize("state", sorted(OPEN))
@pytest.mark.parametrize("event", [E.DOCUMENTS_DELETED, E.PROFILE_DELETED])
def test_no_time_to_keep_things_is_over_before_the_end(state: State, event: Event) -> None:
    assert kind(event, state) is CellKind.IGNORE


@pytest.mark.parametrize("state", State)
def test_a_restored_backup_moves_nobody(state: State) -> None:
    assert stays(E.RESTORED, state) if state in OPEN else kind(E.RESTORED, state) is CellKind.IGNORE


@pytest.mark.parametrize("state", [S.NEEDS_ATTENTION, *WAITING])
def test_an_operator_who_asks_for_resubmission_opens_the_next_round_in_collecting(state: State) -> None:
    assert opens_the_next_round(E.RESUBMISSION_ASKED, state, S.COLLECTING)


@pytest.mark.parametrize("state", [state for state in State if state not in (S.NEEDS_ATTENTION, *WAITING)])
def test_asking_for_resubmission_is_refused_everywhere_else(state: State) -> None:
    assert kind(E.RESUBMISSION_ASKED, state) is CellKind.REFUSE


@pytest.mark.parametrize("state", [state for state in State if state not in (S.COLLECTING, S.NEEDS_ATTENTION)])
@pytest.mark.parametrize("event", [E.EDITED, E.SUBMITTED, E.SUBMITTED_UNCHANGED, E.SUBMITTED_AGAIN])
def test_edits_and_submits_are_refused_outside_collecting_and_needs_attention(state: State, event: Event) -> None:
    assert {S.COLLECTING, S.NEEDS_ATTENTION} == EDITABLE
    assert kind(event, state) is CellKind.REFUSE


@pytest.mark.parametrize("state", [state for state in State if state is not S.NEEDS_ATTENTION])
@pytest.mark.parametrize("event", [E.RETRIED, E.RETRIED_CHANGED])
def test_a_retry_is_refused_outside_needs_attention(state: State, event: Event) -> None:
    assert kind(event, state) is CellKind.REFUSE


@pytest.mark.parametrize("state", sorted(OPEN | SETTLED))
def test_a_webhook_that_is_not_believed_makes_the_worker_ask_in_every_live_state(state: State) -> None:
    assert kind(E.CALLBACK_DOUBTED, state) is CellKind.ASK


@pytest.mark.parametrize("state", sorted((OPEN | {S.REJECTED}) - {S.CONFIRMING}))
def test_an_answer_pass_approves_from_every_live_state(state: State) -> None:
    assert moved(E.ANSWERED_PASS, state) is S.APPROVED


@pytest.mark.parametrize("state", [state for state in State if state not in WAITING])
@pytest.mark.parametrize("answer", [answer for answer in ANSWERS if answer is not E.ANSWERED_PASS])
def test_any_answer_but_pass_moves_nobody_who_does_not_wait(state: State, answer: Event) -> None:
    assert next_move(state, answer, None).to is state


@pytest.mark.parametrize("state", [state for state in State if state not in (S.CONFIRMING, *SETTLED)])
@pytest.mark.parametrize("event", [event for event in Event if event.name.startswith("CONFIRMED_")])
def test_a_confirmation_moves_nobody_who_has_no_claim(state: State, event: Event) -> None:
    assert kind(event, state) is CellKind.IGNORE


def test_the_next_round_begins_with_a_reject_a_request_for_resubmission_or_a_second_submit_alone() -> None:
    beginning = {event for event, row in TABLE.items() for cell in row.values() if cell.next_round}

    assert beginning == {E.CONFIRMED_REJECT, E.RESUBMISSION_ASKED, E.SUBMITTED_AGAIN}


def test_every_state_can_be_reached_from_collecting() -> None:
    reached, frontier = {S.COLLECTING}, [S.COLLECTING]
    while frontier:
        state = frontier.pop()
        found = {row[state].to for row in TABLE.values()} - {None} - reached
        reached |= found  # type: ignore[arg-type]
        frontier += found  # type: ignore[arg-type]

    assert reached == set(State)
