"""Every story of the sandbox to its end, all at once on one installation of real processes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.installation import Installation, User, rebuilt
from tests.leaks import PERSONAL, Watched, provoke
from tests.waiting import until

Verdicts = list[tuple[str, int]]

SUBMITTED = ("submitted", "collecting", 1)
APPROVED = ("approved", "awaiting_callback", 1)


@dataclass(frozen=True)
class Ending:
    """How a story must end.

    `verdicts`: each way that they may be. `told`: type, previousState and round of each notification. `shares`,
    `btse`: calls acted upon. `failures`: calls to a provider that were not, at least; None: any number.
    """

    state: str
    verdicts: tuple[Verdicts, ...]
    told: tuple[tuple[str, str, int], ...]
    round: int = 1
    shares: int = 1
    btse: int = 1
    uploads: int = 2
    queries: tuple[int, int] = (1, 1)
    failures: int | None = 0

    def fits(self, row: dict[str, Any], verdicts: Verdicts) -> bool:
        return (row["state"], row["round"]) == (self.state, self.round) and verdicts in self.verdicts


ONE, TWO = [("applied", 1)], [("applied", 1), ("applied", 1)]
AGAIN = (
    SUBMITTED,
    ("resubmission_required", "awaiting_callback", 2),
    ("submitted", "collecting", 2),
    ("approved", "awaiting_callback", 2),
)
STORIES = {
    "pass": Ending("approved", (TWO,), (SUBMITTED, APPROVED), uploads=3),
    "review": Ending(
        "approved",
        (TWO,),
        (SUBMITTED, ("in_review", "awaiting_callback", 1), ("approved", "in_review", 1)),
        uploads=3,
    ),
    "reject": Ending("approved", (TWO,), AGAIN, round=2, shares=2, btse=2, queries=(2, 2)),
    "final": Ending("rejected", (ONE,), (SUBMITTED, ("rejected", "awaiting_callback", 1))),
    "silent": Ending("approved", ([],), (SUBMITTED, APPROVED), queries=(1, 1)),
    "early": Ending("approved", (ONE,), (SUBMITTED, APPROVED)),
    "late": Ending("approved", ([("stale", 1)],), (SUBMITTED, APPROVED)),
    "lag": Ending("approved", (ONE,), (SUBMITTED, APPROVED), queries=(2, 4)),
    "duplicate": Ending("approved", ([("applied", 5)],), (SUBMITTED, APPROVED)),
    "reorder": Ending(
        "approved", ([("applied", 1), ("superseded", 1)], [("applied", 1), ("ignored", 1)]), (SUBMITTED, APPROVED)
    ),
    "overturn": Ending(
        "approved",
        ([("applied", 1), ("outdated", 1)],),
        (SUBMITTED, ("resubmission_required", "awaiting_callback", 2), ("approved", "collecting", 2)),
        round=2,
        queries=(2, 2),
    ),
    "forged": Ending(
        "rejected",
        ([("superseded", 1), ("applied", 1)], [("contradicted", 1), ("applied", 1)]),
        (SUBMITTED, ("rejected", "awaiting_callback", 1)),
        queries=(2, 4),
    ),
    "flaky": Ending("approved", (TWO,), (SUBMITTED, APPROVED), failures=6),
    "down": Ending(
        "needs_attention",
        ([],),
        (SUBMITTED, ("needs_attention", "uploading", 1)),
        shares=0,
        btse=0,
        uploads=0,
        queries=(0, 0),
        failures=None,
    ),
    "refused": Ending(
        "needs_attention",
        ([],),
        (SUBMITTED, ("needs_attention", "uploading", 1)),
        shares=0,
        btse=0,
        uploads=0,
        queries=(0, 0),
        failures=1,
    ),
    "declined": Ending(
        "needs_attention",
        ([],),
        (SUBMITTED, ("needs_attention", "sharing", 1)),
        shares=0,
        queries=(0, 0),
        failures=1,
    ),
}
UNSHORTENED = ("pass", "lag")


def play(folder: Path) -> dict[str, Any]:
    """All stories with short waits and, beside them, two with the product's own waits; what was seen of each."""
    temporary = folder / "tmp"
    temporary.mkdir()
    quick = {
        "CALLBACK_PATIENCE_SECONDS": "5",
        "RETRY_HORIZON_HOURS": "0.0017",
        "TMPDIR": str(temporary),
        "GUNICORN_CMD_ARGS": "--access-logfile -",
    }
    with (
        Installation(folder / "short", settings=quick) as short,
        Installation(folder / "real", timings={}, sandbox={"pace": 1.0, "lag_seconds": 20.0, "rate": 10}) as real,
    ):
        short.start()
        real.start()
        with Watched(short, temporary) as watched:
            users = {story: real.begin(story) for story in UNSHORTENED}
            known = _users(short, tuple(STORIES))
            seen = _played(short, known)
            collecting = short.collect("silent", **PERSONAL)
            refusals = provoke(short, collecting, known["silent"])
        seen["logs"]["web"] = short.log("web")
        seen["leaks"] = watched.leaks([*known.values(), collecting], refusals)
        return {"short": seen, "real": _played(real, users)}


