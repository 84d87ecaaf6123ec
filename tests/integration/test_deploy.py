"""What is in deploy/ is checked by the programs it is for, and against the service that it runs."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
import kubernetes_validate
import pytest
from compose_spec import PyCompose

from orchestrator import __version__
from orchestrator.cli import cli
from orchestrator.config import Config
from orchestrator.errors import ConfigurationError
from orchestrator.web.app import create_app
from orchestrator.web.gather import GatheringWorker
from orchestrator.web.request_head import BODY_LIMITS, DEFAULT_BODY_LIMIT
from tests.deployment import (
    CHECKOUT,
    DEPLOY,
    FROM_PROVIDERS,
    SECRETS,
    SETTINGS,
    Dockerfile,
    compose,
    config,
    env_file,
    kubernetes,
    make_secrets,
)
from tests.programs import program
from tests.service import Bench

UNITS = ("orchestrator.service", "orchestrator-backup.service", "orchestrator-backup.timer")


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that `make-secrets.sh` made, with the providers' secrets written in."""
    folder = tmp_path_factory.mktemp("made") / "secrets"
    make_secrets(folder)
    return folder


def typed(words: list[str]) -> None:
    """A command line of ours can be typed; nothing is run."""
    assert words[0].rpartition("/")[2] == "orchestrator", words
    command: click.Command = cli
    rest = words[1:]
    while isinstance(command, click.Group):
        found = command.get_command(click.Context(command), rest[0])
        assert found is not None, words
        command, rest = found, rest[1:]
    command.make_context(words[1], rest)


# Secrets and settings --------------------------------------------------------------------------------------------


def test_secrets_are_made_once_and_kept_from_other_users(secrets: Path) -> None:
    first = {path.name: path.read_text("utf-8").strip() for path in secrets.iterdir()}

    assert make_secrets(secrets) == first, "made again"
    assert secrets.stat().st_mode & 0o777 == 0o700
    assert first["database-password"] in first["database-url"]
    assert first["signup-secrets"] != first["notify-secret"]


def test_a_folder_that_was_open_is_closed_before_a_secret_is_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    folder.mkdir()
    folder.chmod(0o755)
    make_secrets(folder)
    assert folder.stat().st_mode & 0o777 == 0o700

    folder.chmod(0o755)
    make_secrets(folder)
    assert folder.stat().st_mode & 0o777 == 0o700, "made again"


