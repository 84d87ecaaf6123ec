"""The pages over real HTTP, on a real database, for tests: a service, its web server, and a browser's manners."""

from __future__ import annotations

import base64
import html
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import requests
from PIL import Image

from orchestrator.bootstrap import Service, build
from orchestrator.config import Config
from orchestrator.errors import Kind, ProviderError
from orchestrator.machine import Event, State
from orchestrator.onboarding import access, collect, look, signup
from orchestrator.onboarding.apply import Failure, Step, apply
from orchestrator.onboarding.context import Context
from orchestrator.records import Callback, Onboarding, Verdict
from orchestrator.web.app import create_app
from tests.databases import Postgresql
from tests.sandbox_process import SandboxProcess, public_pem, rsa_key
from tests.service import Bench, Clock, served

PUBLIC_URL = "https://onboarding.example.com"
START_MS = 1_795_341_600_000
"""2026-11-22T10:00:00Z."""
PROFILE = {
    "firstName": "Ana-Zoraida",
    "lastName": "Quillfeather",
    "idType": "PASSPORT",
    "idNumber": "K7734191",
    "nationality": "HKG",
    "residentialCountry": "HKG",
    "accountPurpose": "Savings",
    "monthSpend": "Less than 1,000 USD",
    "sourceFunds": "Salary",
    "occupation": "Employed",
    "ip": "203.0.113.77",
    "deviceId": "device-of-ana",
}
_TO_SHARING = (Event.SUBMITTED, Event.UPLOADED)
_TO_WAITING = (*_TO_SHARING, Event.SHARE_INTENDED, Event.SHARED)
PATHS: dict[State, Sequence[Event]] = {
    State.COLLECTING: (),
    State.UPLOADING: (Event.SUBMITTED,),
    State.SHARING: _TO_SHARING,
    State.AWAITING_CALLBACK: _TO_WAITING,
    State.IN_REVIEW: (*_TO_WAITING, Event.CALLBACK_REVIEW),
    State.CONFIRMING: (*_TO_WAITING, Event.CALLBACK_PASS),
    State.APPROVED: (*_TO_WAITING, Event.CALLBACK_PASS, Event.CONFIRMED_PASS),
    State.REJECTED: (*_TO_WAITING, Event.CALLBACK_FINAL_REJECT, Event.CONFIRMED_FINAL_REJECT),
    State.NEEDS_ATTENTION: (*_TO_SHARING, Event.GAVE_UP),
    State.CANCELLED: (Event.CANCEL_ASKED,),
    State.EXPIRED: (Event.TIME_RAN_OUT,),
}
"""For each state, the events that lead there from a signup."""
_CALLBACKS = {
    Event.CALLBACK_PROCESS: "PROCESS",
    Event.CALLBACK_REVIEW: "REVIEW",
    Event.CALLBACK_PASS: "PASS",
    Event.CALLBACK_REJECT: "REJECT",
    Event.CALLBACK_FINAL_REJECT: "FINAL_REJECT",
}


@dataclass
class Browser:
    """A browser without scripts: keeps cookies, asks for pages, sends `Origin` with its forms."""

    base: str
    session: requests.Session = field(default_factory=requests.Session)

    def __post_init__(self) -> None:
        self.session.trust_env = False
        self.session.headers["Accept"] = "text/html,application/xhtml+xml,*/*;q=0.8"

    def get(self, path: str, **how: Any) -> requests.Response:
        return self.session.get(self.base + path, timeout=20, **how)

    def post(
        self, path: str, data: Mapping[str, Any] | None = None, *, origin: str | None = "", **how: Any
    ) -> requests.Response:
        """Send a form. `origin`: '' is the page's own, None sends none."""
        headers = {} if origin is None else {"Origin": origin or self.base}
        headers |= how.pop("headers", {})
        how.setdefault("allow_redirects", False)
        return self.session.post(self.base + path, data=data, headers=headers, timeout=20, **how)

    def sign_in(self, token: str) -> requests.Response:
        return self.post("/login", {"token": token})

    def act(self, page: str, path: str, **data: Any) -> requests.Response:
        """Send a form as `page` would, with the token that its forms carry."""
        found = re.search(r'name="csrf" value="([0-9a-f]+)"', self.get(page).text)
        assert found, f"{page} has no form"
        return self.post(path, {"csrf": found[1], **data})


