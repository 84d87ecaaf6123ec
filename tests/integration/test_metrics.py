"""The figures: parsed as Prometheus does, held against the rows, and cheap however many rows there are."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from orchestrator.errors import Kind, ProviderError
from orchestrator.health import Outcome
from orchestrator.machine import Event, State
from orchestrator.onboarding import collect, operate
from orchestrator.onboarding.figures import figures
from orchestrator.onboarding.measure import OUTCOMES, measured
from orchestrator.records import DeliveryStatus, Lane, Operation, Refusal, Verdict
from orchestrator.store.driver import statements
from orchestrator.store.schedule import MOST_COUNTED
from orchestrator.store.store import _learn
from orchestrator.web.app import create_app
from orchestrator.web.request_head import REFUSED_WITH
from tests.databases import plan, unmigrated
from tests.programs import program
from tests.service import MINUTE, NOTIFY_SECRET, SECOND, Bench, Web, signed, status_change, web_of
from tests.waiting import until

NAME = re.compile(r"orchestrator_[a-z]+(?:_[a-z]+)*")
PARAMETER = re.compile(r":(\w+)")
WORDS = {*State, *Event, *Lane, *DeliveryStatus, *Verdict, *OUTCOMES, *Refusal, "btse", "osl", "call"}
WORDS |= {str(status) for status in REFUSED_WITH}
WORDS |= {operation.partition("_")[2] for operation in Operation}
ENDINGS = {"gauge": {""}, "counter": {"_total"}, "histogram": {"_bucket", "_sum", "_count"}}


def scrape(web: Web) -> dict[str, Metric]:
    """Family by name."""
    answer = web.viewer("GET", "/metrics")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    return {family.name: family for family in text_string_to_metric_families(answer.text)}


def values(web: Web, name: str) -> dict[str, float]:
    """A family's samples by their only label ('' for none)."""
    return {next(iter(sample.labels.values()), ""): sample.value for sample in scrape(web)[name].samples}


@pytest.fixture
def told(tmp_path: Path) -> Bench:
    """A service whose merchant is told of outcomes, but does not listen."""
    return Bench(tmp_path, ORCHESTRATOR_NOTIFY_URL="http://127.0.0.1:9/", ORCHESTRATOR_NOTIFY_SECRET=NOTIFY_SECRET)


def rows(bench: Bench, sql: str) -> dict[str, int]:
    with bench.connected() as database:
        return dict(database.execute(sql).fetchall())


def test_every_name_help_and_label_follows_the_conventions(web: Web) -> None:
    web.bench.sign_up()
    for family in scrape(web).values():
        assert NAME.fullmatch(family.name), family.name
        assert family.documentation.endswith(".")
        assert {sample.name for sample in family.samples} <= {family.name + ending for ending in ENDINGS[family.type]}
        assert "milli" not in family.name
        for sample in family.samples:
            assert {word for label, word in sample.labels.items() if label != "le"} <= WORDS


def test_prometheus_own_tool_finds_nothing_to_mend(web: Web) -> None:
    promtool = program("promtool", "prometheus")
    web.bench.shared_on_paper()
    text = web.viewer("GET", "/metrics").content
    done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, timeout=60, check=False)

    assert (done.returncode, done.stdout + done.stderr) == (0, b"")


def test_the_figures_are_there_before_anything_has_happened(web: Web) -> None:
    families = scrape(web)

    assert values(web, "orchestrator_onboardings") == dict.fromkeys(State, 0)
    assert values(web, "orchestrator_due_steps") == dict.fromkeys(Lane, 0)
    assert values(web, "orchestrator_deliveries") == dict.fromkeys(DeliveryStatus, 0)
    assert values(web, "orchestrator_callback_verdicts") == dict.fromkeys(Verdict, 0)
    assert values(web, "orchestrator_callbacks_refused") == dict.fromkeys(Refusal, 0)
    assert values(web, "orchestrator_requests_refused") == {str(status): 0 for status in REFUSED_WITH}
    assert values(web, "orchestrator_provider_healthy") == {"btse": 1, "osl": 1}
    assert values(web, "orchestrator_budget_slots") == {"": 10}
    assert set(values(web, "orchestrator_budget_slots_in_use").values()) == {0}
    assert "orchestrator_worker_heartbeat_age_seconds" not in families
    assert families["orchestrator_provider_clock_skew_seconds"].samples == []


def test_who_may_scrape(web: Web) -> None:
    answered = {
        name: getattr(web, name)("GET", "/metrics").status_code for name in ("viewer", "operator", "merchant", "anyone")
    }

    assert answered == {"viewer": 200, "operator": 200, "merchant": 403, "anyone": 401}


