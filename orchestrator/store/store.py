"""Onboardings and all that belongs to one: read as records, changed by `commit` alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

from orchestrator.errors import OrchestratorError
from orchestrator.health import Outcome, ProviderHealth, after
from orchestrator.machine import State
from orchestrator.records import (
    PROVIDER_LANES,
    Callback,
    CallbackToken,
    Delivery,
    DeliveryStatus,
    Document,
    Onboarding,
    Transition,
    Verdict,
)
from orchestrator.store import flow, rows
from orchestrator.store.change import Change, Held, LeaseLost
from orchestrator.store.driver import Driver, Duplicate, Row, Session, count_flow, first, tally

ORPHANS_KEPT = 1_000
_CHUNK = 500
BODIES = {"callbacks": "id", "deliveries": "id", "callback_tokens": "hash"}
"""Tables with a sealed body, and their keys."""


class Store:
    """Onboardings, their documents, callbacks, transitions and notifications."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    def commit(self, change: Change) -> bool:
        """Write all of `change`, or nothing. False: the row is no longer as it was in `before`; decide again.

        Raises LeaseLost, StoreUnavailable.
        """
        try:
            return self._driver.write(lambda session: _commit(session, change))
        except (_Stale, Duplicate):
            return False

    def onboarding(self, onboarding_id: str) -> Onboarding | None:
        """One onboarding by its id."""
        return self._onboarding("onboarding", id=onboarding_id)

    def live_onboarding(self, merchant_user_id: str) -> Onboarding | None:
        """The live one of a merchantUserId."""
        return self._onboarding("live_onboarding", merchant_user_id=merchant_user_id)

    def newest_onboarding(self, merchant_user_id: str) -> Onboarding | None:
        """The newest of a merchantUserId, live or not."""
        return self._onboarding("newest_onboarding", merchant_user_id=merchant_user_id)

    def onboarding_of_signup(self, webhook_id: str) -> Onboarding | None:
        """What a webhook-id first gave."""
        return self._onboarding("onboarding_of_signup", webhook_id=webhook_id)

    def remember_signup(self, webhook_id: str, onboarding_id: str, now: int) -> None:
        """A webhook-id that found an onboarding already there goes on giving it."""
        with suppress(Duplicate):
            self._driver.write(
                lambda session: session.run(
                    "insert_signup", webhook_id=webhook_id, onboarding_id=onboarding_id, received_at=now
                )
            )

    def onboarding_of_link(self, link_hash: str) -> Onboarding | None:
        """The onboarding that an end user's link opens."""
        return self._onboarding("onboarding_of_link", hash=link_hash)

    def link_was_replaced(self, link_hash: str) -> bool:
        """Whether this link worked once."""
        return bool(self._rows("replaced_link", hash=link_hash))

    def onboarding_of_osl_user(self, osl_user_id: str) -> Onboarding | None:
        """The newest live one that OSL Pay calls by this userId."""
        return self._onboarding("live_onboarding_of_osl_user", osl_user_id=osl_user_id)

    def shared_before(self, onboarding: Onboarding, erased_names: Sequence[str]) -> bool:
        """Whether OSL Pay may know the user from an earlier onboarding, be it an erased one."""
        names = (onboarding.merchant_user_id, *erased_names)
        return any(self._rows("shared_before", merchant_user_id=name, id=onboarding.id) for name in names)

    def counts(self) -> dict[State, int]:
        """How many onboardings are in each state."""
        return {State(row["state"]): row["onboardings"] for row in self._rows("counts")}

    def tallies(self) -> dict[tuple[str, str], int]:
        """What was counted: (what, word) → number."""
        return {(row["what"], row["word"]): row["number"] for row in self._rows("tallies")}

    def documents(self, onboarding_id: str) -> list[Document]:
        """The documents of one onboarding."""
        return [rows.document(row) for row in self._rows("documents", onboarding_id=onboarding_id)]

    def transitions(self, onboarding_id: str) -> list[Transition]:
        """The chain of one onboarding."""
        return [rows.transition(row) for row in self._rows("transitions", onboarding_id=onboarding_id)]

    def transition(self, onboarding_id: str, seq: int) -> Transition | None:
        """One row of a chain."""
        row = first(self._rows("transition", onboarding_id=onboarding_id, seq=seq))
        return None if row is None else rows.transition(row)

    def callbacks(self, onboarding_id: str) -> list[Callback]:
        """The callbacks of one onboarding, in the order of arrival."""
        return [rows.callback(row) for row in self._rows("callbacks", onboarding_id=onboarding_id)]

    def callbacks_to_judge_by(
        self, onboarding: Onboarding, *, token_hash: str, app_id: str, timestamp: int
    ) -> list[Callback]:
        """Those that bear on one more of this identity, in the order of arrival.

        They are: the same identity's, the forged ones, the newest believed in this round, and the claim.
        """
        found = self._rows(
            "callbacks_to_judge_by",
            onboarding_id=onboarding.id,
            round=onboarding.round,
            claim_callback=onboarding.claim_callback or "",
            token_hash=token_hash,
            app_id=app_id,
            timestamp=timestamp,
        )
        return [rows.callback(row) for row in found]

    def callback(self, callback_id: str) -> Callback | None:
        """One callback by its id."""
        row = first(self._rows("callback", id=callback_id))
        return None if row is None else rows.callback(row)

    def orphans_like(self, app_id: str, timestamp: int) -> list[Callback]:
        """Unmatched callbacks of the same identity."""
        return [rows.callback(row) for row in self._rows("orphans_like", app_id=app_id, timestamp=timestamp)]

    def orphans_of(self, osl_user_id: str) -> list[Callback]:
        """Unmatched callbacks that name this userId."""
        return [rows.callback(row) for row in self._rows("orphans_of", osl_user_id=osl_user_id)]

    def keep_orphan(self, callback: Callback) -> None:
        """Store a callback that matches nobody, in a ring of ORPHANS_KEPT rows."""

        def work(session: Session) -> None:
            session.run("put_callback", **vars(callback))
            session.run("trim_orphans", keep=ORPHANS_KEPT)
            tally(session, {("verdicts", callback.verdict): 1})

        self._driver.write(work)

    def count_again(self, callback_id: str) -> None:
        """The same callback came once more."""

        self._driver.write(lambda session: _see_again(session, callback_id))

    def count(self, counted: Mapping[tuple[str, str], int]) -> None:
        """So many more of each (what, word), of which there are no rows to be counted with."""
        self._driver.write(lambda session: tally(session, counted))

    def addressee(self, token_hash: str) -> tuple[Onboarding, int] | None:
        """Whose callbackUrl this is, and the round it was made for."""
        row = first(self._rows("addressee", hash=token_hash))
        if row is None:
            return None
        columns = dict(row)
        number = columns.pop("url_round")
        return rows.onboarding(columns), number

    def callback_token_of_round(self, onboarding_id: str, number: int) -> CallbackToken | None:
        """The token that all attempts of a round send."""
        row = first(self._rows("callback_token_of_round", onboarding_id=onboarding_id, round=number))
        return None if row is None else rows.callback_token(row)

    def deliveries(self, onboarding_id: str) -> list[Delivery]:
        """The notifications of one onboarding in order."""
        return [rows.delivery(row) for row in self._rows("deliveries", onboarding_id=onboarding_id)]

    def delivery(self, delivery_id: str) -> Delivery | None:
        """One notification."""
        row = first(self._rows("delivery", id=delivery_id))
        return None if row is None else rows.delivery(row)

    def with_documents_past(self, before: int) -> Iterator[str]:
        """Ids of onboardings that ended before `before` (ms) and still have documents."""
        return (row["id"] for row in self._each("documents_past", before=before))

    def with_profile_past(self, before: int) -> Iterator[str]:
        """Ids of onboardings that ended before `before` (ms) and still have their profile."""
        return (row["id"] for row in self._each("profiles_past", before=before))

    def heads(self) -> Iterator[tuple[str, State, int, str]]:
        """Every onboarding's id, state, and its chain's last seq and hash, by id."""
        for row in self._each("onboarding_heads"):
            yield row["id"], State(row["state"]), row["seq"], row["hash"]

    def sealed_bodies(self) -> Iterator[tuple[str, str, tuple[str, ...], bytes]]:
        """Every sealed body beside the onboardings': its table, its row's key, its place, and the bytes."""
        for table, key_name in BODIES.items():
            for row in self._each(f"sealed_{table}", key_name):
                yield table, row[key_name], tuple(row["place"].split(" ")), row["sealed"]

    def replace_body(self, table: str, key: str, old: bytes, new: bytes) -> None:
        """Put a body sealed anew in place of `old`, if it is still that."""
        self._driver.write(lambda session: session.run(f"reseal_{table}", key=key, old=old, new=new))

    def sealed_values(self) -> Iterator[bytes]:
        """All that is sealed in the rows of onboardings, and every sealed body."""
        for row in self._each("sealed_columns"):
            yield from (value for name, value in row.items() if name != "id" and value is not None)
        yield from (sealed for _, _, _, sealed in self.sealed_bodies() if sealed)

    def document_locations(self) -> Iterator[str]:
        """Where every document's file lies."""
        return (row["location"] for row in self._each("document_locations", "location"))

    def is_empty(self) -> bool:
        """Whether there is no onboarding and no access token."""
        return not self._rows("any_row")

    def stray_chains(self) -> list[str]:
        """Ids of chains whose onboarding is gone (a hundred at most)."""
        return [row["onboarding_id"] for row in self._rows("stray_transitions", limit=100)]

    def _each(self, name: str, key: str = "id", **parameters: object) -> Iterator[Row]:
        """All rows of a statement that gives some at a time, in the order of `key` and after the last one given."""
        last = ""
        while page := self._rows(name, after=last, limit=_CHUNK, **parameters):
            yield from page
            last = page[-1][key]

    def _rows(self, name: str, **parameters: object) -> list[Row]:
        return self._driver.rows(name, **parameters)

    def _onboarding(self, name: str, **parameters: object) -> Onboarding | None:
        row = first(self._rows(name, **parameters))
        return None if row is None else rows.onboarding(row)


