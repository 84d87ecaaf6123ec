"""The wheel, away from the checkout, with nothing installed beside it but what it says that it needs."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from importlib.metadata import distributions
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest

from orchestrator import __version__
from tests import newcomer
from tests.launch import NO_DEPRECATED

Once = Callable[[str, Callable[[], Any]], Any]


@pytest.fixture(scope="module")
def shop(once: Once, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """`wheels` to install from, a `clone` of the checkout, and the `wheel` built of it."""

    def stock() -> dict[str, str]:
        folder = tmp_path_factory.mktemp("shop")
        wheels, clone = newcomer.pack(folder / "wheels"), newcomer.clone(folder / "clone")
        wheel = newcomer.build(clone, folder / "dist", newcomer.environment(folder, wheels))
        return {"wheels": str(wheels), "clone": str(clone), "wheel": str(wheel)}

    return {name: Path(path) for name, path in once("shop", stock).items()}


def test_the_tests_run_with_the_versions_that_are_locked() -> None:
    """`make` installs them; who installed by hand may have others."""
    locked: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([\w.-]+)==([^ \n]+)", newcomer.LOCK.read_text("utf-8"), re.MULTILINE):
        locked.setdefault(name, set()).add(version)
    there = {newcomer.normal(found.name): found.version for found in distributions()}

    assert len(locked.keys() & there) > 50
    assert {name: there[name] for name in locked.keys() & there if there[name] not in locked[name]} == {}


def test_the_wheel_holds_what_the_tree_holds_and_nothing_else(shop: dict[str, Path]) -> None:
    info = f"kyc_onboarding_orchestrator-{__version__}.dist-info"
    pages = {f"orchestrator/{name}" for name in newcomer.files_of_the_checkout() if name.startswith("templates/")}
    tree = {name for name in newcomer.files_of_the_checkout() if name.startswith("orchestrator/")}

    with ZipFile(shop["wheel"]) as wheel:
        held = set(wheel.namelist())
        licence = wheel.read(f"{info}/licenses/LICENSE").decode()
        scripts = wheel.read(f"{info}/entry_points.txt").decode()
        metadata = wheel.read(f"{info}/METADATA").decode()

    assert {name for name in held if not name.startswith(info)} == tree - {"orchestrator/templates"} | pages
    assert {Path(name).suffix for name in tree | pages} >= {".py", ".html", ".css", ".sql", ".toml", ".typed"}
    assert licence.startswith("MIT License")
    assert "License-Expression: MIT" in metadata
    assert scripts == "[console_scripts]\norchestrator = orchestrator.cli:main\n"


def test_the_demo_of_a_wheel_in_an_empty_environment_plays_every_story(shop: dict[str, Path], tmp_path: Path) -> None:
    """`uvx` makes the environment: of the wheel, and of what the wheel asks for."""
    environ = newcomer.environment(tmp_path, shop["wheels"]) | NO_DEPRECATED
    uvx = [newcomer.UV, "tool", "run", "--from", str(shop["wheel"]), "orchestrator"]

    def run(*words: str) -> str:
        done = subprocess.run(
            [*uvx, *words], env=environ, cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert run("--version") == f"orchestrator, version {__version__}\n"
    said = run("demo", "--exit")
    assert said.count("\n  ok ") == 16
    assert "Viewer token: orc_" in said
    assert not list(tmp_path.glob("orchestrator-demo-*")), "it leaves nothing behind"
