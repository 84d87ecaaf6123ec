"""The API as the contract's table has it: every row, its answers, and what each refusal says."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest
import requests

from orchestrator.machine import Event, State
from orchestrator.onboarding import access, operate
from orchestrator.onboarding.apply import Step, apply
from orchestrator.records import DeliveryStatus, Onboarding
from orchestrator.web.app import create_app
from tests.scripted_server import answer as http_answer
from tests.scripted_server import answering, scripted_server
from tests.service import NOTIFY_SECRET, PUBLIC_URL, Bench, Client, Web, new_user, pdf, web_of

API = "/api/v1/onboardings"
ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
MEMBERS = [
    "id",
    "merchantUserId",
    "state",
    "round",
    "missing",
    "documents",
    "uploadUrl",
    "oslUserId",
    "kycStatus",
    "reason",
    "attempts",
    "nextAttemptAt",
    "lastError",
    "createdAt",
    "updatedAt",
]


def begun(web: Web, **profile: str | None) -> dict[str, Any]:
    said: dict[str, Any] = web.merchant("POST", API, json=new_user(**profile)).json()
    return said


def is_problem(answer: requests.Response, status: int, **members: Any) -> bool:
    body = answer.json()
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["Cache-Control"] == "no-store"
    assert {"type", "title", "status", "detail"} <= set(body)
    assert body["status"] == status
    return all(body.get(name) == value for name, value in members.items())


def faults(answer: requests.Response) -> list[str]:
    """The paths that a 422 names."""
    assert is_problem(answer, 422)
    return sorted(answer.json().get("errors", {}))


def parked(bench: Bench, row: Onboarding) -> Onboarding:
    return apply(bench.context, row.id, lambda row: [Step(Event.GAVE_UP, "worker")])


# Beginning and reading -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["merchant", "operator"])
def test_an_onboarding_begins_with_201_and_is_shown_whole(web: Web, who: str) -> None:
    client: Client = getattr(web, who)
    user = new_user()
    answer = client("POST", API, json=user)
    said = answer.json()
    assert (answer.status_code, list(said)) == (201, MEMBERS)
    assert answer.headers["Cache-Control"] == "no-store"
    assert said["id"].startswith("onb_")
    assert said["uploadUrl"].startswith(f"{PUBLIC_URL}/u/")
    assert (said["state"], said["round"], said["documents"], said["attempts"]) == ("collecting", 1, [], 0)
    assert said["missing"] == ["documents.idFileFront", "documents.selfie"]
    assert [said[name] for name in ("oslUserId", "kycStatus", "reason", "lastError")] == [None] * 4
    assert all(ISO.fullmatch(said[name]) for name in ("createdAt", "updatedAt", "nextAttemptAt"))
    assert user["email"] not in answer.text
    assert user["profile"]["idNumber"] not in answer.text
    assert client("GET", f"{API}/{said['id']}").json() == said
    again = client("POST", API, json=user | {"email": "other@example.com"})
    assert (again.status_code, again.json()) == (200, said)


def test_bad_data_is_422_with_paths_relative_to_the_data_object(web: Web) -> None:
    user = new_user(ip="nowhere", idType="VISA")
    assert faults(web.merchant("POST", API, json=user | {"email": "x"})) == ["email", "profile.idType", "profile.ip"]
    assert faults(web.merchant("POST", API, json={})) == ["email", "merchantUserId"]
    assert web.merchant("GET", API).json()["items"] == []


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"a": NaN}', b"\xff", b"[" * 50_000])
def test_broken_json_is_422(web: Web, body: bytes) -> None:
    row = web.bench.sign_up()
    for method, path in (
        ("POST", API),
        ("PATCH", f"{API}/{row.id}/profile"),
        ("POST", f"{API}/{row.id}/resubmission"),
        ("POST", f"{API}/{row.id}/authorization/cancel"),
    ):
        assert is_problem(web.operator(method, path, data=body), 422)


def test_a_body_of_more_than_256_000_bytes_is_413(web: Web) -> None:
    row = web.bench.sign_up()
    body = json.dumps({"firstName": "x" * 256_000})
    assert is_problem(web.merchant("POST", API, data=body), 413)
    assert is_problem(web.merchant("PATCH", f"{API}/{row.id}/profile", data=body), 413)


@pytest.mark.parametrize("onboarding_id", ["onb_unknown", "x", "%00", "%ff", "onb_%F0%9F%98%80", "x" * 5_000])
def test_an_unknown_onboarding_is_404_everywhere(web: Web, onboarding_id: str) -> None:
    one = f"{API}/{onboarding_id}"
    for method, path, how in (
        ("GET", "", {}),
        ("PATCH", "/profile", {"json": {"firstName": "Bo"}}),
        ("PUT", "/documents/selfie", {"data": pdf()}),
        ("DELETE", "/documents/selfie", {}),
        ("POST", "/submit", {}),
        ("POST", "/cancel", {}),
        ("POST", "/retry", {}),
        ("POST", "/resubmission", {"json": {"reason": "x"}}),
        ("POST", "/link", {}),
        ("GET", "/transitions", {}),
        ("GET", "/callbacks", {}),
        ("GET", "/deliveries", {}),
        ("GET", "/authorization", {}),
        ("POST", "/authorization/cancel", {"json": {"userKey": "uk"}}),
    ):
        assert is_problem(web.operator(method, one + path, **how), 404), (method, path)
    assert is_problem(web.operator("POST", f"/api/v1/deliveries/{onboarding_id}/resend"), 404)


def test_unknown_paths_and_methods_are_problems_too(web: Web) -> None:
    assert is_problem(web.merchant("GET", "/api/v1/nothing"), 404)
    refused = web.merchant("DELETE", API)
    assert is_problem(refused, 405)
    assert {"GET", "POST"} <= set(refused.headers["Allow"].split(", "))


def test_credentials_are_401_and_wrong_roles_403(web: Web) -> None:
    row = web.bench.sign_up()
    for header in ("", "Bearer", "Bearer ", "Bearer orc_x", "Basic b3JjXw==", "Bearer orc_\xe9".encode("latin-1")):
        answer = web.anyone("GET", API, headers={"Authorization": header})
        assert is_problem(answer, 401)
        assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert is_problem(web.viewer("GET", API), 403)
    assert is_problem(web.viewer("GET", f"{API}/{row.id}"), 403)
    for method, path in (
        ("POST", "/retry"),
        ("POST", "/resubmission"),
        ("GET", "/callbacks"),
        ("GET", "/deliveries"),
        ("GET", "/authorization"),
        ("POST", "/authorization/cancel"),
    ):
        assert is_problem(web.merchant(method, f"{API}/{row.id}{path}"), 403), path
    assert is_problem(web.merchant("POST", "/api/v1/deliveries/dlv_1/resend"), 403)


def test_a_revoked_token_is_401_at_once(web: Web) -> None:
    assert web.merchant("GET", API).status_code == 200
    access.revoke_token(web.bench.context, "the-merchant")
    assert is_problem(web.merchant("GET", API), 401)


# Lists ---------------------------------------------------------------------------------------------------------------


def test_pages_follow_each_other_newest_first_without_gaps(web: Web) -> None:
    rows = []
    for number in range(7):
        rows.append(web.bench.sign_up())
        web.bench.clock.advance(number % 2)  # some share a millisecond
    seen: list[str] = []
    cursor = None
    while True:
        query = {"limit": 3} | ({"cursor": cursor} if cursor else {})
        page = web.merchant("GET", API, params=query).json()
        seen += [item["id"] for item in page["items"]]
        cursor = page["nextCursor"]
        if cursor is None:
            break
        assert len(page["items"]) == 3
    assert seen == [row.id for row in sorted(rows, key=lambda row: (row.created_at, row.id), reverse=True)]


def test_a_list_shows_no_upload_url(web: Web) -> None:
    begun(web)
    page = web.operator("GET", API)
    assert list(page.json()["items"][0]) == [name for name in MEMBERS if name != "uploadUrl"]
    assert "/u/" not in page.text
    assert page.headers["Cache-Control"] == "no-store"


def test_a_page_that_is_exactly_full_is_the_last(web: Web) -> None:
    for _ in range(3):
        web.bench.sign_up()
    assert web.merchant("GET", API, params={"limit": 3}).json()["nextCursor"] is None


def test_the_state_filters_and_pages(web: Web) -> None:
    rows = [web.bench.sign_up() for _ in range(4)]
    for row in rows[:3]:
        operate.cancel(web.bench.context, row.id, "test")
    first = web.merchant("GET", API, params={"state": "cancelled", "limit": 2}).json()
    rest = web.merchant("GET", API, params={"state": "cancelled", "limit": 2, "cursor": first["nextCursor"]}).json()
    found = {item["id"] for item in first["items"] + rest["items"]}
    assert (found, rest["nextCursor"]) == ({row.id for row in rows[:3]}, None)
    assert [item["id"] for item in web.merchant("GET", API, params={"state": "collecting"}).json()["items"]] == [
        rows[3].id
    ]


def test_a_search_finds_by_id_merchant_user_id_email_and_osl_user_id_exactly(web: Web) -> None:
    row = web.bench.shared_on_paper("osl-77")
    email, _ = web.bench.context.identity(row)
    web.bench.sign_up()

    def found(query: str, **more: str) -> list[str]:
        return [item["id"] for item in web.merchant("GET", API, params={"q": query, **more}).json()["items"]]

    for query in (row.id, row.merchant_user_id, email, f"  {email.upper()} ", "osl-77"):
        assert found(query) == [row.id], query
    for query in (row.id[:-1], row.merchant_user_id + "x", "example.com", "osl", "%", "_", "' or 1=1 --"):
        assert found(query) == [], query
    assert found(row.id, state="awaiting_callback") == [row.id]
    assert found(row.id, state="approved") == []


def test_a_search_goes_by_state_and_page_by_page(web: Web) -> None:
    user, ids = new_user(), []
    for _ in range(4):
        web.bench.clock.advance(1)
        ids.append(web.merchant("POST", API, json=user).json()["id"])
        if len(ids) < 4:
            operate.cancel(web.bench.context, ids[-1], "test")

    for query in (user["merchantUserId"], user["email"]):

        def page(query: str = query, **more: Any) -> tuple[list[str], str | None]:
            answer = web.merchant("GET", API, params={"q": query, **more}).json()
            return [item["id"] for item in answer["items"]], answer["nextCursor"]

        assert page(state="cancelled", limit=1)[0] == ids[2:3]
        first, cursor = page(limit=3)
        assert (first, page(limit=3, cursor=cursor)) == ([ids[3], ids[2], ids[1]], (ids[:1], None))
    assert faults(web.merchant("GET", API, params={"q": "u", "cursor": "x"})) == ["cursor"]


def test_a_search_finds_all_onboardings_of_a_user_newest_first(web: Web) -> None:
    user, ids = new_user(), []
    for _ in range(3):
        web.bench.clock.advance(1)
        ids.append(web.merchant("POST", API, json=user).json()["id"])
        operate.cancel(web.bench.context, ids[-1], "test")
    for query in (user["merchantUserId"], user["email"]):
        page = web.merchant("GET", API, params={"q": query, "limit": 2}).json()
        assert [item["id"] for item in page["items"]] == ids[:0:-1]


BAD_QUERIES = [
    ("state", "nowhere"),
    ("state", "COLLECTING"),
    ("limit", "0"),
    ("limit", "201"),
    ("limit", "-1"),
    ("limit", "1.5"),
    ("limit", "ten"),
    ("limit", ""),
    ("limit", "²"),
    ("limit", "9" * 50),
    ("cursor", "x"),
    ("cursor", "bm90aGluZw"),
    ("cursor", "MTIzLng"),
    ("cursor", "é"),
    ("cursor", "\x00"),
    ("cursor", "OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTkub25iX3g"),
]


def test_a_bad_query_is_422_and_named(web: Web) -> None:
    for name, value in BAD_QUERIES:
        assert faults(web.merchant("GET", API, params={name: value})) == [name], value


def test_the_limits_of_a_limit_are_taken(web: Web) -> None:
    for limit in ("1", "200"):
        assert web.merchant("GET", API, params={"limit": limit}).status_code == 200


# The profile ---------------------------------------------------------------------------------------------------------


def test_a_patch_merges_removes_and_takes_the_email(web: Web) -> None:
    said = begun(web)
    path = f"{API}/{said['id']}/profile"
    patch = {"firstName": "Bo", "phoneNumber": "+852 555 0199", "ip": None, "email": "Bo@Example.com"}
    answer = web.merchant("PATCH", path, json=patch)
    assert answer.status_code == 200
    assert "profile.ip" in answer.json()["missing"]
    email, profile = web.bench.context.identity(web.bench.row(said["id"]))
    assert email == "Bo@Example.com"
    assert (profile["firstName"], profile["phoneNumber"], profile["lastName"]) == ("Bo", "+852 555 0199", "Leebrook")
    assert "ip" not in profile
    items = web.merchant("GET", API, params={"q": "bo@example.com"}).json()["items"]
    assert [item["id"] for item in items] == [said["id"]]
    last = web.merchant("GET", f"{API}/{said['id']}/transitions").json()["items"][-1]
    assert (last["event"], last["detail"]) == ("edited", "firstName, ip, phoneNumber, email"), "names, never values"


def test_a_patch_that_changes_nothing_leaves_no_transition(web: Web) -> None:
    said = begun(web)
    for patch in ({}, {"firstName": "Anastasia"}, {"middleName": None}):
        assert web.merchant("PATCH", f"{API}/{said['id']}/profile", json=patch).json() == said


@pytest.mark.parametrize(
    ("patch", "paths"),
    [
        ({"ip": "x", "dob": "1990-13-01"}, ["profile.dob", "profile.ip"]),
        ({"callbackUrl": "http://x"}, ["profile.callbackUrl"]),
        ({"merchantUserId": "x"}, ["profile.merchantUserId"]),
        ({"nonsense": "x"}, ["profile.nonsense"]),
        ({"nonsense": None}, ["profile.nonsense"]),
        ({"email": None}, ["email"]),
        ({"email": "x"}, ["email"]),
        ({"firstName": {"nested": "x"}}, ["profile.firstName"]),
        ({"firstName": ""}, ["profile.firstName"]),
        ({"firstName": "\ud83d"}, []),
    ],
)
def test_a_bad_patch_is_422_names_its_fields_and_changes_nothing(
    web: Web, patch: dict[str, Any], paths: list[str]
) -> None:
    row = web.bench.sign_up()
    assert faults(web.merchant("PATCH", f"{API}/{row.id}/profile", json=patch)) == paths
    assert web.bench.row(row) == row


# What is allowed when ------------------------------------------------------------------------------------------------


def _conflicts(web: Web, row: Onboarding, state: str) -> None:
    one = f"{API}/{row.id}"
    for method, path, how in (
        ("PATCH", "/profile", {"json": {"firstName": "Bo"}}),
        ("PATCH", "/profile", {"json": {}}),
        ("PUT", "/documents/selfie", {"data": pdf("new")}),
        ("DELETE", "/documents/selfie", {}),
        ("POST", "/submit", {}),
        ("POST", "/retry", {}),
    ):
        answer = web.operator(method, one + path, **how)
        assert is_problem(answer, 409, state=state), (method, path, answer.text)


def test_what_the_state_does_not_allow_is_409_with_the_state(web: Web) -> None:
    row = web.bench.submitted()
    _conflicts(web, row, "uploading")
    assert is_problem(
        web.operator("POST", f"{API}/{row.id}/resubmission", json={"reason": "x"}), 409, state="uploading"
    )
    awaiting = web.bench.shared_on_paper()
    _conflicts(web, awaiting, "awaiting_callback")
    operate.cancel(web.bench.context, row.id, "test")
    _conflicts(web, row, "cancelled")
    for path in ("/cancel", "/link"):
        assert is_problem(web.operator("POST", f"{API}/{row.id}{path}"), 409, state="cancelled")
    settled = web.bench.shared_on_paper()
    apply(web.bench.context, settled.id, lambda row: [Step(Event.ANSWERED_PASS, "worker")])
    _conflicts(web, settled, "approved")
    assert is_problem(web.operator("POST", f"{API}/{settled.id}/cancel"), 409, state="approved")


def test_submit_is_422_with_what_is_missing_and_then_202_once(web: Web) -> None:
    said = begun(web, idType="ID_CARD", ip=None)
    one = f"{API}/{said['id']}"
    missing = ["documents.idFileBack", "documents.idFileFront", "documents.selfie", "profile.ip"]
    assert sorted(said["missing"]) == missing
    assert faults(web.merchant("POST", f"{one}/submit")) == missing
    for kind in ("idFileFront", "idFileBack", "selfie"):
        assert web.merchant("PUT", f"{one}/documents/{kind}", data=pdf(kind)).status_code == 200
    web.merchant("PATCH", f"{one}/profile", json={"ip": "2001:db8::1"})
    answer = web.merchant("POST", f"{one}/submit")
    assert (answer.status_code, answer.json()["state"], answer.json()["missing"]) == (202, "uploading", [])
    assert is_problem(web.merchant("POST", f"{one}/submit"), 409, state="uploading")
    assert [row.event for row in web.bench.transitions(web.bench.row(said["id"]))].count(Event.SUBMITTED) == 1


def test_cancel_is_202_once(web: Web) -> None:
    said = begun(web)
    answer = web.merchant("POST", f"{API}/{said['id']}/cancel")
    assert (answer.status_code, answer.json()["state"]) == (202, "cancelled")
    assert is_problem(web.merchant("POST", f"{API}/{said['id']}/cancel"), 409, state="cancelled")


def test_retry_is_202_from_needs_attention_once(web: Web) -> None:
    row = parked(web.bench, web.bench.submitted())
    answer = web.operator("POST", f"{API}/{row.id}/retry")
    assert (answer.status_code, answer.json()["state"]) == (202, "uploading")
    assert is_problem(web.operator("POST", f"{API}/{row.id}/retry"), 409, state="uploading")


@pytest.mark.parametrize("state", ["awaiting_callback", "in_review", "needs_attention"])
def test_resubmission_opens_the_next_round_and_tells_why(web: Web, state: str) -> None:
    row = web.bench.shared_on_paper()
    if state == "in_review":
        apply(web.bench.context, row.id, lambda row: [Step(Event.ANSWERED_REVIEW, "worker")])
    if state == "needs_attention":
        parked(web.bench, row)
    path = f"{API}/{row.id}/resubmission"
    for wrong in ({}, {"reason": ""}, {"reason": "  "}, {"reason": 7}, {"reason": "x" * 501}):
        assert faults(web.operator("POST", path, json=wrong)) == ["reason"]
    assert web.bench.state(row) == state
    answer = web.operator("POST", path, json={"reason": " Dear Anastasia, one more page "})
    said = answer.json()
    assert (answer.status_code, said["state"], said["round"]) == (202, "collecting", 2)
    assert said["reason"] == "Dear <firstName>, one more page"
    assert is_problem(web.operator("POST", path, json={"reason": "again"}), 409, state="collecting")


def test_a_new_link_replaces_the_old_one(web: Web) -> None:
    said = begun(web)
    answer = web.merchant("POST", f"{API}/{said['id']}/link")
    assert answer.status_code == 200
    new = answer.json()["uploadUrl"]
    assert new != said["uploadUrl"]
    json_please = {"headers": {"Accept": "application/json"}}
    assert web.anyone("GET", said["uploadUrl"].removeprefix(PUBLIC_URL), **json_please).status_code == 410
    assert web.anyone("GET", new.removeprefix(PUBLIC_URL)).status_code == 200
    assert web.anyone("GET", "/u/never-was", **json_please).status_code == 404


# What is kept about it -----------------------------------------------------------------------------------------------


def test_transitions_are_shown_as_a_chain(web: Web) -> None:
    row = web.bench.submitted()
    answer = web.merchant("GET", f"{API}/{row.id}/transitions")
    items = answer.json()["items"]
    assert all(list(item) == ["seq", "at", "from", "to", "event", "actor", "detail", "hash"] for item in items)
    assert [item["seq"] for item in items] == list(range(1, len(items) + 1))
    assert (items[0]["from"], items[0]["to"], items[-1]["to"]) == (None, "collecting", "uploading")
    assert all(ISO.fullmatch(item["at"]) and re.fullmatch(r"[0-9a-f]{64}", item["hash"]) for item in items)


def test_who_did_it_is_in_the_chain(web: Web) -> None:
    said = begun(web)
    web.operator("POST", f"{API}/{said['id']}/cancel")
    items = web.merchant("GET", f"{API}/{said['id']}/transitions").json()["items"]
    assert [item["actor"] for item in items] == ["merchant:the-merchant", "operator:the-operator"]


def test_callbacks_are_shown_without_their_bodies(web: Web) -> None:
    row = web.bench.shared_on_paper()
    web.bench.receive(row, "REVIEW")
    web.bench.receive(row, "REVIEW")
    [item] = web.operator("GET", f"{API}/{row.id}/callbacks").json()["items"]
    assert list(item) == ["id", "receivedAt", "timestamp", "type", "kycStatus", "verdict", "seen", "round"]
    assert item["id"].startswith("cbk_")
    assert (item["type"], item["kycStatus"], item["verdict"]) == ("kyc_status_change", "REVIEW", "applied")
    assert (item["seen"], item["round"]) == (2, 1)


def test_a_delivery_can_be_resent_once_it_is_over(tmp_path: Any) -> None:
    bench = Bench(
        tmp_path,
        ORCHESTRATOR_NOTIFY_URL="http://127.0.0.1:9/told",
        ORCHESTRATOR_NOTIFY_SECRET=NOTIFY_SECRET,
    )
    with web_of(bench) as web:
        row = bench.submitted()
        [item] = web.operator("GET", f"{API}/{row.id}/deliveries").json()["items"]
        assert item["id"].startswith("dlv_")
        assert (item["type"], item["status"], item["attempts"]) == ("onboarding.submitted", "pending", 0)
        resend = f"/api/v1/deliveries/{item['id']}/resend"
        assert is_problem(web.operator("POST", resend), 409, state="pending")
        [claimed] = bench.context.schedule.claim_deliveries(bench.clock(), "lease", bench.clock() + 9_000, 5)
        over = replace(claimed, status=DeliveryStatus.FAILED, due_at=None, attempts=10)
        bench.context.schedule.settle_delivery(over, "lease", bench.clock())
        answer = web.operator("POST", resend)
        assert (answer.status_code, answer.json()["status"], answer.json()["attempts"]) == (202, "pending", 0)
        assert is_problem(web.operator("POST", resend), 409, state="pending")
    bench.close()


# BTSE Pay's authorization --------------------------------------------------------------------------------------------


def test_the_authorization_is_shown_and_cancelled(played_web: Web) -> None:
    row = played_web.bench.shared()
    one = f"{API}/{row.id}/authorization"
    shown = played_web.operator("GET", one)
    assert shown.status_code == 200
    assert shown.headers["Cache-Control"] == "no-store"
    key = shown.json()["userKey"]
    wrong = played_web.operator("POST", f"{one}/cancel", json={"userKey": "uk-of-somebody-else"})
    assert is_problem(wrong, 409, state="awaiting_callback")
    assert "BTSE" in wrong.json()["detail"]
    assert "uk-of-somebody-else" not in wrong.text, "masked"
    assert played_web.operator("POST", f"{one}/cancel", json={"userKey": key}).status_code == 200
    assert is_problem(played_web.operator("POST", f"{one}/cancel", json={"userKey": key}), 409)
    for bad in ({}, {"userKey": ""}, {"userKey": 7}, {"userKey": "x" * 257}, {"userKey": "a\nb"}):
        assert faults(played_web.operator("POST", f"{one}/cancel", json=bad)) == ["userKey"]


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [(503, "transient", "503"), (429, "transient", "429"), (401, "unauthorized", "401"), (404, "unauthorized", "404")],
)
def test_when_btse_pay_does_not_answer_it_is_502_with_the_kind(
    tmp_path: Any, status: int, kind: str, code: str
) -> None:
    with scripted_server(answering(http_answer(status, b'{"msg": "secret words"}'))) as server:
        bench = Bench(tmp_path, BTSE_BASE_URL=server.url)
        with web_of(bench) as web:
            row = bench.sign_up()
            one = f"{API}/{row.id}/authorization"
            for answer in (web.operator("GET", one), web.operator("POST", f"{one}/cancel", json={"userKey": "uk"})):
                assert is_problem(answer, 502, kind=kind, code=code)
                assert "secret words" not in answer.text
        bench.close()


def test_a_refusal_of_the_query_is_502_and_nobody_there_is_transient(tmp_path: Any) -> None:
    with scripted_server(answering(http_answer(400, b'{"success": false, "msg": "no"}'))) as server:
        bench = Bench(tmp_path, BTSE_BASE_URL=server.url)
        with web_of(bench) as web:
            row = bench.sign_up()
            assert is_problem(web.operator("GET", f"{API}/{row.id}/authorization"), 502, kind="refused")
        bench.close()
    bench = Bench(tmp_path / "other", BTSE_BASE_URL=server.url)
    with web_of(bench) as web:
        row = bench.sign_up()
        answer = web.operator("GET", f"{API}/{row.id}/authorization")
        assert is_problem(answer, 502, kind="transient", code="connection-refused")
    bench.close()


def test_what_a_provider_said_is_for_operators(played_web: Web) -> None:
    bench = played_web.bench
    row = bench.submitted("refused")
    bench.run_to(row, State.NEEDS_ATTENTION)
    shown = played_web.operator("GET", f"{API}/{row.id}").json()
    assert list(shown["lastError"]) == ["provider", "code", "message", "at"]
    assert (shown["lastError"]["provider"], shown["lastError"]["code"]) == ("btse", "400")
    assert shown["lastError"]["message"] == "the user '<email>' ('<merchantUserId>') cannot be taken on"
    assert ISO.fullmatch(shown["lastError"]["at"])


@pytest.mark.sqlite
def test_a_database_that_is_away_is_503_and_acknowledges_nothing(web: Web) -> None:
    said = begun(web)
    for name in ("orchestrator.db", "orchestrator.db-wal"):
        path = web.bench.database.with_name(name)
        path.write_bytes(b"this is no database" * 5_000)
    fresh = web.bench.open()
    answer = create_app(fresh).test_client().get(f"{API}/{said['id']}", headers={"Authorization": "Bearer orc_x"})
    assert answer.status_code == 503
    assert answer.content_type == "application/problem+json"
    assert answer.headers["Retry-After"] == "5"