class _Stale(OrchestratorError):
    """The row changed since it was read."""


def _commit(session: Session, change: Change) -> bool:
    if change.held is not None:
        _hold(session, change.after.id, change.held)
    if change.before is None:
        session.run("insert_onboarding", **rows.onboarding_values(change.after))
    else:
        _update(session, change.before, change.after)
    _count(session, change.before, change.after)
    _attach(session, change)
    counted = flow.of_change(change.before, change.after)
    if change.outcome is not None:
        _learn(session, change.outcome, change.probe_ms)
        counted += flow.of_outcome(change.outcome)
    count_flow(session, counted)
    return True


def _update(session: Session, before: Onboarding, after: Onboarding) -> None:
    values = rows.onboarding_values(after) | {"version": before.version}
    if not session.run("update_onboarding", **values):
        raise _Stale
    if any(getattr(before, name) != getattr(after, name) for name in rows.IDENTITY):
        session.run("update_identity", **values)


def _hold(session: Session, onboarding_id: str, held: Held) -> None:
    statement = "release_lease" if held.release else "hold_lease"
    if not session.run(statement, id=onboarding_id, lease=held.lease):
        raise LeaseLost(f"the lease on {onboarding_id} was taken over")
    if held.slot is not None:
        wait = held.slot_free_at - held.now
        session.run("free_slot", id=held.slot, holder=held.lease, free_at=session.now(held.now) + wait)


