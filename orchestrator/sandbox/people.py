"""The users as the two providers know them."""

from __future__ import annotations

import secrets
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from orchestrator.sandbox.clock import Clock
from orchestrator.sandbox.envelopes import refuse_osl
from orchestrator.sandbox.stories import Step, Story, story_of

DOCUMENT_FIELDS = ("idType", "idCountry", "idNumber")
FIRST_USER_ID = 9001


@dataclass(frozen=True)
class Standing:
    """What the status query says from `since` (monotonic seconds) on."""

    since: float
    kyc_status: str | None
    reason: str = ""


@dataclass(frozen=True, eq=False)
class Share:
    """One share that was acted upon."""

    callback_url: str | None
    steps: tuple[Step, ...]
    reason: str


@dataclass(eq=False)
class Person:
    """One merchantUserId. Fields are changed under the lock of `People`; `sending` is held while a webhook is."""

    merchant_user_id: str
    email: str | None = None
    calls: Counter[str] = field(default_factory=Counter)
    # BTSE Pay
    user_key: str | None = None
    # OSL Pay
    user_id: str | None = None
    document: dict[str, str] = field(default_factory=dict)
    callback_urls: list[str | None] = field(default_factory=list)
    share: Share | None = None
    standings: list[Standing] = field(default_factory=list)
    pinned: Standing | None = None
    waiting_for_question: int | None = None
    last_timestamp: int = 0
    sending: threading.Lock = field(default_factory=threading.Lock)

    @property
    def story(self) -> Story:
        """The story its email chooses."""
        return story_of(self.email)


class People:
    """Everyone seen, by merchantUserId and by OSL Pay's userId, and which account each document verifies."""

    def __init__(self, clock: Clock) -> None:
        self.lock = threading.RLock()
        self._clock = clock
        self._by_merchant_user_id: dict[str, Person] = {}
        self._by_user_id: dict[str, Person] = {}
        self._owner_of_document: dict[tuple[str, ...], str] = {}

    def find(self, merchant_user_id: str | None = None, user_id: str | None = None) -> Person | None:
        """Who that is, if seen."""
        with self.lock:
            if merchant_user_id is not None:
                return self._by_merchant_user_id.get(merchant_user_id)
            return self._by_user_id.get(user_id or "")

    def see(self, merchant_user_id: str, email: str | None = None) -> Person:
        """Remember a merchantUserId, and the email it came with."""
        with self.lock:
            person = self._by_merchant_user_id.setdefault(merchant_user_id, Person(merchant_user_id))
            person.email = email or person.email
            return person

    def register(self, person: Person) -> str:
        """The person's userId on OSL Pay, a new one the first time."""
        with self.lock:
            if person.user_id is None:
                person.user_id = str(FIRST_USER_ID + len(self._by_user_id))
                self._by_user_id[person.user_id] = person
            return person.user_id

    def authorize(self, person: Person) -> str:
        """The person's userKey at BTSE Pay; a cancelled one never comes back."""
        with self.lock:
            person.user_key = person.user_key or f"uk-{secrets.token_hex(12)}"
            return person.user_key

    def bind_document(self, person: Person, fields: Mapping[str, str]) -> None:
        """A document verifies one account only, and once set it stays (docs/providers.md, OSL Pay)."""
        given = {name: fields[name] for name in DOCUMENT_FIELDS if name in fields}
        with self.lock:
            for name, value in given.items():
                before = person.document.get(name, value)
                if before != value:
                    refuse_osl(f"{name} cannot be changed from {before!r} to {value!r}")
            if "idType" in given and "idNumber" in given:
                key = tuple(given.get(name, "") for name in DOCUMENT_FIELDS)
                owner = self._owner_of_document.setdefault(key, person.merchant_user_id)
                if owner != person.merchant_user_id:
                    words = " ".join(part for part in key if part)
                    refuse_osl(f"the document {words!r} verifies another account than {person.merchant_user_id!r}")
            person.document.update(given)

    def begin_share(self, person: Person, callback_url: str | None, reason: str) -> Share:
        """Note a share that is acted upon: it replaces the one before and, with another URL, opens a round."""
        with self.lock:
            if callback_url is None or callback_url not in person.callback_urls:
                person.callback_urls.append(callback_url)
            round_number = (
                len(person.callback_urls) if callback_url is None else person.callback_urls.index(callback_url) + 1
            )
            steps = person.story.steps_of_round(round_number)
            person.share = Share(callback_url, steps, reason)
            person.waiting_for_question = None
            return person.share

    def turn(self, person: Person, kyc_status: str, reason: str = "", lag: float = 0.0) -> None:
        """From `lag` seconds on the status query says this. What came before and is past is forgotten."""
        with self.lock:
            now = self._clock.monotonic()
            current = self._current(person, now)
            coming = [standing for standing in person.standings if standing.since > now]
            kept = [current, *coming] if current else coming
            person.standings = [*kept, Standing(now + lag, kyc_status, reason)]

    def standing(self, person: Person) -> Standing | None:
        """What the status query says of the person now; None: it does not know them."""
        with self.lock:
            if person.pinned is not None:
                return person.pinned if person.pinned.kyc_status is not None else None
            return self._current(person, self._clock.monotonic())

    @staticmethod
    def _current(person: Person, now: float) -> Standing | None:
        # By time and not by order of entry: a lag may have been set or lifted between two turns.
        past = [standing for standing in person.standings if standing.since <= now]
        return max(past, key=lambda standing: standing.since, default=None)
