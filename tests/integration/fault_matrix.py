"""The fault matrix as data: what must become of a user when a call goes wrong, written from the rules.

`test_fault_matrix.py` brings each row about and compares every column; `docs/make_guarantees.py` writes the rows
into docs/guarantees.md.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

UPLOAD, FILE, SHARE, QUERY, DELIVERY = "upload to BTSE Pay", "file to OSL Pay", "share", "status query", "notification"

NONE = "–"
TRANSIENT, UNKNOWN, REFUSED, UNAUTHORIZED = "transient", "transient, outcome unknown", "refused", "unauthorized"

GO_ON, WAIT = "go on", "wait too"
AT_OSL, AT_BTSE, AT_PROVIDERS = "go on at OSL Pay", "go on at BTSE Pay", "go on at both providers"
"""The fault is one of the installation: whoever calls the same address meets it, everybody else does not."""

LET_IN = "{} did not accept the key, the signature, or this machine's IP address (not listed?)."
NOTHING_THERE = "{} has nothing there: the base URL or a path is wrong."
BTSE, OSL = "BTSE Pay", "OSL Pay"

HASTY = {"ORCHESTRATOR_PROVIDER_DEADLINE_SECONDS": "1"}
"""The deadline of the call that meets a fault; what comes after it has all the time."""


@dataclass(frozen=True)
class Row:
    """One fault of one operation, and what must follow.

    `waits`: seconds from the fault to the user's next step, with the longest jitter; None when there is none.
    `then`: the next state, or the status of a notification. `calls`: all that were made for this user from the fault
    until then, itself included. `done`: how many calls of `operation` the other end carried out. `reads`: the code
    and the words of *last error*, or a warning of the status page, or what a refused request was answered.
    `timeline`: the detail of the transition that led to a person.

    How it is brought about: `lever`, the sandbox's; `receiver`, what the merchant's does; `environ`, settings of the
    process that makes the call; `clock`, seconds by which BTSE Pay's is ahead of ours; `meanwhile`, what others do
    while the call hangs; `times` None: until the row's end.
    """

    operation: str
    fault: str
    kind: str
    waits: float | None
    then: str
    calls: Mapping[str, int]
    done: int
    reads: str = ""
    others: str = GO_ON
    timeline: str = ""
    lever: Mapping[str, Any] = field(default_factory=dict)
    receiver: str = ""
    environ: Mapping[str, str] = field(default_factory=dict)
    clock: int = 0
    meanwhile: str = ""
    times: int | None = 1


def _uploads(number: int) -> dict[str, int]:
    return {"upload": number}


def _files(number: int) -> dict[str, int]:
    """The two files of a passport's holder and their repetitions, then the share."""
    return {"file": number, "share": 1}


def _shares(number: int, questions: int = 0) -> dict[str, int]:
    return {"share": number, **({"question": questions} if questions else {})}


def _questions(number: int) -> dict[str, int]:
    return {"question": number}


def _tries(number: int) -> dict[str, int]:
    return {"try": number}


def _again(
    operation: str, fault: str, kind: str, reads: str, *, done: int = 0, waits: float | None = None, **how: Any
) -> Row:
    """The step is simply done once more, and then works. `done`: 1 when the first call was carried out as well."""
    if waits is None:
        waits = 60 if kind is UNAUTHORIZED else 5.5 if operation is DELIVERY else 1
    then, calls, works = {
        UPLOAD: ("sharing", _uploads(2), 1),
        FILE: ("awaiting_callback", _files(3), 2),
        SHARE: ("awaiting_callback", _shares(2), 1),
        QUERY: ("approved", _questions(2), 1),
        DELIVERY: ("delivered", _tries(2), 1),
    }[operation]
    return Row(operation, fault, kind, waits, then, calls, works + done, reads, **how)


def _arrived(fault: str, reads: str, **how: Any) -> Row:
    """A share that was carried out though its answer is lost: one question finds it."""
    return Row(SHARE, fault, UNKNOWN, 5, "awaiting_callback", _shares(1, 1), 1, reads, **how)


def _did_not_arrive(fault: str, reads: str, **how: Any) -> Row:
    """A share that was not carried out and whose answer is lost: three questions, then the second share."""
    return Row(SHARE, fault, UNKNOWN, 5, "awaiting_callback", _shares(2, 3), 1, reads, **how)


