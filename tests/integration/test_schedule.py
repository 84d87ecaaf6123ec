"""Who works on what, and when: lanes, leases, OSL Pay's budget in every sliding second, health, deliveries."""

from __future__ import annotations

import heapq
import itertools
import random
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import Kind
from orchestrator.health import Outcome
from orchestrator.machine import State
from orchestrator.onboarding import advance
from orchestrator.records import OSL_LANES, Delivery, DeliveryStatus, Lane, Onboarding
from orchestrator.store import Change, LeaseLost
from orchestrator.store.change import Held
from orchestrator.store.claiming import Claim
from orchestrator.store.schedule import Due
from tests.service import DAY, MINUTE, SECOND, Bench

DEADLINE = 10 * SECOND
"""Of the bench's provider calls."""
LEASE = DEADLINE + 30 * SECOND
MUCH: Mapping[Lane, int] = dict.fromkeys(Lane, 100)

_numbers = itertools.count(1)


class Rows:
    """Rows that are due, written by the store alone, and what workers make of them."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.template = bench.sign_up()
        self.store = bench.context.store

    def add(self, lane: Lane | None, count: int = 1, due_in: int = 0, **columns: Any) -> list[Onboarding]:
        """`due_in` ms from now each, a millisecond apart."""
        found = []
        for position in range(count):
            number = next(_numbers)
            due = None if lane is None else self.bench.clock() + due_in - count + position
            row = replace(
                self.template,
                id=f"onb_{number:06d}",
                merchant_user_id=f"u-{number}",
                link_hash=f"link-{number}",
                state=State.UPLOADING if lane is Lane.UPLOAD else State.AWAITING_CALLBACK,
                lane=lane,
                due_at=due,
                step_at=due,
            )
            row = replace(row, **columns)
            assert self.store.commit(Change(None, row))
            found.append(row)
        return found

    def claim(self, room: Mapping[Lane, int] = MUCH) -> list[Claim]:
        return advance.claim(self.bench.context, room)

    def give_back(self, claim: Claim, *, due_in: int | None = None, outcome: Outcome | None = None) -> None:
        """The answer was read now; the row is due again in so many ms, or waits for nothing."""
        now = self.bench.clock()
        before = self.bench.row(claim.onboarding)
        due = None if due_in is None else now + due_in
        after = replace(before, due_at=due, step_at=due, lane=None if due is None else claim.lane)
        held = Held(claim.lease, slot=claim.slot, slot_free_at=now + SECOND, now=now)
        assert self.store.commit(Change(before, after, held=held, outcome=outcome, probe_ms=MINUTE))

    def answered(self, claims: list[Claim], provider: str, failure: Kind | None) -> None:
        for claim in claims:
            told = Outcome(provider, claim.onboarding.id, self.bench.clock(), failure, "401" if failure else "")
            before = self.bench.row(claim.onboarding)
            assert self.store.commit(Change(before, replace(before, unauthorized=1 if failure else 0)))
            self.give_back(claim, due_in=MINUTE if failure else None, outcome=told)


@pytest.fixture
def rows(bench: Bench) -> Rows:
    made = Rows(bench)
    made.bench.clock.advance(SECOND)
    return made


def lanes(claims: list[Claim]) -> Counter[Lane]:
    return Counter(claim.lane for claim in claims)


# Lanes ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("due", "claimed"),
    [
        ((20, 20, 20), (9, 0, 1)),
        ((5, 20, 20), (5, 4, 1)),
        ((0, 20, 20), (0, 9, 1)),
        ((3, 3, 20), (3, 3, 4)),
        ((9, 1, 20), (9, 0, 1)),
        ((8, 1, 20), (8, 1, 1)),
        ((0, 0, 20), (0, 0, 10)),
        ((20, 20, 0), (10, 0, 0)),
        ((1, 1, 1), (1, 1, 1)),
    ],
)
def test_confirmations_go_before_shares_and_shares_before_polls_which_always_get_one(
    rows: Rows, due: tuple[int, ...], claimed: tuple[int, ...]
) -> None:
    for lane, count in zip(OSL_LANES, due, strict=True):
        rows.add(lane, count)
    assert lanes(rows.claim()) == Counter(dict(zip(OSL_LANES, claimed, strict=True))) + Counter()


def test_polls_have_a_fifth_at_most_while_anything_else_is_due(rows: Rows) -> None:
    rows.add(Lane.POLL, 60)
    rows.add(Lane.SHARE, 200)
    held: list[tuple[int, Claim]] = []
    seen: Counter[Lane] = Counter()
    for _ in range(40):
        for until, claim in [entry for entry in held if entry[0] <= rows.bench.clock()]:
            held.remove((until, claim))
            rows.give_back(claim)
        claims = rows.claim()
        seen += lanes(claims)
        held += [(rows.bench.clock() + 700, claim) for claim in claims]
        assert sum(claim.lane is Lane.POLL for _, claim in held) <= 2
        rows.bench.clock.advance(250)
    assert seen[Lane.POLL] >= 4, "they are never forgotten"
    assert seen[Lane.SHARE] > 30


def test_polls_that_are_under_way_count_for_their_fifth(rows: Rows) -> None:
    rows.add(Lane.POLL, 20)
    rows.add(Lane.SHARE, 20)
    room = {Lane.POLL: 20, Lane.SHARE: 1}
    assert lanes(rows.claim(room)) == {Lane.POLL: 2, Lane.SHARE: 1}
    assert lanes(rows.claim(room)) == {Lane.SHARE: 1}


def test_of_a_lane_the_longest_due_goes_first(rows: Rows) -> None:
    due = rows.add(Lane.SHARE, 15)
    assert [claim.onboarding.id for claim in rows.claim()] == [row.id for row in due[:10]]


def test_uploads_and_local_steps_need_no_slot(rows: Rows) -> None:
    rows.add(Lane.SHARE, 12)
    rows.add(Lane.UPLOAD, 12)
    rows.add(Lane.LOCAL, 12, state=State.COLLECTING)
    claims = rows.claim()
    assert lanes(claims) == {Lane.SHARE: 10, Lane.UPLOAD: 12, Lane.LOCAL: 12}
    assert all((claim.slot is not None) == (claim.lane is Lane.SHARE) for claim in claims)
    slots = [claim.slot for claim in claims if claim.slot is not None]
    assert len(set(slots)) == 10


def test_no_more_is_claimed_than_there_is_room_for(rows: Rows) -> None:
    for lane in Lane:
        rows.add(lane, 5)
    assert rows.claim({}) == []
    assert lanes(rows.claim({Lane.CONFIRM: 1, Lane.SHARE: 0, Lane.POLL: 2, Lane.UPLOAD: 3})) == {
        Lane.CONFIRM: 1,
        Lane.POLL: 2,
        Lane.UPLOAD: 3,
    }


def test_what_is_not_due_yet_is_left_alone_and_foretold(rows: Rows) -> None:
    rows.add(Lane.POLL, due_in=MINUTE + 1)
    rows.add(None)
    assert rows.claim() == []
    assert advance.next_due(rows.bench.context) == Due(rows.bench.clock() + MINUTE, None)
    rows.bench.clock.advance(MINUTE)
    assert len(rows.claim()) == 1


@pytest.mark.parametrize("budget", ["1", "4"])
def test_with_a_small_budget_polls_wait_for_all_else(tmp_path: Path, budget: str) -> None:
    bench = Bench(tmp_path, OSL_REQUESTS_PER_SECOND=budget)
    rows = Rows(bench)
    rows.add(Lane.POLL, 9)
    rows.add(Lane.CONFIRM, int(budget) + 1)
    first = rows.claim()
    assert lanes(first) == {Lane.CONFIRM: int(budget)}
    for claim in first:
        rows.give_back(claim)
    bench.clock.advance(SECOND)
    assert lanes(rows.claim()) == Counter({Lane.CONFIRM: 1, Lane.POLL: int(budget) - 1}) + Counter()
    bench.close()


# The budget ----------------------------------------------------------------------------------------------------------


def most_in_a_second(arrivals: list[float]) -> int:
    """How many requests arrived in the busiest sliding second."""
    arrivals = sorted(arrivals)
    most = start = 0
    for end, at in enumerate(arrivals):
        while arrivals[start] <= at - SECOND:
            start += 1
        most = max(most, end - start + 1)
    return most


@pytest.mark.parametrize(("budget", "most"), [(3, 400), (10, 1_500)])
def test_in_no_sliding_second_more_requests_arrive_than_the_budget(tmp_path: Path, budget: int, most: int) -> None:
    """Workers with random latencies in both directions, some of which die, over a thousand steps."""
    bench = Bench(tmp_path, OSL_REQUESTS_PER_SECOND=str(budget), ORCHESTRATOR_PROVIDER_DEADLINE_SECONDS="2")
    rows = Rows(bench)
    chance = random.Random(budget)
    rows.add(Lane.CONFIRM, 10)
    rows.add(Lane.SHARE, 10)
    rows.add(Lane.POLL, 15)
    arrivals: list[float] = []
    polls: list[float] = []
    coming: list[tuple[int, int, Claim]] = []
    steps = died = 0
    while steps < most:
        while coming and coming[0][0] <= bench.clock():
            _, _, claim = heapq.heappop(coming)
            steps += 1
            try:
                rows.give_back(claim, due_in=chance.choice((0, 0, 20, 400)))
            except LeaseLost:
                continue
        for claim in rows.claim(dict.fromkeys(Lane, chance.randint(1, 12))):
            steps += 1
            there = bench.clock() + chance.choice((0, 1, 5, 80, 300, 999, 1_900))
            arrivals.append(there)
            if claim.lane is Lane.POLL:
                polls.append(there)
            if chance.random() < 0.01:
                died += 1  # its lease and its slot come back by themselves
                continue
            back = min(there + chance.choice((0, 1, 10, 200, 1_500)), bench.clock() + 2_000)
            heapq.heappush(coming, (back, next(_numbers), claim))
        bench.clock.advance(chance.choice((1, 3, 10, 50, 120)))
    assert died >= 1
    assert most_in_a_second(arrivals) <= budget
    assert most_in_a_second(arrivals) == budget, "and it is used"
    if budget >= 5:
        assert len(polls) > 20, "polls get through all the same"
    bench.close()


def test_the_slot_of_one_that_died_comes_back_after_its_deadline(rows: Rows) -> None:
    rows.add(Lane.CONFIRM, 30)
    assert len(rows.claim()) == 10
    slot_back = DEADLINE + 5 * SECOND + SECOND
    rows.bench.clock.advance(slot_back - 1)
    assert rows.claim() == []
    rows.bench.clock.advance(1)
    assert len(rows.claim()) == 10


def test_a_slot_is_free_one_second_after_the_answer(rows: Rows) -> None:
    rows.add(Lane.CONFIRM, 12)
    claims = rows.claim()
    rows.bench.clock.advance(400)
    rows.give_back(claims[0])
    rows.bench.clock.advance(SECOND - 1)
    assert rows.claim() == []
    rows.bench.clock.advance(1)
    assert [claim.slot for claim in rows.claim()] == [claims[0].slot]


def test_a_late_holder_does_not_free_the_slot_of_the_next(rows: Rows) -> None:
    rows.add(Lane.CONFIRM, 30)
    late = rows.claim()
    rows.bench.clock.advance(20 * SECOND)
    assert len(rows.claim()) == 10
    rows.give_back(late[0])
    rows.bench.clock.advance(2 * SECOND)
    assert rows.claim() == [], "all ten belong to others"


def test_a_call_outside_the_worker_takes_of_the_same_budget(rows: Rows) -> None:
    schedule, clock = rows.bench.context.schedule, rows.bench.clock
    taken = [schedule.take_slot(clock(), f"doctor-{number}", clock() + MINUTE) for number in range(11)]
    assert sorted(slot for slot in taken if slot is not None) == list(range(1, 11))
    assert taken[10] is None
    rows.add(Lane.CONFIRM)
    assert rows.claim() == []
    schedule.free_slot(taken[0] or 0, "somebody else", clock(), clock())
    assert rows.claim() == []
    schedule.free_slot(taken[0] or 0, "doctor-0", clock(), clock())
    assert len(rows.claim()) == 1


def test_the_budget_follows_the_setting(rows: Rows) -> None:
    schedule, clock = rows.bench.context.schedule, rows.bench.clock
    for budget in (3, 12, 1):
        schedule.set_budget(budget)
        clock.advance(MINUTE)
        taken = [schedule.take_slot(clock(), "x", clock() + SECOND) for _ in range(14)]
        assert sum(slot is not None for slot in taken) == budget


# Leases --------------------------------------------------------------------------------------------------------------


def test_a_lease_that_ran_out_is_taken_over_and_not_a_millisecond_earlier(rows: Rows) -> None:
    [row] = rows.add(Lane.UPLOAD)
    [first] = rows.claim()
    rows.bench.clock.advance(LEASE - 1)
    assert rows.claim() == []
    rows.bench.clock.advance(1)
    [second] = rows.claim()
    assert second.onboarding.id == row.id
    assert second.lease != first.lease
    with pytest.raises(LeaseLost):
        rows.give_back(first)
    rows.give_back(second)
    assert rows.bench.row(row).lease is None


def test_a_late_commit_is_taken_while_nobody_else_holds_the_row(rows: Rows) -> None:
    rows.add(Lane.UPLOAD)
    [claim] = rows.claim()
    rows.bench.clock.advance(LEASE + MINUTE)
    rows.give_back(claim)


def test_many_workers_at_once_never_get_the_same_row(rows: Rows) -> None:
    rows.add(Lane.UPLOAD, 60)
    rows.add(Lane.CONFIRM, 20)
    claimed: list[str] = []

    def work() -> None:
        context = rows.bench.open().context
        while claims := advance.claim(context, {Lane.UPLOAD: 3, Lane.CONFIRM: 2}):
            claimed.extend(claim.onboarding.id for claim in claims)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(claimed) == len(set(claimed)) == 60 + 10


# Health --------------------------------------------------------------------------------------------------------------


def _unhealthy(rows: Rows, lane: Lane, provider: str, count: int = 5) -> list[Onboarding]:
    due = rows.add(lane, count)
    rows.answered(rows.claim(), provider, Kind.UNAUTHORIZED)
    assert rows.bench.context.schedule.health(provider).unhealthy_since == rows.bench.clock()
    return due


@pytest.mark.parametrize(("lane", "provider"), [(Lane.UPLOAD, "btse"), (Lane.CONFIRM, "osl"), (Lane.POLL, "osl")])
def test_an_unhealthy_provider_gets_one_request_a_minute_each_about_another(
    rows: Rows, lane: Lane, provider: str
) -> None:
    due = _unhealthy(rows, lane, provider)
    probed = []
    began = rows.bench.clock()
    for _ in range(5 * 60 // 5):
        rows.bench.clock.advance(5 * SECOND)
        if claims := rows.claim():
            probed.append((rows.bench.clock() - began, [claim.onboarding.id for claim in claims]))
            rows.answered(claims, provider, Kind.UNAUTHORIZED)
    assert [at for at, _ in probed] == [MINUTE * number for number in range(1, 6)]
    assert sorted(onboarding_id for _, ids in probed for onboarding_id in ids) == [row.id for row in due]


def test_the_only_one_that_is_due_is_probed_again(rows: Rows) -> None:
    due = _unhealthy(rows, Lane.UPLOAD, "btse", 3)
    for row in due[1:]:
        now = rows.bench.row(row)
        assert rows.store.commit(Change(now, replace(now, lane=None, due_at=None)))
    for _ in range(3):
        rows.bench.clock.advance(MINUTE)
        [claim] = rows.claim()
        assert claim.onboarding.id == due[0].id
        rows.answered([claim], "btse", Kind.UNAUTHORIZED)


def test_two_are_not_enough_and_a_success_between_starts_anew(rows: Rows) -> None:
    rows.add(Lane.UPLOAD, 2)
    rows.answered(rows.claim(), "btse", Kind.UNAUTHORIZED)
    rows.add(Lane.UPLOAD)
    rows.answered(rows.claim(), "btse", None)
    rows.add(Lane.UPLOAD, 2)
    rows.answered(rows.claim(), "btse", Kind.UNAUTHORIZED)
    health = rows.bench.context.schedule.health("btse")
    assert (health.unhealthy_since, len(health.unauthorized_ids)) == (None, 2)


def test_one_that_fails_three_times_makes_nobody_unhealthy(rows: Rows) -> None:
    rows.add(Lane.UPLOAD)
    for _ in range(4):
        rows.answered(rows.claim(), "btse", Kind.UNAUTHORIZED)
        rows.bench.clock.advance(MINUTE)
    assert rows.bench.context.schedule.health("btse").unhealthy_since is None


def test_one_providers_trouble_is_not_the_others(rows: Rows) -> None:
    _unhealthy(rows, Lane.UPLOAD, "btse")
    rows.add(Lane.CONFIRM, 3)
    rows.add(Lane.UPLOAD, 3)
    rows.add(Lane.LOCAL, 3, state=State.COLLECTING)
    assert lanes(rows.claim()) == {Lane.CONFIRM: 3, Lane.LOCAL: 3}


@pytest.mark.parametrize(("lane", "provider"), [(Lane.UPLOAD, "btse"), (Lane.SHARE, "osl")])
def test_the_first_success_heals_and_wakes_those_that_waited(rows: Rows, lane: Lane, provider: str) -> None:
    due = _unhealthy(rows, lane, provider)
    later = rows.add(lane, due_in=10 * MINUTE)
    rows.bench.clock.advance(MINUTE)
    probe = rows.claim()
    rows.answered(probe, provider, None)
    assert rows.bench.context.schedule.health(provider).unhealthy_since is None
    woken = {claim.onboarding.id for claim in rows.claim()}
    assert woken == {row.id for row in due} - {probe[0].onboarding.id}, "not those that wait for something else"
    assert later[0].id not in woken


def test_a_probe_for_which_there_is_no_slot_is_made_once_there_is_one(rows: Rows) -> None:
    _unhealthy(rows, Lane.SHARE, "osl")
    schedule, clock = rows.bench.context.schedule, rows.bench.clock
    clock.advance(MINUTE)
    taken = [schedule.take_slot(clock(), "doctor", clock() + 10 * SECOND) for _ in range(10)]
    assert None not in taken
    assert rows.claim() == []
    clock.advance(10 * SECOND)
    assert lanes(rows.claim()) == {Lane.SHARE: 1}


@pytest.mark.sqlite
@pytest.mark.parametrize(("lane", "provider"), [(Lane.UPLOAD, "btse"), (Lane.SHARE, "osl")])
def test_after_a_clock_was_set_back_an_unhealthy_provider_is_tried_at_once(
    rows: Rows, lane: Lane, provider: str
) -> None:
    """A wrong clock makes a provider refuse everybody; once it is right again, nobody waits for what it said."""
    clock = rows.bench.clock
    clock.advance(DAY)
    due = _unhealthy(rows, lane, provider)
    advance.beat(rows.bench.context, "wrk_1")
    assert rows.claim() == [], "that it is tried once a minute is no fault of the clock"
    clock.advance(-DAY)
    advance.beat(rows.bench.context, "wrk_1")
    [probe] = rows.claim()
    rows.answered([probe], provider, None)
    assert {claim.onboarding.id for claim in rows.claim()} == {row.id for row in due} - {probe.onboarding.id}


def test_a_transient_failure_of_a_probe_neither_heals_nor_hurts(rows: Rows) -> None:
    _unhealthy(rows, Lane.UPLOAD, "btse")
    rows.bench.clock.advance(MINUTE)
    rows.answered(rows.claim(), "btse", Kind.TRANSIENT)
    assert rows.bench.context.schedule.health("btse").unhealthy_since is not None
    rows.bench.clock.advance(MINUTE - 1)
    assert rows.claim() == []


def test_of_several_workers_one_makes_the_probe(rows: Rows) -> None:
    _unhealthy(rows, Lane.UPLOAD, "btse", 8)
    rows.bench.clock.advance(2 * MINUTE)
    claims: list[Claim] = []
    threads = [
        threading.Thread(target=lambda: claims.extend(advance.claim(rows.bench.open().context, MUCH))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(claims) == 1


def test_the_wait_for_a_probe_is_foretold(rows: Rows) -> None:
    _unhealthy(rows, Lane.UPLOAD, "btse")
    rows.add(Lane.UPLOAD)
    assert advance.next_due(rows.bench.context) == Due(rows.bench.clock() + MINUTE, None)


# Deliveries ----------------------------------------------------------------------------------------------------------


class Told:
    """Notifications of two onboardings."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.bench = rows.bench
        self.schedule = rows.bench.context.schedule
        self.users = rows.add(None, 2)

    def tell(self, user: int, *names: str) -> None:
        for name in names:
            row = self.bench.row(self.users[user])
            delivery = Delivery(
                f"dlv_{user}_{name}", row.id, 0, name, b"x", DeliveryStatus.PENDING, self.bench.clock(), None
            )
            assert self.rows.store.commit(Change(row, row, deliveries=[delivery]))

    def claim(self, lease: str = "lease", limit: int = 10) -> list[Delivery]:
        return self.schedule.claim_deliveries(self.bench.clock(), lease, self.bench.clock() + LEASE, limit)

    def settle(
        self,
        delivery: Delivery,
        lease: str = "lease",
        retry_in: int | None = None,
        *,
        ok: bool = True,
        then: str | None = None,
    ) -> Delivery | None:
        now = self.bench.clock()
        tried = replace(delivery, attempts=delivery.attempts + 1, due_at=None, delivered_at=now if ok else None)
        if retry_in is not None:
            tried = replace(tried, due_at=now + retry_in, delivered_at=None)
        else:
            tried = replace(tried, status=DeliveryStatus.DELIVERED if ok else DeliveryStatus.FAILED)
        return self.schedule.settle_delivery(tried, lease, now, next_lease=then, lease_until=now + LEASE)

    def due(self, user: int) -> list[str]:
        deliveries = self.rows.store.deliveries(self.users[user].id)
        return [delivery.type for delivery in deliveries if delivery.due_at is not None]


