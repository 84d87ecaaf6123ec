"""The sandbox's stories: how each is played over HTTP, and how it must end."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from io import BytesIO
from typing import Any, Protocol

import requests
from PIL import Image
from standardwebhooks import Webhook

Verdicts = Sequence[tuple[str, int]]
"""Of each callback, in the order of arrival: its verdict and how often it was seen."""


@dataclass(frozen=True)
class Ending:
    """How a story must end: state, round, and which verdicts there may be."""

    state: str
    verdicts: str
    fits: Callable[[Verdicts], bool]
    round: int = 1


def _all_applied(count: int, seen: int = 1) -> Callable[[Verdicts], bool]:
    return lambda verdicts: list(verdicts) == [("applied", seen)] * count


def _exactly(*verdicts: str) -> Callable[[Verdicts], bool]:
    return lambda found: [verdict for verdict, _ in found] == list(verdicts)


def _one_of(*choices: tuple[str, ...]) -> Callable[[Verdicts], bool]:
    return lambda found: tuple(verdict for verdict, _ in found) in choices


_NONE = _exactly()
STORIES: dict[str, Ending] = {
    "pass": Ending("approved", "applied", _all_applied(2)),
    "review": Ending("approved", "applied", _all_applied(2)),
    "reject": Ending("approved", "applied", _all_applied(2), round=2),
    "final": Ending("rejected", "applied", _all_applied(1)),
    "silent": Ending("approved", "none", _NONE),
    "early": Ending("approved", "early, then applied", _all_applied(1)),
    "late": Ending("approved", "stale", _exactly("stale")),
    "lag": Ending("approved", "applied", _all_applied(1)),
    "duplicate": Ending("approved", "applied, seen 5", _all_applied(1, seen=5)),
    "reorder": Ending(
        "approved", "applied, superseded or ignored", _one_of(("applied", "superseded"), ("applied", "ignored"))
    ),
    "overturn": Ending("approved", "applied, outdated", _exactly("applied", "outdated"), round=2),
    "forged": Ending(
        "rejected",
        "superseded or contradicted, applied",
        _one_of(("superseded", "applied"), ("contradicted", "applied")),
    ),
    "flaky": Ending("approved", "applied", _all_applied(2)),
    "down": Ending("needs_attention", "none", _NONE),
    "refused": Ending("needs_attention", "none", _NONE),
    "declined": Ending("needs_attention", "none", _NONE),
}


class Host(Protocol):
    """What a player needs of an installation."""

    url: str
    signup_secret: str

    def token(self, role: str, name: str) -> str:
        """A new access token."""


@dataclass(frozen=True)
class Progress:
    """Where one story is."""

    story: str
    user: str
    state: str
    last_event: str
    outcome: str
    expected: str
    done: bool


class Player:
    """Plays the merchant: signs users up by the hook, sends their documents, submits, looks."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._token = host.token("operator", "demo-operator")
        self._ids: dict[str, str] = {}
        self._last: dict[str, Progress] = {}
        self._lock = threading.Lock()

    def begin(self, story: str, number: int = 0) -> str:
        """Sign a user up for `story`, send everything, submit; the onboarding's id. `number` tells users apart."""
        onboarding = self._sign_up(story, number)
        onboarding_id: str = onboarding["id"]
        with self._lock:
            self._ids[story] = onboarding_id
        for kind, (content, media_type) in _documents(story).items():
            self._call("PUT", f"{onboarding_id}/documents/{kind}", data=content, headers={"Content-Type": media_type})
        self._call("POST", f"{onboarding_id}/submit")
        return onboarding_id

    def state(self, onboarding_id: str) -> str:
        """The state of an onboarding."""
        return str(self._call("GET", onboarding_id)["state"])

    def look(self) -> list[Progress]:
        """Where every story is; submits again where OSL Pay rejected for now in `reject`."""
        with self._lock:
            ids = dict(self._ids)
        found = []
        for story in STORIES:
            last = self._last.get(story)
            if last is None or not last.done:
                last = self._progress(story, ids.get(story))
                self._last[story] = last
            found.append(last)
        return found

    def _progress(self, story: str, onboarding_id: str | None) -> Progress:
        ending = STORIES[story]
        expected = f"{ending.state}, round {ending.round}, verdicts: {ending.verdicts}"
        if onboarding_id is None:
            return Progress(story, f"{story}@…", "-", "", "did not begin", expected, False)
        row = self._call("GET", onboarding_id)
        if story == "reject" and row["state"] == "collecting" and row["round"] == 2:
            row = self._call("POST", f"{onboarding_id}/submit")
        events = self._call("GET", f"{onboarding_id}/transitions")["items"]
        callbacks = self._call("GET", f"{onboarding_id}/callbacks")["items"]
        verdicts = [(item["verdict"], item["seen"]) for item in callbacks]
        done = (row["state"], row["round"]) == (ending.state, ending.round) and ending.fits(verdicts)
        told = ", ".join(f"{verdict} x{seen}" if seen > 1 else verdict for verdict, seen in verdicts) or "none"
        outcome = f"{row['state']}, round {row['round']}, verdicts: {told}"
        return Progress(story, row["merchantUserId"], row["state"], events[-1]["event"], outcome, expected, done)

    def _sign_up(self, story: str, number: int) -> dict[str, Any]:
        now = datetime.now(UTC)
        name = f"{story}-{number}" if number else story
        event = {
            "type": "user.signup",
            "timestamp": now.isoformat(),
            "data": {
                "merchantUserId": f"demo-{name}",
                "email": f"{story}+{number}@example.com",
                "profile": _profile(story, number),
            },
        }
        body = json.dumps(event)
        webhook_id = f"msg_{name}"
        headers = {
            "Content-Type": "application/json",
            "webhook-id": webhook_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": Webhook(self._host.signup_secret).sign(webhook_id, now, body),
        }
        answer = requests.post(f"{self._host.url}/hooks/signup", data=body, headers=headers, timeout=30)
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found

    def _call(self, method: str, path: str, **arguments: Any) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self._token}", **arguments.pop("headers", {})}
        url = f"{self._host.url}/api/v1/onboardings/{path}"
        answer = requests.request(method, url, headers=headers, timeout=30, **arguments)
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found


def _profile(story: str, number: int) -> dict[str, str]:
    return {
        "firstName": "Ana",
        "lastName": story.capitalize(),
        "idType": "ID_CARD" if story in ("pass", "review") else "PASSPORT",
        "idNumber": f"K{int(time.time()) % 10**6:06d}{list(STORIES).index(story):02d}{number}",
        "idCountry": "HKG",
        "nationality": "HKG",
        "residentialCountry": "HKG",
        "accountPurpose": "Savings",
        "monthSpend": "Less than 1,000 USD",
        "sourceFunds": "Salary",
        "occupation": "Employed",
        "ip": "203.0.113.7",
        "deviceId": f"device-{story}-{number}",
    }


@cache
def _documents(story: str) -> dict[str, tuple[bytes, str]]:
    """Real files: two pictures and a PDF."""
    documents = {
        "idFileFront": (_picture("JPEG", "white"), "image/jpeg"),
        "selfie": (_picture("PNG", "tan"), "image/png"),
    }
    if story in ("pass", "review"):
        documents["idFileBack"] = (_picture("PDF", "gray"), "application/pdf")
    return documents


def _picture(form: str, colour: str) -> bytes:
    noise = Image.effect_noise((640, 400), 60).convert("RGB")
    stream = BytesIO()
    Image.blend(Image.new("RGB", (640, 400), colour), noise, 0.3).save(stream, form)
    return stream.getvalue()