def _parked(operation: str, fault: str, kind: str, calls: Mapping[str, int], reads: str, **how: Any) -> Row:
    how = {"waits": None, "done": 0, **how}
    return Row(operation, fault, kind, then="needs_attention", calls=calls, reads=reads, **how)


_BEFORE = {"hangBefore": 1.8, "act": False}
_AFTER = {"hangAfter": 1.8}
_TIMED_OUT = [
    _again(UPLOAD, "time-out before it was done", UNKNOWN, "`timeout`", lever=_BEFORE, environ=HASTY),
    _again(UPLOAD, "time-out after it was done", UNKNOWN, "`timeout`", done=1, lever=_AFTER, environ=HASTY),
    _again(FILE, "time-out before it was done", UNKNOWN, "`timeout`", lever=_BEFORE, environ=HASTY),
    _again(FILE, "time-out after it was done", UNKNOWN, "`timeout`", done=1, lever=_AFTER, environ=HASTY),
    _did_not_arrive("time-out before it was done", "`timeout`", lever=_BEFORE, environ=HASTY),
    _arrived("time-out after it was done", "`timeout`", lever=_AFTER, environ=HASTY),
    _again(QUERY, "time-out before it was done", UNKNOWN, "`timeout`", lever=_BEFORE, environ=HASTY),
    _again(QUERY, "time-out after it was done", UNKNOWN, "`timeout`", done=1, lever=_AFTER, environ=HASTY),
    _again(DELIVERY, "time-out before it was done", UNKNOWN, "`timeout`", receiver="hang before", environ=HASTY),
    _again(DELIVERY, "time-out after it was done", UNKNOWN, "`timeout`", done=1, receiver="hang after", environ=HASTY),
]

_MID_BODY = {"reset": "midBody"}
_BROKEN_OFF = [
    _again(UPLOAD, "reset within the answer's body", UNKNOWN, "`connection-reset`", done=1, lever=_MID_BODY),
    _again(FILE, "reset within the answer's body", UNKNOWN, "`connection-reset`", done=1, lever=_MID_BODY),
    _arrived("reset within the answer's body", "`connection-reset`", lever=_MID_BODY),
    _again(QUERY, "reset within the answer's body", UNKNOWN, "`connection-reset`", done=1, lever=_MID_BODY),
    _again(DELIVERY, "reset within the answer's body", UNKNOWN, "`connection-reset`", done=1, receiver="reset"),
    _did_not_arrive("reset before it was done", "`connection-reset`", lever={"reset": "before"}),
    _parked(
        SHARE,
        "reset before it was done, both times",
        UNKNOWN,
        _shares(2, 6),
        "`connection-reset`",
        waits=5,
        timeline="two shares were lost without proof that either arrived",
        lever={"reset": "before"},
        times=2,
    ),
]

_DRIP = {"drip": True}
_DRIPPING = [
    _again(UPLOAD, "an answer of one byte a second", UNKNOWN, "`timeout`", done=1, lever=_DRIP, environ=HASTY),
    _again(FILE, "an answer of one byte a second", UNKNOWN, "`timeout`", done=1, lever=_DRIP, environ=HASTY),
    _arrived("an answer of one byte a second", "`timeout`", lever=_DRIP, environ=HASTY),
    _again(QUERY, "an answer of one byte a second", UNKNOWN, "`timeout`", done=1, lever=_DRIP, environ=HASTY),
    _again(DELIVERY, "an answer of one byte a second", UNKNOWN, "`timeout`", done=1, receiver="drip", environ=HASTY),
]


def _status(number: int, **more: Any) -> dict[str, Any]:
    return {"status": number, "msg": "not now", **more}


_PATIENCE = _status(429, headers={"Retry-After": "700"})
_TOO_MANY = [
    _again(UPLOAD, "429", TRANSIENT, "`429` not now", lever=_status(429)),
    _again(FILE, "429", TRANSIENT, "`429` not now", lever=_status(429)),
    _again(SHARE, "429", TRANSIENT, "`429` not now", lever=_status(429)),
    _again(QUERY, "429", TRANSIENT, "`429` not now", lever=_status(429)),
    _again(DELIVERY, "429", TRANSIENT, "`429`", receiver="429"),
    _again(UPLOAD, "429 with `Retry-After: 700`", TRANSIENT, "`429` not now", waits=700, lever=_PATIENCE),
    _again(FILE, "429 with `Retry-After: 700`", TRANSIENT, "`429` not now", waits=700, lever=_PATIENCE),
    _again(SHARE, "429 with `Retry-After: 700`", TRANSIENT, "`429` not now", waits=700, lever=_PATIENCE),
    _again(QUERY, "429 with `Retry-After: 700`", TRANSIENT, "`429` not now", waits=700, lever=_PATIENCE),
    _again(DELIVERY, "429 with `Retry-After: 700`", TRANSIENT, "`429`", receiver="429 for 700 s"),
]

