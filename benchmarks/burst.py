"""What happens after an outage: OSL Pay's webhooks come all at once, as fast as they are answered.

Afterwards the worker confirms each of them with the sandbox, whose rate is unlimited.
"""

from __future__ import annotations

import json
import sqlite3
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import click

from benchmarks import sending, stored
from benchmarks.measuring import Goal, percentile, report
from benchmarks.processes import Processes, Settings, wait_for_port
from benchmarks.webhooks import passes
from orchestrator.cli.demo_installation import free_port

_CONNECTIONS = 64
_LONGEST = 600.0


def measure(*, short: bool = False) -> Sequence[Goal]:
    """Run it and report."""
    count = 100 if short else 20_000
    with tempfile.TemporaryDirectory() as folder, Processes(Path(folder)) as processes:
        port = free_port()
        settings = Settings(
            processes.folder,
            bits=1024,
            providers=f"http://127.0.0.1:{port}",
            OSL_REQUESTS_PER_SECOND="1000",
            ORCHESTRATOR_LOG_LEVEL="ERROR",
        )
        # The sandbox has userIds of its own.
        stored.store_waiting(settings, count, whole=count, named=False)
        processes.spawn(
            "sandbox", "orchestrator", "sandbox", "--port", str(port), "--rate", "0", environ=settings.environ
        )
        processes.gunicorn("orchestrator.wsgi:app", settings.port, settings.environ)
        wait_for_port(port)
        known = (
            sending.post(port, f"/sandbox/users/{stored.name(number)}", {}, json.dumps({"kycStatus": "PASS"}).encode())
            for number in range(count)
        )
        sending.at_full_speed(port, known, 16)
        webhooks = list(passes(settings, range(count)))
        sent = sending.at_full_speed(settings.port, webhooks, _CONNECTIONS)
        kept = _one(settings, "select count(*) from callbacks where seen = 1 and verdict = 'applied'")
        began = time.monotonic()
        processes.worker(settings.environ)
        while (
            settled := _one(settings, "select coalesce(sum(onboardings), 0) from state_counts where state = 'approved'")
        ) < count:
            if time.monotonic() - began > _LONGEST:
                raise click.ClickException(f"{settled} of {count} were settled after {_LONGEST:.0f} s")
            time.sleep(0.2)
        settling = time.monotonic() - began
    table = [
        {
            "webhooks": count,
            "seconds": sent.seconds,
            "webhooks/s": sent.per_second,
            "p99 ms": percentile(sent.latencies, 0.99) * 1000,
            "worst ms": max(sent.latencies) * 1000,
            "settled after s": settling,
            "settled/s": count / settling,
        }
    ]
    goals = [
        Goal("webhooks answered 200", sent.statuses.get(200, 0), "exactly", count),
        Goal("webhooks stored, each once", kept, "exactly", count),
    ]
    return report("burst", f"{count:,} webhooks at once over {_CONNECTIONS} connections", table, goals)


def _one(settings: Settings, query: str) -> int:
    with closing(sqlite3.connect(f"file:{settings.database}?mode=ro", uri=True, timeout=10)) as connection:
        return int(connection.execute(query).fetchone()[0])
