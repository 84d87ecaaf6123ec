"""Waiting by looking again and again, never by sleeping for as long as something should take."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(look: Callable[[], T], seconds: float = 30.0, every: float = 0.05) -> T:
    """What `look` gives once it is true; it may raise AssertionError to say what it still waits for."""
    deadline = time.monotonic() + seconds
    while True:
        missing = "it did not become true"
        try:
            if found := look():
                return found
        except AssertionError as error:
            missing = str(error)
        assert time.monotonic() < deadline, f"after {seconds:g} s: {missing}"
        time.sleep(every)
