"""Thousands of webhooks from somebody who knows every callback URL and many signed headers: nobody gets in by them.

Against real processes over kept-alive connections, with the worker running and the sandbox behind a recorder of what
OSL Pay's status query really said.
"""

from __future__ import annotations

import http.client
import os
import random
import secrets
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import requests

from orchestrator.machine import State
from tests.callback_attacks import WIDE, Attack, Attacks, Target
from tests.figures import add as note_figures
from tests.installation import Installation, User
from tests.service import signed, status_change
from tests.waiting import until
from tests.watched_provider import WatchedProvider, watched_provider

CONNECTIONS = 8
MANY = 100_000
OPEN = ("awaiting_callback", "in_review", "confirming")
AGREES = {
    "approved": {"PASS"},
    "rejected": {"FINAL_REJECT", "REJECT"},
    "collecting": {"REJECT"},
}
"""For each state that a webhook may ask for, the answers of the status query that may lead there (O18)."""
UNSIGNED = ("unsigned", "other key", "other appId", "re-encoded base64", "other headers")


class Siege:
    """The users under attack, and what was answered to whom."""

    def __init__(self, site: Installation, provider: WatchedProvider, seed: int) -> None:
        self.site = site
        self.provider = provider
        self.random = random.Random(seed)
        self.users: dict[str, list[User]] = {}
        self.targets: dict[str, Target] = {}
        self.answered: Counter[tuple[str, int]] = Counter()
        self.wrong: list[str] = []
        self.cut = 0
        self._lock = threading.Lock()

    # Before --------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Users in every state that webhooks find, all by way of the real thing."""
        wanted = {
            "waiting": 3, "reviewing": 2, "approved": 2, "rejected": 2, "again": 2, "cancelled": 1, "erased": 1,
            "turning": 5,
        }  # fmt: skip
        self.users = {role: [self.site.begin("silent") for _ in range(number)] for role, number in wanted.items()}
        self.users["refused"] = [self.site.begin("refused")]
        self.users["collecting"] = [self.site.collect("silent")]
        for role, users in self.users.items():
            for user in users:
                if role not in ("refused", "collecting"):
                    self.site.wait_for(user, "awaiting_callback")
                user_id = self.site.onboarding(user)["oslUserId"]
                self.targets[user.name] = Target(user.name, user_id or "8000")
        self.site.wait_for(self.users["refused"][0], "needs_attention")
        self.learn_tokens()
        says = {"approved": "PASS", "rejected": "FINAL_REJECT", "again": "REJECT", "reviewing": "REVIEW"}
        ends = {"approved": "approved", "rejected": "rejected", "again": "collecting", "reviewing": "in_review"}
        for role, word in says.items():
            for user in self.users[role]:
                self.provider.truth[user.name] = word
                self.genuine(user, word)
        for role, state in ends.items():
            for user in self.users[role]:
                self.site.wait_for(user, state)
        self.site.call("POST", f"onboardings/{self.users['cancelled'][0].id}/cancel", 202)
        self.site.command("erase", self.users["erased"][0].id)
        for user in self.steady():
            self.provider.truth[user.name] = "PROCESS"

    def steady(self) -> list[User]:
        """Those of whom OSL Pay says nothing new during the attack."""
        return [user for role, users in self.users.items() if role != "turning" for user in users]

    def genuine(self, user: User, word: str) -> None:
        """OSL Pay's own webhook."""
        target = self.targets[user.name]
        sent = signed(self._now(), status_change(target.user_id, user.name, word))
        path = f"{self.site.url}{WIDE}/{target.tokens[-1]}"
        answer = requests.post(path, data=sent.body, headers=sent.headers, timeout=30)
        assert answer.status_code == 200, answer.text

    def learn_tokens(self) -> None:
        """Somebody has seen every callbackUrl that OSL Pay was given."""
        assert self.site.sandbox
        for row in self.site.sandbox.summary()["shares"]:
            target, token = self.targets.get(row["merchantUserId"]), row["callbackUrl"].rsplit("/", 1)[1]
            if target and token not in target.tokens:
                target.tokens.append(token)

    @staticmethod
    def _now() -> int:
        return int(datetime.now().astimezone().timestamp() * 1000)

    # During --------------------------------------------------------------------------------------------------

    def attack(self, attacks: Attacks, number: int) -> None:
        """Send so many over a few connections, while OSL Pay changes its mind about those who turn."""
        left = iter(range(number))
        threads = [threading.Thread(target=self._send_all, args=(attacks, left)) for _ in range(CONNECTIONS)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            self.turn()
            threads[0].join(0.3)

    def turn(self) -> None:
        """OSL Pay says something else of one user, and who was asked to submit again does so."""
        user = self.random.choice(self.users["turning"])
        self.provider.truth[user.name] = self.random.choice(
            ["PASS", "REJECT", "FINAL_REJECT", "PROCESS", "REVIEW", None]
        )
        if self.site.onboarding(user)["state"] == "collecting":
            self.site.submit(user)
            self.learn_tokens()

    def _send_all(self, attacks: Attacks, left: Iterator[int]) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.site.port, timeout=60)
        try:
            while True:
                with self._lock:
                    if next(left, None) is None:
                        return
                    attack = attacks.next()
                status = self._send(connection, attack)
                with self._lock:
                    self.answered[attack.kind, status] += 1
                    if status not in attack.answers:
                        self.wrong.append(f"{attack.kind}: {status} to {attack.path} {attack.headers}")
        except BaseException as error:
            self.wrong.append(f"a sender stopped: {error!r}")
            raise
        finally:
            connection.close()

    def _send(self, connection: http.client.HTTPConnection, attack: Attack) -> int:
        """The status of the answer; 413 too where the connection was cut because the body was too long."""
        for _ in range(3):
            try:
                connection.putrequest("POST", attack.path, skip_accept_encoding=True)
                for name, value in attack.headers:
                    connection.putheader(name, value)
                connection.putheader("Content-Type", "application/json")
                connection.putheader("Content-Length", str(len(attack.body)))
                connection.endheaders(attack.body)
                answer = connection.getresponse()
                answer.read()
                return answer.status
            except (ConnectionError, http.client.HTTPException):
                connection.close()
                with self._lock:
                    self.cut += 1
                if attack.answers == {413}:
                    return 413
        raise AssertionError(f"no answer to {attack.kind}")

    # After ---------------------------------------------------------------------------------------------------

    def check_moves(self) -> Counter[str]:
        """Every move to where a webhook may have asked for was OSL Pay's own last word; how many there were."""
        moves: Counter[str] = Counter()
        for user in [user for users in self.users.values() for user in users if user.name in self.targets]:
            for row in self.site.items(user, "transitions"):
                if row["to"] in AGREES and row["from"] != row["to"] and row["seq"] > 1:
                    at = int(datetime.fromisoformat(row["at"]).timestamp() * 1000)
                    said = self.provider.last_answer(user.name, at)
                    assert said in AGREES[row["to"]], f"{user.name}: {row}, but OSL Pay said {said}"
                    moves[row["to"]] += 1
        return moves

    def check_steady(self, before: dict[str, dict[str, Any]]) -> None:
        """Who OSL Pay said nothing new of is where they were, or still waits."""
        for user in self.steady():
            was, row = before[user.id], self.site.onboarding(user)
            if was["state"] in OPEN:
                assert row["state"] in OPEN, f"{user.name}: {row}"
            else:
                assert row["state"] == was["state"], f"{user.name}: {row}"
            assert row["round"] == was["round"]
            assert len([verdict for verdict, _ in self.site.verdicts(user) if verdict == "forged"]) <= 10


