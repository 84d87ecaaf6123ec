"""`delivery`, `replay` and `trigger`: trying again, and trying out."""

from __future__ import annotations

import json
import secrets
import sys
from datetime import UTC, datetime
from urllib.parse import urlsplit

import click
import requests
from standardwebhooks import Webhook

from orchestrator.cli.refusals import tell
from orchestrator.cli.wiring import ACTOR, opened
from orchestrator.config import Config
from orchestrator.errors import InvalidInput, OrchestratorError
from orchestrator.onboarding import look, operate
from orchestrator.onboarding.doctor import is_loopback
from orchestrator.web.schemas import delivery_json

_SECONDS = 30


@click.group()
def delivery() -> None:
    """List and resend what the merchant is told."""


@delivery.command("list")
@click.argument("id_", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def list_deliveries(id_: str, as_json: bool) -> None:
    """List the notifications about an onboarding."""
    with opened() as service:
        row = look.find_by_any_id(service.context, id_)
        items = [delivery_json(item) for item in look.deliveries(service.context, row)]
    if as_json:
        click.echo(json.dumps({"items": items}))
        return
    for item in items:
        click.echo(f"{item['id']}  {item['createdAt']}  {item['type']:<36} {item['status']}, {item['attempts']} tries")


@delivery.command()
@click.argument("delivery_id")
def resend(delivery_id: str) -> None:
    """Send a delivered or failed notification again."""
    with opened() as service:
        operate.resend_delivery(service.context, delivery_id)
    click.echo(f"{delivery_id} is in line again")


@click.command()
@click.argument("callback_ids", metavar="CALLBACK_ID...", nargs=-1, required=True)
def replay(callback_ids: tuple[str, ...]) -> None:
    """Treat stored callbacks as stale ones: OSL Pay is asked what is true."""
    failed = False
    with opened() as service:
        for callback_id in callback_ids:
            try:
                row = operate.replay(service.context, callback_id, ACTOR)
                click.echo(f"{callback_id}: {row.id} is {row.state}; OSL Pay will be asked")
            except OrchestratorError as error:
                failed = True
                tell(error, callback_id)
    sys.exit(1 if failed else 0)


@click.group()
def trigger() -> None:
    """Send what others would send, correctly signed."""


@trigger.command()
@click.option("--merchant-user-id", required=True, help="The user's id at the merchant.")
@click.option("--email", required=True, help="The user's email.")
@click.option("--profile", "pairs", multiple=True, metavar="NAME=VALUE", help="A profile field; may be repeated.")
@click.option("--url", help="The service's base URL; default ORCHESTRATOR_PUBLIC_URL.")
def signup(merchant_user_id: str, email: str, pairs: tuple[str, ...], url: str | None) -> None:
    """Send a signup hook and print the answer."""
    config = Config.from_env()
    if any("=" not in pair for pair in pairs):
        raise click.UsageError("--profile takes NAME=VALUE")
    profile = dict(pair.split("=", 1) for pair in pairs)
    now = datetime.now(UTC)
    data = {"merchantUserId": merchant_user_id, "email": email, "profile": profile}
    body = json.dumps({"type": "user.signup", "timestamp": now.isoformat(), "data": data})
    webhook_id = f"msg_{secrets.token_hex(12)}"
    headers = {
        "content-type": "application/json",
        "webhook-id": webhook_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(config.signup_secrets[0]).sign(webhook_id, now, body),
    }
    answer = _post(f"{url or config.public_url}/hooks/signup", body, headers)
    sys.exit(0 if answer.ok else 1)


@trigger.command()
@click.argument("id_", metavar="ID")
@click.option("--status", "kyc_status", default="PASS", show_default=True, help="The kycStatus that it claims.")
def callback(id_: str, kyc_status: str) -> None:
    """Have the sandbox send OSL Pay's webhook about an onboarding; OSL_BASE_URL must be on this machine."""
    with opened() as service:
        base = urlsplit(service.config.osl_base_url)
        if not is_loopback(base.hostname or ""):
            raise InvalidInput("OSL_BASE_URL is not on this machine: callbacks are triggered at a sandbox only")
        row = look.find_by_any_id(service.context, id_)
    body = json.dumps({"merchantUserId": row.merchant_user_id, "kycStatus": kyc_status})
    answer = _post(f"{base.scheme}://{base.netloc}/sandbox/webhooks", body, {"content-type": "application/json"})
    sys.exit(0 if answer.ok and 200 <= answer.json()["status"] < 300 else 1)


def _post(url: str, body: str, headers: dict[str, str]) -> requests.Response:
    try:
        answer = requests.post(url, data=body, headers=headers, timeout=_SECONDS, allow_redirects=False)
    except requests.RequestException as error:
        raise OrchestratorError(f"nothing answers there ({type(error).__name__}): is it running?") from error
    click.echo(f"{answer.status_code} {answer.text.strip()}")
    return answer
