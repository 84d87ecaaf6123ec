"""The one place that wires: settings in, a working service out."""

from __future__ import annotations

import itertools
import random
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from orchestrator import telemetry
from orchestrator.config import Config
from orchestrator.documents import Documents, Folder, Shelf
from orchestrator.errors import ConfigurationError, InvalidInput, SettingFault, StoreUnavailable
from orchestrator.notify import Merchant
from orchestrator.onboarding.context import DAY, HOUR, Context, Rules, Timings
from orchestrator.onboarding.profile import ProfileRules
from orchestrator.onboarding.tally import Tally
from orchestrator.providers.btse_pay import BtsePay
from orchestrator.providers.dialect import Dialects, load_dialects
from orchestrator.providers.http import Outgoing
from orchestrator.providers.osl_pay import OslPay
from orchestrator.seal import Sealer
from orchestrator.signatures import SignEncoding
from orchestrator.store import AccessStore, ScheduleStore, SqliteDriver, StatusStore, Store
from orchestrator.store.driver import Driver

_TRIED = ("path_authorization", "sign_encoding")


@dataclass(frozen=True)
class Service:
    """A wired service. `close` gives back connections and threads."""

    config: Config
    context: Context
    driver: Driver
    outgoing: Outgoing

    def open(self) -> None:
        """Begin to use the database; one that is away may come, until then requests are answered 503.

        Raises ConfigurationError when its contents have moved, StoreUnavailable when a PostgreSQL is not migrated.
        """
        try:
            self.driver.open()
            pending = self.driver.pending_migrations() if not self.config.database_url.startswith("sqlite:") else []
        except StoreUnavailable as error:
            telemetry.logger("web").error("store_unavailable", problem=str(error))
            return
        if pending:
            raise StoreUnavailable(f"the database lacks {', '.join(pending)}: run `orchestrator migrate` first")

    def migrate(self) -> list[str]:
        """Bring the schema up to date; the names of what was applied."""
        applied = self.driver.migrate()
        self.context.schedule.set_budget(self.config.osl_requests_per_second)
        return applied

    def over(self, driver: Driver) -> Context:
        """The same service over another database."""
        return replace(
            self.context,
            store=Store(driver),
            schedule=ScheduleStore(driver),
            access=AccessStore(driver),
            status=StatusStore(driver),
            pending_migrations=driver.pending_migrations,
        )

    def close(self) -> None:
        """Give everything back."""
        self.context.tally.flush()
        self.outgoing.close()
        self.driver.close()


def system_now_ms() -> int:
    """The real clock, in unix milliseconds."""
    return time.time_ns() // 1_000_000


def database(path: Path) -> Driver:
    """The driver of a database file."""
    return SqliteDriver(path)


def _driver(config: Config) -> Driver:
    if config.database_url.startswith("sqlite:"):
        return database(config.database_path)
    try:
        # Only who uses PostgreSQL needs its packages.
        from orchestrator.store.postgres import PostgresDriver  # noqa: PLC0415
    except ImportError as error:
        raise _lacks_extra("ORCHESTRATOR_DATABASE_URL", "postgres") from error
    return PostgresDriver(config.database_url)


def _shelf(config: Config) -> Shelf:
    if config.documents_url.startswith("file:"):
        return Folder(config.documents_path)
    try:
        # Only who uses S3 needs its packages.
        from orchestrator.bucket import Bucket  # noqa: PLC0415
    except ImportError as error:
        raise _lacks_extra("ORCHESTRATOR_DOCUMENTS_URL", "s3") from error
    return Bucket(config.documents_url)


def _lacks_extra(setting: str, extra: str) -> ConfigurationError:
    problem = f"it needs an extra: pip install 'kyc-onboarding-orchestrator[{extra}]'"
    return ConfigurationError([SettingFault(setting, problem, "(unset)")])