_SERVER_FAULTS = [
    _again(UPLOAD, "500", UNKNOWN, "`500` not now", lever=_status(500)),
    _again(UPLOAD, "500, done all the same", UNKNOWN, "`500` not now", done=1, lever=_status(500, act=True)),
    _again(UPLOAD, "501", UNKNOWN, "`501` not now", lever=_status(501)),
    _again(UPLOAD, "502", UNKNOWN, "`502` not now", lever=_status(502)),
    _again(UPLOAD, "503", TRANSIENT, "`503` not now", lever=_status(503)),
    _again(UPLOAD, "504", UNKNOWN, "`504` not now", lever=_status(504)),
    _again(FILE, "500", UNKNOWN, "`500` not now", lever=_status(500)),
    _again(FILE, "501", UNKNOWN, "`501` not now", lever=_status(501)),
    _again(FILE, "502", UNKNOWN, "`502` not now", lever=_status(502)),
    _again(FILE, "504", UNKNOWN, "`504` not now", lever=_status(504)),
    _again(FILE, "503", TRANSIENT, "`503` not now", lever=_status(503)),
    _did_not_arrive("500", "`500` not now", lever=_status(500)),
    _arrived("500, done all the same", "`500` not now", lever=_status(500, act=True)),
    _did_not_arrive("501", "`501` not now", lever=_status(501)),
    _arrived("502, done all the same", "`502` not now", lever=_status(502, act=True)),
    _again(SHARE, "503", TRANSIENT, "`503` not now", lever=_status(503)),
    _arrived("504, done all the same", "`504` not now", lever=_status(504, act=True)),
    _again(QUERY, "500", UNKNOWN, "`500` not now", lever=_status(500)),
    _again(QUERY, "501", UNKNOWN, "`501` not now", lever=_status(501)),
    _again(QUERY, "502", UNKNOWN, "`502` not now", lever=_status(502)),
    _again(QUERY, "504", UNKNOWN, "`504` not now", lever=_status(504)),
    _again(QUERY, "503", TRANSIENT, "`503` not now", lever=_status(503)),
    _again(DELIVERY, "500", TRANSIENT, "`500`", receiver="500"),
    _again(DELIVERY, "501", TRANSIENT, "`501`", receiver="501"),
    _again(DELIVERY, "502", TRANSIENT, "`502`", receiver="502"),
    _again(DELIVERY, "504", TRANSIENT, "`504`", receiver="504"),
    _again(DELIVERY, "503", TRANSIENT, "`503`", receiver="503"),
    _parked(
        UPLOAD,
        "503 for 72 hours",
        TRANSIENT,
        _uploads(84),
        "`503` not now",
        waits=1,
        timeline="btse: transient (503), retried for too long",
        lever=_status(503),
        times=None,
    ),
    _parked(
        SHARE,
        "503 for 72 hours",
        TRANSIENT,
        # The files' addresses are good for 23 hours: both files are uploaded anew three times.
        {"file": 6, "share": 84},
        "`503` not now",
        waits=1,
        timeline="osl: transient (503), retried for too long",
        lever=_status(503),
        times=None,
    ),
    Row(DELIVERY, "500 at every try", TRANSIENT, 5.5, "failed", _tries(10), 0, "`500`", receiver="500", times=None),
]

