"""Many users at once: reading them from a file, beginning and submitting them, and listing what there is."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from orchestrator.errors import Conflict, InvalidInput, OrchestratorError
from orchestrator.machine import State
from orchestrator.onboarding import collect, listing, look, signup
from orchestrator.onboarding.context import Context
from orchestrator.onboarding.profile import DOCUMENT_KINDS, LARGEST_DOCUMENT, LARGEST_SUM
from orchestrator.records import Onboarding

# Another separator than ours may be told to a spreadsheet: then a cell begins in the midst of ours as well.
_FORMULA = re.compile(r"""(^(?=[\t\r])|(?:^|[;,|\t\r\n])(?=["\s]*[=+\-@]))""")


@dataclass(frozen=True)
class Entry:
    """One user of a file: the line it stands on, the `data` of a signup, and documents' paths by kind."""

    line: int
    data: Mapping[str, Any]
    documents: Mapping[str, Path]


@dataclass(frozen=True)
class EntryFault:
    """What is wrong with one field of one line."""

    line: int
    field: str
    problem: str


def entries(file: Path, folder: Path | None) -> Iterator[Entry]:
    """The users of a CSV (`.csv`) or JSON Lines file, one at a time.

    A CSV has the columns merchantUserId, email and profile names; a column named like a document kind gives its
    path. Otherwise documents are looked for as `folder/<merchantUserId>/<kind>.*`. Raises InvalidInput.
    """
    if folder is not None and not folder.is_dir():
        raise InvalidInput(f"{folder} is no folder: --documents must name one")
    read = _csv_rows if file.suffix.casefold() == ".csv" else _json_rows
    for line, data in read(file):
        named = {kind: data.pop(kind) for kind in DOCUMENT_KINDS if isinstance(data.get(kind), str)}
        try:
            documents = _documents(folder, data.get("merchantUserId"), named)
        except (InvalidInput, OSError, ValueError) as error:
            problem = str(error) if isinstance(error, InvalidInput) else "it cannot be the name of a folder or file"
            raise InvalidInput(f"line {line}: a document's path: {problem}") from error
        yield Entry(line, data, documents)


def entry_faults(context: Context, entry: Entry) -> list[EntryFault]:
    """Everything that would keep an entry from being begun and submitted."""
    found: list[EntryFault] = []
    needed: Collection[str] = ()
    try:
        asked = signup.checked_signup(context, dict(entry.data))
        needed = context.profile_rules.needed_documents(asked.profile)
        missing = context.profile_rules.missing(asked.profile, (), asked.email)
        found += [EntryFault(entry.line, path, "is needed") for path in missing if path.startswith("profile.")]
        found += [
            EntryFault(entry.line, kind, "there is no such file") for kind in needed if kind not in entry.documents
        ]
    except InvalidInput as error:
        found += [EntryFault(entry.line, path, "; ".join(said)) for path, said in error.errors.items()]
    size = 0
    for kind, path in entry.documents.items():
        try:
            content = _content(path)
            collect.check_document(kind, content)
            size += len(content) if kind in needed else 0
        except (OrchestratorError, OSError) as error:
            problem = error.strerror if isinstance(error, OSError) else str(error)
            found.append(EntryFault(entry.line, kind, problem or "cannot be read"))
    if size > LARGEST_SUM:
        found.append(EntryFault(entry.line, "documents", f"together may have {LARGEST_SUM} bytes: send smaller ones"))
    return found


def repeated(entry: Entry, earlier: set[int]) -> list[EntryFault]:
    """Whether a user stands on an earlier line too. `earlier`: what this remembers of them, some 70 bytes a user."""
    user_id = hash(str(entry.data.get("merchantUserId", "")))
    if user_id in earlier:
        return [EntryFault(entry.line, "merchantUserId", "is on an earlier line too")]
    earlier.add(user_id)
    return []


def take_in(context: Context, entry: Entry, actor: str) -> Onboarding:
    """Begin and submit an entry. Doing so again changes nothing: what was begun is gone on with.

    Raises InvalidInput and whatever documents raise.
    """
    asked = signup.checked_signup(context, dict(entry.data))
    onboarding, _ = signup.sign_up(context, asked, actor)
    if onboarding.state is not State.COLLECTING or onboarding.round > 1:
        return onboarding
    try:
        for kind, path in entry.documents.items():
            onboarding = collect.put_document(context, onboarding, kind, _content(path), actor)
        return collect.submit(context, onboarding.id, actor)
    except Conflict:
        # Submitted or closed meanwhile, by the user or another import.
        return look.find(context, onboarding.id)


def listed(context: Context, state: str | None, since_ms: int) -> Iterator[Onboarding]:
    """Onboardings newest first, begun at `since_ms` (unix ms) or later. Raises InvalidInput at once for a bad state."""
    everyone = listing.every(context, listing.wanted(state=state or ""), by_email=False)
    return takewhile(lambda row: row.created_at >= since_ms, everyone)


def safe_cell(value: object) -> str:
    """A CSV cell that no spreadsheet takes for a formula."""
    text = "" if value is None else str(value)
    return _FORMULA.sub(r"\1'", text)


def _csv_rows(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with file.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.DictReader(stream, restkey="", strict=True)
        try:
            for row in reader:
                if "" in row:
                    raise InvalidInput(f"line {reader.line_num} has more cells than the first line has names")
                values = {name: value for name, value in row.items() if value}
                top = {
                    name: values.pop(name) for name in ("merchantUserId", "email", *DOCUMENT_KINDS) if name in values
                }
                yield reader.line_num, {**top, "profile": values}
        except (csv.Error, UnicodeDecodeError) as error:
            raise InvalidInput(f"line {reader.line_num + 1} is not CSV in UTF-8") from error


def _json_rows(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with file.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            try:
                value = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
            except (ValueError, RecursionError) as error:
                raise InvalidInput(f"line {number} is not JSON") from error
            if not isinstance(value, dict):
                raise InvalidInput(f"line {number} is not a JSON object")
            yield number, value


def _documents(folder: Path | None, merchant_user_id: Any, named: Mapping[str, str]) -> dict[str, Path]:
    if folder is None:
        return {}
    root = folder.resolve()
    found = {kind: _inside(root, root / path) for kind, path in named.items()}
    if isinstance(merchant_user_id, str) and merchant_user_id:
        if not _names_a_folder(merchant_user_id):
            if named:
                return found
            raise InvalidInput("its merchantUserId cannot be the name of a folder: name its documents in columns")
        own = _inside(root, root / merchant_user_id)
        for kind in DOCUMENT_KINDS:
            matches = sorted(path for path in own.iterdir() if path.stem == kind) if own.is_dir() else []
            if kind not in found and matches:
                found[kind] = matches[0]
    return found


def _names_a_folder(merchant_user_id: str) -> bool:
    """Whether it is one part of a path and no way to somebody else's: `a/../b`, `./b` and `b/.` all lead to `b`."""
    return merchant_user_id != ".." and Path(merchant_user_id).parts == (merchant_user_id,)


def _inside(root: Path, path: Path) -> Path:
    resolved = path.resolve()
    if not resolved.is_relative_to(root):
        raise InvalidInput("it leads out of the folder that --documents names")
    return resolved


def _content(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(LARGEST_DOCUMENT + 1)
