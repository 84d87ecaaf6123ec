"""What gunicorn serves in `test_slow_senders`: a tiny WSGI app, and the worker with shorter deadlines."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs

from orchestrator.web import gathering
from orchestrator.web.gather import GatheringWorker

_naps: list[dict[str, Any]] = []

if os.environ.get("IMPATIENT"):
    gathering.PACE_SECONDS = 0.4
    gathering.RESUMED_SECONDS = 0.1


class ImpatientWorker(GatheringWorker):
    """Deadlines and budget so small that a test can wait for their end."""

    request_seconds = 0.8
    large_request_seconds = 3.0
    memory_budget = 1_000_000
    answer_seconds = 0.3
    sweep_seconds = 0.05


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Says what it was asked: method, path, bytes and SHA-256 of the body, pid, open files; and who naps with it.

    `nap`: seconds to sleep; `size`: bytes to answer with instead; `skip`: do not read the body.
    """
    query = {name: values[0] for name, values in parse_qs(environ["QUERY_STRING"]).items()}
    body = b"" if "skip" in query else environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    napping = 0
    if "nap" in query:
        _naps.append(environ)
        time.sleep(float(query["nap"]))
        napping = len(_naps)
        _naps.remove(environ)
    said = (
        environ["REQUEST_METHOD"],
        environ["PATH_INFO"],
        len(body),
        hashlib.sha256(body).hexdigest(),
        os.getpid(),
        len(os.listdir("/proc/self/fd")),
        napping,
        environ.get("HTTP_EXPECT", "-"),
    )
    answer = bytes(int(query["size"])) if "size" in query else " ".join(map(str, said)).encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(answer)))])
    return [answer]


app.together = re.compile(rb"POST /together")  # type: ignore[attr-defined]