@pytest.fixture
def told(rows: Rows) -> Told:
    return Told(rows)


def test_of_one_onboarding_one_goes_out_at_a_time_in_order(told: Told) -> None:
    told.tell(0, "a", "b", "c")
    told.tell(1, "x", "y")
    order = []
    while claimed := told.claim():
        assert len({delivery.onboarding_id for delivery in claimed}) == len(claimed)
        order += [delivery.type for delivery in claimed]
        for delivery in claimed:
            told.settle(delivery)
    assert [name for name in order if name in "abc"] == ["a", "b", "c"]
    assert [name for name in order if name in "xy"] == ["x", "y"]


def test_the_next_waits_while_one_is_tried_again_and_goes_when_it_failed_for_good(told: Told) -> None:
    told.tell(0, "a", "b")
    [first] = told.claim()
    told.settle(first, retry_in=MINUTE)
    assert told.claim() == []
    told.bench.clock.advance(MINUTE)
    [again] = told.claim()
    assert (again.id, again.attempts) == (first.id, 1)
    told.settle(again, ok=False)
    assert [delivery.type for delivery in told.claim()] == ["b"]
    states = [delivery.status for delivery in told.rows.store.deliveries(told.users[0].id)]
    assert states == [DeliveryStatus.FAILED, DeliveryStatus.PENDING]


