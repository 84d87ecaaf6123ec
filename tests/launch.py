"""Starts the product's own commands and gunicorn for tests, with waits that are short enough to be seen to their end.

`python -m tests.launch worker …` is `orchestrator worker …`, `python -m tests.launch gunicorn …` is `gunicorn …`;
what they wire waits as the JSON in `LAUNCHED_TIMINGS` says. No setting of the product does that.
"""

from __future__ import annotations

import ctypes
import functools
import json
import os
import signal
import sys

from orchestrator import bootstrap
from orchestrator.onboarding.context import Timings

TIMINGS = "LAUNCHED_TIMINGS"
# For every process that tests start: what a library is about to drop is a fault here, as it is in the tests themselves.
NO_DEPRECATED = {"PYTHONWARNINGS": "error::DeprecationWarning"}
_PR_SET_PDEATHSIG = 1


def shorten() -> None:
    """From here on whatever is built waits as the environment says."""
    given = json.loads(os.environ.get(TIMINGS, "{}"))
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    bootstrap.build = functools.partial(bootstrap.build, timings=Timings(**values))


def main() -> None:
    """Run what the arguments name; it does not outlive whoever started it."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if sys.argv[1] == "gunicorn":
        from gunicorn.app.wsgiapp import run

        del sys.argv[1]
        run()
        return
    shorten()
    from orchestrator.cli import main as command_line

    command_line(sys.argv[1:])


if __name__ == "__main__":
    main()
