"""Every word of the end user's page is there in every language, and what is shipped is what was written."""

from __future__ import annotations

import re
from io import BytesIO
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.frontend import parse_mapping_cfg
from babel.messages.mofile import read_mo, write_mo
from babel.messages.pofile import read_po

from orchestrator.web.language import FOLDER

ROOT = Path(__file__).parents[2]
CATALOGS = sorted(FOLDER.glob("*/LC_MESSAGES/messages.po"))
PLACEHOLDER = re.compile(r"%\(\w+\)[sd]")
MAKE = "run `make translations`, and translate what is new"


def read(path: Path) -> Catalog:
    with path.open("rb") as file:
        return read_po(file, locale=path.parent.parent.name)


def words_of_the_pages() -> set[str]:
    with (ROOT / "babel.cfg").open() as file:
        methods, options = parse_mapping_cfg(file)
    found = [
        extracted
        for folder in ("templates", "orchestrator/web")
        for extracted in extract_from_dir(
            str(ROOT / folder), [(pattern.removeprefix(f"{folder}/"), how) for pattern, how in methods], options
        )
    ]
    return {message[0] if isinstance(message, tuple) else message for _, _, message, _, _ in found}


def text_of(message: object) -> str:
    """The singular, which names a message."""
    return message[0] if isinstance(message, list | tuple) else str(message)


def test_there_are_languages_and_words() -> None:
    assert [path.parent.parent.name for path in CATALOGS] == ["zh_Hant_TW"]
    assert len(words_of_the_pages()) > 150


@pytest.mark.parametrize("path", CATALOGS, ids=lambda path: path.parent.parent.name)
def test_every_word_is_translated_and_none_is_left_over(path: Path) -> None:
    catalog = read(path)
    there = {text_of(message.id): message for message in catalog if message.id}

    assert set(there) == words_of_the_pages(), MAKE
    assert [name for name, message in there.items() if message.fuzzy or not all(strings(message.string))] == [], MAKE


def strings(translated: object) -> list[str]:
    """Each of the plural forms."""
    return [str(one) for one in translated] if isinstance(translated, list | tuple) else [str(translated)]


@pytest.mark.parametrize("path", CATALOGS, ids=lambda path: path.parent.parent.name)
def test_a_translation_has_the_placeholders_of_its_message(path: Path) -> None:
    for message in read(path):
        wanted = set(PLACEHOLDER.findall(" ".join(strings(message.id))))
        for string in strings(message.string) if message.id else ():
            assert set(PLACEHOLDER.findall(string)) == wanted, message.id


@pytest.mark.parametrize("path", CATALOGS, ids=lambda path: path.parent.parent.name)
def test_what_is_compiled_is_what_is_written(path: Path) -> None:
    compiled = BytesIO()
    write_mo(compiled, read(path))
    compiled.seek(0)
    fresh = {text_of(message.id): strings(message.string) for message in read_mo(compiled) if message.id}
    with path.with_suffix(".mo").open("rb") as file:
        shipped = {text_of(message.id): strings(message.string) for message in read_mo(file) if message.id}

    assert shipped == fresh, MAKE
