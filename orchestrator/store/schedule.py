"""Who works on what, and when: claims, leases, OSL Pay's budget, notifications due, providers' health, heartbeats."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.health import ProviderHealth
from orchestrator.records import OSL_LANES, PROVIDER_LANES, Delivery, DeliveryStatus, Lane
from orchestrator.store import rows
from orchestrator.store.claiming import LONGEST_LEASE, Claim, Claiming, Terms, all_next_due, health_of, take_slot
from orchestrator.store.driver import Driver, Row, Session, first, tally

LONGEST_SLOT = 610_000
"""Milliseconds that no slot is taken for: the longest deadline that may be set, and what is added to it."""
MOST_COUNTED = 10_000
"""Due steps beyond so many are not counted: a longer backlog is none the better known for it."""


@dataclass(frozen=True)
class Due:
    """When the next step and the next notification can be claimed, as far as known (ms); None: none waits."""

    step: int | None
    delivery: int | None

    @property
    def first(self) -> int | None:
        """The sooner of the two."""
        return min((at for at in (self.step, self.delivery) if at is not None), default=None)


@dataclass(frozen=True)
class Backlog:
    """What waits. `due`: lane → due steps (`MOST_COUNTED` at most) and the age of the oldest; ages in ms.

    `slots_in_use`: by the lane that took them, of `slots`.
    """

    due: Mapping[Lane, tuple[int, int]]
    oldest_delivery: int
    slots: int
    slots_in_use: Mapping[str, int]


class ScheduleStore:
    """Claims, slots, deliveries' tries, health and heartbeats."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    def set_budget(self, requests_per_second: int) -> None:
        """As many slots as OSL Pay admits requests in a second."""

        def work(session: Session) -> None:
            session.run("drop_slots", count=requests_per_second)
            for number in range(1, requests_per_second + 1):
                session.run("add_slot", id=number)

        if self._driver.rows("count_slots")[0]["slots"] != requests_per_second:
            self._driver.write(work)

    def claim(self, terms: Terms) -> list[Claim]:
        """Due rows with what they need, the most urgent first; each is leased to `terms.lease`."""
        return self._driver.write(lambda session: Claiming(session, terms).all())

    def next_due(self, now: int) -> Due:
        """When something can next be claimed, by the caller's clock."""

        def work(session: Session) -> Due:
            here = session.now(now)
            return _next_due(session, here, now - here)

        return self._driver.read(work)

    def claim_deliveries(self, now: int, lease: str, lease_until: int, limit: int) -> list[Delivery]:
        """Due notifications, leased."""

        found = self._driver.write(lambda session: _claim_deliveries(session, now, lease, lease_until, limit))
        return [rows.delivery(row) for row in found]

    def settle_delivery(
        self, delivery: Delivery, lease: str, now: int, *, next_lease: str | None = None, lease_until: int = 0
    ) -> Delivery | None:
        """What became of a try. When it is over, the next one of the onboarding is due.

        `next_lease`: the caller can take one more; any due notification, leased until `lease_until`, or None.
        """

        def work(session: Session) -> list[Row]:
            session.rows("lock_onboarding", id=delivery.onboarding_id)
            held = session.run(
                "settle_delivery",
                id=delivery.id,
                lease=lease,
                status=delivery.status,
                due_at=delivery.due_at,
                attempts=delivery.attempts,
                last_error=delivery.last_error,
                delivered_at=delivery.delivered_at,
            )
            if held and delivery.status is not DeliveryStatus.PENDING:
                tally(session, {("deliveries", DeliveryStatus.PENDING): -1, ("deliveries", delivery.status): 1})
                session.run("forget_delivery", id=delivery.id, nothing=b"")
                session.run("next_delivery", onboarding_id=delivery.onboarding_id, now=now)
            return [] if next_lease is None else _claim_deliveries(session, now, next_lease, lease_until, 1)

        claimed = first(self._driver.write(work))
        return None if claimed is None else rows.delivery(claimed)

    def resend_delivery(self, delivery_id: str, onboarding_id: str, now: int) -> bool:
        """Put a finished notification back in line; False if it is still in line, or what it said is not kept."""

        def work(session: Session) -> bool:
            session.rows("lock_onboarding", id=onboarding_id)
            before = first(session.rows("delivery", id=delivery_id))
            if before is None or not session.run("resend_delivery", id=delivery_id, now=now, nothing=b""):
                return False
            tally(session, {("deliveries", before["status"]): -1, ("deliveries", DeliveryStatus.PENDING): 1})
            return True

        return self._driver.write(work)

    def take_slot(self, now: int, holder: str, free_at: int) -> int | None:
        """One request of OSL Pay's budget for a call outside the worker; None if all are in use."""

        def work(session: Session) -> int | None:
            here = session.now(now)
            return take_slot(session, here, "call", holder, here + free_at - now)

        return self._driver.write(work)

    def free_slot(self, slot: int, holder: str, now: int, free_at: int) -> None:
        """The answer was read: the slot is free again at `free_at`."""
        self._driver.write(
            lambda session: session.run("free_slot", id=slot, holder=holder, free_at=session.now(now) + free_at - now)
        )

    def health(self, name: str) -> ProviderHealth:
        """What is known of a provider."""
        return self._driver.read(lambda session: health_of(session, name))

    def beat(self, worker_id: str, now: int, forget_before: int, probe_ms: int) -> None:
        """A worker is alive; those silent since `forget_before` are forgotten, and so are slots beyond all bounds.

        So are tries of an unhealthy provider that are more than two `probe_ms` away: what waits for it is due now.
        """

        def work(session: Session) -> None:
            session.run("beat", id=worker_id, now=now)
            session.run("forget_workers", before=forget_before)
            here = session.now(now)
            for row in session.rows("mend_probes", now=here, furthest=here + 2 * probe_ms):
                for lane in PROVIDER_LANES[row["name"]]:
                    session.run("wake_unauthorized", lane=lane, now=here)
            session.run("mend_slots", now=here, furthest=here + LONGEST_SLOT)

        self._driver.write(work)

    def stop_worker(self, worker_id: str) -> None:
        """A worker stopped cleanly."""
        self._driver.write(lambda session: session.run("stop_worker", id=worker_id))

    def take_chore(self, name: str, now: int, every: int) -> bool:
        """Whether the caller is to do a chore that is due `every` ms; only one of all processes is."""
        return bool(
            self._driver.write(
                lambda session: session.run("take_chore", name=name, now=now, before=now - every, furthest=now + every)
            )
        )

    def last_beat(self) -> int | None:
        """When any worker was last seen."""
        row = first(self._driver.rows("last_beat"))
        return None if row is None else row["beat_at"]

    def backlog(self, now: int) -> Backlog:
        """What waits, and how much of OSL Pay's budget is in use; as cheap with a million rows as with one."""
        return self._driver.read(lambda session: _backlog(session, session.now(now)))

    def check_writable(self) -> None:
        """Raises StoreUnavailable when a write could not be stored: stores one, of which nothing remains."""

        def work(session: Session) -> None:
            session.run("beat", id="", now=0)
            session.run("stop_worker", id="")

        self._driver.write(work)


