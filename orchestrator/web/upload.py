"""The end user's page: details, documents and submit in one form that works without scripts."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import cast

from flask import Blueprint, Response, g, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from orchestrator.errors import Conflict, InvalidInput, TooLarge, UnsupportedDocument
from orchestrator.machine import State
from orchestrator.onboarding import collect, look
from orchestrator.onboarding.context import Context
from orchestrator.onboarding.profile import LARGEST_DOCUMENT, PAGE_FIELDS
from orchestrator.records import Onboarding
from orchestrator.web import upload_form as form
from orchestrator.web.auth import open_to, service
from orchestrator.web.session import check_origin

blueprint = Blueprint("upload", __name__)

ACTOR = "user"
_DEVICE_COOKIE = "device"
_YEAR_SECONDS = 365 * 86_400
Errors = dict[str, str]
"""Path such as `profile.dob` or `documents.selfie` → what to do."""


@blueprint.get("/u/<token>")
@open_to("whoever has the link")
def show(token: str) -> ResponseReturnValue:
    """The form, or what became of it. Raises NotFound, Gone."""
    context = service()
    row = look.find_by_link(context, token)
    return _page(context, row, saved=request.args.get("done") == "saved")


@blueprint.post("/u/<token>")
@open_to("whoever has the link")
def receive(token: str) -> ResponseReturnValue:
    """Details, then files, then submit if asked: all faults are told together and what was good is kept.

    Raises NotFound, Gone, Forbidden, InvalidInput when the form holds anything that may not be set here.
    """
    check_origin()
    context = service()
    row = look.find_by_link(context, token)
    _check_names()
    if row.state is not State.COLLECTING:
        return _page(context, row, status=409)
    submits = request.form.get("action") == "submit"
    try:
        errors = _take(context, row.id, submits=submits)
    except Conflict:
        return _page(context, look.find(context, row.id), status=409)
    if errors:
        return _page(context, look.find(context, row.id), errors=errors, status=422)
    return redirect(url_for("upload.show", token=token, done=None if submits else "saved"), 303)


def _take(context: Context, onboarding_id: str, *, submits: bool) -> Errors:
    """Keep what is good of the form, and submit when nothing is at fault. Raises Conflict."""
    errors = _keep_details(context, onboarding_id)
    for kind in form.FILES:
        errors |= _keep_file(context, onboarding_id, kind)
    if not submits:
        return errors
    if errors:
        missing = look.view(context, look.find(context, onboarding_id)).missing
        return {path: form.still_needed(path) for path in missing} | errors
    try:
        collect.submit(context, onboarding_id, ACTOR)
    except InvalidInput as error:
        return {path: form.still_needed(path) for path in error.errors}
    return {}


def _keep_details(context: Context, onboarding_id: str) -> Errors:
    """Merge the answers that are not empty into the profile, without those that are refused."""
    given = {name: text for name in PAGE_FIELDS if (text := " ".join(request.form.get(name, "").split()))}
    defaults = {"deviceId": _device(context)} | ({"ip": request.remote_addr} if request.remote_addr else {})

    def edit(values: Mapping[str, str]) -> None:
        collect.edit(context, onboarding_id, values, ACTOR, allowed=PAGE_FIELDS, defaults=defaults)

    try:
        edit(given)
    except InvalidInput as error:
        refused = {path.removeprefix("profile.") for path in error.errors}
        edit({name: text for name, text in given.items() if name not in refused})
        fixes = {asked.name: asked.fix for part in form.sections(context) for asked in (*part.questions, *part.extra)}
        return {f"profile.{name}": fixes[name] for name in refused}
    return {}


def _keep_file(context: Context, onboarding_id: str, kind: str) -> Errors:
    """Store the chosen file of this kind, if one was chosen."""
    chosen = [file for file in request.files.getlist(kind) if file.filename]
    if not chosen:
        return {}
    if len(chosen) > 1:
        return {f"documents.{kind}": form.TWO_FILES}
    content = chosen[0].stream.read(LARGEST_DOCUMENT + 1)
    try:
        collect.put_document(context, onboarding_id, kind, content, ACTOR)
    except TooLarge:
        words = form.TOO_LARGE if len(content) > LARGEST_DOCUMENT else form.TOO_LARGE_TOGETHER
        return {f"documents.{kind}": words}
    except UnsupportedDocument:
        return {f"documents.{kind}": form.NOT_READABLE}
    return {}


def _page(
    context: Context, row: Onboarding, *, errors: Errors | None = None, saved: bool = False, status: int = 200
) -> Response:
    view = look.view(context, row)
    if row.state is not State.COLLECTING:
        outcome = form.outcome(row.state)
        reason = view.reason if row.state is State.REJECTED else None
        return Response(render_template("outcome.html", outcome=outcome, reason=reason), status)
    there = {document.kind: document for document in view.documents}
    _device(context)
    body = render_template(
        "upload.html",
        sections=form.sections(context),
        files=[asked for asked in form.FILE_QUESTIONS if _is_asked(asked.kind, view, [*there, *(errors or ())])],
        given=view.fields_present,
        there=there,
        needed=form.NEEDED,
        errors=errors or {},
        labels=_labels(context),
        typed=request.form,
        again=row.round > 1,
        reason=view.reason,
        saved=saved,
    )
    return Response(body, status)


def _is_asked(kind: str, view: look.View, spoken_of: Collection[str]) -> bool:
    """The back side is asked for unless the type of document is known not to need it.

    `spoken_of`: kinds that are there, and paths of errors.
    """
    may_be_needed = "idType" not in view.fields_present
    named = {kind, f"documents.{kind}"} & {*spoken_of, *view.missing}
    return kind != "idFileBack" or may_be_needed or bool(named)


def _labels(context: Context) -> dict[str, str]:
    """Path → the words that the page has for it."""
    questions = [asked for part in form.sections(context) for asked in (*part.questions, *part.extra)]
    details = {f"profile.{asked.name}": asked.label for asked in questions}
    return details | {f"documents.{asked.kind}": asked.label for asked in form.FILE_QUESTIONS}


def _check_names() -> None:
    """Raises InvalidInput naming everything in the form that may not be set here."""
    names = set(request.form) - PAGE_FIELDS - {"action"}
    errors = {f"profile.{name[:64]}": ["may not be set here"] for name in names}
    errors |= {f"documents.{kind[:64]}": ["may not be sent here"] for kind in set(request.files) - set(form.FILES)}
    if errors:
        raise InvalidInput("the form holds something that may not be set here", errors)


def _device(context: Context) -> str:
    """The random id that this browser keeps; a new one if it has none or it was tampered with."""
    if "device" not in g:
        kept = request.cookies.get(_DEVICE_COOKIE, "")
        g.device = kept if re.fullmatch(r"[A-Za-z0-9_-]{43}", kept) else context.token()
    return cast(str, g.device)


@blueprint.after_request
def _keep_device(answer: Response) -> Response:
    if "device" in g and g.device != request.cookies.get(_DEVICE_COOKIE):
        answer.set_cookie(
            _DEVICE_COOKIE,
            g.device,
            max_age=_YEAR_SECONDS,
            secure=request.is_secure,
            httponly=True,
            samesite="Lax",
            path="/u",
        )
    return answer
