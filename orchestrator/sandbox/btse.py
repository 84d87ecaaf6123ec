"""BTSE Pay's three operations, as strict as docs/providers.md describes them."""

from __future__ import annotations

import hmac

from flask import Request

from orchestrator.sandbox import formats
from orchestrator.sandbox.clock import Clock
from orchestrator.sandbox.envelopes import Answer, btse_answer, refuse_btse
from orchestrator.sandbox.files import LARGEST_FILE, LARGEST_SUM, ReceivedFile, receive_file
from orchestrator.sandbox.journal import Call
from orchestrator.sandbox.operations import Operation
from orchestrator.sandbox.people import People
from orchestrator.sandbox.settings import SandboxSettings
from orchestrator.signatures import btse_message, btse_multipart_message, btse_sign

FRESH_MS = 30_000
WITH_BACK = ("1", "8")

UPLOAD_FIELDS: dict[str, formats.Check] = {
    "email": formats.email,
    "firstName": formats.anything,
    "lastName": formats.anything,
    "idNumber": formats.anything,
    "idType": formats.one_of("1", "7", "8"),
    "merchantUserId": formats.merchant_user_id,
    "nationality": formats.country,
}
UPLOAD_FILES = ("idFileFront", "idFileBack", "selfie")


class Btse:
    """BTSE Pay."""

    def __init__(self, settings: SandboxSettings, clock: Clock, people: People) -> None:
        self._settings = settings
        self._clock = clock
        self._people = people
        self.authorization = Operation("btse.authorization", "btse", self._read_query, self._authorization)
        self.cancel = Operation("btse.cancel", "btse", self._read_cancel, self._cancel)
        self.upload = Operation("btse.upload", "btse", self._read_upload, self._upload)

    # Get Authorization Information ---------------------------------------------------------------------------

    def _read_query(self, request: Request, call: Call) -> str:
        self._check_sign(request, call, btse_message(_path(request), _nonce(request), request.get_data()))
        names = sorted(request.args.to_dict(flat=False).items())
        if [name for name, _ in names] != ["merchantUserId"] or len(names[0][1]) != 1:
            refuse_btse(f"exactly one merchantUserId is wanted, not {dict(names)!r}")
        call.merchant_user_id = names[0][1][0]
        call.fields = {"merchantUserId": call.merchant_user_id}
        _check("merchantUserId", call.merchant_user_id, formats.merchant_user_id)
        return call.merchant_user_id

    def _authorization(self, merchant_user_id: str) -> Answer:
        person = self._people.find(merchant_user_id)
        if person is None or person.user_key is None:
            return btse_answer(None)
        return btse_answer({"merchantUserId": merchant_user_id, "userKey": person.user_key, "email": person.email})

    # Cancel Authorization ------------------------------------------------------------------------------------

    def _read_cancel(self, request: Request, call: Call) -> dict[str, str]:
        self._check_sign(request, call, btse_message(_path(request), _nonce(request), request.get_data()))
        body = request.get_json(silent=True) if request.mimetype == "application/json" else None
        if not isinstance(body, dict) or not all(isinstance(value, str) for value in body.values()):
            refuse_btse("the body must be a JSON object of strings, with its Content-Type")
        call.fields, call.merchant_user_id = body, body.get("merchantUserId")
        if set(body) != {"merchantUserId", "userKey"}:
            refuse_btse(f"exactly merchantUserId and userKey are wanted, not {sorted(body)!r}")
        _check("merchantUserId", body["merchantUserId"], formats.merchant_user_id)
        return body

    def _cancel(self, body: dict[str, str]) -> Answer:
        person = self._people.find(body["merchantUserId"])
        with self._people.lock:
            if person is None or person.user_key != body["userKey"]:
                refuse_btse(f"userKey {body['userKey']!r} is not linked to your account")
            person.user_key = None
        return btse_answer({"merchantUserId": body["merchantUserId"]})

    # Upload User KYC Files -----------------------------------------------------------------------------------

    def _read_upload(self, request: Request, call: Call) -> dict[str, str]:
        if request.mimetype != "multipart/form-data":
            self._check_key(request)
            refuse_btse(f"Content-Type {request.mimetype!r} is not multipart/form-data", 415)
        fields = {name: values[0] for name, values in request.form.to_dict(flat=False).items()}
        strategy = self._settings.multipart_message
        message = btse_multipart_message(_path(request), _nonce(request), fields, strategy)
        self._check_sign(request, call, message)
        call.fields = dict(fields)
        call.merchant_user_id, call.email = fields.get("merchantUserId"), fields.get("email")
        _check_names(request)
        for name, check in UPLOAD_FIELDS.items():
            if name not in fields:
                refuse_btse(f"{name} is required as text")
            _check(name, fields[name], check)
        call.files = [receive_file(part, storage) for part, storage in request.files.items()]
        _check_files(call.files, fields["idType"])
        self._people.see(fields["merchantUserId"], fields["email"])
        return fields

    def _upload(self, fields: dict[str, str]) -> Answer:
        self._people.authorize(self._people.see(fields["merchantUserId"]))
        return btse_answer({"merchantUserId": fields["merchantUserId"], "status": "RECEIVED"})

    # Headers -------------------------------------------------------------------------------------------------

    def _check_key(self, request: Request) -> None:
        given = request.headers.get("api", "")
        if not hmac.compare_digest(given.encode(), self._settings.btse_api_key.encode()):
            refuse_btse(f"unknown api key {given!r}", 401)

    def _check_sign(self, request: Request, call: Call, message: bytes) -> None:
        self._check_key(request)
        nonce = _nonce(request)
        if not (nonce.isascii() and nonce.isdigit() and len(nonce) == 13):
            refuse_btse(f"nonce {nonce!r} is not a unix time in milliseconds", 401)
        age = call.at - int(nonce)
        if abs(age) > FRESH_MS:
            refuse_btse(f"nonce {nonce} is {age} ms old, at most {FRESH_MS} are allowed", 401)
        expected = btse_sign(self._settings.btse_secret_key, message, self._settings.sign_encoding)
        given = request.headers.get("sign", "")
        if not hmac.compare_digest(given.encode(), expected.encode()):
            refuse_btse(f"invalid sign {given!r}", 401)


