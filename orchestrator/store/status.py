"""What lists and status pages read beside single onboardings: pages, the flow, what waits for a person or is stuck."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orchestrator.machine import State
from orchestrator.records import Delivery, Lane, Onboarding, Verdict
from orchestrator.store import rows
from orchestrator.store.driver import Driver, Row

LOOKED_THROUGH = 2_000
"""Webhooks of one verdict that one page looks through at most, when a state is asked for as well."""
_EARLIEST, _LATEST = (0, ""), (1 << 62, "~")
_PLACE = {"came_at", "came_id"}
Cursor = tuple[int, str]
"""A time (ms), and the id of the row that has it."""


@dataclass(frozen=True)
class Order:
    """How a list is sorted: by `column` (created or changed), and whether the newest come first."""

    column: str
    newest_first: bool


NEWEST = Order("created", True)
EVER = (_EARLIEST[0], _LATEST[0])


class StatusStore:
    """None of its reads costs more because there are more rows."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    def page(
        self,
        limit: int,
        *,
        order: Order = NEWEST,
        state: State | None = None,
        between: tuple[int, int] = EVER,
        cursor: Cursor | None = None,
    ) -> list[Onboarding]:
        """Onboardings in this order after `cursor`, whose time of the order's column lies `between` (ms)."""
        since, until = between
        # One bound for the end at which a page begins: of two, SQLite may use the one that skips nothing.
        if order.newest_first:
            first, (at, last_id) = "newest", min(cursor or _LATEST, (until, _LATEST[1]))
        else:
            first, (at, last_id) = "oldest", max(cursor or _EARLIEST, (since, _EARLIEST[1]))
        asked = {"since": since, "until": until, "at": at, "id": last_id, "limit": limit}
        if state is None:
            return [rows.onboarding(row) for row in self._rows(f"list_{first}_{order.column}", **asked)]
        found = self._rows(f"list_{first}_{order.column}_of_state", state=state, **asked)
        return [rows.onboarding(row) for row in found]

    def search(
        self, text: str, email_hashes: Sequence[str], state: State | None, cursor: Cursor | None, limit: int
    ) -> list[Onboarding]:
        """Onboardings whose id, merchantUserId, OSL userId or email is exactly this, the newest first."""
        at, last_id = cursor or _LATEST
        asked = {"state": state, "at": at, "id": last_id, "limit": limit}
        found = {row["id"]: row for row in self._rows("found_by_id", q=text, **asked)}
        for email_hash in email_hashes:
            found |= {row["id"]: row for row in self._rows("found_by_email", hash=email_hash, **asked)}
        records = [rows.onboarding(row) for row in found.values()]
        return sorted(records, key=lambda record: (record.created_at, record.id), reverse=True)[:limit]

    def page_of_verdict(
        self, verdict: Verdict, state: State | None, between: tuple[int, int], cursor: Cursor | None, limit: int
    ) -> tuple[list[tuple[Cursor, Onboarding]], Cursor | None]:
        """Onboardings with a callback of this verdict, the newest such callback first, each with its place.

        The second value: where to look on, when the page is short only because enough was looked through.
        """
        since, until = between
        at, last_id = min(cursor or _LATEST, (until, _LATEST[1]))
        asked = {"verdict": verdict, "since": since, "at": at, "id": last_id}
        found = self._rows("page_of_verdict", state=state, looked=LOOKED_THROUGH, limit=limit, **asked)
        page = [((row["came_at"], row["came_id"]), rows.onboarding(_without_place(row))) for row in found]
        if len(page) == limit:
            return page, None
        last = self._rows("looked_through", skipped=LOOKED_THROUGH - 1, **asked)
        return page, (last[0]["received_at"], last[0]["id"]) if last else None

    def flow(self, span: str, since: int) -> dict[tuple[int, str], int]:
        """What was counted by `span` (hour, day) since `since` (ms): (beginning, what) → number."""
        return {(row["begins_at"], row["what"]): row["number"] for row in self._rows("flow", span=span, since=since)}

    def forget_hours(self, before: int) -> None:
        """Counts by the hour that no page shows any more."""
        self._driver.write(lambda session: session.run("forget_hours", before=before))

    def longest_in(self, state: State, limit: int) -> list[Onboarding]:
        """Those in `state` that did not change for longest."""
        return self.page(limit, order=Order("changed", False), state=state)

    def failing(self, limit: int) -> list[Onboarding]:
        """Those whose step fails again and again, since the longest time."""
        return [rows.onboarding(row) for row in self._rows("failing", limit=limit)]

    def overdue(self, before: int, limit: int) -> list[Onboarding]:
        """Those whose next step was due before `before` (ms), the longest overdue first."""
        found = [row for lane in Lane for row in self._rows("overdue", lane=lane, before=before, limit=limit)]
        return [rows.onboarding(row) for row in sorted(found, key=lambda row: row["due_at"])[:limit]]

    def failed_deliveries(self, limit: int) -> list[Delivery]:
        """Notifications that were given up, the newest first."""
        return [rows.delivery(row) for row in self._rows("failed_deliveries", limit=limit)]

    def _rows(self, name: str, **parameters: object) -> list[Row]:
        return self._driver.read(lambda session: session.rows(name, **parameters))


def _without_place(row: Row) -> Mapping[str, object]:
    return {name: value for name, value in row.items() if name not in _PLACE}
