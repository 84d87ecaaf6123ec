"""Writes what the documentation takes from the code: settings, states, and the state diagram in the README.

`python docs/make_reference.py` writes the files; with `--check` it only says which are out of date (exit status 1).
"""

from __future__ import annotations

import re
import sys
from dataclasses import fields
from pathlib import Path

from orchestrator.config import Config
from orchestrator.machine import TABLE, Cell, CellKind, Event, State, diagram

ROOT = Path(__file__).parent.parent
_HEAD = "<!-- Written by docs/make_reference.py; change the code instead. -->\n\n"


def settings() -> str:
    """docs/settings.md."""
    lines = [
        f"{_HEAD}# Settings\n",
        "All settings come from the environment; a `.env` file in the working directory is read too. Whatever is",
        "missing or malformed is reported at once, in one message. A secret can be read from a file instead: name the",
        "file in the setting's `…_FILE` twin (setting both is an error). Durations accept decimals.\n",
        "| setting | meaning | default |",
        "| --- | --- | --- |",
    ]
    for item in fields(Config):
        setting = item.metadata
        default = (
            f"`{setting['default']}`" if setting["default"] is not None else "unset" if setting["optional"] else "–"
        )
        twin = f", `{setting['name']}_FILE`" if setting["secret"] else ""
        lines.append(f"| `{setting['name']}`{twin} | {setting['meaning']} | {default} |")
    return "\n".join(lines) + "\n"


def states() -> str:
    """docs/states.md."""
    lines = [f"{_HEAD}# States and events\n", _mermaid(), "", "| state | meaning |", "| --- | --- |"]
    lines += [f"| `{state.value}` | {state.meaning} |" for state in State]
    lines += ["", "| event | meaning | what it does |", "| --- | --- | --- |"]
    lines += [f"| `{event.value}` | {event.meaning} | {_cells(event)} |" for event in Event]
    return "\n".join(lines) + "\n"


def readme(text: str) -> str:
    """The README with the diagram drawn anew."""
    block = f"<!-- diagram -->\n{_mermaid(simple=True)}\n<!-- /diagram -->"
    return re.sub(r"<!-- diagram -->.*<!-- /diagram -->", lambda _: block, text, flags=re.DOTALL)


def _mermaid(simple: bool = False) -> str:
    text = "\n".join(_main_moves()) if simple else diagram()
    return f"```mermaid\n{text}\n```"


def _main_moves() -> list[str]:
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
    return ["stateDiagram-v2", "    [*] --> collecting", *moves]


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
    readme_path = ROOT / "README.md"
    wanted = {
        ROOT / "docs/settings.md": settings(),
        ROOT / "docs/states.md": states(),
        readme_path: readme(readme_path.read_text("utf-8")),
    }
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text("utf-8") != text]
    if "--check" in sys.argv:
        sys.exit("\n".join(f"{path.relative_to(ROOT)} is out of date: run `make docs`" for path in stale) or 0)
    for path in stale:
        path.write_text(wanted[path], "utf-8")


if __name__ == "__main__":
    main()
