"""Pieces of work that one thread does in turns.

Who needs something that is cheaper done for many lets the others go on until they need it too, in the same thread.
So many webhooks share one write, without the changes of threads that would cost more than the webhooks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from greenlet import getcurrent, greenlet

T = TypeVar("T")


class _Piece(greenlet):
    """One piece of work. `wants`: what it waits for, and how that is done for all who wait."""

    wants: tuple[Any, Callable[[Sequence[Any]], None]] | None = None


def in_turns(works: Iterable[Callable[[], None]]) -> None:
    """Do all `works` in this thread; over when the last of them is. None of them may raise.

    One may block, but then all the others wait with it; only `do_together` lets them go on.
    """
    pieces = [_Piece(work) for work in works]
    while pieces:
        for piece in pieces:
            piece.switch()
        pieces = [piece for piece in pieces if piece.wants is not None]
        wanted = [piece.wants for piece in pieces if piece.wants is not None]
        if wanted:
            _, do_all = wanted[0]
            do_all([what for what, _ in wanted])


def do_together(what: T, do_all: Callable[[Sequence[T]], None]) -> None:
    """Have `do_all` called once with `what` of everybody who comes here in this thread's turns; done on return.

    `do_all` must not raise, and who comes here must hold no lock: another in the same thread might wait for it for
    ever. Where nobody takes turns it is called at once.
    """
    piece = getcurrent()
    if not isinstance(piece, _Piece) or piece.parent is None:
        do_all([what])
        return
    piece.wants = (what, do_all)
    piece.parent.switch()
    piece.wants = None
