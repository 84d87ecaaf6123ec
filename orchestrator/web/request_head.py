"""The head of an HTTP/1.x request, read just far enough to know how many bytes belong to it. Pure: bytes in,
a `Head` or a `Refusal` out.

This is no second HTTP parser. Whether a method, a target or a field is well formed is gunicorn's judgement;
here only framing is decided, and more strictly: whatever two parsers might read differently (two lengths, a
length that is not plain digits, a line that ends in a bare LF, a transfer coding) is refused before gunicorn
sees it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from orchestrator.web.headers import PAGE_PATHS, SECURITY_HEADERS

HEAD_LIMIT = 32 * 1024
"""Bytes from the request line to the blank line, inclusive."""

DEFAULT_BODY_LIMIT = 256 * 1024
"""Bytes of body that a request may declare where no row of `BODY_LIMITS` speaks for its path."""

BodyLimits = Sequence[tuple[re.Pattern[bytes], int]]

BODY_LIMITS: BodyLimits = (
    (re.compile(rb"[A-Z]+ /callbacks/"), 64 * 1024),
    # One document of 5,000,000 bytes, and the boundaries of a multipart form around it.
    (re.compile(rb"PUT /api/v[0-9]+/onboardings/[^/]+/documents/"), 5_100_000),
    (re.compile(rb"PUT /u/[^/]+/documents/"), 5_100_000),
    # Without scripts the end user's page sends files as parts of its forms.
    (re.compile(rb"POST /u/"), 16_500_000),
)
"""Pattern over `METHOD /decoded/path` → bytes of body allowed; the first that matches counts."""

_TITLES = {
    400: "Bad Request",
    408: "Request Timeout",
    411: "Length Required",
    413: "Content Too Large",
    414: "URI Too Long",
    417: "Expectation Failed",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
}
REFUSED_WITH = tuple(_TITLES)
"""The statuses that a refusal may have."""
_ADVICE: Mapping[int, tuple[tuple[str, str], tuple[str, str]]] = {
    408: (
        ("That took too long", "Check your connection, then go back and try again."),
        ("傳送時間過長", "請檢查網路連線，然後返回再試一次。"),
    ),
    413: (
        ("That file is too large", "Go back and choose a smaller file, at most 5 MB."),
        ("檔案過大", "請返回並選擇較小的檔案，最大 5 MB。"),
    ),
}
"""For people: a heading and what to do, in English and in Chinese: nobody has asked here yet which one they read."""
_OTHER_ADVICE = (("That did not work", "Go back and try again."), ("未能完成操作", "請返回再試一次。"))
_PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{heading} – {heading_zh}</title><link rel="stylesheet" href="/static/style.css"></head>
<body class="narrow"><main class="inner">
<section class="card lone"><h1>{heading}</h1><p>{advice}</p></section>
<section class="card lone" lang="zh-Hant-TW"><h2>{heading_zh}</h2><p>{advice_zh}</p></section>
</main></body>
</html>
"""
_PAGE_START = re.compile(rb"(?:GET|POST) (?:" + b"|".join(path.encode() for path in PAGE_PATHS) + rb")")
_ABSOLUTE_FORM = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*")
_BARE_LF = re.compile(rb"(?<!\r)\n")
_LENGTH = re.compile(rb"[0-9]{1,18}")


