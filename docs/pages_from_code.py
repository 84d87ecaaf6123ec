"""What docs/make_reference.py writes of the commands, the API's description and the metrics."""

from __future__ import annotations

import re
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from orchestrator import records
from orchestrator.cli import cli
from orchestrator.errors import Kind
from orchestrator.machine import Event, State
from orchestrator.onboarding.figures import Figures, figures
from orchestrator.onboarding.measure import WORKED, Took
from orchestrator.web import metrics as measured
from orchestrator.web.app import create_app
from orchestrator.web.reference import Operation, callers, members, shape_limits, shape_name

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from tests.service import Bench  # noqa: E402 - the checkout is no package

HEAD = "<!-- Written by docs/make_reference.py; change the code instead. -->\n\n"


# Commands --------------------------------------------------------------------------------------------------------


def commands() -> str:
    """docs/commands.md."""
    lines = [
        f"{HEAD}# Commands\n",
        "`ID` is an onboarding's id or a merchantUserId, which means the newest of that user. Exit status: 0 done, 1",
        "could not be done, 2 wrong use or settings. Commands read the [settings](settings.md); `demo` makes its.\n",
        f"`orchestrator --version` prints the version. {_flat(cli.help)}\n",
    ]
    for path, command in _below(cli, "orchestrator"):
        lines += _command(path, command)
    return "\n".join(lines) + "\n"


def _below(group: click.Group, path: str) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from _below(command, f"{path} {name}")
        elif command is not None:
            yield f"{path} {name}", command


def _command(path: str, command: click.Command) -> Iterator[str]:
    context = click.Context(command, info_name=path)
    yield f"## `{path}`\n"
    yield f"{_flat(command.help)}\n"
    yield f"```text\n{path} {' '.join(command.collect_usage_pieces(context))}\n```\n"
    records = [param.get_help_record(context) for param in command.params if isinstance(param, click.Option)]
    told = [(name, says) for name, says in filter(None, records)]
    if told:
        yield "| option | meaning |\n| --- | --- |"
        yield from (f"| `{_cell(name)}` | {_cell(says)} |" for name, says in told)
        yield ""


# The API's description -------------------------------------------------------------------------------------------


def api() -> str:
    """docs/api.md."""
    with _bench() as bench:
        spec = create_app(bench.service).extensions["openapi"]
    operations = [
        Operation(method.upper(), path, said)
        for path, methods in spec["paths"].items()
        for method, said in methods.items()
    ]
    answers = [set(map(str, one.said["responses"])) for one in operations]
    common = {
        name: answer
        for name, answer in spec["components"]["responses"].items()
        if all(name.removeprefix("Error") in its for its in answers)
    }
    schemes = spec["components"]["securitySchemes"]
    lines = [
        f"{HEAD}# API, route by route\n",
        "What `/openapi.json` says, as a page: every route for programs, who may call it, what it takes and answers.",
        "[HTTP](http.md) explains the same in words, with examples and with the pages for people.\n",
        "These may come from anywhere and are not repeated:\n",
        "| status | answer |\n| --- | --- |",
        *(f"| {name.removeprefix('Error')} | {_cell(answer['description'])} |" for name, answer in common.items()),
        "\n| route | operation |\n| --- | --- |",
        *(f"| [`{one.method} {one.path}`](#{_anchor(one)}) | {_cell(one.said['summary'])} |" for one in operations),
        "",
    ]
    for tag in spec["tags"]:
        lines += [f"## {tag['name']}\n", f"{_flat(tag['description'])}\n"]
        for one in operations:
            if tag["name"] in one.said["tags"]:
                lines += _operation(one, {**spec["components"]["responses"], **dict.fromkeys(common)}, schemes)
    lines += ["## Notifications\n", "Sent to the merchant: [Notification](#notification).\n"]
    lines += [f"- `{kind}`: {_flat(said['post']['summary'])}" for kind, said in spec["webhooks"].items()]
    lines += ["", "## Credentials\n", "| header | holds |\n| --- | --- |"]
    lines += [f"| `{its.get('name', 'Authorization')}` | {_cell(its['description'])} |" for its in schemes.values()]
    lines += ["", "## Shapes\n"]
    for name, shape in spec["components"]["schemas"].items():
        lines += _shape(name, shape)
    return "\n".join(lines) + "\n"


def _anchor(one: Operation) -> str:
    """That of its heading."""
    return re.sub(r"[^\w-]", "", f"{one.method} {one.path}".lower().replace(" ", "-"))


