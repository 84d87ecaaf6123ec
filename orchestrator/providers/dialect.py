"""The wire details of both providers as typed, frozen data: dialects.toml and a merchant's corrections of it.

The dataclasses are the schema: their annotations say what each key of the file may hold. The rows named
in the file (B5, O13, …) are those of docs/providers.md.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from orchestrator.errors import InvalidInput
from orchestrator.signatures import MultipartMessage, SignEncoding


@dataclass(frozen=True)
class Rule:
    """A condition on a value beyond its type, and how a fault is worded."""

    holds: Callable[[Any], bool]
    words: str


UrlPath = Annotated[str, Rule(lambda text: text.startswith("/") and not set(text) & set("?# "), "must be a path: /…")]
Hours = Annotated[float, Rule(lambda hours: 0 < hours <= 100_000, "must be more than 0, at most 100000")]
UtcOffset = Annotated[float, Rule(lambda hours: -24 < hours < 24, "must lie between -24 and 24")]
DateFormat = Annotated[
    str, Rule(lambda text: all(part in text for part in ("%Y", "%m", "%d")), "must hold %Y, %m and %d")
]
HttpStatus = Annotated[int, Rule(lambda status: 300 <= status <= 599, "must be 300 to 599")]


@dataclass(frozen=True)
class FaultCodes:
    """Which HTTP statuses and envelope codes mean what (docs/providers.md, B9, O7 and O8).

    `*_unauthorized`: the installation is at fault; `*_refused`: this request; `*_later`: not done, worth
    another try. Whatever is in no list is worth another try as well, and perhaps done.
    """

    status_unauthorized: frozenset[HttpStatus]
    status_refused: frozenset[HttpStatus]
    status_later: frozenset[HttpStatus]
    code_unauthorized: frozenset[str]
    code_refused: frozenset[str]
    code_later: frozenset[str]


@dataclass(frozen=True)
class BtseDialect:
    """What is assumed about BTSE Pay; each key is explained in dialects.toml."""

    sign_encoding: SignEncoding
    multipart_message: MultipartMessage
    path_authorization: UrlPath
    path_authorization_cancel: UrlPath
    path_kyc_upload: UrlPath
    member_success: str
    member_message: str
    member_data: str
    id_types: Mapping[str, str]
    faults: FaultCodes


@dataclass(frozen=True)
class OslDialect:
    """What is assumed about OSL Pay; each key is explained in dialects.toml."""

    path_upload_file: UrlPath
    path_share: UrlPath
    path_status: UrlPath
    file_part: str
    share_type_token: str
    share_type_file: str
    device_id_field: str
    date_format: DateFormat
    utc_offset_hours: UtcOffset
    file_url_hours: Hours
    code_ok: str
    unknown_user_codes: frozenset[str]
    unknown_user_words: tuple[str, ...]
    webhook_type: str
    kyc_statuses: tuple[str, ...]
    genders: tuple[str, ...]
    kyc_types: tuple[str, ...]
    kyc_levels: tuple[str, ...]
    id_types: tuple[str, ...]
    id_types_with_back: tuple[str, ...]
    agrees: Mapping[str, frozenset[str]]
    faults: FaultCodes


@dataclass(frozen=True)
class PageChoices:
    """What the end user's page offers for the four free-text answers."""

    account_purpose: tuple[str, ...]
    month_spend: tuple[str, ...]
    source_funds: tuple[str, ...]
    occupation: tuple[str, ...]


@dataclass(frozen=True)
class Dialects:
    """The whole of dialects.toml, corrections included."""

    btse: BtseDialect
    osl: OslDialect
    choices: PageChoices


def load_dialects(override: Path | None = None) -> Dialects:
    """The shipped dialects with the single keys of the file `override` put over them.

    Raises InvalidInput whose `errors` name every faulty key (`btse.sign_encoding`); a file that cannot be
    read or is no TOML is named in its message.
    """
    faults: dict[str, list[str]] = {}
    shipped = tomllib.loads((resources.files(__package__) / "dialects.toml").read_text(encoding="utf-8"))
    table = shipped if override is None else _overlay(shipped, _read(override), "", faults)
    dialects = _convert(Dialects, table, "", faults)
    if faults:
        listed = "; ".join(f"{path} {words}" for path, messages in sorted(faults.items()) for words in messages)
        raise InvalidInput(f"{override or 'dialects.toml'}: {listed}", faults)
    assert isinstance(dialects, Dialects)  # noqa: S101 - without a fault it is one
    return dialects


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidInput(f"{path} cannot be read as TOML: {error}") from error


def _overlay(shipped: dict[str, Any], own: dict[str, Any], path: str, faults: dict[str, list[str]]) -> dict[str, Any]:
    merged = dict(shipped)
    for name, value in own.items():
        where = f"{path}{name}"
        if name not in shipped:
            faults[where] = ["is not a key of dialects.toml"]
        elif isinstance(shipped[name], dict) and isinstance(value, dict):
            merged[name] = _overlay(shipped[name], value, f"{where}.", faults)
        else:
            merged[name] = value
    return merged


def _convert(wanted: Any, value: Any, path: str, faults: dict[str, list[str]]) -> Any:
    """`value` as the annotation `wanted` has it; None after noting under `path` what is wrong with it."""
    if get_origin(wanted) is Annotated:
        return _checked(wanted, value, path, faults)
    if is_dataclass(wanted) or get_origin(wanted) not in (None, Literal):
        return _container(wanted, value, path, faults)
    if get_origin(wanted) is Literal:
        problem = "" if value in get_args(wanted) else f"must be one of {', '.join(get_args(wanted))}"
    elif wanted is str:
        problem = "" if isinstance(value, str) and value.strip() else "must be a text that is not empty"
    elif isinstance(value, bool) or not isinstance(value, (int, float) if wanted is float else int):
        problem = "must be a number" if wanted is float else "must be a whole number"
    else:
        problem = ""
    if problem:
        faults.setdefault(path, []).append(problem)
        return None
    return float(value) if wanted is float else value


def _checked(wanted: Any, value: Any, path: str, faults: dict[str, list[str]]) -> Any:
    plain, rule = get_args(wanted)
    converted = _convert(plain, value, path, faults)
    if converted is not None and not rule.holds(converted):
        faults.setdefault(path, []).append(rule.words)
    return converted


def _container(wanted: Any, value: Any, path: str, faults: dict[str, list[str]]) -> Any:
    kind = get_origin(wanted)
    if kind in (tuple, frozenset) and isinstance(value, list):
        return kind(_convert(get_args(wanted)[0], item, path, faults) for item in value)
    if kind in (tuple, frozenset) or not isinstance(value, dict):
        faults.setdefault(path, []).append(f"must be a {'list' if kind in (tuple, frozenset) else 'table'}")
        return None
    prefix = f"{path}." if path else ""
    if isinstance(wanted, type) and is_dataclass(wanted):
        hints = get_type_hints(wanted, include_extras=True)
        names = [field.name for field in fields(wanted)]
        return wanted(**{name: _convert(hints[name], value[name], prefix + name, faults) for name in names})
    item_type = get_args(wanted)[1]
    return MappingProxyType({name: _convert(item_type, item, prefix + name, faults) for name, item in value.items()})
