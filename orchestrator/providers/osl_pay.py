"""The client of OSL Pay: upload files, share an identity, ask what came of it (docs/providers.md, O…)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from urllib3.filepost import encode_multipart_formdata

from orchestrator.providers.answers import (
    Answer,
    Provider,
    ProviderFile,
    envelope,
    fault,
    id_of,
    text_of,
    unreadable,
)
from orchestrator.providers.dialect import OslDialect
from orchestrator.providers.http import Outgoing, Reply
from orchestrator.signatures import osl_encrypt, osl_sign

# The parameters beside kycIdentityInfoVo that come from a profile; all others go inside it (O12, O13).
_TOP_LEVEL = ("kycType", "registerTime", "ip", "deviceId")
_TIMES = ("registerTime", "kycTime")
_DATES = ("dob", "idExpiry")
FILE_FIELDS = {
    "idFileFront": "frontFileUrl",
    "idFileBack": "backFileUrl",
    "selfie": "selfieFileUrl",
    "amlReport": "amlFileUrl",
}
"""Kinds of document, and the names that OSL Pay has for their URLs."""


@dataclass(frozen=True)
class KycStatus:
    """What OSL Pay says of a user. `kyc_status`: its word, maybe one unknown to us; `user_id`: its id."""

    kyc_status: str | None
    user_id: str | None
    reject_reason: str


class OslPay:
    """Calls OSL Pay. Every method raises ProviderError; requests are signed as they are sent (O2 to O4)."""

    def __init__(
        self,
        *,
        base_url: str,
        app_id: str,
        private_key: RSAPrivateKey,
        public_key: RSAPublicKey,
        dialect: OslDialect,
        outgoing: Outgoing,
        now_ms: Callable[[], int],
    ) -> None:
        """`private_key`: the merchant's, signs. `public_key`: OSL Pay's webhook key, encrypts."""
        self._base_url = base_url.rstrip("/")
        self._app_id = app_id
        self._private_key = private_key
        self._public_key = public_key
        self._dialect = dialect
        self._outgoing = outgoing
        self._now_ms = now_ms
        self._provider = Provider("osl", "OSL Pay", dialect.faults)

    def upload_file(self, file: ProviderFile) -> Answer[str]:
        """Upload one document; returns the URL to share it by, good for `file_url_hours` (O9, O17)."""
        body, content_type = encode_multipart_formdata(
            [(self._dialect.file_part, (file.name, file.content, file.media_type))]
        )
        reply = self._post(self._dialect.path_upload_file, body, content_type)
        data = self._data(reply)
        url = data.get("url") if isinstance(data, dict) else data
        if not isinstance(url, str) or not url:
            raise unreadable(self._provider, reply)
        return Answer(url, reply.skew_ms)

    def share(
        self,
        *,
        email: str,
        merchant_user_id: str,
        profile: Mapping[str, str],
        file_urls: Mapping[str, str],
        callback_url: str,
    ) -> Answer[str | None]:
        """Share a user's identity; returns OSL Pay's userId, None when the answer holds none (O10, O12, O13).

        `profile`: the two tables' names (kycType, ip, firstName, …) without those set here; a `shareToken`
        in it chooses sharing by token, and then `file_urls` is not used. `file_urls`: idFileFront, idFileBack,
        selfie, amlReport. Every field but `callbackUrl` is encrypted on its own (O6); empty ones are left out.
        """
        wire = {name: self._wire(name, value) for name, value in profile.items()}
        top = {"email": email, "merchantUserId": merchant_user_id}
        top |= {name: wire.pop(name) for name in _TOP_LEVEL if name in wire}
        top[self._dialect.device_id_field] = top.pop("deviceId", "")
        if wire.get("shareToken"):
            inner = {"shareType": self._dialect.share_type_token, **wire}
        else:
            urls = {FILE_FIELDS[kind]: url for kind, url in file_urls.items()}
            inner = {"shareType": self._dialect.share_type_file, **wire, **urls}
        body = {
            **self._encrypted(top),
            "kycIdentityInfoVo": self._encrypted(inner),
            "callbackUrl": callback_url,
        }
        reply = self._post_json(self._dialect.path_share, body)
        data = self._data(reply)
        return Answer(id_of(data.get("userId")) if isinstance(data, dict) else None, reply.skew_ms)

    def kyc_status(self, merchant_user_id: str, user_id: str | None) -> Answer[KycStatus | None]:
        """What became of a user; None when OSL Pay does not know them (O11).

        An answer that names another user than the one asked for counts as unreadable.
        """
        asked = {"merchantUserId": merchant_user_id} | ({"userId": user_id} if user_id else {})
        reply = self._post_json(self._dialect.path_status, asked)
        data = None if self._says_unknown(reply) else self._data(reply)
        if data is None:
            return Answer(None, reply.skew_ms)
        if not isinstance(data, dict) or text_of(data.get("merchantUserId")) not in (None, merchant_user_id):
            raise unreadable(self._provider, reply)
        if user_id is not None and text_of(data.get("userId")) not in (None, user_id):
            raise unreadable(self._provider, reply)
        status = KycStatus(
            text_of(data.get("kycStatus")),
            id_of(data.get("userId")),
            text_of(data.get("rejectReason")) or "",
        )
        return Answer(status, reply.skew_ms)

    def _says_unknown(self, reply: Reply) -> bool:
        members = envelope(reply) or {}
        code, words = text_of(members.get("code")), (text_of(members.get("msg")) or "").casefold()
        return code in self._dialect.unknown_user_codes or any(
            word.casefold() in words for word in self._dialect.unknown_user_words
        )

    def _wire(self, name: str, value: str) -> str:
        """A date or time as OSL Pay writes it (O15, O16); one of another shape goes as it is."""
        if name in _TIMES and self._dialect.utc_offset_hours:
            shift, shapes = timedelta(hours=self._dialect.utc_offset_hours), ("%Y-%m-%d %H:%M:%S",) * 2
        elif name in _DATES:
            shift, shapes = timedelta(), ("%Y-%m-%d", self._dialect.date_format)
        else:
            return value
        try:
            return (datetime.strptime(value, shapes[0]) + shift).strftime(shapes[1])  # noqa: DTZ007 - no zone
        except (ValueError, OverflowError):
            return value

    def _encrypted(self, fields: Mapping[str, str]) -> dict[str, str]:
        return {name: osl_encrypt(self._public_key, value) for name, value in fields.items() if value}

    def _post_json(self, path: str, body: Mapping[str, Any]) -> Reply:
        return self._post(path, json.dumps(body, ensure_ascii=False).encode(), "application/json; charset=utf-8")

    def _post(self, path: str, body: bytes, content_type: str) -> Reply:
        def headers() -> Mapping[str, str]:
            timestamp = str(self._now_ms())
            signature = osl_sign(self._private_key, self._app_id, timestamp)
            signed = {"appId": self._app_id, "timestamp": timestamp, "signature": signature}
            return {**signed, "Content-Type": content_type}

        return self._outgoing.send("osl", "POST", self._base_url + path, headers=headers, body=body)

    def _data(self, reply: Reply) -> Any:
        """The data of a success (O7); raises what anything else means (O7, O8)."""
        members = envelope(reply) or {}
        code = text_of(members.get("code"))
        if 200 <= reply.status < 300:
            if code is None:
                raise unreadable(self._provider, reply)
            if code == self._dialect.code_ok:
                return members.get("data")
        raise fault(self._provider, reply, code=code, words=text_of(members.get("msg")), now_ms=self._now_ms())
