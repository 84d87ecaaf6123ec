"""The merchant's colours stay easy to read, whichever they are; a logo is what it is by content."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.branding import color, logo_file
from orchestrator.config import Config
from orchestrator.setting import Wrong
from orchestrator.web import brand

STYLE = (Path(brand.__file__).parent / "static" / "upload.css").read_text("utf-8")


def parts(accent: str) -> list[dict[str, str]]:
    """The colours for light and for dark screens."""
    blocks = re.findall(r":root\{([^}]*)\}", brand.stylesheet(accent))
    return [dict(item.split(":") for item in block.split(";")) for block in blocks]


def backgrounds() -> list[list[str]]:
    """Those of cards and pages, light and dark, in the page's own style."""
    blocks = re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)
    found = [re.findall(r"--(?:page|card): (#[0-9a-f]+)", block) for block in blocks]
    return [["#ffffff" if one == "#fff" else one for one in block] for block in found]


@given(st.integers(0, 0xFFFFFF))
@settings(deadline=None)
def test_any_colour_gives_buttons_and_links_that_can_be_read(number: int) -> None:
    for shades, behind in zip(parts(f"#{number:06x}"), backgrounds(), strict=True):
        assert brand.contrast(shades["--accent"], shades["--on-accent"]) >= 4.5
        assert brand.contrast(shades["--accent-hover"], shades["--on-accent"]) >= 4.5
        assert all(brand.contrast(shades["--link"], other) >= 4.5 for other in behind)


def test_contrast_is_that_of_the_standard() -> None:
    assert brand.contrast("#ffffff", "#000000") == pytest.approx(21)
    assert brand.contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


def test_a_colour_that_can_be_read_is_taken_as_it_is() -> None:
    light, _ = parts("#0a5f6b")

    assert (light["--accent"], light["--link"], light["--on-accent"]) == ("#0a5f6b", "#0a5f6b", "#ffffff")
    assert color("#F5C400") == "#f5c400"


@pytest.mark.parametrize(
    ("content", "media_type"),
    [
        (b'<?xml version="1.0"?>\n<!-- made by hand -->\n<svg xmlns="http://www.w3.org/2000/svg"/>', "image/svg+xml"),
        (b"\xef\xbb\xbf<svg>", "image/svg+xml"),
        (b"\x89PNG\r\n\x1a\n...", "image/png"),
        (b"\xff\xd8\xff\xe0...", "image/jpeg"),
    ],
)
def test_a_logo_is_known_by_its_content(tmp_path: Path, content: bytes, media_type: str) -> None:
    (tmp_path / "logo").write_bytes(content)

    assert logo_file(str(tmp_path / "logo")).media_type == media_type


@pytest.mark.parametrize("content", [b"", b"<html><svg>", b"GIF89a", b"\xff\xd8\xff" + bytes(100_000)])
def test_what_is_no_logo_or_too_large_is_a_fault(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "logo").write_bytes(content)

    with pytest.raises(Wrong, match=r"SVG, PNG or JPEG|larger than 100 kB"):
        logo_file(str(tmp_path / "logo"))


@pytest.mark.parametrize(
    ("contact", "link"),
    [
        ("help@example.com", "mailto:help@example.com"),
        ("+852 (0) 5555-1234", "tel:+852055551234"),
        ("https://example.com/help", "https://example.com/help"),
        ("javascript:alert(1)", None),
        ("our shop in Central", None),
        (None, None),
    ],
)
def test_a_contact_leads_somewhere_if_it_is_an_address(contact: str | None, link: str | None) -> None:
    settings = object.__new__(Config)
    object.__setattr__(settings, "support_contact", contact)

    assert brand.Brand(settings).contact_link == link
