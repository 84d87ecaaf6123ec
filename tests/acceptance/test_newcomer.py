"""As somebody meets the project who has nothing but a checkout: the wheel, the tutorial, the README."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from importlib.metadata import distributions
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
import requests

from orchestrator import __version__
from tests import newcomer
from tests.installation import free_port
from tests.launch import NO_DEPRECATED
from tests.typed import Terminal, blocks_of

pytestmark = pytest.mark.long

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
    assert {name[:-2] + "mo" for name in tree if name.endswith(".po")} <= held, "run `make translations`"
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


def test_the_tutorial_leads_to_an_approved_user_when_every_command_of_it_is_typed(
    shop: dict[str, Path], tmp_path: Path
) -> None:
    """In an empty folder beside a checkout. Only the ports are others, because tests run side by side."""
    newcomer.clone(tmp_path / "kyc-onboarding-orchestrator")
    folder = tmp_path / "empty"
    folder.mkdir()
    environ = newcomer.environment(tmp_path, shop["wheels"])
    ports = {number: str(free_port()) for number in ("8000", "8001", "9000")}
    blocks = blocks_of(newcomer.CHECKOUT / "docs/tutorial.md")
    assert len(blocks) > 10
    assert {number for number in ports if number not in "".join(block.commands for block in blocks)} == set()

    with ExitStack() as terminals:

        def opened(name: str) -> Terminal:
            return terminals.enter_context(Terminal(folder, environ, tmp_path / f"{name}.log"))

        first = opened("first")
        for block in blocks:
            commands = re.sub("|".join(ports), lambda found: ports[found[0]], block.commands)
            if block.terminal:
                opened(block.terminal.split()[0].lower()).begin(commands)
            else:
                first.run(commands)

        said = first.said()
        assert "u-1  approved, round 1" in said
        assert re.search(r'^202 \{"id":', said, re.MULTILINE), "the hook that `trigger` sent was taken"
        (token,) = set(re.findall(r"orc_\S+", said))
        assert "Approved" in status_page(f"http://127.0.0.1:{ports['8000']}", token)


def status_page(base: str, token: str) -> str:
    """What a browser shows of user u-1 after signing in."""
    with requests.Session() as browser:
        browser.trust_env = False
        form = browser.get(f"{base}/login", timeout=10).text
        fields = dict(re.findall(r'<input[^>]*type="hidden"[^>]*name="([^"]+)"[^>]*value="([^"]*)"', form))
        browser.post(f"{base}/login", data={**fields, "token": token}, timeout=10)
        return browser.get(f"{base}/status?q=u-1", timeout=10).text


def test_every_command_of_the_readme_works(shop: dict[str, Path], tmp_path: Path) -> None:
    """`make demo` is what the demo of the wheel does, and `make test` is this run: both are looked at, not nested."""
    clone = newcomer.clone(tmp_path / "clone")
    (making, typing) = blocks_of(clone / "README.md")

    assert making.commands.split("\n") == ["make demo", "make test", ""]
    recipes = (clone / "Makefile").read_text("utf-8")
    assert "\n\t@$(BIN)/orchestrator demo\n" in recipes
    assert "\n\t$(BIN)/pytest -n $(JOBS) --dist worksteal -m 'not soak and not long'\n" in recipes

    with Terminal(clone, newcomer.environment(tmp_path, shop["wheels"]), tmp_path / "terminal.log") as terminal:
        assert "Carries each user of a merchant through KYC" in terminal.run(typing.commands)
