"""Whether anything gets slower as onboardings accumulate: the same work over 10,000, 100,000 and 1,000,000 of them."""

from __future__ import annotations

import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import count, islice
from pathlib import Path

import click

from benchmarks import sending, stored
from benchmarks.job import run_stub
from benchmarks.measuring import Goal, ratio, report, rounds
from benchmarks.processes import Processes, Settings, family, memory_mb
from benchmarks.webhooks import passes
from orchestrator import bootstrap
from orchestrator.cli.demo_installation import free_port
from orchestrator.onboarding import access, advance
from orchestrator.records import Lane
from orchestrator.store.claiming import Claim
from orchestrator.store.driver import Session

_ROUNDS = 5
_OF_A_HUNDRED_THOUSAND, _OF_TEN_THOUSAND, _MEMORY = 1.3, 2.0, 1.1
_WORKING_SECONDS = 4.0


@dataclass(frozen=True)
class _Size:
    stored: Sequence[int]
    whole: int
    times: int
    """How often each thing is done in a round."""


_FULL = _Size((10_000, 100_000, 1_000_000), 2_000, 40)
_SHORT = _Size((100, 200, 400), 50, 3)


class _Installation:
    """One database of a size, with web and worker; `work`: what is measured, by name; each gives seconds."""

    def __init__(self, processes: Processes, service: bootstrap.Service, settings: Settings) -> None:
        self.settings = settings
        self._service = service
        self._numbers = count()
        self.web = processes.gunicorn("orchestrator.wsgi:app", settings.port, settings.environ, workers=1)
        token = access.create_token(service.context, "bench", "operator")
        secret, _ = access.sign_in(service.context, token, "127.0.0.1")
        listed = {"Authorization": f"Bearer {token}"}
        self._list = sending.request("GET", settings.port, "/api/v1/onboardings?limit=50", listed)
        self._overview = sending.request("GET", settings.port, "/status", {"Cookie": f"orchestrator={secret}"})
        self.work: dict[str, Callable[[int], list[float]]] = {
            "claim": self._claim,
            "acknowledge": self._acknowledge,
            "list page": lambda times: self._ask([self._list] * times),
            "overview": lambda times: self._ask([self._overview] * times),
        }

    def _acknowledge(self, times: int) -> list[float]:
        return self._ask(list(passes(self.settings, islice(self._numbers, times))))

    def _ask(self, requests: list[bytes]) -> list[float]:
        sent = sending.at_full_speed(self.settings.port, requests, 1)
        if set(sent.statuses) != {200}:
            raise click.ClickException(f"not all was answered 200: {sent.statuses}")
        return sent.latencies

    def _claim(self, times: int) -> list[float]:
        """Claim eight rows, and give them back unmeasured."""
        taken = []
        for _ in range(times):
            began = time.perf_counter()
            claims = advance.claim(self._service.context, {Lane.POLL: 8})
            taken.append(time.perf_counter() - began)
            if len(claims) != 8:
                raise click.ClickException(f"{len(claims)} rows were claimed, not 8")
            for claim in claims:
                self._service.driver.write(partial(_give_back, claim))
        return taken


def _give_back(claim: Claim, session: Session) -> None:
    session.run("release_lease", id=claim.onboarding.id, lease=claim.lease)
    session.run("free_slot", id=claim.slot, holder=claim.lease, free_at=0)


def measure(*, short: bool = False) -> Sequence[Goal]:
    """Run it and report."""
    size = _SHORT if short else _FULL
    with ExitStack() as stack:
        installations = [_installed(stack, stored_, size.whole) for stored_ in size.stored]
        for installation in installations:
            for work in installation.work.values():
                work(size.times // 2 + 1)

        def play(_: int) -> list[dict[str, float]]:
            return [
                {name: statistics.median(work(size.times)) * 1000 for name, work in installation.work.items()}
                for installation in installations
            ]

        played = rounds(1 if short else _ROUNDS, play)
        memory = [_memory(installation) for installation in installations]
    return _report(size, played, memory)


def _installed(stack: ExitStack, stored_: int, whole: int) -> _Installation:
    processes = stack.enter_context(Processes(Path(stack.enter_context(tempfile.TemporaryDirectory()))))
    port = free_port()
    settings = Settings(
        processes.folder,
        bits=1024,
        providers=f"http://127.0.0.1:{port}",
        OSL_REQUESTS_PER_SECOND="1000",
        ORCHESTRATOR_LOG_LEVEL="ERROR",
    )
    stored.store_waiting(settings, stored_, whole=whole, overdue=stored_ // 2)
    run_stub(processes, port, settings)
    return _Installation(processes, stack.enter_context(settings.service()), settings)


def _memory(installation: _Installation) -> dict[str, float]:
    """MB of web and worker, after the worker has had something to do."""
    with Processes(installation.settings.database.parent) as processes:
        worker: subprocess.Popen[bytes] = processes.worker(installation.settings.environ)
        time.sleep(_WORKING_SECONDS)
        return {"web MB": memory_mb(family(installation.web)[1]), "worker MB": memory_mb(worker.pid)}


def _report(
    size: _Size, played: Sequence[Sequence[dict[str, float]]], memory: Sequence[dict[str, float]]
) -> Sequence[Goal]:
    def times(place: int, name: str) -> list[float]:
        return [one[place][name] for one in played]

    names = list(played[0][0])
    table: list[dict[str, str | float]] = [
        {
            "stored": f"{stored_:,}",
            **{f"{name} ms": statistics.median(times(place, name)) for name in names},
            **memory[place],
        }
        for place, stored_ in enumerate(size.stored)
    ]
    return report("growth", "The same work over more and more onboardings", table, list(_goals(names, times, memory)))


def _goals(
    names: Sequence[str], times: Callable[[int, str], list[float]], memory: Sequence[dict[str, float]]
) -> Iterator[Goal]:
    for name in names:
        small, middle, large = (times(place, name) for place in range(3))
        yield Goal(f"{name} at the largest, of the middle", ratio(large, middle), "at most", _OF_A_HUNDRED_THOUSAND)
        yield Goal(f"{name} at the largest, of the smallest", ratio(large, small), "at most", _OF_TEN_THOUSAND)
    for name in memory[0]:
        yield Goal(f"{name} at the largest, of the smallest", memory[2][name] / memory[0][name], "at most", _MEMORY)
