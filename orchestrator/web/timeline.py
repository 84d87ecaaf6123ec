"""What happened to an onboarding as a story: transitions and callbacks in one line, with rounds and durations. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from orchestrator.machine import State
from orchestrator.records import Callback, Transition
from orchestrator.web import words


@dataclass(frozen=True)
class Moment:
    """One line of the timeline. `verdict`: set for a callback, whose `seen` says how often it came.

    `after`: ms since the moment before; `lasted`: ms spent in the state that was left; `opens`: the round that begins.
    """

    at: int
    title: str
    text: str
    round: int | None
    source: str
    state: State | None = None
    verdict: str | None = None
    seen: int = 1
    after: int | None = None
    lasted: tuple[State, int] | None = None
    opens: int | None = None


def timeline(transitions: Sequence[Transition], callbacks: Sequence[Callback]) -> list[Moment]:
    """What happened, oldest first; a callback stands before what it led to."""
    moments: list[tuple[tuple[int, int, int], Moment]] = []
    for number, callback in enumerate(callbacks):
        moments.append(((callback.received_at, 0, number), _of_callback(callback)))
    entered = None
    for row in transitions:
        moment = _of_transition(row)
        if moment.state is not None:
            if entered is not None and row.from_state is not None:
                moment = replace(moment, lasted=(row.from_state, row.at - entered))
            entered = row.at
        moments.append(((row.at, 1, row.seq), moment))
    return _told([moment for _, moment in sorted(moments, key=lambda pair: pair[0])])


def _told(moments: Sequence[Moment]) -> list[Moment]:
    """With the time since the moment before, and the rounds where they begin."""
    told: list[Moment] = []
    number = 1
    for moment in moments:
        opens = None
        if moment.verdict is None and moment.round is not None and moment.round > number:
            opens = number = moment.round
        after = moment.at - told[-1].at if told else None
        told.append(replace(moment, after=after, opens=opens))
    return told


def _of_callback(row: Callback) -> Moment:
    title = f"Webhook {row.kyc_status or row.type}"
    return Moment(
        row.received_at, title, words.VERDICTS[row.verdict], row.round, "OSL Pay", None, row.verdict, row.seen
    )


def _of_transition(row: Transition) -> Moment:
    moved = row.to_state if row.from_state is not row.to_state else None
    text = " ".join(part for part in (row.event.meaning, row.detail and f"({row.detail})") if part)
    return Moment(row.at, words.label(row.event), text, row.round, words.who(row.actor), moved)
