"""The end user's page: one screen for each thing, all of which work without scripts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import cast

from flask import Blueprint, Response, g, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from orchestrator.errors import Conflict, InvalidInput, TooLarge, UnsupportedDocument
from orchestrator.machine import State
from orchestrator.onboarding import collect, look
from orchestrator.onboarding.context import Context
from orchestrator.onboarding.profile import LARGEST_DOCUMENT, PAGE_FIELDS
from orchestrator.records import Onboarding, iso
from orchestrator.web import upload_form as form
from orchestrator.web.address import client_address
from orchestrator.web.auth import open_to, service
from orchestrator.web.session import check_origin
from orchestrator.web.upload_words import outcome, shows

blueprint = Blueprint("upload", __name__)
blueprint.add_app_template_filter(iso)

ACTOR = "user"
_DEVICE_COOKIE = "device"
_YEAR_SECONDS = 365 * 86_400
Errors = dict[str, str]
"""Path such as `profile.dob` or `documents.selfie` → what to do."""


@blueprint.get("/u/<token>")
@open_to("whoever has the link")
def show(token: str) -> ResponseReturnValue:
    """The screen `step`, by default the first; after submit what became of it. Raises NotFound, Gone."""
    context = service()
    return _page(context, look.find_by_link(context, token), request.args.get("step", form.START))


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
    at = request.args.get("step", form.CHECK)
    if row.state is not State.COLLECTING:
        return _page(context, row, at, status=409)
    submits = request.form.get("action") == "submit"
    try:
        errors = _take(context, row.id, at, submits=submits)
    except Conflict:
        return _page(context, look.find(context, row.id), at, status=409)
    row = look.find(context, row.id)
    if errors:
        return _page(context, row, at, errors=errors, status=422)
    return redirect(url_for("upload.show", token=token, step=None if submits else _next(context, row, at)), 303)


def _take(context: Context, onboarding_id: str, at: str, *, submits: bool) -> Errors:
    """Keep what is good of the form, and submit when nothing is at fault. Raises Conflict."""
    errors = _keep_details(context, onboarding_id)
    for kind in form.FILES:
        errors |= _keep_file(context, onboarding_id, kind)
    view = look.view(context, look.find(context, onboarding_id))
    step = next((step for step in form.steps(context, view) if step.name == at), None)
    lacking = view.missing if submits and errors else step.lacks(view) if step else ()
    if errors or not submits:
        return {path: form.still_needed(path) for path in lacking} | errors
    try:
        collect.submit(context, onboarding_id, ACTOR)
    except InvalidInput as error:
        return {path: form.still_needed(path) for path in error.errors}
    return {}


def _next(context: Context, row: Onboarding, at: str) -> str:
    """The screen after `at`: the check for who came from there, and for who is only asked to mend something."""
    if row.round > 1 or request.args.get("from") == form.CHECK:
        return form.CHECK
    view = look.view(context, row)
    return form.following(form.steps(context, view), at, view)


def _keep_details(context: Context, onboarding_id: str) -> Errors:
    """Merge the answers that are not empty into the profile, without those that are refused."""
    asked = {question.name: question for step in form.detail_steps(context) for question in step.asked}
    given = {name: text for name in PAGE_FIELDS if (text := asked[name].answer(request.form.get(name, "")))}
    errors = {name: words for name, text in given.items() if (words := asked[name].refusal(text))}
    address = client_address()
    defaults = {"deviceId": _device(context)} | ({"ip": address} if address else {})

    def edit(values: Mapping[str, str]) -> None:
        collect.edit(context, onboarding_id, values, ACTOR, allowed=PAGE_FIELDS, defaults=defaults)

    try:
        edit({name: text for name, text in given.items() if name not in errors})
    except InvalidInput as error:
        errors |= {name: asked[name].fix for path in error.errors if (name := path.removeprefix("profile."))}
        edit({name: text for name, text in given.items() if name not in errors})
    return {f"profile.{name}": words for name, words in errors.items()}


def _keep_file(context: Context, onboarding_id: str, kind: str) -> Errors:
    """Store the chosen file of this kind, if one was chosen."""
    chosen = [file for file in request.files.getlist(kind) if file.filename]
    if not chosen:
        return {}
    if len(chosen) > 1:
        return {f"documents.{kind}": form.two_files()}
    content = chosen[0].stream.read(LARGEST_DOCUMENT + 1)
    try:
        collect.put_document(context, look.find(context, onboarding_id), kind, content, ACTOR)
    except (TooLarge, UnsupportedDocument) as error:
        return {f"documents.{kind}": why_refused(error, len(content))}
    return {}


def why_refused(error: TooLarge | UnsupportedDocument, size: int) -> str:
    """What the user should do about a file of `size` bytes (or more) that was not taken."""
    if isinstance(error, UnsupportedDocument):
        return form.not_readable()
    return form.too_large() if size > LARGEST_DOCUMENT else form.too_large_together()


def _page(
    context: Context, row: Onboarding, at: str, *, errors: Errors | None = None, status: int = 200
) -> ResponseReturnValue:
    view = look.view(context, row)
    if row.state is not State.COLLECTING:
        reason = view.reason if row.state is State.REJECTED else None
        return Response(render_template("outcome.html", outcome=outcome(row.state), reason=reason), status)
    steps = form.steps(context, view)
    names = [step.name for step in steps]
    if at not in (form.START, form.CHECK, *names):
        return redirect(url_for("upload.show", token=cast(dict[str, str], request.view_args)["token"]), 303)
    if at == form.START and row.round > 1:
        at = form.CHECK
    _device(context)
    screens = [form.START, *names, form.CHECK]
    came_from_check = row.round > 1 or request.args.get("from") == form.CHECK
    known = {
        "view": view,
        "steps": steps,
        "there": {document.kind: document for document in view.documents},
        "errors": errors or {},
        "labels": {path: words for step in steps for path, words in step.labels().items()},
        "again": row.round > 1,
        "was_here": at == form.START and any(moment.actor == ACTOR for moment in look.transitions(context, row)),
        "have": [step for step in steps if step.is_begun(view) and not step.lacks(view)],
        "shows": shows(row),
        "at": at,
        "position": screens.index(at),
        "before": form.CHECK if came_from_check else screens[max(screens.index(at) - 1, 0)],
        "onwards": form.first_lacking(steps, view),
    }
    template = {form.START: "upload_start.html", form.CHECK: "upload_check.html"}.get(at, "upload_step.html")
    step = next((step for step in steps if step.name == at), None)
    return Response(render_template(template, step=step, typed=request.form, **known), status)


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
