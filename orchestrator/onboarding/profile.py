"""The profile: which fields there are, what they may hold, and what is still missing. Pure.

The names are those of BTSE Pay's and OSL Pay's request tables (docs/providers.md, B13, O12 and O13).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Collection, Mapping
from datetime import date, datetime
from functools import cache
from typing import Any

import pycountry
from marshmallow import RAISE, Schema, ValidationError, fields, validate

from orchestrator.errors import InvalidInput
from orchestrator.providers.dialect import OslDialect
from orchestrator.records import Document

SERVICE_SET = (
    "callbackUrl",
    "merchantUserId",
    "email",
    "shareType",
    "kycIdentityInfoVo",
    "frontFileUrl",
    "backFileUrl",
    "selfieFileUrl",
    "amlFileUrl",
)
"""Names of the tables that the service sets itself."""
NAMES = ("firstName", "middleName", "lastName", "firstNameEn", "middleNameEn", "lastNameEn")
ADDRESS = ("street", "number", "district", "city", "state", "zip", "address")
CHOICES = ("accountPurpose", "monthSpend", "sourceFunds", "occupation")
IDENTITY = (
    "gender",
    "dob",
    "phoneNumber",
    "idType",
    "idNumber",
    "idCountry",
    "idExpiry",
    "nationality",
    "residentialCountry",
)
PAGE_FIELDS = frozenset((*NAMES, *IDENTITY, *ADDRESS, *CHOICES))
"""What the end user's page may set."""
TELLS_NOBODY = frozenset(
    (*CHOICES, "idType", "gender", "nationality", "residentialCountry", "idCountry", "kycType", "kycLevel")
)
"""Words from lists, which say nothing of who somebody is: a reason may name them."""
BTSE_FIELDS = ("firstName", "lastName", "idNumber", "idType", "nationality")
OSL_FIELDS = ("ip", "deviceId", "residentialCountry", *CHOICES)
DOCUMENT_KINDS = ("idFileFront", "idFileBack", "selfie", "amlReport")
LARGEST_DOCUMENT = 5_000_000
LARGEST_SUM = 10_000_000

PRINTABLE = r"^[^\x00-\x1f\x7f]*[^\x00-\x20\x7f][^\x00-\x1f\x7f]*$"
"""For readers: no control characters, and not blank. (What is checked is stricter: whatever cannot be printed.)"""
PHONE_NUMBER = r"^\+?[0-9][0-9 ()./-]{3,30}$"
_COUNTRY = {"description": "ISO 3166-1 alpha-3.", "pattern": "^[A-Z]{3}$", "examples": ["HKG"]}
_DAY = {"format": "date", "examples": ["1990-12-31"]}
_MOMENT = {
    "description": "UTC, such as `2026-11-22 10:00:00`.",
    "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}$",
    "examples": ["2026-11-22 10:00:00"],
}
_SAYS: Mapping[str, Mapping[str, Any]] = {
    "nationality": _COUNTRY,
    "residentialCountry": _COUNTRY,
    "idCountry": _COUNTRY,
    "dob": _DAY,
    "idExpiry": _DAY,
    "phoneNumber": {
        "description": "A digit, and 3 to 30 digits, blanks or `()./-`; `+` may come first.",
        "examples": ["+852 9123 4567"],
    },
    "registerTime": _MOMENT,
    "kycTime": _MOMENT,
    "ip": {"anyOf": [{"format": "ipv4"}, {"format": "ipv6"}], "examples": ["203.0.113.7"]},
    "kycType": {"description": "USER if absent."},
    "shareToken": {"description": "Chooses sharing by token at OSL Pay; no files go there then."},
}
"""What readers of the API's description are told beyond what the checks say by themselves."""
_LONGEST = {"shareToken": 4096, "address": 500, **dict.fromkeys(CHOICES, 255)}


@cache
def countries() -> dict[str, str]:
    """ISO 3166-1 alpha-3 codes and their English names."""
    return {country.alpha_3: country.name for country in pycountry.countries}


