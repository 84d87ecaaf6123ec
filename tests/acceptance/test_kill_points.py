"""`kill -9` right before and right after every write of the worker and of the web process, in one installation.

Each user comes to a kill point of their own and waits there; when all have, the process is killed: one kill that meets
everybody at once. Then it is started again, what was asked and not answered is asked again, and all is compared with
the matrix; also without any kill, and around a share in the second round and with a status query that lags.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.installation import SHORT, Installation, User, http, rebuilt
from tests.kill_matrix import (
    FILE,
    IN_ROUND_2,
    PROVIDED,
    QUESTION,
    SHARE,
    SHARES,
    TRY,
    UPLOAD,
    WEB_WRITES,
    Asked,
    Provided,
)
from tests.kill_points import AFTER, BEFORE, KILLS, arm, has_died, nameless
from tests.launch import AHEAD
from tests.sandbox_process import SandboxProcess
from tests.signups import documents, signup_data
from tests.waiting import until

# OSL Pay is asked about a lost share 0.4 s, 2.4 s and 5 s after the loss is found: scaled down from the product's 5 s,
# 30 s and 2 min, as is the lag of the status query from 20 s: longer than until the first question, shorter than until
# the second.
TIMINGS = {**SHORT, "lost_questions": [400, 2_400, 5_000], "contradictions": [300, 600, 900, 1_200]}
LAG = 2.2
# Nobody's lease runs out before everybody is where they are to be killed. The worker that comes after looks at
# a clock that is a lease ahead, and so finds all leases over.
DEADLINE = 40
LEASE_MS = DEADLINE * 1_000 + SHORT["lease_margin"] + 500
SETTINGS = {
    "CALLBACK_PATIENCE_SECONDS": "1",
    "RETRY_HORIZON_HOURS": "1",
    "ORCHESTRATOR_PROVIDER_DEADLINE_SECONDS": str(DEADLINE),
}
SIDES = (BEFORE, AFTER)
NEVER = "never"
TWO_HOURS = 7_200_000


@dataclass
class Case:
    """One user (or nobody) at one point. `lag`: the status query lags; `answers`: the statuses of what was asked."""

    row: Provided | Asked
    side: str
    number: int = 1
    lag: bool = False
    user: User | None = None
    whose: str = ""
    ask: Callable[[], int | None] = lambda: None
    first: Future[Any] | None = None
    answers: list[int | None] = field(default_factory=list)

    @property
    def name(self) -> str:
        lag = ", lagging" if self.lag else ""
        return f"{self.side} {self.row.name}" + (f" (round {self.number}{lag})" if self.number > 1 or lag else "")

    @property
    def point(self) -> tuple[str, str, str]:
        return self.side, self.row.name, self.whose or (self.user.name if self.user else "")


class Play:
    """An installation in which everybody is killed once."""

    def __init__(self, site: Installation, pool: ThreadPoolExecutor) -> None:
        self.site, self.pool = site, pool
        self.kills = site.folder / "kills"
        assert site.sandbox
        self.sandbox = site.sandbox

    # The worker ----------------------------------------------------------------------------------------------

    def collect(self, cases: Sequence[Case]) -> None:
        """Sign everybody up, with their documents, and carry the later rounds to where theirs begins."""
        for case, user in zip(cases, self.pool.map(self._collected, cases), strict=True):
            case.user = user
            case.whose = user.id
        later = [case.user for case in cases if case.number > 1 and case.user]
        for user in later:
            self.site.submit(user)
        for user in later:
            self.site.wait_for(user, "collecting", number=2)
            self.site.wait_until_told(user, "submitted", "resubmission_required")
        for case in cases:
            if isinstance(case.row, Provided):
                self._arrange(case, case.row.scene)

    def _collected(self, case: Case) -> User:
        assert isinstance(case.row, Provided)
        return self.site.collect("reject" if case.number > 1 else case.row.story)

    def _arrange(self, case: Case, scene: str) -> None:
        assert case.user
        name = case.user.name
        if case.lag:
            self.sandbox.status_lag(LAG, name)
        if scene.startswith("lost"):
            # The webhook of a second round's share would be a proof before any question: there it never arrives.
            unseen = "not seen" in scene
            self.sandbox.fault("osl.share", name, reset="before" if unseen and case.number > 1 else "after")
            if unseen and case.number == 1 and not case.lag:
                self.sandbox.pin_status(name, None)
        elif scene == "never arrived":
            self.sandbox.fault("osl.share", name, reset="before")
        elif scene == "doubted":
            self.sandbox.pin_status(name, "PROCESS")
            self.sandbox.fault("osl.status", name, code="00002")
        elif scene == "two claims":
            self.sandbox.fault("osl.status", name, hangBefore=1.5)
            self.sandbox.pin_status(name, "PASS")
        elif scene:
            self.sandbox.pin_status(name, scene.split(" ", maxsplit=1)[0])

    def provoke(self, cases: Sequence[Case]) -> None:
        """Submit, and for some what must happen besides."""
        for _ in self.pool.map(lambda case: self.site.submit(case.user), cases):
            pass
        for case in cases:
            if isinstance(case.row, Provided) and case.row.scene in ("doubted", "two claims"):
                case.first = self.pool.submit(self._besides, case, case.row.scene)

    def _besides(self, case: Case, scene: str) -> None:
        assert case.user
        if scene == "doubted":
            self.site.wait_for(case.user, "needs_attention")
            self.webhook(case.user, "PASS", timestamp=_now() - TWO_HOURS)
            return
        until(lambda: self.site.shares(case.user) == [1], every=0.01)
        self.webhook(case.user, "PASS")
        until(lambda: self.site.calls(case.user, "osl.status"), every=0.02)
        self.webhook(case.user, "PASS")

    def kill_worker(self, cases: Sequence[Case]) -> None:
        """Wait until everybody is at their point and the worker dead; then its lever is let go."""
        until(lambda: has_died(self.kills, "worker"), 60)
        for case in cases:
            if case.first is not None:
                case.first.result()
        self.site.kill_worker()

    def let_go(self, cases: Sequence[Case]) -> None:
        """OSL Pay answers by the story again, where that is how it goes on."""
        for case in cases:
            if isinstance(case.row, Provided) and case.row.scene in ("PROCESS", "REJECT", "lost, not seen"):
                assert case.user
                self.sandbox.unpin_status(case.user.name)

    def webhook(self, user: User, status: str, **how: Any) -> int | None:
        """OSL Pay's webhook about a user, and the status that it was answered with."""
        mine = SandboxProcess(self.sandbox.process, self.sandbox.url)
        found: int | None = mine.send_webhook(**{"merchantUserId": user.name, "kycStatus": status, **how})["status"]
        return found

    # The web process -----------------------------------------------------------------------------------------

    def prepare(self, cases: Sequence[Case]) -> None:
        """Bring everybody who will be asked for to where the request finds them."""
        scenes = [case.row.scene for case in cases]
        for case, user in zip(cases, self.pool.map(self._found, scenes), strict=True):
            case.user, case.whose = user, user.id if user else ""
        for case in cases:
            if case.user and case.row.scene.startswith("waiting"):
                self.sandbox.pin_status(case.user.name, "PROCESS")
            elif case.user and case.row.scene == "shared and parked":
                self.sandbox.fault("osl.status", case.user.name, code="00002")
            elif case.user and case.row.scene == "sharing":
                self.sandbox.fault("osl.share", case.user.name, times=None, status=503)
        submitted = [case for case in cases if case.user and not case.row.scene.startswith("collected")]
        for _ in self.pool.map(lambda case: self.site.submit(case.user), submitted):
            pass
        for case in submitted:
            parked = dict.fromkeys(("refused", "declined"), "needs_attention")
            waits = {**parked, "shared and parked": "needs_attention", "sharing": "sharing"}
            assert case.user
            self.site.wait_for(case.user, waits.get(case.row.scene, "awaiting_callback"))
            if case.row.scene == "sharing":
                until(lambda case=case: self.site.calls(case.user, "osl.share"))
            if case.row.name in ("resend_delivery", "retried", "submitted_unchanged"):
                self.site.wait_until_told(case.user, "submitted", "needs_attention")

    def _found(self, scene: str) -> User | None:
        if scene.split(",", maxsplit=1)[0] in ("new", "wide", "anyone", "signed in", "signed out"):
            return None
        return self.site.collect(next((story for story in ("refused", "declined") if story in scene), "silent"))

    def _asking(self, case: Case) -> Callable[[], int | None]:
        """What is asked, and asked again, in one case."""
        row, user, site = case.row, case.user, self.site
        if user is None:
            return self._asking_of_nobody(case)
        path = f"onboardings/{user.id}"
        if row.name.startswith("callback_") or row.name == "count_again":
            return self._telling(case, user)
        if row.name == "remember_signup":
            data, webhook_id = signup_data("silent", 0) | {"merchantUserId": user.name}, f"again-{user.id}"
            return lambda: site.post_signup(data, webhook_id).status_code
        if row.name == "retried_changed":
            site.call("PATCH", f"{path}/profile", json={"occupation": "Retired"})
        if row.name in ("hurried", "revealed"):
            cookies, form = self._signed_in()
            page = f"{site.url}/status/onboardings/{user.id}/{'hurry' if row.name == 'hurried' else 'reveal'}"
            return lambda: http("POST", page, data=form, cookies=cookies).status_code
        file, _ = documents("PASSPORT")["selfie"]
        method, where, how = {
            "profile_patched": ("PATCH", f"{path}/profile", {"json": {"occupation": "Student"}}),
            "file_written": ("PUT", f"{path}/documents/amlReport", {"data": file}),
            "document_put": ("PUT", f"{path}/documents/amlReport", {"data": file}),
            "document_removed": ("DELETE", f"{path}/documents/selfie", {}),
            "file_removed": ("PUT", f"{path}/documents/selfie", {"data": file}),
            "link_renewed": ("POST", f"{path}/link", {}),
            "retried": ("POST", f"{path}/retry", {}),
            "retried_changed": ("POST", f"{path}/retry", {}),
            "resubmission_asked": ("POST", f"{path}/resubmission", {"json": {"reason": "the picture is blurred"}}),
            "cancel_asked": ("POST", f"{path}/cancel", {}),
        }.get(row.name, ("POST", f"{path}/submit", {}))
        if row.name == "resend_delivery":
            where = f"deliveries/{site.items(user, 'deliveries')[0]['id']}/resend"
        return lambda: site.answer(method, where, **how).status_code

    def _telling(self, case: Case, user: User) -> Callable[[], int | None]:
        """A webhook, always the same."""
        how: dict[str, Any] = {"timestamp": _now()}
        status = {"callback_doubted": "PASS", "callback_kept": "ON_HOLD", "callback_early": "PASS"}.get(
            case.row.name, case.row.name.removeprefix("callback_").upper()
        )
        if case.row.name == "callback_doubted":
            how["timestamp"] -= TWO_HOURS
        elif case.row.name == "callback_early":
            how["url"] = self.site.calls(user, "osl.share")[-1]["fields"]["callbackUrl"]
            self.sandbox.pin_status(user.name, "PASS")
        elif case.row.name == "callback_counted":
            for number in range(10):
                assert self.webhook(user, "PASS", **self._forged(user, number)) == 401
            how = self._forged(user, 10)
        elif case.row.name == "count_again":
            status = "PROCESS"
            assert self.webhook(user, status, **how) == 200
            case.whose = self.site.items(user, "callbacks")[0]["id"]
        elif case.row.name != "callback_kept" and status not in ("PROCESS", "REVIEW"):
            self.sandbox.pin_status(user.name, status)
        return lambda: self.webhook(user, status, **how)

    def _forged(self, user: User, number: int) -> dict[str, Any]:
        data = {"merchantUserId": user.name, "userId": f"other-{number}", "kycStatus": "PASS"}
        return {"body": {"type": "kyc_status_change", "data": data}, "timestamp": _now() + number}

    def _asking_of_nobody(self, case: Case) -> Callable[[], int | None]:
        site, name = self.site, case.row.name
        if name == "signed_up":
            data, webhook_id = signup_data("silent", 90_000 + SIDES.index(case.side)), f"new-{case.side}"
            case.whose = data["merchantUserId"]
            case.user = User("silent", case.whose, "", "PASSPORT")
            return lambda: site.post_signup(data, webhook_id).status_code
        if case.row.scene == "wide":
            body = {"type": "kyc_status_change", "data": {"userId": f"nobody-{case.side}", "kycStatus": "PASS"}}
            how = {"url": f"{site.url}/callbacks/oslpay", "body": body, "timestamp": _now()}
            sandbox = SandboxProcess(self.sandbox.process, self.sandbox.url)
            return lambda: sandbox.send_webhook(**how)["status"]
        if name == "check_writable":
            return lambda: site.get("/readyz").status_code
        token = "orc_wrong" if name == "add_login_failure" else site.token
        if case.row.scene == "signed out":
            return lambda: http("POST", f"{site.url}/login", data={"token": token}).status_code
        return self._as_signed_in(case)

    def _signed_in(self) -> tuple[dict[str, str], dict[str, str]]:
        """The cookie of a browser that has signed in, and what its forms must hold."""
        answer = http("POST", f"{self.site.url}/login", data={"token": self.site.token})
        cookies = {"orchestrator": answer.cookies["orchestrator"]}
        page = http("GET", f"{self.site.url}/status", cookies=cookies).text
        found = re.search(r'name="csrf" value="([0-9a-f]{64})"', page)
        assert found
        return cookies, {"csrf": found[1]}

    def _as_signed_in(self, case: Case) -> Callable[[], int | None]:
        site = self.site
        cookies, form = self._signed_in()
        case.whose = hashlib.sha256(cookies["orchestrator"].encode()).hexdigest()
        if case.row.name == "remove_session":
            return lambda: http("POST", f"{site.url}/logout", data=form, cookies=cookies).status_code
        # That a session is in use is noted once a minute.
        site.change("update sessions set seen_at = seen_at - 61000 where hash = :hash", hash=case.whose)
        return lambda: http("GET", f"{site.url}/status", cookies=cookies).status_code

    def kill_web(self, cases: Sequence[Case]) -> None:
        """Ask everything at once, kill the process when all are at their points, and ask again."""
        for case in cases:
            case.ask = self._asking(case)
        if not cases:
            return
        arm(self.kills, "web", [case.point for case in cases])
        for case in cases:
            case.first = self.pool.submit(self._answer, case)
        until(lambda: has_died(self.kills, "web"), 60)
        assert [case.name for case in cases if case.first and case.first.result() is not None] == []
        self.site.wait_for_web()
        for case, status in zip(cases, self.pool.map(self._answer, cases), strict=True):
            case.answers.append(status)

    def _answer(self, case: Case) -> int | None:
        try:
            return case.ask()
        except requests.RequestException:
            return None

    # The end -------------------------------------------------------------------------------------------------

    def is_over(self, case: Case) -> bool:
        """Whether this user is where they must be in the end, and the merchant knows all of it."""
        if case.user is None or (row := self._row(case.user)) is None:
            return case.user is None
        end = (row["state"], row["round"])
        wanted = _end(case)
        assert end == wanted, f"{case.name}: {end} ({row['lastError']}), not {wanted}"
        told = [notice.id for notice in self.site.merchant.told(case.user.name)]
        assert told == [item["id"] for item in self.site.items(case.user, "deliveries")], (
            f"{case.name}: told {len(told)}"
        )
        return True

    def seen(self, case: Case) -> dict[str, Any]:
        """All that can be seen of a case in the end."""
        found: dict[str, Any] = {"answers": case.answers}
        user = case.user
        if user is None or (row := self._row(user)) is None:
            return found
        calls = {name: self.site.calls(user, f"{name}") for name in ("btse.upload", "osl.share", "osl.status")}
        files = Counter(call["files"][0]["sha256"] for call in self.site.uploads(user))
        notices = self.site.merchant.arrived(user.name)
        return found | {
            "end": [row["state"], row["round"]],
            "rebuilt": rebuilt(self.site.items(user, "transitions")),
            "calls": {
                UPLOAD: len(calls["btse.upload"]),
                FILE: files.total(),
                SHARE: len(calls["osl.share"]),
                QUESTION: len(calls["osl.status"]),
                TRY: len(notices),
            },
            "often": max(files.values(), default=0),
            "shares": self.site.shares(user),
            "told": [notice.type.removeprefix("onboarding.") for notice in self.site.merchant.told(user.name)],
            "seen": [row["seen"] for row in self.site.items(user, "callbacks")],
        }

    def _row(self, user: User) -> dict[str, Any] | None:
        found = self.site.call("GET", "onboardings", params={"q": user.name}).json()["items"]
        if found and not user.id:
            object.__setattr__(user, "id", found[0]["id"])
        return found[0] if found else None

    def files(self) -> dict[str, list[str]]:
        """Where documents are by their rows, and what is in the folder once a purge has looked, a day later."""
        folder = self.site.folder / "documents"
        for path in folder.glob("*/*"):
            os.utime(path, (time.time() - 200_000,) * 2)
        self.site.command("purge")
        named = [row["location"] for row in self.site.rows("select location from documents")]
        return {"rows": sorted(named), "files": sorted(str(path.relative_to(folder)) for path in folder.glob("*/*"))}


