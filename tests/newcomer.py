"""What somebody has who just got the code: the checkout, a Python with nothing installed, and a folder of wheels.

The wheels stand in for the package index: they are made of the libraries that the tests run with, so that no test asks
anybody outside and what is installed is what was tested. Only what the project says that it needs is among them.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path
from zipfile import ZipFile

from packaging.requirements import Requirement

CHECKOUT = Path(__file__).parent.parent
LOCK = CHECKOUT / "requirements-dev.lock"
UV = f"{sys.prefix}/bin/uv"
PROJECT = "kyc-onboarding-orchestrator"
_INSTALLED_BY = {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json"}


def files_of_the_checkout() -> list[str]:
    """What a clone would hold, with what is not committed yet."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
    )
    return sorted(name for name in listed.stdout.split("\0") if name and os.path.lexists(CHECKOUT / name))


def clone(target: Path) -> Path:
    """The checkout, copied to `target`."""
    for name in files_of_the_checkout():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(CHECKOUT / name, target / name, follow_symlinks=False)
    return target


def environment(folder: Path, wheels: Path) -> dict[str, str]:
    """The variables of a shell in which nothing of ours is set, and which installs from `wheels` alone."""
    return {
        "HOME": str(folder),
        "PATH": f"{sys.base_prefix}/bin:/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "TMPDIR": str(folder),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(wheels),
        "PIP_NO_COMPILE": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "UV_NO_CONFIG": "1",
        "UV_OFFLINE": "1",
        "UV_NO_INDEX": "1",
        "UV_FIND_LINKS": str(wheels),
        "UV_CACHE_DIR": str(folder / "uv-cache"),
        "UV_PYTHON": f"{sys.base_prefix}/bin/python3",
        "UV_PYTHON_DOWNLOADS": "never",
    }


def build(checkout: Path, target: Path, environ: dict[str, str]) -> Path:
    """The wheel of a checkout, built away from everything that is installed here."""
    words = ["build", "--wheel", "--quiet", "--out-dir", str(target), str(checkout)]
    subprocess.run([UV, *words], env=environ, check=True, timeout=120)
    (wheel,) = target.glob("*.whl")
    return wheel


def pack(target: Path) -> Path:
    """The folder of wheels: what the project needs, what these need, and what builds it."""
    target.mkdir()
    for found in _needed([*_requirements(distribution(PROJECT)), Requirement("setuptools")]):
        _repack(found, target)
    return target


def normal(name: str) -> str:
    """A distribution's name, spelled as lock files do."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _needed(requirements: Iterable[Requirement]) -> list[Distribution]:
    """The installed distributions that satisfy them, with all that they need in turn."""
    waiting, found = list(requirements), dict[str, Distribution]()
    while waiting:
        requirement = waiting.pop()
        name = normal(requirement.name)
        if name not in found:
            found[name] = distribution(name)
            waiting += _requirements(found[name], requirement.extras)
    return list(found.values())


def _requirements(found: Distribution, extras: Iterable[str] = ()) -> Iterator[Requirement]:
    for text in found.requires or ():
        requirement = Requirement(text)
        environments = [{"extra": extra} for extra in ("", *extras)]
        if requirement.marker is None or any(requirement.marker.evaluate(given) for given in environments):
            yield requirement


def _repack(found: Distribution, target: Path) -> None:
    """Make an installed distribution a wheel again. Scripts are left out: installing makes them anew."""
    (info,) = (path.parts[0] for path in found.files or () if len(path.parts) == 2 and path.match("*.dist-info/RECORD"))
    tags = [line.split("-") for line in re.findall(r"^Tag: (.+)$", found.read_text("WHEEL") or "", re.MULTILINE)]
    tag = "-".join(".".join(sorted(set(part))) for part in zip(*tags, strict=True))
    record = []
    with ZipFile(target / f"{info.removesuffix('.dist-info')}-{tag}.whl", "w") as wheel:
        for path in found.files or ():
            made = path.parts[0] == info and path.name in _INSTALLED_BY
            if path.parts[0] != ".." and "__pycache__" not in path.parts and not made:
                wheel.write(str(path.locate()), str(path))
                record.append(f"{path},,\n")
        wheel.writestr(f"{info}/RECORD", "".join([*record, f"{info}/RECORD,,\n"]))