_HTML = {"body": "<html><body>Welcome</body></html>", "contentType": "text/html", "act": True}
_HALF = {"body": '{"code": "00000", "data": {"ur', "act": True}
_UNREADABLE = [
    _again(UPLOAD, "200 with HTML", UNKNOWN, "`unreadable`", done=1, lever=_HTML),
    _again(FILE, "200 with HTML", UNKNOWN, "`unreadable`", done=1, lever=_HTML),
    _arrived("200 with HTML", "`unreadable`", lever=_HTML),
    _again(QUERY, "200 with HTML", UNKNOWN, "`unreadable`", done=1, lever=_HTML),
    Row(DELIVERY, "200 with HTML", NONE, None, "delivered", _tries(1), 1, receiver="HTML"),
    _again(UPLOAD, "200 with half of the JSON", UNKNOWN, "`unreadable`", done=1, lever=_HALF),
    _again(FILE, "200 with half of the JSON", UNKNOWN, "`unreadable`", done=1, lever=_HALF),
    _arrived("200 with half of the JSON", "`unreadable`", lever=_HALF),
    _again(QUERY, "200 with half of the JSON", UNKNOWN, "`unreadable`", done=1, lever=_HALF),
]


def _said(**members: Any) -> dict[str, Any]:
    return {"body": json.dumps(members)}


_ODD = {"code": "47110", "msg": "what is this?"}
_BUSY = {"code": "99999", "msg": "busy"}
_CODES = [
    Row(
        UPLOAD,
        "200 with an unknown `code` and `success: true`",
        NONE,
        None,
        "sharing",
        _uploads(1),
        1,
        lever={**_said(code=4711, success=True, data=None), "act": True},
    ),
    _parked(
        UPLOAD,
        "200 with an unknown `code` and `success: false`",
        REFUSED,
        _uploads(1),
        "`4711` what is this?",
        timeline="btse: refused (4711)",
        lever=_said(code=4711, success=False, msg="what is this?"),
    ),
    _parked(
        UPLOAD,
        "200 with `success: false`",
        REFUSED,
        _uploads(1),
        "`200` the picture is blurred",
        timeline="btse: refused (200)",
        lever=_said(success=False, msg="the picture is blurred"),
    ),
    _parked(
        UPLOAD,
        "400",
        REFUSED,
        _uploads(1),
        "`400` not now",
        timeline="btse: refused (400)",
        lever=_status(400),
    ),
    _again(FILE, "an unknown `code`", UNKNOWN, "`47110` what is this?", lever=_ODD),
    _did_not_arrive("an unknown `code`", "`47110` what is this?", lever=_ODD),
    _arrived("an unknown `code`, done all the same", "`47110` what is this?", lever={**_ODD, "act": True}),
    _again(QUERY, "an unknown `code`", UNKNOWN, "`47110` what is this?", lever=_ODD),
    _did_not_arrive("`99999`", "`99999` busy", lever=_BUSY),
    _arrived("`99999`, done all the same", "`99999` busy", lever={**_BUSY, "act": True}),
    _parked(
        SHARE,
        "`99999`, both times",
        UNKNOWN,
        _shares(2, 6),
        "`99999` busy",
        waits=5,
        timeline="two shares were lost without proof that either arrived",
        lever=_BUSY,
        times=2,
    ),
    _parked(
        FILE,
        "`00002`",
        REFUSED,
        {"file": 1},
        "`00002` the file is blurred",
        timeline="osl: refused (00002)",
        lever={"code": "00002", "msg": "the file is blurred"},
    ),
    _parked(
        SHARE,
        "`00002`",
        REFUSED,
        _shares(1),
        "`00002` the name is too long",
        timeline="osl: refused (00002)",
        lever={"code": "00002", "msg": "the name is too long"},
    ),
    _parked(
        QUERY,
        "`00002`",
        REFUSED,
        _questions(1),
        "`00002` no such query",
        timeline="osl: refused (00002)",
        lever={"code": "00002", "msg": "no such query"},
    ),
    _again(DELIVERY, "400", TRANSIENT, "`400`", receiver="400"),
]

