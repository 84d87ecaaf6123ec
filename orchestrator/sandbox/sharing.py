"""The share's rules: every parameter of OSL Pay's two tables, which are encrypted, and what goes together."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from orchestrator.sandbox import formats
from orchestrator.sandbox.clock import Clock
from orchestrator.sandbox.envelopes import refuse_osl
from orchestrator.sandbox.journal import Call
from orchestrator.signatures import osl_decrypt

FILE_URL_LIFE_MS = 24 * 3600 * 1000
FILE_URLS_KEPT = 500_000

TOKEN_SHARE, FILE_SHARE = "sumsubTokenShare", "fileShare"
FILE_URL_FIELDS = ("frontFileUrl", "backFileUrl", "selfieFileUrl", "amlFileUrl")
WITH_BACK = ("ID_CARD", "DRIVERS")


@dataclass(frozen=True)
class Parameter:
    """Whether it must be there, and its format. All of these are encrypted."""

    mandatory: bool
    check: formats.Check


_Y = Parameter(True, formats.anything)
_N = Parameter(False, formats.anything)

TOP = {
    "email": Parameter(True, formats.email),
    "kycType": Parameter(True, formats.one_of("USER", "ENTERPRISE")),
    "registerTime": Parameter(False, formats.date_time),
    "ip": Parameter(True, formats.address),
    "merchantUserId": Parameter(True, formats.merchant_user_id),
    "deviceId": _Y,
}
INFO = {
    "shareType": Parameter(True, formats.one_of(TOKEN_SHARE, FILE_SHARE)),
    "shareToken": _N,
    "accountPurpose": _Y,
    "monthSpend": _Y,
    "sourceFunds": _Y,
    "occupation": _Y,
    "firstName": _N,
    "middleName": _N,
    "lastName": _N,
    "firstNameEn": _N,
    "middleNameEn": _N,
    "lastNameEn": _N,
    "phoneNumber": _N,
    "gender": Parameter(False, formats.one_of("M", "F")),
    "idType": Parameter(
        False, formats.one_of("PASSPORT", "DRIVERS", "VISA", "ID_CARD", "RESIDENCE_PERMIT", "UTILITY_BILL")
    ),
    "idNumber": _N,
    "nationality": Parameter(False, formats.country),
    "residentialCountry": Parameter(True, formats.country),
    "idCountry": Parameter(False, formats.country),
    "dob": Parameter(False, formats.date),
    "idExpiry": Parameter(False, formats.date),
    "street": _N,
    "number": _N,
    "district": _N,
    "city": _N,
    "state": _N,
    "zip": _N,
    "address": _N,
    "frontFileUrl": Parameter(False, formats.http_url),
    "backFileUrl": Parameter(False, formats.http_url),
    "selfieFileUrl": Parameter(False, formats.http_url),
    "amlFileUrl": Parameter(False, formats.http_url),
    "kycTime": Parameter(False, formats.date_time),
    "kycLevel": Parameter(False, formats.one_of("L0", "L1", "L2")),
}
OBJECT, PLAIN = "kycIdentityInfoVo", "callbackUrl"


@dataclass(frozen=True)
class Sharing:
    """A share that is well-formed, decrypted. `top` and `info`: the two tables' parameters."""

    top: dict[str, str]
    info: dict[str, str]
    callback_url: str | None

    def reason(self) -> str:
        """Why OSL Pay would reject this user; quotes what it was given, as providers do."""
        name = " ".join(self.info[part] for part in ("firstName", "lastName") if part in self.info)
        who = name or self.top["email"]
        return f"The document {self.info.get('idNumber', '')} of {who} is not legible".replace("  ", " ")


class FileUrls:
    """The URLs given out for uploaded files; each lives 24 hours."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._given: OrderedDict[str, int] = OrderedDict()

    def give_out(self, url: str) -> None:
        """Remember a URL as given out now; the oldest of very many is forgotten."""
        with self._lock:
            self._given[url] = self._clock.now_ms()
            if len(self._given) > FILE_URLS_KEPT:
                self._given.popitem(last=False)

    def check(self, info: Mapping[str, str]) -> None:
        """Refuse file URLs that were not given out here, or whose life is over."""
        for name in FILE_URL_FIELDS:
            if name not in info:
                continue
            with self._lock:
                given = self._given.get(info[name])
            if given is None:
                refuse_osl(f"{name} {info[name]!r} is not a URL of an uploaded file")
            if self._clock.now_ms() - given > FILE_URL_LIFE_MS:
                refuse_osl(f"{name} {info[name]!r} has expired")


def read_share(body: Mapping[str, object], call: Call, key: RSAPrivateKey) -> Sharing:
    """Check and decrypt the body of a share; what could be decrypted is noted in `call` even if it is refused."""
    top_body = {name: value for name, value in body.items() if name not in (OBJECT, PLAIN)}
    top = _decrypted(top_body, TOP, key, call)
    call.merchant_user_id, call.email = top.get("merchantUserId"), top.get("email")
    info_body = body.get(OBJECT)
    if not isinstance(info_body, dict):
        refuse_osl(f"{OBJECT} is mandatory and an object")
    info = _decrypted(info_body, INFO, key, call)
    callback_url = body.get(PLAIN)
    if callback_url is not None and not isinstance(callback_url, str):
        refuse_osl(f"{PLAIN} {callback_url!r} is not a string")
    if PLAIN in body:
        text = callback_url or ""
        call.fields[PLAIN] = text
        if problem := formats.http_url(text):
            refuse_osl(f"{PLAIN} {text!r} {problem}")
    _check_parameters(top, TOP)
    _check_parameters(info, INFO)
    _check_together(info)
    return Sharing(top, info, callback_url)


def _decrypted(
    body: Mapping[str, object], parameters: Mapping[str, Parameter], key: RSAPrivateKey, call: Call
) -> dict[str, str]:
    plain: dict[str, str] = {}
    for name, value in body.items():
        if name not in parameters:
            refuse_osl(f"unknown parameter {name!r}")
        if not isinstance(value, str):
            refuse_osl(f"{name} {value!r} is not a string")
        try:
            plain[name] = osl_decrypt(key, value)
        except ValueError:
            refuse_osl(f"{name} {value!r} cannot be decrypted")
        call.fields[name] = plain[name]
    return plain


def _check_parameters(given: Mapping[str, str], parameters: Mapping[str, Parameter]) -> None:
    for name, parameter in parameters.items():
        if name not in given:
            if parameter.mandatory:
                refuse_osl(f"{name} is mandatory")
        elif problem := parameter.check(given[name]):
            refuse_osl(f"{name} {given[name]!r} {problem}")


def _check_together(info: Mapping[str, str]) -> None:
    share_type = info["shareType"]
    needed = ["shareToken"] if share_type == TOKEN_SHARE else ["frontFileUrl", "selfieFileUrl"]
    if share_type == FILE_SHARE and info.get("idType") in WITH_BACK:
        needed.append("backFileUrl")
    for name in needed:
        if name not in info:
            refuse_osl(f"{name} is mandatory for shareType {share_type!r} and idType {info.get('idType')!r}")
