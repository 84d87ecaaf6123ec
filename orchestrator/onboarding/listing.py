"""Lists of onboardings for operators: filtered, sorted, searched, page by page."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

from orchestrator.errors import InvalidInput
from orchestrator.machine import State
from orchestrator.onboarding.context import DAY, HOUR, Context
from orchestrator.records import Onboarding, Verdict
from orchestrator.store.status import Cursor, Order

ORDERS = {
    "newest": Order("created", True),
    "oldest": Order("created", False),
    "changed": Order("changed", True),
    "unchanged": Order("changed", False),
}
"""By the signup or by the last change, the newest or the oldest first."""
AGES = {"1h": HOUR, "1d": DAY, "7d": 7 * DAY, "30d": 30 * DAY}
AGE_WORDS = (*AGES, *(f"over-{age}" for age in AGES))
_LAST = 1 << 62
_PAGE = 500
T = TypeVar("T", State, Verdict)


@dataclass(frozen=True)
class Wanted:
    """What a list shows. `age`: one of AGE_WORDS, of what the list is sorted by; `query`: an exact id, or an email."""

    state: State | None = None
    verdict: Verdict | None = None
    age: str = ""
    order: str = "newest"
    query: str = ""


def wanted(state: str, verdict: str, age: str, order: str, query: str) -> Wanted:
    """Checked; '' is any. Raises InvalidInput."""
    if age and age not in AGE_WORDS:
        raise InvalidInput("the query is not valid", {"age": [f"must be one of {', '.join(AGE_WORDS)}"]})
    if order and order not in ORDERS:
        raise InvalidInput("the query is not valid", {"sort": [f"must be one of {', '.join(ORDERS)}"]})
    return Wanted(_word(State, state, "state"), _word(Verdict, verdict, "verdict"), age, order or "newest", query)


def page(
    context: Context, asked: Wanted, cursor: str, limit: int, *, by_email: bool
) -> tuple[list[Onboarding], str | None]:
    """One page, and the cursor of the next. `by_email`: whether the query may be an email.

    With a verdict, the newest callback of that verdict comes first, and `age` is that callback's. Raises InvalidInput.
    """
    if asked.query:
        return _found(context, asked, limit, by_email=by_email), None
    after = _read(cursor) if cursor else None
    between = _between(asked.age, context.now_ms())
    if asked.verdict is not None:
        return _page_of_verdict(context, asked, asked.verdict, between, after, limit)
    order = ORDERS[asked.order]
    rows = context.status.page(order, asked.state, between, after, limit + 1)
    if len(rows) <= limit:
        return rows, None
    last = rows[limit - 1]
    return rows[:limit], _written((last.created_at if order.column == "created" else last.updated_at, last.id))


def every(context: Context, asked: Wanted, *, by_email: bool) -> Iterator[Onboarding]:
    """All that the list shows, over all its pages."""
    cursor: str | None = ""
    while cursor is not None:
        rows, cursor = page(context, asked, cursor, _PAGE, by_email=by_email)
        yield from rows


def _page_of_verdict(
    context: Context,
    asked: Wanted,
    verdict: Verdict,
    between: tuple[int, int],
    after: Cursor | None,
    limit: int,
) -> tuple[list[Onboarding], str | None]:
    found, looked = context.status.page_of_verdict(verdict, asked.state, between, after, limit + 1)
    rows = [row for _, row in found[:limit]]
    if len(found) > limit:
        return rows, _written(found[limit - 1][0])
    return rows, None if looked is None else _written(looked)


def _found(context: Context, asked: Wanted, limit: int, *, by_email: bool) -> list[Onboarding]:
    query = asked.query.strip()
    email_hashes = context.sealer.hashes("email", query.casefold()) if by_email else ()
    earliest, latest = _between(asked.age, context.now_ms())
    return [
        row
        for row in context.store.search(query, email_hashes, limit)
        if asked.state in (None, row.state)
        and earliest <= row.created_at <= latest
        and (asked.verdict is None or any(item.verdict is asked.verdict for item in context.store.callbacks(row.id)))
    ]


def _between(age: str, now: int) -> tuple[int, int]:
    if not age:
        return 0, _LAST
    if age in AGES:
        return now - AGES[age], _LAST
    return 0, now - AGES[age.removeprefix("over-")]


def _word(kind: type[T], text: str, name: str) -> T | None:
    try:
        return kind(text) if text else None
    except ValueError:
        fault = f"must be one of {', '.join(kind)}"
        raise InvalidInput("the query is not valid", {name: [fault]}) from None


def _written(place: Cursor) -> str:
    return base64.urlsafe_b64encode(f"{place[0]}.{place[1]}".encode()).decode().rstrip("=")


def _read(text: str) -> Cursor:
    try:
        at, _, last_id = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode("ascii").partition(".")
        if not last_id.startswith(("onb_", "cbk_")) or not (at.isdecimal() and len(at) <= 15):
            raise ValueError
        return int(at), last_id
    except (ValueError, binascii.Error, UnicodeError):
        raise InvalidInput("the query is not valid", {"cursor": ["is not one that was given out"]}) from None
