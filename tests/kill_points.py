"""Every write has a name, and a process of a test can be made to die right before or right after one of them.

`watched(service)` is a service whose writes are seen. While there is a file `<process>.json` in the folder that
`LAUNCHED_KILLS` names, a thread that comes to one of the points listed there waits at it; once all of them are reached,
the process kills itself with SIGKILL: one kill that meets each user at a point of their own. The file is renamed
first, so that the process that comes after lives.
"""

from __future__ import annotations

import ast
import dataclasses
import json
import os
import signal
import threading
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any

from orchestrator import store as store_room
from orchestrator.bootstrap import Service
from orchestrator.machine import Event
from orchestrator.onboarding.context import Context
from orchestrator.onboarding.tally import Tally
from orchestrator.records import Delivery, Verdict
from orchestrator.store import Change
from orchestrator.store.driver import Driver

KILLS = "LAUNCHED_KILLS"
BEFORE, AFTER = "before", "after"
_DOUBTED = {Verdict.FORGED, Verdict.STALE, Verdict.OUTDATED, Verdict.UNADDRESSED}


def writing_methods() -> dict[str, set[str]]:
    """Of each store, the methods that open a write transaction, as its source has them."""
    found: dict[str, set[str]] = {}
    for path in sorted(Path(store_room.__file__).parent.glob("*.py")):
        for part in ast.parse(path.read_text("utf-8")).body:
            if isinstance(part, ast.ClassDef):
                methods = {
                    method.name for method in part.body if isinstance(method, ast.FunctionDef) and _writes(method)
                }
                found |= {part.name: methods} if methods else {}
    return found


def _writes(method: ast.FunctionDef) -> bool:
    return any(
        isinstance(node, ast.Attribute) and ast.unparse(node) == "self._driver.write" for node in ast.walk(method)
    )


WRITES = set().union(*writing_methods().values()) - {"commit"}
"""The transactions beside that of `apply`, by their method."""
DRIVER = {"migrate", "backup", "restore"}
SHELF = {"write": "file_written", "remove": "file_removed", "note_erasure": "erasure_noted"}
_EDITS = {"profile_patched", "document_put", "document_removed"}
_QUIET = {
    "callback_counted": lambda change: change.seen_again is not None,
    "callback_doubted": lambda change: any(row.verdict in _DOUBTED for row in change.callbacks),
    "callback_early": lambda change: any(row.verdict is Verdict.EARLY for row in change.callbacks),
    "callback_kept": lambda change: bool(change.callbacks),
    "link_renewed": lambda change: change.replaced_link is not None,
    "document_resealed": lambda change: change.document is not None,
    "share_question": lambda change: change.after.share_questions > change.before.share_questions,
    "unconfirmed": lambda change: change.after.contradictions > change.before.contradictions,
    "answered_open": lambda change: change.after.polls > change.before.polls,
    "step_failed": lambda change: _failures(change.after) > _failures(change.before),
    "doubt_answered": lambda change: change.after.asked_at != change.before.asked_at,
    "resealed": lambda change: change.after.profile_sealed != change.before.profile_sealed,
    "given_back": lambda change: change.held is not None,
}
"""What a transaction of `apply` is that adds no row to the chain: the first that fits."""
NAMES = {event.value for event in Event if event is not Event.EDITED} | _EDITS | set(_QUIET) | WRITES | DRIVER
NAMES |= {*SHELF.values(), "early_applied"}


def names_of(change: Change) -> set[str]:
    """What the transaction of `apply` that writes this is called."""
    found = set()
    for row in change.transitions:
        if row.event is Event.EDITED:
            put, removed = change.document is not None, bool(change.removed_documents)
            found.add("document_put" if put else "document_removed" if removed else "profile_patched")
        else:
            found |= {row.event.value, f"{row.event.value} {row.detail}"}
    if found & {"shared", "share_found"} and change.callbacks:
        found.add("early_applied")
    if not found:
        found = {next((name for name, fits in _QUIET.items() if fits(change)), "nameless")}
    return found


def _failures(row: Any) -> int:
    return int(row.attempts + row.unauthorized)


