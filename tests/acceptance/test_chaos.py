"""Processes die at random, and nothing is lost, told twice, told out of order or shared again."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest

from tests import figures
from tests.fleet import Fleet, Journey
from tests.installation import SHORT, Installation
from tests.postgres_server import PostgresServer

SETTINGS = {
    "ORCHESTRATOR_PROVIDER_DEADLINE_SECONDS": "2",
    # Longer than the webs can be away: a REJECT that no webhook explains twice is a person's to look at.
    "CALLBACK_PATIENCE_SECONDS": "15",
    "OSL_REQUESTS_PER_SECOND": "10",
}


def a_site(folder: Path, **settings: str) -> Installation:
    """An installation whose sandbox counts OSL Pay's requests a second; nothing of it runs yet but the sandbox."""
    site = Installation(folder, timings=SHORT, settings=SETTINGS | settings, sandbox={"rate": 10, "pace": 1.0})
    site.command("migrate")
    site.start_sandbox()
    site.make_token()
    return site


def seeded() -> random.Random:
    """Dice whose seed is printed, for who wants to see the same order of deaths again."""
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")
    return random.Random(seed)


def the_budget_was_kept(site: Installation) -> None:
    assert site.sandbox
    summary = site.sandbox.summary()
    assert summary["mostOslRequestsInASecond"] <= 10
    assert summary["rateViolations"] == 0


def note(run: str, journey: Journey, began: float) -> None:
    ledger = journey.crowd.ledger
    figures.add(
        run,
        seconds=round(time.monotonic() - began),
        signups=len(ledger.passengers),
        documents=sum(each.documents for each in ledger.passengers),
        webhooks=sum(ledger.webhooks.values()),
        kills=journey.fleet.kills.total(),
        faults=ledger.faults.total(),
        cut=ledger.broken,
        lost=len(journey.lost()),
        shares=len(journey.shares()),
        beyond=journey.shares_beyond(),
        server_errors=ledger.server_errors,
    )


@pytest.mark.parametrize("users", [40, pytest.param(300, marks=pytest.mark.soak)])
def test_users_get_through_while_each_second_one_of_six_processes_on_postgresql_is_killed(
    postgres_server: PostgresServer, tmp_path: Path, users: int
) -> None:
    with a_site(tmp_path, ORCHESTRATOR_DATABASE_URL=postgres_server.new_database()) as site:
        dice, began = seeded(), time.monotonic()
        fleet = Fleet(site, webs=3, workers=3, dice=dice)
        fleet.start()
        journey = Journey(site, fleet, dice, at_once=60, shareToken="a-token")
        journey.run(users)
        if users > 40:
            note("PostgreSQL", journey, began)
        journey.check()
        the_budget_was_kept(site)
        assert journey.crowd.ledger.server_errors == 0
        assert journey.fleet.kills.total() >= 5


@pytest.mark.soak
def test_nothing_is_lost_on_sqlite_in_ten_minutes_of_deaths_and_faults(tmp_path: Path) -> None:
    with a_site(tmp_path) as site:
        dice, began = seeded(), time.monotonic()
        fleet = Fleet(site, webs=2, workers=2, dice=dice)
        fleet.start()
        journey = Journey(site, fleet, dice, at_once=40, deadly=0.4, faulty=True)
        site.merchant.answer = lambda kind, data: 500 if dice.random() < 0.1 else 204
        journey.run(seconds=float(os.environ.get("SOAK_SECONDS", "600")))
        note("SQLite", journey, began)
        journey.check()
        the_budget_was_kept(site)
        assert journey.crowd.ledger.server_errors == 0
