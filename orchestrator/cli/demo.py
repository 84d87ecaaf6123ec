"""`demo`: the whole product against the sandbox, every story at once."""

from __future__ import annotations

import signal
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

import click
import requests

from orchestrator.cli.demo_installation import Installation
from orchestrator.cli.demo_stories import STORIES, Player, Progress

_LONGEST = 85.0
_LOOK_EVERY = 0.5


@click.command()
@click.option("--exit", "and_exit", is_flag=True, help="End by itself: status 0 only if every story ended right.")
def demo(and_exit: bool) -> None:
    """Start sandbox, web and worker on free ports, play every story in parallel, and show what happens."""
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    with (
        tempfile.TemporaryDirectory(prefix="orchestrator-demo-") as folder,
        Installation(Path(folder), stopping) as installation,
    ):
        installation.start()
        fine = not stopping.is_set() and _play(installation, stopping)
        if stopping.is_set():
            click.echo("stopped")
            sys.exit(1)
        viewer = installation.token("viewer", "demo-viewer")
        click.echo(f"\nStatus page:  {installation.url}/status\nViewer token: {viewer}")
        click.echo(f"The merchant was told {installation.told()} times; what it was told verified.")
        if not and_exit:
            click.echo("It stays up until Ctrl-C.")
            stopping.wait()
    sys.exit(0 if fine else 1)


def _play(installation: Installation, stopping: threading.Event) -> bool:
    """Whether every story ended right; False as well when it is to stop."""
    started = time.monotonic()
    player = Player(installation)
    table = _Table()
    threads = [threading.Thread(target=_begin, args=(player, story), daemon=True) for story in STORIES]
    for thread in threads:
        thread.start()
    while not stopping.is_set():
        progress = player.look()
        table.show(progress)
        if all(item.done for item in progress) or time.monotonic() - started > _LONGEST:
            break
        stopping.wait(_LOOK_EVERY)
    if stopping.is_set():
        return False
    progress = player.look()
    click.echo(f"\nAfter {time.monotonic() - started:.1f} s:")
    for item in progress:
        click.echo(f"  {'ok ' if item.done else 'NOT'} {item.story:<10} {item.outcome}")
        if not item.done:
            click.echo(f"      expected: {item.expected}")
    return all(item.done for item in progress)


def _begin(player: Player, story: str) -> None:
    """A story that cannot begin is shown as one that did not."""
    with suppress(requests.RequestException):
        player.begin(story)


class _Table:
    """The live table: redrawn in place on a terminal, one line a change elsewhere."""

    def __init__(self) -> None:
        self._shown: dict[str, str] = {}
        self._lines = 0

    def show(self, progress: list[Progress]) -> None:
        lines = {
            item.story: f"{item.user:<14} {item.story:<10} {item.state:<18} {item.last_event}" for item in progress
        }
        if sys.stdout.isatty():
            if self._lines:
                click.echo(f"\x1b[{self._lines}A", nl=False)
            for line in lines.values():
                click.echo(f"\x1b[2K{line}")
            self._lines = len(lines)
        else:
            for story, line in lines.items():
                if self._shown.get(story) != line:
                    click.echo(line)
        self._shown = lines
