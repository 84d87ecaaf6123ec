"""Turns an answer into HTTP, the faulty ways included; some of them need the bare socket."""

from __future__ import annotations

import dataclasses
import errno
import socket
import struct
import time
from collections.abc import Iterator
from http import HTTPStatus
from typing import NoReturn

from flask import Response, request

from orchestrator.sandbox.clock import Clock
from orchestrator.sandbox.envelopes import Answer, Provider, btse_answer, osl_answer
from orchestrator.sandbox.faults import Fault

HUGE_BYTES = 50_000_000
DRIP_SECONDS = 1.0


def respond(answer: Answer, clock: Clock) -> Response:
    """The answer as a Flask response; `afterwards` runs once the last byte was written."""
    if clock.offset_ms and answer.chunks is None:
        _answer_on_the_socket(answer, clock)
    response = Response(
        answer.chunks if answer.chunks is not None else answer.body,
        status=answer.status,
        headers=dict(answer.headers),
        content_type=answer.content_type,
    )
    if answer.length is not None:
        response.content_length = answer.length
    if answer.afterwards:
        response.call_on_close(answer.afterwards)
    return response


def replacement(fault: Fault, provider: Provider) -> Answer:
    """The answer that a fault gives instead of the genuine one."""
    if fault.redirect is not None:
        return Answer(fault.status or 302, b"", "redirect", headers={"Location": fault.redirect, **fault.headers})
    if fault.huge:
        return Answer(
            fault.status or 200,
            b"",
            "huge",
            fault.content_type,
            fault.headers,
            chunks=_huge(),
            length=HUGE_BYTES,
        )
    if fault.body is not None:
        body = fault.body.encode()
        return Answer(fault.status or 200, body, "body", fault.content_type, fault.headers)
    if fault.code is not None:
        status = fault.status or 200
        if provider == "btse":
            envelope = btse_answer(None, status, fault.msg, int(fault.code) if fault.code.isdigit() else fault.code)
        else:
            envelope = osl_answer(None, fault.code, fault.msg, status)
    else:
        status = fault.status or 500
        if provider == "btse":
            envelope = btse_answer(None, status, fault.msg, status)
        else:
            envelope = osl_answer(None, "99999", fault.msg, status)
    return dataclasses.replace(envelope, headers=fault.headers)


def dripping(answer: Answer) -> Answer:
    """The same answer, one byte a second."""
    return dataclasses.replace(answer, chunks=_drip(answer.body), length=len(answer.body))


def reset_connection() -> NoReturn:
    """Close the connection abruptly (RST), nothing answered."""
    connection = _socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
    _end()


def reset_in_mid_body(answer: Answer, clock: Clock) -> NoReturn:
    """Send the head and half of the body, then close abruptly."""
    _socket().sendall(_head(answer, clock) + answer.body[: len(answer.body) // 2])
    # The half has to be on its way before the reset throws away what is still queued.
    time.sleep(0.05)
    reset_connection()


def _answer_on_the_socket(answer: Answer, clock: Clock) -> NoReturn:
    """gunicorn writes the machine's own time into `Date`: a wrong clock has to be written past it."""
    _socket().sendall(_head(answer, clock) + answer.body)
    if answer.afterwards:
        answer.afterwards()
    _end()


def _head(answer: Answer, clock: Clock) -> bytes:
    lines = [
        f"HTTP/1.1 {answer.status} {_phrase(answer.status)}",
        f"Date: {clock.http_date()}",
        f"Content-Type: {answer.content_type}",
        f"Content-Length: {len(answer.body)}",
        "Connection: close",
        *(f"{name}: {value}" for name, value in answer.headers.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def _phrase(status: int) -> str:
    return HTTPStatus(status).phrase if status in set(HTTPStatus) else "Unknown"


def _socket() -> socket.socket:
    connection: socket.socket = request.environ["gunicorn.socket"]
    return connection


def _end() -> NoReturn:
    # The one kind of error that gunicorn takes as "this connection is over", without a word and an answer.
    raise ConnectionResetError(errno.ECONNRESET, "the sandbox has ended this connection")


def _huge() -> Iterator[bytes]:
    beginning, end = b'{"code": "00000", "msg": "', b'"}'
    yield beginning
    left = HUGE_BYTES - len(beginning) - len(end)
    while left:
        size = min(left, 65_536)
        yield b"x" * size
        left -= size
    yield end


def _drip(body: bytes) -> Iterator[bytes]:
    for position in range(len(body)):
        time.sleep(DRIP_SECONDS)
        yield body[position : position + 1]