@contextmanager
def besieged(folder: Path, seed: int) -> Iterator[Siege]:
    chance = random.Random(seed)
    with (
        watched_provider(lambda: chance.uniform(0, 0.1)) as provider,
        Installation(folder, settings={"OSL_BASE_URL": f"{provider.url}/osl"}) as site,
    ):
        provider.sandbox_port = site._sandbox_port
        site.start()
        siege = Siege(site, provider, seed)
        siege.prepare()
        yield siege


def test_no_generated_webhook_moves_anybody_without_osl_pays_word(tmp_path: Path) -> None:
    check_siege(tmp_path / "site", 1_500)


@pytest.mark.sqlite
@pytest.mark.soak
def test_of_a_hundred_thousand_generated_webhooks_none_moves_anybody(tmp_path: Path) -> None:
    check_siege(tmp_path / "site", MANY)


def check_siege(folder: Path, number: int) -> None:
    """So many webhooks move nobody without OSL Pay's word."""
    seed = int(os.environ.get("ATTACK_SEED") or secrets.randbelow(2**32))
    print(f"ATTACK_SEED={seed}")
    with besieged(folder, seed) as siege:
        site, provider = siege.site, siege.provider
        before = {user.id: site.onboarding(user) for user in siege.steady()}
        asked = provider.asked()
        attacks = Attacks(seed, list(siege.targets.values()))
        siege.attack(attacks, number)

        report(siege, number, seed)
        if number == MANY:
            errors = sum(times for (_, status), times in siege.answered.items() if status >= 500)
            note_figures("generated webhooks", inputs=siege.answered.total(), server_errors=errors)
        assert siege.wrong[:5] == []
        assert not [status for _, status in siege.answered if status >= 500]
        assert len({kind for kind, _ in siege.answered}) == 19, "every kind was tried"
        assert provider.most_in_flight == 1, "queries about one user at once"
        assert provider.asked() > asked, "the service did ask meanwhile"
        siege.check_steady(before)
        moves = siege.check_moves()
        print("moves, each with OSL Pay's word:", dict(moves))
        assert set(moves) == set(AGREES), "some were moved, with OSL Pay's word"
        check_stored(site, attacks)
        check_counted(siege)
        site.check_chains()


