"""Checks of an installation: what is wrong with it, and what to do. Nothing here changes a provider's health."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from orchestrator.errors import Kind, OrchestratorError, ProviderError, StoreUnavailable
from orchestrator.onboarding import look
from orchestrator.onboarding.context import SECOND, Context
from orchestrator.onboarding.measure import measured
from orchestrator.providers.answers import NOTABLE_SKEW_MS, Answer
from orchestrator.providers.btse_pay import BtsePay
from orchestrator.providers.http import Outgoing
from orchestrator.records import Operation, Refusal, Verdict

NOBODY = "orchestrator-doctor"
"""A merchantUserId that nobody has: reading about it changes nothing."""


class Level(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True)
class Finding:
    """What one check found. `text` says what to do where it is not ok."""

    check: str
    level: Level
    text: str


def examine(
    context: Context, outgoing: Outgoing, btse_variants: Mapping[str, BtsePay], urls: Mapping[str, str]
) -> Iterator[Finding]:
    """Every check in turn. `btse_variants`: clients with other assumptions, by what they assume; `urls`: by setting."""
    yield from _urls(urls)
    yield from _stored(context)
    yield from _if_stored("keys", _sealed(context))
    yield _worker(context)
    yield _public_url(context, outgoing)
    yield from _if_stored("webhooks", _webhooks(context))
    yield from _btse(context, btse_variants)
    yield from _if_stored("OSL Pay", _osl(context))


def _if_stored(check: str, findings: Iterator[Finding]) -> Iterator[Finding]:
    """The findings, as far as the database can be used: before the first `migrate` it cannot."""
    try:
        yield from findings
    except StoreUnavailable:
        yield Finding(check, Level.WARNING, "cannot be checked before the database can be used")


def _urls(urls: Mapping[str, str]) -> Iterator[Finding]:
    for name, url in urls.items():
        parts = urlsplit(url)
        if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
            yield Finding(name, Level.WARNING, "is http: anybody on the way can read and change it; use https")
        else:
            yield Finding(name, Level.OK, "is encrypted on its way, or stays on this machine")


def is_loopback(host: str) -> bool:
    """Whether a URL's host is this machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _stored(context: Context) -> Iterator[Finding]:
    def migrated() -> str:
        pending = context.pending_migrations()
        if pending:
            raise OrchestratorError(f"{', '.join(pending)} not applied: run `orchestrator migrate`")
        return "is up to date"

    def writable() -> str:
        context.schedule.check_writable()
        return "can be written"

    def documents() -> str:
        context.documents.shelf.check_writable()
        return "can be written"

    yield _checked("schema", migrated)
    yield _checked("database", writable)

    def there() -> str:
        shelf, store = context.documents.shelf, context.store
        gone = set(store.document_locations()) - {location for location, _ in shelf.locations()}
        # What was replaced or deleted meanwhile is no fault.
        gone.intersection_update(store.document_locations())
        if gone:
            raise OrchestratorError(f"{len(gone)} are gone, the first is {min(gone)}: put them back from a backup")
        return "are all there"

    yield _checked("documents", documents)
    yield _checked("documents' files", there)


def _sealed(context: Context) -> Iterator[Finding]:
    counted: dict[str, int] = {}
    for sealed in context.store.sealed_values():
        key_id = context.sealer.key_id(sealed)
        counted[key_id] = counted.get(key_id, 0) + 1
    known = context.sealer.key_ids()
    for position, key_id in enumerate(known):
        use = "seals new rows" if position == 0 else "only opens: run `orchestrator reseal`, then it can go"
        level = Level.OK if position == 0 or not counted.get(key_id) else Level.WARNING
        yield Finding(f"key {key_id}", level, f"{counted.pop(key_id, 0)} sealed values; {use}")
    for key_id, count in counted.items():
        text = f"{count} values were sealed with it and it is not in ORCHESTRATOR_ENCRYPTION_KEYS: add it back"
        yield Finding(f"key {key_id}", Level.ERROR, text)


def _worker(context: Context) -> Finding:
    def alive() -> str:
        beat = look.last_beat(context)
        if beat is None or context.now_ms() - beat > context.timings.worker_silent:
            raise OrchestratorError("none is running: start `orchestrator serve` or `orchestrator worker`")
        return "is running"

    return _checked("worker", alive, Level.WARNING)


def _public_url(context: Context, outgoing: Outgoing) -> Finding:
    def answers() -> str:
        reply = outgoing.send("web", "GET", f"{context.rules.public_url}/healthz", headers={})
        if reply.status != 200:
            raise OrchestratorError(f"answers {reply.status} to /healthz: is it this service?")
        return "answers"

    return _checked("ORCHESTRATOR_PUBLIC_URL", answers, Level.WARNING)


