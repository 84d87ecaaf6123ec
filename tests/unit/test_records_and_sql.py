"""Records, enums and SQL say the same thing."""

from __future__ import annotations

import ast
import re
from dataclasses import FrozenInstanceError, fields, is_dataclass, replace
from enum import StrEnum
from pathlib import Path
from string import Template

import pytest

from orchestrator import records, store
from orchestrator.health import ProviderHealth
from orchestrator.machine import CLAIMS, Event, State
from orchestrator.onboarding.profile import DOCUMENT_KINDS
from orchestrator.records import (
    AccessToken,
    Callback,
    CallbackToken,
    Delivery,
    DeliveryStatus,
    Document,
    Lane,
    Onboarding,
    ShareOutcome,
    Transition,
    Verdict,
    changed,
)
from orchestrator.store import SqliteDriver, rows
from orchestrator.store.driver import migrations, statements

STORE = Path(store.__file__).parent
QUERIES = (STORE / "queries.sql").read_text("utf-8")
MIGRATIONS = {path.name: path.read_text("utf-8") for path in sorted((STORE / "migrations").glob("*.sql"))}
SCHEMA = "\n".join(MIGRATIONS.values())
MOST_MARKS = 10


def table(name: str) -> str:
    """The definition of one table."""
    found = re.search(rf"^create table {name} \(\n(.*?)^\)", SCHEMA, re.MULTILINE | re.DOTALL)
    assert found, name
    return found[1]


def columns(name: str) -> list[str]:
    return re.findall(r"^    (\w+) (?:text|\$)", table(name), re.MULTILINE)


def allowed(name: str, column: str) -> set[str]:
    """The words that a column's CHECK allows."""
    found = re.search(rf"check \({column} in \(([^)]*)\)\)", table(name))
    assert found, f"{name}.{column} has no check"
    return set(re.findall(r"'(\w*)'", found[1]))


def statement_texts() -> dict[str, str]:
    return dict(statements(**dict.fromkeys(marks_of(QUERIES), "")))


# Enums and checks ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("column", ["state", "resume", "claim_resume", "told"])
def test_the_states_that_the_schema_allows_are_those_of_the_machine(column: str) -> None:
    assert allowed("onboardings", column) == set(State)


@pytest.mark.parametrize(
    ("name", "column", "words"),
    [
        ("onboardings", "claim", set(CLAIMS)),
        ("onboardings", "lane", set(Lane)),
        ("onboardings", "share", set(ShareOutcome)),
        ("callbacks", "verdict", set(Verdict) - {Verdict.DUPLICATE}),
        ("deliveries", "status", set(DeliveryStatus)),
        ("documents", "kind", set(DOCUMENT_KINDS)),
        ("documents", "media_type", {"image/jpeg", "image/png", "application/pdf"}),
        ("access_tokens", "role", {"merchant", "operator", "viewer"}),
    ],
)
def test_the_words_that_the_schema_allows_are_those_of_the_code(name: str, column: str, words: set[str]) -> None:
    found = re.search(rf"check \({column} in \((.*?)\)\)", table(name), re.DOTALL)

    assert found
    assert set(re.findall(r"'([\w/]*)'", found[1])) == words


def test_the_words_of_the_schema_are_written_once_each_in_every_check() -> None:
    for listed in re.findall(r" in \(([^)]*)\)", SCHEMA):
        words = re.findall(r"'([^']*)'", listed)
        assert len(words) == len(set(words)), listed


def test_the_closed_states_of_the_live_index_and_of_the_queries_are_those_of_the_machine() -> None:
    listed = re.findall(r"state not in \(([^)]*)\)", SCHEMA + QUERIES)

    assert len(listed) >= 3
    for words in listed:
        assert set(re.findall(r"'(\w+)'", words)) == {State.CANCELLED, State.EXPIRED}


def test_the_verdicts_are_those_of_the_contract() -> None:
    assert [verdict.value for verdict in Verdict] == [
        "applied",
        "duplicate",
        "forged",
        "ignored",
        "stale",
        "outdated",
        "superseded",
        "early",
        "contradicted",
        "unaddressed",
        "orphan",
    ]