def _now() -> int:
    return time.time_ns() // 1_000_000


def _end(case: Case) -> tuple[str, int] | None:
    if case.number > 1:
        return "approved", 2
    return case.row.end


def play(folder: Path, provided: Sequence[Case], asked: Sequence[Case]) -> dict[str, Any]:
    """All of these cases in one installation; what was seen of each."""
    kills = folder / "kills"
    settings = {**SETTINGS, KILLS: str(kills)}
    how: dict[str, Any] = {"timings": TIMINGS, "settings": settings, "sandbox": {"lag_seconds": 0.5}}
    with (
        Installation(folder, **how, web_workers=1, web_threads=100, worker_threads=160) as site,
        ThreadPoolExecutor(120) as pool,
    ):
        site.start()
        drama = Play(site, pool)
        drama.collect(provided)
        drama.prepare(asked)
        points = [case.point for case in provided if case.side != NEVER]
        if points:
            arm(kills, "worker", points)
        drama.provoke(provided)
        if points:
            drama.kill_worker(provided)
            drama.kill_web(asked)
            drama.let_go(provided)
            _let_leases_run_out(drama)
            site.start_worker()
        cases = [*provided, *asked]
        waiting = list(cases)

        def all_over() -> bool:
            while waiting:
                _go_on(drama, waiting)
                drama.is_over(waiting[-1])
                waiting.pop()
            return True

        with suppress(AssertionError):
            until(all_over, 60, every=0.2)
        seen = {case.name: drama.seen(case) for case in cases}
        audit = site.command("audit", "verify", expect=None).stdout
        return {
            "seen": seen,
            "audit": audit,
            "faults": site.merchant.faults,
            "nameless": nameless(kills),
            "files": drama.files(),
        }


