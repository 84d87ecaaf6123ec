"""Onboardings as CSV, without personal data, with no cell that a spreadsheet takes for a formula."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from io import StringIO

from orchestrator.onboarding.bulk import safe_cell
from orchestrator.records import Onboarding, iso

COLUMNS = (
    *("id", "merchantUserId", "state", "round", "oslUserId", "kycStatus"),
    *("createdAt", "updatedAt", "submittedAt", "settledAt", "closedAt"),
)


def values(row: Onboarding) -> list[object]:
    """What is exported of an onboarding, in the order of COLUMNS."""
    times = (row.created_at, row.updated_at, row.submitted_at, row.settled_at, row.closed_at)
    identity = [row.id, row.merchant_user_id, row.state.value, row.round, row.osl_user_id, row.kyc_status]
    return [*identity, *(iso(time) for time in times)]


def csv_lines(rows: Iterable[Onboarding]) -> Iterator[str]:
    """The lines of a CSV, its head first."""
    yield _line(COLUMNS)
    for row in rows:
        yield _line(safe_cell(value) for value in values(row))


def _line(cells: Iterable[object]) -> str:
    text = StringIO()
    csv.writer(text).writerow(cells)
    return text.getvalue()