class ProfileRules:
    """Validation by the dialect's enumerations."""

    def __init__(self, dialect: OslDialect) -> None:
        self._dialect = dialect
        checks = _checks(dialect)
        names = (*NAMES, *IDENTITY, *ADDRESS, *CHOICES, "kycType", "registerTime", "ip", "deviceId", "shareToken")
        schema_fields: dict[str, Any] = {
            name: fields.String(
                validate=[_printable, validate.Length(1, _LONGEST.get(name, 128)), *checks.get(name, [])],
                metadata={**({} if name in checks else {"pattern": PRINTABLE}), **_SAYS.get(name, {})},
            )
            for name in (*names, "kycTime", "kycLevel")
        }
        self.names = frozenset(schema_fields)
        self.schema = Schema.from_dict(schema_fields, name="Profile")(unknown=RAISE)

    def checked(
        self, values: Any, allowed: Collection[str] | None = None, removed: Collection[str] = ()
    ) -> dict[str, str]:
        """`values` if every name and value is allowed, and every name that is `removed`.

        Raises InvalidInput with paths such as `profile.ip`.
        """
        if not isinstance(values, Mapping):
            raise InvalidInput("the data is not valid", {"profile": ["must be an object"]})
        errors = {f"profile.{name}": messages for name, messages in self._errors(values, allowed, removed).items()}
        if errors:
            raise InvalidInput("the data is not valid", errors)
        return dict(values)

    def _errors(
        self, values: Mapping[str, Any], allowed: Collection[str] | None, removed: Collection[str]
    ) -> dict[str, list[str]]:
        errors: dict[str, list[str]] = {}
        for name in (*values, *removed):
            if name in SERVICE_SET:
                errors[name] = ["is set by the service: leave it out"]
            elif name not in self.names:
                errors[str(name)[:64]] = ["is not a field of the profile"]
            elif allowed is not None and name not in allowed:
                errors[name] = ["may not be set here"]
        try:
            self.schema.load({name: value for name, value in values.items() if name in self.names})
        except ValidationError as error:
            for name, messages in error.normalized_messages().items():  # type: ignore[no-untyped-call]
                errors.setdefault(name, []).extend(messages)
        return errors

    def needed_documents(self, profile: Mapping[str, str]) -> tuple[str, ...]:
        """The kinds that BTSE Pay needs for this profile's idType (docs/providers.md, B14)."""
        if profile.get("idType") in self._dialect.id_types_with_back:
            return ("idFileFront", "idFileBack", "selfie")
        return ("idFileFront", "selfie")

    def missing(self, profile: Mapping[str, str], documents: Collection[Document], email: str) -> list[str]:
        """Exactly what is still needed to submit, as paths: `profile.ip`, `documents.selfie`."""
        there = {document.kind for document in documents}
        paths = [] if email else ["email"]
        paths += [f"profile.{name}" for name in (*BTSE_FIELDS, *OSL_FIELDS) if not profile.get(name)]
        return paths + [f"documents.{kind}" for kind in self.needed_documents(profile) if kind not in there]

    def sum_for_btse(self, profile: Mapping[str, str], documents: Collection[Document]) -> int:
        """The bytes that would go to BTSE Pay."""
        needed = self.needed_documents(profile) if profile.get("idType") else DOCUMENT_KINDS[:3]
        return sum(document.size for document in documents if document.kind in needed)


def checked_email(value: Any) -> str:
    """A trimmed email address. Raises InvalidInput."""
    try:
        text: str = fields.Email(required=True).deserialize(value.strip() if isinstance(value, str) else value)
        _printable(text)
    except ValidationError as error:
        raise InvalidInput("the data is not valid", {"email": [str(message) for message in error.messages]}) from None
    if len(text) > 254:
        raise InvalidInput("the data is not valid", {"email": ["is longer than 254 characters"]})
    return text


def checked_merchant_user_id(value: Any) -> str:
    """1 to 128 printable characters. Raises InvalidInput."""
    if not isinstance(value, str) or not 1 <= len(value) <= 128 or not value.isprintable() or not value.strip():
        raise InvalidInput("the data is not valid", {"merchantUserId": ["must be 1 to 128 printable characters"]})
    return value


def _checks(dialect: OslDialect) -> dict[str, list[Callable[[str], Any]]]:
    country = _one_of(countries(), "must be an ISO 3166-1 alpha-3 country code such as HKG")
    return {
        "kycType": [validate.OneOf(dialect.kyc_types)],
        "kycLevel": [validate.OneOf(dialect.kyc_levels)],
        "gender": [validate.OneOf(dialect.genders)],
        "idType": [validate.OneOf(dialect.id_types)],
        "nationality": [country],
        "residentialCountry": [country],
        "idCountry": [country],
        "ip": [_ip],
        "dob": [_day],
        "idExpiry": [_day],
        "registerTime": [_moment],
        "kycTime": [_moment],
        "phoneNumber": [validate.Regexp(PHONE_NUMBER, error="must be a phone number")],
    }


def _one_of(codes: Collection[str], message: str) -> Callable[[str], None]:
    def check(value: str) -> None:
        if value not in codes:
            raise ValidationError(message)

    return check


def _printable(value: str) -> None:
    if not value.isprintable() or not value.strip():
        raise ValidationError("must be printable text that is not blank")


def _ip(value: str) -> None:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        raise ValidationError("must be an IPv4 or IPv6 address") from None
    if "%" in value:
        raise ValidationError("must be an address without a zone")


def _day(value: str) -> None:
    if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value) or not _parses(date.fromisoformat, value):
        raise ValidationError("must be a date such as 1990-12-31")


def _moment(value: str) -> None:
    if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}", value) or not _parses(
        datetime.fromisoformat, value
    ):
        raise ValidationError("must be a UTC time such as 2026-11-22 10:00:00")


def _parses(parse: Callable[[str], Any], value: str) -> bool:
    try:
        parse(value)
    except ValueError:
        return False
    return True