def _path(request: Request) -> str:
    """The path as it was sent: neither decoded nor with its query."""
    raw: str = request.environ.get("RAW_URI", request.path)
    return raw.split("?", 1)[0]


def _nonce(request: Request) -> str:
    return request.headers.get("nonce", "")


def _check(name: str, value: str, check: formats.Check) -> None:
    if problem := check(value):
        refuse_btse(f"{name} {value!r} {problem}")


def _check_names(request: Request) -> None:
    for parts in (request.form, request.files):
        for name in parts:
            if name not in (*UPLOAD_FIELDS, *UPLOAD_FILES):
                refuse_btse(f"unknown form field {name!r}")
            if len(parts.getlist(name)) != 1:
                refuse_btse(f"{name} is there more than once")


def _check_files(files: list[ReceivedFile], id_type: str) -> None:
    needed = {"idFileFront", "selfie"} | ({"idFileBack"} if id_type in WITH_BACK else set())
    if missing := needed - {file.part for file in files}:
        refuse_btse(f"{', '.join(sorted(missing))} required for idType {id_type!r}")
    for file in files:
        _check_file(file)
    if sum(file.size for file in files) > LARGEST_SUM:
        refuse_btse(f"the files together are larger than {LARGEST_SUM} bytes", 413)


def _check_file(file: ReceivedFile) -> None:
    if file.size > LARGEST_FILE:
        refuse_btse(f"{file.part} {file.filename!r} is larger than {LARGEST_FILE} bytes", 413)
    if file.media_type is None:
        refuse_btse(f"{file.part} {file.filename!r} is no jpg, png or pdf", 415)
