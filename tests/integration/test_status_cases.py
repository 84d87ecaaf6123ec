"""Five things that go wrong at night: the page names the cause, the next step with its time, and one button.

Each case is read in a real browser, its button is pressed there, and it ends right. The providers are the sandbox's
process; hours pass on a clock that is passed in; where the worker itself is the case, it is a process.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, expect

from orchestrator.errors import Unauthenticated
from orchestrator.machine import Event, State
from orchestrator.onboarding import access, advance, collect, receive
from orchestrator.records import Onboarding, Verdict
from orchestrator.web.app import create_app
from tests.browser import OpenBrowser, Visitor
from tests.command_line import CHECKOUT
from tests.sandbox_process import SandboxProcess
from tests.service import (
    HOUR,
    MINUTE,
    SECOND,
    Bench,
    Clock,
    new_user,
    sandbox,
    sandbox_process,
    served,
    signed,
    status_change,
)

__all__ = ["sandbox", "sandbox_process"]
LOOK = "document.dispatchEvent(new Event('visibilitychange'))"
"""What makes a page that stays up to date look at once."""


class Running(Clock):
    """The real time, for a worker that is a process of its own."""

    goes = True

    def __call__(self) -> int:
        return time.time_ns() // 1_000_000


@pytest.fixture
def bench(tmp_path: Path, sandbox: SandboxProcess) -> Iterator[Bench]:
    made = Bench(tmp_path, sandbox)
    yield made
    made.close()


@contextmanager
def operator_at(bench: Bench, open_browser: OpenBrowser) -> Iterator[Visitor]:
    """An operator's browser on the pages of `bench`."""
    token = access.create_token(bench.context, "olga", "operator")
    with served(create_app(bench.service)) as url:
        visitor = open_browser(url)
        secret, _ = access.sign_in(bench.context, token, "127.0.0.1")
        visitor.context.add_cookies([{"name": "orchestrator", "value": secret, "url": url}])
        yield visitor
        visitor.page.goto("about:blank")  # nothing is asked of a server that is gone


def at_work(bench: Bench) -> None:
    """A worker was seen just now."""
    advance.beat(bench.context, "wrk_test")


def open_page(visitor: Visitor, row: Onboarding) -> Locator:
    """The part of its page that says what now."""
    visitor.go(f"/status/onboardings/{row.id}")
    return visitor.page.get_by_role("region", name="What now")


def shown(now: Locator, term: str) -> str:
    """What stands beside a term, spaces run together."""
    text = now.locator(f"dt:text-is('{term}') + dd").inner_text()
    return " ".join(text.split())


def time_of(now: Locator, term: str) -> int:
    """The time that stands beside a term, in ms; the page shows it in the reader's zone."""
    stamp = now.locator(f"dt:text-is('{term}') + dd time").last.get_attribute("datetime") or ""
    return int(datetime.fromisoformat(stamp).timestamp() * 1000)


def the_one_button(now: Locator) -> Locator:
    """There is exactly one thing to press, a form's way in included."""
    found = now.locator("button:visible, a.button, summary")
    expect(found).to_have_count(1)
    return found


def press(visitor: Visitor, button: Locator, says: str) -> None:
    button.click()
    expect(visitor.page.locator(".banner[role=status]")).to_have_text(says)


def live(visitor: Visitor, text: str) -> None:
    """The open page shows `text` without being loaded again."""
    visitor.page.evaluate("window.opened = true")
    visitor.page.evaluate(LOOK)
    expect(visitor.page.locator(".badges")).to_contain_text(text)
    assert visitor.page.evaluate("window.opened")


def test_osl_pay_refused_a_field(bench: Bench, sandbox: SandboxProcess, open_browser: OpenBrowser) -> None:
    row = bench.collected("silent", idNumber="K99")
    sandbox.fault("osl.share", row.merchant_user_id, code="00002", msg="idNumber K99 is not valid")
    collect.submit(bench.context, row.id, "test")
    bench.run_to(row, State.NEEDS_ATTENTION)
    parked_at = bench.clock.now
    bench.clock.advance(7 * HOUR)
    at_work(bench)
    with operator_at(bench, open_browser) as visitor:
        now = open_page(visitor, row)
        cause = shown(now, "Likely cause")
        assert "OSL Pay refused what it was sent (00002)" in cause
        assert "idNumber <idNumber> is not valid" in cause
        assert "K99" not in visitor.page.content()
        assert shown(now, "Waits for").endswith("(7 h).")
        assert time_of(now, "Waits for") == parked_at
        assert shown(now, "Next, by itself") == "Nothing happens by itself, unless a webhook of OSL Pay’s comes."
        the_one_button(now).click()
        reason = now.get_by_label("What the user should hear")
        assert reason.input_value() == "Please check your document’s number and submit again."
        press(visitor, now.get_by_role("button", name="Ask to submit again"), "The user is asked to submit again.")
        assert (bench.state(row), bench.row(row).round) == (State.COLLECTING, 2)
        collect.edit(bench.context, row.id, {"idNumber": new_user()["profile"]["idNumber"]}, "user")
        collect.submit(bench.context, row.id, "user")
        bench.run_to(row, State.APPROVED, 5 * HOUR)
        live(visitor, "Approved")
    assert bench.chain_faults(row) == []


