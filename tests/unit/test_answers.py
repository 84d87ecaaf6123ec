"""Which code a provider's fault is told by: it is logged in the clear, so it is a code or the HTTP status."""

from __future__ import annotations

import pytest

from orchestrator.errors import Kind
from orchestrator.providers.answers import Provider, fault
from orchestrator.providers.dialect import load_dialects
from orchestrator.providers.http import Reply

OSL = Provider("osl", "OSL Pay", load_dialects().osl.faults)


def code_of(code: str | None, status: int = 200) -> str:
    """The code that a fault with this code in its envelope is told by."""
    reply = Reply(status, {}, b"", None)
    return fault(OSL, reply, code=code, words=None, now_ms=0, otherwise=Kind.REFUSED).code


@pytest.mark.parametrize("code", ["00002", "47110", "SIGN_ERROR-7.b", "x" * 32])
def test_a_fault_is_told_by_the_code_of_the_answer(code: str) -> None:
    assert code_of(code) == code


@pytest.mark.parametrize("code", ["Ana Lee", "ana@example.com", "+85255550199", "née", "x" * 33, "1\n2", "", None])
def test_words_in_the_place_of_a_code_may_quote_a_user_and_are_not_told(code: str | None) -> None:
    assert code_of(code) == "200"


def test_beside_a_status_that_says_all_a_code_of_no_list_is_not_told() -> None:
    assert code_of("47110", 503) == "503"


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (403, "00002", Kind.REFUSED),
        (404, "00002", Kind.REFUSED),
        (400, "00001", Kind.UNAUTHORIZED),
        (500, "00001", Kind.UNAUTHORIZED),
        (503, "00002", Kind.TRANSIENT),
        (429, "00001", Kind.TRANSIENT),
        (403, "47110", Kind.UNAUTHORIZED),
        (400, "47110", Kind.REFUSED),
        (500, "47110", Kind.TRANSIENT),
    ],
)
def test_a_listed_code_says_more_than_the_status_unless_that_says_later(status: int, code: str, kind: Kind) -> None:
    assert fault(OSL, Reply(status, {}, b"", None), code=code, words=None, now_ms=0).kind is kind