def _webhooks(context: Context) -> Iterator[Finding]:
    """No call shows whether OSL Pay's key is right, but what came does."""
    tallies = context.store.tallies()
    unsigned = tallies.get(("verdicts", Refusal.UNSIGNED), 0)
    signed = sum(tallies.get(("verdicts", verdict), 0) for verdict in Verdict)
    if unsigned and not signed:
        text = f"{unsigned} came and none was signed with OSL_WEBHOOK_PUBLIC_KEY: compare it with OSL Pay's key"
        yield Finding("webhooks", Level.WARNING, text)
    else:
        yield Finding("webhooks", Level.OK, f"{signed} verdicts so far; {unsigned} not signed by OSL Pay")


def _btse(context: Context, variants: Mapping[str, BtsePay]) -> Iterator[Finding]:
    error, skew = _asked(context, Operation.BTSE_AUTHORIZATION, lambda: context.btse.get_authorization(NOBODY))
    yield _provider("BTSE Pay", error)
    if error is not None and error.kind is Kind.UNAUTHORIZED:
        accepted = [name for name, client in variants.items() if _lets_in(context, client)]
        if accepted:
            text = f"BTSE Pay accepts {accepted[0]}: write that below [btse] in ORCHESTRATOR_PROVIDERS_FILE"
            if "path" in accepted[0]:
                text += ", and shorten the other two paths alike; or shorten BTSE_BASE_URL"
            yield Finding("BTSE Pay assumptions", Level.ERROR, text)
        else:
            text = "none of the documented variants is accepted: check the keys, and that this address is listed"
            yield Finding("BTSE Pay assumptions", Level.ERROR, text)
    elif error is None or error.kind is Kind.REFUSED:
        yield Finding("BTSE Pay assumptions", Level.OK, "path and sign encoding are accepted")
    yield from _skew("BTSE Pay", skew)


def _lets_in(context: Context, client: BtsePay) -> bool:
    error, _ = _asked(context, Operation.BTSE_AUTHORIZATION, lambda: client.get_authorization(NOBODY))
    return error is None or error.kind is Kind.REFUSED


def _osl(context: Context) -> Iterator[Finding]:
    holder = context.new_id("doctor")
    now = context.now_ms()
    slot = context.schedule.take_slot(now, holder, now + context.rules.deadline_ms + SECOND)
    if slot is None:
        yield Finding("OSL Pay", Level.WARNING, "all its requests of this second are in use: try again")
        return
    try:
        error, skew = _asked(context, Operation.OSL_STATUS, lambda: context.osl.kyc_status(NOBODY, None))
    finally:
        read_at = context.now_ms()
        context.schedule.free_slot(slot, holder, read_at, read_at + SECOND)
    yield _provider("OSL Pay", error)
    if error is not None and error.code == "00001":
        yield Finding("OSL Pay's 00001", Level.ERROR, _why_00001(error))
    yield from _skew("OSL Pay", skew)


def _why_00001(error: ProviderError) -> str:
    words = error.words.casefold()
    address = "ip" in words.split() or "whitelist" in words or "allow" in words
    signature = "sign" in words
    if address and not signature:
        return "it speaks of the address: have this machine's address listed at OSL Pay"
    if signature and not address:
        return "it speaks of the signature: OSL_PRIVATE_KEY must be the key whose public part OSL Pay has"
    return "either this machine's address is not listed, or OSL_PRIVATE_KEY is not the key that OSL Pay knows"


def _provider(name: str, error: ProviderError | None) -> Finding:
    if error is None or error.kind is Kind.REFUSED:
        return Finding(name, Level.OK, "answers, and accepts the signature")
    if error.kind is Kind.UNAUTHORIZED:
        return Finding(name, Level.ERROR, f"refuses this installation ({error.code}): base URL, path, keys or address")
    return Finding(name, Level.ERROR, f"cannot be used now ({error.code}): base URL, network, or it is down")


def _skew(name: str, skew: int | None) -> Iterator[Finding]:
    if skew is None:
        return
    far = abs(skew) > NOTABLE_SKEW_MS
    text = f"is {skew / 1000:+.1f} s from ours" + (": set this machine's clock by NTP" if far else "")
    yield Finding(f"{name}'s clock", Level.WARNING if far else Level.OK, text)


def _asked(
    context: Context, operation: Operation, call: Callable[[], Answer[Any]]
) -> tuple[ProviderError | None, int | None]:
    """What a call was refused with, and the provider's clock minus ours (ms) where it said so."""
    try:
        return None, measured(context, operation, call).skew_ms
    except ProviderError as error:
        return error, error.skew_ms


def _checked(check: str, work: Callable[[], str], level: Level = Level.ERROR) -> Finding:
    try:
        return Finding(check, Level.OK, work())
    except OrchestratorError as error:
        return Finding(check, level, str(error))
