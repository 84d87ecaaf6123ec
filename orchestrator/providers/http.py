"""The one home of outgoing HTTP: a deadline for the whole call, no redirects, cookies, retries or leaks.

What a provider answers is handed back as it is; only faults of the transport are raised from here. Nothing in
an exception or a log line names a URL, a header or a body, because these hold secrets and users' data.
"""

from __future__ import annotations

import logging
import socket
import ssl
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from http.client import HTTPException
from typing import Any

import certifi
import requests
import urllib3.exceptions

from orchestrator.errors import Kind, ProviderError
from orchestrator.providers.deadline import CALL, Call, DeadlineAdapter, tls_context
from orchestrator.telemetry import logger

LARGEST_ANSWER = 1_000_000
_READ_SIZE = 65_536
_TRANSPORT_FAULTS = (
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    HTTPException,
    OSError,
    UnicodeError,
)
# Always sent. `identity`: a compressed answer could be small on the wire and huge in memory.
_HEADERS = {
    "User-Agent": "kyc-onboarding-orchestrator",
    "Accept": "application/json",
    "Accept-Encoding": "identity",
}

_log = logger("providers")


@dataclass(frozen=True)
class Reply:
    """An HTTP answer, whatever its status. `headers` ignores case.

    `skew_ms`: the provider's clock minus ours in milliseconds, from its Date header; 0 when the difference is
    too small to tell from the header's one-second resolution and the time of the call; None without a header.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    skew_ms: int | None


class Outgoing:
    """Sends requests. One for a process, its threads share it.

    By way of the adapter alone, without a session: no redirects and cookies, and nothing of the environment.
    """

    def __init__(
        self,
        *,
        deadline_seconds: float,
        proxy_url: str | None,
        now_ms: Callable[[], int],
        largest_answer: int = LARGEST_ANSWER,
        ca_file: str | None = None,
    ) -> None:
        """`deadline_seconds`: one call, all in all. `now_ms`: unix time, milliseconds. `largest_answer`:
        bytes.

        `ca_file`: a PEM file of authorities to trust in place of the usual ones.
        """
        self._deadline_seconds = deadline_seconds
        self._proxies = {"http": proxy_url, "https": proxy_url} if proxy_url else {}
        self._now_ms = now_ms
        self._largest_answer = largest_answer
        self._adapter = DeadlineAdapter(tls_context(ca_file or certifi.where()))
        # Its lines quote URLs, and these hold users' ids and the merchant's addresses.
        logging.getLogger("urllib3").setLevel(logging.CRITICAL)

    def send(
        self,
        provider: str,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | Callable[[], Mapping[str, str]],
        body: bytes = b"",
        params: Mapping[str, str] | None = None,
    ) -> Reply:
        """One request and its answer.

        `headers` may be a function: it is called when the connection stands, right before the first byte is
        sent, so that a signature is as young as it can be. Raises ProviderError (transient), its code one of
        `connect-timeout`, `connection-refused`, `connection-failed`, `unknown-host`, `certificate`, `tls`,
        `proxy` (nothing was sent), `timeout`, `connection-reset`, `unreadable`, `answer-too-large`
        (`unknown_outcome`).
        """
        started = time.monotonic()
        call = Call(started + self._deadline_seconds, headers if callable(headers) else lambda: headers, self._now_ms)
        token = CALL.set(call)
        try:
            reply = self._exchange(_prepared(method, url, params, body))
        except _TRANSPORT_FAULTS as error:
            code = _code_of(error, call.sending)
        else:
            _log.debug("answered", provider=provider, status=reply.status, seconds=round(time.monotonic() - started, 3))
            if len(reply.body) <= self._largest_answer:
                return reply
            code = "answer-too-large"
        finally:
            CALL.reset(token)
        # Raised out here so that no exception whose text holds the URL hangs on it.
        raise ProviderError(provider, Kind.TRANSIENT, code, unknown_outcome=call.sending)

    def close(self) -> None:
        """Close all idle connections."""
        self._adapter.close()

    def _exchange(self, request: requests.PreparedRequest) -> Reply:
        with self._adapter.send(
            request, stream=True, timeout=self._deadline_seconds, proxies=self._proxies
        ) as response:
            skew_ms = _skew_ms(response.headers.get("Date"), CALL.get().sent_at_ms, self._now_ms())
            body = _decoded(
                _body(response.raw, self._largest_answer),
                response.headers.get("Content-Encoding", "identity"),
                self._largest_answer,
            )
            return Reply(response.status_code, response.headers, body, skew_ms)


def _prepared(method: str, url: str, params: Mapping[str, str] | None, body: bytes) -> requests.PreparedRequest:
    request = _prepared_for(method, url).copy()
    if params:
        request.prepare_url(url, params)
    request.prepare_body(body or None, None)
    return request


@lru_cache(maxsize=32)
def _prepared_for(method: str, url: str) -> requests.PreparedRequest:
    """Places are few, and looking at a URL takes as long as a tenth of the call."""
    return requests.Request(method, url, _HEADERS).prepare()


def _body(raw: Any, largest: int) -> bytes:
    """The answer's bytes as sent; at most a chunk more than `largest`, so that the caller sees the excess."""
    content = bytearray()
    while len(content) <= largest and (chunk := raw.read(_READ_SIZE, decode_content=False)):
        content += chunk
    return bytes(content)


def _decoded(content: bytes, encoding: str, largest: int) -> bytes:
    """`content` unpacked, `largest` + 1 bytes at most: some servers compress though asked not to."""
    if encoding.strip().lower() in ("", "identity") or len(content) > largest:
        return content
    if encoding.strip().lower() not in ("gzip", "x-gzip", "deflate"):
        raise urllib3.exceptions.DecodeError("an encoding nobody asked for")
    try:
        return zlib.decompressobj(zlib.MAX_WBITS | 32).decompress(content, largest + 1)
    except zlib.error as error:
        raise urllib3.exceptions.DecodeError("the answer cannot be unpacked") from error


def _code_of(error: BaseException, sending: bool) -> str:
    causes = tuple(_causes(error))

    def has(*kinds: type[BaseException]) -> bool:
        return any(isinstance(cause, kinds) for cause in causes)

    if has(TimeoutError, urllib3.exceptions.ReadTimeoutError):
        return "timeout" if sending else "connect-timeout"
    if sending:
        return "connection-reset" if has(ConnectionError) else "unreadable"
    for kind, code in (
        (ssl.SSLCertVerificationError, "certificate"),
        (socket.gaierror, "unknown-host"),
        (ConnectionRefusedError, "connection-refused"),
        (ssl.SSLError, "tls"),
        (urllib3.exceptions.ProxyError, "proxy"),
    ):
        if has(kind):
            return code
    return "connection-failed"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _skew_ms(date: str | None, sent_at_ms: int | None, received_at_ms: int) -> int | None:
    """The provider wrote `date` (cut to the second) between our `sent_at_ms` and `received_at_ms`."""
    theirs = http_date_ms(date)
    if theirs is None:
        return None
    ours = received_at_ms if sent_at_ms is None else sent_at_ms
    if theirs - received_at_ms <= 0 <= theirs + 1000 - ours:
        return 0
    skew = theirs + 500 - (ours + received_at_ms) // 2
    return 0 if abs(skew) < 1000 else skew


def http_date_ms(text: str | None) -> int | None:
    """An HTTP date as unix milliseconds; None when it is missing or garbled."""
    try:
        moment = parsedate_to_datetime(text or "")
        # A zone of "-0000" parses without one; HTTP dates are UTC.
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return int((moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1000)
    except (TypeError, ValueError, OverflowError, IndexError):
        return None