_ELSEWHERE = {"redirect": "https://elsewhere.example/"}
_WRONG_PATH = [
    _again(
        UPLOAD,
        "404: the base URL is wrong",
        UNAUTHORIZED,
        f"`404` {NOTHING_THERE.format(BTSE)} no such path",
        environ={"BTSE_BASE_URL": "{sandbox}/btse/v0"},
        others=AT_OSL,
    ),
    _again(
        SHARE,
        "404: the base URL is wrong",
        UNAUTHORIZED,
        f"`404` {NOTHING_THERE.format(OSL)} no such path",
        environ={"OSL_BASE_URL": "{sandbox}/osl/v0"},
        others=AT_BTSE,
    ),
    _again(FILE, "404 there alone", UNAUTHORIZED, f"`404` {NOTHING_THERE.format(OSL)} not now", lever=_status(404)),
    _again(QUERY, "404 there alone", UNAUTHORIZED, f"`404` {NOTHING_THERE.format(OSL)} not now", lever=_status(404)),
    _again(UPLOAD, "a redirect", UNAUTHORIZED, f"`302` {NOTHING_THERE.format(BTSE)}", lever=_ELSEWHERE),
    _again(FILE, "a redirect", UNAUTHORIZED, f"`302` {NOTHING_THERE.format(OSL)}", lever=_ELSEWHERE),
    _again(SHARE, "a redirect", UNAUTHORIZED, f"`302` {NOTHING_THERE.format(OSL)}", lever=_ELSEWHERE),
    _again(QUERY, "a redirect", UNAUTHORIZED, f"`302` {NOTHING_THERE.format(OSL)}", lever=_ELSEWHERE),
    _again(DELIVERY, "404", TRANSIENT, "`404`", receiver="404"),
    _again(DELIVERY, "a redirect", TRANSIENT, "`302`", receiver="302"),
]

_HUGE = {"huge": True, "act": True}
_TOO_LARGE = [
    _again(UPLOAD, "an answer of 50 MB", UNKNOWN, "`answer-too-large`", done=1, lever=_HUGE),
    _again(FILE, "an answer of 50 MB", UNKNOWN, "`answer-too-large`", done=1, lever=_HUGE),
    _arrived("an answer of 50 MB", "`answer-too-large`", lever=_HUGE),
    _again(QUERY, "an answer of 50 MB", UNKNOWN, "`answer-too-large`", done=1, lever=_HUGE),
    _again(DELIVERY, "an answer of 50 MB", UNKNOWN, "`answer-too-large`", done=1, receiver="50 MB"),
]


def _unreachable(fault: str, code: str, url: str) -> list[Row]:
    """Nothing was sent: no share is lost by it."""
    return [
        _again(UPLOAD, fault, TRANSIENT, f"`{code}`", environ={"BTSE_BASE_URL": f"{url}/btse"}, others=AT_OSL),
        _again(SHARE, fault, TRANSIENT, f"`{code}`", environ={"OSL_BASE_URL": f"{url}/osl"}, others=AT_BTSE),
        _again(DELIVERY, fault, TRANSIENT, f"`{code}`", environ={"ORCHESTRATOR_NOTIFY_URL": url}, others=AT_PROVIDERS),
    ]


_UNREACHABLE = [
    *_unreachable("a certificate that nobody vouches for", "certificate", "{tls}"),
    *_unreachable("a host without an address", "unknown-host", "http://nowhere.invalid"),
    *_unreachable("a refused connection", "connection-refused", "http://127.0.0.1:9"),
]

_NOT_LET_IN = [
    _again(UPLOAD, "401, once", UNAUTHORIZED, f"`401` {LET_IN.format(BTSE)} not now", lever=_status(401)),
    _again(FILE, "401, once", UNAUTHORIZED, f"`401` {LET_IN.format(OSL)} not now", lever=_status(401)),
    _again(SHARE, "401, once", UNAUTHORIZED, f"`401` {LET_IN.format(OSL)} not now", lever=_status(401)),
    _again(QUERY, "401, once", UNAUTHORIZED, f"`401` {LET_IN.format(OSL)} not now", lever=_status(401)),
    _parked(
        UPLOAD,
        "401 for one user alone",
        UNAUTHORIZED,
        _uploads(3),
        f"`401` {LET_IN.format(BTSE)} not now",
        waits=60,
        timeline="btse: unauthorized (401)",
        lever=_status(401),
        times=None,
    ),
    _parked(
        SHARE,
        "`00001` for one user alone",
        UNAUTHORIZED,
        _shares(3),
        f"`00001` {LET_IN.format(OSL)} who is this?",
        waits=60,
        timeline="osl: unauthorized (00001)",
        lever={"code": "00001", "msg": "who is this?"},
        times=None,
    ),
    _again(DELIVERY, "401", TRANSIENT, "`401`", receiver="401"),
]

