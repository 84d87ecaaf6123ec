"""The wire details as data: what is shipped, what a merchant may correct, and how a faulty file is answered."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.errors import InvalidInput
from orchestrator.providers import dialect
from orchestrator.providers.dialect import Dialects, load_dialects

SHIPPED = Path(dialect.__file__).with_name("dialects.toml")
DOCUMENT = Path(__file__).parents[2] / "docs" / "providers.md"
Load = Callable[[str], Dialects]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Loads the shipped dialects with these lines over them."""

    def load_with(lines: str) -> Dialects:
        path = tmp_path / "own.toml"
        path.write_text(lines, encoding="utf-8")
        return load_dialects(path)

    return load_with


def test_what_is_shipped_is_what_the_documents_say() -> None:
    shipped = load_dialects()

    assert (shipped.btse.sign_encoding, shipped.btse.multipart_message) == ("hex", "fields")
    assert shipped.btse.id_types == {"ID_CARD": "1", "PASSPORT": "7", "DRIVERS": "8"}
    assert shipped.osl.path_share == "/api/v1/user/kyc/share"
    assert (shipped.osl.share_type_token, shipped.osl.share_type_file) == ("sumsubTokenShare", "fileShare")
    assert shipped.osl.agrees["FINAL_REJECT"] == {"FINAL_REJECT", "REJECT"}
    assert shipped.osl.agrees["PASS"] == {"PASS"}
    assert shipped.osl.faults.code_unauthorized == {"00001"}
    assert {429, 503} == shipped.btse.faults.status_later == shipped.osl.faults.status_later
    assert all(dataclasses.astuple(shipped.choices))


def test_a_correction_changes_its_key_and_nothing_else(load: Load) -> None:
    shipped = load_dialects()
    corrected = load('[btse]\nsign_encoding = "base64"\n[osl.agrees]\nPASS = ["PASS", "DONE"]\n')

    assert corrected.btse == dataclasses.replace(shipped.btse, sign_encoding="base64")
    assert corrected.osl.agrees == {**shipped.osl.agrees, "PASS": frozenset({"PASS", "DONE"})}
    assert corrected.choices == shipped.choices


def test_an_empty_file_corrects_nothing(load: Load) -> None:
    assert load("") == load_dialects()


def test_a_whole_number_serves_where_a_fraction_may_stand(load: Load) -> None:
    hours = load("[osl]\nfile_url_hours = 48").osl.file_url_hours

    assert (hours, type(hours)) == (48.0, float)


@pytest.mark.parametrize(
    ("lines", "path", "words"),
    [
        ("[btse]\nsign_encodnig = 'hex'", "btse.sign_encodnig", "is not a key"),
        ("[bste]\n", "bste", "is not a key"),
        ("[btse.id_types]\nVISA = '9'", "btse.id_types.VISA", "is not a key"),
        ("[osl.agrees]\nREVIEW = []", "osl.agrees.REVIEW", "is not a key"),
        ("[btse]\nsign_encoding = 'HEX'", "btse.sign_encoding", "one of hex, base64"),
        ("[btse]\nmultipart_message = 1", "btse.multipart_message", "one of fields, none, json"),
        ("[btse]\npath_kyc_upload = 'payment'", "btse.path_kyc_upload", "must be a path"),
        ("[osl]\npath_share = '/a?b=c'", "osl.path_share", "must be a path"),
        ("[osl]\npath_share = 3", "osl.path_share", "must be a text"),
        ("[osl]\nfile_part = ' '", "osl.file_part", "must be a text"),
        ("[osl]\nfile_url_hours = 0", "osl.file_url_hours", "more than 0"),
        ("[osl]\nfile_url_hours = inf", "osl.file_url_hours", "more than 0"),
        ("[osl]\nfile_url_hours = true", "osl.file_url_hours", "must be a number"),
        ("[osl]\nfile_url_hours = '24'", "osl.file_url_hours", "must be a number"),
        ("[osl]\ndate_format = 'dd.mm.yyyy'", "osl.date_format", "must hold %Y"),
        ("[osl]\nutc_offset_hours = 480", "osl.utc_offset_hours", "between -24 and 24"),
        ("[osl]\ngenders = 'M'", "osl.genders", "must be a list"),
        ("[osl]\ngenders = [1]", "osl.genders", "must be a text"),
        ("[osl.agrees]\nPASS = 'PASS'", "osl.agrees.PASS", "must be a list"),
        ("[osl]\nagrees = 1", "osl.agrees", "must be a table"),
        ("btse = 1", "btse", "must be a table"),
        ("[osl.faults]\nstatus_later = [200]", "osl.faults.status_later", "must be 300 to 599"),
        ("[osl.faults]\nstatus_later = ['429']", "osl.faults.status_later", "whole number"),
        ("[osl.faults]\ncode_later = [99999]", "osl.faults.code_later", "must be a text"),
        ("[choices]\noccupation = {}", "choices.occupation", "must be a list"),
    ],
)
def test_a_faulty_key_is_named_by_its_path(load: Load, lines: str, path: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=re.escape(path)) as caught:
        load(lines)

    assert list(caught.value.errors) == [path]
    assert any(words in message for message in caught.value.errors[path])


def test_all_faulty_keys_are_named_at_once(load: Load) -> None:
    with pytest.raises(InvalidInput) as caught:
        load("wrong = 1\n[btse]\nsign_encoding = 'x'\n[osl]\nfile_part = ''\n")

    assert set(caught.value.errors) == {"wrong", "btse.sign_encoding", "osl.file_part"}


@pytest.mark.parametrize("content", [b"[btse", b"\xff\xfe", b"a = 1\na = 2\n"])
def test_a_file_that_is_no_toml_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "own.toml"
    path.write_bytes(content)

    with pytest.raises(InvalidInput, match=r"own\.toml cannot be read"):
        load_dialects(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"gone\.toml cannot be read"):
        load_dialects(tmp_path / "gone.toml")


# What is written about it -----------------------------------------------------------------------------------------


def _keys(table: dict[str, object], prefix: str) -> set[str]:
    found: set[str] = set()
    for name, value in table.items():
        if isinstance(value, dict) and prefix.count(".") < 1:
            found |= _keys(value, f"{prefix}{name}.")
        else:
            found.add(f"{prefix}{name}")
    return found


def test_every_line_of_the_file_tells_its_certainty_or_has_a_heading_that_does() -> None:
    told = False
    for line in SHIPPED.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            told = bool(re.search(r"# \[[SPA]\]", line))
        elif line and not line.startswith("#"):
            assert told or re.search(r"# \[[SPA]\]", line), line


def test_every_row_that_the_code_points_to_stands_in_the_document() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    rows = set(re.findall(r"^\| ([BOW]\d+) \|", text, flags=re.MULTILINE))
    package = Path(dialect.__file__).parent
    sources = [*package.glob("*.py"), SHIPPED, package.parent / "signatures.py"]
    named = {row for path in sources for row in re.findall(r"\b[BOW]\d{1,2}\b", path.read_text(encoding="utf-8"))}

    assert named
    assert named <= rows


def test_every_key_stands_in_the_document() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    table = tomllib.loads(SHIPPED.read_text(encoding="utf-8"))
    missing = {key for key in _keys(table, "") if key.rpartition(".")[2] not in text}

    assert not missing
