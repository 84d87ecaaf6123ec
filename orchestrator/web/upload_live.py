"""What the scripts of the end user's page call: one file on its own, and what there is by now."""

from __future__ import annotations

from flask import jsonify
from flask.typing import ResponseReturnValue

from orchestrator.errors import NotFound, TooLarge, UnsupportedDocument
from orchestrator.machine import State
from orchestrator.onboarding import collect, look
from orchestrator.onboarding.profile import LARGEST_DOCUMENT
from orchestrator.records import iso
from orchestrator.web import upload_form as form
from orchestrator.web.auth import open_to, service
from orchestrator.web.bodies import raw_body
from orchestrator.web.problems import problem
from orchestrator.web.session import check_origin
from orchestrator.web.upload import ACTOR, blueprint, why_refused
from orchestrator.web.upload_words import outcome, shows


@blueprint.put("/u/<token>/documents/<kind>")
@open_to("whoever has the link")
def take_file(token: str, kind: str) -> ResponseReturnValue:
    """Store the body as this document. A file that is refused is told about in the words of the page.

    Raises NotFound for a link or kind that there is not, Gone, Forbidden, Conflict.
    """
    check_origin()
    context = service()
    row = look.find_by_link(context, token)
    if kind not in form.FILES:
        raise NotFound("this document is not asked for here")
    size = LARGEST_DOCUMENT + 1
    try:
        content = raw_body(LARGEST_DOCUMENT)
        size = len(content)
        collect.put_document(context, row, kind, content, ACTOR)
    except (TooLarge, UnsupportedDocument) as error:
        return problem(413 if isinstance(error, TooLarge) else 415, why_refused(error, size))
    return jsonify(_progress(token))


@blueprint.get("/u/<token>/progress")
@open_to("whoever has the link")
def progress(token: str) -> ResponseReturnValue:
    """What the page shows by now, by its name, and which documents are there. Raises NotFound, Gone."""
    return jsonify(_progress(token))


def _progress(token: str) -> dict[str, object]:
    context = service()
    row = look.find_by_link(context, token)
    collecting = row.state is State.COLLECTING
    there = look.view(context, row).documents if collecting else ()
    return {
        "shows": shows(row),
        "isFinal": not collecting and outcome(row.state).is_final,
        "documents": {document.kind: iso(document.uploaded_at) for document in there},
    }
