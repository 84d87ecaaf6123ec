"""Settings: what is taken, what is refused, and that no message or repr shows a secret."""

from __future__ import annotations

import base64
import dataclasses
import os
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import example, given, settings
from hypothesis import strategies as st

from orchestrator import signatures
from orchestrator.config import Config
from orchestrator.errors import ConfigurationError, SettingFault

MARK = "dOnOtShOwMe"
KEY = generate_private_key(65537, 1024)
"""Small, because every test loads it."""
OTHER_KIND = ec.generate_private_key(ec.SECP256R1())


def private_der(key: Any) -> str:
    return base64.b64encode(key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())).decode()


def public_der(key: Any) -> str:
    der = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(der).decode()


PRIVATE, PUBLIC = private_der(KEY), public_der(KEY)
SEALING = base64.b64encode(bytes(range(32))).decode()
WHSEC = "whsec_" + base64.b64encode(b"signs the signup hook.. ").decode()
NOTIFY_WHSEC = "whsec_" + base64.b64encode(b"signs what is told..... ").decode()
REQUIRED = {
    "ORCHESTRATOR_ENCRYPTION_KEYS": SEALING,
    "ORCHESTRATOR_PUBLIC_URL": "https://onboarding.example.com",
    "ORCHESTRATOR_SIGNUP_SECRETS": WHSEC,
    "BTSE_BASE_URL": "https://api.btse.example",
    "BTSE_API_KEY": "api-key-of-btse",
    "BTSE_SECRET_KEY": "secret-key-of-btse",
    "OSL_BASE_URL": "https://openapitest.osl-pay.com",
    "OSL_APP_ID": "app-1",
    "OSL_PRIVATE_KEY": PRIVATE,
    "OSL_WEBHOOK_PUBLIC_KEY": PUBLIC,
}
SECRETS = {
    "ORCHESTRATOR_ENCRYPTION_KEYS": SEALING,
    "ORCHESTRATOR_SIGNUP_SECRETS": WHSEC,
    "ORCHESTRATOR_NOTIFY_SECRET": NOTIFY_WHSEC,
    "BTSE_API_KEY": "api-key-of-btse",
    "BTSE_SECRET_KEY": "secret-key-of-btse",
    "OSL_PRIVATE_KEY": PRIVATE,
}
NAMES = [item.metadata["name"] for item in dataclasses.fields(Config)]
FIELDS = {item.metadata["name"]: item for item in dataclasses.fields(Config)}


def config(**changed: str | None) -> Config:
    """The settings with these over the required ones; None leaves one out."""
    merged = {**REQUIRED, **changed}
    return Config.from_env({name: value for name, value in merged.items() if value is not None})


def faults(**changed: str | None) -> list[SettingFault]:
    with pytest.raises(ConfigurationError) as caught:
        config(**changed)
    return list(caught.value.faults)


def fault(**changed: str | None) -> SettingFault:
    found = faults(**changed)
    assert len(found) == 1, found
    return found[0]


