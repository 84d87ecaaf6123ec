"""The audit of the chains: against changes of single rows, and against somebody who recomputes a whole chain."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from orchestrator.errors import InvalidInput
from orchestrator.onboarding import chain
from orchestrator.onboarding.context import Context

_TOTAL = "total"


@dataclass(frozen=True)
class AuditFault:
    """One broken chain and what is wrong with it."""

    onboarding_id: str
    problem: str


def faults(context: Context) -> Iterator[AuditFault]:
    """Every fault of every chain: changed, removed, inserted or reordered rows, and a cut tail."""
    for onboarding_id, _, _, _ in context.store.heads():
        row = context.store.onboarding(onboarding_id)
        if row is None:
            continue
        transitions = context.store.transitions(onboarding_id)
        if transitions and transitions[-1].seq > row.seq:
            row = context.store.onboarding(onboarding_id) or row
        for problem in chain.faults(transitions, row.state, row.seq, row.hash):
            yield AuditFault(onboarding_id, problem)
    for onboarding_id in context.store.stray_chains():
        yield AuditFault(onboarding_id, "its onboarding was deleted")


def head(context: Context) -> Iterator[str]:
    """A line for each onboarding (`id seq hash`), and a last one with the hash over them all, to be kept elsewhere."""
    total = hashlib.sha256()
    for onboarding_id, _, seq, last_hash in context.store.heads():
        line = f"{onboarding_id} {seq} {last_hash}"
        total.update(f"{line}\n".encode())
        yield line
    yield f"{_TOTAL} {total.hexdigest()}"


def faults_since(context: Context, lines: Iterable[str]) -> Iterator[AuditFault]:
    """The onboardings that no longer lead from what `head` printed; newer rows and onboardings are no fault.

    Raises InvalidInput when `lines` are not what it printed.
    """
    for onboarding_id, seq, known_hash in _parsed(lines):
        row = context.store.transition(onboarding_id, seq)
        if row is None:
            yield AuditFault(onboarding_id, f"row {seq}, which the head names, is gone")
        elif row.hash != known_hash:
            yield AuditFault(onboarding_id, f"row {seq} is not the one that the head names")


def _parsed(lines: Iterable[str]) -> list[tuple[str, int, str]]:
    total = hashlib.sha256()
    known: list[tuple[str, int, str]] = []
    for line in (line.strip() for line in lines):
        parts = line.split(" ")
        if parts == [_TOTAL, total.hexdigest()]:
            return known
        if len(parts) != 3 or not parts[1].isdecimal():
            break
        total.update(f"{line}\n".encode())
        known.append((parts[0], int(parts[1]), parts[2]))
    raise InvalidInput("the head file was changed or is not complete: its last line must be the hash over all others")
