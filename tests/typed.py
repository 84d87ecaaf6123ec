"""The commands of a document, typed into real terminals."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import textwrap
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from tests.waiting import until

_FENCE = re.compile(r'^( *)```shell(?: title="([^"]*)")?\n(.*?)^ *```$', re.MULTILINE | re.DOTALL)
_END = "--- end of block"


@dataclass(frozen=True)
class Block:
    """One fenced block of `shell`. `terminal`: its title, which names another terminal; empty in the first one."""

    terminal: str
    commands: str


def blocks_of(document: Path) -> list[Block]:
    """Its blocks, in order."""
    found = _FENCE.findall(document.read_text("utf-8"))
    return [Block(title, textwrap.dedent(f"{indent}{commands}")) for indent, title, commands in found]


class Terminal:
    """A shell in a folder; what runs in it ends with the `with` block. The first command that fails ends it."""

    def __init__(self, folder: Path, environ: Mapping[str, str], log: Path) -> None:
        self._log = log
        with log.open("wb") as output:
            self._shell = subprocess.Popen(
                ["bash", "-eo", "pipefail"],
                cwd=folder,
                env=dict(environ),
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def begin(self, commands: str) -> None:
        """Type them, and look no further."""
        assert self._shell.stdin
        self._shell.stdin.write(commands.encode())
        self._shell.stdin.flush()

    def run(self, commands: str, seconds: float = 400) -> str:
        """Type them, and wait until all are done. Gives what was printed."""
        before = len(self.said())
        self.begin(f"{commands}\necho '{_END}'\n")

        def done() -> bool:
            assert _END in self.said()[before:] or self._shell.poll() is None, f"{commands}\n{self.said()}"
            return _END in self.said()[before:]

        until(done, seconds)
        return self.said()[before:]

    def said(self) -> str:
        """All that was printed."""
        return self._log.read_text("utf-8", "replace")

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(self._shell.pid, number)
            with suppress(subprocess.TimeoutExpired):
                self._shell.wait(10)
        if self._shell.stdin:
            self._shell.stdin.close()
        if error is not None:
            print(f"--- {self._log.name}\n{self.said()[-4000:]}")