TELL_TALE = "{} answers as unauthorized (unauthorized ({})): check its base URL, keys, and that this machine's "
TELL_TALE += "address is on its allow list"
FOR_ALL = [
    Row(
        UPLOAD,
        "401 for three users, for five minutes",
        UNAUTHORIZED,
        60,
        "sharing",
        _uploads(3 + 5 + 3),
        3,
        TELL_TALE.format("btse", 401),
        others=WAIT,
        lever=_status(401),
        times=None,
    ),
    Row(
        SHARE,
        "`00001` for three users, for five minutes",
        UNAUTHORIZED,
        60,
        "awaiting_callback",
        _shares(3 + 5 + 3),
        3,
        TELL_TALE.format("osl", "00001"),
        others=WAIT,
        lever={"code": "00001"},
        times=None,
    ),
]
"""Three at once, then one a minute for all, then one that heals and the two that it wakes."""


def _fast_enough(ahead: int) -> Row:
    words = f"btse's clock is {ahead:+} s from ours: check this machine's"
    fault = f"a clock {abs(ahead)} s {'behind' if ahead > 0 else 'ahead'}"
    return Row(UPLOAD, fault, NONE, None, "sharing", _uploads(1), 1, words, clock=ahead)


def _too_far(ahead: int) -> Row:
    side = "behind" if ahead > 0 else "ahead of"
    words = f"`401` {LET_IN.format(BTSE)} Our clock is 40 s {side} that of {BTSE}. "
    words += "nonce … is … ms old, at most 30000 are allowed"
    fault = f"a clock {abs(ahead)} s {'behind' if ahead > 0 else 'ahead'}"
    return _again(UPLOAD, fault, UNAUTHORIZED, words, clock=ahead, others=AT_OSL)


_CLOCKS = [_fast_enough(25), _fast_enough(-25), _too_far(40), _too_far(-40)]

_HANGS = {"hangAfter": 1.5}
_HANGS_TOO_LONG = {"hangAfter": 2.0}
_DEADLINE = {"ORCHESTRATOR_PROVIDER_DEADLINE_SECONDS": "1.5"}
_MEANWHILE = [
    Row(SHARE, "a cancel while it hangs", NONE, None, "cancelled", _shares(1), 1, lever=_HANGS, meanwhile="cancel"),
    Row(SHARE, "a webhook while it hangs", NONE, None, "confirming", _shares(1), 1, lever=_HANGS, meanwhile="webhook"),
    Row(
        SHARE,
        "an edit while it hangs",
        NONE,
        None,
        "awaiting_callback",
        _shares(1),
        1,
        "nothing can be changed while the onboarding is sharing",
        lever=_HANGS,
        meanwhile="edit",
    ),
    Row(
        SHARE,
        "a cancel while it hangs, then a time-out",
        UNKNOWN,
        None,
        "cancelled",
        _shares(1),
        1,
        "`timeout`",
        lever=_HANGS_TOO_LONG,
        environ=_DEADLINE,
        meanwhile="cancel",
    ),
    Row(
        SHARE,
        "a webhook while it hangs, then a time-out",
        UNKNOWN,
        5,
        "confirming",
        _shares(1),
        1,
        "`timeout`",
        lever=_HANGS_TOO_LONG,
        environ=_DEADLINE,
        meanwhile="webhook",
    ),
]

ROWS = [
    *_TIMED_OUT,
    *_BROKEN_OFF,
    *_DRIPPING,
    *_TOO_MANY,
    *_SERVER_FAULTS,
    *_UNREADABLE,
    *_CODES,
    *_WRONG_PATH,
    *_TOO_LARGE,
    *_UNREACHABLE,
    *_NOT_LET_IN,
    *_CLOCKS,
    *_MEANWHILE,
]

CHAPTERS = [
    ("Time-outs", _TIMED_OUT),
    ("Connections that break off", _BROKEN_OFF),
    ("Answers that drip", _DRIPPING),
    ("Too many requests", _TOO_MANY),
    ("Faults of the server", _SERVER_FAULTS),
    ("Answers that cannot be read", _UNREADABLE),
    ("Refusals and odd codes", _CODES),
    ("Wrong paths", _WRONG_PATH),
    ("Answers that are too large", _TOO_LARGE),
    ("Nobody there", _UNREACHABLE),
    ("Not let in", [*_NOT_LET_IN, *FOR_ALL]),
    ("Clocks", _CLOCKS),
    ("In the middle of a share", _MEANWHILE),
]
