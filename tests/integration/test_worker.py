"""The worker's own loop: what its threads take, and how it stops."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from orchestrator.records import DeliveryStatus
from orchestrator.worker import Worker
from tests.merchant_end import MerchantEnd
from tests.service import Bench
from tests.waiting import until


@pytest.fixture
def merchant() -> Any:
    end = MerchantEnd()
    yield end
    end.stop()


def _told_to(bench: Bench, merchant: MerchantEnd, users: int) -> Bench:
    """As many users of whom the merchant is to be told that they submitted."""
    bench.settings |= {"ORCHESTRATOR_NOTIFY_URL": merchant.url, "ORCHESTRATOR_NOTIFY_SECRET": merchant.secret}
    bench.context = bench.open().context
    for _ in range(users):
        bench.submitted()
    return bench


def test_one_thread_tells_the_merchant_of_one_after_the_other(bench: Bench, merchant: MerchantEnd) -> None:
    worker = Worker(_told_to(bench, merchant, 5).context, 1)
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        until(lambda: len(merchant.notices) >= 5)
    finally:
        worker.stop()
        thread.join()
    assert merchant.faults == []
    submitted = [notice.id for notice in merchant.notices if notice.type == "onboarding.submitted"]
    assert len(submitted) == len(set(submitted)) == 5


def test_a_worker_that_stops_finishes_what_it_tells_and_takes_nothing_more(bench: Bench, merchant: MerchantEnd) -> None:
    asked, goes_on = threading.Event(), threading.Event()

    def answer(kind: str, data: dict[str, Any]) -> int:
        asked.set()
        goes_on.wait(10)
        return 204

    merchant.answer = answer
    worker = Worker(_told_to(bench, merchant, 3).context, 1)
    thread = threading.Thread(target=worker.run)
    thread.start()
    assert asked.wait(10)
    worker.stop()
    goes_on.set()
    thread.join(10)
    assert not thread.is_alive()
    with bench.connected() as database:
        rows = database.execute("select status, lease from deliveries").fetchall()
    assert sorted(status for status, _ in rows) == [DeliveryStatus.DELIVERED, *[DeliveryStatus.PENDING] * 2]
    assert {lease for _, lease in rows} == {None}
