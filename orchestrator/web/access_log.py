"""What gunicorn's access log may say where somebody switches it on: no credential, and nothing of a user's."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

_CREDENTIAL = re.compile(r"^(/u/|/callbacks/oslpay/)[^/?]+")
Access = Callable[[Any, Any, dict[str, Any], Any], None]


def discreet(access: Access) -> Access:
    """`access` (of gunicorn's logger) without what links, callback URLs and queries would give away."""

    def log(response: Any, request: Any, environ: dict[str, Any], request_time: Any) -> None:
        access(response, request, {**environ, **_masked(environ)}, request_time)

    return log


def _masked(environ: dict[str, Any]) -> dict[str, str]:
    paths = {name: masked_path(str(environ.get(name, ""))) for name in ("RAW_URI", "PATH_INFO")}
    return {**paths, "QUERY_STRING": "", "HTTP_REFERER": "-", "HTTP_AUTHORIZATION": "-", "HTTP_COOKIE": "-"}


def masked_path(path: str) -> str:
    """A path as it may be logged: a query may name a user, the last part of some paths is a credential."""
    return _CREDENTIAL.sub(r"\1...", path.partition("?")[0])
