"""What a worker claims, in one transaction: due rows, the most urgent first, with the OSL Pay slots they need."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from orchestrator.health import ProviderHealth
from orchestrator.records import OSL_LANES, Lane, Onboarding
from orchestrator.store import rows
from orchestrator.store.driver import Row, Session, first

POLL_SHARE = 0.2
"""Of OSL Pay's requests, what polls take at most while anything more urgent is due."""
LONGEST_LEASE = 640_000
"""Milliseconds that no row is leased for, longer than the longest deadline that may be set."""
_SMALLEST_SHARED_BUDGET = 5
"""From so many requests per second on, polls get one even while more urgent work could use them all."""


@dataclass(frozen=True)
class Claim:
    """A due row under lease, with the OSL Pay slot that its step may use."""

    onboarding: Onboarding
    lane: Lane
    lease: str
    slot: int | None = None
    claimed_at: int = 0
    """By the worker's clock."""


@dataclass(frozen=True)
class Terms:
    """On what terms rows are claimed. Times in ms: leases end at `lease_until`, unused slots at `slot_free_at`.

    `room`: how many rows of each lane the worker can take.
    """

    now: int
    lease: str
    lease_until: int
    slot_free_at: int
    probe_ms: int
    room: Mapping[Lane, int]


class Claiming:
    """One claim, inside a transaction of `session`."""

    def __init__(self, session: Session, terms: Terms) -> None:
        self._session = session
        self._claimed_at = terms.now
        now = session.now(terms.now)
        ahead = now - terms.now
        self._terms = replace(
            terms, now=now, lease_until=terms.lease_until + ahead, slot_free_at=terms.slot_free_at + ahead
        )
        self._claims: list[Claim] = []

    def all(self) -> list[Claim]:
        """What is due and there is room for, leased; the most urgent first."""
        self._claim_osl()
        self._claim_btse()
        self._take(Lane.LOCAL, self._room(Lane.LOCAL))
        return self._claims

    def _claim_btse(self) -> None:
        health = health_of(self._session, "btse")
        if health.unhealthy_since is None:
            self._take(Lane.UPLOAD, self._room(Lane.UPLOAD))
        else:
            self._probe("btse", (Lane.UPLOAD,))

    def _claim_osl(self) -> None:
        health = health_of(self._session, "osl")
        if health.unhealthy_since is not None:
            if self._free_slots():
                self._probe("osl", OSL_LANES)
            return
        budget = self._slots
        if budget >= _SMALLEST_SHARED_BUDGET and not self._polls_in_use():
            self._take(Lane.POLL, min(1, self._room(Lane.POLL), self._free_slots()))
        for lane in (Lane.CONFIRM, Lane.SHARE):
            self._take(lane, min(self._room(lane), self._free_slots()))
        limit = self._free_slots()
        if self._is_due(Lane.CONFIRM) or self._is_due(Lane.SHARE):
            limit = min(limit, int(budget * POLL_SHARE) - self._polls_in_use())
        self._take(Lane.POLL, min(self._room(Lane.POLL), limit))

    def _take(self, lane: Lane, limit: int) -> None:
        if limit <= 0 or not self._is_due(lane):
            return
        found = self._session.rows("claim_lane", limit=limit, **self._leased(lane))
        self._due[lane] = None if len(found) == limit else False
        # A database may give in any order what it changed.
        self._keep(sorted(map(rows.onboarding, found), key=lambda row: row.due_at or 0), lane)

    def _probe(self, provider: str, lanes: tuple[Lane, ...]) -> None:
        """One request to an unhealthy provider, if it is time for one and nobody else makes it."""
        terms = self._terms
        health = _health_to_change(self._session, provider)
        if health.unhealthy_since is None or not self._may_probe(health):
            # Healed by the answer that was being stored: a time for its next probe would hold everybody up.
            return
        for last_probed in dict.fromkeys((health.last_probed, None)):
            for lane in lanes:
                found = self._session.rows("claim_probe", last_probed=last_probed, **self._leased(lane))
                if found:
                    self._keep([rows.onboarding(found[0])], lane)
                    # Another transaction may hold the last free slot: then nothing is sent, and the next one may.
                    if self._claims:
                        probed = replace(health, last_probed=found[0]["id"], next_probe_at=terms.now + terms.probe_ms)
                        self._session.run("put_provider", **rows.health_values(probed))
                    return

    def _leased(self, lane: Lane) -> dict[str, Any]:
        terms = self._terms
        return {
            "lane": lane,
            "now": terms.now,
            "furthest": terms.now + LONGEST_LEASE,
            "lease": terms.lease,
            "lease_until": terms.lease_until,
        }

    def _keep(self, found: list[Onboarding], lane: Lane) -> None:
        terms = self._terms
        for onboarding in found:
            slot = None
            if lane in OSL_LANES:
                slot = take_slot(self._session, terms.now, lane, terms.lease, terms.slot_free_at)
                if slot is None:
                    self._session.run("release_lease", id=onboarding.id, lease=terms.lease)
                    continue
                self._in_use[lane] += 1
            self._claims.append(Claim(onboarding, lane, terms.lease, slot, self._claimed_at))

    def _may_probe(self, health: ProviderHealth) -> bool:
        return health.next_probe_at is None or health.next_probe_at <= self._terms.now

    def _room(self, lane: Lane) -> int:
        return self._terms.room.get(lane, 0) - sum(claim.lane is lane for claim in self._claims)

    def _is_due(self, lane: Lane) -> bool:
        due = self._due[lane]
        if due is None:
            row = first(
                self._session.rows("next_due", lane=lane, now=self._terms.now, furthest=self._terms.now + LONGEST_LEASE)
            )
            due = self._due[lane] = row is not None and row["due_at"] <= self._terms.now
        return due

    @cached_property
    def _due(self) -> dict[Lane, bool | None]:
        """Of each lane, whether some are due that are not taken; None: it has to be asked again."""
        row = all_next_due(self._session, self._terms.now)
        return {lane: row[lane] is not None and row[lane] <= self._terms.now for lane in Lane}

    def _free_slots(self) -> int:
        return self._slots - self._in_use.total()

    @cached_property
    def _slots(self) -> int:
        return int(self._session.rows("count_slots")[0]["slots"])

    def _polls_in_use(self) -> int:
        return self._in_use[Lane.POLL]

    @cached_property
    def _in_use(self) -> Counter[str]:
        """By lane; those that are taken here are added."""
        taken = self._session.rows("slots_in_use", now=self._terms.now)
        return Counter({row["lane"]: row["slots"] for row in taken})


def take_slot(session: Session, now: int, lane: str, holder: str, free_at: int) -> int | None:
    """A slot of OSL Pay's budget, taken until `free_at` (ms) or until `holder` frees it; None if all are in use."""
    row = first(session.rows("take_slot", now=now, lane=lane, holder=holder, free_at=free_at))
    return None if row is None else row["id"]


def health_of(session: Session, name: str) -> ProviderHealth:
    """What is known of a provider; at first nothing."""
    row = first(session.rows("provider", name=name))
    return ProviderHealth(name) if row is None else rows.health(row)


def _health_to_change(session: Session, name: str) -> ProviderHealth:
    row = first(session.rows("provider_to_change", name=name))
    return ProviderHealth(name) if row is None else rows.health(row)


def all_next_due(session: Session, now: int) -> Row:
    """When the next of everything that a worker waits for is due, in ms; see the statement of this name."""
    return session.rows("all_next_due", now=now, furthest=now + LONGEST_LEASE)[0]