def _users(site: Installation, stories: tuple[str, ...]) -> dict[str, User]:
    with_back = ("pass", "review")
    return {
        story: site.begin(story, idType="ID_CARD" if story in with_back else "PASSPORT", **PERSONAL)
        for story in stories
    }


def _played(site: Installation, users: dict[str, User]) -> dict[str, Any]:
    """Waits for all to end as they must, or for the time to run out: the tests say what is wrong then."""
    resubmitted = set()

    def all_ended() -> bool:
        for story, user in users.items():
            row = site.onboarding(user)
            if story == "reject" and row["state"] == "collecting" and row["round"] == 2 and story not in resubmitted:
                resubmitted.add(story)
                site.submit(user)
            assert STORIES[story].fits(row, site.verdicts(user)), f"{story} is {row['state']}, round {row['round']}"
            told = len(site.merchant.told(user.name))
            assert told == len(STORIES[story].told), f"{story}: told {told} times"
        return True

    with suppress(AssertionError):
        until(all_ended, 75, every=0.1)
    assert site.sandbox
    audit = site.command("audit", "verify", expect=None)
    return {
        "stories": {story: _seen(site, user) for story, user in users.items()},
        "audit": {"status": audit.returncode, "said": audit.stdout},
        "faults": site.merchant.faults,
        "logs": {name: site.log(name) for name in ("web", "worker")},
    }


def _seen(site: Installation, user: User) -> dict[str, Any]:
    told = [(notice.type, notice.data) for notice in site.merchant.told(user.name)]
    calls = {operation: site.calls(user, operation) for operation in ("btse.upload", "osl.share", "osl.status")}
    return {
        "row": site.onboarding(user),
        "transitions": site.items(user, "transitions"),
        "deliveries": site.items(user, "deliveries"),
        "verdicts": site.verdicts(user),
        "told": told,
        "calls": {operation: [call["acted"] for call in found] for operation, found in calls.items()},
        "uploads": [call["acted"] for call in site.uploads(user)],
        "shares": site.shares(user),
    }