def test_the_lanes_that_cost_a_request_of_osl_pay_go_confirmations_shares_polls() -> None:
    assert records.OSL_LANES == (Lane.CONFIRM, Lane.SHARE, Lane.POLL)


# Records and columns -------------------------------------------------------------------------------------------

PAIRS = [
    ("onboardings", Onboarding),
    ("documents", Document),
    ("transitions", Transition),
    ("callbacks", Callback),
    ("callback_tokens", CallbackToken),
    ("deliveries", Delivery),
    ("access_tokens", AccessToken),
    ("providers", ProviderHealth),
]


@pytest.mark.parametrize(("name", "record"), PAIRS)
def test_every_column_is_a_field_of_its_record_and_the_other_way_round(name: str, record: type) -> None:
    assert sorted(columns(name)) == sorted(field.name for field in fields(record))


def test_a_column_may_be_null_exactly_where_the_field_may_be_none() -> None:
    for name, record in PAIRS:
        lines = dict(re.findall(r"^    (\w+) ((?:text|\$)[^\n]*)", table(name), re.MULTILINE))
        for field in fields(record):
            assert ("None" in str(field.type)) == ("not null" not in lines[field.name]), f"{name}.{field.name}"


def test_every_record_is_frozen() -> None:
    kinds = [value for value in vars(records).values() if isinstance(value, type) and is_dataclass(value)]

    assert len(kinds) >= 8
    for kind in kinds:
        assert kind.__dataclass_params__.frozen, kind  # type: ignore[attr-defined]
    token = AccessToken("a", "viewer", "h", 1)
    with pytest.raises(FrozenInstanceError):
        token.name = "b"  # type: ignore[misc]


def onboarding() -> Onboarding:
    return Onboarding(
        id="onb_1",
        merchant_user_id="u-1",
        state=State.CONFIRMING,
        created_at=1,
        updated_at=2,
        profile_sealed=b"p",
        email_hash="e",
        link_hash="l",
        link_sealed=b"s",
        resume=State.IN_REVIEW,
        claim=Event.CALLBACK_PASS,
        claim_callback="cbk_1",
        claim_resume=State.AWAITING_CALLBACK,
        lane=Lane.CONFIRM,
        due_at=3,
        share=ShareOutcome.ARRIVED,
        changed=False,
        prior_reject=True,
        told=State.AWAITING_CALLBACK,
    )


def test_an_onboarding_survives_the_way_into_a_row_and_back() -> None:
    before = onboarding()

    after = rows.onboarding({**rows.onboarding_values(before), "lease": None, "lease_until": None})

    assert after == before
    assert isinstance(after.state, State)
    assert isinstance(after.claim, Event)
    assert after.changed is False
    assert after.prior_reject is True


def test_health_survives_the_way_into_a_row_and_back() -> None:
    before = ProviderHealth("osl", ("onb_1", "onb_2"), 5, 6, "onb_1", 7, 8, "unauthorized (401)", -9)

    assert rows.health(rows.health_values(before)) == before


def test_an_unknown_word_in_a_row_is_an_error_and_no_guess() -> None:
    values = {**rows.onboarding_values(onboarding()), "lease": None, "lease_until": None}

    with pytest.raises(ValueError, match="paused"):
        rows.onboarding({**values, "state": "paused"})


def test_writing_an_onboarding_names_every_column_but_the_lease() -> None:
    inserted, moved, identity = (
        set(re.findall(r":(\w+)", statement_texts()[name]))
        for name in ("insert_onboarding", "update_onboarding", "update_identity")
    )

    assert inserted == {field.name for field in fields(Onboarding)} - {"lease", "lease_until"}
    assert moved | identity == inserted - {"created_at"}
    assert moved & identity == {"id"}
    assert identity == {"id", *rows.IDENTITY}


def test_a_changed_record_differs_in_what_was_named_alone() -> None:
    before = onboarding()

    after = changed(before, round=7)

    assert after == replace(before, round=7)
    assert before.round != 7
    assert hash(after) == hash(replace(before, round=7))
    with pytest.raises(TypeError, match="no field rounds"):
        changed(before, rounds=7)


