"""Sealed documents in S3: against moto's server, a real process over HTTP."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from orchestrator.bucket import Bucket
from orchestrator.errors import StoreUnavailable
from orchestrator.onboarding import collect, look, retain
from orchestrator.onboarding.retain import Purged
from tests.command_line import orchestrator
from tests.installation import free_port
from tests.service import DAY, Bench, pdf
from tests.waiting import until

PREFIX = "kyc/documents"


@pytest.fixture(scope="module")
def s3() -> Iterator[dict[str, str]]:
    """The environment in which boto3 finds a server with a bucket called `bucket`."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def there() -> bool:
        try:
            return requests.put(f"{url}/bucket", timeout=5).ok
        except requests.RequestException as error:
            raise AssertionError(str(error)) from error

    try:
        until(there)
        yield {
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture
def boto(s3: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """boto3 reads its settings from the environment alone."""
    for name, value in s3.items():
        monkeypatch.setenv(name, value)
    return s3


def test_what_is_written_is_read_listed_and_removed(boto: dict[str, str]) -> None:
    shelf = Bucket("s3://bucket/one")
    other = Bucket("s3://bucket/one-more")
    shelf.check_writable()
    shelf.write("onb_1/selfie-00", b"sealed")
    other.write("onb_1/selfie-00", b"another's")
    assert shelf.read("onb_1/selfie-00") == b"sealed"
    ((location, written_at),) = list(shelf.locations())
    assert location == "onb_1/selfie-00"
    assert written_at > 1_600_000_000
    shelf.remove("onb_1/selfie-00")
    shelf.remove("onb_1/selfie-00")
    assert shelf.read("onb_1/selfie-00") is None
    assert list(shelf.locations()) == []
    assert other.read("onb_1/selfie-00") == b"another's"
    plain = Bucket("s3://bucket")
    plain.write("onb_2/selfie-00", b"at the root")
    assert plain.read("onb_2/selfie-00") == b"at the root"
    plain.remove("onb_2/selfie-00")


def test_erasures_are_noted_beside_the_documents_and_are_none_of_them(boto: dict[str, str]) -> None:
    shelf = Bucket("s3://bucket/erasing")
    assert shelf.erasures() == []
    shelf.note_erasure("onb_1", "2026-11-22T10:00:00+00:00")
    shelf.note_erasure("onb_2", "2026-11-22T10:00:01+00:00")
    assert shelf.erasures() == ["onb_1", "onb_2"]
    assert list(shelf.locations()) == []


def test_more_files_than_one_page_are_all_listed(boto: dict[str, str]) -> None:
    shelf = Bucket("s3://bucket/many")
    for number in range(1_005):
        requests.put(f"{boto['AWS_ENDPOINT_URL']}/bucket/many/onb_{number}/selfie-00", b"x", timeout=5)
    assert len(list(shelf.locations())) == 1_005


def test_documents_are_sealed_before_they_leave_and_go_when_their_time_is_over(
    boto: dict[str, str], tmp_path: Path
) -> None:
    bench = Bench(tmp_path, ORCHESTRATOR_DOCUMENTS_URL=f"s3://bucket/{PREFIX}")
    row = bench.sign_up()
    collect.put_document(bench.context, look.find(bench.context, row.id), "selfie", pdf("a face"), "test")
    (document,) = bench.context.store.documents(row.id)
    stored = Bucket(f"s3://bucket/{PREFIX}").read(document.location) or b""
    assert b"%PDF" not in stored
    assert b"a face" not in stored
    assert len(stored) > document.size
    assert bench.context.documents.get(document) == pdf("a face")
    collect.put_document(bench.context, look.find(bench.context, row.id), "selfie", pdf("another face"), "test")
    assert Bucket(f"s3://bucket/{PREFIX}").read(document.location) is None
    bench.context.documents.put("onb_nobody", "selfie", "0" * 64, b"never acknowledged")
    bench.clock.advance(DAY + 60_000)
    assert retain.purge(bench.context) == Purged(0, 0, strays=1)
    retain.erase(bench.context, row.id, "test")
    assert list(bench.context.documents.shelf.locations()) == []
    assert bench.context.documents.shelf.erasures() == [row.id]
    bench.close()


def test_a_bucket_that_is_not_there_is_told_in_words(boto: dict[str, str], tmp_path: Path) -> None:
    shelf = Bucket("s3://no-such-bucket/prefix")
    for attempt in (
        shelf.check_writable,
        lambda: shelf.write("onb_1/selfie-00", b"sealed"),
        lambda: shelf.read("onb_1/selfie-00"),
        lambda: list(shelf.locations()),
        lambda: shelf.note_erasure("onb_1", "now"),
        shelf.erasures,
    ):
        with pytest.raises(StoreUnavailable, match="ORCHESTRATOR_DOCUMENTS_URL"):
            attempt()
    bench = Bench(tmp_path, ORCHESTRATOR_DOCUMENTS_URL="s3://no-such-bucket/prefix")
    said = orchestrator({**bench.environ(), **boto}, tmp_path, "doctor", expect=1).stdout
    assert "error    documents: the bucket could not be used" in said
    bench.close()


def test_a_bucket_that_never_answers_does_not_hold_up_who_asks_whether_it_lets_us_in(
    boto: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kubernetes gives `/readyz` five seconds, and webhooks need no bucket."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        shelf = Bucket("s3://bucket/prefix")
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match="ReadTimeoutError"):
            shelf.check_writable()
    assert time.monotonic() - began < 4.5