def test_a_lease_on_a_delivery_runs_out_too(told: Told) -> None:
    told.tell(0, "a", "b")
    [slow] = told.claim("slow")
    assert told.claim("fast") == []
    told.bench.clock.advance(LEASE)
    [fast] = told.claim("fast")
    assert fast.id == slow.id
    told.settle(slow, "slow")
    assert told.claim("other") == [], "the late one settles nothing, and the next one still waits"
    told.settle(fast, "fast")
    assert [delivery.type for delivery in told.claim("other")] == ["b"]


def test_what_was_leased_by_a_clock_that_was_set_back_is_worked_on_and_chores_are_done(told: Told) -> None:
    clock, schedule = told.bench.clock, told.schedule
    (row,) = told.rows.add(Lane.UPLOAD)
    told.tell(0, "a")
    clock.advance(20 * DAY)
    assert schedule.take_chore("purge", clock(), DAY)
    assert len(told.claim()) == len(told.rows.claim()) == 1
    clock.advance(-20 * DAY)
    assert advance.next_due(told.bench.context).first is not None
    assert [claim.onboarding.id for claim in told.rows.claim()] == [row.id]
    assert [delivery.type for delivery in told.claim("other")] == ["a"]
    assert told.rows.claim() == told.claim() == [], "they are leased for as long as ever"
    assert schedule.take_chore("purge", clock(), DAY)
    assert not schedule.take_chore("purge", clock(), DAY)
    clock.advance(DAY)
    assert schedule.take_chore("purge", clock(), DAY)


