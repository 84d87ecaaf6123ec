"""The profile: every parameter of the providers' request tables, by name."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.errors import InvalidInput
from orchestrator.onboarding.profile import (
    DOCUMENT_KINDS,
    PAGE_FIELDS,
    SERVICE_SET,
    ProfileRules,
    checked_email,
    checked_merchant_user_id,
    countries,
)
from orchestrator.providers.dialect import load_dialects
from orchestrator.records import Document

RULES = ProfileRules(load_dialects().osl)
ANY_TEXT = ["", " ", "\t", "a\nb", "a\x00b", "\u200b", "x" * 129, 5, 1.5, True, None, ["x"], {"x": "y"}]
FREE_TEXT = ["", " ", "a\nb", "x" * 256, 5, None, ["x"]]
COUNTRY = ["hkg", "HK", "XXX", "Hong Kong", "HKG ", "344", "", 5, None]
DAY = ["1990-2-3", "1990-02-30", "03.02.1990", "1990/02/03", "1990-02-03 00:00:00", "19900203", "1990-02-03\n", "", 5]
DAY += ["٢٠٢٠-01-01", "0000-01-01", "1990-W05-6"]
MOMENT = ["2026-11-22T10:00:00", "2026-11-22 10:00", "2026-11-22 25:00:00", "2026-02-30 10:00:00", "", 5, None]
MOMENT += ["2026-11-22 10:00:00Z", "2026-11-22 10:00:00+00:00", "2026-11-22 10:00:00.1", "2026-11-22"]

# Name → a value that is accepted, and values that are refused. These are all parameters of BTSE Pay's "Upload User
# KYC Files" and of OSL Pay's two share tables, but for those that the service sets itself.
TABLES: dict[str, tuple[str, list[Any]]] = {
    "kycType": ("USER", ["user", "PERSON", "", 5, None]),
    "registerTime": ("2026-11-22 10:00:00", MOMENT),
    "ip": ("203.0.113.7", ["203.0.113", "203.0.113.256", "fe80::1%eth0", "localhost", "203.0.113.7/32", "", 5, None]),
    "deviceId": ("d-1", ANY_TEXT),
    "shareToken": ("sumsub-token", ["", " ", "a\nb", "x" * 4097, 5, None]),
    "accountPurpose": ("Payments and purchases", FREE_TEXT),
    "monthSpend": ("Less than 1,000 USD", FREE_TEXT),
    "sourceFunds": ("Salary", FREE_TEXT),
    "occupation": ("Employed", FREE_TEXT),
    "firstName": ("Ana", ANY_TEXT),
    "middleName": ("María", ANY_TEXT),
    "lastName": ("Lee", ANY_TEXT),
    "firstNameEn": ("Ana", ANY_TEXT),
    "middleNameEn": ("Maria", ANY_TEXT),
    "lastNameEn": ("Lee", ANY_TEXT),
    "phoneNumber": ("+852 1234-5678", ["call me", "12", "+", "++85212345678", "x" * 129, "", 85212345678, None]),
    "gender": ("F", ["f", "X", "female", "", 5, None]),
    "idType": ("PASSPORT", ["passport", "7", "VISA", "RESIDENCE_PERMIT", "UTILITY_BILL", "", 7, None]),
    "idNumber": ("K1234567", ANY_TEXT),
    "nationality": ("HKG", COUNTRY),
    "residentialCountry": ("HKG", COUNTRY),
    "idCountry": ("HKG", COUNTRY),
    "dob": ("1990-12-31", DAY),
    "idExpiry": ("2030-01-31", DAY),
    "street": ("Queen's Road", ANY_TEXT),
    "number": ("12 B", ANY_TEXT),
    "district": ("Central", ANY_TEXT),
    "city": ("香港", ANY_TEXT),
    "state": ("HK", ANY_TEXT),
    "zip": ("999077", ANY_TEXT),
    "address": ("12 B, Queen's Road, Central", ["", " ", "a\nb", "x" * 501, 5, None]),
    "kycTime": ("2026-11-22 10:00:00", MOMENT),
    "kycLevel": ("L1", ["L3", "l1", "1", "", 1, None]),
}
SET_BY_THE_SERVICE = [
    "callbackUrl",
    "merchantUserId",
    "email",
    "shareType",
    "kycIdentityInfoVo",
    "frontFileUrl",
    "backFileUrl",
    "selfieFileUrl",
    "amlFileUrl",
]
PROFILE = {name: value for name, (value, _) in TABLES.items() if name != "shareToken"}
NEEDED = [
    "firstName",
    "lastName",
    "idNumber",
    "idType",
    "nationality",
    "ip",
    "deviceId",
    "residentialCountry",
    "accountPurpose",
    "monthSpend",
    "sourceFunds",
    "occupation",
]


def refused(values: Any, allowed: frozenset[str] | None = None) -> dict[str, list[str]]:
    with pytest.raises(InvalidInput) as caught:
        RULES.checked(values, allowed)
    return caught.value.errors


def document(kind: str, size: int = 1000) -> Document:
    return Document("onb_1", kind, "image/jpeg", size, "0" * 64, f"onb_1/{kind}", 1)


# Names ---------------------------------------------------------------------------------------------------------


def test_the_profile_takes_every_parameter_of_the_tables_and_no_other() -> None:
    assert set(TABLES) == RULES.names
    assert not RULES.names & set(SERVICE_SET)


@pytest.mark.parametrize("name", TABLES)
def test_a_field_of_the_tables_is_accepted_by_its_name(name: str) -> None:
    value = TABLES[name][0]

    assert RULES.checked({name: value}) == {name: value}


def test_a_whole_profile_is_accepted_as_it_is() -> None:
    assert RULES.checked(PROFILE) == PROFILE


@pytest.mark.parametrize("name", TABLES)
def test_a_malformed_value_is_refused_under_the_name_of_its_field(name: str) -> None:
    for value in TABLES[name][1]:
        assert list(refused({name: value})) == [f"profile.{name}"], repr(value)


@pytest.mark.parametrize("name", TABLES)
def test_no_other_field_is_named_when_one_is_malformed(name: str) -> None:
    assert list(refused({**PROFILE, name: 5})) == [f"profile.{name}"]


def test_the_names_that_the_service_sets_are_those_of_the_contract() -> None:
    assert sorted(SERVICE_SET) == sorted(SET_BY_THE_SERVICE)


@pytest.mark.parametrize("name", SET_BY_THE_SERVICE)
def test_a_name_that_the_service_sets_is_refused_by_name(name: str) -> None:
    assert refused({**PROFILE, name: "x"}) == {f"profile.{name}": ["is set by the service: leave it out"]}


@pytest.mark.parametrize("name", ["devivceId", "firstname", "KycType", "", "profile", "ip ", "__class__", "x" * 300])
def test_an_unknown_name_is_an_error(name: str) -> None:
    assert refused({name: "x"}) == {f"profile.{name[:64]}": ["is not a field of the profile"]}


def test_all_faults_are_named_at_once() -> None:
    errors = refused({"ip": "x", "dob": "x", "email": "x", "unknown": "x", "firstName": "Ana"})

    assert set(errors) == {"profile.ip", "profile.dob", "profile.email", "profile.unknown"}


@pytest.mark.parametrize("values", [None, [], "Ana", 5, True])
def test_a_profile_that_is_no_object_is_refused(values: Any) -> None:
    assert refused(values) == {"profile": ["must be an object"]}


def test_an_empty_profile_is_accepted() -> None:
    assert RULES.checked({}) == {}


# Values --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["0.0.0.0", "::1", "2001:db8::7", "::ffff:203.0.113.7"])
def test_any_ip_address_is_accepted(value: str) -> None:
    assert RULES.checked({"ip": value})


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("idType", ["ID_CARD", "PASSPORT", "DRIVERS"]),
        ("kycType", ["USER", "ENTERPRISE"]),
        ("kycLevel", ["L0", "L1", "L2"]),
        ("gender", ["M", "F"]),
    ],
)
def test_the_words_of_the_tables_are_accepted(name: str, values: list[str]) -> None:
    for value in values:
        assert RULES.checked({name: value})


def test_every_alpha_3_country_is_accepted() -> None:
    assert len(countries()) > 240
    for code in countries():
        assert len(code) == 3
        assert RULES.checked({"nationality": code, "residentialCountry": code, "idCountry": code})


@pytest.mark.parametrize("name", ["accountPurpose", "monthSpend", "sourceFunds", "occupation"])
def test_the_four_answers_are_free_text(name: str) -> None:
    assert RULES.checked({name: "Something that no list offers, 100 %"})


def test_the_longest_values_are_accepted() -> None:
    values = {"shareToken": "t" * 4096, "address": "a" * 500, "occupation": "o" * 255, "firstName": "f" * 128}

    assert RULES.checked(values) == values


def test_no_message_echoes_a_value() -> None:
    shown = str([refused({name: f"dOnOtShOwMe{value}\n"}) for name, (value, _) in TABLES.items()])

    assert "dOnOtShOwMe" not in shown


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)
SOME_NAME = st.sampled_from([*TABLES, *SET_BY_THE_SERVICE]) | st.text(max_size=10)


@given(values=st.dictionaries(SOME_NAME, JSON, max_size=5))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_whatever_comes_is_taken_unchanged_or_refused_with_paths(values: dict[str, Any]) -> None:
    errors: dict[str, list[str]] = {}
    taken = None
    try:
        taken = RULES.checked(values)
    except InvalidInput as error:
        errors = error.errors

    assert (taken == values) if not errors else taken is None
    assert {path.removeprefix("profile.") for path in errors} <= {name[:64] for name in values}
    assert all(messages and all(isinstance(message, str) for message in messages) for messages in errors.values())


@given(
    chosen=st.dictionaries(st.sampled_from(sorted(TABLES)), st.sampled_from(["good", 0, 1, 2, 3]), max_size=6),
)
@settings(max_examples=80, deadline=None, derandomize=True)
def test_exactly_the_malformed_ones_of_many_fields_are_named(chosen: dict[str, str | int]) -> None:
    values = {name: TABLES[name][0] if pick == "good" else TABLES[name][1][int(pick)] for name, pick in chosen.items()}
    bad = {f"profile.{name}" for name, pick in chosen.items() if pick != "good"}

    if bad:
        assert set(refused(values)) == bad
    else:
        assert RULES.checked(values) == values


# The end user's page -------------------------------------------------------------------------------------------


def test_the_page_may_set_what_the_contract_says() -> None:
    not_on_the_page = {"kycType", "registerTime", "ip", "deviceId", "shareToken", "kycTime", "kycLevel"}

    assert set(TABLES) - not_on_the_page == PAGE_FIELDS


@pytest.mark.parametrize("name", ["kycType", "registerTime", "ip", "deviceId", "shareToken", "kycTime", "kycLevel"])
def test_the_page_may_not_set_any_other_field(name: str) -> None:
    errors = refused({"firstName": "Ana", name: TABLES[name][0]}, PAGE_FIELDS)

    assert errors == {f"profile.{name}": ["may not be set here"]}


# What is missing -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("id_type", "kinds"),
    [
        ("PASSPORT", ["idFileFront", "selfie"]),
        ("ID_CARD", ["idFileFront", "idFileBack", "selfie"]),
        ("DRIVERS", ["idFileFront", "idFileBack", "selfie"]),
    ],
)
@pytest.mark.parametrize("token", [{}, {"shareToken": "sumsub-token"}])
def test_the_documents_that_are_missing_are_exactly_those_that_btse_needs(
    id_type: str, kinds: list[str], token: dict[str, str]
) -> None:
    profile = {**PROFILE, **token, "idType": id_type}

    assert RULES.missing(profile, [], "ana@example.com") == [f"documents.{kind}" for kind in kinds]
    for kind in kinds:
        others = [document(other) for other in kinds if other != kind]
        assert RULES.missing(profile, others, "ana@example.com") == [f"documents.{kind}"]
    assert RULES.missing(profile, [document(kind) for kind in kinds], "ana@example.com") == []


def test_of_an_empty_profile_all_that_both_providers_need_is_missing() -> None:
    expected = [f"profile.{name}" for name in NEEDED] + ["documents.idFileFront", "documents.selfie"]

    assert sorted(RULES.missing({}, [], "ana@example.com")) == sorted(expected)


@pytest.mark.parametrize("name", NEEDED)
def test_exactly_the_field_that_is_missing_is_named(name: str) -> None:
    profile = {other: value for other, value in PROFILE.items() if other != name}
    there = [document(kind) for kind in DOCUMENT_KINDS]

    assert RULES.missing(profile, there, "ana@example.com") == [f"profile.{name}"]


@pytest.mark.parametrize("name", sorted(set(TABLES) - set(NEEDED)))
def test_an_optional_field_is_never_missing(name: str) -> None:
    profile = {other: value for other, value in PROFILE.items() if other != name}
    there = [document(kind) for kind in DOCUMENT_KINDS]

    assert RULES.missing(profile, there, "ana@example.com") == []


def test_the_email_is_missing_once_it_was_deleted() -> None:
    there = [document(kind) for kind in DOCUMENT_KINDS]

    assert RULES.missing(PROFILE, there, "") == ["email"]


def test_the_aml_report_is_never_missing_and_takes_no_other_documents_place() -> None:
    assert RULES.missing(PROFILE, [document("amlReport")], "ana@example.com") == [
        "documents.idFileFront",
        "documents.selfie",
    ]


# The sum of what goes to BTSE Pay ------------------------------------------------------------------------------


@pytest.mark.parametrize(("id_type", "counted"), [("PASSPORT", 5), ("ID_CARD", 7), ("DRIVERS", 7)])
def test_the_sum_counts_what_goes_to_btse_alone(id_type: str, counted: int) -> None:
    there = [document("idFileFront", 1), document("idFileBack", 2), document("selfie", 4), document("amlReport", 8)]

    assert RULES.sum_for_btse({"idType": id_type}, there) == counted


def test_while_the_id_type_is_not_known_the_back_counts_too() -> None:
    there = [document("idFileFront", 1), document("idFileBack", 2), document("selfie", 4), document("amlReport", 8)]

    assert RULES.sum_for_btse({}, there) == 7


# Email and merchantUserId --------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["ana@example.com", " ana@example.com\n", "ana+tag@sub.example.co.uk", "o'h@x.org"])
def test_an_email_is_accepted_and_trimmed(value: str) -> None:
    assert checked_email(value) == value.strip()


@pytest.mark.parametrize("value", [None, 5, "", " ", "ana", "ana@", "@x.org", "a b@x.org", "a@x.org\nBcc: b@x.org", []])
def test_what_is_no_email_is_refused(value: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        checked_email(value)
    assert list(caught.value.errors) == ["email"]


def test_an_email_has_at_most_254_characters() -> None:
    longest = "a@" + ".".join(["b" * 60] * 4) + ".example"
    longest += "s" * (254 - len(longest))
    assert checked_email(longest) == longest

    with pytest.raises(InvalidInput):
        checked_email(longest + "s")


@pytest.mark.parametrize("value", ["u", "u-1", "x" * 128, "用户 1", "a b"])
def test_a_merchant_user_id_of_printable_characters_is_accepted(value: str) -> None:
    assert checked_merchant_user_id(value) == value


@pytest.mark.parametrize("value", [None, 5, "", " ", "x" * 129, "a\nb", "a\x00", "\u200b", ["u"], True])
def test_any_other_merchant_user_id_is_refused(value: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        checked_merchant_user_id(value)
    assert list(caught.value.errors) == ["merchantUserId"]
