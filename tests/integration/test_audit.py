"""`audit`: whatever is done to a chain in the database is found, by the chain itself or by a head kept elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import pytest

from orchestrator.errors import InvalidInput
from orchestrator.machine import Event, State
from orchestrator.onboarding import audit, chain, operate
from orchestrator.onboarding.apply import Step, apply
from orchestrator.records import Onboarding, Transition
from tests.command_line import orchestrator
from tests.databases import Plain, unguarded
from tests.service import Bench

COLUMNS = [field.name for field in fields(Transition)]
Tamper = Callable[[Plain, str], object]


def tampered(bench: Bench, change: Tamper, onboarding_id: str) -> None:
    """What somebody with the whole database in their hands does to it."""
    with bench.connected() as database:
        unguarded(database)
        change(database, onboarding_id)


def problems(bench: Bench) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for fault in audit.faults(bench.context):
        found.setdefault(fault.onboarding_id, []).append(fault.problem)
    return found


def restored(bench: Bench, copy: dict[str, list[tuple[Any, ...]]]) -> None:
    """The database as it was."""
    with bench.connected() as database:
        unguarded(database)
        for table, rows in copy.items():
            database.execute(f"delete from {table}")
            for row in rows:
                database.execute(f"insert into {table} values ({', '.join('?' * len(row))})", row)


def copied(bench: Bench) -> dict[str, list[tuple[Any, ...]]]:
    """The rows of the tables that are tampered with."""
    with bench.connected() as database:
        return {
            table: database.execute(f"select * from {table}").fetchall() for table in ("transitions", "onboardings")
        }


def sql(*statements: str) -> Tamper:
    """Each `?` is the onboarding's id."""

    def work(database: Plain, onboarding_id: str) -> None:
        for statement in statements:
            assert database.execute(statement, [onboarding_id] * statement.count("?")).rowcount, statement

    return work


CHANGED: dict[str, str] = {
    "at": "at = at + 1",
    "from_state": "from_state = 'in_review'",
    "to_state": "to_state = 'rejected'",
    "event": "event = 'cancel_asked'",
    "round": "round = 2",
    "actor": "actor = 'somebody'",
    "detail": "detail = detail || '.'",
    "hash": "hash = replace(hash, substr(hash, 1, 1), case substr(hash, 1, 1) when 'a' then 'b' else 'a' end)",
}
TAMPERINGS: dict[str, Tamper] = {
    **{
        f"{column} of a row": sql(f"update transitions set {change} where onboarding_id = ? and seq = 3")
        for column, change in CHANGED.items()
    },
    **{
        f"{column} of the last row": sql(
            f"update transitions set {change} where onboarding_id = ? "
            "and seq = (select max(seq) from transitions where onboarding_id = ?)"
        )
        for column, change in CHANGED.items()
    },
    "seq of a row": sql("update transitions set seq = 99 where onboarding_id = ? and seq = 3"),
    "a row to another onboarding": sql(
        "update transitions set onboarding_id = (select min(id) from onboardings where id <> ?), seq = 98 "
        "where onboarding_id = ? and seq = 3"
    ),
    "the first row removed": sql("delete from transitions where onboarding_id = ? and seq = 1"),
    "a row removed": sql("delete from transitions where onboarding_id = ? and seq = 3"),
    "a row removed and the rest moved up": sql(
        "delete from transitions where onboarding_id = ? and seq = 3",
        "update transitions set seq = 3 where onboarding_id = ? and seq = 4",
    ),
    "all rows removed": sql("delete from transitions where onboarding_id = ?"),
    "the tail cut": sql("delete from transitions where onboarding_id = ? and seq > 3"),
    "the tail cut and the count with it": sql(
        "delete from transitions where onboarding_id = ? and seq > 3",
        "update onboardings set seq = 3 where id = ?",
    ),
    "a row inserted at the end": sql(
        "insert into transitions select onboarding_id, seq + 1, at, to_state, to_state, event, round, actor, detail, "
        "hash from transitions where onboarding_id = ? and seq = "
        "(select max(seq) from transitions where onboarding_id = ?)"
    ),
    "a row inserted, and counted": sql(
        "insert into transitions select onboarding_id, seq + 1, at, to_state, to_state, event, round, actor, detail, "
        "'0000' from transitions where onboarding_id = ? and seq = "
        "(select max(seq) from transitions where onboarding_id = ?)",
        "update onboardings set seq = seq + 1, hash = '0000' where id = ?",
    ),
    "two rows swapped": sql(
        "update transitions set seq = 99 where onboarding_id = ? and seq = 2",
        "update transitions set seq = 2 where onboarding_id = ? and seq = 3",
        "update transitions set seq = 3 where onboarding_id = ? and seq = 99",
    ),
    "the state": sql("update onboardings set state = 'rejected' where id = ?"),
    "the hash kept": sql("update onboardings set hash = '0000' where id = ?"),
    "the count kept": sql("update onboardings set seq = seq - 1 where id = ?"),
    "the onboarding deleted": sql("delete from onboardings where id = ?"),
}
TAMPERINGS["a row in front of the first"] = sql(
    "insert into transitions select onboarding_id, 1000, at, from_state, to_state, event, round, actor, detail, hash "
    "from transitions where onboarding_id = ? and seq = 1"
)


