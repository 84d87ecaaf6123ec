"""What is in deploy/, read as those read it who run it."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml
from dotenv import dotenv_values

from orchestrator.config import Config
from tests.sandbox_process import public_pem, rsa_key

CHECKOUT = Path(__file__).parents[1]
DEPLOY = CHECKOUT / "deploy"
FROM_PROVIDERS = {
    "btse-api-key": "an-api-key",
    "btse-secret-key": "a-secret-key",
    "osl-webhook-public-key": "",
}
"""The secrets that nobody can make."""
SETTINGS = {item.metadata["name"] for item in fields(Config)}
SECRETS = {item.metadata["name"] for item in fields(Config) if item.metadata["secret"]}


def make_secrets(folder: Path) -> dict[str, str]:
    """What `deploy/make-secrets.sh` makes, with what the providers give written in: content by file name."""
    subprocess.run([DEPLOY / "make-secrets.sh", folder], check=True, capture_output=True, timeout=60)
    for name, value in FROM_PROVIDERS.items():
        (folder / name).write_text(value or public_pem(rsa_key("osl")))
    return {path.name: path.read_text("utf-8").strip() for path in folder.iterdir()}


def env_file(name: str) -> dict[str, str]:
    """A file of settings in deploy/."""
    return {key: value or "" for key, value in dotenv_values(DEPLOY / name).items()}


def config(environ: Mapping[str, str], secrets_at: str, secrets: Path) -> Config:
    """The service's own settings of `environ`, whose `…_FILE` lie at `secrets_at` there and in `secrets` here."""
    return Config.from_env({name: value.replace(secrets_at, str(secrets)) for name, value in environ.items()})


def compose() -> dict[str, Any]:
    """The compose file with its merge keys resolved."""
    read: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
    return read


def kubernetes() -> list[dict[str, Any]]:
    """The manifests."""
    return list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text("utf-8")))


class Dockerfile:
    """Its instructions in order; `final`: those of the last stage."""

    def __init__(self) -> None:
        text = re.sub(r"\\\n\s*", " ", (DEPLOY / "Dockerfile").read_text("utf-8"))
        lines = [line for line in text.splitlines() if line and not line.startswith("#")]
        self.instructions = [(line.split(" ", 1)[0], line.split(" ", 1)[1].strip()) for line in lines]
        last = max(number for number, (word, _) in enumerate(self.instructions) if word == "FROM")
        self.final = self.instructions[last:]

    def all(self, word: str) -> list[str]:
        """What follows an instruction, wherever it stands."""
        return [rest for name, rest in self.instructions if name == word]

    def last(self, word: str) -> str:
        """What the last stage's last such instruction says."""
        return [rest for name, rest in self.final if name == word][-1]

    @property
    def command(self) -> list[str]:
        """CMD."""
        words: list[str] = json.loads(self.last("CMD"))
        return words

    @property
    def health_check(self) -> list[str]:
        """The command of HEALTHCHECK."""
        words: list[str] = json.loads(self.last("HEALTHCHECK").split(" CMD ", 1)[1])
        return words

    @property
    def environment(self) -> dict[str, str]:
        """ENV of the last stage."""
        return dict(pair.split("=", 1) for pair in self.last("ENV").split())


def process_environment() -> dict[str, str]:
    """What a process needs beside the service's settings."""
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "TMPDIR")}
    return kept | {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}
