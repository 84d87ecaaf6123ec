"""Documents over HTTP: hostile sizes, types and senders, limits under parallel calls, and nothing plain on disk."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import threading
from pathlib import Path
from typing import Any

import pytest
import requests
from PIL import Image

from orchestrator.errors import Conflict, SealBroken, StoreUnavailable, TooLarge
from orchestrator.machine import State
from orchestrator.onboarding import access, collect, look, operate
from orchestrator.records import Onboarding
from tests.service import Bench, Web, pdf, raw_request

API = "/api/v1/onboardings"
LARGEST = 5_000_000


def picture(form: str, size: int = 0) -> bytes:
    """A real image, padded behind its end to `size` bytes."""
    file = io.BytesIO()
    Image.new("RGB", (40, 30), "white").save(file, form)
    return file.getvalue().ljust(size, b"\0")


def put(web: Web, row: Onboarding, kind: str, data: Any, **how: Any) -> requests.Response:
    return web.merchant("PUT", f"{API}/{row.id}/documents/{kind}", data=data, **how)


def on_disk(bench: Bench) -> list[Path]:
    """Every file of a document, finished or not."""
    folder = bench.folder / "documents"
    return sorted(path for path in folder.rglob("*") if path.is_file()) if folder.exists() else []


def is_problem(answer: requests.Response, status: int, **members: Any) -> bool:
    body = answer.json()
    assert answer.status_code == status, answer.text
    return answer.headers["Content-Type"] == "application/problem+json" and all(
        body[name] == value for name, value in members.items()
    )


@pytest.mark.parametrize(
    ("content", "media_type"),
    [(picture("JPEG"), "image/jpeg"), (picture("PNG"), "image/png"), (pdf(), "application/pdf")],
    ids=["jpg", "png", "pdf"],
)
def test_a_document_is_typed_by_its_content_and_shown_by_its_hash(web: Web, content: bytes, media_type: str) -> None:
    row = web.bench.sign_up()
    answer = put(web, row, "selfie", content, headers={"Content-Type": "application/x-msdownload"})
    assert answer.status_code == 200
    [shown] = answer.json()["documents"]
    assert list(shown) == ["kind", "mediaType", "size", "sha256", "uploadedAt"]
    assert (shown["kind"], shown["mediaType"], shown["size"]) == ("selfie", media_type, len(content))
    assert shown["sha256"] == hashlib.sha256(content).hexdigest()
    [document] = web.bench.context.store.documents(row.id)
    assert web.bench.context.documents.get(document) == content


def test_a_form_part_called_file_is_as_good_as_a_raw_body(web: Web) -> None:
    row = web.bench.sign_up()
    content = picture("PNG")
    url = f"{API}/{row.id}/documents/idFileFront"
    answer = web.merchant("PUT", url, files={"file": ("../../etc/passwd", content, "text/plain")}, data={"more": "x"})
    assert answer.status_code == 200
    assert answer.json()["documents"][0]["sha256"] == hashlib.sha256(content).hexdigest()
    assert is_problem(web.merchant("PUT", url, files={"document": ("x", content)}), 422)
    assert is_problem(web.merchant("PUT", url, files={"file": ("x", b"")}), 415)
    broken = {"Content-Type": "multipart/form-data; boundary=x"}
    assert is_problem(web.merchant("PUT", url, data=b"no form at all", headers=broken), 422)
    without = {"Content-Type": "multipart/form-data"}
    assert web.merchant("PUT", url, data=b"no form at all", headers=without).status_code in (400, 422)


def test_a_raw_document_may_be_called_a_form(web: Web) -> None:
    """So does `curl --data-binary` unless it is told better."""
    row = web.bench.sign_up()
    url = f"{API}/{row.id}/documents/idFileFront"
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    assert web.merchant("PUT", url, data=pdf("a scan", 5_000_000), headers=headers).status_code == 200
    assert is_problem(web.merchant("PUT", url, data=pdf("a scan", 5_000_001), headers=headers), 413)


HOSTILE: dict[str, bytes] = {
    "nothing": b"",
    "text": b"just words",
    "a web page": b"<html><script>alert(1)</script></html>",
    "a drawing that runs scripts": b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
    "a gif": picture("GIF"),
    "a bmp": picture("BMP"),
    "a tiff": picture("TIFF"),
    "a webp": picture("WEBP"),
    "a program": b"\x7fELF\x02\x01\x01" + bytes(100),
    "a zip": b"PK\x03\x04" + bytes(100),
    "the first bytes of a jpg": b"\xff\xd8\xff\xe0" + bytes(100),
    "the first bytes of a png": b"\x89PNG\r\n\x1a\n" + bytes(100),
    "a png cut short": picture("PNG")[:60],
    "a png with a wrong checksum": picture("PNG")[:40] + b"\xff\xff" + picture("PNG")[42:],
    "a pdf behind something else": b"x" + pdf(),
    "nul bytes": bytes(1000),
}


def test_what_is_no_jpg_png_or_pdf_by_content_is_415(web: Web) -> None:
    row = web.bench.sign_up()
    for what, content in HOSTILE.items():
        answer = put(web, row, "selfie", content, headers={"Content-Type": "image/png"})
        assert is_problem(answer, 415), what
    assert on_disk(web.bench) == []
    assert web.bench.row(row) == row


@pytest.mark.parametrize("kind", ["passport", "idfilefront", "selfie.jpg", "idFileFront%00", "..%5c..", "x" * 1_000])
def test_an_unknown_kind_is_404_and_its_body_is_not_read(web: Web, kind: str) -> None:
    row = web.bench.sign_up()
    assert is_problem(put(web, row, kind, pdf()), 404)
    head = f"PUT {API}/{row.id}/documents/{kind} HTTP/1.1\r\nHost: x\r\nContent-Length: 4000000\r\n"
    assert _unfinished(web, head) == 404, "before a byte of it came"
    assert on_disk(web.bench) == []


def _unfinished(web: Web, head: str, body: bytes = b"", *, end: bool = False) -> int:
    """The status of a request whose body does not come, or not all of it. `end`: and never will."""
    token = access.create_token(web.bench.context, f"t{os.urandom(4).hex()}", "merchant")
    return raw_request(web.url, f"{head}Authorization: Bearer {token}\r\n\r\n".encode() + body, end=end).status


def test_exactly_five_million_bytes_are_taken_and_one_more_is_413(web: Web) -> None:
    row = web.bench.sign_up()
    assert put(web, row, "selfie", pdf(size=LARGEST)).status_code == 200
    assert put(web, row, "amlReport", pdf("aml", LARGEST)).status_code == 200
    for kind in ("idFileFront", "amlReport"):
        head = f"PUT {API}/{row.id}/documents/{kind} HTTP/1.1\r\nHost: x\r\nContent-Length: {LARGEST + 1}\r\n"
        assert _unfinished(web, head) == 413, "at once when the length says so"
        with pytest.raises(TooLarge):
            collect.put_document(
                web.bench.context, look.find(web.bench.context, row.id), kind, pdf(size=LARGEST + 1), "test"
            )

    def chunks() -> Any:
        yield from (b"%PDF-1.7".ljust(50_000) for _ in range(100))
        yield b"x"

    assert is_problem(put(web, row, "idFileFront", chunks()), 413), "also when no length was told"
    url = f"{API}/{row.id}/documents/idFileFront"
    assert is_problem(web.merchant("PUT", url, files={"file": ("x", pdf(size=LARGEST + 1))}), 413)
    assert web.merchant("PUT", url, files={"file": ("x", pdf("f", LARGEST))}).status_code == 200
    assert len(on_disk(web.bench)) == 3


@pytest.mark.parametrize("length", ["-1", "x", "1e3", "99999999999999999999"])
def test_a_length_that_lies_stores_nothing(web: Web, length: str) -> None:
    row = web.bench.sign_up()
    head = f"PUT {API}/{row.id}/documents/selfie HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n"
    assert _unfinished(web, head) in (400, 408, 411, 413, 415)
    assert on_disk(web.bench) == []


@pytest.mark.parametrize("form", [False, True])
def test_a_body_that_ends_too_early_stores_nothing(web: Web, form: bool) -> None:
    row = web.bench.sign_up()
    head = f"PUT {API}/{row.id}/documents/selfie HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n"
    body = pdf("only the beginning")
    if form:
        head += "Content-Type: multipart/form-data; boundary=x\r\n"
        body = b'--x\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n' + body
    assert _unfinished(web, head, body, end=True) in (400, 408, 422)
    assert on_disk(web.bench) == []
    assert web.bench.context.store.documents(row.id) == []


# Together ------------------------------------------------------------------------------------------------------------


def test_the_documents_for_btse_pay_together_have_at_most_ten_million_bytes(web: Web) -> None:
    row = web.bench.sign_up(idType="ID_CARD")
    assert put(web, row, "idFileFront", pdf("f", 4_000_000)).status_code == 200
    assert put(web, row, "idFileBack", pdf("b", 4_000_000)).status_code == 200
    assert is_problem(put(web, row, "selfie", pdf("s", 2_000_001)), 413)
    assert put(web, row, "selfie", pdf("s", 2_000_000)).status_code == 200
    assert put(web, row, "amlReport", pdf("a", LARGEST)).status_code == 200, "it has a limit of its own"
    assert is_problem(put(web, row, "idFileFront", pdf("g", 4_000_001)), 413)
    assert len(on_disk(web.bench)) == 4
    assert put(web, row, "idFileFront", pdf("g", 4_000_000)).status_code == 200, "a replacement counts instead"


def test_a_back_that_the_id_type_does_not_need_is_kept_and_not_counted(web: Web) -> None:
    row = web.bench.sign_up(idType="PASSPORT")
    for kind in ("idFileFront", "idFileBack", "selfie"):
        assert put(web, row, kind, pdf(kind, 4_500_000)).status_code == 200
    assert web.merchant("POST", f"{API}/{row.id}/submit").status_code == 202


def test_an_id_type_that_comes_later_is_counted_at_submit(web: Web) -> None:
    row = web.bench.sign_up(idType="PASSPORT")
    for kind in ("idFileFront", "idFileBack", "selfie"):
        put(web, row, kind, pdf(kind, 4_500_000))
    web.merchant("PATCH", f"{API}/{row.id}/profile", json={"idType": "DRIVERS"})
    answer = web.merchant("POST", f"{API}/{row.id}/submit")
    assert is_problem(answer, 422)
    assert list(answer.json()["errors"]) == ["documents"]


def test_two_at_once_that_pass_the_sum_together_do_not_both_get_in(web: Web) -> None:
    row = web.bench.sign_up(idType="ID_CARD")
    put(web, row, "idFileFront", pdf("f", 4_000_000))
    statuses: list[int] = []
    ready = threading.Barrier(2)

    def send(kind: str) -> None:
        ready.wait()
        try:
            collect.put_document(
                web.bench.context, look.find(web.bench.context, row.id), kind, pdf(kind, 4_000_000), "test"
            )
            statuses.append(200)
        except TooLarge:
            statuses.append(413)

    threads = [threading.Thread(target=send, args=(kind,)) for kind in ("idFileBack", "selfie")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200, 413]
    assert len(on_disk(web.bench)) == 2, "the refused one left no file"


def test_many_at_once_of_one_kind_leave_one_row_and_its_file(bench: Bench) -> None:
    row = bench.sign_up()

    def send(number: int) -> None:
        collect.put_document(bench.context, look.find(bench.context, row.id), "selfie", pdf(str(number)), "test")

    threads = [threading.Thread(target=send, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [document] = bench.context.store.documents(row.id)
    assert [str(path.relative_to(bench.folder / "documents")) for path in on_disk(bench)] == [document.location]
    assert bench.context.documents.get(document).startswith(b"%PDF-")


# Replaced, removed, too late -----------------------------------------------------------------------------------------


def test_replaced_and_deleted_files_are_gone_from_disk(web: Web) -> None:
    row = web.bench.sign_up()
    put(web, row, "selfie", pdf("one"))
    [first] = on_disk(web.bench)
    put(web, row, "selfie", pdf("two"))
    [second] = on_disk(web.bench)
    assert first != second
    url = f"{API}/{row.id}/documents/selfie"
    assert web.merchant("DELETE", url).status_code == 204
    assert on_disk(web.bench) == []
    assert is_problem(web.merchant("DELETE", url), 404)
    assert is_problem(web.merchant("DELETE", f"{API}/{row.id}/documents/passport"), 404)
    details = [item["detail"] for item in web.merchant("GET", f"{API}/{row.id}/transitions").json()["items"]]
    assert details[1:] == ["selfie", "selfie", "selfie removed"]


def test_the_same_content_again_changes_nothing(web: Web) -> None:
    row = web.bench.sign_up()
    first = put(web, row, "selfie", pdf("one")).json()
    files = on_disk(web.bench)
    assert put(web, row, "selfie", pdf("one")).json() == first
    assert on_disk(web.bench) == files


def test_a_document_that_ends_after_the_submit_is_409_and_leaves_no_file(bench: Bench) -> None:
    row = bench.collected()
    files = on_disk(bench)
    sealing, submitted = threading.Event(), threading.Event()
    real = bench.context.documents.put

    def slowly(*what: Any) -> str:
        sealing.set()
        assert submitted.wait(10)
        return real(*what)

    bench.context.documents.put = slowly  # type: ignore[method-assign]
    refused: list[Conflict] = []

    def send() -> None:
        try:
            collect.put_document(bench.context, look.find(bench.context, row.id), "selfie", pdf("late"), "test")
        except Conflict as error:
            refused.append(error)

    thread = threading.Thread(target=send)
    thread.start()
    assert sealing.wait(10)
    collect.submit(bench.context, row.id, "test")
    submitted.set()
    thread.join()
    assert [error.state for error in refused] == ["uploading"]
    assert on_disk(bench) == files


def test_while_it_may_not_be_edited_a_document_is_409_before_it_is_stored(web: Web) -> None:
    row = web.bench.submitted()
    files = on_disk(web.bench)
    assert is_problem(put(web, row, "selfie", pdf("late")), 409, state="uploading")
    assert is_problem(web.merchant("DELETE", f"{API}/{row.id}/documents/selfie"), 409, state="uploading")
    operate.cancel(web.bench.context, row.id, "test")
    assert is_problem(put(web, row, "selfie", pdf("late")), 409, state="cancelled")
    assert on_disk(web.bench) == files


def test_a_document_that_began_in_the_round_before_does_not_get_into_the_next(played: Bench) -> None:
    row = played.collected()
    files = len(on_disk(played))
    real = played.context.documents.put

    def meanwhile(*what: Any) -> str:
        played.context.documents.put = real  # type: ignore[method-assign]
        collect.submit(played.context, row.id, "test")
        played.run_to(row, State.AWAITING_CALLBACK)
        operate.ask_for_resubmission(played.context, row.id, "once more", "test")
        return real(*what)

    played.context.documents.put = meanwhile  # type: ignore[method-assign]
    with pytest.raises(Conflict):
        collect.put_document(played.context, look.find(played.context, row.id), "selfie", pdf("of round 1"), "test")
    assert (played.row(row).round, len(on_disk(played))) == (2, files)


# Sealed --------------------------------------------------------------------------------------------------------------


@pytest.mark.sqlite
def test_nothing_plain_is_ever_on_disk(played_web: Web) -> None:
    bench = played_web.bench
    profile = {
        "firstName": "Xylophonia",
        "lastName": "Quetzalcoatl",
        "address": "77 Unmistakable Road",
        "ip": "198.51.100.77",
    }
    row = bench.sign_up("reject", **profile)
    marks = {kind: hashlib.sha256(kind.encode()).hexdigest() * 40 for kind in ("idFileFront", "selfie", "amlReport")}
    url = f"{API}/{row.id}/documents"
    for kind, mark in marks.items():
        part = {"file": ("scan.pdf", pdf(mark, 300_000))}
        assert played_web.merchant("PUT", f"{url}/{kind}", files=part).status_code == 200
    email, whole = bench.context.identity(row)
    collect.submit(bench.context, row.id, "test")
    bench.run_to(row, State.AWAITING_CALLBACK)
    bench.clock.advance(1_000)
    assert bench.sandbox
    bench.sandbox.pin_status(row.merchant_user_id, "REJECT", f"{profile['firstName']} is not on the photo")
    bench.receive(row, "REJECT", reason=f"{profile['lastName']} neither")
    bench.run_to(row, State.COLLECTING)
    link = bench.view(row).upload_url.rsplit("/", 1)[1]
    secrets = [email, *profile.values(), whole["idNumber"], link, bench.callback_secret(row, 1)]
    needles = [text.encode() for text in (*secrets, *(mark[:40] for mark in marks.values()))]
    needles += [base64.b64encode(text.encode())[:-4] for text in secrets if len(text) > 12]
    files = [path for path in bench.folder.rglob("*") if path.is_file()]
    names = {path.name for path in files}
    assert {"orchestrator.db", "orchestrator.db-wal"} <= names
    assert len(on_disk(bench)) == 3
    for path in files:
        content = path.read_bytes()
        for needle in needles:
            assert needle not in content, f"{needle!r} in {path}"
        assert b"%PDF-" not in content


def test_files_and_folders_are_for_their_owner_alone(web: Web) -> None:
    row = web.bench.sign_up()
    umask = os.umask(0)
    try:
        put(web, row, "selfie", pdf())
    finally:
        os.umask(umask)
    [file] = on_disk(web.bench)
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    assert (web.bench.folder / "documents").stat().st_mode & 0o777 == 0o700


def test_swapped_and_changed_files_do_not_open(bench: Bench) -> None:
    row = bench.collected()
    front, selfie = bench.context.store.documents(row.id)
    folder = bench.folder / "documents"
    contents = [(folder / document.location).read_bytes() for document in (front, selfie)]
    (folder / front.location).write_bytes(contents[1])
    with pytest.raises(SealBroken):
        bench.context.documents.get(front)
    (folder / front.location).write_bytes(contents[0][:-1] + bytes([contents[0][-1] ^ 1]))
    with pytest.raises(SealBroken):
        bench.context.documents.get(front)
    (folder / front.location).unlink()
    with pytest.raises(StoreUnavailable):
        bench.context.documents.get(front)


def test_a_folder_that_cannot_be_written_is_503_and_stores_no_row(web: Web) -> None:
    row = web.bench.sign_up()
    (web.bench.folder / "documents").write_text("in the way")
    answer = put(web, row, "selfie", pdf())
    assert is_problem(answer, 503)
    assert str(web.bench.folder) not in answer.text
    assert web.bench.row(row) == row


def test_an_unknown_onboarding_is_404_before_anything_is_stored(web: Web) -> None:
    assert is_problem(web.merchant("PUT", "/api/v1/onboardings/onb_x/documents/selfie", data=pdf()), 404)
    assert on_disk(web.bench) == []
