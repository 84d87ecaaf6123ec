"""Files that want to be something else: refused by their content, or kept sealed and served to nobody but providers."""

from __future__ import annotations

import base64
import io
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator

import pytest
import requests
from PIL import Image, PngImagePlugin
from werkzeug.routing import Rule

from orchestrator.onboarding import access
from orchestrator.records import Onboarding
from orchestrator.web.app import create_app
from tests.service import Bench, Client, Web, pdf, web_of

API = "/api/v1/onboardings"
MARK = b"Unmistakable-content-of-a-hostile-document"
SCRIPT = b"<script>alert('" + MARK + b"')</script>"


def picture(form: str, size: tuple[int, int] = (40, 30), **how: object) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, "white").save(file, form, **how)
    return file.getvalue()


def archive(*contents: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as made:
        for number, content in enumerate(contents):
            made.writestr(f"{number}.html", content)
    return file.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *more: bytes) -> bytes:
    """A PNG that says it is so large; `more`: chunks behind its header."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(b"\0" * 100))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(more) + data + chunk(b"IEND", b"")


def two_pictures() -> bytes:
    """A JPEG with a second one behind it, as some phones write them."""
    file = io.BytesIO()
    first, second = (Image.new("RGB", (40, 30), color) for color in ("white", "black"))
    first.save(file, "MPO", save_all=True, append_images=[second])
    return file.getvalue()


PROFILE = b"x\0\0" + zlib.compress(bytes(1_000_000))


def jpg_of(width: int, height: int) -> bytes:
    """A JPEG whose header says that it is so large."""
    content = bytearray(picture("JPEG"))
    at = content.index(b"\xff\xc0")
    content[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(content)


def cut_jpg() -> bytes:
    """A JPEG that ends in the middle, with a whole preview in its head."""
    whole = picture("JPEG", (400, 300))
    exif = b"Exif\0\0" + picture("JPEG", (8, 8))
    head = b"\xff\xd8\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
    return head + whole[2 : len(whole) * 3 // 4]


def text_bomb(kind: bytes) -> bytes:
    """A PNG with a text of 20 MB, packed."""
    packed = zlib.compress(bytes(20_000_000), 9)
    data = b"Comment\0\0" + packed if kind == b"zTXt" else b"Comment\0\1\0\0\0" + packed
    return png(10, 10, chunk(kind, data))


def commented() -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", SCRIPT.decode())
    return info


REFUSED: dict[str, bytes] = {
    "a png with many colour profiles": png(40, 30, *[chunk(b"iCCP", PROFILE)] * 50),
    "a jpg of many segments": picture("JPEG")[:2] + b"\xff\xe1\x00\x02" * 20_000 + picture("JPEG")[2:],
    "a Windows program": b"MZ\x90\x00" + bytes(58) + b"\x80\0\0\0" + MARK * 10,
    "a Linux program": b"\x7fELF\x02\x01\x01" + MARK * 10,
    "a macOS program": b"\xcf\xfa\xed\xfe\x07\0\0\x01" + MARK * 10,
    "a Java class": b"\xca\xfe\xba\xbe\0\0\x004" + MARK * 10,
    "a shell script": b"#!/bin/sh\n" + MARK,
    "an office file with macros": archive(MARK, b"[Content_Types].xml"),
    "a zip that unpacks to 20 MB": archive(bytes(20_000_000)),
    "a zip in a zip": archive(archive(bytes(1_000_000))),
    "a gif that is a jar": picture("GIF") + archive(MARK),
    "a zip before a jpg": archive(MARK) + picture("JPEG"),
    "a web page before a pdf": SCRIPT + pdf(),
    "an svg": b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg">' + SCRIPT + b"</svg>",
    "an svg behind a byte order mark": b"\xef\xbb\xbf<svg onload='" + MARK + b"'/>",
    "a heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + MARK * 10,
    "an avif": b"\0\0\0\x1cftypavif\0\0\0\0avifmif1" + MARK * 10,
    "a webp": picture("WEBP"),
    "nothing": b"",
    "one byte": b"\xff",
    "a jpg of its first bytes alone": b"\xff\xd8\xff",
    "a jpg that ends in its head": picture("JPEG")[:40],
    "a jpg that ends in the middle, with a whole preview": cut_jpg(),
    "a jpg without its end": picture("JPEG")[:-2],
    "a png that ends in the middle": picture("PNG", (400, 300))[:100],
    "a png without its end": picture("PNG")[:-12],
    "a png of 300 megapixels": png(20_000, 15_000),
    "a png of a side of two thousand million": png(2_000_000_000, 1),
    "a jpg of 4000 megapixels": jpg_of(65_000, 65_000),
    "a png with a text that unpacks to 20 MB": text_bomb(b"zTXt"),
    "a png with an international text that unpacks to 20 MB": text_bomb(b"iTXt"),
}
KEPT: dict[str, tuple[bytes, str]] = {
    "a jpg with a second picture behind it": (two_pictures(), "image/jpeg"),
    "a jpg that is a zip as well": (picture("JPEG") + archive(MARK), "image/jpeg"),
    "a png that is a zip as well": (picture("PNG") + archive(MARK), "image/png"),
    "a jpg with a script in its comment": (picture("JPEG", comment=SCRIPT), "image/jpeg"),
    "a png with a script in its text": (picture("PNG", pnginfo=commented()), "image/png"),
    "a png whose picture unpacks to much": (png(10_000, 10_000), "image/png"),
    "a photo of 108 megapixels": (jpg_of(12_000, 9_000), "image/jpeg"),
    "a pdf that is a web page": (b"%PDF-1.7\n" + SCRIPT + b"\n%%EOF", "application/pdf"),
    "a pdf with a script": (
        b"%PDF-1.7\n1 0 obj<</OpenAction<</S/JavaScript/JS(app.alert('" + MARK + b"'))>>>>endobj\n%%EOF",
        "application/pdf",
    ),
    "a pdf that unpacks to much": (
        b"%PDF-1.7\n1 0 obj<</Filter/FlateDecode>>stream\n" + zlib.compress(bytes(5_000_000)) + MARK + b"\nendstream",
        "application/pdf",
    ),
    "a pdf that is a zip as well": (pdf() + archive(MARK), "application/pdf"),
}


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    """One service for all tests here."""
    bench = Bench(tmp_path_factory.mktemp("hostile"))
    with web_of(bench) as made:
        yield made
    bench.close()


@pytest.fixture
def row(web: Web) -> Onboarding:
    return web.bench.sign_up()


def put(web: Web, row: Onboarding, kind: str, content: bytes) -> requests.Response:
    headers = {"Content-Type": "image/jpeg"}
    return web.merchant("PUT", f"{API}/{row.id}/documents/{kind}", data=content, headers=headers)


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_document_is_refused_with_a_reason_and_leaves_nothing(web: Web, row: Onboarding, what: str) -> None:
    for form in (False, True):
        if form:
            url = f"{API}/{row.id}/documents/selfie"
            answer = web.merchant("PUT", url, files={"file": ("passport.jpg", REFUSED[what], "image/jpeg")})
        else:
            answer = put(web, row, "selfie", REFUSED[what])
        assert answer.status_code == 415, answer.text
        assert re.search(
            "readable jpg, png or pdf|pixels: send a smaller|send the whole file|too many parts",
            answer.json()["detail"],
        )
        assert MARK.decode() not in answer.text
    assert web.bench.row(row) == row
    assert not list((web.bench.folder / "documents").glob(f"{row.id}/*"))


@pytest.mark.parametrize("what", KEPT)
def test_what_is_a_document_and_more_is_kept_as_it_came_sealed(web: Web, row: Onboarding, what: str) -> None:
    content, media_type = KEPT[what]
    answer = put(web, row, "selfie", content)
    assert answer.status_code == 200, answer.text
    [document] = web.bench.context.store.documents(row.id)
    assert document.media_type == media_type
    assert web.bench.context.documents.get(document) == content
    [file] = (web.bench.folder / "documents").glob(f"{row.id}/*")
    for part in (MARK, content[:16], b"PK\x03\x04", b"<script"):
        assert part not in file.read_bytes()


def test_no_route_gives_a_document_back(web: Web) -> None:
    row = web.bench.collected()
    for kind in ("idFileFront", "idFileBack", "selfie", "amlReport"):
        assert put(web, row, kind, KEPT["a pdf with a script"][0]).status_code == 200
    browser = Client(web.url)
    token = access.create_token(web.bench.context, "looks-at-everything", "operator")
    assert browser("POST", "/login", data={"token": token}).status_code == 303
    link = web.bench.view(row).upload_url.rsplit("/", 1)[1]
    routes = {path for rule in create_app(web.bench.service).url_map.iter_rules() for path in paths(rule, row, link)}
    for path in sorted(routes):
        for caller, accept in ((web.operator, "application/pdf"), (web.merchant, "*/*"), (browser, "image/*")):
            answer = caller("GET", path, headers={"Accept": accept})
            kind = answer.headers.get("Content-Type", "")
            assert not kind.startswith(("application/pdf", "application/octet-stream", "image/jpeg", "image/png"))
            for given in (MARK, base64.b64encode(MARK)[:-4], MARK.hex().encode()):
                assert given not in answer.content, path
    browser.close()
    assert len(routes) > 30


def paths(rule: Rule, row: Onboarding, link: str) -> Iterator[str]:
    """Where a rule leads for this user, and what might lead to a file."""
    named = {"onboarding_id": row.id, "delivery_id": "dlv_1", "token": link, "filename": "style.css"}
    path = re.sub(r"<(?:path:)?(\w+)>", lambda found: {**named, "kind": "selfie"}[found[1]], rule.rule)
    yield from (path, f"/static/%2e%2e/documents/{row.id}/selfie", f"{API}/{row.id}/documents")
