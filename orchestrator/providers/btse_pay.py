"""The client of BTSE Pay: upload documents, look at an authorization, cancel it (docs/providers.md, B…)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from urllib3.filepost import encode_multipart_formdata

from orchestrator.errors import Kind, ProviderError
from orchestrator.providers.answers import (
    Answer,
    Provider,
    ProviderFile,
    envelope,
    fault,
    text_of,
    unreadable,
)
from orchestrator.providers.dialect import BtseDialect
from orchestrator.providers.http import Outgoing, Reply
from orchestrator.signatures import btse_message, btse_multipart_message, btse_sign


class BtsePay:
    """Calls BTSE Pay. Every method raises ProviderError; requests are signed as they are sent (B2 to B7)."""

    def __init__(
        self,
        *,
        base_url: str,
        api_key: str,
        secret_key: str,
        dialect: BtseDialect,
        outgoing: Outgoing,
        now_ms: Callable[[], int],
    ) -> None:
        self._base_url = base_url.rstrip("/")
        self._api_key = api_key
        self._secret_key = secret_key
        self._dialect = dialect
        self._outgoing = outgoing
        self._now_ms = now_ms
        self._provider = Provider("btse", "BTSE Pay", dialect.faults)

    def upload_kyc(self, fields: Mapping[str, str], files: Mapping[str, ProviderFile]) -> Answer[None]:
        """Upload a user's documents in place of any earlier ones; safe to repeat (B13, B14).

        `fields`: email, firstName, lastName, idNumber, idType (ID_CARD, PASSPORT, DRIVERS), merchantUserId,
        nationality (alpha-3). `files`: idFileFront, idFileBack where the document has a back, selfie.
        """
        texts = {**fields, "idType": self._id_type(fields["idType"])}
        parts: list[tuple[str, Any]] = list(texts.items())
        parts += [(name, (file.name, file.content, file.media_type)) for name, file in files.items()]
        body, content_type = encode_multipart_formdata(parts)

        def message(path: str, nonce: str) -> bytes:
            return btse_multipart_message(path, nonce, texts, self._dialect.multipart_message)

        reply = self._send("POST", self._dialect.path_kyc_upload, message, body, content_type)
        self._data(reply)
        return Answer(None, reply.skew_ms)

    def get_authorization(self, merchant_user_id: str) -> Answer[Mapping[str, Any]]:
        """What BTSE Pay knows of a user's authorization, with `userKey` once given; else empty (B11)."""
        reply = self._send(
            "GET", self._dialect.path_authorization, btse_message, params={"merchantUserId": merchant_user_id}
        )
        data = self._data(reply)
        if data is not None and not isinstance(data, dict):
            raise unreadable(self._provider, reply)
        return Answer(data or {}, reply.skew_ms)

    def cancel_authorization(self, merchant_user_id: str, user_key: str) -> Answer[Mapping[str, Any]]:
        """Cancel a user's authorization: `user_key` is dead for good. Returns the answer's data (B12)."""
        body = json.dumps({"merchantUserId": merchant_user_id, "userKey": user_key}, ensure_ascii=False).encode()

        def message(path: str, nonce: str) -> bytes:
            return btse_message(path, nonce, body)

        reply = self._send(
            "POST", self._dialect.path_authorization_cancel, message, body, "application/json; charset=utf-8"
        )
        data = self._data(reply)
        return Answer(data if isinstance(data, dict) else {}, reply.skew_ms)

    def _id_type(self, word: str) -> str:
        try:
            return self._dialect.id_types[word]
        except KeyError:
            raise ProviderError("btse", Kind.REFUSED, "idType", words="BTSE Pay takes no such idType.") from None

    def _send(
        self,
        method: str,
        path: str,
        message: Callable[[str, str], bytes],
        body: bytes = b"",
        content_type: str | None = None,
        params: Mapping[str, str] | None = None,
    ) -> Reply:
        url = self._base_url + path

        def headers() -> Mapping[str, str]:
            nonce = str(self._now_ms())
            sign = btse_sign(self._secret_key, message(urlsplit(url).path, nonce), self._dialect.sign_encoding)
            signed = {"api": self._api_key, "nonce": nonce, "sign": sign}
            return {**signed, "Content-Type": content_type} if content_type else signed

        return self._outgoing.send("btse", method, url, headers=headers, body=body, params=params)

    def _data(self, reply: Reply) -> Any:
        """The data of a success (B8); raises what anything else means (B9)."""
        members, dialect = envelope(reply), self._dialect
        if 200 <= reply.status < 300:
            if members is None:
                raise unreadable(self._provider, reply)
            if members.get(dialect.member_success) is not False:
                return members.get(dialect.member_data)
        members = members or {}
        raise fault(
            self._provider,
            reply,
            code=text_of(members.get("code")),
            words=text_of(members.get(dialect.member_message)),
            now_ms=self._now_ms(),
            otherwise=Kind.REFUSED,
        )