def test_onboardings_are_counted_by_state(web: Web) -> None:
    for _ in range(3):
        web.bench.sign_up()
    operate.cancel(web.bench.context, web.bench.sign_up().id, "test")
    web.bench.submitted()

    counted = values(web, "orchestrator_onboardings")
    assert {state: number for state, number in counted.items() if number} == {
        "collecting": 3,
        "cancelled": 1,
        "uploading": 1,
    }


def test_due_steps_and_the_age_of_the_oldest_are_told_by_lane(web: Web) -> None:
    web.bench.submitted()
    web.bench.clock.advance(90 * SECOND)
    web.bench.submitted()

    assert values(web, "orchestrator_due_steps")["upload"] == 2
    assert values(web, "orchestrator_oldest_due_step_age_seconds")["upload"] == pytest.approx(90, abs=1)
    assert values(web, "orchestrator_due_steps")["poll"] == 0
    assert values(web, "orchestrator_oldest_due_step_age_seconds")["poll"] == 0


def test_the_age_of_what_has_failed_longest_is_told(web: Web) -> None:
    assert values(web, "orchestrator_oldest_failing_step_age_seconds") == {"": 0}
    now = web.bench.clock()
    ages = {web.bench.submitted().id: 60, web.bench.submitted().id: 3_700, web.bench.submitted().id: None}
    with web.bench.connected() as database:
        for onboarding_id, seconds in ages.items():
            since = None if seconds is None else now - seconds * SECOND
            database.execute("update onboardings set failing_since = ? where id = ?", (since, onboarding_id))
    assert values(web, "orchestrator_oldest_failing_step_age_seconds")[""] == pytest.approx(3_700, abs=1)


def test_notifications_are_counted_through_their_whole_life(told: Bench) -> None:
    rows_by_status = "select status, count(*) from deliveries group by status"
    with web_of(told) as web:
        row = told.submitted()
        operate.cancel(told.context, row.id, "test")
        assert values(web, "orchestrator_deliveries") == {"pending": 2, "delivered": 0, "failed": 0}
        told.clock.advance(30 * SECOND)
        assert values(web, "orchestrator_oldest_due_delivery_age_seconds")[""] == pytest.approx(30, abs=1)

        now = told.clock()
        for status in (DeliveryStatus.DELIVERED, DeliveryStatus.FAILED):
            (claimed,) = told.context.schedule.claim_deliveries(now, "lease", now + MINUTE, 5)
            told.context.schedule.settle_delivery(replace(claimed, status=status, due_at=None), "lease", now)
        assert values(web, "orchestrator_deliveries") == {"pending": 0, "delivered": 1, "failed": 1}
        assert values(web, "orchestrator_oldest_due_delivery_age_seconds") == {"": 0}

        operate.resend_delivery(told.context, claimed.id)
        counted = values(web, "orchestrator_deliveries")
        assert counted == {"pending": 1, "delivered": 1, "failed": 0}
        assert {status: number for status, number in counted.items() if number} == rows(told, rows_by_status)
    told.close()


def test_verdicts_are_counted_as_they_are_given(web: Web) -> None:
    bench = web.bench
    row = bench.shared_on_paper()
    given: Counter[str] = Counter()
    at = bench.clock()
    for status, timestamp in [
        ("REVIEW", at),
        ("REVIEW", at),  # a duplicate
        ("PROCESS", at - 5),  # superseded
        ("PASS", at - 10_000_000),  # stale
        ("NEWS", at + 1),  # ignored
        ("PASS", at),  # forged: signed for another body
    ]:
        sent = bench.webhook(row, status, timestamp=timestamp)
        web.anyone("POST", f"/callbacks/oslpay/{bench.callback_secret(row)}", data=sent.body, headers=sent.headers)
    given.update({"applied": 1, "duplicate": 1, "superseded": 1, "stale": 1, "ignored": 1, "forged": 1})
    for _ in range(2):
        sent = signed(at + 2, status_change("unknown", "nobody", "PASS"))
        web.anyone("POST", "/callbacks/oslpay", data=sent.body, headers=sent.headers)
    given.update({"orphan": 1, "duplicate": 1})
    other = signed(at + 3, {"type": "other", "data": {}})
    assert web.anyone("POST", "/callbacks/oslpay", data=other.body, headers=other.headers).status_code == 200
    given.update({"ignored": 1})

    counted = values(web, "orchestrator_callback_verdicts")
    assert {verdict: number for verdict, number in counted.items() if number} == given


