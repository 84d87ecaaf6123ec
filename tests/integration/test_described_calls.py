"""Calls that Schemathesis makes up from the description, good and bad ones, against the service over real HTTP.

What is made up is the same in every run, and its number is fixed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, assume, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import negative_data_rejection, not_a_server_error
from schemathesis.specs.openapi import checks as conformance
from standardwebhooks import Webhook

from orchestrator.store.postgres import _storable
from tests.sandbox_process import SandboxProcess
from tests.service import SIGNUP_SECRET, Bench, Client, Web, signed, web_of

POSITIVE, NEGATIVE = GenerationMode.POSITIVE, GenerationMode.NEGATIVE
CONFORMS = [
    conformance.status_code_conformance,
    conformance.content_type_conformance,
    conformance.response_schema_conformance,
    conformance.response_headers_conformance,
]
Call = Callable[[Any], Any]
"""Sends one made-up case; its answer."""
PROVIDERS = {"GET /api/v1/onboardings/{id}/authorization", "POST /api/v1/onboardings/{id}/authorization/cancel"}
"""What asks a provider within the request may answer 502."""


@dataclass
class Called:
    """What was answered to all that was called."""

    statuses: Counter[int] = field(default_factory=Counter)
    by_route: dict[str, Counter[int]] = field(default_factory=dict)

    def count(self, route: str, status: int) -> None:
        self.statuses[status] += 1
        self.by_route.setdefault(route, Counter())[status] += 1


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory, sandbox_process: SandboxProcess) -> Iterator[Web]:
    sandbox_process.clear_faults()
    bench = Bench(tmp_path_factory.mktemp("described"), sandbox_process)
    with web_of(bench) as made:
        yield made
    bench.close()


@pytest.fixture(scope="module")
def schema(web: Web) -> Any:
    return schemathesis.openapi.from_dict(web.anyone("GET", "/openapi.json").json())


@pytest.fixture(scope="module")
def plain(web: Web) -> Any:
    """The same, whose texts are ASCII: more of what is made up is good."""
    made = schemathesis.openapi.from_dict(web.anyone("GET", "/openapi.json").json())
    made.config.generation.codec = "ascii"
    return made


def ids(bench: Bench) -> list[str]:
    """Onboardings in states that answer differently, and one that is not there."""
    rows = [bench.collected("pass"), bench.sign_up("pass"), bench.submitted("pass"), bench.shared_on_paper()]
    return [*(row.id for row in rows), "onb_unknown"]


def calls(schema: Any, web: Web, mode: GenerationMode, number: int, call: Call, only: str = "") -> Called:
    """`number` made-up calls of every operation whose path begins with `only`, each held against the description."""
    called = Called()
    there = ids(web.bench)
    for result in schema.get_all_operations():
        operation = result.ok()
        if operation.path.startswith(only) and (mode is POSITIVE or _can_be_wrong(operation)):
            _calls_of(operation, mode, number, call, called, there)
    return called


def _calls_of(
    operation: Any,
    mode: GenerationMode,
    number: int,
    call: Call,
    called: Called,
    there: list[str],
) -> None:
    signs = operation.path.startswith(("/hooks/", "/callbacks/"))  # what is bad may be a header that `call` mends
    route = f"{operation.method.upper()} {operation.path}"
    checks = [*CONFORMS, *([] if route in PROVIDERS else [not_a_server_error])]
    checks += [negative_data_rejection] if mode is NEGATIVE and not signs else []

    @settings(
        max_examples=number,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def run(case: Any) -> None:
        known = called.by_route.get(route, Counter()).total()
        if "id" in case.path_parameters and known % 6:
            case.path_parameters["id"] = there[known % len(there)]
        response = call(case)
        called.count(route, response.status_code)
        case.validate_response(response, checks=checks)

    run()


def _can_be_wrong(operation: Any) -> bool:
    """What asks for nothing at all cannot be asked wrongly."""
    said = operation.definition.raw
    return bool(said["security"] or said["parameters"])


def with_token(client: Client) -> Call:
    return lambda case: case.call(base_url=client.url, session=client._session, timeout=20)


def with_signature(web: Web) -> Call:
    """Signs whatever body there is, as the merchant or OSL Pay would."""
    numbers = iter(range(1_000_000))
    row = web.bench.shared_on_paper()
    secret = web.bench.callback_secret(row)

    def call(case: Any) -> requests.Response:
        if "token" in case.path_parameters:
            case.path_parameters["token"] = secret
        sent = case.as_transport_kwargs(base_url=web.url)
        body = requests.Request(**{name: sent[name] for name in ("method", "url", "json", "data") if name in sent})
        raw = body.prepare().body or b""
        raw = raw.encode() if isinstance(raw, str) else raw
        assume(isinstance(raw, bytes))
        if case.operation.path == "/hooks/signup":
            now, name = datetime.now(UTC), f"msg_{next(numbers)}"
            stamp = {"webhook-id": name, "webhook-timestamp": str(int(now.timestamp()))}
            assume(_is_text(raw))
            headers = stamp | {"webhook-signature": Webhook(SIGNUP_SECRET).sign(name, now, raw.decode())}
        else:
            headers = signed(web.bench.clock() + next(numbers), raw).headers
        return web.anyone(case.method, case.formatted_path, data=raw, headers=headers)

    return call


def _is_text(raw: bytes) -> bool:
    try:
        raw.decode()
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("mode", [POSITIVE, NEGATIVE], ids=["good", "bad"])
def test_an_operators_calls_are_answered_as_described(schema: Any, web: Web, mode: GenerationMode) -> None:
    called = calls(schema, web, mode, 7, with_token(web.operator))

    assert called.statuses.total() > 120
    assert set(called.statuses) > ({200, 201, 202, 204, 404, 409, 422} if mode is POSITIVE else {401, 404, 409, 422})


def test_a_merchants_calls_are_answered_as_described(schema: Any, web: Web) -> None:
    called = calls(schema, web, POSITIVE, 4, with_token(web.merchant), "/api/")

    assert set(called.statuses) > {200, 202, 403, 404, 409, 422}


@pytest.mark.parametrize(("who", "status"), [("viewer", 403), ("anyone", 401)])
def test_calls_of_those_who_may_not_are_answered_as_described(schema: Any, web: Web, who: str, status: int) -> None:
    called = calls(schema, web, POSITIVE, 2, with_token(getattr(web, who)), "/api/")

    assert set(called.statuses) == {status}


@pytest.mark.parametrize("mode", [POSITIVE, NEGATIVE], ids=["good", "bad"])
@pytest.mark.parametrize(("path", "refusal"), [("/hooks/", 422), ("/callbacks/", 400)])
def test_signed_calls_are_answered_as_described(
    plain: Any, web: Web, mode: GenerationMode, path: str, refusal: int
) -> None:
    called = calls(plain, web, mode, 20, with_signature(web), path)

    assert refusal in called.statuses if mode is NEGATIVE else set(called.statuses) & {200, 202, 204}


# What it found -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("query", ["stat=approved", "State=approved", "limit=5&x=", "=", "%00=1"])
def test_a_misspelt_filter_does_not_list_everybody(web: Web, query: str) -> None:
    answer = web.operator("GET", f"/api/v1/onboardings?{query}")

    assert answer.status_code == 422
    assert list(answer.json()["errors"].values()) == [["is not a parameter"]]


@pytest.mark.parametrize("name", ["state", "q", "limit", "cursor"])
def test_of_a_filter_given_twice_none_is_left_out_without_a_word(web: Web, name: str) -> None:
    values = {"state": ("approved", "rejected"), "limit": ("1", "2")}.get(name, ("", "u-1"))
    answer = web.merchant("GET", "/api/v1/onboardings", params=[(name, value) for value in values])
    assert (answer.status_code, answer.json()["errors"]) == (422, {name: ["may be given once"]})


def test_a_text_with_nul_is_one_that_is_not_there() -> None:
    """PostgreSQL would refuse the statement."""
    assert _storable({"id": "onb_\0", "limit": 5, "sealed": b"\0"}) == {
        "id": "onb_\ufffd",
        "limit": 5,
        "sealed": b"\0",
    }


@pytest.mark.parametrize("path", ["onboardings/%00", "onboardings/%00/transitions", "onboardings?q=%00"])
def test_nul_in_a_path_or_query_is_no_fault_of_ours(web: Web, path: str) -> None:
    assert web.operator("GET", f"/api/v1/{path}").status_code in (200, 404)
