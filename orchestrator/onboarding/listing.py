"""Lists of onboardings: filtered, sorted, searched, page by page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

from orchestrator.errors import InvalidInput
from orchestrator.machine import State
from orchestrator.onboarding.context import DAY, HOUR, Context
from orchestrator.onboarding.cursor import read, written
from orchestrator.records import Onboarding, Verdict
from orchestrator.store.status import EVER, NEWEST, Cursor, Order

ORDERS = {
    "newest": NEWEST,
    "oldest": Order("created", False),
    "changed": Order("changed", True),
    "unchanged": Order("changed", False),
}
"""By the signup or by the last change, the newest or the oldest first."""
AGES = {"1h": HOUR, "1d": DAY, "7d": 7 * DAY, "30d": 30 * DAY}
AGE_WORDS = (*AGES, *(f"over-{age}" for age in AGES))
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


def wanted(*, state: str = "", verdict: str = "", age: str = "", order: str = "", query: str = "") -> Wanted:
    """Checked; '' is any. Raises InvalidInput."""
    if age and age not in AGE_WORDS:
        raise InvalidInput("the query is not valid", {"age": [f"must be one of {', '.join(AGE_WORDS)}"]})
    if order and order not in ORDERS:
        raise InvalidInput("the query is not valid", {"sort": [f"must be one of {', '.join(ORDERS)}"]})
    return Wanted(_word(State, state, "state"), _word(Verdict, verdict, "verdict"), age, order or "newest", query)


def page(
    context: Context, asked: Wanted, cursor: str, limit: int, *, by_email: bool
) -> tuple[list[Onboarding], str | None]:
    """One page, and the cursor of the next.

    `by_email`: whether the query may be an email; one who may see no personal data must not guess it either.
    With a verdict, the newest callback of that verdict comes first, and `age` is that callback's. Raises InvalidInput.
    """
    by_callback = asked.verdict is not None and not asked.query
    after = read(cursor, "cbk_" if by_callback else "onb_") if cursor else None
    if asked.query:
        return _found(context, asked, after, limit, by_email=by_email)
    between = _between(asked.age, context.now_ms())
    if asked.verdict is not None:
        return _page_of_verdict(context, asked, asked.verdict, between, after, limit)
    order = ORDERS[asked.order]
    rows = context.status.page(limit + 1, order=order, state=asked.state, between=between, cursor=after)
    if len(rows) <= limit:
        return rows, None
    last = rows[limit - 1]
    return rows[:limit], written((last.created_at if order.column == "created" else last.updated_at, last.id))


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
        return rows, written(found[limit - 1][0])
    return rows, None if looked is None else written(looked)


def _found(
    context: Context, asked: Wanted, after: Cursor | None, limit: int, *, by_email: bool
) -> tuple[list[Onboarding], str | None]:
    """Newest first. A page is short where those that were found are of another age or verdict."""
    email_hashes = context.sealer.hashes("email", asked.query.strip().casefold()) if by_email else ()
    found = context.status.search(asked.query, email_hashes, asked.state, after, limit + 1)
    earliest, latest = _between(asked.age, context.now_ms())
    rows = [
        row
        for row in found[:limit]
        if earliest <= row.created_at <= latest
        and (asked.verdict is None or any(item.verdict is asked.verdict for item in context.store.callbacks(row.id)))
    ]
    if len(found) <= limit:
        return rows, None
    return rows, written((found[limit - 1].created_at, found[limit - 1].id))


def _between(age: str, now: int) -> tuple[int, int]:
    if not age:
        return EVER
    if age in AGES:
        return now - AGES[age], EVER[1]
    return EVER[0], now - AGES[age.removeprefix("over-")]


def _word(kind: type[T], text: str, name: str) -> T | None:
    try:
        return kind(text) if text else None
    except ValueError:
        fault = f"must be one of {', '.join(kind)}"
        raise InvalidInput("the query is not valid", {name: [fault]}) from None
