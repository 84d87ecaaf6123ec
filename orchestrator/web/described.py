"""What a route says of itself for the API's description, next to its view."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

View = TypeVar("View", bound=Callable[..., Any])

JSON = "application/json"
BEARER = "bearer"
SIGNUP_SIGNATURE = ("webhookId", "webhookTimestamp", "webhookSignature")
OSL_SIGNATURE = ("oslAppId", "oslTimestamp", "oslSignature")


@dataclass(frozen=True)
class Answer:
    """A good answer: what it means, the component that its body is (None: no body), and its media type."""

    words: str
    schema: str | None = None
    media_type: str = JSON


@dataclass(frozen=True)
class Described:
    """One operation.

    `errors`: statuses beyond those that any route may answer; `body`: media type → component; `query`: the
    component whose members the query takes; `signature`: the security schemes that must hold together.
    """

    name: str
    answers: Mapping[int, Answer]
    errors: Sequence[int] = ()
    body: Mapping[str, str] = field(default_factory=dict)
    query: str | None = None
    signature: Sequence[str] = ()


def described(
    name: str,
    answers: Mapping[int, Answer],
    *errors: int,
    body: str | Mapping[str, str] | None = None,
    query: str | None = None,
    signature: Sequence[str] = (),
) -> Callable[[View], View]:
    """State `name` (the operationId), answers, errors, body and query of a view. `body`: of JSON if only a name."""
    bodies = {JSON: body} if isinstance(body, str) else dict(body or {})

    def decorate(view: View) -> View:
        view.described = Described(name, answers, errors, bodies, query, signature)  # type: ignore[attr-defined]
        return view

    return decorate
