"""`serve`, `worker` and `migrate`: the processes."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import click

from orchestrator import bootstrap
from orchestrator.cli.wiring import check_migrated
from orchestrator.config import Config
from orchestrator.errors import ConfigurationError
from orchestrator.supervisor import Command, Supervisor
from orchestrator.telemetry import logger
from orchestrator.worker import Worker

_GUNICORN = (
    *("--worker-class", "orchestrator.web.gather.GatheringWorker"),
    *("--logger-class", "orchestrator.web.server_log.ServerLog"),
    *("--worker-connections", "1000", "--keep-alive", "5"),
    # What proxies say is believed by ORCHESTRATOR_TRUSTED_PROXIES alone.
    *("--forwarded-allow-ips", ""),
    *("--timeout", "30", "--graceful-timeout", "20", "--log-level", "warning"),
)


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(1, 65535), help="Port to listen on.")
@click.option("--web-workers", default=2, show_default=True, type=click.IntRange(1, 64), help="Web processes.")
@click.option("--threads", default=8, show_default=True, type=click.IntRange(1, 256), help="Threads of each.")
@click.option("--worker-threads", default=8, show_default=True, type=click.IntRange(1, 256), help="Steps at a time.")
def serve(host: str, port: int, web_workers: int, threads: int, worker_threads: int) -> None:
    """Run web (gunicorn) and one worker process together; SIGTERM ends all within 30 s.

    SIGUSR1 has them read .env and secrets' files anew, without a pause.
    """
    service = bootstrap.build(Config.from_env())
    try:
        if service.config.database_url.startswith("sqlite:"):
            service.migrate()
        check_migrated(service)
    finally:
        service.close()
    environment = {name: value for name, value in os.environ.items() if name != "GUNICORN_CMD_ARGS"}
    web = [sys.executable, "-m", "gunicorn", "orchestrator.wsgi:app", "--bind", f"{host}:{port}", *_GUNICORN]
    web += ["--workers", str(web_workers), "--threads", str(threads)]
    worker_command = [sys.executable, "-m", "orchestrator", "worker", "--threads", str(worker_threads)]
    logger("supervisor").info("serving", url=f"http://{host}:{port}", status_page=f"http://{host}:{port}/status")
    commands = [Command("web", web, environment, reload=signal.SIGHUP), Command("worker", worker_command)]
    sys.exit(Supervisor(commands, may_reload=_settings_are_sound).run())


def _settings_are_sound() -> bool:
    """Says what is wrong if they are not."""
    try:
        bootstrap.build(Config.from_env()).close()  # which opens nothing, and reads all files that settings name
    except ConfigurationError as error:
        click.echo(str(error), err=True)
        return False
    return True


@click.command()
@click.option("--threads", default=8, show_default=True, type=click.IntRange(1, 256), help="Steps at a time.")
@click.option(
    "--alive-file",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Touched every few seconds: whoever watches this process sees by its age that it is alive.",
)
def worker(threads: int, alive_file: Path | None) -> None:
    """Run the worker alone."""
    service = bootstrap.build(Config.from_env())
    try:
        check_migrated(service)
        service.context.schedule.set_budget(service.config.osl_requests_per_second)
        running = Worker(service.context, threads, alive_file)
        running.stop_on_signals()
        running.run()
    finally:
        service.close()


@click.command()
def migrate() -> None:
    """Bring the database up to date."""
    service = bootstrap.build(Config.from_env())
    try:
        applied = service.migrate()
    finally:
        service.close()
    click.echo("\n".join(f"applied {name}" for name in applied) or "nothing to do")
