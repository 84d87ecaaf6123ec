"""docs/how-to/rotate-keys.md, step by step, on running processes, while users sign up and webhooks come."""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from orchestrator.signatures import osl_sign
from tests.installation import Installation, User, http
from tests.merchant_end import whsec
from tests.sandbox_process import APP_ID, SandboxProcess, private_pem, rsa_key
from tests.service import status_change
from tests.signups import signup_data
from tests.waiting import until

pytestmark = pytest.mark.long

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "rotate-keys.md"
KEYS, SIGNUP, NOTIFY = "ORCHESTRATOR_ENCRYPTION_KEYS", "ORCHESTRATOR_SIGNUP_SECRETS", "ORCHESTRATOR_NOTIFY_SECRET"
IN_FILE = (KEYS, SIGNUP, NOTIFY, "BTSE_SECRET_KEY", "BTSE_API_KEY", "OSL_PRIVATE_KEY", "OSL_WEBHOOK_PUBLIC_KEY")


def bare_private(name: str) -> str:
    """A key as a line of .env can hold it."""
    der = rsa_key(name).private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return base64.b64encode(der).decode()


def bare_public(name: str) -> str:
    der = rsa_key(name).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(der).decode()


class Rotation:
    """An installation whose secrets stand in `.env`, and what was answered to those who called meanwhile."""

    def __init__(self, site: Installation) -> None:
        self.site = site
        self.secrets = {name: site.environ.pop(name) for name in IN_FILE}
        self.secrets |= {"OSL_PRIVATE_KEY": bare_private("merchant"), "OSL_WEBHOOK_PUBLIC_KEY": bare_public("osl")}
        self.hears: tuple[User, str, str] | None = None
        """Who gets webhooks, their userId, and the key that signs them."""
        self.wrong: list[str] = []
        self.answers = 0
        self.watched: list[User] = []
        self.write()

    # Steps ---------------------------------------------------------------------------------------------------

    def write(self) -> None:
        """`.env` as it is to be."""
        file = self.site.folder / ".env"
        new = file.with_suffix(".new")
        new.write_text("".join(f"{name}={value}\n" for name, value in self.secrets.items()))
        new.rename(file)

    def change(self, **changed: str) -> None:
        """Change settings, and reload."""
        self.secrets |= changed
        self.write()
        self.reload()

    def reload(self) -> None:
        """SIGHUP to gunicorn, and the worker ended and started again: what SIGUSR1 makes of `serve`."""
        site = self.site
        assert site.web
        assert site.worker
        before = self._web_children()
        os.kill(site.web.pid, signal.SIGHUP)
        site.worker.terminate()
        site.worker.wait(60)
        site.start_worker()

        def replaced() -> bool:
            now = self._web_children()
            assert not now & before, f"{now & before} of gunicorn's workers are still there"
            return len(now) == len(before)

        until(replaced, 60)

    def _web_children(self) -> set[str]:
        assert self.site.web
        pid = self.site.web.pid
        return set(Path(f"/proc/{pid}/task/{pid}/children").read_text().split())

    def passes(self) -> User:
        """A new user gets all the way through."""
        user = self.site.begin("pass")
        self.site.wait_for(user, "approved")
        return user

    def hear(self, key: str) -> None:
        """A new user gets through, who is looked at and gets webhooks from now on."""
        user = self.passes()
        self.watched.append(user)
        self.hears = (user, self.site.onboarding(user)["oslUserId"], key)

    # Meanwhile -----------------------------------------------------------------------------------------------

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Somebody signs up, looks, and sends a webhook, again and again."""
        ended = threading.Event()
        thread = threading.Thread(target=self._call, args=(ended,))
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _call(self, ended: threading.Event) -> None:
        while not ended.wait(0.05):
            try:
                data = signup_data("silent", 9_000_000 + self.answers)
                self._note("signup", self.site.post_signup(data).status_code, 202)
                for user in self.watched[-3:]:
                    self._note("look", self._look(user), 200)
                if self.hears:
                    self._note("webhook", self._webhook(*self.hears), 200)
            except (requests.RequestException, AssertionError) as error:
                self.wrong.append(repr(error))

    def _note(self, what: str, status: int, expected: int) -> None:
        self.answers += 1
        if status != expected:
            self.wrong.append(f"{what}: {status}")

    def _look(self, user: User) -> int:
        headers = {"Authorization": f"Bearer {self.site.token}"}
        return http("GET", f"{self.site.url}/api/v1/onboardings/{user.id}", headers=headers).status_code

    def _webhook(self, user: User, user_id: str, key: str) -> int:
        stamp = str(1_700_000_000_000 + self.answers)
        headers = {"appId": APP_ID, "timestamp": stamp, "signature": osl_sign(rsa_key(key), APP_ID, stamp)}
        body = json.dumps(status_change(user_id, user.name, "REVIEW"))
        return http("POST", f"{self.site.url}/callbacks/oslpay", data=body, headers=headers).status_code

    # The page's chapters -------------------------------------------------------------------------------------

    def encryption_keys(self) -> list[Callable[[], object]]:
        old, new = self.secrets[KEYS], base64.b64encode(secrets.token_bytes(32)).decode()

        def resealed() -> None:
            self.passes()
            assert "sealed anew" in self.site.command("reseal").stdout

        def taken_out() -> None:
            said = [json.loads(line) for line in self.site.command("doctor", "--json", expect=None).stdout.splitlines()]
            keys = [found for found in said if found["check"].startswith("key ")]
            assert [found["level"] for found in keys] == ["ok", "ok"]
            assert keys[1]["text"].startswith("0 sealed values")
            self.change(**{KEYS: new})
            self.watched.append(self.passes())

        return [
            lambda: self.change(**{KEYS: f"{old},{new}"}),
            lambda: self.change(**{KEYS: f"{new},{old}"}),
            resealed,
            taken_out,
        ]

    def signup_secrets(self) -> list[Callable[[], object]]:
        old, new = self.secrets[SIGNUP], whsec()

        def moved() -> None:
            self.site.signup_secret = new
            self.passes()

        def taken_out() -> None:
            self.change(**{SIGNUP: new})
            self.passes()
            assert self.site.post_signup(signup_data("pass", 8_000_000), secret=old).status_code == 401

        return [lambda: self.change(**{SIGNUP: f"{old},{new}"}), moved, taken_out]

    def notification_secret(self) -> list[Callable[[], object]]:
        merchant, new = self.site.merchant, whsec()

        def accept_both() -> None:
            merchant.also = new

        def new_alone() -> None:
            merchant.secret, merchant.also = new, None
            user = self.passes()
            self.site.check_told(user)

        return [accept_both, lambda: self.change(**{NOTIFY: new}), new_alone]

    def provider_keys(self) -> list[Callable[[], object]]:
        new = {"BTSE_API_KEY": "another-api-key", "BTSE_SECRET_KEY": "another-secret-key"}
        theirs = {"OSL_PRIVATE_KEY": private_pem(rsa_key("merchant-2")), **new}
        theirs["SANDBOX_OSL_PRIVATE_KEY"] = private_pem(rsa_key("osl-2"))
        waiting: list[User] = []

        def replaced_there() -> None:
            site = self.site
            self.hears = None
            assert site.sandbox
            site.sandbox.stop()
            site.sandbox = SandboxProcess.start(port=site._sandbox_port, credentials=theirs, **site._sandbox_options)
            waiting.append(site.begin("pass"))
            until(lambda: site.onboarding(waiting[0])["lastError"], 30)

        def changed_here() -> None:
            keys = {"OSL_PRIVATE_KEY": bare_private("merchant-2"), "OSL_WEBHOOK_PUBLIC_KEY": bare_public("osl-2")}
            self.change(**new, **keys)
            self.site.wait_for(waiting[0], "approved")
            self.hear("osl-2")

        return [replaced_there, changed_here]

    def access_tokens(self) -> list[Callable[[], object]]:
        old = {"Authorization": f"Bearer {self.site.token}"}
        made: list[str] = []

        def create() -> None:
            done = self.site.command("token", "create", "--role", "operator", "--name", "tests-2")
            made.append(done.stdout.strip())

        def move() -> None:
            self.site.token = made[0]
            self.passes()

        def revoke() -> None:
            self.site.command("token", "revoke", "tests")
            assert http("GET", f"{self.site.url}/api/v1/onboardings", headers=old).status_code == 401
            self.passes()

        return [create, move, revoke]


CHAPTERS: dict[str, Callable[[Rotation], list[Callable[[], object]]]] = {
    "The encryption keys": Rotation.encryption_keys,
    "The signup secrets": Rotation.signup_secrets,
    "The notification secret": Rotation.notification_secret,
    "Keys of the providers": Rotation.provider_keys,
    "Access tokens": Rotation.access_tokens,
}


def steps_of(chapter: str) -> int:
    """How many numbered steps the page has there."""
    text = PAGE.read_text("utf-8").split(f"\n## {chapter}\n")[1].split("\n## ")[0]
    return len(re.findall(r"^\d+\. ", text, re.MULTILINE))


@pytest.mark.sqlite
def test_every_chapter_of_the_page_is_gone_through() -> None:
    assert re.findall(r"^## (.+)$", PAGE.read_text("utf-8"), re.MULTILINE) == list(CHAPTERS)


def test_each_secret_is_changed_by_the_pages_steps_while_nobody_is_refused(tmp_path: Path) -> None:
    with Installation(tmp_path / "site") as site:
        rotation = Rotation(site)
        site.start()
        rotation.hear("osl")
        for chapter, steps_that in CHAPTERS.items():
            steps = steps_that(rotation)
            assert len(steps) == steps_of(chapter), f"the page says something else of {chapter}"
            before = rotation.answers
            with rotation.watching():
                for number, step in enumerate(steps, 1):
                    step()
                    assert rotation.wrong == [], f"{chapter}, step {number}"
            assert rotation.answers > before
        assert not site.merchant.faults
        site.check_chains()
