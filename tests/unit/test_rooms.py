"""Who may import whom. The imports are read from the source, so nothing has to run."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import orchestrator

PACKAGE = Path(orchestrator.__file__).parent
ROOT = PACKAGE.parent
MODULES = sorted(path.relative_to(ROOT).as_posix() for path in PACKAGE.rglob("*.py"))
LONGEST_MODULE = 400

CORE = {"machine", "records", "signatures", "seal", "health", "errors"}
SERVICE = {"onboarding", "machine", "records", "errors", "config", "telemetry", "health"}

# What each room may import beside itself. A name with a dot is one module, which may import what its room may and
# this. `package`: the version in orchestrator/__init__.py.
ALLOWED = {
    "package": set(),
    "errors": set(),
    "machine": {"errors"},
    "signatures": {"errors"},
    "seal": {"errors"},
    "telemetry": {"errors"},
    "turns": set(),
    "health": {"errors"},
    "setting": {"errors"},
    "branding": {"setting"},
    "config": {
        "branding",
        "setting",
        "errors",
        "signatures",
    },  # keys are parsed where they are read, by the code that uses them
    "records": {"machine"},
    "store": {"records", "machine", "errors", "seal", "telemetry", "turns", "health"},
    "documents": {"records", "machine", "errors", "seal", "telemetry", "health"},
    "bucket": {"records", "machine", "errors", "seal", "telemetry", "health", "documents"},  # documents, in S3
    "backup": {"documents", "errors", "seal", "store"},
    "moving": {"store", "errors"},
    "providers": {"records", "machine", "signatures", "errors", "telemetry"},
    "notify": {"records", "machine", "signatures", "errors", "telemetry", "seal", "providers.http"},
    "onboarding": CORE | {"telemetry", "store", "documents", "providers", "notify"},
    "web": SERVICE | {"turns"},
    "web.app": {"bootstrap"},  # for the type of the wired service
    "worker": SERVICE,
    "supervisor": {"errors", "telemetry"},
    "bootstrap": CORE | {"telemetry", "config", "store", "documents", "bucket", "providers", "notify", "onboarding"},
    "cli": {
        "package",
        "config",
        "bootstrap",
        "backup",
        "moving",
        "web",
        "worker",
        "sandbox",
        "onboarding",
        "records",
        "errors",
        "telemetry",
        "supervisor",
        "machine",
    },
    "__main__": {"cli"},
    "wsgi": {"config", "bootstrap", "web", "worker", "onboarding", "records", "errors", "telemetry"},
    "sandbox": {"signatures"},
}
OPTIONAL_DRIVERS = {("bootstrap", "store.postgres"), ("bootstrap", "bucket")}
PURE = ["machine", "records", "signatures", "seal", "health", "errors"]


@dataclass(frozen=True)
class Import:
    """One of our modules that a module imports."""

    line: int
    module: str
    inside: bool
    """Inside a function."""


def name_of(path: str) -> str:
    """`orchestrator/store/store.py` → `orchestrator.store.store`."""
    return path.removesuffix(".py").replace("/", ".").removesuffix(".__init__")


NAMES = {name_of(path): path for path in MODULES}


def room_of(module: str) -> str:
    """`orchestrator.store.store` → `store`."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "package"


@cache
def tree_of(path: str) -> ast.Module:
    return ast.parse((ROOT / path).read_text("utf-8"))


def with_depth(node: ast.AST, inside: bool = False) -> Iterator[tuple[ast.AST, bool]]:
    """Every node below, and whether it stands inside a function."""
    for child in ast.iter_child_nodes(node):
        yield child, inside
        yield from with_depth(child, inside or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda))


@cache
def imports_of(path: str) -> tuple[Import, ...]:
    found: list[Import] = []
    for node, inside in with_depth(tree_of(path)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports relatively"
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in NAMES else str(node.module) for name in whole]
        else:
            continue
        ours = [name for name in names if name == "orchestrator" or name.startswith("orchestrator.")]
        found += [Import(node.lineno, name, inside) for name in ours]
    return tuple(found)


def may_import(importer: str, imported: str) -> bool:
    room, other = room_of(importer), room_of(imported)
    if room == other:
        return True
    allowed = ALLOWED[room] | ALLOWED.get(importer.removeprefix("orchestrator."), set())
    return other in allowed or imported.removeprefix("orchestrator.") in allowed


def test_a_module_imports_from_the_rooms_that_its_room_may() -> None:
    wrong = [
        f"{path}:{found.line} imports {found.module}"
        for path in MODULES
        for found in imports_of(path)
        if not may_import(name_of(path), found.module)
    ]

    assert wrong == []


def test_every_room_is_in_the_table_and_every_room_of_the_table_is_there() -> None:
    rooms = {room_of(module) for module in NAMES}
    entries = {entry for entry in ALLOWED if "." not in entry}

    assert rooms == entries
    assert {f"orchestrator.{entry}" for entry in ALLOWED if "." in entry} <= set(NAMES)
    assert {other for allowed in ALLOWED.values() for other in allowed if "." not in other} <= rooms


def test_the_sandbox_is_imported_by_commands_alone() -> None:
    importers = {
        room_of(module)
        for module, path in NAMES.items()
        for found in imports_of(path)
        if room_of(found.module) == "sandbox"
    }

    assert importers - {"sandbox"} <= {"cli"}


