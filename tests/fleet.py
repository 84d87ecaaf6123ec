"""Several web and worker processes of one installation that die at random, users who go through all the same, and
the ledger of what was acknowledged to them meanwhile."""

from __future__ import annotations

import itertools
import os
import random
import secrets
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import requests

from orchestrator.cli.run import _GUNICORN
from orchestrator.seal import plain_hash
from orchestrator.signatures import osl_sign
from tests.installation import Installation, http, rebuilt
from tests.sandbox_process import APP_ID, rsa_key
from tests.signups import documents, signup_data
from tests.waiting import until

ENDS: Mapping[str, tuple[str, int | None]] = {
    "pass": ("approved", 1),
    "review": ("approved", 1),
    "reject": ("approved", 2),
    "final": ("rejected", 1),
    "silent": ("approved", 1),
    "early": ("approved", 1),
    "late": ("approved", 1),
    "lag": ("approved", 1),
    "duplicate": ("approved", 1),
    "reorder": ("approved", 1),
    "overturn": ("approved", None),
    "forged": ("rejected", 1),
    "flaky": ("approved", 1),
}
"""The stories that end by themselves: state and round; None: the PASS may come before the REJECT was confirmed."""
OPERATIONS = ("btse.upload", "osl.upload", "osl.status")
FAULTS: tuple[Mapping[str, Any], ...] = (
    {"status": 503},
    {"status": 500, "act": True},
    {"status": 429, "headers": {"Retry-After": "1"}},
    {"reset": "before"},
    {"reset": "after"},
    {"reset": "midBody"},
    {"hangBefore": 3.0},
    {"hangAfter": 3.0},
    {"body": "<html>busy</html>", "contentType": "text/html"},
)
SHARE_FAULTS = (*FAULTS, {"code": "99999"}, {"status": 502, "act": True}, {"status": 504, "act": True})
"""One for a user at most; a process's death may cost another, and after two lost shares a person is asked."""
_KINDS = ("web", "worker")
_numbers = itertools.count(1)


class Fleet:
    """`webs` gunicorns that share one port and `workers` workers; who dies is started again at once."""

    def __init__(self, site: Installation, webs: int, workers: int, dice: random.Random) -> None:
        self._site = site
        self._dice = dice
        self._alive: dict[str, subprocess.Popen[bytes]] = {}
        self._names = [f"{kind}-{number}" for kind, many in zip(_KINDS, (webs, workers), strict=True)
                       for number in range(1, many + 1)]  # fmt: skip
        self.kills: Counter[str] = Counter()

    def start(self) -> None:
        """All of them, until one answers."""
        for name in self._names:
            self._start(name)
        self._site.web = self._alive["web-1"]
        self._site.wait_for_web()

    def kill_one(self) -> str:
        """SIGKILL for one of them, chosen by the dice, with all its children; its name."""
        name = self._dice.choice(self._names)
        process = self._alive[name]
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        self.kills[name.split("-")[0]] += 1
        self._start(name)
        return name

    def check_alive(self) -> None:
        """Nobody ended unasked."""
        for name, process in self._alive.items():
            assert process.poll() is None, f"{name} ended with {process.poll()}:\n{self._site.log(name)[-3000:]}"

    def _start(self, name: str) -> None:
        if name.startswith("worker"):
            self._alive[name] = self._site.spawn(name, "tests.launch", "worker", "--threads", "8")
            return
        where = ["--bind", f"127.0.0.1:{self._site.port}", "--reuse-port", "--workers", "1", "--threads", "8"]
        self._alive[name] = self._site.spawn(
            name, "tests.launch", "gunicorn", "tests.launched_wsgi:app", *_GUNICORN, *where
        )


@dataclass
class Passenger:
    """A user on the way; what was acknowledged of them."""

    story: str
    name: str
    id: str = ""
    documents: int = 0
    rounds: int = 0
    """Submits acknowledged."""
    helped: int = 0
    """How often an operator asked for another round because two shares were lost."""

    def has_ended(self, state: str, number: int) -> bool:
        """Whether this is the state and round in which the story ends."""
        wanted, in_round = ENDS[self.story]
        return state == wanted and (in_round is None or number == in_round + self.helped)