def test_what_is_turned_away_is_counted_by_reason(web: Web) -> None:
    bench = web.bench
    row = bench.shared_on_paper()
    path, sent = f"/callbacks/oslpay/{bench.callback_secret(row)}", bench.webhook(row, "PASS")
    for _ in range(20):
        assert web.anyone("POST", path, data=sent.body).status_code == 401
        assert web.anyone("POST", f"{path}x", data=sent.body, headers=sent.headers).status_code == 404
        assert web.anyone("POST", path, data=b"{}", headers=sent.headers).status_code == 400
    assert web.anyone("POST", "/callbacks/oslpay", data=b"").status_code == 401

    assert values(web, "orchestrator_callbacks_refused") == {"unsigned": 21, "unknown_url": 20, "malformed": 20}
    assert set(values(web, "orchestrator_callback_verdicts").values()) == {0}
    assert rows(bench, "select 'callbacks', count(*) from callbacks") == {"callbacks": 0}


def test_another_process_tells_of_it_soon(bench: Bench) -> None:
    bench.context.tally.count("verdicts", Refusal.UNSIGNED)
    elsewhere = bench.open().context

    def told() -> bool:
        assert figures(elsewhere).refusals[Refusal.UNSIGNED] == 1
        return True

    assert until(told, 20)


def test_transitions_are_counted_as_the_chain_has_them(web: Web) -> None:
    bench = web.bench
    bench.receive(bench.shared_on_paper(), "REVIEW")
    operate.cancel(bench.context, bench.sign_up().id, "test")

    found = scrape(web)["orchestrator_transitions"].samples
    counted = {(sample.labels["event"], sample.labels["to"]): sample.value for sample in found}
    with bench.connected() as database:
        sql = "select event, to_state, count(*) from transitions group by event, to_state"
        assert counted == {(event, to): number for event, to, number in database.execute(sql)}
    assert counted["cancel_asked", "cancelled"] == 1


def test_transitions_of_before_are_counted_by_the_migration(bench: Bench) -> None:
    bench.receive(bench.shared_on_paper(), "REVIEW")
    bench.context.tally.flush()
    with bench.connected() as database:
        before = sorted(database.execute("select * from tallies"))
        database.execute("delete from tallies where what = 'transitions'")
        unmigrated(database, "0004_all_tallies")

    assert bench.open().migrate() == ["0004_all_tallies"]
    with bench.connected() as database:
        assert sorted(database.execute("select * from tallies")) == before


def test_calls_are_counted_by_operation_outcome_and_duration(web: Web) -> None:
    def call(operation: Operation, took: int, kind: Kind | None = None) -> None:
        def answer() -> str:
            web.bench.clock.advance(took)
            if kind is not None:
                raise ProviderError("osl", kind, "00002")
            return "answered"

        with pytest.raises(ProviderError) if kind is not None else nullcontext():
            assert measured(web.bench.context, operation, answer) == "answered"

    for took in (0, 50, 51, 180, 61_000):
        call(Operation.OSL_SHARE, took)
    call(Operation.OSL_SHARE, 30_000, Kind.REFUSED)
    call(Operation.NOTIFY, 700, Kind.TRANSIENT)
    call(Operation.OSL_SHARE, -5_000)  # somebody set the clock back

    families = scrape(web)
    requests = families["orchestrator_provider_request_duration_seconds"].samples
    labels = {"provider": "osl", "operation": "share", "outcome": "ok"}
    there = {
        sample.labels.get("le", sample.name[-5:]): sample.value
        for sample in requests
        if labels.items() <= sample.labels.items()
    }
    assert {le: there[le] for le in ("0.05", "0.1", "0.25", "60.0", "+Inf")} == {
        "0.05": 3, "0.1": 4, "0.25": 5, "60.0": 5, "+Inf": 6,
    }  # fmt: skip
    assert (there["count"], there["s_sum"]) == (6, 61.281)
    refused = {sample.labels["operation"] for sample in requests if sample.labels["outcome"] == "refused"}
    assert refused == {"share"}
    tries = families["orchestrator_delivery_try_duration_seconds"].samples
    assert {sample.labels["outcome"] for sample in tries if sample.name.endswith("_count")} == {"ok", "transient"}
    # Before anything was asked there is a success to compare with.
    assert {sample.labels["operation"] for sample in requests if sample.labels["outcome"] == "ok"} == {
        operation.partition("_")[2] for operation in Operation if operation is not Operation.NOTIFY
    }