def test_the_core_does_no_input_or_output() -> None:
    forbidden = {"os", "socket", "pathlib", "requests", "urllib", "subprocess", "threading", "time", "logging", "flask"}
    for room in PURE:
        for node in ast.walk(tree_of(f"orchestrator/{room}.py")):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            assert not {name.split(".")[0] for name in names} & forbidden, room
            assert not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "open")


def test_no_imports_form_a_cycle() -> None:
    edges = {
        module: {found.module for found in imports_of(path) if not found.inside} - {module}
        for module, path in NAMES.items()
    }
    done: set[str] = set()

    def visit(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, " → ".join((*way[way.index(module) :], module))
        if module not in done:
            for other in sorted(edges.get(module, ())):
                visit(other, (*way, module))
            done.add(module)

    for module in sorted(edges):
        visit(module, ())


def test_only_optional_drivers_and_commands_loaded_by_name_are_imported_inside_functions() -> None:
    inside = {
        (module.removeprefix("orchestrator."), found.module.removeprefix("orchestrator."))
        for module, path in NAMES.items()
        for found in imports_of(path)
        if found.inside
    }
    by_name = {
        path
        for path in MODULES
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Attribute) and node.attr == "import_module"
    }

    assert {pair for pair in inside if not pair[0].startswith("cli")} <= OPTIONAL_DRIVERS
    assert by_name <= {"orchestrator/cli/__init__.py"}


def test_a_module_has_at_most_four_hundred_lines() -> None:
    lines = {path: len((ROOT / path).read_text("utf-8").splitlines()) for path in MODULES}

    assert {path: count for path, count in lines.items() if count > LONGEST_MODULE} == {}


def test_no_name_of_a_database_driver_leaves_the_store() -> None:
    outside = [path for path in MODULES if not path.startswith("orchestrator/store/")]
    driver = re.compile(r"\b(?:sqlite3|sqlite_utils|psycopg\w*)\b")

    assert [path for path in outside if driver.search((ROOT / path).read_text("utf-8"))] == []


# Clocks and randomness -----------------------------------------------------------------------------------------

# The demo and `trigger` play the merchant: they are outside of the service, as the sandbox is.
WIRED = ("orchestrator/bootstrap.py", "orchestrator/cli/demo", "orchestrator/cli/trying.py", "orchestrator/sandbox/")
REAL = {
    "datetime": {"now", "utcnow", "today"},
    "date": {"today"},
    "time": {"time", "time_ns"},
    "os": {"urandom", "getrandom"},
    "uuid": {"uuid1", "uuid4"},
}


def real_clocks_and_dice(path: str) -> list[str]:
    """Where a module looks at the real clock or takes real randomness."""
    found: list[str] = []
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            found += [f"{node.lineno} {alias.name}" for alias in node.names if alias.name in ("secrets", "random")]
        elif isinstance(node, ast.ImportFrom):
            taken = REAL.get(str(node.module), set()) | ({"*"} if node.module in ("secrets", "random") else set())
            found += [
                f"{node.lineno} {node.module}.{alias.name}"
                for alias in node.names
                if alias.name in taken or "*" in taken
            ]
        elif isinstance(node, ast.Attribute):
            owner = node.value.id if isinstance(node.value, ast.Name) else getattr(node.value, "attr", "")
            if node.attr in REAL.get(owner, set()):
                found.append(f"{node.lineno} {owner}.{node.attr}")
    return found


def test_the_real_clock_and_randomness_appear_only_where_things_are_wired() -> None:
    elsewhere = {path: real_clocks_and_dice(path) for path in MODULES if not path.startswith(WIRED)}

    assert {path: found for path, found in elsewhere.items() if found} == {}


def test_the_search_for_clocks_and_dice_finds_them_in_the_wiring() -> None:
    found = " ".join(real_clocks_and_dice("orchestrator/bootstrap.py"))

    assert "time.time_ns" in found
    assert "secrets" in found
    assert "random" in found


# What is caught ------------------------------------------------------------------------------------------------


def test_whoever_catches_every_exception_says_why_or_raises_it_again() -> None:
    handlers = [
        (path, node) for path in MODULES for node in ast.walk(tree_of(path)) if isinstance(node, ast.ExceptHandler)
    ]
    for path, node in handlers:
        caught = ast.unparse(node.type) if node.type is not None else ""
        if caught not in ("", "Exception", "BaseException"):
            continue
        assert caught, f"{path}:{node.lineno} catches without naming what"
        last = node.body[-1]
        passed_on = isinstance(last, ast.Raise) and last.exc is None
        line = (ROOT / path).read_text("utf-8").splitlines()[node.lineno - 1]
        reason = re.search(r"#\s*(?:noqa: BLE001 - )?(?!noqa)(\w.{10,})$", line)
        assert passed_on or reason, f"{path}:{node.lineno} does not say why it catches {caught}"


def test_no_application_connection_or_lock_is_made_when_a_module_is_imported() -> None:
    makers = {
        "Flask",
        "create_app",
        "build",
        "Session",
        "connect",
        "Database",
        "Lock",
        "RLock",
        "SqliteDriver",
        "local",
    }
    made = {
        path
        for path in MODULES
        for node in tree_of(path).body
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Call)
        if ast.unparse(node.value.func).split(".")[-1] in makers
    }

    assert made <= {"orchestrator/wsgi.py"}
