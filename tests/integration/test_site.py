"""The documentation as pages: what is linked is there, and a browser asks no other host for anything."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOADED_BY = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href", "object": "data"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as `make site` does: strictly, so that a link to a page or heading that is not there is an error."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


class Loads(HTMLParser):
    """What a browser asks for by itself when it shows a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.classes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.classes.update((given.get("class") or "").split())
        if address := given.get(LOADED_BY.get(tag, "")):
            self.found.append(address)


def test_no_page_loads_anything_from_another_host(site: Path) -> None:
    pages, loaded = sorted(site.rglob("*.html")), 0
    for page in pages:
        reader = Loads()
        reader.feed(page.read_text("utf-8"))
        loaded += len(reader.found)
        assert [address for address in reader.found if re.match(r"(?:\w+:)?//", address)] == [], page
        # For a diagram in Mermaid's words the theme would fetch a script from elsewhere: ours are pictures.
        assert "mermaid" not in reader.classes, page
    styles = [style.read_text("utf-8") for style in site.rglob("*.css")]

    assert len(pages) > 15
    assert loaded > 100
    assert styles
    assert [
        found for style in styles for found in re.findall(r"(?:url\(|@import )[\"']?(?:https?:)?//\S+", style)
    ] == []


def test_every_document_is_a_page_that_the_menu_leads_to(site: Path) -> None:
    menu = (site / "index.html").read_text("utf-8")
    written = {path.relative_to(ROOT / "docs").with_suffix(".html").as_posix() for path in ROOT.glob("docs/**/*.md")}

    assert {name for name in written if f'href="{name}"' not in menu} <= {"index.html"}