def _count(session: Session, before: Onboarding | None, now: Onboarding) -> None:
    if before is not None and before.state is now.state:
        return
    session.count("count_state", 1, state=now.state)
    if before is not None:
        session.count("count_state", -1, state=before.state)


def _attach(session: Session, change: Change) -> None:
    onboarding_id = change.after.id
    for transition in change.transitions:
        session.run("insert_transition", **vars(transition))
    for callback in change.callbacks:
        session.run("put_callback", **vars(callback))
    for delivery in change.deliveries:
        session.run("insert_delivery", **vars(delivery))
    if change.callback_token is not None:
        session.run("insert_callback_token", **vars(change.callback_token))
    if change.document is not None:
        session.run("put_document", **vars(change.document))
    for kind in change.removed_documents:
        session.run("remove_document", onboarding_id=onboarding_id, kind=kind)
    if change.blank_bodies:
        session.run("blank_callbacks", onboarding_id=onboarding_id, nothing=b"")
        session.run("blank_deliveries", onboarding_id=onboarding_id, nothing=b"")
    if change.signup_id is not None:
        session.run(
            "insert_signup",
            webhook_id=change.signup_id,
            onboarding_id=onboarding_id,
            received_at=change.after.created_at,
        )
    if change.replaced_link is not None:
        session.run(
            "replace_link",
            hash=change.replaced_link,
            onboarding_id=onboarding_id,
            replaced_at=change.after.updated_at,
        )
    if change.seen_again is not None:
        _see_again(session, change.seen_again)
    if change.probe is not None:
        session.run("probe_now", name=change.probe, now=change.after.updated_at)
    given = Counter(("verdicts", str(callback.verdict)) for callback in change.callbacks)
    tally(session, given + Counter({("deliveries", str(DeliveryStatus.PENDING)): len(change.deliveries)}))


def _see_again(session: Session, callback_id: str) -> None:
    for row in session.rows("seen_again", id=callback_id):
        word = Verdict.FORGED if row["verdict"] == Verdict.FORGED else Verdict.DUPLICATE
        tally(session, {("verdicts", word): 1})


def _learn(session: Session, outcome: Outcome, probe_ms: int) -> None:
    row = first(session.rows("provider_to_change", name=outcome.provider))
    health = ProviderHealth(outcome.provider) if row is None else rows.health(row)
    learnt = after(health, outcome, probe_ms)
    if learnt != health:
        session.run("put_provider", **rows.health_values(learnt))
    if health.unhealthy_since is not None and learnt.unhealthy_since is None:
        for lane in PROVIDER_LANES[outcome.provider]:
            session.run("wake_unauthorized", lane=lane, now=outcome.at)
