"""A whole run, watched: every line of the log, and the figures of several processes held against what happened."""

from __future__ import annotations

import json
import re
import socket
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from orchestrator.records import Operation
from tests.acceptance.conftest import Install
from tests.installation import Installation, User, http
from tests.waiting import until

pytestmark = pytest.mark.long

DOCS = Path(__file__).parents[2] / "docs"
STORIES = ("pass", "refused", "duplicate", "flaky")
ENDS = {"pass": "approved", "refused": "needs_attention", "duplicate": "approved", "flaky": "approved"}


@pytest.fixture(scope="module")
def site(installed: Install) -> Installation:
    """Two web and two worker processes, which log everything."""
    made = installed(settings={"ORCHESTRATOR_LOG_FORMAT": "json", "ORCHESTRATOR_LOG_LEVEL": "DEBUG"})
    made.spawn("other-worker", "tests.launch", "worker")
    return made


@pytest.fixture(scope="module")
def users(site: Installation) -> list[User]:
    """Whose stories have come to their end."""
    begun = [site.begin(story) for story in STORIES]
    for user in begun:
        site.wait_for(user, ENDS[user.story])
        until(lambda user=user: all(row["status"] == "delivered" for row in site.items(user, "deliveries")))
    return begun


def lines(site: Installation) -> list[dict[str, Any]]:
    """All lines of all processes."""
    return [json.loads(line) for name in ("web", "worker", "other-worker") for line in site.log(name).splitlines()]


def figures(site: Installation) -> dict[tuple[str, ...], float]:
    """Value by name and sorted labels."""
    text = site.command("token", "list").stdout  # the command line works beside it
    assert "tests" in text
    answer = http("GET", f"{site.url}/metrics", headers={"Authorization": f"Bearer {site.token}"})
    families = text_string_to_metric_families(answer.text)
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def test_what_never_reached_the_application_is_counted_by_status(site: Installation) -> None:
    for head in (
        "POST /x HTTP/1.1\r\nTransfer-Encoding: chunked",
        "POST /x HTTP/1.1\r\nContent-Length: 262145",
        "hello",
    ):
        with socket.create_connection(("127.0.0.1", site.port), timeout=10) as sock:
            sock.sendall(f"{head}\r\n\r\n".encode())
            assert sock.recv(100)

    def all_counted() -> bool:
        counted = figures(site)
        refused = {status: counted["orchestrator_requests_refused_total", status] for status in ("411", "413", "400")}
        return refused == {"411": 1, "413": 1, "400": 1}

    until(all_counted)


def test_every_line_of_a_run_has_a_known_name_and_its_ids(site: Installation, users: list[User]) -> None:
    own = site.get("/u/no-such-link-4711?email=ana@example.com").headers["X-Request-ID"]
    begun = site.post_signup({"merchantUserId": "u-logged", "email": "a@example.com"}).json()
    link = begun["uploadUrl"].rpartition("/")[2]
    assert site.get(f"/u/{link}").status_code == 200
    until(lambda: any(line.get("request_id") == own for line in lines(site)))
    page = {"onboarding_id": begun["id"], "route": "/u/<token>"}.items()
    until(lambda: any(page <= line.items() for line in lines(site)))
    said = lines(site)
    chapter = (DOCS / "operating.md").read_text("utf-8").split("## The log")[1].split("\n## ")[0]
    known = {
        name for row in re.findall(r"^\| (`.*?) \|", chapter, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)
    }

    assert {line["event"] for line in said} <= known
    assert {"request", "callback", "step_failed", "worker_started", "answered"} <= {line["event"] for line in said}
    for line in said:
        assert {"event", "level", "timestamp"} <= set(line)
        if line["event"] in ("request", "callback"):
            assert re.fullmatch(r"[A-Za-z0-9._-]{1,64}", line["request_id"])
        if "<onboarding_id>" in (line.get("route") or "") and line["status"] < 400:
            assert line["onboarding_id"].startswith("onb_")
        if line["event"] in ("step_failed", "callback"):
            assert line["onboarding_id"].startswith("onb_")
    failed = {line["onboarding_id"] for line in said if line["event"] == "step_failed"}
    assert failed == {user.id for user in users if user.story in ("refused", "flaky")}
    verdicts = Counter(line["verdict"] for line in said if line["event"] == "callback")
    assert verdicts["duplicate"] == 4


def test_no_line_of_a_run_has_a_token_or_a_users_data(site: Installation, users: list[User]) -> None:
    text = "".join(site.log(name) for name in ("web", "worker", "other-worker"))
    secret = [site.token or "", site.environ["BTSE_SECRET_KEY"], site.environ["ORCHESTRATOR_ENCRYPTION_KEYS"]]
    for user in users:
        secret.append(site.onboarding(user)["uploadUrl"].rpartition("/")[2])
        secret += [user.name, f"{user.story}+"]
        if user.story != "refused":
            secret.append(site.callback_url(user).rpartition("/")[2])
    secret += ["example.com", "Ana", "203.0.113.7", "no-such-link"]

    assert all(secret)
    assert [word for word in secret if word in text] == []


def test_the_figures_of_several_processes_are_what_happened(site: Installation, users: list[User]) -> None:
    assert site.sandbox
    transitions: Counter[tuple[str, str]] = Counter()

    def all_counted() -> bool:
        told = figures(site)
        transitions.clear()
        for row in site.rows("select event, to_state from transitions"):
            transitions[row["event"], row["to_state"]] += 1
        counted = {key[1:]: value for key, value in told.items() if key[0] == "orchestrator_transitions_total"}
        assert counted == transitions
        return True

    until(all_counted)  # within about a second
    told = figures(site)
    for operation, seen in {
        Operation.BTSE_UPLOAD: "btse.upload",
        Operation.OSL_UPLOAD: "osl.upload",
        Operation.OSL_SHARE: "osl.share",
        Operation.OSL_STATUS: "osl.status",
    }.items():
        provider, _, name = operation.partition("_")
        count = "orchestrator_provider_request_duration_seconds_count"
        ended = sum(value for key, value in told.items() if key[0] == count and key[1] == name and key[3] == provider)
        assert ended == len(site.sandbox.requests(seen)), operation
    tries = sum(value for key, value in told.items() if key[0] == "orchestrator_delivery_try_duration_seconds_count")
    assert tries == len(site.merchant.notices)
    assert told["orchestrator_callback_verdicts_total", "duplicate"] == 4
    assert told["orchestrator_onboardings", "approved"] == 3
    assert told["orchestrator_worker_heartbeat_age_seconds",] < 30