def _let_leases_run_out(drama: Play) -> None:
    """Time passes: on SQLite for the service and the sandbox; what a PostgreSQL's clock leased is moved back."""
    if drama.site.server is None:
        drama.sandbox.clock_offset(LEASE_MS)
        drama.site.environ[AHEAD] = str(LEASE_MS)
        return
    for table in ("onboardings", "deliveries"):
        drama.site.change(f"update {table} set lease_until = lease_until - :passed", passed=LEASE_MS)
    drama.site.change("update slots set free_at = free_at - :passed", passed=LEASE_MS)


def _go_on(drama: Play, waiting: Sequence[Case]) -> None:
    """The user who was asked to submit again does so; a review comes to its end."""
    for case in waiting:
        if case.row.scene == "REVIEW" and case.user and drama.site.onboarding(case.user)["state"] == "in_review":
            drama.sandbox.unpin_status(case.user.name)
        if case.row.name == "confirmed_reject" and case.user:
            row = drama.site.onboarding(case.user)
            if (row["state"], row["round"]) == ("collecting", 2):
                drama.site.submit(case.user)


def cases_of(rows: Sequence[Provided | Asked]) -> list[Case]:
    """Each row on each side, of which nothing has happened yet."""
    return [Case(row, side) for row in rows for side in SIDES]


