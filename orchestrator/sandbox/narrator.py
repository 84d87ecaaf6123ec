"""Plays the stories: after a share one webhook after the other, the status query turning as they are sent."""

from __future__ import annotations

from orchestrator.sandbox.clock import Clock
from orchestrator.sandbox.faults import Faults
from orchestrator.sandbox.people import People, Person, Share
from orchestrator.sandbox.schedule import Schedule
from orchestrator.sandbox.settings import SandboxSettings
from orchestrator.sandbox.stories import Step
from orchestrator.sandbox.webhooks import PostOffice, Webhook

BETWEEN_WEBHOOKS_SECONDS = 0.5
AFTER_QUESTION_SECONDS = 1.0


class Narrator:
    """Carries each person's story on, on the threads of the schedule."""

    def __init__(
        self,
        settings: SandboxSettings,
        clock: Clock,
        schedule: Schedule,
        people: People,
        office: PostOffice,
        faults: Faults,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._schedule = schedule
        self._people = people
        self._office = office
        self._faults = faults
        self._last_webhook: dict[Person, Webhook] = {}

    def share_arrived(self, person: Person, share: Share) -> None:
        """The share was acted upon but not yet answered: the query turns; the story `early` sends now."""
        self._turn(person, person.story.query_after_share)
        if person.story.before_answer and share.steps:
            self._play(person, share, 0)

    def share_answered(self, person: Person, share: Share) -> None:
        """The share's answer has gone out: the first webhook follows."""
        if share.steps and not person.story.before_answer:
            self._schedule.after(0, lambda: self._play(person, share, 0))

    def query_answered(self, person: Person, kyc_status: str | None) -> None:
        """The status query's answer has gone out; whoever waited for REJECT to be told goes on."""
        with self._people.lock:
            index, share = person.waiting_for_question, person.share
            if kyc_status != "REJECT" or index is None or share is None:
                return
            person.waiting_for_question = None
        pause = AFTER_QUESTION_SECONDS * self._settings.pace
        self._schedule.after(pause, lambda: self._play(person, share, index))

    def _play(self, person: Person, share: Share, index: int) -> None:
        with person.sending:
            started = self._clock.monotonic()
            with self._people.lock:
                if person.share is not share:  # replaced by a newer share: its story is over
                    return
                step = share.steps[index]
                following = share.steps[index + 1] if index + 1 < len(share.steps) else None
                # Before the webhook is sent: the question it leads to may come before its own answer does.
                if following and following.after_rejection:
                    person.waiting_for_question = index + 1
                webhook = self._webhook(person, share, step)
            if step.query:
                lag = self._settings.lag_seconds if step.lags else 0.0
                self._turn(person, step.query, share.reason if step.query == "REJECT" else "", lag)
            if webhook:
                self._office.deliver(webhook)
        if following and not following.after_rejection:
            pause = BETWEEN_WEBHOOKS_SECONDS * self._settings.pace - (self._clock.monotonic() - started)
            self._schedule.after(pause, lambda: self._play(person, share, index + 1))

    def _webhook(self, person: Person, share: Share, step: Step) -> Webhook | None:
        url = share.callback_url or self._settings.merchant_wide_url
        if url is None:
            return None
        if step.again:
            return self._last_webhook[person]
        now = self._clock.now_ms()
        if step.older_ms:
            timestamp = (person.last_timestamp or now) - step.older_ms
        else:
            timestamp = max(now, person.last_timestamp + 1)
            person.last_timestamp = timestamp
        webhook = self._office.status_change(
            url,
            person.merchant_user_id,
            self._people.register(person),
            step.says,
            share.reason if step.says in ("REJECT", "FINAL_REJECT") else "",
            str(timestamp),
        )
        self._last_webhook[person] = webhook
        return webhook

    def _turn(self, person: Person, kyc_status: str, reason: str = "", lag: float = 0.0) -> None:
        names = (person.merchant_user_id, person.email)
        self._people.turn(person, kyc_status, reason, max(lag, self._faults.status_lag_seconds(names)))
