"""What the two providers answer: their envelopes, and refusals as exceptions that carry one."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NoReturn

Provider = Literal["btse", "osl"]

OSL_OK, OSL_UNAUTHORIZED, OSL_PARAMETER, OSL_SYSTEM = "00000", "00001", "00002", "99999"


@dataclass(frozen=True)
class Answer:
    """One HTTP answer. `code`: the envelope's, for the journal. `afterwards` runs once it has gone out.

    `chunks` replaces `body` where an answer is too long or too slow to be held; `length` is then its
    Content-Length.
    """

    status: int
    body: bytes
    code: str
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    afterwards: Callable[[], None] | None = None
    chunks: Iterable[bytes] | None = None
    length: int | None = None


class Refusal(Exception):
    """The provider says no; `answer` is how."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.code)
        self.answer = answer


def btse_answer(data: object, status: int = 200, msg: str = "Success", code: int | str | None = None) -> Answer:
    """BTSE Pay's envelope; `success` follows the HTTP status (docs/providers.md, BTSE Pay)."""
    number = status if code is None else code
    envelope = {
        "code": number,
        "msg": msg,
        "time": time.time_ns() // 1_000_000,
        "data": data,
        "success": status < 300 and code is None,
    }
    return Answer(status, _json(envelope), str(number))


def osl_answer(data: object, code: str = OSL_OK, msg: str = "success", status: int = 200) -> Answer:
    """OSL Pay's envelope; errors come with HTTP 200 and a code (docs/providers.md, OSL Pay)."""
    envelope = {"code": code, "data": data, "msg": msg, "requestTime": time.time_ns() // 1_000_000}
    return Answer(status, _json(envelope), code)


def refuse_btse(words: str, status: int = 400) -> NoReturn:
    """BTSE Pay says no, in words that may quote the request."""
    raise Refusal(btse_answer(None, status, words))


def refuse_osl(words: str, code: str = OSL_PARAMETER) -> NoReturn:
    """OSL Pay says no, in words that may quote the request."""
    raise Refusal(osl_answer(None, code, words))


def unavailable(provider: Provider) -> Answer:
    """503 in the provider's envelope."""
    words = "service unavailable, try again later"
    if provider == "btse":
        return btse_answer(None, 503, words)
    return osl_answer(None, OSL_SYSTEM, words, 503)


def too_many() -> Answer:
    """OSL Pay's 429 for a request above the rate."""
    envelope = json.loads(osl_answer(None, OSL_SYSTEM, "too many requests").body)
    return Answer(429, _json(envelope), "429", headers={"Retry-After": "1"})


def unknown_path(provider: Provider) -> Answer:
    """404 for a path that the provider does not have."""
    if provider == "btse":
        return btse_answer(None, 404, "no such path")
    return osl_answer(None, OSL_SYSTEM, "no such path", 404)


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()
