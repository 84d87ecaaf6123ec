"""The chain of transitions: each row's hash covers the row and the hash before it. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

from orchestrator.machine import State
from orchestrator.records import Transition, changed


def link(previous_hash: str, transition: Transition) -> Transition:
    """`transition` with the hash that follows `previous_hash` ('' at the beginning)."""
    row = vars(transition) | {"hash": previous_hash}
    text = json.dumps(row, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return changed(transition, hash=hashlib.sha256(text.encode()).hexdigest())


def faults(transitions: Iterable[Transition], state: State, seq: int, last_hash: str) -> list[str]:
    """What is wrong with a chain, given the state, seq and hash that the onboarding's row keeps."""
    found: list[str] = []
    previous, number, at = "", 0, None
    for row in transitions:
        number += 1
        if row.seq != number:
            return [*found, f"row {number} is missing"]
        if link(previous, row).hash != row.hash:
            return [*found, f"row {number} was changed"]
        if row.from_state is not at:
            found.append(f"row {number} does not start where row {number - 1} ended")
        previous, at = row.hash, row.to_state
    if number != seq:
        found.append(f"the chain has {number} rows, the onboarding counts {seq}")
    elif previous != last_hash:
        found.append("the chain does not end in the hash that the onboarding keeps")
    if at is not state:
        found.append(f"the chain ends in {at}, the onboarding is in {state}")
    return found
