"""What the status pages read beside single onboardings: pages, the flow, what waits for a person or is stuck."""

from __future__ import annotations

from collections.abc import Mapping
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


class StatusStore:
    """Reads alone; none of them costs more because there are more rows."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    def page(
        self, order: Order, state: State | None, between: tuple[int, int], cursor: Cursor | None, limit: int
    ) -> list[Onboarding]:
        """Onboardings in this order after `cursor`, whose time of the order's column lies `between` (ms)."""
        first = "newest" if order.newest_first else "oldest"
        at, last_id = cursor or (_LATEST if order.newest_first else _EARLIEST)
        asked = {"since": between[0], "until": between[1], "at": at, "id": last_id, "limit": limit}
        if state is None:
            return [rows.onboarding(row) for row in self._rows(f"list_{first}_{order.column}", **asked)]
        found = self._rows(f"list_{first}_{order.column}_of_state", state=state, **asked)
        return [rows.onboarding(row) for row in found]

    def page_of_verdict(
        self, verdict: Verdict, state: State | None, between: tuple[int, int], cursor: Cursor | None, limit: int
    ) -> tuple[list[tuple[Cursor, Onboarding]], Cursor | None]:
        """Onboardings with a callback of this verdict, the newest such callback first, each with its place.

        The second value: where to look on, when the page is short only because enough was looked through.
        """
        at, last_id = cursor or _LATEST
        asked = {"verdict": verdict, "since": between[0], "until": between[1], "at": at, "id": last_id}
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
        return self.page(Order("changed", False), state, (_EARLIEST[0], _LATEST[0]), None, limit)

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