def test_whatever_is_done_to_a_chain_is_found_and_no_other_chain_is_blamed(bench: Bench) -> None:
    other, row, third = bench.collected(), bench.shared_on_paper(), bench.collected()
    del other, third
    good = copied(bench)
    assert {f"{column} of a row" for column in COLUMNS if column not in ("onboarding_id", "seq")} <= set(TAMPERINGS)
    assert problems(bench) == {}
    for name, change in TAMPERINGS.items():
        tampered(bench, change, row.id)
        found = problems(bench)
        assert row.id in found or name == "a row to another onboarding", name
        if name == "a row to another onboarding":
            assert len(found) == 2, name
        else:
            assert list(found) == [row.id], name
        restored(bench, good)
        assert problems(bench) == {}, f"undone: {name}"


def test_the_command_names_each_broken_chain_and_exits_with_1(bench: Bench) -> None:
    row = bench.collected()
    assert orchestrator(bench.environ(), bench.folder, "audit", "verify").stdout == "every chain is whole\n"
    tampered(bench, TAMPERINGS["the state"], row.id)
    said = orchestrator(bench.environ(), bench.folder, "audit", "verify", expect=1).stdout
    assert said == f"{row.id}: the chain ends in collecting, the onboarding is in rejected\n1 fault(s)\n"
    said = orchestrator(bench.environ(), bench.folder, "audit", "verify", "--json", expect=1).stdout
    assert said.startswith(f'{{"id": "{row.id}", "problem": ')


def recomputed(bench: Bench, row: Onboarding, changed: Callable[[list[Transition]], list[Transition]]) -> None:
    """Somebody who knows how writes a whole new chain, sound in itself."""
    previous, rows = "", []
    for number, transition in enumerate(changed(bench.transitions(row)), 1):
        linked = chain.link(previous, Transition(**{**vars(transition), "seq": number}))
        rows.append(linked)
        previous = linked.hash
    with bench.connected() as database:
        database.execute("delete from transitions where onboarding_id = ?", (row.id,))
        marks = ", ".join("?" * len(COLUMNS))
        names = ", ".join(COLUMNS)
        for item in rows:
            values = [getattr(item, name) for name in COLUMNS]
            database.execute(f"insert into transitions ({names}) values ({marks})", values)
        last = rows[-1]
        update = "update onboardings set seq = ?, hash = ?, state = ? where id = ?"
        database.execute(update, (last.seq, last.hash, last.to_state, row.id))


def blamed(rows: list[Transition]) -> list[Transition]:
    return [*rows[:2], Transition(**{**vars(rows[2]), "actor": "somebody else"}), *rows[3:]]


