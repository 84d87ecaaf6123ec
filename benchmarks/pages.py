"""How long the operators' pages take with many onboardings: overview, list and one onboarding, over HTTP.

`python -m benchmarks pages` prints a table and writes `benchmarks/pages.json`. Times are until a page's last byte.
"""

from __future__ import annotations

import sqlite3
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

import click

from benchmarks import sending, stored
from benchmarks.measuring import Goal, percentile, report, rounds
from benchmarks.processes import Processes, Settings
from orchestrator.onboarding import access

_GOAL_MS = 50.0
_DAY_MS = 86_400_000
_WHOLE = 500
"""So many onboardings can be opened; one of them is the page that is measured."""
_STATES = {"approved": 60, "rejected": 10, "awaiting_callback": 20, "needs_attention": 5, "cancelled": 5}
"""Of a hundred."""


def measure(*, short: bool = False) -> Sequence[Goal]:
    """Run it and report."""
    count, times = (500, 3) if short else (100_000, 40)
    with tempfile.TemporaryDirectory() as folder, Processes(Path(folder)) as processes:
        settings = Settings(Path(folder), bits=1024, ORCHESTRATOR_LOG_LEVEL="ERROR")
        stored.store_waiting(settings, count, whole=min(_WHOLE, count))
        with closing(sqlite3.connect(settings.database, isolation_level=None)) as connection:
            one = _spread(connection, count)
        with settings.service() as service:
            token = access.create_token(service.context, "bench", "operator")
            secret, _ = access.sign_in(service.context, token, "127.0.0.1")
        processes.gunicorn("orchestrator.wsgi:app", settings.port, settings.environ, workers=1)
        paths = {
            "overview": "/status",
            "list": "/status/onboardings",
            "list, a state, longest unchanged": "/status/onboardings?state=needs_attention&sort=unchanged",
            "list, a webhook's verdict": "/status/onboardings?verdict=forged",
            "list, a verdict and a state": "/status/onboardings?verdict=applied&state=cancelled",
            "list, a search": f"/status/onboardings?q={one}",
            "one onboarding": f"/status/onboardings/{one}",
        }
        headers = {"Cookie": f"orchestrator={secret}", "Accept": "text/html"}
        asked = {name: sending.request("GET", settings.port, path, headers) for name, path in paths.items()}

        def play(_: int) -> dict[str, list[float]]:
            return {name: _times(settings.port, data, times) for name, data in asked.items()}

        play(0)  # the first request of each opens connections and compiles templates
        played = rounds(1 if short else 3, play)
    return _report(count, played)


def _times(port: int, data: bytes, times: int) -> list[float]:
    sent = sending.at_full_speed(port, [data] * times, 1)
    if set(sent.statuses) != {200}:
        raise click.ClickException(f"not all was answered 200: {sent.statuses}")
    return [seconds * 1000 for seconds in sent.latencies]


def _spread(connection: sqlite3.Connection, count: int) -> str:
    """Give the onboardings states, sixty days of history, and a webhook each; the id of one that can be opened."""
    connection.execute("begin")
    (one,) = connection.execute("select id from onboardings where merchant_user_id = ?", (stored.name(7),)).fetchone()
    ago = f"(rowid * {60 * _DAY_MS // count})"
    connection.execute(f"update onboardings set created_at = created_at - {ago}, updated_at = updated_at - {ago}")
    connection.execute("delete from state_counts")
    first = 0
    for state, share in _STATES.items():
        settled = state in ("approved", "rejected")
        waits = state == "awaiting_callback"
        connection.execute(
            "update onboardings set state = :state, submitted_at = created_at,"
            " settled_at = case when :settled then updated_at end,"
            " closed_at = case when :closed then updated_at end,"
            " lane = case when :waits then lane end, due_at = case when :waits then due_at end"
            " where rowid % 100 >= :first and rowid % 100 < :last and id <> :one",
            {
                "state": state,
                "settled": settled,
                "closed": state == "cancelled",
                "waits": waits,
                "first": first,
                "last": first + share,
                "one": one,
            },
        )
        first += share
    connection.execute("insert into state_counts select state, count(*) from onboardings group by state")
    connection.execute(
        "insert into callbacks select 'cbk_' || substr(id, 5), updated_at, 'bench', updated_at, '', id, 1,"
        " 'kyc_status_change', 'PASS', osl_user_id, x'00', '',"
        " case rowid % 1000 when 0 then 'forged' else 'applied' end, 1 from onboardings"
    )
    for span, length in (("hour", 3_600_000), ("day", _DAY_MS)):
        connection.execute(
            "insert into flow select ?, created_at - created_at % ?, 'began', count(*) from onboardings group by 2",
            (span, length),
        )
        connection.execute(
            "insert into flow select ?, settled_at - settled_at % ?, state, count(*) from onboardings"
            " where settled_at is not null group by 2, 3",
            (span, length),
        )
    connection.execute("commit")
    return str(one)


def _report(count: int, played: Sequence[Mapping[str, Sequence[float]]]) -> Sequence[Goal]:
    rows, goals = [], []
    for name in played[0]:
        times = [time for one in played for time in one[name]]
        median = statistics.median(times)
        rows.append({"page": name, "p50 ms": median, "p99 ms": percentile(times, 0.99), "stored": count})
        goals.append(Goal(f"{name}, until the last byte", median, "at most", _GOAL_MS, "ms"))
    return report("pages", f"The operators' pages over {count:,} onboardings", rows, goals)