@dataclass
class Ledger:
    """What the outside was told is stored, and what it met."""

    passengers: list[Passenger] = field(default_factory=list)
    webhooks: dict[tuple[str, str], int] = field(default_factory=dict)
    """Those answered with 200: callbackUrl's token and timestamp → how often."""
    answers: Counter[int] = field(default_factory=Counter)
    broken: int = 0
    """Requests that met a dead process."""
    faults: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answered(self, status: int | None) -> None:
        with self.lock:
            if status is None:
                self.broken += 1
            else:
                self.answers[status] += 1

    @property
    def server_errors(self) -> int:
        return sum(count for status, count in self.answers.items() if status >= 500)


class Crowd:
    """Signs users up, hands their documents in and submits, insisting on each step until it is acknowledged."""

    def __init__(self, site: Installation, dice: random.Random, **profile: str) -> None:
        self.site = site
        self.ledger = Ledger()
        self._dice = dice
        self._profile = profile
        self._seen = 0

    def bring(self, story: str) -> Passenger:
        """One user, from signup to submit."""
        passenger = self.sign_up(story)
        self.hand_in(passenger)
        self.submit(passenger)
        return passenger

    def sign_up(self, story: str) -> Passenger:
        """The same hook, with the same webhook-id, until it is acknowledged."""
        data = signup_data(story, 100_000 + next(_numbers), **self._profile)
        webhook_id = f"msg_{secrets.token_hex(8)}"
        answer = self._insist(lambda: self.site.post_signup(data, webhook_id), 200, 202)
        passenger = Passenger(story, data["merchantUserId"], answer.json()["id"])
        with self.ledger.lock:
            self.ledger.passengers.append(passenger)
        return passenger

    def hand_in(self, passenger: Passenger) -> None:
        """The documents of a passport's holder."""
        for kind, (content, media_type) in documents("PASSPORT").items():
            path, headers = f"onboardings/{passenger.id}/documents/{kind}", {"Content-Type": media_type}
            self._insist(
                lambda path=path, content=content, headers=headers: self._call("PUT", path, content, headers), 200
            )
            passenger.documents += 1

    def submit(self, passenger: Passenger) -> None:
        """409: the first time was stored, but the answer was lost."""
        self._insist(lambda: self._call("POST", f"onboardings/{passenger.id}/submit"), 202, 409)
        passenger.rounds += 1

    def help(self, passenger: Passenger) -> None:
        """An operator has the user submit again. 409: the first time was stored, but the answer was lost."""
        path, body = f"onboardings/{passenger.id}/resubmission", b'{"reason": "Please send it once more."}'
        self._insist(lambda: self._call("POST", path, body, {"Content-Type": "application/json"}), 202, 409)

    def tell_again(self, passenger: Passenger, times: int) -> None:
        """So many more webhooks about a user who has arrived, each a new one, each until it is acknowledged."""
        assert self.site.sandbox
        row = self._insist(lambda: self._call("GET", f"onboardings/{passenger.id}"), 200).json()
        url = self.site.sandbox.requests("osl.share", passenger.name)[-1]["fields"]["callbackUrl"]
        data = {"merchantUserId": passenger.name, "userId": row["oslUserId"], "kycStatus": "PROCESS"}
        body = {"type": "kyc_status_change", "data": data}
        for _ in range(times):
            stamp = str(time.time_ns() // 1_000_000 - 60_000 + next(_numbers))
            headers = {"appId": APP_ID, "timestamp": stamp, "signature": osl_sign(rsa_key("osl"), APP_ID, stamp)}
            self._insist(lambda headers=headers: http("POST", url, headers=headers, json=body), 200)
            self._acknowledged(url, stamp)

    def look_at_webhooks(self) -> None:
        """What the sandbox was answered since the last look."""
        assert self.site.sandbox
        sent = self.site.sandbox.webhooks(skip=self._seen)
        self._seen += len(sent)
        for row in sent:
            self.ledger.answered(row["status"])
            if row["status"] == 200:
                self._acknowledged(row["url"], row["timestamp"])

    def _acknowledged(self, url: str, timestamp: str) -> None:
        key = (url.rpartition("/")[2], timestamp)
        with self.ledger.lock:
            self.ledger.webhooks[key] = self.ledger.webhooks.get(key, 0) + 1

    def _call(self, method: str, path: str, data: bytes = b"", headers: Mapping[str, str] = {}) -> requests.Response:
        return http(method, f"{self.site.url}/api/v1/{path}", data=data, headers={**self.site.bearer, **headers})

    def _insist(self, call: Callable[[], requests.Response], *wanted: int) -> requests.Response:
        deadline = time.monotonic() + 60
        while True:
            with suppress(requests.RequestException):
                answer = call()
                self.ledger.answered(answer.status_code)
                if answer.status_code in wanted:
                    return answer
                assert answer.status_code >= 500, f"{answer.request.url}: {answer.status_code} {answer.text}"
                continue
            self.ledger.answered(None)
            assert time.monotonic() < deadline, "nobody answers"
            time.sleep(0.05)


class Journey:
    """Users who go through while processes die: begins them, looks after them, and says what survived.

    `at_once`: how many are on the way at the same time at most. `deadly`: how likely a process dies in a second.
    `faulty`: the providers misbehave as well.
    """

    def __init__(
        self,
        site: Installation,
        fleet: Fleet,
        dice: random.Random,
        *,
        at_once: int,
        deadly: float = 1.0,
        faulty: bool = False,
        **profile: str,
    ) -> None:
        self.site = site
        self.fleet = fleet
        self.crowd = Crowd(site, dice, **profile)
        self._dice = dice
        self._at_once = at_once
        self._deadly = deadly
        self._faulty = faulty
        self._second = 0
        self._arrived: dict[str, Passenger] = {}
        self._submitted: Counter[str] = Counter()
        self._began = time.monotonic()

    def run(self, users: int | None = None, seconds: float | None = None) -> None:
        """Until so many users have arrived; or for so long, and then in peace until all on the way have arrived.

        Each second a process may die, and a line says what was acknowledged and what of it is there.
        """
        stories = itertools.cycle(ENDS)
        begun, over = 0, False
        with ThreadPoolExecutor(8) as pool:
            bringing = []
            while not (over and len(self._arrived) == begun):
                for task in [task for task in bringing if task.done()]:
                    bringing.remove(task)
                    task.result()
                over = begun == users if users is not None else time.monotonic() - self._began > (seconds or 0)
                while not over and begun - len(self._arrived) < self._at_once and begun != users:
                    bringing.append(pool.submit(self._bring, next(stories), self._dice.random()))
                    begun += 1
                self._next_second()
                if (users is not None or not over) and self._dice.random() < self._deadly:
                    self.fleet.kill_one()
                if self._faulty and not over:
                    self._fault(self._dice.choice(OPERATIONS), "*", self._dice.choice(FAULTS))
                self._look(pool, bringing)
                limit = 4 * users + 60 if users is not None else (seconds or 0) + 240
                assert time.monotonic() - self._began < limit, f"these never arrive: {self._stuck()}"
        self.crowd.look_at_webhooks()

    def _bring(self, story: str, chance: float) -> None:
        passenger = self.crowd.sign_up(story)
        if self._faulty and chance < 0.3:
            self._fault("osl.share", passenger.name, SHARE_FAULTS[int(chance / 0.3 * len(SHARE_FAULTS))])
        self.crowd.hand_in(passenger)
        self.crowd.submit(passenger)

    def _next_second(self) -> None:
        self._second += 1
        wait = self._began + self._second - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        else:
            self._second = int(time.monotonic() - self._began)

    def _look(self, pool: ThreadPoolExecutor, bringing: list[Any]) -> None:
        """Who arrived, who has to submit again, what is stored; and the next fault."""
        self.fleet.check_alive()
        self.crowd.look_at_webhooks()
        rows = {row["id"]: row for row in self.site.rows("select id, state, round, share_losses from onboardings")}
        for passenger in list(self.crowd.ledger.passengers):
            row = rows.get(passenger.id)
            if row is None or passenger.id in self._arrived:
                continue
            if passenger.has_ended(row["state"], row["round"]):
                self._arrived[passenger.id] = passenger
                if self._faulty and self._dice.random() < 0.5:
                    bringing.append(pool.submit(self.crowd.tell_again, passenger, 5))
            elif row["state"] == "needs_attention" and row["round"] > passenger.helped:
                passenger.helped += 1
                assert row["share_losses"] == 2, f"{passenger.name} needs attention"
                bringing.append(pool.submit(self.crowd.help, passenger))
            elif row["state"] == "collecting" and row["round"] > max(1, self._submitted[passenger.id]):
                self._submitted[passenger.id] = row["round"]
                bringing.append(pool.submit(self.crowd.submit, passenger))
        print(self._line(len(rows)), flush=True)

    def _fault(self, operation: str, match: str, fault: Mapping[str, Any]) -> None:
        assert self.site.sandbox
        self.site.sandbox.fault(operation, match, **fault)
        with self.crowd.ledger.lock:
            self.crowd.ledger.faults[operation] += 1

    def _line(self, onboardings: int) -> str:
        ledger = self.crowd.ledger
        webhooks = self.site.rows("select count(*) as stored from callbacks")[0]["stored"]
        return (
            f"{self._second:4d} s: {len(ledger.passengers)} signups acknowledged, {onboardings} stored; "
            f"{len(ledger.webhooks)} webhooks acknowledged, {webhooks} stored; {len(self._arrived)} users arrived; "
            f"{self.fleet.kills.total()} kills, {ledger.faults.total()} faults, {ledger.broken} requests cut off, "
            f"{ledger.server_errors} server errors"
        )

    def _stuck(self) -> list[tuple[str, str, str]]:
        rows = {row["id"]: row["state"] for row in self.site.rows("select id, state from onboardings")}
        left = [each for each in self.crowd.ledger.passengers if each.id not in self._arrived]
        return [(each.name, each.id, rows.get(each.id, "not there")) for each in left]

    # What must hold afterwards -------------------------------------------------------------------------------

    def lost(self) -> list[str]:
        """What was acknowledged and is not there."""
        found = []
        onboardings = {row["id"]: row for row in self.site.rows("select id, submitted_at from onboardings")}
        documents = Counter(row["id"] for row in self.site.rows("select onboarding_id as id from documents"))
        for each in self.crowd.ledger.passengers:
            if each.id not in onboardings:
                found.append(f"the signup of {each.name}")
                continue
            if each.documents > documents[each.id]:
                found.append(f"a document of {each.name}")
            if each.rounds and onboardings[each.id]["submitted_at"] is None:
                found.append(f"the submit of {each.name}")
        stored = {
            (row["token_hash"], str(row["timestamp"])): row["seen"]
            for row in self.site.rows("select token_hash, timestamp, seen from callbacks")
        }
        for (token, timestamp), times in self.crowd.ledger.webhooks.items():
            if stored.get((plain_hash(token), timestamp), 0) < times:
                found.append(f"a webhook of {timestamp}")
        return found

    def shares(self) -> list[int]:
        """How often the share of each round was acted upon."""
        assert self.site.sandbox
        return [row["count"] for row in self.site.sandbox.summary()["shares"]]

    def shares_beyond(self) -> int:
        """Shares beyond the one of each round."""
        return sum(count - 1 for count in self.shares())

    def check(self) -> None:
        """All of it is there, each round was shared once, each chain leads to its state, all were told in order."""
        assert self.lost() == []
        assert self.shares_beyond() == 0
        self.site.check_chains()
        chains: dict[str, list[dict[str, Any]]] = {}
        for row in self.site.rows(
            'select onboarding_id, seq, event, from_state as "from", to_state as "to" from transitions '
            "order by onboarding_id, seq"
        ):
            chains.setdefault(row["onboarding_id"], []).append(row)
        for passenger in self.crowd.ledger.passengers:
            assert passenger.has_ended(*rebuilt(chains[passenger.id])), passenger.name
        until(self._all_told, 60, every=0.5)
        assert not self.site.merchant.faults

    def _all_told(self) -> bool:
        written: dict[str, list[str]] = {}
        for row in self.site.rows("select id, onboarding_id from deliveries order by onboarding_id, seq"):
            written.setdefault(row["onboarding_id"], []).append(row["id"])
        told: dict[str, dict[str, None]] = {}
        for notice in list(self.site.merchant.notices):
            if 200 <= notice.answer < 300:
                told.setdefault(notice.data["id"], {}).setdefault(notice.id)
        for passenger in self.crowd.ledger.passengers:
            heard = list(told.get(passenger.id, {}))
            assert heard == written[passenger.id], f"{passenger.name}: told {heard}, written {written[passenger.id]}"
        return True