@pytest.fixture(scope="module")
def shows(once: Callable[[str, Callable[[], Any]], Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    played: dict[str, Any] = once("stories", lambda: play(tmp_path_factory.mktemp("stories")))
    return played


@pytest.fixture(params=[*STORIES, *(f"{story}-unshortened" for story in UNSHORTENED)])
def scene(request: pytest.FixtureRequest, shows: dict[str, Any]) -> tuple[Ending, dict[str, Any]]:
    """What must be, and what was, of one story."""
    story, _, unshortened = request.param.partition("-")
    ending = STORIES[story]
    if unshortened:
        ending = Ending(ending.state, ending.verdicts, ending.told, queries=(1, 3))
    return ending, shows["real" if unshortened else "short"]["stories"][story]


Scene = tuple[Ending, dict[str, Any]]


def test_a_story_ends_in_its_state_and_round_with_its_verdicts(scene: Scene) -> None:
    ending, seen = scene
    assert (seen["row"]["state"], seen["row"]["round"]) == (ending.state, ending.round)
    verdicts = [(verdict, times) for verdict, times in seen["verdicts"]]
    assert verdicts in ending.verdicts
    assert (seen["row"]["lastError"] is None) == (ending.state != "needs_attention")


def test_a_story_shares_exactly_once_a_round_and_uploads_each_file_once(scene: Scene) -> None:
    ending, seen = scene
    assert seen["shares"] == [1] * ending.shares
    assert seen["calls"]["osl.share"].count(True) == ending.shares
    assert seen["calls"]["btse.upload"].count(True) == ending.btse
    assert seen["uploads"] == [True] * ending.uploads
    least, most = ending.queries
    assert least <= seen["calls"]["osl.status"].count(True) <= most
    failures = [acted for calls in seen["calls"].values() for acted in calls if not acted]
    if ending.failures is None:
        assert len(failures) >= 3
    else:
        assert len(failures) == ending.failures


def test_the_merchant_is_told_of_a_story_in_order(scene: Scene) -> None:
    ending, seen = scene
    told = [(kind.removeprefix("onboarding."), data["previousState"], data["round"]) for kind, data in seen["told"]]
    assert told == list(ending.told)
    assert [row["type"] for row in seen["deliveries"]] == [kind for kind, _ in seen["told"]]
    assert {row["status"] for row in seen["deliveries"]} == {"delivered"}
    assert all(data["id"] == seen["row"]["id"] for _, data in seen["told"])
    assert seen["told"][-1][1]["state"] == ending.state


def test_the_state_of_a_story_can_be_rebuilt_from_its_transitions(scene: Scene) -> None:
    _, seen = scene
    assert rebuilt(seen["transitions"]) == (seen["row"]["state"], seen["row"]["round"])


def test_the_user_hears_why_and_never_reads_a_profile_value(shows: dict[str, Any]) -> None:
    final = shows["short"]["stories"]["final"]
    assert final["row"]["reason"] == "The document <idNumber> of <firstName> <lastName> is not legible"
    assert final["told"][-1][1]["reason"] == final["row"]["reason"]
    assert shows["short"]["stories"]["pass"]["row"]["reason"] is None


@pytest.mark.parametrize("waits", ["short", "real"])
def test_every_chain_is_whole_and_every_notification_verified(shows: dict[str, Any], waits: str) -> None:
    assert shows[waits]["audit"] == {"status": 0, "said": "every chain is whole\n"}
    assert shows[waits]["faults"] == []


@pytest.mark.parametrize("waits", ["short", "real"])
def test_the_logs_tell_of_no_crash_and_hold_no_personal_data(shows: dict[str, Any], waits: str) -> None:
    for log in shows[waits]["logs"].values():
        for word in ("Traceback", "crashed", "step_unfinished", "lease_lost", "@example.com", "K00000", "whsec_"):
            assert word not in log


@pytest.mark.parametrize(
    "place",
    ["database", "documents", "files while they were written", "logs", "errors", "notifications"],
)
def test_nothing_personal_and_no_secret_stands_anywhere_in_the_clear(shows: dict[str, Any], place: str) -> None:
    leaks = shows["short"]["leaks"]
    assert leaks["found"][place] == []
    assert leaks["sizes"][place] > 1_000, "there was something to look at"


@pytest.mark.sqlite
def test_nothing_personal_and_no_secret_stands_in_the_write_ahead_log(shows: dict[str, Any]) -> None:
    leaks = shows["short"]["leaks"]
    assert leaks["found"]["write-ahead log"] == []
    assert leaks["sizes"]["write-ahead log"] > 1_000, "there was something to look at"


def test_whoever_looks_for_secrets_finds_those_that_are_there(shows: dict[str, Any]) -> None:
    leaks = shows["short"]["leaks"]
    assert {what.split(" as ")[0] for what in leaks["found"]["what the sandbox received"]} >= {
        "name",
        "email",
        "id number",
        "callback token",
    }
    assert leaks["needles"] > 800
    assert any("wgunicorn" in name for name in leaks["watched"]), "temporary files were seen, unlinked ones too"
    assert any("/documents/onb_" in name for name in leaks["watched"])


def test_an_access_log_that_is_switched_on_tells_of_no_link(shows: dict[str, Any]) -> None:
    log = shows["short"]["logs"]["web"]
    assert '"POST /callbacks/oslpay/... HTTP/1.1" 200' in log
    assert '"GET /u/... HTTP/1.1" 200' in log
    assert '"GET /api/v1/onboardings HTTP/1.1" 200' in log
    assert "?" not in "".join(line for line in log.splitlines() if "HTTP/1.1" in line)
