"""Writes what the documentation takes from the code: settings, states and their pictures, commands, API, metrics.

`python docs/make_reference.py` writes the files; with `--check` it only says which are out of date (exit status 1).
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Callable
from dataclasses import fields
from typing import Any

from pages_from_code import HEAD, ROOT, api, commands, metrics

from orchestrator.config import Config
from orchestrator.machine import TABLE, Cell, CellKind, Event, State
from orchestrator.setting import Wrong

_PICTURE = ROOT / "docs/images/way.svg"


def settings() -> str:
    """docs/settings.md."""
    lines = [
        f"{HEAD}# Settings\n",
        "All settings come from the environment; a `.env` file in the working directory is read too, and the",
        "environment wins over it. An empty value counts as unset. Whatever is missing or malformed is reported at",
        "once, in one message. A secret can be read from a file instead: name the file in the setting's `…_FILE` twin",
        "(setting both is an error). Durations accept decimals.\n",
        "Calls to the providers and to the merchant read neither proxy variables such as `HTTPS_PROXY` nor `~/.netrc`:",
        "what they need is set here. The sandbox's own key, `SANDBOX_OSL_PRIVATE_KEY`, is described with",
        "[its command](commands.md#orchestrator-sandbox).\n",
        "| setting | meaning | allowed | default |",
        "| --- | --- | --- | --- |",
    ]
    for item in fields(Config):
        setting = item.metadata
        default = (
            f"`{setting['default']}`" if setting["default"] is not None else "unset" if setting["optional"] else "–"
        )
        twin = f", `{setting['name']}_FILE`" if setting["secret"] else ""
        allowed = _allowed(setting["parse"])
        lines.append(f"| `{setting['name']}`{twin} | {setting['meaning']} | {allowed} | {default} |")
    return "\n".join(lines) + "\n"


def _allowed(parse: Callable[[str], Any]) -> str:
    """In the words with which it refuses what is not allowed."""
    # A number beyond all limits that is no word of ours, and what is not one line of text.
    for refused in ("inf", "\n"):
        try:
            parse(refused)
        except Wrong as wrong:
            words = str(wrong)
            return words.removeprefix("it must be ").removeprefix("it ") if "must" in words else "an existing file"
    return "any text"


def states() -> str:
    """docs/states.md."""
    lines = [
        f"{HEAD}# States and events\n",
        "![The states and the usual ways from one to another](images/way.svg)\n",
        "Not drawn: cancelling, which every open state allows, and ways back to where a claim or a retry came from.",
        "The second table has all.\n",
        "| state | meaning |",
        "| --- | --- |",
    ]
    lines += [f"| `{state.value}` | {state.meaning} |" for state in State]
    lines += ["", "| event | meaning | what it does |", "| --- | --- | --- |"]
    lines += [f"| `{event.value}` | {event.meaning} | {_cells(event)} |" for event in Event]
    return "\n".join(lines) + "\n"


def picture(text: str) -> str:
    """A diagram in Mermaid's words as SVG on white, of a size of its own, which says what it was drawn from."""
    from mermaidx import render  # noqa: PLC0415 - takes seconds, and only a changed diagram needs it

    drawn: str = render(text).svg()
    width, height = re.findall(r'viewBox="\S+ \S+ (\d+)\S* (\d+)', drawn)[0]
    sized = drawn.replace('width="100%"', f'width="{width}" height="{height}"', 1)
    return f"{sized.replace('background-color: transparent', 'background-color: white', 1)}\n{_drawn_from(text)}\n"


def _drawn_from(text: str) -> str:
    return f"<!-- {hashlib.sha256(text.encode()).hexdigest()} -->"


def _way() -> str:
    """The usual way and its exits. Left out: cancelling, which any open state allows, going back to where a claim or
    a retry came from, and what OSL Pay may still say in states that do not wait for it.
    """
    waiting = {State.AWAITING_CALLBACK, State.IN_REVIEW}
    moves: dict[str, None] = {}
    for event, row in TABLE.items():
        for state, cell in row.items():
            told_unasked = event.name.startswith(("ANSWERED", "CALLBACK")) and state not in waiting
            if cell.to in (None, state, State.CANCELLED) or told_unasked:
                continue
            moves[f"    {state.value} --> {cell.to}"] = None
    return "\n".join(["stateDiagram-v2", "    [*] --> collecting", *moves])


def _cells(event: Event) -> str:
    grouped: dict[str, list[str]] = {}
    for state in State:
        grouped.setdefault(_words(TABLE[event][state], state), []).append(f"`{state.value}`")
    if len(grouped) == 1:
        return next(iter(grouped))
    rest = max(grouped, key=lambda words: len(grouped[words]))
    parts = [f"{', '.join(names)}: {words}" for words, names in grouped.items() if words != rest]
    return f"{'; '.join(parts)}; else: {rest}"


def _words(cell: Cell, state: State) -> str:
    if cell.kind is not CellKind.MOVE:
        return {"resume": "resume", "ask": "stay and ask", "keep": "keep for later"}.get(cell.kind, cell.kind.value)
    if cell.to is state and not cell.next_round:
        return "stay"
    return f"→ `{cell.to}`" + (" in the next round" if cell.next_round else "")


def main() -> None:
    """Write, or check."""
    pages = {"settings": settings, "states": states, "commands": commands, "api": api, "metrics": metrics}
    wanted = {ROOT / f"docs/{name}.md": page() for name, page in pages.items()}
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text("utf-8") != text]
    drawn = _way()
    if not _PICTURE.exists() or _drawn_from(drawn) not in _PICTURE.read_text("utf-8"):
        stale.append(_PICTURE)
    if "--check" in sys.argv:
        sys.exit("\n".join(f"{path.relative_to(ROOT)} is out of date: run `make docs`" for path in stale) or 0)
    for path in stale:
        path.write_text(picture(drawn) if path is _PICTURE else wanted[path], "utf-8")


if __name__ == "__main__":
    main()