# The statements ------------------------------------------------------------------------------------------------


def test_every_statement_has_a_name_and_a_purpose() -> None:
    parts = re.split(r"^-- name: (\w+)\n", QUERIES, flags=re.MULTILINE)
    names, bodies = parts[1::2], parts[2::2]

    assert len(names) == len(set(names)) > 50
    for name, body in zip(names, bodies, strict=True):
        purpose = re.match(r"-- [A-Z].{5,}\n", body)
        assert purpose, f"{name} has no purpose"
        assert re.match(r"(-- .*\n)+\s*(?:insert|update|select|delete|with) ", body), f"{name} is no statement"
        assert body.count(";\n") == 1, f"{name} is more than one statement"


def called_statements() -> list[str]:
    """Patterns of the names given to a session's `rows` and `run`, and to the store's own shorthands."""
    found: list[str] = []
    for path in STORE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and node.args:
                called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                if called in ("rows", "run", "_rows", "_onboarding", "_each") or (
                    called == "count" and ast.unparse(node.func) == "session.count"
                ):
                    found += name_patterns(node.args[0])
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "statement":
                found += [pattern for part in ast.walk(node.value) for pattern in name_patterns(part)]
    return found


def name_patterns(node: ast.AST) -> list[str]:
    """A name as it is written, or with any table's name where one is filled in."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value:
        return [re.escape(node.value)]
    if isinstance(node, ast.JoinedStr):
        parts = [re.escape(str(part.value)) if isinstance(part, ast.Constant) else r"\w+" for part in node.values]
        return ["".join(parts)]
    return []


def test_every_statement_is_used_and_every_statement_that_is_used_is_there() -> None:
    known, called = statement_texts(), called_statements()

    assert [name for name in known if not any(re.fullmatch(pattern, name) for pattern in called)] == []
    assert [pattern for pattern in called if not any(re.fullmatch(pattern, name) for name in known)] == []


def test_the_driver_fills_at_most_ten_kinds_of_marks_and_at_most_ten_places_in_the_queries() -> None:
    marks = {name for text in (QUERIES, SCHEMA) for name in marks_of(text)}

    assert marks == {"skip_locked", "for_update", "int", "bytes", "strict"}
    assert len(marks) <= MOST_MARKS
    assert len(marks_of(QUERIES)) <= MOST_MARKS


def marks_of(text: str) -> list[str]:
    """The marks outside comments."""
    return re.findall(r"\$(\w+)", re.sub(r"--.*", "", text))


def test_a_mark_that_the_driver_does_not_know_is_an_error() -> None:
    with pytest.raises(KeyError):
        statements()
    with pytest.raises(KeyError):
        migrations(int="integer")


def test_no_statement_speaks_the_dialect_of_one_database() -> None:
    text = re.sub(r"--.*", "", Template(QUERIES + SCHEMA).safe_substitute()).lower()

    for word in ("autoincrement", "insert or ", "rowid", "datetime(", "now()", "pragma", "glob ", "::", "ilike"):
        assert word not in text, word
    assert "?" not in text


def test_the_schema_prepares_every_statement(tmp_path: Path) -> None:
    driver = SqliteDriver(tmp_path / "prepared.db")
    try:
        driver.migrate()
        for name, text in statement_texts().items():
            parameters = dict.fromkeys(re.findall(r":(\w+)", text))
            explained = driver.read(lambda session, text=text, given=parameters: explain(session, text, given))
            assert explained, name
    finally:
        driver.close()


def explain(session: object, text: str, parameters: dict[str, None]) -> list[object]:
    database = session.database  # type: ignore[attr-defined]
    return list(database.execute(f"explain {text}", parameters).fetchall())


def test_what_is_due_and_what_a_page_shows_is_found_by_an_index(tmp_path: Path) -> None:
    driver = SqliteDriver(tmp_path / "planned.db")
    names = ["claim_lane", "next_due", "all_next_due", "live_onboarding", "claim_deliveries"]
    names += [name for name in statement_texts() if name.startswith("list_")]
    try:
        driver.migrate()
        for name in names:
            steps = plan_of(driver, name)
            # There are as many slots as requests a second, as many claimed as asked for, and a constant row is one.
            scanned = [step for step in steps if re.match(r"SCAN (?!.*USING|slots$|due$|CONSTANT ROW$)", step)]
            assert not scanned, (name, steps)
            assert not [step for step in steps if "TEMP B-TREE" in step], (name, steps)
    finally:
        driver.close()


def test_a_page_begins_at_its_cursor_however_far_down_the_list_that_is(tmp_path: Path) -> None:
    driver = SqliteDriver(tmp_path / "planned.db")
    names = [name for name in statement_texts() if name.startswith("list_")]
    assert len(names) == 8
    try:
        driver.migrate()
        for name in (*names, "page_of_verdict", "looked_through"):
            steps = plan_of(driver, name)
            assert re.search(r"USING (COVERING )?INDEX .*\(\w+,id\)[<>]\(\?,\?\)", " | ".join(steps)), (name, steps)
    finally:
        driver.close()


def plan_of(driver: SqliteDriver, name: str) -> list[str]:
    text = statement_texts()[name]
    parameters = dict.fromkeys(re.findall(r":(\w+)", text))
    plan = driver.read(lambda session: explain(session, f"query plan {text}", parameters))
    return [str(step[3]) for step in plan]  # type: ignore[index]


def test_the_migrations_are_numbered_without_a_gap() -> None:
    assert [name[:5] for name in MIGRATIONS] == [f"{number:04d}_" for number in range(1, len(MIGRATIONS) + 1)]
    assert [name for name, _ in migrations(int="integer", bytes="blob", strict="strict")] == [
        name.removesuffix(".sql") for name in MIGRATIONS
    ]


@pytest.mark.parametrize("name", MIGRATIONS)
def test_a_migration_says_when_it_may_run_and_one_before_the_switch_only_adds(name: str) -> None:
    first_line = MIGRATIONS[name].splitlines()[0]
    assert re.match(r"-- (Before|After) the switch: \w.{10,}", first_line)
    if first_line.startswith("-- Before"):
        assert taken_away(MIGRATIONS[name]) == []


def test_a_migration_that_takes_away_or_demands_more_does_not_pass_as_one_that_adds() -> None:
    for statement in (
        "drop table callbacks",
        "alter table callbacks drop column seen",
        "alter table callbacks add column source text not null",
        "alter table callbacks rename to hooks",
        "update callbacks set seen = 1",
        "insert into callbacks (id) values ('1')",
        "create unique index callbacks_seen on callbacks (seen)",
    ):
        assert taken_away(f"create table other (id text primary key not null) $strict;\n{statement};") == [statement]


def taken_away(migration: str) -> list[str]:
    """Statements under which code that does not know of them could suffer. A table may be built anew under its name."""
    text = re.sub(r"--.*", "", migration)
    statements = [" ".join(statement.split()) for statement in text.split(";") if statement.strip()]
    new = {found[1] for statement in statements if (found := re.match(r"create table (\w+)", statement))}
    rebuilt = {
        statement
        for name in new
        if f"alter table {name} rename to {name}_before" in statements
        for statement in (f"alter table {name} rename to {name}_before", f"drop table {name}_before")
    }
    return [statement for statement in statements if statement not in rebuilt and not only_adds(statement, new)]


def only_adds(statement: str, new: set[str]) -> bool:
    if found := re.match(r"(?:insert into|create unique index \w+ on) (\w+)", statement):
        return found[1] in new
    if re.match(r"alter table \w+ add column ", statement):
        return " not null" not in statement or " default " in statement
    return statement.startswith(("create table ", "create index "))


def test_the_enums_of_the_records_are_words_in_lower_case() -> None:
    enums = [value for value in vars(records).values() if isinstance(value, type) and issubclass(value, StrEnum)]

    assert len(enums) >= 5
    for enum in enums:
        assert all(re.fullmatch(r"[a-z_]+", member.value) for member in enum)
