"""OSL Pay's three operations: headers, uploads, the status query; the share's own rules are in `sharing`."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass

from flask import Request

from orchestrator.sandbox import formats
from orchestrator.sandbox.clock import Clock
from orchestrator.sandbox.envelopes import OSL_UNAUTHORIZED, Answer, osl_answer, refuse_osl
from orchestrator.sandbox.files import LARGEST_FILE, receive_file
from orchestrator.sandbox.journal import Call, Journal
from orchestrator.sandbox.narrator import Narrator
from orchestrator.sandbox.operations import Operation
from orchestrator.sandbox.people import People
from orchestrator.sandbox.settings import SandboxSettings
from orchestrator.sandbox.sharing import FileUrls, Sharing, read_share
from orchestrator.signatures import osl_verify

EXTENSIONS = {"image/jpeg": "jpg", "image/png": "png", "application/pdf": "pdf"}


@dataclass(frozen=True)
class Upload:
    """A file to be given a URL below `base`."""

    base: str
    media_type: str


class Osl:
    """OSL Pay."""

    def __init__(
        self, settings: SandboxSettings, clock: Clock, people: People, narrator: Narrator, journal: Journal
    ) -> None:
        self._settings = settings
        self._people = people
        self._narrator = narrator
        self._journal = journal
        self._urls = FileUrls(clock)
        self.upload = Operation("osl.upload", "osl", self._read_upload, self._upload)
        self.share = Operation("osl.share", "osl", self._read_share, self._share)
        self.status = Operation("osl.status", "osl", self._read_status, self._status)

    # upload file ---------------------------------------------------------------------------------------------

    def _read_upload(self, request: Request, call: Call) -> Upload:
        self._check_headers(request)
        if request.mimetype != "multipart/form-data":
            refuse_osl(f"Content-Type {request.mimetype!r} is not multipart/form-data")
        parts = request.files.to_dict(flat=False)
        if request.form or list(parts) != ["file"] or len(parts["file"]) != 1:
            refuse_osl(f"exactly one part 'file' is wanted, not {[*request.form, *parts]!r}")
        file = receive_file("file", parts["file"][0])
        call.files = [file]
        if file.media_type is None:
            refuse_osl(f"{file.filename!r} is no jpg, png or pdf")
        if file.size > LARGEST_FILE:
            refuse_osl(f"{file.filename!r} is larger than {LARGEST_FILE} bytes")
        return Upload(request.host_url, file.media_type)

    def _upload(self, upload: Upload) -> Answer:
        name = f"{secrets.token_hex(16)}.{EXTENSIONS[upload.media_type]}"
        url = f"{upload.base}osl/files/{name}"
        self._urls.give_out(url)
        return osl_answer({"url": url} if self._settings.upload_answer == "object" else url)

    # share KYC -----------------------------------------------------------------------------------------------

    def _read_share(self, request: Request, call: Call) -> Sharing:
        self._check_headers(request)
        sharing = read_share(_json_object(request), call, self._settings.osl_private_key)
        self._people.see(sharing.top["merchantUserId"], sharing.top["email"])
        return sharing

    def _share(self, sharing: Sharing) -> Answer:
        person = self._people.see(sharing.top["merchantUserId"])
        with self._people.lock:
            self._urls.check(sharing.info)
            self._people.bind_document(person, sharing.info)
            user_id = self._people.register(person)
            share = self._people.begin_share(person, sharing.callback_url, sharing.reason())
            self._journal.share_acted(person.merchant_user_id, sharing.callback_url)
        self._narrator.share_arrived(person, share)
        return _then(osl_answer({"userId": user_id}), lambda: self._narrator.share_answered(person, share))

    # KYC status ----------------------------------------------------------------------------------------------

    def _read_status(self, request: Request, call: Call) -> dict[str, str]:
        self._check_headers(request)
        body = _json_object(request)
        wrong = [name for name, value in body.items() if not isinstance(value, str)]
        if not body or set(body) - {"merchantUserId", "userId"} or wrong:
            refuse_osl(f"merchantUserId and/or userId are wanted as strings, not {body!r}")
        fields = {name: str(value) for name, value in body.items()}
        call.fields, call.merchant_user_id = fields, fields.get("merchantUserId")
        for name, value in fields.items():
            if problem := formats.merchant_user_id(value):
                refuse_osl(f"{name} {value!r} {problem}")
        if call.merchant_user_id is None and (person := self._people.find(user_id=fields["userId"])):
            call.merchant_user_id = person.merchant_user_id
        return fields

    def _status(self, fields: dict[str, str]) -> Answer:
        person = self._people.find(fields.get("merchantUserId"), fields.get("userId"))
        if person is None:
            return osl_answer(None)
        if person.user_id is not None and fields.get("userId", person.user_id) != person.user_id:
            refuse_osl(f"userId {fields['userId']!r} is not that of {person.merchant_user_id!r}")
        standing = self._people.standing(person)
        if standing is None:
            return osl_answer(None)
        answer = osl_answer(
            {
                "merchantUserId": person.merchant_user_id,
                "userId": person.user_id,
                "kycStatus": standing.kyc_status,
                "rejectReason": standing.reason,
            }
        )
        return _then(answer, lambda: self._narrator.query_answered(person, standing.kyc_status))

    # Headers -------------------------------------------------------------------------------------------------

    def _check_headers(self, request: Request) -> None:
        app_id, timestamp = request.headers.get("appId", ""), request.headers.get("timestamp", "")
        if app_id != self._settings.osl_app_id:
            refuse_osl(f"unknown appId {app_id!r}", OSL_UNAUTHORIZED)
        if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) == 13):
            refuse_osl(f"timestamp {timestamp!r} is not 13 digits", OSL_UNAUTHORIZED)
        signature = request.headers.get("signature", "")
        if not osl_verify(self._settings.merchant_public_key, app_id, timestamp, signature):
            refuse_osl(f"invalid signature {signature!r}", OSL_UNAUTHORIZED)


def _then(answer: Answer, afterwards: Callable[[], None]) -> Answer:
    return Answer(answer.status, answer.body, answer.code, afterwards=afterwards)


def _json_object(request: Request) -> dict[str, object]:
    body = request.get_json(silent=True) if request.mimetype == "application/json" else None
    if not isinstance(body, dict):
        refuse_osl("the body must be a JSON object, with its Content-Type")
    return body