def test_a_folder_that_holds_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "passwd").touch()
    tmp_path.chmod(0o755)
    command = [DEPLOY / "make-secrets.sh", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 1
    assert "holds other things" in done.stderr
    assert tmp_path.stat().st_mode & 0o777 == 0o755
    assert [path.name for path in tmp_path.iterdir()] == ["passwd"]


def test_nothing_starts_until_the_providers_secrets_are_written(secrets: Path, tmp_path: Path) -> None:
    for path in secrets.iterdir():
        (tmp_path / path.name).write_text("" if path.name in FROM_PROVIDERS else path.read_text("utf-8"))
    environ = env_file("settings.env") | env_file("systemd/secrets.env")

    with pytest.raises(ConfigurationError) as caught:
        config(environ, "/etc/orchestrator/secrets", tmp_path)
    assert {fault.name.lower().replace("_", "-") for fault in caught.value.faults} == set(FROM_PROVIDERS)


def test_the_settings_for_one_machine_are_whole(secrets: Path) -> None:
    environ = env_file("settings.env") | env_file("systemd/secrets.env")

    assert set(env_file("settings.env")) <= SETTINGS - SECRETS
    assert set(env_file("systemd/secrets.env")) <= {f"{name}_FILE" for name in SECRETS}
    assert config(environ, "/etc/orchestrator/secrets", secrets).trusted_proxies == 1


# systemd ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def units(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The units as they are, but for where the program is."""
    folder = tmp_path_factory.mktemp("units")
    for name in UNITS:
        text = (DEPLOY / "systemd" / name).read_text("utf-8")
        (folder / name).write_text(text.replace("/opt/orchestrator/bin/", f"{Path(sys.executable).parent}/"))
    return folder


def test_systemd_takes_the_units(units: Path) -> None:
    analyze = program("systemd-analyze", "systemd")
    command = [analyze, "verify", "--man=no", *(units / name for name in UNITS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("name", [name for name in UNITS if name.endswith(".service")])
def test_systemd_finds_little_that_a_service_could_do_to_the_machine(units: Path, name: str) -> None:
    analyze = program("systemd-analyze", "systemd")
    command = [analyze, "security", "--offline=true", "--no-pager", "--threshold=20", units / name]  # 2.0 of 10
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", [name for name in UNITS if name.endswith(".service")])
def test_the_units_run_commands_that_there_are(name: str) -> None:
    text = (DEPLOY / "systemd" / name).read_text("utf-8")
    started = re.search(r"^ExecStart=(.*)$", text, re.MULTILINE)
    assert started
    words = shlex.split(started[1].replace("$$", "$").replace("%%", "%"))
    if words[0] == "/bin/sh":
        words = shlex.split(words[2].removeprefix("exec "))

    typed(words)


@pytest.mark.parametrize("name", [name for name in UNITS if name.endswith(".service")])
def test_a_unit_leaves_no_core_dump_and_lets_the_command_say_so_too(name: str) -> None:
    text = (DEPLOY / "systemd" / name).read_text("utf-8")
    filters = re.findall(r"^SystemCallFilter=(.*)$", text, re.MULTILINE)

    assert "\nLimitCORE=0\n" in text
    # `orchestrator` begins with setrlimit, which is one of @resources.
    denied = next(place for place, words in enumerate(filters) if words.startswith("~") and "@resources" in words)
    assert {"setrlimit", "prlimit64"} <= {word for words in filters[denied + 1 :] for word in words.split()}


def test_systemd_makes_the_user_that_the_units_name(tmp_path: Path) -> None:
    sysusers = program("systemd-sysusers", "systemd")
    (tmp_path / "etc").mkdir()
    file = DEPLOY / "systemd" / "orchestrator.sysusers"
    subprocess.run([sysusers, f"--root={tmp_path}", file], check=True, capture_output=True, timeout=60)

    (line,) = [row for row in (tmp_path / "etc/passwd").read_text().splitlines() if row.startswith("orchestrator:")]
    assert line.split(":")[5] == "/var/lib/orchestrator"
    assert line.endswith("nologin")
    assert "User=orchestrator\n" in (DEPLOY / "systemd" / UNITS[0]).read_text("utf-8")


# Kubernetes ------------------------------------------------------------------------------------------------------

MANIFESTS = {f"{one['kind']} {one['metadata']['name']}": one for one in kubernetes()}
POD_OWNERS = {name: one for name, one in MANIFESTS.items() if one["kind"] in ("Deployment", "Job")}


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_manifest_is_what_kubernetes_takes(name: str) -> None:
    kubernetes_validate.validate(MANIFESTS[name], "1.37", strict=True)


def test_there_are_web_worker_and_migration() -> None:
    assert set(POD_OWNERS) == {
        "Deployment orchestrator-web",
        "Deployment orchestrator-worker",
        "Job orchestrator-migrate",
    }


def _pod(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    spec = POD_OWNERS[name]["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    return spec, container


@pytest.mark.parametrize("name", POD_OWNERS)
def test_a_pod_may_do_nothing_but_its_work(name: str) -> None:
    spec, container = _pod(name)

    assert f"{spec['securityContext']['runAsUser']}:{spec['securityContext']['runAsGroup']}" == Dockerfile().last(
        "USER"
    )
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"requests", "limits"} <= set(container["resources"])
    mounted = {volume["name"] for volume in spec["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == mounted


@pytest.mark.parametrize("name", POD_OWNERS)
def test_a_pod_runs_a_command_that_there_is(name: str) -> None:
    _, container = _pod(name)
    if "command" in container:
        typed(container["command"])
    else:
        assert {"containerPort": 8000, "name": "http"} in container["ports"]
        assert Dockerfile().command[-1].endswith(":8000")


def test_the_pods_settings_are_whole_and_their_secrets_are_those_that_are_made(secrets: Path) -> None:
    data = MANIFESTS["ConfigMap orchestrator-settings"]["data"]
    ours = {name: value for name, value in data.items() if not name.startswith("AWS_")}
    spec, container = _pod("Deployment orchestrator-web")
    (mount,) = [mount for mount in container["volumeMounts"] if mount["name"] == "secrets"]

    assert set(ours) <= SETTINGS | {f"{name}_FILE" for name in SECRETS}
    assert {Path(value).name for name, value in ours.items() if name.endswith("_FILE")} <= {
        path.name for path in secrets.iterdir()
    }
    assert config(ours, mount["mountPath"], secrets).documents_url.startswith("s3://")
    for name in POD_OWNERS:
        assert _pod(name)[0]["volumes"] == spec["volumes"]


def test_probes_ask_what_is_served_and_services_reach_web(bench: Bench) -> None:
    _, web = _pod("Deployment orchestrator-web")
    served = {rule.rule for rule in create_app(bench.service).url_map.iter_rules()}
    asked = {name: probe["httpGet"]["path"] for name, probe in web.items() if name.endswith("Probe")}

    # What only warns must never end a pod: the liveness probe does not look at the database.
    assert asked == {"startupProbe": "/healthz", "livenessProbe": "/healthz", "readinessProbe": "/readyz"}
    assert set(asked.values()) <= served
    labels = POD_OWNERS["Deployment orchestrator-web"]["spec"]["template"]["metadata"]["labels"]
    for selector in (
        MANIFESTS["Service orchestrator"]["spec"]["selector"],
        MANIFESTS["PodDisruptionBudget orchestrator-web"]["spec"]["selector"]["matchLabels"],
        MANIFESTS["NetworkPolicy orchestrator-web"]["spec"]["podSelector"]["matchLabels"],
    ):
        assert selector.items() <= labels.items()


def test_only_named_namespaces_reach_web() -> None:
    spec = MANIFESTS["NetworkPolicy orchestrator-web"]["spec"]
    (rule,) = spec["ingress"]
    _, web = _pod("Deployment orchestrator-web")

    assert spec["policyTypes"] == ["Ingress"]
    assert [port["port"] for port in rule["ports"]] == [port["name"] for port in web["ports"]]
    # An empty selector would mean everybody.
    assert [one["namespaceSelector"]["matchLabels"].keys() for one in rule["from"]] == [
        {"kubernetes.io/metadata.name"}
    ] * 2


# The image -------------------------------------------------------------------------------------------------------


def _copied() -> list[str]:
    """What the Dockerfile takes from the checkout."""
    lines = [line.split() for line in Dockerfile().all("COPY") if not line.startswith("--from")]
    return [path for words in lines for path in words[:-1]]


def test_the_image_copies_what_is_there_and_all_that_the_package_is_made_of() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text("utf-8"))["project"]
    copied = _copied()

    assert [path for path in copied if not (CHECKOUT / path).exists()] == []
    needed = ["orchestrator", project["readme"], *project["license-files"], "pyproject.toml"]
    # A link inside the package leads to a folder that is needed, too.
    needed += [path.resolve().name for path in (CHECKOUT / "orchestrator").rglob("*") if path.is_symlink()]
    assert [path for path in needed if path not in copied] == []


def test_the_builder_is_given_what_is_copied_and_nothing_else() -> None:
    lines = (DEPLOY / "Dockerfile.dockerignore").read_text("utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]

    assert rules[0] == "*"
    assert {rule[1:] for rule in rules if rule.startswith("!")} == set(_copied())


def test_the_image_installs_the_tested_versions_and_ends_as_nobody() -> None:
    dockerfile = Dockerfile()
    dependencies, package = (line for line in dockerfile.all("RUN") if "pip install" in line)
    locked = (CHECKOUT / "requirements.lock").read_text("utf-8")

    assert dependencies.endswith("--require-hashes -r requirements.lock")
    assert "\npsycopg==" in locked
    assert "\nboto3==" in locked
    assert package.endswith("--no-deps .")
    assert len(dockerfile.all("FROM")) == 2
    assert dockerfile.last("USER") == "10001:10001"
    assert dockerfile.environment["PATH"].startswith("/opt/orchestrator/bin:")
    version = re.search(r"PYTHON_VERSION=(\d+)\.(\d+)", "\n".join(dockerfile.all("ARG")))
    assert version
    assert (int(version[1]), int(version[2])) >= (3, 11)


@pytest.mark.parametrize("line", Dockerfile().all("RUN"))
def test_a_shell_takes_each_run_line(line: str) -> None:
    subprocess.run(["sh", "-n", "-c", line], check=True, timeout=20)


def test_images_of_one_version_are_named_everywhere() -> None:
    names = [one["image"] for one in compose()["services"].values() if "kyc" in one["image"]]
    names += [_pod(name)[1]["image"] for name in POD_OWNERS]

    assert {name.rpartition("/")[2] for name in names} == {f"kyc-onboarding-orchestrator:{__version__}"}


# compose ---------------------------------------------------------------------------------------------------------


def test_the_compose_file_follows_the_specification() -> None:
    read = PyCompose.from_json(json.dumps(compose()))
    read.validate()

    assert sorted(read.service_names()) == ["database", "migrate", "web", "worker"]


def test_whatever_the_compose_file_names_is_there(secrets: Path) -> None:
    whole = compose()
    for name, service in whole["services"].items():
        assert set(service.get("secrets", ())) <= set(whole["secrets"]), name
        assert {volume.split(":")[0] for volume in service["volumes"]} <= set(whole["volumes"]), name
        assert set(service.get("depends_on", ())) <= set(whole["services"]), name
        if "build" in service:
            assert ((DEPLOY / service["build"]["context"]) / service["build"]["dockerfile"]).is_file()
    files = {secret["file"] for secret in whole["secrets"].values()}
    assert files == {f"secrets/{path.name}" for path in secrets.iterdir()}


@pytest.mark.parametrize("name", ["migrate", "web", "worker"])
def test_a_service_of_the_compose_file_has_settings_a_command_and_no_rights(name: str, secrets: Path) -> None:
    service = compose()["services"][name]
    environ = env_file(service["env_file"]) | service["environment"]
    mounted = {f"/run/secrets/{secret}" for secret in service["secrets"]}

    assert set(environ) <= SETTINGS | {f"{setting}_FILE" for setting in SECRETS}
    assert {value for setting, value in environ.items() if setting.endswith("_FILE")} == mounted
    assert config(environ, "/run/secrets", secrets).database_url.startswith("postgresql://orchestrator:")
    if "command" in service:
        typed(service["command"])
    assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["ulimits"] == {"core": 0}


# nginx -----------------------------------------------------------------------------------------------------------


def _sizes(text: str, directive: str) -> Iterator[int]:
    for number, unit in re.findall(rf"{directive} (\d+)([km]);", text):
        yield int(number) * {"k": 1024, "m": 1024 * 1024}[unit]


def test_nginx_lets_through_what_the_service_takes_and_little_more() -> None:
    text = (DEPLOY / "nginx" / "orchestrator.conf").read_text("utf-8")
    ours = sorted({DEFAULT_BODY_LIMIT, *(limit for _, limit in BODY_LIMITS)})
    theirs = sorted(_sizes(text, "client_max_body_size"))

    assert len(ours) == len(theirs)
    for allowed, let_through in zip(ours, theirs, strict=True):
        assert allowed < let_through <= 1.5 * allowed
    # Else nginx would write plain documents to its disk.
    assert sorted(_sizes(text, "client_body_buffer_size")) == theirs


def test_nginx_waits_as_long_as_the_service_does() -> None:
    text = (DEPLOY / "nginx" / "orchestrator.conf").read_text("utf-8")
    seconds = {name: int(number) for name, number in re.findall(r"(\w+) (\d+)s;", text.split("server {")[-1])}
    (deadline,) = (item.metadata["default"] for item in fields(Config) if item.name == "provider_deadline_seconds")
    (idle,) = re.findall(r"keepalive_timeout (\d+)s;", text.split("server {\n")[0])

    assert seconds["client_header_timeout"] == GatheringWorker.request_seconds
    assert seconds["send_timeout"] == GatheringWorker.answer_seconds
    assert seconds["proxy_read_timeout"] > float(deadline)
    assert "keepalive = 5\n" in (CHECKOUT / "gunicorn.conf.py").read_text("utf-8")
    assert int(idle) < 5, "or nginx sends on a connection that the service is closing"


def test_the_files_that_the_documents_name_are_there() -> None:
    text = "".join(path.read_text("utf-8") for path in (CHECKOUT / "docs").glob("*.md"))
    named = set(re.findall(r"deploy/[\w./*-]+", text)) - {
        "deploy/secrets/",
        "deploy/secrets/*",
        "deploy/secrets/database-url",
    }

    assert len(named) > 8
    assert [name for name in named if not list(CHECKOUT.glob(name.rstrip("./")))] == []