def _backlog(session: Session, now: int) -> Backlog:
    due = {}
    for lane in Lane:
        row = session.rows("count_due", lane=lane, now=now, limit=MOST_COUNTED)[0]
        due[lane] = (row["steps"], now - row["oldest"] if row["steps"] else 0)
    delivery = session.rows("oldest_delivery")[0]["due_at"]
    return Backlog(
        due,
        0 if delivery is None else max(0, now - delivery),
        session.rows("count_slots")[0]["slots"],
        {row["lane"]: row["slots"] for row in session.rows("slots_in_use", now=now)},
    )


def _claim_deliveries(session: Session, now: int, lease: str, lease_until: int, limit: int) -> list[Row]:
    here = session.now(now)
    until = here + lease_until - now
    furthest = here + LONGEST_LEASE
    return session.rows("claim_deliveries", now=here, furthest=furthest, lease=lease, lease_until=until, limit=limit)


def _next_due(session: Session, now: int, ahead: int) -> Due:
    """By a clock that is `ahead` ms of the one that says `now`."""
    row = all_next_due(session, now)
    osl = max(row["osl_probe"] or 0, row["slot"] or 0)
    earliest: dict[str, int] = dict.fromkeys(OSL_LANES, osl)
    earliest[Lane.UPLOAD] = row["btse_probe"] or 0
    steps = [max(row[lane], earliest.get(lane, 0)) + ahead for lane in Lane if row[lane] is not None]
    delivery = row["delivery"]
    return Due(min(steps, default=None), None if delivery is None else delivery + ahead)