@dataclass
class Pages:
    """A running server and what is behind it."""

    service: Service
    environ: Mapping[str, str]
    url: str
    clock: Clock
    operator: str
    viewer: str
    merchant: str
    browsers: list[Browser] = field(default_factory=list)

    @property
    def context(self) -> Context:
        return self.service.context

    def browser(self, token: str = "") -> Browser:
        """A browser, signed in with `token` if one is given."""
        browser = Browser(self.url)
        self.browsers.append(browser)
        if token:
            assert browser.sign_in(token).status_code == 303
        return browser

    @contextmanager
    def elsewhere(self) -> Iterator[Browser]:
        """A browser whose requests another process answers, over the same database."""
        with (
            closing(build(Config.from_env(self.environ), now_ms=self.clock)) as service,
            served(create_app(service)) as url,
        ):
            browser = Browser(url)
            yield browser
            browser.session.close()

    def sign_up(
        self, merchant_user_id: str, *, profile: Mapping[str, str] | None = None, email: str | None = None
    ) -> Onboarding:
        """A new onboarding in `collecting`."""
        data = {
            "merchantUserId": merchant_user_id,
            "email": email or "secret.person@example.com",
            "profile": dict(profile or {}),
        }
        row, _ = signup.sign_up(self.context, signup.checked_signup(self.context, data), "merchant:shop")
        return row

    def in_state(self, state: State, merchant_user_id: str, **signed_up: Any) -> Onboarding:
        """A new onboarding that was led to `state`, one second for each step."""
        row = self.sign_up(merchant_user_id, **signed_up)
        for event in PATHS[state]:
            self.clock.now += 1_000
            row = self.happen(row.id, event)
        return row

    def happen(self, onboarding_id: str, event: Event, **step: Any) -> Onboarding:
        """Let one event happen; one that a callback brings comes with it, one that gives up with an error."""
        if event is Event.GAVE_UP:
            error = ProviderError("osl", Kind.REFUSED, "00002", words="the document of Quillfeather is blurred")
            step.setdefault("failure", Failure(error))
            step.setdefault("detail", str(error))
        if event in _CALLBACKS:
            callback = self._callback(onboarding_id, _CALLBACKS[event])
            step |= {"callbacks": [callback], "claim_callback": callback.id}
        if event is Event.UPLOADED:
            step.setdefault("changes", {"changed": False})
        if event is Event.SHARE_INTENDED:
            step.setdefault("changes", {"share_sent_at": self.clock.now})
        if event is Event.SHARED:
            step.setdefault("changes", {"osl_user_id": f"7300{onboarding_id.encode()[4:8].hex()}"})
        if event is Event.CONFIRMED_PASS:
            step.setdefault("changes", {"kyc_status": "PASS"})
        return apply(self.context, onboarding_id, lambda row: [Step(event, "worker", **step)])

    def forge(self, onboarding_id: str) -> None:
        """A webhook that claims PASS was refused as forged."""
        forged = replace(self._callback(onboarding_id, "PASS"), verdict=Verdict.FORGED)
        apply(self.context, onboarding_id, lambda row: [Step(Event.CALLBACK_DOUBTED, "osl_pay", callbacks=[forged])])

    def link(self, onboarding_id: str) -> str:
        """The path of the end user's page."""
        url = look.view(self.context, look.find(self.context, onboarding_id)).upload_url
        return url.removeprefix(PUBLIC_URL)

    def state(self, onboarding_id: str) -> State:
        return look.find(self.context, onboarding_id).state

    def profile(self, onboarding_id: str) -> dict[str, str]:
        _, profile = self.context.identity(look.find(self.context, onboarding_id))
        return profile

    def _callback(self, onboarding_id: str, status: str) -> Callback:
        context, row = self.context, look.find(self.context, onboarding_id)
        return Callback(
            id=context.new_id("cbk"),
            received_at=self.clock.now - 1,
            app_id="sandbox-app",
            timestamp=self.clock.now - 1,
            token_hash=f"of-{row.id}-{row.round}",
            onboarding_id=row.id,
            round=row.round,
            type="kyc_status_change",
            kyc_status=status,
            osl_user_id=None,
            body_sealed=b"-",
            body_sha256="-",
            verdict=Verdict.APPLIED,
        )


@contextmanager
def pages_server(folder: Path, **settings: str) -> Iterator[Pages]:
    """Serve the pages over a new database, in `folder` or on the server that benches are made on."""
    clock = Clock(START_MS)
    with ExitStack() as stack:
        if Bench.server is not None:
            database = stack.enter_context(closing(Postgresql(Bench.server, goes=False)))
            clock.lead(database.tell)
            settings = {"ORCHESTRATOR_DATABASE_URL": database.url, **settings}
        environ = environment(folder) | settings
        service = stack.enter_context(closing(build(Config.from_env(environ), now_ms=clock)))
        service.migrate()
        pages = Pages(
            service,
            environ,
            stack.enter_context(served(create_app(service))),
            clock,
            access.create_token(service.context, "olga", "operator"),
            access.create_token(service.context, "vic", "viewer"),
            access.create_token(service.context, "shop", "merchant"),
        )
        try:
            yield pages
        finally:
            for browser in pages.browsers:
                browser.session.close()


def environment(folder: Path) -> dict[str, str]:
    """Settings of a service in `folder` whose providers nobody plays."""

    def secret() -> str:
        return f"whsec_{base64.b64encode(os.urandom(24)).decode()}"

    return {
        **SandboxProcess.credentials(),
        "OSL_WEBHOOK_PUBLIC_KEY": public_pem(rsa_key("osl")),
        "BTSE_BASE_URL": "http://127.0.0.1:9/btse",
        "OSL_BASE_URL": "http://127.0.0.1:9/osl",
        "ORCHESTRATOR_DATABASE_URL": f"sqlite:///{folder}/pages.db",
        "ORCHESTRATOR_DOCUMENTS_URL": f"file:{folder}/documents",
        "ORCHESTRATOR_ENCRYPTION_KEYS": base64.b64encode(os.urandom(32)).decode(),
        "ORCHESTRATOR_PUBLIC_URL": PUBLIC_URL,
        "ORCHESTRATOR_SIGNUP_SECRETS": secret(),
        "ORCHESTRATOR_NOTIFY_URL": "http://127.0.0.1:9/merchant",
        "ORCHESTRATOR_NOTIFY_SECRET": secret(),
        "ORCHESTRATOR_TRUSTED_PROXIES": "1",
    }


def picture(colour: str = "teal", form: str = "JPEG") -> bytes:
    """A small valid image."""
    buffer = BytesIO()
    Image.new("RGB", (8, 8), colour).save(buffer, form)
    return buffer.getvalue()


def visible(page: str) -> str:
    """A page's text, without tags, spaces run together."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())


def put_documents(pages: Pages, onboarding_id: str, *kinds: str) -> None:
    """Store a small picture of each kind."""
    for kind in kinds:
        collect.put_document(pages.context, look.find(pages.context, onboarding_id), kind, picture(), "merchant:shop")
