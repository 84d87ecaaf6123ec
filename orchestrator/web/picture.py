"""The state machine as a picture: where each state stands, and its moves, taken from the machine's own table. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

from orchestrator.machine import TABLE, CellKind, Event, State

WIDTH, HEIGHT = 400, 476
_BOX = (148, 46)
_COLUMNS, _ROWS = (32, 220), tuple(20 + 74 * row for row in range(6))
_FROM_MANY = 6
"""An event that leads from so many states to one is told in words: its arrows would hide all others."""
_S = State
PLACES: dict[State, tuple[int, int]] = {
    _S.COLLECTING: (0, 0),
    _S.UPLOADING: (0, 1),
    _S.SHARING: (0, 2),
    _S.AWAITING_CALLBACK: (0, 3),
    _S.CONFIRMING: (0, 4),
    _S.APPROVED: (0, 5),
    _S.EXPIRED: (1, 0),
    _S.CANCELLED: (1, 1),
    _S.NEEDS_ATTENTION: (1, 2),
    _S.IN_REVIEW: (1, 3),
    _S.REJECTED: (1, 5),
}
"""Column and row of each state's box."""
_ONWARDS = (_S.COLLECTING, _S.UPLOADING, _S.SHARING, _S.AWAITING_CALLBACK, _S.CONFIRMING, _S.APPROVED)


@dataclass(frozen=True)
class Box:
    """A state's box: its upper left corner, width and height."""

    state: State
    x: int
    y: int
    width: int = _BOX[0]
    height: int = _BOX[1]


@dataclass(frozen=True)
class Arrow:
    """Moves between two states. `path`: an SVG path; `both`: back as well; `main`: the way that most users go."""

    start: State
    end: State
    path: str
    both: bool
    main: bool


@dataclass(frozen=True)
class Picture:
    """Boxes, arrows, and in words the events that lead from many states to one: (event, state)."""

    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]
    from_many: tuple[tuple[Event, State], ...]


@cache
def picture() -> Picture:
    """The machine as it is."""
    moves = _moves()
    arrows: list[Arrow] = []
    for start, end in moves:
        both = (end, start) in moves
        if both and (end, start) in {(arrow.start, arrow.end) for arrow in arrows}:
            continue
        arrows.append(Arrow(start, end, _path(start, end), both, _is_main(start, end)))
    boxes = tuple(Box(state, *_corner(state)) for state in State)
    return Picture(boxes, tuple(arrows), tuple(_from_many()))


def _moves() -> list[tuple[State, State]]:
    """Every move between two states that is drawn."""
    told = set(_from_many())
    moves: dict[tuple[State, State], None] = {}
    for event, row in TABLE.items():
        for state, cell in row.items():
            if cell.to is not None and cell.to is not state and (event, cell.to) not in told:
                moves[state, cell.to] = None
    for row in TABLE.values():
        for state, cell in row.items():
            if cell.kind is CellKind.RESUME:  # back to where it came from
                for start, end in [pair for pair in moves if pair[1] is state]:
                    moves[end, start] = None
    return list(moves)


def _from_many() -> list[tuple[Event, State]]:
    counted = Counter(
        (event, cell.to)
        for event, row in TABLE.items()
        for state, cell in row.items()
        if cell.to is not None and cell.to is not state
    )
    return [(event, to) for (event, to), number in counted.items() if number >= _FROM_MANY]


def _is_main(start: State, end: State) -> bool:
    return (start, end) in pairwise(_ONWARDS)


def _corner(state: State) -> tuple[int, int]:
    column, row = PLACES[state]
    return _COLUMNS[column], _ROWS[row]


def _path(start: State, end: State) -> str:
    """A straight line between two boxes; back to the beginning it goes around the outside."""
    (column, row), (to_column, to_row) = PLACES[start], PLACES[end]
    (x, y), (to_x, to_y) = _corner(start), _corner(end)
    width, height = _BOX
    if end is State.COLLECTING and row > to_row:
        return _around(column, x, y + height // 2, to_x, to_y)
    if column == to_column:
        middle = x + width // 2
        if row < to_row:
            return f"M{middle} {y + height}V{to_y - 2}"
        return f"M{middle} {y}V{to_y + height + 2}"
    left = column > to_column
    if row == to_row:
        return f"M{x if left else x + width} {y + height // 2}H{to_x + width + 2 if left else to_x - 2}"
    slip = 12 if row < to_row else -12
    edge, to_edge = (x, to_x + width + 2) if left else (x + width, to_x - 2)
    return f"M{edge} {y + height // 2 + slip}L{to_edge} {to_y + height // 2 - slip}"


def _around(column: int, x: int, middle: int, to_x: int, to_y: int) -> str:
    width, height = _BOX
    if column == 0:
        return f"M{x} {middle}H14V{to_y + height // 2}H{to_x - 2}"
    return f"M{x + width} {middle}H{WIDTH - 14}V8H{to_x + width // 2}V{to_y - 2}"
