"""A merchant's backend: signs users up for verification and follows what becomes of them.

Everything that a real one needs is here: the signed hook, sent again under the same id when it failed and under a
new one when what it began is over; the notifications, verified, taken once, and the newest one believed.
"""

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import requests
from flask import Flask, Response, redirect, render_template_string, request
from standardwebhooks import Webhook, WebhookVerificationError

VERIFICATION_URL = os.environ["VERIFICATION_URL"]
SIGNUP = Webhook(os.environ["SIGNUP_SECRET"])
NOTIFICATIONS = Webhook(os.environ["NOTIFY_SECRET"])
DATABASE = os.environ.get("MERCHANT_DATABASE", "merchant.db")

app = Flask(__name__)

TABLES = """
create table if not exists users (
    id integer primary key, email text not null unique, attempt integer not null default 1, upload_url text,
    state text not null default 'new', reason text, told_at text not null default ''
);
create table if not exists seen (webhook_id text primary key);
"""
PAGE = """<!doctype html><html lang="en"><meta name="viewport" content="width=device-width"><title>Shop</title>
<style>body { font: 1rem/1.5 sans-serif; max-width: 40rem; margin: 2rem auto; padding: 0 1rem }</style>
<h1>Our shop</h1>
<form method="post" action="/users">
<label>Email <input type="email" name="email" required></label> <button>Sign up</button></form>
<ul>{% for user in users %}<li>{{ user.merchantUserId }}: {{ user.state }}
{%- if user.reason %} ({{ user.reason }}){% endif %}
{%- if user.uploadUrl and user.state in ("collecting", "resubmission_required") %}
<a href="{{ user.uploadUrl }}">continue</a>{% endif %}</li>{% endfor %}</ul></html>"""


@contextmanager
def database() -> Iterator[sqlite3.Connection]:
    """One transaction."""
    connection = sqlite3.connect(DATABASE, timeout=10)
    connection.row_factory = sqlite3.Row
    try:
        connection.executescript(TABLES)
        with connection:
            yield connection
    finally:
        connection.close()


@app.get("/")
def page() -> str:
    """All users."""
    with database() as db:
        return render_template_string(PAGE, users=[shown(row) for row in db.execute("select * from users order by id")])


@app.get("/users/<int:number>")
def one(number: int) -> Any:
    """What is known of one."""
    with database() as db:
        row = db.execute("select * from users where id = ?", [number]).fetchone()
    return shown(row) if row else ({"error": "no such user"}, 404)


@app.post("/users")
def sign_up() -> Any:
    """Begin for the email in the form. Who is sent here again goes on where they were."""
    email = request.form["email"]
    with database() as db:
        db.execute("insert or ignore into users (email) values (?)", [email])
        row = db.execute("select * from users where email = ?", [email]).fetchone()
    try:
        onboarding = send_hook(row["id"], row["attempt"], email)
        if is_over(onboarding, row["id"]):
            attempt = row["attempt"] + 1
            with database() as db:
                db.execute("update users set attempt = ? where id = ?", [attempt, row["id"]])
            onboarding = send_hook(row["id"], attempt, email)
    except requests.HTTPError as error:
        if error.response.status_code == 422:
            return {"error": "the verification does not take this", "errors": error.response.json().get("errors")}, 422
        return {"error": "the verification refuses our signature or fails; please try again"}, 503
    except requests.RequestException:
        return {"error": "the verification cannot be reached; please try again"}, 503
    with database() as db:
        # A notification about it may have come in between: what it said is newer.
        begun = onboarding["createdAt"]
        db.execute("update users set upload_url = ? where id = ?", [onboarding["uploadUrl"], row["id"]])
        db.execute(
            "update users set state = ?, reason = null, told_at = ? where id = ? and told_at < ?",
            [onboarding["state"], begun, row["id"], begun],
        )
        row = db.execute("select * from users where id = ?", [row["id"]]).fetchone()
    if "text/html" in request.headers.get("Accept", ""):
        return redirect(row["upload_url"], 303)
    return shown(row), 201


@app.post("/kyc")
def told() -> Response:
    """What the orchestrator tells: any 2xx means that it is stored here, anything else that it comes again."""
    try:
        event = NOTIFICATIONS.verify(request.get_data(), dict(request.headers))
    except (WebhookVerificationError, ValueError):
        return Response(status=401)
    data = event["data"]
    with database() as db:
        new = db.execute("insert or ignore into seen values (?)", [request.headers["webhook-id"]]).rowcount
        if new:
            # One that failed for days and was sent again by hand may come after newer ones: the newest counts.
            db.execute(
                "update users set state = ?, reason = ?, told_at = ? where 'u-' || id = ? and told_at <= ?",
                [
                    event["type"].removeprefix("onboarding."),
                    data["reason"],
                    event["timestamp"],
                    data["merchantUserId"],
                    event["timestamp"],
                ],
            )
    return Response(status=204)


def is_over(onboarding: dict[str, Any], number: int) -> bool:
    """Whether it was given up, ran out of time or was erased: then the user may begin anew."""
    return onboarding["state"] in ("cancelled", "expired") or onboarding["merchantUserId"] != f"u-{number}"


def send_hook(number: int, attempt: int, email: str) -> dict[str, Any]:
    """Tell the orchestrator of a signup.

    The id is made from the user, so that sending it twice begins nothing twice, and from the attempt: the same id
    gives for ever what it first gave, also when that is over.
    """
    now, webhook_id = datetime.now(UTC), f"signup-{number}-{attempt}"
    body = json.dumps(
        {
            "type": "user.signup",
            "timestamp": now.isoformat(),
            "data": {"merchantUserId": f"u-{number}", "email": email},
        }
    )
    answer = requests.post(
        f"{VERIFICATION_URL}/hooks/signup",
        data=body,
        headers={
            "content-type": "application/json",
            "webhook-id": webhook_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": SIGNUP.sign(webhook_id, now, body),
        },
        timeout=10,
    )
    answer.raise_for_status()
    onboarding: dict[str, Any] = answer.json()
    return onboarding


def shown(row: sqlite3.Row) -> dict[str, Any]:
    """A user as the pages and the JSON have it."""
    return {
        "merchantUserId": f"u-{row['id']}",
        "state": row["state"],
        "reason": row["reason"],
        "uploadUrl": row["upload_url"],
    }