def test_a_chain_computed_anew_is_found_only_by_a_head_that_was_kept_elsewhere(bench: Bench) -> None:
    changed, shortened, untouched = bench.shared_on_paper(), bench.collected(), bench.collected()
    kept = list(audit.head(bench.context))
    assert list(audit.faults_since(bench.context, kept)) == []
    recomputed(bench, changed, blamed)
    recomputed(bench, shortened, lambda rows: rows[:-1])
    assert problems(bench) == {}, "each is sound in itself"
    found = {fault.onboarding_id for fault in audit.faults_since(bench.context, kept)}
    assert found == {changed.id, shortened.id}
    assert untouched.id not in found
    # Work that goes on upon the new chain hides nothing.
    apply(bench.context, shortened.id, lambda _: [Step(Event.EDITED, "test"), Step(Event.EDITED, "test")])
    operate.cancel(bench.context, changed.id, "test")
    assert {fault.onboarding_id for fault in audit.faults_since(bench.context, kept)} == found


def test_an_onboarding_that_is_gone_with_its_chain_is_named_by_the_head(bench: Bench) -> None:
    row = bench.collected()
    bench.collected()
    kept = list(audit.head(bench.context))
    tampered(bench, sql("delete from transitions where onboarding_id = ?"), row.id)
    tampered(bench, sql("delete from documents where onboarding_id = ?"), row.id)
    tampered(bench, sql("delete from onboardings where id = ?"), row.id)
    assert problems(bench) == {}
    assert [fault.onboarding_id for fault in audit.faults_since(bench.context, kept)] == [row.id]


def test_newer_rows_and_newer_onboardings_are_no_fault(bench: Bench) -> None:
    row = bench.collected()
    head = bench.folder / "head"
    head.write_text(orchestrator(bench.environ(), bench.folder, "audit", "head").stdout)
    operate.cancel(bench.context, row.id, "test")
    for _ in range(3):
        bench.submitted()
    assert bench.state(row) is State.CANCELLED
    said = orchestrator(bench.environ(), bench.folder, "audit", "verify", "--head", head).stdout
    assert said == "every chain is whole\n"
    recomputed(bench, row, blamed)
    said = orchestrator(bench.environ(), bench.folder, "audit", "verify", "--head", head, expect=1).stdout
    assert said.splitlines()[0].startswith(f"{row.id}: row ")


def test_a_chain_that_grows_while_it_is_read_is_no_fault(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    row = bench.collected()
    real = bench.context.store.transitions

    def meanwhile(onboarding_id: str) -> list[Transition]:
        monkeypatch.setattr(bench.context.store, "transitions", real)
        operate.cancel(bench.context, onboarding_id, "test")
        return real(onboarding_id)

    monkeypatch.setattr(bench.context.store, "transitions", meanwhile)
    assert problems(bench) == {}
    assert bench.state(row) is State.CANCELLED


def test_an_edited_head_is_refused_instead_of_believed(bench: Bench) -> None:
    for _ in range(3):
        bench.collected()
    kept = list(audit.head(bench.context))
    assert len(kept) == 4
    edited = {
        "a line left out": [kept[0], *kept[2:]],
        "a line changed": [kept[0].replace(" 3 ", " 2 "), *kept[1:]],
        "two lines swapped": [kept[1], kept[0], *kept[2:]],
        "no last line": kept[:-1],
        "the end left out": [kept[0], kept[-1]],
        "another total": [*kept[:-1], "total 0000"],
        "no number": [kept[0].replace(" 3 ", " ² "), *kept[1:]],
        "nothing": [],
        "a text": ["hello"],
    }
    for name, lines in edited.items():
        with pytest.raises(InvalidInput, match="head file"):
            list(audit.faults_since(bench.context, lines))
        head = bench.folder / "head"
        head.write_text("\n".join(lines))
        del name
    said = orchestrator(bench.environ(), bench.folder, "audit", "verify", "--head", head, expect=1)
    assert said.stderr.startswith("Error: the head file was changed")


def test_an_empty_installation_has_a_head_of_one_line_that_verifies(bench: Bench) -> None:
    kept = list(audit.head(bench.context))
    assert len(kept) == 1
    bench.collected()
    assert list(audit.faults_since(bench.context, kept)) == []
