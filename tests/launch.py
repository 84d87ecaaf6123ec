"""Starts the product's own commands and gunicorn for tests, with waits that are short enough to be seen to their end.

`python -m tests.launch worker …` is `orchestrator worker …`, `python -m tests.launch gunicorn …` is `gunicorn …`;
what they wire waits as the JSON in `LAUNCHED_TIMINGS` says, by a clock that is `LAUNCHED_AHEAD_MS` ahead, and dies
where `LAUNCHED_KILLS` says (see `tests.kill_points`). No setting of the product does that.

`python -m tests.launch forge` takes commands on its standard input, a line of JSON each: `arguments`, `environ`,
`folder`. Each runs in a process of its own that is forked, so that nothing has to be imported again; its exit status
(negative: the signal that killed it) and what it printed come back as a line of JSON.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

from orchestrator import bootstrap
from orchestrator.onboarding.context import Timings
from tests import kill_points

TIMINGS = "LAUNCHED_TIMINGS"
# For every process that tests start: what a library is about to drop is a fault here, as it is in the tests themselves.
NO_DEPRECATED = {"PYTHONWARNINGS": "error::DeprecationWarning"}
AHEAD = "LAUNCHED_AHEAD_MS"
_PR_SET_PDEATHSIG = 1
_LONGEST = 30
_build = bootstrap.build


def shorten(process: str) -> None:
    """From here on whatever is built waits and dies as the environment says."""
    given = json.loads(os.environ.get(TIMINGS, "{}"))
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    ahead = int(os.environ.get(AHEAD, "0"))

    def build(*arguments: Any, **named: Any) -> bootstrap.Service:
        named = {"timings": Timings(**values), "now_ms": lambda: bootstrap.system_now_ms() + ahead, **named}
        return kill_points.watched(_build(*arguments, **named), process)

    bootstrap.build = build


def main() -> None:
    """Run what the arguments name; it does not outlive whoever started it."""
    _end_with_the_parent()
    if sys.argv[1] == "gunicorn":
        from gunicorn.app.wsgiapp import run

        del sys.argv[1]
        run()
    elif sys.argv[1] == "forge":
        _forge()
    else:
        _command(sys.argv[1:])


def _command(arguments: list[str]) -> None:
    shorten("worker" if arguments[0] == "worker" else "command")
    from orchestrator.cli import main as command_line

    command_line(arguments)


def _forge() -> None:
    for module in ("archive", "doctor", "retention", "run", "tokens"):
        importlib.import_module(f"orchestrator.cli.{module}")
    for line in sys.stdin:
        order = json.loads(line)
        with tempfile.NamedTemporaryFile() as said:
            child = os.fork()
            if child == 0:
                _forged(order, said.fileno())
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            print(json.dumps({"status": status, "said": Path(said.name).read_text("utf-8")}), flush=True)


def _forged(order: dict[str, Any], output: int) -> None:
    _end_with_the_parent()
    # Whoever waits for it is not to wait for ever.
    signal.alarm(_LONGEST)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.environ.clear()
    os.environ.update(order["environ"])
    status = 70
    try:
        os.chdir(order["folder"])
        _command(order["arguments"])
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _end_with_the_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


if __name__ == "__main__":
    main()