@pytest.fixture(scope="module")
def played(once: Callable[[str, Callable[[], Any]], Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("points")
    found: dict[str, Any] = once("kill-points", lambda: play(folder, cases_of(PROVIDED), cases_of(WEB_WRITES)))
    return found


@pytest.mark.parametrize("case", cases_of(PROVIDED), ids=lambda case: case.name)
def test_a_worker_killed_at_a_write_leads_to_the_same_end(played: dict[str, Any], case: Case) -> None:
    check_provided(case, played["seen"][case.name])


@pytest.mark.parametrize("case", cases_of(WEB_WRITES), ids=lambda case: case.name)
def test_a_web_process_killed_at_a_write_leads_to_the_same_end(played: dict[str, Any], case: Case) -> None:
    check_asked(case, played["seen"][case.name])


def test_after_all_kills_every_chain_is_whole_and_every_file_has_its_row(played: dict[str, Any]) -> None:
    check_whole(played)


@pytest.mark.long
@pytest.mark.parametrize("lag", [False, True], ids=["", "lagging"])
@pytest.mark.parametrize("number", [1, 2], ids=["round 1", "round 2"])
def test_in_both_rounds_and_with_a_query_that_lags_a_share_is_acted_upon_once(
    tmp_path: Path, number: int, lag: bool
) -> None:
    cases = [Case(row, side, number, lag) for row in SHARES for side in SIDES]
    found = play(tmp_path, cases, [])
    for case in cases:
        check_provided(case, found["seen"][case.name])
    check_whole(found)
    print(f"round {number}, lag {LAG if lag else 0} s: {len(cases)} kill points, every share acted upon once")


@pytest.mark.long
def test_without_a_kill_the_end_is_that_of_the_matrix(tmp_path: Path) -> None:
    cases = [Case(row, NEVER) for row in PROVIDED if row.scene in ("", "lost", "never arrived")]
    found = play(tmp_path, cases, [])
    for case in cases:
        check_provided(case, found["seen"][case.name])
    check_whole(found)


def check_provided(case: Case, seen: Mapping[str, Any]) -> None:
    row = case.row
    assert isinstance(row, Provided)
    end = _end(case)
    assert end
    assert (tuple(seen["end"]), tuple(seen["rebuilt"])) == (end, end)
    again = {BEFORE: row.before, AFTER: row.after}.get(case.side, {})
    usual = {UPLOAD: 2, FILE: 2, SHARE: row.usual[SHARE] + 1} if case.number > 1 else row.usual
    wanted = {name: usual[name] + again.get(name, 0) for name in usual}
    if case.number > 1 or case.lag:
        # Webhooks and lags decide how often it is asked, and whether a webhook is faster.
        wanted = {name: wanted[name] for name in (UPLOAD, FILE)}
    assert {name: seen["calls"][name] for name in wanted} == wanted
    assert seen["shares"] == ([] if row.story == "declined" else [1] * end[1]), "one share a round was acted upon"
    assert seen["often"] <= 2, "at most one repeated upload of a file"
    assert tuple(seen["told"]) == (IN_ROUND_2 if case.number > 1 else row.told)
    tries = seen["calls"][TRY] - len(seen["told"])
    assert tries == 1 if again.get(TRY) else tries <= 1


def check_asked(case: Case, seen: Mapping[str, Any]) -> None:
    row = case.row
    assert isinstance(row, Asked)
    assert [str(status) for status in seen["answers"]] in [
        [word] for word in row.again[case.side == AFTER].split(" or ")
    ]
    if row.end is not None:
        assert (tuple(seen["end"]), tuple(seen["rebuilt"])) == (row.end, row.end)
        assert seen["often"] <= 2
        assert seen["shares"] in ([], [1], [1, 1])
    if row.name.startswith("callback_") and row.name != "callback_counted":
        assert seen["seen"] == [2 if case.side == AFTER else 1], "it was stored before the kill, or it was not"
    if row.name == "callback_counted":
        assert sum(seen["seen"]) == (12 if case.side == AFTER else 11)
    if row.name == "count_again":
        assert seen["seen"] == [3 if case.side == AFTER else 2]


def check_whole(played: Mapping[str, Any]) -> None:
    assert (played["audit"], played["faults"], played["nameless"]) == ("every chain is whole\n", [], False)
    assert played["files"]["rows"] == played["files"]["files"]
    assert played["files"]["rows"]