def check_stored(site: Installation, attacks: Attacks) -> None:
    """Nothing unsigned left a row."""
    never_signed = attacks.unsigned_at - attacks.signed_at
    assert never_signed
    rows = site.rows("select timestamp from callbacks")
    assert not never_signed & {row["timestamp"] for row in rows}
    assert len(rows) <= len(attacks.signed_at) * 3


def check_counted(siege: Siege) -> None:
    """What was turned away is in the figures."""
    refused = sum(count for (kind, status), count in siege.answered.items() if kind in UNSIGNED and status == 401)

    def all_counted() -> bool:
        counted = figures(siege.site, "orchestrator_callbacks_refused_total", "reason")
        assert refused <= counted["unsigned"] <= refused + siege.cut
        return True

    until(all_counted, 20)


def figures(site: Installation, name: str, label: str) -> dict[str, int]:
    answer = requests.get(f"{site.url}/metrics", headers={"Authorization": f"Bearer {site.token}"}, timeout=30)
    lines = [line for line in answer.text.splitlines() if line.startswith(f"{name}{{")]
    return {line.split(f'{label}="')[1].split('"')[0]: int(float(line.rsplit(" ", 1)[1])) for line in lines}


def report(siege: Siege, number: int, seed: int) -> None:
    """What was sent and what was made of it."""
    print(f"{number} webhooks, seed {seed}; by kind and answer:")
    for kind in sorted({kind for kind, _ in siege.answered}):
        answers = {status: count for (each, status), count in sorted(siege.answered.items()) if each == kind}
        print(f"  {kind:<18} {answers}")
    print("verdicts:", figures(siege.site, "orchestrator_callback_verdicts_total", "verdict"))
    print("turned away:", figures(siege.site, "orchestrator_callbacks_refused_total", "reason"))
    print("questions:", siege.provider.asked(), "at once about one user:", siege.provider.most_in_flight)
    print("states:", Counter(State(row["state"]).value for row in siege.site.rows("select state from onboardings")))
