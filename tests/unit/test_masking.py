"""A provider's words without the user's data."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.onboarding.masking import LONGEST, masked

ANA = {"firstName": "Ana", "lastName": "Leeson", "idNumber": "K1234567", "email": "ana@example.com", "gender": "F"}
Form = Literal["NFC", "NFD"]
DIGITS = st.text("0123456789", min_size=4, max_size=12)


def test_each_value_is_replaced_by_the_name_of_its_field() -> None:
    words = "idNumber K1234567 of Ana Leeson <ana@example.com> is taken"

    assert masked(words, ANA) == "idNumber <idNumber> of <firstName> <lastName> <<email>> is taken"


def test_words_without_any_of_the_values_stay_as_they_are() -> None:
    assert masked("the parameter is not valid", ANA) == "the parameter is not valid"


def test_without_values_the_words_are_only_cut() -> None:
    assert masked("x" * 600, {}) == "x" * LONGEST == "x" * 500


def test_every_place_where_a_value_stands_is_masked() -> None:
    assert masked("K1234567, K1234567; K1234567", ANA) == "<idNumber>, <idNumber>; <idNumber>"


@pytest.mark.parametrize("words", ["k1234567", "K1234567", "ANA@EXAMPLE.COM", "LEESON", "leeSon"])
def test_a_value_is_found_in_any_case(words: str) -> None:
    assert masked(words, ANA) in ("<idNumber>", "<email>", "<lastName>")


@pytest.mark.parametrize("value", ["Straße", "STRASSE", "straße", "İstanbul", "ŉandi", "Ǆorđe", "ΌΔΟΣ", "ﬁelds"])
def test_a_value_is_found_whatever_case_does_to_its_letters(value: str) -> None:
    for words in (value, value.upper(), value.lower(), value.casefold()):
        assert masked(f"no {words} here", {"street": value}) == "no <street> here"


def test_a_value_is_found_in_the_spelling_that_it_has_inside_json() -> None:
    values = {"lastName": "Núñez", "address": 'Flat "7"\\B'}
    words = json.dumps({"sent": [values["lastName"], values["address"]]})

    assert masked(words, values) == '{"sent": ["<lastName>", "<address>"]}'


def test_a_short_value_is_masked_only_where_it_stands_as_a_word() -> None:
    assert masked("For F: Female? (F)", ANA) == "For <gender>: Female? (<gender>)"
    assert masked("Ana, Anabel, Hannah and ana", ANA) == "<firstName>, Anabel, Hannah and <firstName>"


def test_a_longer_value_is_masked_inside_a_word_too() -> None:
    assert masked("xK1234567y", ANA) == "x<idNumber>y"


def test_a_chinese_name_is_masked_although_it_is_short() -> None:
    li = {"lastName": "李", "firstName": "小龍", "lastNameEn": "Éa"}

    assert masked("The document of 李 小龍 is blurred", li) == "The document of <lastName> <firstName> is blurred"
    assert masked("小龍的證件不清晰", li) == "<firstName>的證件不清晰"
    assert masked("行李", li) == "行李", "one letter is masked only where it stands as a word"
    assert masked("xÉay", li) == "x<lastNameEn>y"


def test_of_values_that_overlap_the_longest_is_taken() -> None:
    values = {"firstName": "Maria", "firstNameEn": "Maria Elena", "lastName": "Maria Elena Ruiz"}

    assert masked("Maria Elena Ruiz, Maria Elena, Maria", values) == "<lastName>, <firstNameEn>, <firstName>"


def test_a_value_that_two_fields_share_gets_the_name_of_the_first() -> None:
    assert masked("HKG", {"nationality": "HKG", "residentialCountry": "HKG"}) == "<nationality>"


def test_a_value_that_means_something_in_a_pattern_is_taken_literally() -> None:
    values = {"address": "Flat (7) [B]+.*", "phoneNumber": "+852 1234"}

    assert masked("Flat (7) [B]+.* and +852 1234", values) == "<address> and <phoneNumber>"
    assert masked("Flat 77 BBBB", values) == "Flat 77 BBBB"


@pytest.mark.parametrize("blank", ["", " ", "\t"])
def test_a_blank_value_masks_nothing(blank: str) -> None:
    assert masked("a b c", {"middleName": blank}) == "a b c"


def test_a_name_put_in_for_one_value_is_not_masked_again() -> None:
    assert masked("Ana K1234567", {**ANA, "occupation": "idNumber"}) == "<firstName> <idNumber>"


def test_the_words_are_masked_before_they_are_cut() -> None:
    assert masked("x" * (LONGEST - 4) + "K1234567", ANA) == "x" * (LONGEST - 4) + "<idN"


@given(values=st.lists(DIGITS, min_size=1, max_size=4), parts=st.lists(st.text(max_size=20), min_size=2, max_size=6))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_whatever_the_words_are_no_value_is_left_in_them(values: list[str], parts: list[str]) -> None:
    words = parts[0] + "".join(values[index % len(values)] + part for index, part in enumerate(parts[1:]))
    named = dict(zip("abcd", values, strict=False))

    result = masked(words, named)

    assert len(result) <= LONGEST
    assert all(value not in result for value in values)


@given(value=st.text(st.characters(exclude_categories=("Cs",)), min_size=4, max_size=12))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_a_value_of_any_letters_is_masked(value: str) -> None:
    assert masked(value, {"name": value}) == ("<name>" if value.strip() else value)


@pytest.mark.parametrize("stored", ["NFC", "NFD"])
@pytest.mark.parametrize("said", ["NFC", "NFD"])
@pytest.mark.parametrize("spelled", [str, lambda text: json.dumps(text)[1:-1]])
def test_a_value_is_found_however_its_accents_are_written(
    stored: Form, said: Form, spelled: Callable[[str], str]
) -> None:
    name = unicodedata.normalize(stored, "José Núñez")
    words = f"unknown: {spelled(unicodedata.normalize(said, name))}"
    assert masked(words, {"firstName": name}) == "unknown: <firstName>"
