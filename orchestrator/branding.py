"""How the end user's page looks like the merchant's: what of it can be set, and what is taken."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from orchestrator.setting import Wrong, existing_file

LARGEST_LOGO = 100_000
_STARTS = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg"}
_SVG = re.compile(rb"\A(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*<svg[\s>]", re.DOTALL)


@dataclass(frozen=True, repr=False)
class Logo:
    """A picture, read at start. `media_type` is by content."""

    content: bytes
    media_type: str


def logo_file(value: str) -> Logo:
    """The logo in the file of this name: SVG, PNG or JPEG, at most 100 kB. Raises Wrong."""
    path: Path = existing_file(value)
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_LOGO + 1)
    except OSError:
        raise Wrong("it cannot be read") from None
    if len(content) > LARGEST_LOGO:
        raise Wrong("it is larger than 100 kB, and every user loads it")
    media_type = next((kind for start, kind in _STARTS.items() if content.startswith(start)), None)
    if media_type is None and _SVG.match(content):
        media_type = "image/svg+xml"
    if media_type is None:
        raise Wrong("it must be an SVG, PNG or JPEG by its content")
    return Logo(content, media_type)


def color(value: str) -> str:
    """A colour as `#rrggbb`, in small letters. Raises Wrong."""
    if not re.fullmatch(r"#[0-9A-Fa-f]{6}", value):
        raise Wrong("it must be # and six hexadecimal digits")
    return value.lower()


def line(longest: int) -> Callable[[str], str]:
    """One line of printable text of at most `longest` characters."""

    def parse(value: str) -> str:
        if not value.isprintable() or len(value) > longest:
            raise Wrong(f"it must be one line of at most {longest} characters")
        return value

    return parse
