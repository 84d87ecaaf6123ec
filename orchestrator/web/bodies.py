"""Reading request bodies: JSON within limits, documents raw or as a form part."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from flask import request

from orchestrator.errors import InvalidInput, TooLarge

_MULTIPART_MARGIN = 100_000


def raw_body(largest: int) -> bytes:
    """The body as it came. Raises TooLarge, before reading when its length says so."""
    if (request.content_length or 0) > largest:
        raise TooLarge(f"the body may have {largest} bytes")
    body = request.stream.read(largest + 1)
    if len(body) == request.content_length:
        return body
    # A read may give less than was asked for. Of a body that ends before its length the last one raises: 400.
    while len(body) <= largest and (more := request.stream.read(largest + 1 - len(body))):
        body += more
    if len(body) > largest:
        raise TooLarge(f"the body may have {largest} bytes")
    return body


def parsed_json(body: bytes) -> Any:
    """`body` as JSON. Raises InvalidInput, whatever is wrong with it."""
    try:
        value = json.loads(body.decode("utf-8"), parse_constant=_refuse)
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise InvalidInput("the body must be JSON in UTF-8") from None
    return value


def json_object(largest: int) -> dict[str, Any]:
    """The body as a JSON object. Raises InvalidInput, TooLarge."""
    value = parsed_json(raw_body(largest))
    if not isinstance(value, dict):
        raise InvalidInput("the body must be a JSON object")
    return value


def document_body(largest: int) -> bytes:
    """A document: the raw body, or the part `file` of a multipart form. Raises InvalidInput, TooLarge."""
    if request.mimetype != "multipart/form-data":
        return raw_body(largest)
    if (request.content_length or 0) > largest + _MULTIPART_MARGIN:
        raise TooLarge(f"a document may have {largest} bytes")
    file = request.files.get("file")
    if file is None:
        raise InvalidInput("the form must have a part called file")
    content = file.stream.read(largest + 1)
    if len(content) > largest:
        raise TooLarge(f"a document may have {largest} bytes")
    return content


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
