"""One connection's gathering, without a worker."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.http.parser import RequestParser
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.web.gathering import PACE_BYTES, PACE_SECONDS, AnswerSocket, GatheredUnreader, Gathering
from orchestrator.web.request_head import BODY_LIMITS, DEFAULT_BODY_LIMIT, Head


def gathering() -> Gathering:
    return Gathering(SimpleNamespace(sock=None))


def scan(each: Gathering) -> Head | None:
    return each.scan(BODY_LIMITS, DEFAULT_BODY_LIMIT)


def parsed(unreader: GatheredUnreader) -> Any:
    parser: Any = RequestParser(Config(), (), ("127.0.0.1", 1))
    parser.unreader = unreader
    return next(parser)


@given(st.binary(max_size=300_000), st.lists(st.integers(1, 100_000), max_size=8), st.binary(max_size=9))
@settings(deadline=None)
def test_what_arrived_in_pieces_is_read_as_it_was_sent(body: bytes, cuts: list[int], behind: bytes) -> None:
    body = body[:DEFAULT_BODY_LIMIT]
    sent = f"POST /x HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body + behind
    each = gathering()
    at = 0
    for cut in [*cuts, len(sent)]:
        each.take(sent[at : at + cut], 0.0)
        at += cut
        if (head := each.head or scan(each)) and each.missing <= 0:
            break
    assert head is not None
    each.take(sent[at:], 0.0)
    unreader = each.detach(head)
    assert parsed(unreader).body.read() == body
    assert unreader.is_drained
    assert each.buffer == behind


def test_a_request_ends_where_it_was_gathered_even_for_a_reader_that_wants_more() -> None:
    unreader = GatheredUnreader(b"", bytearray(b"....body, and the next request"), 4, 8)
    assert unreader.read(100) == b"body"
    assert unreader.read() == b""


def test_bytes_that_were_not_read_are_noticed() -> None:
    unreader = GatheredUnreader(b"head", bytearray(b"body"), 0, 4)
    assert not unreader.is_drained
    unreader.read(6)
    assert not unreader.is_drained
    unreader.read(2)
    assert unreader.is_drained


@pytest.mark.parametrize("before", [b"\r\n", b""])
def test_one_empty_line_before_a_request_is_ignored(before: bytes) -> None:
    each = gathering()
    for byte in before + b"GET / HTTP/1.1\r\n\r\n":
        each.take(bytes([byte]), 0.0)
        head = scan(each)
    assert head is not None
    assert head.raw == b"GET / HTTP/1.1\r\n\r\n"


def test_a_sender_is_slow_when_it_brings_too_little_for_too_long() -> None:
    each = gathering()
    each.begin(0.0, 120.0)
    assert not each.is_slow(0.9)
    assert each.is_slow(1.1)
    each.take(b"POST /u/t HTTP/1.1\r\nContent-Length: 9000000\r\n\r\n", 1.0)
    scan(each)
    assert not each.is_slow(PACE_SECONDS)
    each.take(bytes(PACE_BYTES), PACE_SECONDS)
    assert not each.is_slow(2 * PACE_SECONDS)
    each.take(bytes(PACE_BYTES - 1), 2 * PACE_SECONDS)
    assert each.is_slow(2 * PACE_SECONDS + 0.1)
    each.paused = True
    assert not each.is_slow(100.0)
    each.resume(100.0)
    assert not each.is_slow(100.9)
    assert each.is_slow(101.1)


@pytest.fixture
def pair() -> Iterator[tuple[AnswerSocket, socket.socket]]:
    left, right = socket.socketpair()
    with AnswerSocket(fileno=left.detach()) as ours, right:
        ours.renew(0.1)
        yield ours, right


def test_an_answer_that_nobody_reads_is_given_up(pair: tuple[AnswerSocket, socket.socket]) -> None:
    ours, _ = pair
    began = time.monotonic()
    with pytest.raises(BrokenPipeError):
        ours.sendall(bytes(10_000_000))
    assert time.monotonic() - began < 1
    with pytest.raises(BrokenPipeError):  # the patience is for the whole answer, not for each of its pieces
        ours.sendall(b"more")
    assert time.monotonic() - began < 1


def test_each_answer_has_patience_of_its_own(pair: tuple[AnswerSocket, socket.socket]) -> None:
    ours, theirs = pair
    with pytest.raises(BrokenPipeError):
        ours.sendall(bytes(10_000_000))
    theirs.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while theirs.recv(1_000_000):
            pass
    ours.renew(0.1)
    ours.sendall(b"the next answer")
    assert theirs.recv(100) == b"the next answer"


def test_who_waits_for_it_is_told_once_that_an_answer_begins(pair: tuple[AnswerSocket, socket.socket]) -> None:
    ours, _ = pair
    told: list[str] = []
    ours.renew(0.1, lambda: told.append("it begins"))
    assert told == []
    ours.sendall(b"head")
    ours.sendall(b"body")
    assert told == ["it begins"]


def test_an_answer_is_kept_and_given_as_one(pair: tuple[AnswerSocket, socket.socket]) -> None:
    ours, theirs = pair
    theirs.setblocking(False)
    ours.keep()
    ours.sendall(b"head, ")
    ours.sendall(b"body")
    with pytest.raises(BlockingIOError):
        theirs.recv(100)
    assert ours.give()
    assert theirs.recv(100) == b"head, body"
    ours.renew(0.1)
    ours.sendall(b"the next answer")
    assert theirs.recv(100) == b"the next answer"


def test_giving_waits_for_nobody(pair: tuple[AnswerSocket, socket.socket]) -> None:
    ours, theirs = pair
    ours.setblocking(True)
    began = time.monotonic()
    ours.keep()
    ours.sendall(bytes(10_000_000))
    assert not ours.give()
    ours.keep()
    ours.sendall(b"no room for this either")
    assert not ours.give()
    theirs.close()
    ours.keep()
    ours.sendall(b"nobody is there")
    assert not ours.give()
    assert time.monotonic() - began < 1