@pytest.fixture(autouse=True, scope="module")
def _a_key_is_checked_once() -> Iterator[None]:
    """Checking the numbers of an RSA key takes 10 ms and more; the same text gives the same key."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(signatures, "load_der_private_key", cache(signatures.load_der_private_key))
        yield


# Names and defaults --------------------------------------------------------------------------------------------


def test_the_settings_are_those_of_the_contract() -> None:
    assert sorted(NAMES) == sorted(
        [
            "ORCHESTRATOR_DATABASE_URL",
            "ORCHESTRATOR_DOCUMENTS_URL",
            "ORCHESTRATOR_ENCRYPTION_KEYS",
            "ORCHESTRATOR_PUBLIC_URL",
            "ORCHESTRATOR_SIGNUP_SECRETS",
            "ORCHESTRATOR_NOTIFY_URL",
            "ORCHESTRATOR_NOTIFY_SECRET",
            "ORCHESTRATOR_PROVIDERS_FILE",
            "ORCHESTRATOR_MERCHANT_NAME",
            "ORCHESTRATOR_MERCHANT_LOGO_FILE",
            "ORCHESTRATOR_ACCENT_COLOR",
            "ORCHESTRATOR_SUPPORT_CONTACT",
            "ORCHESTRATOR_TRUSTED_PROXIES",
            "ORCHESTRATOR_PROXY_URL",
            "ORCHESTRATOR_LOG_LEVEL",
            "ORCHESTRATOR_LOG_FORMAT",
            "ORCHESTRATOR_PROVIDER_DEADLINE_SECONDS",
            "BTSE_BASE_URL",
            "BTSE_API_KEY",
            "BTSE_SECRET_KEY",
            "OSL_BASE_URL",
            "OSL_APP_ID",
            "OSL_PRIVATE_KEY",
            "OSL_WEBHOOK_PUBLIC_KEY",
            "OSL_REQUESTS_PER_SECOND",
            "CALLBACK_TOLERANCE_SECONDS",
            "CALLBACK_PATIENCE_SECONDS",
            "COLLECT_TTL_DAYS",
            "RETAIN_DOCUMENTS_DAYS",
            "RETAIN_PROFILE_DAYS",
            "RETRY_HORIZON_HOURS",
        ]
    )


def test_the_defaults_are_those_of_the_contract() -> None:
    settings_now = config()
    expected = {
        "database_url": "sqlite:///var/orchestrator.db",
        "documents_url": "file:var/documents",
        "notify_url": None,
        "notify_secret": None,
        "providers_file": None,
        "trusted_proxies": 0,
        "proxy_url": None,
        "log_level": "INFO",
        "log_format": "console",
        "provider_deadline_seconds": 60,
        "osl_requests_per_second": 10,
        "callback_tolerance_seconds": 300,
        "callback_patience_seconds": 3600,
        "collect_ttl_days": 30,
        "retain_documents_days": 30,
        "retain_profile_days": 365,
        "retry_horizon_hours": 72,
    }

    assert {name: getattr(settings_now, name) for name in expected} == expected
    assert settings_now.database_path == Path("var/orchestrator.db")
    assert settings_now.documents_path == Path("var/documents")


def test_no_secret_has_a_default() -> None:
    assert [name for name in SECRETS if FIELDS[name].metadata["default"] is not None] == []


def test_what_has_no_default_is_exactly_what_must_be_set() -> None:
    assert {item.name for item in faults(**dict.fromkeys(REQUIRED))} == set(REQUIRED)


def test_what_is_set_is_parsed() -> None:
    settings_now = config(
        ORCHESTRATOR_ENCRYPTION_KEYS=f"{SEALING}, {base64.b64encode(bytes(32)).decode()}",
        ORCHESTRATOR_SIGNUP_SECRETS=f"{WHSEC},{NOTIFY_WHSEC}",
        ORCHESTRATOR_PUBLIC_URL="http://localhost:8000/kyc/",
        ORCHESTRATOR_DATABASE_URL="sqlite:////srv/o.db",
        ORCHESTRATOR_DOCUMENTS_URL="file:/srv/documents",
        ORCHESTRATOR_LOG_LEVEL="warning",
        ORCHESTRATOR_LOG_FORMAT="JSON",
        OSL_REQUESTS_PER_SECOND="1000",
    )

    assert settings_now.encryption_keys == (bytes(range(32)), bytes(32))
    assert settings_now.signup_secrets == (WHSEC, NOTIFY_WHSEC)
    assert settings_now.public_url == "http://localhost:8000/kyc"
    assert settings_now.database_path == Path("/srv/o.db")
    assert settings_now.documents_path == Path("/srv/documents")
    assert (settings_now.log_level, settings_now.log_format) == ("WARNING", "json")
    assert settings_now.osl_requests_per_second == 1000
    assert isinstance(settings_now.osl_private_key, RSAPrivateKey)
    assert settings_now.osl_webhook_public_key.key_size == 1024


def test_a_webhook_secret_may_lack_its_padding() -> None:
    unpadded = "whsec_" + base64.b64encode(bytes(31)).decode().rstrip("=")

    assert config(ORCHESTRATOR_SIGNUP_SECRETS=unpadded).signup_secrets == (unpadded,)


def test_a_key_may_be_pem_too() -> None:
    private = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    public = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    settings_now = config(OSL_PRIVATE_KEY=private, OSL_WEBHOOK_PUBLIC_KEY=public)

    assert settings_now.osl_private_key.private_numbers() == KEY.private_numbers()
    assert settings_now.osl_webhook_public_key.public_numbers() == KEY.public_key().public_numbers()


@pytest.mark.parametrize("name", [name for name in NAMES if re.search(r"_(SECONDS|DAYS|HOURS)$", name)])
def test_a_duration_accepts_decimals(name: str) -> None:
    assert getattr(config(**{name: "1.5"}), FIELDS[name].name) == 1.5


@pytest.mark.parametrize("name", ["COLLECT_TTL_DAYS", "RETAIN_DOCUMENTS_DAYS", "RETAIN_PROFILE_DAYS"])
def test_a_retention_of_zero_keeps(name: str) -> None:
    assert getattr(config(**{name: "0"}), FIELDS[name].name) == 0


def test_the_durations_of_the_demo_are_taken() -> None:
    settings_now = config(CALLBACK_PATIENCE_SECONDS="3", RETRY_HORIZON_HOURS="0.003")

    assert (settings_now.callback_patience_seconds, settings_now.retry_horizon_hours) == (3, 0.003)


@pytest.mark.parametrize("value", ["", "  "])
def test_an_empty_setting_is_one_that_is_not_set(value: str) -> None:
    assert config(OSL_REQUESTS_PER_SECOND=value).osl_requests_per_second == 10
    assert fault(BTSE_API_KEY=value).problem == "it is missing"


def test_the_settings_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        config().log_level = "DEBUG"  # type: ignore[misc]


# Faults --------------------------------------------------------------------------------------------------------


def test_all_faults_come_in_one_message_with_name_problem_example_and_command() -> None:
    with pytest.raises(ConfigurationError) as caught:
        Config.from_env({"OSL_REQUESTS_PER_SECOND": "0", "ORCHESTRATOR_NOTIFY_URL": "https://m.example"})
    message = str(caught.value)

    named = {item.name for item in caught.value.faults}
    assert named == {*REQUIRED, "OSL_REQUESTS_PER_SECOND", "ORCHESTRATOR_NOTIFY_SECRET"}
    for item in caught.value.faults:
        assert f"  {item.name}: {item.problem}\n" in message
        assert f"example: {item.name}={item.example}" in message
        assert item.command is None or f"make one: {item.command}" in message
    assert message.startswith(f"{len(named)} setting(s) ")


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("ORCHESTRATOR_ENCRYPTION_KEYS", "openssl rand -base64 32"),
        ("ORCHESTRATOR_SIGNUP_SECRETS", 'echo "whsec_$(openssl rand -base64 32)"'),
        ("ORCHESTRATOR_NOTIFY_SECRET", 'echo "whsec_$(openssl rand -base64 32)"'),
        ("OSL_PRIVATE_KEY", "openssl genpkey -algorithm RSA"),
    ],
)
def test_a_secret_of_ours_comes_with_a_command_that_makes_one(name: str, command: str) -> None:
    found = fault(**{name: "x", "ORCHESTRATOR_NOTIFY_URL": "https://m.example"} | notify_pair(name))

    assert found.name == name
    assert found.command is not None
    assert found.command.startswith(command)


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_has_a_meaning_and_an_example(name: str) -> None:
    assert len(FIELDS[name].metadata["meaning"]) > 5
    assert FIELDS[name].metadata["example"]


@pytest.mark.parametrize("name", [name for name in NAMES if FIELDS[name].metadata["default"] is not None])
def test_an_example_of_a_setting_with_a_default_is_itself_accepted(name: str) -> None:
    config(**{name: FIELDS[name].metadata["example"]})


URLS = ["api.example.com", "ftp://x", "https://", "http://[", "http://h:port", "http://h:99999", "http://a b", "//h"]
URLS += ["https://h/?q=1", "https://h/#f", "javascript:alert(1)"]
NUMBERS = ["ten", "-1", "nan", "inf", "1e9", "1,5", "1 0"]
WHSECS = ["secret", "whsec_", "whsec_!!!", "whsec_" + base64.b64encode(b"short").decode(), f"{WHSEC},", "whsec_ü"]
BAD_POSTGRESQL = [
    f"postgresql://orc:{password}@db/kyc" for password in ("pass%zz", "pass%", "p%00s", "p@ss", "p/ss", "1/ss")
]
BAD_POSTGRESQL += ["postgresql://orc:pass@[::1/kyc", "postgres://orc:pass@db:port/kyc", "postgresql://orc:pa ss@db/kyc"]
BAD_PLACES = ["file://", "file://var/documents", "file:~/x", "s3://", "s3:///prefix", "s3://?x"]
GOOD_POSTGRESQL = [
    "postgres://h/db",
    "postgresql://u:p%40%2F%25@h:5432/db?sslmode=require",
    "postgresql://u@[::1]:5432/d",
]
GOOD_POSTGRESQL += ["postgresql:///db?host=/run/postgresql&user=u@x", "postgresql://u:p#:?@h1:5432,h2:5433/db"]
MALFORMED = {
    "ORCHESTRATOR_DATABASE_URL": ["var/o.db", "sqlite://", "sqlite:///", "mysql://h/db", *BAD_POSTGRESQL],
    "ORCHESTRATOR_DOCUMENTS_URL": ["var/documents", "file:", "ftp://h/x", *BAD_PLACES],
    "ORCHESTRATOR_ENCRYPTION_KEYS": ["x", "!", "ü", base64.b64encode(bytes(31)).decode(), f"{SEALING},", SEALING[:-1]],
    "ORCHESTRATOR_PUBLIC_URL": URLS,
    "ORCHESTRATOR_SIGNUP_SECRETS": WHSECS,
    "ORCHESTRATOR_NOTIFY_URL": URLS,
    "ORCHESTRATOR_NOTIFY_SECRET": WHSECS,
    "ORCHESTRATOR_PROVIDERS_FILE": ["no/such/file.toml", "/", "x" * 5000],
    "ORCHESTRATOR_MERCHANT_NAME": ["two\nlines", "x" * 61],
    "ORCHESTRATOR_MERCHANT_LOGO_FILE": ["no/such/logo.svg", "/", __file__],
    "ORCHESTRATOR_ACCENT_COLOR": ["teal", "#123", "#12345g", "0a5f6b", "#0a5f6b; x"],
    "ORCHESTRATOR_SUPPORT_CONTACT": ["two\nlines", "x" * 201],
    "ORCHESTRATOR_TRUSTED_PROXIES": ["-1", "11", "1.5", "one"],
    "ORCHESTRATOR_PROXY_URL": URLS,
    "ORCHESTRATOR_LOG_LEVEL": ["LOUD", "20"],
    "ORCHESTRATOR_LOG_FORMAT": ["xml"],
    "ORCHESTRATOR_PROVIDER_DEADLINE_SECONDS": [*NUMBERS, "0"],
    "BTSE_BASE_URL": URLS,
    "BTSE_API_KEY": ["kéy", "a\nb"],
    "BTSE_SECRET_KEY": [],
    "OSL_BASE_URL": URLS,
    "OSL_APP_ID": ["äpp", "a\r\nb"],
    "OSL_PRIVATE_KEY": ["key", PUBLIC, private_der(OTHER_KIND), "-----BEGIN PRIVATE KEY-----\nAAAA"],
    "OSL_WEBHOOK_PUBLIC_KEY": ["key", PRIVATE, public_der(OTHER_KIND), "-----BEGIN PUBLIC KEY-----\nAAAA"],
    "OSL_REQUESTS_PER_SECOND": ["0", "1001", "2.5", "-1", "many", "9" * 12],
    "CALLBACK_TOLERANCE_SECONDS": [*NUMBERS, "0"],
    "CALLBACK_PATIENCE_SECONDS": [*NUMBERS, "0"],
    "COLLECT_TTL_DAYS": NUMBERS,
    "RETAIN_DOCUMENTS_DAYS": NUMBERS,
    "RETAIN_PROFILE_DAYS": NUMBERS,
    "RETRY_HORIZON_HOURS": [*NUMBERS, "0"],
}


@pytest.mark.parametrize("url", GOOD_POSTGRESQL)
def test_what_postgresql_takes_for_a_url_is_taken(url: str) -> None:
    assert config(ORCHESTRATOR_DATABASE_URL=url).database_url == url


@pytest.mark.parametrize("url", ["file:var/x", "file:/var/x", "file:///var/x", "s3://bucket", "s3://bucket/prefix"])
def test_places_for_documents_are_taken_in_every_way_to_write_them(url: str) -> None:
    assert config(ORCHESTRATOR_DOCUMENTS_URL=url).documents_url == url


def test_malformed_values_are_tried_for_every_setting() -> None:
    assert set(MALFORMED) == set(NAMES)


@pytest.mark.parametrize("name", [name for name, values in MALFORMED.items() if values])
def test_a_malformed_setting_is_a_fault_of_that_setting_alone(name: str) -> None:
    for value in MALFORMED[name]:
        found = fault(**notify_pair(name) | {name: value})

        assert found.name == name, value
        assert found.problem.startswith(("it ", "each ", "there ", "what follows ", "this version ")), value


def notify_pair(name: str) -> dict[str, str]:
    return {} if name == "ORCHESTRATOR_NOTIFY_SECRET" else {"ORCHESTRATOR_NOTIFY_SECRET": NOTIFY_WHSEC}


def test_a_notify_url_without_its_secret_is_a_fault_of_the_secret() -> None:
    found = fault(ORCHESTRATOR_NOTIFY_URL="https://merchant.example.com/kyc")

    assert found.name == "ORCHESTRATOR_NOTIFY_SECRET"
    assert "ORCHESTRATOR_NOTIFY_URL" in found.problem


def test_a_notify_url_with_a_malformed_secret_is_one_fault() -> None:
    assert fault(ORCHESTRATOR_NOTIFY_URL="https://m.example", ORCHESTRATOR_NOTIFY_SECRET="x").problem != "it is missing"


def test_a_key_of_fewer_bits_than_any_sample_is_refused() -> None:
    assert "1024 to 4096" in fault(OSL_PRIVATE_KEY=SMALL_RSA).problem


# A 512-bit RSA key made with `openssl genpkey`; it protects nothing.
SMALL_RSA = (
    "MIIBOwIBAAJBAOUk7vkpVxTGhmJFFQk8Ou29lCjBXifgbh4X5KF3cTcaFo2F0bkFwnv340bpA33/TMxF8c/beNJKBKUutpZCYR0CAwEAAQJBAJ"
    "0Q1eVgGtqYweB2Ldcou9PeEMJm2R1ITvK9ue+bqbT0Ftb+PWdDkK8N7rxxYLCHT0yQLBDiuvMl9Or439UFWYECIQD0+Ejqk8BGZ40aWVPheADS"
    "R81xsKhWE8iQVtCwqZVjDQIhAO92Ov9MvzjXmKwrgTQcoSr/Ynz+MB3GiSifB1/f27JRAiATyN2yvF4iEYju4NoKcrO2SABKt1bRJOXk6m4OZp"
    "PfHQIgXleaTtMR03c9czeAo+NTq/kJ+Gy80D5T82kUIrWzfMECIQDu1u8MlFYIOlfMauGUyDzZYEwDOMLEp0mbHz9Om/r1BQ=="
)


# Secrets -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*SECRETS, "ORCHESTRATOR_PROXY_URL", "OSL_WEBHOOK_PUBLIC_KEY"])
def test_no_message_echoes_the_value_of_a_faulty_secret(name: str) -> None:
    for dress in ("{}", "whsec_{}", "ü{}", "{}\n{}", "http://u:{}@[", "-----BEGIN {} KEY-----"):
        assert_hidden(name, dress.replace("{}", MARK))


@pytest.mark.parametrize("dress", ["u:{}%zz@db/k", "u:{}@[::1/k", "u:{}@x@db/k", "u:{}/x@db/k", "u:{} x@db/k"])
def test_no_message_echoes_the_password_in_a_faulty_url_of_a_database(dress: str) -> None:
    assert_hidden("ORCHESTRATOR_DATABASE_URL", "postgresql://" + dress.replace("{}", MARK))


def assert_hidden(name: str, value: str) -> None:
    """Whatever is said of this value does not hold its mark."""
    with pytest.raises(ConfigurationError) as caught:
        config(**{name: value, "OSL_REQUESTS_PER_SECOND": "none"})

    assert MARK not in str(caught.value)
    assert MARK not in repr(caught.value.faults)
    seen: BaseException | None = caught.value
    while seen is not None:
        assert MARK not in str(seen)
        seen = seen.__cause__


@given(name=st.sampled_from(NAMES), value=st.text(st.characters(exclude_categories=("Cs",)), min_size=1))
@example(name="ORCHESTRATOR_NOTIFY_SECRET", value="whsec_" + "A" * 31)
@example(name="ORCHESTRATOR_PROXY_URL", value="http://[::1")
@settings(max_examples=100, deadline=None, derandomize=True)
def test_whatever_a_setting_holds_it_is_taken_or_a_fault_of_that_setting(name: str, value: str) -> None:
    named: set[str] = set()
    try:
        config(**notify_pair(name) | {name: value})
    except ConfigurationError as error:
        named = {item.name for item in error.faults}

    assert named <= {name}


def test_the_repr_hides_every_secret() -> None:
    secrets = {**SECRETS, "ORCHESTRATOR_PROXY_URL": f"http://user:{MARK}@proxy.example:3128"}
    shown = repr(config(**secrets, ORCHESTRATOR_NOTIFY_URL="https://merchant.example.com"))

    for value in (*SECRETS.values(), MARK, repr(bytes(range(32)))):
        assert value not in shown
    assert "https://merchant.example.com" in shown
    assert "osl_app_id='app-1'" in shown


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_is_read_from_the_file_that_its_twin_names(name: str, tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text(SECRETS[name] + "\n", encoding="utf-8")
    changed: dict[str, str | None] = {name: None, f"{name}_FILE": str(path)}

    assert comparable(config(**changed), name) == comparable(config(**{name: SECRETS[name]}), name)


def comparable(settings_now: Config, name: str) -> Any:
    value = getattr(settings_now, FIELDS[name].name)
    return value.private_numbers() if isinstance(value, RSAPrivateKey) else value


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_and_its_twin_both_set_are_an_error(name: str, tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text(SECRETS[name], encoding="utf-8")

    found = fault(**{name: SECRETS[name], f"{name}_FILE": str(path)})

    assert found.name == name
    assert f"{name}_FILE" in found.problem


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir(), lambda path: path.write_bytes(b"\xff")])
def test_a_file_that_cannot_be_read_is_a_fault_of_its_setting(make: Callable[[Path], Any], tmp_path: Path) -> None:
    path = tmp_path / "secret"
    make(path)

    found = fault(BTSE_SECRET_KEY=None, BTSE_SECRET_KEY_FILE=str(path))

    assert (found.name, found.problem) == (
        "BTSE_SECRET_KEY",
        "the file that BTSE_SECRET_KEY_FILE names cannot be read",
    )


def test_an_empty_file_is_a_secret_that_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("\n", encoding="utf-8")

    assert fault(BTSE_SECRET_KEY=None, BTSE_SECRET_KEY_FILE=str(path)).problem == "it is missing"


# Where they are read -------------------------------------------------------------------------------------------


@pytest.fixture
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory of its own, and an environment without any of our settings."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.removesuffix("_FILE") in NAMES:
            monkeypatch.delenv(name)
    return tmp_path


def test_settings_are_read_from_dot_env_in_the_working_directory(empty_folder: Path) -> None:
    lines = [f"{name}='{value}'" for name, value in REQUIRED.items()] + ["OSL_REQUESTS_PER_SECOND=7"]
    (empty_folder / ".env").write_text("\n".join(lines), encoding="utf-8")

    assert Config.from_env().osl_requests_per_second == 7


def test_the_environment_overrides_dot_env(empty_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [f"{name}='{value}'" for name, value in REQUIRED.items()] + ["OSL_REQUESTS_PER_SECOND=7"]
    (empty_folder / ".env").write_text("\n".join(lines), encoding="utf-8")
    monkeypatch.setenv("OSL_REQUESTS_PER_SECOND", "8")

    assert Config.from_env().osl_requests_per_second == 8


def test_without_dot_env_the_environment_is_enough(empty_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not (empty_folder / ".env").exists()
    for name, value in REQUIRED.items():
        monkeypatch.setenv(name, value)

    assert Config.from_env().osl_app_id == "app-1"


def test_a_dot_env_that_is_no_text_in_utf_8_is_a_fault_that_says_so(empty_folder: Path) -> None:
    (empty_folder / ".env").write_bytes(f"OSL_APP_ID={MARK}\xff".encode("latin-1"))

    with pytest.raises(ConfigurationError) as caught:
        Config.from_env()

    assert str(caught.value) == ".env: it is no text in UTF-8: save it as UTF-8"


def test_a_dot_env_that_may_not_be_read_is_a_fault_that_says_so(
    empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: str) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("orchestrator.config.dotenv_values", refuse)

    with pytest.raises(ConfigurationError, match=r"^\.env: it cannot be read \(Permission denied\): "):
        Config.from_env()


def test_reading_the_settings_leaves_the_environment_as_it_was(empty_folder: Path) -> None:
    (empty_folder / ".env").write_text("\n".join(f"{name}='{value}'" for name, value in REQUIRED.items()))
    before = dict(os.environ)

    Config.from_env()

    assert dict(os.environ) == before