def test_who_settles_one_takes_the_next_that_is_due(told: Told) -> None:
    told.tell(0, "a", "b")
    told.tell(1, "x")
    assert advance.next_due(told.bench.context).delivery == told.bench.clock()
    [first] = told.claim("one", 1)
    order = [first.type]
    claimed, lease = first, "one"
    while (following := told.settle(claimed, lease, then=f"after-{claimed.type}")) is not None:
        claimed, lease = following, f"after-{claimed.type}"
        assert (claimed.lease, claimed.lease_until) == (lease, told.bench.clock() + LEASE)
        order.append(claimed.type)
    assert sorted(order) == ["a", "b", "x"]
    assert order.index("a") < order.index("b")
    assert advance.next_due(told.bench.context).delivery is None


def test_one_taken_with_the_last_ones_outcome_is_free_again_when_its_taker_dies(told: Told) -> None:
    told.tell(0, "a", "b")
    [first] = told.claim("one", 1)
    taken = told.settle(first, "one", then="two")
    assert taken is not None
    assert told.claim("other") == []
    told.bench.clock.advance(LEASE)
    assert [delivery.id for delivery in told.claim("other")] == [taken.id]


def test_who_lost_one_to_another_may_still_take_the_next(told: Told) -> None:
    told.tell(0, "a")
    told.tell(1, "x")
    [slow] = told.claim("slow", 1)
    told.bench.clock.advance(LEASE)
    assert {delivery.lease for delivery in told.claim("fast", 1)} == {"fast"}
    taken = told.settle(slow, "slow", then="slow-again")
    assert taken is not None
    assert taken.type == "x"
    assert [row.status for row in told.rows.store.deliveries(told.users[0].id)] == [DeliveryStatus.PENDING]