class Refusal(Exception):
    """A request that is answered without the application. `status`: HTTP status; `detail`: for the client."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail

    def answer(self, date: str, *, as_page: bool = False) -> bytes:
        """The whole HTTP answer, which ends the connection: problem+json, or a page. `date`: an HTTP date."""
        title = _TITLES[self.status]
        problem = {"type": "about:blank", "title": title, "status": self.status, "detail": self.detail}
        body = self._page() if as_page else json.dumps(problem).encode()
        lines = (
            f"HTTP/1.1 {self.status} {title}",
            f"Date: {date}",
            "Connection: close",
            f"Content-Type: {'text/html; charset=utf-8' if as_page else 'application/problem+json'}",
            f"Content-Length: {len(body)}",
            "Cache-Control: no-store",
            *(f"{name}: {value}" for name, value in SECURITY_HEADERS.items()),
        )
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body

    def _page(self) -> bytes:
        (heading, advice), (heading_zh, advice_zh) = _ADVICE.get(self.status, _OTHER_ADVICE)
        return _PAGE.format(heading=heading, advice=advice, heading_zh=heading_zh, advice_zh=advice_zh).encode()


@dataclass(frozen=True)
class Head:
    """What framing needs.

    `raw`: the bytes for gunicorn, blank line included; `size`: bytes it took on the wire; `length`: bytes of
    body; `awaits_continue`: the client holds its body back until it reads `100 Continue`.
    """

    raw: bytes
    size: int
    length: int
    awaits_continue: bool


def find_head(buffer: bytearray, searched: int) -> int:
    """Bytes that the head takes, or 0 while it is incomplete. `searched`: bytes known to hold no end of it.

    Refuses a bare LF at once (such a head might never end as read here) and a head over `HEAD_LIMIT`.
    """
    end = buffer.find(b"\r\n\r\n", max(0, searched - 3))
    stop = end if end >= 0 else len(buffer)
    if _BARE_LF.search(buffer, max(0, searched - 1), stop):
        raise Refusal(400, "A line of the head ends in a bare LF; every line must end in CRLF.")
    if (end + 4 if end >= 0 else len(buffer)) > HEAD_LIMIT:
        raise Refusal(431, f"The head of the request is longer than {HEAD_LIMIT} bytes.")
    return end + 4 if end >= 0 else 0


def asks_for_page(start: bytes | bytearray) -> bool:
    """Whether a request that begins so was sent by a browser for a person, who should not read JSON."""
    return _PAGE_START.match(start) is not None


def read_head(raw: bytes, limits: BodyLimits = BODY_LIMITS, default: int = DEFAULT_BODY_LIMIT) -> Head:
    """The framing of one complete head (`raw` ends in the blank line), or a `Refusal`."""
    lines = raw[:-4].split(b"\r\n")
    if not lines[0]:
        raise Refusal(400, "The request line is empty.")
    fields = [_split_field(line) for line in lines[1:]]
    if any(name == b"transfer-encoding" for name, _ in fields):
        raise Refusal(411, "Transfer-Encoding is not taken here: send a Content-Length.")
    length = _content_length([value for name, value in fields if name == b"content-length"])
    if length > (allowed := body_limit(lines[0], limits, default)):
        raise Refusal(413, f"The body has {length} bytes; at most {allowed} are taken here.")
    if not any(name == b"expect" for name, _ in fields):
        return Head(raw, len(raw), length, awaits_continue=False)
    return _with_expectation(lines, fields, length, len(raw))


def body_limit(request_line: bytes, limits: BodyLimits = BODY_LIMITS, default: int = DEFAULT_BODY_LIMIT) -> int:
    """Bytes of body allowed for this request line (`PUT /path?query HTTP/1.1`)."""
    words = request_line.split(b" ")
    if len(words) != 3:
        return default  # gunicorn refuses it
    path = _ABSOLUTE_FORM.sub(b"", words[1], count=1) if b"://" in words[1] else words[1]
    subject = words[0] + b" " + unquote_to_bytes(path.split(b"?", 1)[0])
    return next((allowed for pattern, allowed in limits if pattern.match(subject)), default)


def _split_field(line: bytes) -> tuple[bytes, bytes]:
    """A field's name in lower case and its value. Blanks around the name are forgiven *here* only, so that a
    name another parser might forgive is still seen; gunicorn then refuses it."""
    name, _, value = line.partition(b":")
    return name.strip().lower(), value.strip(b" \t")


def _content_length(values: list[bytes]) -> int:
    """Bytes of body that these `Content-Length` values declare: none, or one of plain ASCII digits."""
    if not values:
        return 0
    if len(values) > 1 or not _LENGTH.fullmatch(values[0]):
        raise Refusal(400, "Content-Length must be given once, in decimal digits.")
    return int(values[0])


def _with_expectation(lines: list[bytes], fields: list[tuple[bytes, bytes]], length: int, size: int) -> Head:
    """The head without its `Expect` field: the gatherer answers it, so gunicorn must not answer it again."""
    if any(name == b"expect" and value.lower() != b"100-continue" for name, value in fields):
        raise Refusal(417, "The only expectation met here is 100-continue.")
    kept = [line for line, (name, _) in zip(lines[1:], fields, strict=True) if name != b"expect"]
    raw = b"\r\n".join([lines[0], *kept]) + b"\r\n\r\n"
    # HTTP/1.0 knows no interim answers; RFC 9110, 10.1.1 says to ignore the expectation.
    return Head(raw, size, length, awaits_continue=length > 0 and lines[0].endswith(b"HTTP/1.1"))