def test_health_skew_and_last_calls_are_told_by_provider(web: Web) -> None:
    bench = web.bench
    for number in range(3):
        row = bench.submitted()
        outcome = Outcome("btse", row.id, bench.clock() + number, Kind.UNAUTHORIZED, "401", -12_500)
        learn(bench, outcome)

    assert values(web, "orchestrator_provider_healthy") == {"btse": 0, "osl": 1}
    assert values(web, "orchestrator_provider_clock_skew_seconds") == {"btse": -12.5}
    failures = values(web, "orchestrator_provider_last_failure_timestamp_seconds")
    assert failures == {"btse": pytest.approx((bench.clock() + 2) / 1000)}


def learn(bench: Bench, outcome: Outcome) -> None:
    """As a worker's commit brings it."""
    bench.service.driver.write(lambda session: _learn(session, outcome, MINUTE))


def test_slots_in_use_are_told_by_lane(web: Web) -> None:
    now = web.bench.clock()
    assert web.bench.context.schedule.take_slot(now, "somebody", now + MINUTE) is not None

    assert values(web, "orchestrator_budget_slots_in_use") == {"confirm": 0, "share": 0, "poll": 0, "call": 1}


def test_the_age_of_the_last_heartbeat_is_told(web: Web) -> None:
    web.bench.context.schedule.beat("worker-1", web.bench.clock(), 0, MINUTE)
    web.bench.clock.advance(45 * SECOND)

    assert values(web, "orchestrator_worker_heartbeat_age_seconds") == {"": 45}


def test_several_processes_answer_alike(bench: Bench) -> None:
    row = bench.shared_on_paper()
    bench.receive(row, "REVIEW")
    with web_of(bench) as web:
        token = web.viewer._session.headers["Authorization"]
        other = create_app(bench.open()).test_client()
        bench.context.tally.flush()
        assert other.get("/metrics", headers={"Authorization": token}).data == web.viewer("GET", "/metrics").content


def test_there_is_no_personal_data_in_it(web: Web) -> None:
    row = web.bench.shared_on_paper()
    web.bench.receive(row, "REVIEW", reason="Anastasia Leebrook looks away")
    text = web.viewer("GET", "/metrics").text

    for word in ("Leebrook", "example.com", row.id, row.merchant_user_id, "user-", "onb_", "9001"):
        assert word not in text


def test_the_answer_does_not_grow_with_the_rows(web: Web) -> None:
    web.bench.shared_on_paper()
    before = len(web.viewer("GET", "/metrics").text.splitlines())
    for _ in range(20):
        collect.submit(web.bench.context, web.bench.collected().id, "test")

    assert len(web.viewer("GET", "/metrics").text.splitlines()) == before


def test_a_long_backlog_is_counted_up_to_a_limit_and_by_an_index_alone(bench: Bench) -> None:
    texts = statements(skip_locked="", for_update="")
    given = {"lane": "poll", "now": 1, "limit": MOST_COUNTED}
    with bench.connected() as database:
        for name, index in {"count_due": "onboardings_due", "oldest_delivery": "deliveries_due"}.items():
            values = [given[word] for word in PARAMETER.findall(texts[name])]
            how = plan(database, PARAMETER.sub("?", texts[name]), values)
            assert re.search(f"(?:COVERING INDEX|Index Only Scan using) {index}\\b", how), how

    assert "limit :limit" in texts["count_due"]
    assert MOST_COUNTED == 10_000


def test_rows_that_were_there_before_are_counted_by_the_migration(told: Bench) -> None:
    row = told.shared_on_paper()
    told.receive(row, "REVIEW")
    with told.connected() as database:
        counted = "select what, word, number from tallies where number > 0 and what in ('deliveries', 'verdicts')"
        before = sorted(database.execute(counted))
        database.execute("drop table tallies")
        unmigrated(database, "0002_tallies", "0004_all_tallies", "0007_refused")

    assert told.open().migrate() == ["0002_tallies", "0004_all_tallies", "0007_refused"]
    with told.connected() as database:
        assert sorted(database.execute(counted)) == before
    told.close()


def test_the_documents_name_the_metrics_there_are(web: Web) -> None:
    docs = Path(__file__).parents[2] / "docs"
    there = {family.name + ("_total" if family.type == "counter" else "") for family in scrape(web).values()} | {
        "orchestrator_worker_heartbeat_age_seconds"
    }

    assert set(NAME.findall((docs / "http.md").read_text("utf-8"))) == there
    assert set(NAME.findall((docs / "operating.md").read_text("utf-8"))) <= there