def test_btse_pay_answers_401(bench: Bench, sandbox: SandboxProcess, open_browser: OpenBrowser) -> None:
    sandbox.fault("btse.*", times=None, status=401)
    row = bench.submitted("silent")
    bench.step()
    at_work(bench)
    due = bench.row(row).due_at
    assert due
    assert due >= bench.clock.now + MINUTE
    with operator_at(bench, open_browser) as visitor:
        now = open_page(visitor, row)
        assert "BTSE Pay does not let this installation in (401)" in shown(now, "Likely cause")
        helps = shown(now, "What helps")
        assert "API key and secret" in helps
        assert "orchestrator doctor" in helps
        assert shown(now, "Next, by itself").startswith("The upload to BTSE Pay is tried again 20")
        assert time_of(now, "Next, by itself") == due
        sandbox.clear_faults()  # the key was mended
        press(visitor, the_one_button(now), "The next step is taken now.")
        bench.step()
        assert bench.state(row) is State.SHARING
        bench.run_to(row, State.APPROVED, 2 * HOUR)
        live(visitor, "Approved")
    assert Event.HURRIED in bench.events(row)


def test_the_webhook_is_missing_for_three_hours(
    bench: Bench, sandbox: SandboxProcess, open_browser: OpenBrowser
) -> None:
    row = bench.shared("silent")
    entered_at = bench.transitions(row)[-1].at
    sandbox.pin_status(row.merchant_user_id, "PROCESS")
    bench.run(3 * HOUR + MINUTE)
    at_work(bench)
    due = bench.row(row).due_at
    assert due
    with operator_at(bench, open_browser) as visitor:
        now = open_page(visitor, row)
        assert "OSL Pay has sent no webhook" in shown(now, "Likely cause")
        assert time_of(now, "Likely cause") == entered_at
        assert shown(now, "Waits for").endswith("(3 h 1 min).")
        assert shown(now, "Next, by itself").startswith("OSL Pay is asked 20")
        assert time_of(now, "Next, by itself") == due > bench.clock.now
        sandbox.unpin_status(row.merchant_user_id)
        press(visitor, the_one_button(now), "The next step is taken now.")
        bench.step()
        live(visitor, "Approved")
    assert bench.events(row)[-2:] == [Event.HURRIED, Event.ANSWERED_PASS]


def test_a_forged_pass(bench: Bench, sandbox: SandboxProcess, open_browser: OpenBrowser) -> None:
    row = bench.shared("silent")
    sandbox.pin_status(row.merchant_user_id, "PROCESS")
    assert bench.receive(row, "PROCESS") is Verdict.APPLIED
    body = status_change(bench.row(row).osl_user_id or "", row.merchant_user_id, "PASS")
    forged = signed(bench.clock(), body)  # the headers of the one before, over another body
    with pytest.raises(Unauthenticated):
        receive.receive(bench.context, bench.callback_secret(row), forged.headers, forged.body)
    bench.step()  # OSL Pay is asked at once, and knows nothing of a PASS
    bench.clock.advance(5 * SECOND)
    at_work(bench)
    due = bench.row(row).due_at
    with operator_at(bench, open_browser) as visitor:
        now = open_page(visitor, row)
        assert "A webhook that says PASS was refused as forged: nobody believed it" in shown(now, "Likely cause")
        assert "only its answer counts" in shown(now, "What helps")
        assert shown(now, "Next, by itself").startswith("OSL Pay is asked 20")
        assert time_of(now, "Next, by itself") == due
        timeline = visitor.page.get_by_role("region", name="Timeline")
        assert "Contradicts what was already signed, so it was refused." in timeline.inner_text()
        sandbox.pin_status(row.merchant_user_id, "FINAL_REJECT")
        press(visitor, the_one_button(now), "The next step is taken now.")
        bench.clock.advance(MINUTE)
        bench.step()
        live(visitor, "Rejected")
    assert State.APPROVED not in [step.to_state for step in bench.transitions(row)]


def test_the_worker_has_stopped(tmp_path: Path, sandbox: SandboxProcess, open_browser: OpenBrowser) -> None:
    bench = Bench(tmp_path, sandbox, clock=Running(), CALLBACK_PATIENCE_SECONDS="0.5")
    processes: list[subprocess.Popen[bytes]] = []
    try:
        row = bench.submitted("silent")
        with operator_at(bench, open_browser) as visitor:
            now = open_page(visitor, row)
            assert "No worker is running" in shown(now, "Likely cause")
            assert "as soon as a worker runs; its next step is due since" in shown(now, "Next, by itself")
            assert time_of(now, "Next, by itself") == bench.row(row).due_at
            # The page says what to type: that is what is typed.
            typed = now.locator("code", has_text="orchestrator worker").inner_text()
            processes.append(start(bench, typed))
            the_one_button(now).click()
            expect(visitor.page.locator(".badges")).to_contain_text("Approved", timeout=60_000)  # by itself
            expect(now.locator("dt:text-is('Likely cause')")).to_have_count(0)
    finally:
        for process in processes:
            process.terminate()
            process.wait(20)
        bench.close()


def start(bench: Bench, command: str) -> subprocess.Popen[bytes]:
    """The command as a process."""
    program, *arguments = shlex.split(command)
    assert program == "orchestrator"
    kept: dict[str, Any] = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}
    return subprocess.Popen(
        [sys.executable, "-m", "orchestrator", *arguments],
        env={**kept, **bench.environ(), "PYTHONPATH": str(CHECKOUT)},
        cwd=bench.folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