def test_a_late_settlement_puts_no_resent_one_beside_the_one_under_way(told: Told) -> None:
    told.tell(0, "a", "b")
    [first] = told.claim()
    told.settle(first)
    [slow] = told.claim("slow")
    assert told.schedule.resend_delivery(first.id, first.onboarding_id, told.bench.clock())
    told.bench.clock.advance(LEASE)
    [second] = told.claim("fast")
    told.settle(slow, "slow")
    assert told.due(0) == ["b"]
    told.settle(second, "fast")
    assert told.due(0) == ["a"]


def test_a_resent_one_waits_for_its_turn(told: Told) -> None:
    told.tell(0, "a")
    [first] = told.claim()
    told.settle(first)
    told.tell(0, "b")
    assert told.schedule.resend_delivery(first.id, first.onboarding_id, told.bench.clock())
    assert not told.schedule.resend_delivery(first.id, first.onboarding_id, told.bench.clock()), "it is in line"
    assert told.due(0) == ["b"]
    [second] = told.claim()
    told.settle(second)
    assert [(delivery.type, delivery.attempts) for delivery in told.claim()] == [("a", 0)]


def test_many_claimers_of_deliveries_get_each_once(told: Told) -> None:
    users = told.rows.add(None, 20)
    for row in users:
        delivery = Delivery(f"dlv_{row.id}", row.id, 0, "x", b"", DeliveryStatus.PENDING, 0, None)
        assert told.rows.store.commit(Change(told.bench.row(row), told.bench.row(row), deliveries=[delivery]))
    claimed: list[str] = []

    def work(name: str) -> None:
        while found := told.claim(name, 3):
            claimed.extend(delivery.id for delivery in found)

    threads = [threading.Thread(target=work, args=(f"lease-{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(claimed) == len(set(claimed)) == 20


# Workers -------------------------------------------------------------------------------------------------------------


def test_a_worker_is_seen_until_it_stops_or_falls_silent(bench: Bench) -> None:
    assert bench.context.schedule.last_beat() is None
    advance.beat(bench.context, "wrk_1")
    bench.clock.advance(SECOND)
    advance.beat(bench.context, "wrk_2")
    assert bench.context.schedule.last_beat() == bench.clock()
    advance.stop(bench.context, "wrk_2")
    assert bench.context.schedule.last_beat() == bench.clock() - SECOND
    bench.clock.advance(10 * MINUTE)
    advance.beat(bench.context, "wrk_3")
    advance.stop(bench.context, "wrk_3")
    assert bench.context.schedule.last_beat() is None, "the silent one is forgotten"
