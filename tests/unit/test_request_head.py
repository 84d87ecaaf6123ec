"""Framing of a request, without a socket; gunicorn's own parser is the second opinion."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from babel.messages.pofile import read_po
from gunicorn.config import Config
from gunicorn.http.errors import NoMoreData, ParseException
from gunicorn.http.parser import RequestParser
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.web.language import FOLDER
from orchestrator.web.request_head import HEAD_LIMIT, Head, Refusal, body_limit, find_head, read_head


def head(*lines: str, request_line: str = "POST /x HTTP/1.1") -> Head:
    return read_head("\r\n".join([request_line, *lines]).encode("latin-1") + b"\r\n\r\n")


def refused(*lines: str, request_line: str = "POST /x HTTP/1.1") -> int:
    with pytest.raises(Refusal) as caught:
        head(*lines, request_line=request_line)
    return caught.value.status


def test_without_a_length_there_is_no_body() -> None:
    assert head("Host: x").length == 0


@pytest.mark.parametrize("value", ["0", "7", "007", " 7 ", "\t7"])
def test_a_plain_length_is_read(value: str) -> None:
    assert head(f"content-LENGTH:{value}").length == int(value)


@pytest.mark.parametrize("value", ["", "-1", "+1", "1_0", "0x1", "1,1", "1 1", "\xb2", "1.0", "9" * 19, "1\x0b"])
def test_any_other_length_is_refused(value: str) -> None:
    assert refused(f"Content-Length: {value}") == 400


@pytest.mark.parametrize("second", ["Content-Length: 1", "CONTENT-LENGTH : 1", " Content-Length: 1", "content-length"])
def test_a_second_length_is_refused_however_it_is_disguised(second: str) -> None:
    assert refused("Content-Length: 1", second) == 400


@pytest.mark.parametrize("field", ["Transfer-Encoding: chunked", "transfer-encoding :x", "Transfer-Encoding"])
def test_any_transfer_coding_asks_for_a_length(field: str) -> None:
    assert refused("Content-Length: 1", field) == 411


@pytest.mark.parametrize(
    ("request_line", "allowed"),
    [
        ("POST /callbacks/oslpay/t HTTP/1.1", 65_536),
        ("POST /callbacks/oslpay?x=1 HTTP/1.1", 65_536),
        ("POST /%63allbacks/oslpay HTTP/1.1", 65_536),
        ("POST http://host:80/callbacks/oslpay HTTP/1.1", 65_536),
        ("POST /hooks/signup HTTP/1.1", 262_144),
        ("PUT /api/v1/onboardings/onb_1/documents/selfie HTTP/1.1", 5_100_000),
        ("POST /api/v1/onboardings/onb_1/documents/selfie HTTP/1.1", 262_144),
        ("POST /u/token HTTP/1.1", 16_500_000),
        ("POST /x?/u/ HTTP/1.1", 262_144),
        ("nonsense", 262_144),
    ],
)
def test_the_body_allowed_depends_on_method_and_path(request_line: str, allowed: int) -> None:
    assert body_limit(request_line.encode()) == allowed
    assert head(f"Content-Length: {allowed}", request_line=request_line).length == allowed
    assert refused(f"Content-Length: {allowed + 1}", request_line=request_line) == 413


def test_an_expectation_is_taken_out_and_awaited() -> None:
    read = head("Host: x", "Expect: 100-Continue", "Content-Length: 1")
    assert read.awaits_continue
    assert read.raw == b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n"
    assert read.size == len(read.raw) + len("Expect: 100-Continue\r\n")


@pytest.mark.parametrize(
    ("request_line", "length"), [("POST /x HTTP/1.0", "Content-Length: 1"), ("GET /x HTTP/1.1", "A: b")]
)
def test_an_expectation_of_http_1_0_or_without_a_body_is_not_awaited(request_line: str, length: str) -> None:
    read = head("Expect: 100-continue", length, request_line=request_line)
    assert (read.awaits_continue, b"Expect" in read.raw) == (False, False)


def test_any_other_expectation_is_refused() -> None:
    assert refused("Expect: coffee") == 417


def test_an_empty_request_line_is_refused() -> None:
    assert refused(request_line="") == 400


@given(st.lists(st.integers(1, 9), max_size=20))
@settings(deadline=None)
def test_the_end_of_a_head_is_found_however_it_is_cut(cuts: list[int]) -> None:
    sent = b"GET / HTTP/1.1\r\nHost: x\r\n\r\nbody\nwith\r\n\r\nlines"
    end = sent.index(b"\r\n\r\n") + 4
    searched = 0
    for cut in [*cuts, len(sent)]:
        now = min(len(sent), searched + cut)
        found = find_head(bytearray(sent[:now]), searched)
        assert found == (end if now >= end else 0)
        if found:
            break
        searched = now


@pytest.mark.parametrize("cut", range(1, 24))
def test_a_bare_lf_is_refused_however_it_is_cut(cut: int) -> None:
    sent = b"GET / HTTP/1.1\nHost: x\r\n"

    def read_in_two() -> None:
        for searched, end in ((0, cut), (cut, len(sent))):
            find_head(bytearray(sent[:end]), searched)

    with pytest.raises(Refusal):
        read_in_two()


def test_a_head_has_at_most_32_kb() -> None:
    fits = b"GET / HTTP/1.1\r\nX: " + b"x" * (HEAD_LIMIT - 23) + b"\r\n\r\n"
    assert find_head(bytearray(fits), 0) == HEAD_LIMIT
    for more in (fits.replace(b"X: ", b"X: x"), b"x" * (HEAD_LIMIT + 1)):
        with pytest.raises(Refusal) as caught:
            find_head(bytearray(more), 0)
        assert caught.value.status == 431


def test_a_refusal_is_a_whole_answer() -> None:
    raw = Refusal(411, "Say how long.").answer("Sun, 22 Nov 2026 10:00:00 GMT")
    top, body = raw.split(b"\r\n\r\n")
    assert top.startswith(b"HTTP/1.1 411 Length Required\r\nDate: Sun, 22 Nov 2026 10:00:00 GMT\r\n")
    assert f"Content-Length: {len(body)}".encode() in top
    assert json.loads(body) == {
        "type": "about:blank",
        "title": "Length Required",
        "status": 411,
        "detail": "Say how long.",
    }


@pytest.mark.parametrize("status", [400, 408, 413, 431])
def test_a_refusal_that_people_see_is_in_both_languages(status: int) -> None:
    page = Refusal(status, "Something.").answer("now", as_page=True).split(b"\r\n\r\n", 1)[1].decode()
    english, chinese = page.split('lang="zh-Hant-TW"')
    assert '<html lang="en">' in english
    assert re.search(r"<h1>[A-Z][a-z ]+</h1><p>[A-Z]", english)
    assert re.search(r"<h2>[\u4e00-\u9fff]+</h2><p>[\u4e00-\u9fff]", chinese)


def test_who_sends_a_large_file_reads_what_the_pages_say_of_one() -> None:
    page = Refusal(413, "Something.").answer("now", as_page=True).decode()
    with (FOLDER / "zh_Hant_TW/LC_MESSAGES/messages.po").open("rb") as file:
        catalog = read_po(file)
    for words in ("That file is too large", "Go back and choose a smaller file, at most 5 MB."):
        assert words in page
        assert str(catalog[words].string) in page


_VALUES = st.sampled_from(["1", "5", " 5", "05", "5, 5", "+5", "\xb2", "chunked", "x", "", "100-continue", "5\x00"])
_NAMES = st.sampled_from(
    "Content-Length|content-length|Content-Length | Content-Length|Content_Length|Expect|Transfer-Encoding"  # noqa: SIM905
    "|transfer-encoding\t|Host|X|X\rContent-Length|".split("|")
)
_LINES = st.lists(st.tuples(_NAMES, _VALUES).map(":".join) | st.text("GET: \r\t5x", max_size=8), max_size=4)


@given(_LINES, st.sampled_from(["POST /x HTTP/1.1", "GET /x HTTP/1.0", "POST /x", "", "PUT  /x HTTP/1.1"]))
@settings(deadline=None)
def test_gunicorn_never_sees_another_length_than_was_gathered(lines: list[str], request_line: str) -> None:
    """Either side may refuse; where both accept they agree on where the body ends."""
    raw = "\r\n".join([request_line, *lines]).encode("latin-1")
    raw = raw[: raw.find(b"\r\n\r\n")] + b"\r\n\r\n" if b"\r\n\r\n" in raw else raw + b"\r\n\r\n"
    try:
        ours = read_head(raw)
    except Refusal:
        return
    parser: Any = RequestParser(Config(), iter([ours.raw, b"0123456789"]), ("127.0.0.1", 1))
    try:
        seen = next(parser).body.read()
    except (ParseException, NoMoreData):
        return
    assert len(seen) == ours.length