def _operation(one: Operation, errors: Mapping[str, Any], schemes: Mapping[str, Any]) -> Iterator[str]:
    said = one.said
    yield f"### `{one.method} {one.path}`\n"
    words = [_flat(said[name]).rstrip(".") + "." for name in ("summary", "description") if said.get(name)]
    yield f"{' '.join(words)}\n"
    yield f"Who: {callers(one, schemes)}.\n"
    for parameter in said.get("parameters", ()):
        limits = shape_limits(parameter["schema"])
        words = " ".join(filter(None, [_flat(parameter.get("description")), limits and f"({limits})"]))
        yield f"- `{parameter['name']}` in the {parameter['in']}: {words}"
    for kind, body in said.get("requestBody", {}).get("content", {}).items():
        yield f"- body, `{kind}`: {_linked(body['schema'])}"
    yield "\n| status | answer |\n| --- | --- |"
    for status, answer in said["responses"].items():
        found = errors[answer["$ref"].rpartition("/")[2]] if "$ref" in answer else answer
        if found is None:
            continue
        shapes = [] if "$ref" in answer else [_linked(body["schema"]) for body in answer.get("content", {}).values()]
        yield f"| {status} | {_cell(' '.join([_flat(found['description']), *shapes]))} |"
    yield ""


def _shape(name: str, shape: Mapping[str, Any]) -> Iterator[str]:
    yield f"### {name}\n"
    if "description" in shape:
        yield f"{_flat(shape['description'])}\n"
    if "properties" not in shape:
        yield f"{_linked(shape)}\n"
        return
    yield "| member | type | holds |\n| --- | --- | --- |"
    for member, its in members(shape).items():
        optional = "" if member in shape.get("required", ()) else " (optional)"
        words = " ".join(filter(None, [_flat(its.get("description")), shape_limits(its)]))
        yield f"| `{member}`{optional} | {_cell(_linked(its))} | {_cell(words)} |"
    yield ""


def _linked(shape: Mapping[str, Any]) -> str:
    return re.sub("`(.+?)`", lambda found: f"[{found[1]}](#{found[1].lower()})", shape_name(shape))


# Metrics ---------------------------------------------------------------------------------------------------------


def metrics() -> str:
    """docs/metrics.md."""
    with _bench() as bench:
        families = list(measured.families(_all_that_can_be(figures(bench.context))))
    lines = [
        f"{HEAD}# Metrics\n",
        "What `GET /metrics` gives to Prometheus, with a token of the role viewer or operator: the figures of the",
        "whole installation, whichever process answers. No label holds personal data, and none grows without bound.",
        "What never happened may be absent: a transition, an outcome other than `ok`, a provider's clock and times.",
        "[Figures and alarms](operating.md#figures-and-alarms) says what to watch.\n",
        "| metric | type | labels | says |\n| --- | --- | --- | --- |",
    ]
    for family in families:
        name = f"{family.name}_total" if family.type == "counter" else family.name
        lines.append(f"| `{name}` | {family.type} | {_labels(family)} | {_cell(family.documentation)} |")
    return "\n".join(lines) + "\n"


def _all_that_can_be(known: Figures) -> Figures:
    """As after everything has happened once, so that no word of a label is absent."""
    # What the merchant's receiver answers is taken or comes later; it does not refuse.
    calls = {
        (operation, outcome): Took(counts=(1, *took.counts[1:]))
        for (operation, outcome), took in known.calls.items()
        if operation is not records.Operation.NOTIFY or outcome in (WORKED, Kind.TRANSIENT)
    }
    return replace(
        known,
        transitions={(event, state): 1 for event in Event for state in State},
        calls=calls,
        providers=[replace(one, skew_ms=0, last_success_at=0, last_failure_at=0) for one in known.providers],
        worker_age=0,
    )


def _labels(family: Any) -> str:
    words: dict[str, dict[str, None]] = {label: {} for label in getattr(family, "_labelnames", ())}
    for sample in family.samples:
        for label, its in words.items():
            its[sample.labels[label]] = None
    return "; ".join(f"`{label}`" + (f": {', '.join(its)}" if its else "") for label, its in words.items()) or "–"


# Words -----------------------------------------------------------------------------------------------------------


@contextmanager
def _bench() -> Iterator[Bench]:
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("error")
        bench = Bench(Path(folder))
        try:
            yield bench
        finally:
            bench.close()


def _flat(text: str | None) -> str:
    return " ".join((text or "").replace("\b", "").split())


def _cell(text: str) -> str:
    return _flat(text).replace("|", "\\|")