def build(
    config: Config,
    *,
    timings: Timings | None = None,
    now_ms: Callable[[], int] = system_now_ms,
    token: Callable[[], str] = lambda: secrets.token_urlsafe(32),
    rand: Callable[[], float] = random.random,
    pause: Callable[[float], None] = time.sleep,
) -> Service:
    """A service of these settings; nothing is opened or written before it is used.

    Raises ConfigurationError when ORCHESTRATOR_PROVIDERS_FILE is faulty.
    """
    telemetry.configure(config.log_level, config.log_format)
    dialects = _dialects(config)
    sealer = Sealer(config.encryption_keys, secrets.token_bytes)
    driver = _driver(config)
    outgoing = Outgoing(deadline_seconds=config.provider_deadline_seconds, proxy_url=config.proxy_url, now_ms=now_ms)
    documents = Documents(_shelf(config), sealer, lambda: secrets.token_hex(8))
    store = Store(driver)
    context = Context(
        store=store,
        schedule=ScheduleStore(driver),
        access=AccessStore(driver),
        status=StatusStore(driver),
        documents=documents,
        sealer=sealer,
        btse=_btse(config, dialects, outgoing, now_ms),
        osl=_osl(config, dialects, outgoing, now_ms),
        merchant=_merchant(config, sealer, outgoing, now_ms),
        tally=Tally(store.count),
        osl_public_key=config.osl_webhook_public_key,
        dialects=dialects,
        profile_rules=ProfileRules(dialects.osl),
        rules=_rules(config),
        timings=timings or Timings(),
        now_ms=now_ms,
        token=token,
        random=rand,
        pause=pause,
        pending_migrations=driver.pending_migrations,
    )
    return Service(config, context, driver, outgoing)


def btse_variants(service: Service) -> dict[str, BtsePay]:
    """Clients that assume otherwise of BTSE Pay, by the lines of dialects.toml that would say so.

    Signs are written in any documented way; of the path, as much may be missing as a base URL may hold already.
    """
    config, dialects = service.config, service.context.dialects
    assumed = dialects.btse
    parts = assumed.path_authorization.strip("/").split("/")
    paths = ["/" + "/".join(parts[left_out:]) for left_out in range(len(parts) - 1)]
    variants = {}
    for path, encoding in itertools.product(paths, get_args(SignEncoding)):
        other = replace(assumed, path_authorization=path, sign_encoding=encoding)
        lines = [
            f'{name} = "{getattr(other, name)}"' for name in _TRIED if getattr(other, name) != getattr(assumed, name)
        ]
        if lines:
            client = _btse(config, replace(dialects, btse=other), service.outgoing, service.context.now_ms)
            variants[" and ".join(lines)] = client
    return variants


def _dialects(config: Config) -> Dialects:
    try:
        return load_dialects(config.providers_file)
    except InvalidInput as error:
        fault = SettingFault("ORCHESTRATOR_PROVIDERS_FILE", str(error), "providers.toml")
        raise ConfigurationError([fault]) from error


def _rules(config: Config) -> Rules:
    return Rules(
        public_url=config.public_url,
        app_id=config.osl_app_id,
        deadline_ms=int(config.provider_deadline_seconds * 1000),
        tolerance_ms=int(config.callback_tolerance_seconds * 1000),
        patience_ms=int(config.callback_patience_seconds * 1000),
        collect_ttl_ms=int(config.collect_ttl_days * DAY),
        horizon_ms=int(config.retry_horizon_hours * HOUR),
        retain_documents_ms=int(config.retain_documents_days * DAY),
        retain_profile_ms=int(config.retain_profile_days * DAY),
        signup_secrets=config.signup_secrets,
    )


def _btse(config: Config, dialects: Dialects, outgoing: Outgoing, now_ms: Callable[[], int]) -> BtsePay:
    return BtsePay(
        base_url=config.btse_base_url,
        api_key=config.btse_api_key,
        secret_key=config.btse_secret_key,
        dialect=dialects.btse,
        outgoing=outgoing,
        now_ms=now_ms,
    )


def _osl(config: Config, dialects: Dialects, outgoing: Outgoing, now_ms: Callable[[], int]) -> OslPay:
    return OslPay(
        base_url=config.osl_base_url,
        app_id=config.osl_app_id,
        private_key=config.osl_private_key,
        public_key=config.osl_webhook_public_key,
        dialect=dialects.osl,
        outgoing=outgoing,
        now_ms=now_ms,
    )


def _merchant(config: Config, sealer: Sealer, outgoing: Outgoing, now_ms: Callable[[], int]) -> Merchant | None:
    if config.notify_url is None or config.notify_secret is None:
        return None
    return Merchant(config.notify_url, config.notify_secret, sealer, outgoing, now_ms)
