"""What a document is, by its content: nothing is unpacked for it, and nothing that it declares is believed. Pure."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator
from io import BytesIO
from itertools import islice

from PIL import Image

from orchestrator.errors import UnsupportedDocument

MEDIA_TYPES = {"image/jpeg": "jpg", "image/png": "png", "application/pdf": "pdf"}
"""What is taken, and how the names of such files end."""
_IMAGE_TYPES = {"JPEG": "image/jpeg", "MPO": "image/jpeg", "PNG": "image/png"}
"""By the library's names. MPO: a jpg with more pictures behind the first, as some phones write it."""
_LARGEST_PIXELS = 200_000_000
_MOST_PARTS = 10_000
"""Segments of a jpg, chunks of a png: no camera or scanner writes nearly as many."""
_PNG = b"\x89PNG\r\n\x1a\n"
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, b"\xff\xd9"
Image.MAX_IMAGE_PIXELS = None  # the size is looked at here; what the library does is a warning to nobody


def media_type_of(content: bytes) -> str:
    """`image/jpeg`, `image/png` or `application/pdf`. Raises UnsupportedDocument, which says what to send."""
    if content.startswith(b"%PDF-"):
        return "application/pdf"
    _check_parts(content)
    try:
        with Image.open(BytesIO(content), formats=("JPEG", "PNG")) as image:
            image.verify()
            media_type, pixels = _IMAGE_TYPES[image.format or ""], image.width * image.height
    except Exception:  # noqa: BLE001 - the library raises many kinds on hostile files
        raise UnsupportedDocument("the file must be a readable jpg, png or pdf, by its content") from None
    if pixels > _LARGEST_PIXELS:
        raise UnsupportedDocument(f"the picture may have {_LARGEST_PIXELS} pixels: send a smaller one")
    if media_type == "image/jpeg" and not _is_whole_jpeg(content):
        raise UnsupportedDocument("the picture ends before its end: send the whole file")
    return media_type


def _check_parts(content: bytes) -> None:
    """The library looks at each part, and unpacks each colour profile: a file of such alone would keep it busy."""
    parts = _chunks(content) if content.startswith(_PNG) else (mark for mark, _ in _segments(content))
    kinds: Counter[bytes | int] = Counter(islice(parts, _MOST_PARTS + 1))
    if kinds[b"iCCP"] > 1 or kinds.total() > _MOST_PARTS:
        raise UnsupportedDocument("the picture is made of too many parts: send it as another program saves it")


def _chunks(content: bytes) -> Iterator[bytes]:
    """The kinds of a png's chunks."""
    at = len(_PNG)
    while at + 8 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, at)
        yield kind
        at += length + 12


def _segments(content: bytes) -> Iterator[tuple[int, int]]:
    """The marks of a jpg's head and where they stand, up to the picture itself."""
    at = 2
    while at + 4 <= len(content) and content[at] == 0xFF:
        mark = content[at + 1]
        yield mark, at
        if mark == _START_OF_SCAN:
            return
        at += 1 if mark == 0xFF else 2 + int.from_bytes(content[at + 2 : at + 4], "big")


def _is_whole_jpeg(content: bytes) -> bool:
    """Whether the picture's end comes after its beginning: previews within the head do not count."""
    begins = next((at for mark, at in _segments(content) if mark == _START_OF_SCAN), None)
    return begins is not None and _END_OF_IMAGE in content[begins:]