class Points:
    """The points at which this process is to die. `file`: where they are listed."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._reached: set[int] = set()
        self.stopped: set[str] = set()
        """Whoever is at their point: nothing more is to become of them before the end."""

    def pass_by(self, side: str, names: Collection[str], whose: Collection[str]) -> None:
        """Go on, or wait here for the end of the process."""
        if not {name.split(" ")[0] for name in names} <= NAMES:
            self._file.with_suffix(".nameless").touch()
        if self._file.exists() and self._is_reached(side, names, whose):
            threading.Event().wait()

    def _is_reached(self, side: str, names: Collection[str], whose: Collection[str]) -> bool:
        with self._lock:
            points = json.loads(self._file.read_text("utf-8"))
            for number, point in enumerate(points):
                if number in self._reached or point["side"] != side or point["name"] not in names:
                    continue
                if point["whose"] and point["whose"] not in whose:
                    continue
                if point.get("last") and len(self._reached) < len(points) - 1:
                    continue
                self._reached.add(number)
                self.stopped.add(point["whose"])
                _write(self._file.with_suffix(".reached"), sorted(self._reached))
                if len(self._reached) == len(points):
                    self._file.rename(self._file.with_suffix(".done"))
                    os.kill(os.getpid(), signal.SIGKILL)
                return True
            return False


class _Watched:
    """Something that writes; whoever calls one of `methods` passes by its points."""

    def __init__(self, real: Any, points: Points, methods: Collection[str], names: Callable[..., Any]) -> None:
        self._real, self._points, self._methods, self._names = real, points, methods, names

    def __getattr__(self, method: str) -> Any:
        real = getattr(self._real, method)
        if method not in self._methods:
            return real

        def write(*arguments: Any, **named: Any) -> Any:
            names, whose = self._names(method, arguments, named)
            self._points.pass_by(BEFORE, names, whose)
            value = real(*arguments, **named)
            if value is not False:
                self._points.pass_by(AFTER, names, {*whose, *(_whose(row) for row in _claimed(value))})
            if _claimed(value):
                return [row for row in value if _whose(row) not in self._points.stopped]
            return value

        return write


def _claimed(value: Any) -> list[Any]:
    """What was claimed, of what a write gives."""
    return [row for row in value if not isinstance(row, str)] if isinstance(value, list) else []


def _whose(row: Any) -> str:
    found: str = row.onboarding_id if isinstance(row, Delivery) else row.onboarding.id
    return found


def _of_store(method: str, arguments: tuple[Any, ...], named: dict[str, Any]) -> tuple[set[str], set[str]]:
    if method == "commit":
        [change] = arguments
        rows = [row for row in (change.before, change.after) if row is not None]
        return names_of(change), {name for row in rows for name in (row.id, row.merchant_user_id)}
    given = [*arguments, *named.values()]
    whose = {str(value) for value in given if isinstance(value, str)}
    return {method}, whose | {value.onboarding_id for value in given if hasattr(value, "onboarding_id")}


def _of_shelf(method: str, arguments: tuple[Any, ...], named: dict[str, Any]) -> tuple[set[str], set[str]]:
    return {SHELF[method]}, {arguments[0].split("/")[0]}


def _of_driver(method: str, arguments: tuple[Any, ...], named: dict[str, Any]) -> tuple[set[str], set[str]]:
    return {method}, set()


@dataclasses.dataclass(frozen=True)
class WatchedService(Service):
    """A service whose writes pass by the points."""

    points: Points

    def over(self, driver: Driver) -> Context:
        return _seen(super().over(driver), self.points)


def watched(service: Service, process: str) -> Service:
    """The same service; it dies where the file of this process says, if the environment names a folder of kills."""
    folder = os.environ.get(KILLS)
    if folder is None:
        return service
    points = Points(Path(folder) / f"{process}.json")
    shelf = service.context.documents.shelf
    service.context.documents.shelf = _Watched(shelf, points, SHELF, _of_shelf)  # type: ignore[assignment]
    driver: Any = _Watched(service.driver, points, DRIVER, _of_driver)
    return WatchedService(service.config, _seen(service.context, points), driver, service.outgoing, points)


def _seen(context: Context, points: Points) -> Context:
    stores: dict[str, Any] = {
        name: _Watched(getattr(context, name), points, {*WRITES, "commit"}, _of_store)
        for name in ("store", "schedule", "access", "status")
    }
    return dataclasses.replace(context, **stores, tally=Tally(stores["store"].count))


def arm(
    folder: Path, process: str, points: Iterable[tuple[str, str, str]], last: tuple[str, str, str] | None = None
) -> None:
    """Have a process die once it is at all these points (side, name, whose), and only then at `last`."""
    listed: list[dict[str, Any]] = [dict(zip(("side", "name", "whose"), point, strict=True)) for point in points]
    if last is not None:
        listed.append(dict(zip(("side", "name", "whose"), last, strict=True)) | {"last": True})
    folder.mkdir(exist_ok=True)
    for ending in ("json", "reached", "done"):
        (folder / f"{process}.{ending}").unlink(missing_ok=True)
    _write(folder / f"{process}.json", listed)


def _write(file: Path, value: Any) -> None:
    """All of it at once, for whoever looks at that moment."""
    partial = file.with_name(f".{file.name}")
    partial.write_text(json.dumps(value))
    partial.rename(file)


def nameless(folder: Path) -> bool:
    """Whether any process wrote something that has no name here."""
    return any(folder.glob("*.nameless"))


def has_died(folder: Path, process: str) -> bool:
    """Whether all points of a process were reached. Raises AssertionError naming those that were not."""
    file = folder / f"{process}.json"
    try:
        points = json.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        return True
    came = file.with_suffix(".reached")
    reached = json.loads(came.read_text("utf-8")) if came.exists() else []
    missing = [
        " ".join(point.values()) if not point.pop("last", None) else "last"
        for number, point in enumerate(points)
        if number not in reached
    ]
    raise AssertionError(f"{process} has not come to: {'; '.join(missing)}")
