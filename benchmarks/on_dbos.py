"""The job of `job.py` on DBOS Transact with SQLite: the same API, calls to providers, sealing and notification.

One workflow for a user, begun at the signup. What comes in later (documents, submit, webhook) is sent to it as a
durable message before the request is answered; each call to a provider is a step. The clients of the providers, the
sealing and the files are the orchestrator's own; checks, rounds, retries by kind and pages are left out.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from typing import Any

from dbos import DBOS, DBOSConfig, SetWorkflowID
from flask import Flask, request

from orchestrator import bootstrap
from orchestrator.config import Config
from orchestrator.onboarding.profile import BTSE_FIELDS
from orchestrator.providers.answers import ProviderFile
from orchestrator.records import Delivery, DeliveryStatus, Document
from orchestrator.signatures import osl_verify

_PATIENCE = 600.0
_DOCUMENTS = 2

app = Flask("on_dbos")
service = bootstrap.build(Config.from_env())
context = service.context


@DBOS.step()
def upload(user: dict[str, Any], documents: list[dict[str, str]]) -> None:
    """BTSE Pay."""
    profile = _opened(user)
    fields = {name: profile["profile"][name] for name in BTSE_FIELDS}
    fields |= {"email": profile["email"], "merchantUserId": user["merchantUserId"]}
    files = {
        document["kind"]: ProviderFile(f"{document['kind']}.jpg", "image/jpeg", _content(user["id"], document))
        for document in documents
    }
    context.btse.upload_kyc(fields, files)


@DBOS.step()
def share(user: dict[str, Any], token: str) -> str | None:
    """OSL Pay."""
    profile = _opened(user)
    return context.osl.share(
        email=profile["email"],
        merchant_user_id=user["merchantUserId"],
        profile=profile["profile"],
        file_urls={},
        callback_url=f"{context.rules.public_url}/callbacks/oslpay/{token}",
    ).value


@DBOS.step()
def confirm(user: dict[str, Any], user_id: str) -> str | None:
    """What OSL Pay's status query says."""
    answer = context.osl.kyc_status(user["merchantUserId"], user_id).value
    return None if answer is None else answer.kyc_status


@DBOS.step()
def tell(user: dict[str, Any], notice: str) -> None:
    """The merchant."""
    assert context.merchant
    delivery_id = f"dlv_{secrets.token_hex(8)}"
    body = json.dumps({"type": notice, "data": {"id": user["id"], "merchantUserId": user["merchantUserId"]}})
    sealed = context.sealer.seal(body.encode(), "deliveries", delivery_id, "body")
    context.merchant.send(Delivery(delivery_id, user["id"], 1, notice, sealed, DeliveryStatus.PENDING, 0, None))


@DBOS.workflow()
def onboard(user: dict[str, Any]) -> str:
    """One user's way through."""
    documents = [DBOS.recv("document", _PATIENCE) for _ in range(_DOCUMENTS)]
    DBOS.recv("submit", _PATIENCE)
    tell(user, "onboarding.submitted")
    upload(user, documents)
    # The workflow's own id is the token: messages are sent to it by that.
    share(user, user["id"])
    claim = DBOS.recv("webhook", _PATIENCE)
    state = "approved" if confirm(user, claim["userId"]) == claim["kycStatus"] else "needs_attention"
    tell(user, f"onboarding.{state}")
    return state


@app.post("/api/v1/onboardings")
def begin() -> tuple[dict[str, str], int]:
    """A signup."""
    data = request.get_json()
    onboarding_id = f"onb_{secrets.token_hex(16)}"
    profile = {"email": data["email"], "profile": data["profile"]}
    sealed = context.seal_json(profile, "onboardings", onboarding_id, "profile")
    user = {"id": onboarding_id, "merchantUserId": data["merchantUserId"], "sealed": sealed.hex()}
    with SetWorkflowID(onboarding_id):
        DBOS.start_workflow(onboard, user)
    return {"id": onboarding_id}, 201


@app.put("/api/v1/onboardings/<onboarding_id>/documents/<kind>")
def document(onboarding_id: str, kind: str) -> dict[str, str]:
    """A document: its file first, then the message that names it."""
    content = request.get_data()
    sha256 = hashlib.sha256(content).hexdigest()
    location = context.documents.put(onboarding_id, kind, sha256, content)
    DBOS.send(onboarding_id, {"kind": kind, "sha256": sha256, "location": location}, "document")
    return {"id": onboarding_id}


@app.post("/api/v1/onboardings/<onboarding_id>/submit")
def submit(onboarding_id: str) -> tuple[dict[str, str], int]:
    """All is there."""
    DBOS.send(onboarding_id, True, "submit")
    return {"id": onboarding_id}, 202


@app.post("/callbacks/oslpay/<token>")
def callback(token: str) -> tuple[dict[str, str], int]:
    """OSL Pay's webhook."""
    app_id, timestamp, signature = (request.headers[name] for name in ("appId", "timestamp", "signature"))
    if not osl_verify(context.osl_public_key, app_id, timestamp, signature):
        return {"code": "00001", "msg": "signature"}, 401
    DBOS.send(token, request.get_json()["data"], "webhook", idempotency_key=f"{token}-{timestamp}")
    return {"code": "00000", "msg": "success"}, 200


def _opened(user: dict[str, Any]) -> dict[str, Any]:
    opened: dict[str, Any] = context.open_json(bytes.fromhex(user["sealed"]), "onboardings", user["id"], "profile")
    return opened


def _content(onboarding_id: str, named: dict[str, str]) -> bytes:
    kind, sha256, location = named["kind"], named["sha256"], named["location"]
    return context.documents.get(Document(onboarding_id, kind, "image/jpeg", 0, sha256, location, 0))


_config: DBOSConfig = {
    "name": "kyc-benchmark",
    "system_database_url": os.environ["BENCHMARK_DBOS_DATABASE"],
    "log_level": "WARNING",
    # As shipped it looks for messages once a second only.
    "notification_listener_polling_interval_sec": 0.01,
    "max_executor_threads": 64,
}
DBOS(config=_config)
DBOS.launch()
