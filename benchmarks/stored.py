"""Onboardings made straight in the tables, many a second: what a benchmark begins with.

Each waits in `awaiting_callback` with its profile sealed, one transition, and the callback token of its round. Which
one it is follows from its number: `token(7)` is the secret in the callbackUrl of `name(7)`.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import islice

from benchmarks.processes import Settings
from orchestrator.machine import Event, State
from orchestrator.onboarding import chain
from orchestrator.onboarding.context import Context
from orchestrator.records import CallbackToken, Lane, Onboarding, ShareOutcome, Transition
from orchestrator.seal import plain_hash
from orchestrator.store import rows

PROFILE = {
    "firstName": "Ana",
    "lastName": "Lee",
    "idType": "PASSPORT",
    "idNumber": "K1234567",
    "nationality": "HKG",
    "residentialCountry": "HKG",
    "accountPurpose": "Savings",
    "monthSpend": "Less than 1,000 USD",
    "sourceFunds": "Salary",
    "occupation": "Employed",
    "ip": "203.0.113.7",
    "deviceId": "d-1",
}
_BATCH = 10_000
_TABLES = ("onboardings", "transitions", "callback_tokens")


def token(number: int) -> str:
    """The secret in the callbackUrl of an onboarding."""
    return hashlib.sha256(b"token %d" % number).hexdigest()[:43]


def name(number: int) -> str:
    """The merchantUserId of an onboarding."""
    return f"waiting-{number}"


def user_id(number: int) -> str:
    """What OSL Pay calls the user."""
    return str(10_000_000 + number)


def store_waiting(settings: Settings, count: int, *, whole: int, overdue: int = 0, named: bool = True) -> None:
    """Store `count` waiting onboardings; the first `overdue` of them are to be asked about now, the rest in hours.

    The first `whole` are as the service would have made them, and the newest. The rest are copies of one of these with
    ids of their own, as long in every column, which is quicker; nothing of them can be opened. `named`: OSL Pay's
    userId is known.
    """
    with settings.service() as service:
        context = service.context
    with closing(_fast(settings)) as connection:
        indexes = _without_indexes(connection)
        connection.execute("begin")
        made = _made(context, min(whole, count), overdue, named)
        while batch := list(islice(made, _BATCH)):
            for table, values in zip(_TABLES, zip(*batch, strict=True), strict=True):
                names = list(values[0])
                marks = ", ".join(f":{column}" for column in names)
                connection.executemany(f"insert into {table} ({', '.join(names)}) values ({marks})", values)
        _copy(connection, count - whole, overdue - whole)
        connection.execute(
            "insert into state_counts (state, onboardings) values (?, ?)", (State.AWAITING_CALLBACK, count)
        )
        connection.execute("commit")
        for sql in indexes:
            connection.execute(sql)
        connection.execute("pragma journal_mode = wal")


def _without_indexes(connection: sqlite3.Connection) -> list[str]:
    """Drop what is quicker made at the end; gives the statements that make it again."""
    found = connection.execute(
        "select name, sql from sqlite_master where type = 'index' and sql is not null and tbl_name in (?, ?, ?)",
        _TABLES,
    ).fetchall()
    for index, _ in found:
        connection.execute(f"drop index {index}")
    return [sql for _, sql in found]


def _copy(connection: sqlite3.Connection, count: int, overdue: int) -> None:
    """So many copies of the onboarding stored last; `overdue` of them due an hour ago."""
    if count <= 0:
        return
    number = "(:whole + n)"
    due = "case when n <= :overdue then o.created_at - 3600000 else o.due_at + n end"
    own = {
        "onboardings": {
            "id": "i.id",
            "merchant_user_id": f"'waiting-' || {number}",
            "created_at": "o.created_at - :whole - n",
            "email_hash": "lower(hex(randomblob(32)))",
            "link_hash": "lower(hex(randomblob(32)))",
            "osl_user_id": f"cast(10000000 + {number} as text)",
            "due_at": due,
            "step_at": due,
        },
        "transitions": {"onboarding_id": "i.id"},
        "callback_tokens": {"hash": "lower(hex(randomblob(32)))", "onboarding_id": "i.id"},
    }
    (whole,) = connection.execute("select count(*) from onboardings").fetchone()
    connection.execute("create temporary table ids as select 0 as n, '' as id limit 0")
    connection.execute(
        "with recursive numbers (n) as (select 1 union all select n + 1 from numbers where n < ?)"
        " insert into ids select n, 'onb_' || lower(hex(randomblob(11))) from numbers",
        (count,),
    )
    for table, made in own.items():
        columns = [row[1] for row in connection.execute(f"pragma table_info({table})")]
        values = ", ".join(made.get(column, f"o.{column}") for column in columns)
        connection.execute(
            f"insert into {table} select {values} from ids i,"
            f" (select * from {table} where rowid = (select max(rowid) from {table})) o",
            {"whole": whole, "overdue": overdue},
        )


def _fast(settings: Settings) -> sqlite3.Connection:
    """A connection that is quick because a benchmark's rows may be lost."""
    connection = sqlite3.connect(settings.database, isolation_level=None)
    for pragma in ("journal_mode = off", "synchronous = off", "cache_size = -400000", "ignore_check_constraints = on"):
        connection.execute(f"pragma {pragma}")
    return connection


def _made(context: Context, whole: int, overdue: int, named: bool) -> Iterator[tuple[dict[str, object], ...]]:
    now = context.now_ms()
    template = Onboarding(
        id="",
        merchant_user_id="",
        state=State.AWAITING_CALLBACK,
        created_at=now,
        updated_at=now,
        profile_sealed=b"",
        email_hash="",
        link_hash="",
        link_sealed=b"",
        version=6,
        seq=1,
        lane=Lane.POLL,
        changed=False,
        share=ShareOutcome.ARRIVED,
        share_sent_at=now,
        told=State.AWAITING_CALLBACK,
        submitted_at=now,
    )
    values = rows.onboarding_values(template)
    for number in range(whole):
        onboarding_id = context.new_id("onb")
        created = now - whole + number
        email = f"{name(number)}@example.com"
        identity = {"email": email, "profile": PROFILE}
        link = context.token()
        due = created - 3_600_000 if number < overdue else now + 3_600_000 + number
        row = Transition(
            onboarding_id, 1, created, None, State.AWAITING_CALLBACK, Event.SIGNED_UP, 1, "benchmark", "", ""
        )
        row = chain.link("", row)
        sealed = context.sealer.seal(token(number).encode(), "callback_tokens", onboarding_id, "1")
        yield (
            values
            | {
                "id": onboarding_id,
                "merchant_user_id": name(number),
                "created_at": created,
                "updated_at": created,
                "profile_sealed": context.seal_json(identity, "onboardings", onboarding_id, "profile"),
                "email_hash": context.sealer.hash("email", email),
                "link_hash": plain_hash(link),
                "link_sealed": context.sealer.seal(link.encode(), "onboardings", onboarding_id, "link"),
                "hash": row.hash,
                "osl_user_id": user_id(number) if named else None,
                "due_at": due,
                "step_at": due,
            },
            vars(row),
            vars(CallbackToken(plain_hash(token(number)), onboarding_id, 1, sealed, created)),
        )
