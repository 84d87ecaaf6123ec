"""What deploy/ describes is run as it is described, but for the container engine: image, compose file and nginx."""

from __future__ import annotations

import os
import re
import resource
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests
from requests.adapters import HTTPAdapter

from tests.deployment import CHECKOUT, Dockerfile, compose, env_file, make_secrets, process_environment
from tests.installation import free_port
from tests.nginx_server import HOST, Nginx
from tests.postgres_server import PostgresServer
from tests.programs import program
from tests.signups import documents, signup_data
from tests.waiting import until

pytestmark = pytest.mark.long

SECRET = re.compile(r"[A-Za-z0-9_-]{43}")
"""What a token looks like, wherever it is."""


@dataclass
class Composed:
    """The compose file's services as processes of this machine, in folders of a test."""

    folder: Path
    port: int
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def environment(self, name: str) -> dict[str, str]:
        """What image and compose file give the service."""
        service = compose()["services"][name]
        given = Dockerfile().environment | env_file(service["env_file"]) | service["environment"]
        del given["PATH"]
        placed = {key: self._here(value) for key, value in given.items()}
        return process_environment() | {"PYTHONPATH": str(CHECKOUT), **placed}

    def command(self, name: str) -> list[str]:
        """Its command, or the image's."""
        words = compose()["services"][name].get("command") or Dockerfile().command
        return [self._here(word) for word in words]

    def health_check(self, name: str) -> int:
        """The exit status of what says whether it is well."""
        test = compose()["services"][name].get("healthcheck", {}).get("test")
        words = test[1:] if test else Dockerfile().health_check
        return self.run(name, *(self._here(word).replace("$$", "$") for word in words)).returncode

    def run(self, name: str, *words: str) -> subprocess.CompletedProcess[str]:
        """As `docker compose exec` would."""
        return subprocess.run(
            self._program(words),
            env=self.environment(name),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def start(self, name: str) -> subprocess.Popen[bytes]:
        """Start it; its output goes into `name`.log."""
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                self._program(self.command(name)),
                env=self.environment(name),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.processes.append(process)
        return process

    def _here(self, text: str) -> str:
        for there, here in {
            "/run/secrets": str(self.folder / "secrets"),
            "/var/lib/orchestrator": str(self.folder),
            "/tmp/alive": str(self.folder / "alive"),
            "/etc/orchestrator": str(CHECKOUT),
            "0.0.0.0:8000": f"127.0.0.1:{self.port}",
            "('127.0.0.1', 8000,": f"('127.0.0.1', {self.port},",
        }.items():
            text = text.replace(there, here)
        return text

    def _program(self, words: Any) -> list[str]:
        """The commands of the image's environment are those of this one."""
        first, *rest = words
        own = Path(sys.executable).parent / first
        return [str(own) if own.exists() else first, *rest]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, postgres_server: PostgresServer) -> Iterator[Composed]:
    """The whole of it, up."""
    composed = Composed(tmp_path_factory.mktemp("composed"), free_port())
    password = make_secrets(composed.folder / "secrets")["database-password"]
    postgres_server.execute(f"create role orchestrator login password '{password}'")
    postgres_server.execute("create database orchestrator owner orchestrator")
    url = composed.folder / "secrets" / "database-url"
    url.write_text(url.read_text().replace("@database/", f"@127.0.0.1:{postgres_server.port}/"))
    # The compose file's limit is the container engine's: what starts here could leave core dumps.
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    try:
        assert composed.start("migrate").wait(60) == 0, (composed.folder / "migrate.log").read_text()
        composed.start("web")
        composed.start("worker")
        until(lambda: composed.health_check("web") == 0, every=0.3)
        yield composed
    finally:
        for process in composed.processes:
            process.terminate()
        for process in composed.processes:
            process.wait(30)
        postgres_server.execute("drop database orchestrator with (force)")
        postgres_server.execute("drop role orchestrator")
        resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))


@pytest.fixture(scope="module")
def nginx(site: Composed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    """In front of it, telling more than deploy/ lets it tell."""
    binary = program("nginx", "nginx-light")
    server = Nginx(binary, tmp_path_factory.mktemp("nginx") / "warning", site.port, level="warn")
    server.start()
    yield server
    server.stop()


class _From(HTTPAdapter):
    """Connections that come from another address of this machine."""

    def __init__(self, address: str) -> None:
        self._address = address
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs, source_address=(self._address, 0), assert_hostname="127.0.0.1")


def client(nginx: Nginx, address: str = "127.0.0.1") -> requests.Session:
    """Trusts nginx's certificate; comes from `address`."""
    session = requests.Session()
    session.trust_env = False
    session.verify = str(nginx.certificate)
    session.headers["Host"] = HOST
    session.mount("https://", _From(address))
    return session


def api(session: requests.Session, nginx: Nginx, site: Composed, name: str) -> Mapping[str, str]:
    """Headers with an operator's token."""
    made = site.run("web", "orchestrator", "token", "create", "--role", "operator", "--name", name)
    assert made.returncode == 0, made.stderr
    return {"Authorization": f"Bearer {made.stdout.strip()}"}


# The compose file ------------------------------------------------------------------------------------------------


def test_what_the_compose_file_runs_is_ready_and_its_health_checks_say_so(site: Composed) -> None:
    until((site.folder / "alive").exists)
    assert site.health_check("worker") == 0
    until(lambda: requests.get(f"http://127.0.0.1:{site.port}/readyz", timeout=20).json()["warnings"] == [])
    # The settings' one proxy: who comes without one is taken for it.
    assert requests.get(f"http://127.0.0.1:{site.port}/healthz", timeout=20).status_code == 200


def children(process: subprocess.Popen[bytes]) -> list[int]:
    """Their ids."""
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def test_no_process_that_serves_or_works_leaves_a_core_dump(site: Composed) -> None:
    """It would hold every key, and the documents that were sent just then. Nobody but the process itself forbids it."""
    _, web, worker = site.processes
    for pid in (web.pid, *children(web), worker.pid):
        (line,) = re.findall(
            r"^Max core file size +(\S+) +(\S+)", Path(f"/proc/{pid}/limits").read_text(), re.MULTILINE
        )
        assert line == ("0", "0"), pid
    assert len(children(web)) == 2


def test_a_worker_that_no_longer_works_is_found_out(site: Composed, tmp_path: Path) -> None:
    old = tmp_path / "alive"
    old.touch()
    os.utime(old, (0, 0))
    (check,) = (word for word in compose()["services"]["worker"]["healthcheck"]["test"] if "find" in word)
    for file, well in ((site.folder / "alive", True), (old, False), (tmp_path / "never", False)):
        command = check.replace("$$", "$").replace("/tmp/alive", str(file))
        done = subprocess.run(["sh", "-c", command], capture_output=True, timeout=20, check=False)
        assert (done.returncode == 0) is well


# nginx -----------------------------------------------------------------------------------------------------------


def test_nginx_takes_the_configuration(tmp_path: Path) -> None:
    checked = Nginx(program("nginx", "nginx-light"), tmp_path / "nginx", 1).check()

    assert checked.returncode == 0, checked.stderr
    assert "[warn]" not in checked.stderr


def test_through_nginx_users_are_begun_and_documents_are_sent_and_none_touches_its_disk(
    site: Composed, nginx: Nginx
) -> None:
    session = client(nginx)
    headers = api(session, nginx, site, "through")
    begun = session.post(f"{nginx.url}/api/v1/onboardings", json=signup_data("pass", 1), headers=headers, timeout=20)
    assert begun.status_code == 201, begun.text
    largest = documents("PASSPORT")["idFileFront"][0].ljust(5_000_000, b"\0")
    path = f"{nginx.url}/api/v1/onboardings/{begun.json()['id']}/documents/idFileFront"
    # In pieces of unknown length, as some clients do: nginx sends it on with its length.
    sent = session.put(path, data=iter([largest[:1_000_000], largest[1_000_000:]]), headers=headers, timeout=60)
    assert sent.status_code == 200, sent.text
    assert sent.json()["documents"][0]["size"] == 5_000_000
    page = session.get(f"{nginx.url}/u/{begun.json()['uploadUrl'].rpartition('/')[2]}", timeout=20)
    assert (page.status_code, page.headers["Strict-Transport-Security"]) == (200, "max-age=31536000")
    too_large = session.put(path, data=largest + b"..", headers=headers, timeout=60)
    assert too_large.status_code == 413
    assert too_large.headers["Content-Type"] == "application/problem+json", "the service says so, not nginx"
    assert "temporary file" not in nginx.log("error")


def test_plain_http_is_led_to_tls(nginx: Nginx) -> None:
    headers = {"Host": HOST}
    led = requests.get(f"{nginx.plain_url}/u/x", headers=headers, allow_redirects=False, timeout=20)

    assert (led.status_code, led.headers["Location"]) == (301, f"https://{HOST}/u/x")


def test_plain_http_is_led_to_no_other_host(nginx: Nginx) -> None:
    headers = {"Host": "evil.example"}
    led = requests.get(f"{nginx.plain_url}/u/x?y=z", headers=headers, allow_redirects=False, timeout=20)

    assert (led.status_code, led.headers["Location"]) == (301, f"https://{HOST}/u/x?y=z")


class Connection:
    """One connection to nginx from an address of this machine, with a request that is sent as far as is asked."""

    def __init__(self, nginx: Nginx, stack: ExitStack, address: str) -> None:
        trust = ssl.create_default_context(cafile=str(nginx.certificate))
        plain = socket.create_connection(("127.0.0.1", nginx.port), 10, source_address=(address, 0))
        self._tls = stack.enter_context(trust.wrap_socket(plain, server_hostname="127.0.0.1"))

    def begin(self, target: str) -> Connection:
        """Send the head and a little of the body."""
        self._tls.sendall(f"POST {target} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 1000\r\n\r\nabc".encode())
        return self

    def finish(self) -> None:
        """Send the rest."""
        self._tls.sendall(bytes(997))

    @property
    def is_waiting(self) -> bool:
        """Whether nginx waits for the rest."""
        self._tls.settimeout(0.3)
        try:
            self._tls.recv(1)
        except TimeoutError:
            return True
        return False

    @property
    def status(self) -> int:
        """Of the answer."""
        self._tls.settimeout(10)
        return int(self._tls.recv(1000).split()[1])

    def close(self) -> None:
        """Leave."""
        self._tls.close()


@pytest.mark.parametrize(("target", "most"), [("/u/a-link", 8), ("/u/a-link/documents/selfie", 20), ("/login", 20)])
def test_who_sends_slowly_has_a_few_bodies_held_and_shuts_nobody_else_out(nginx: Nginx, target: str, most: int) -> None:
    with ExitStack() as stack:

        def begun(address: str = "127.0.0.9", where: str = target) -> Connection:
            return Connection(nginx, stack, address).begin(where)

        slow = [begun() for _ in range(most)]
        assert all(connection.is_waiting for connection in slow[-2:])
        assert begun().status == 429
        assert begun("127.0.0.10").is_waiting, "another address"
        assert begun(where="/callbacks/oslpay/of-somebody").is_waiting, "a webhook"
        slow.pop().close()
        until(lambda: begun().is_waiting)


def test_what_a_slow_sender_does_is_all_that_is_refused(nginx: Nginx) -> None:
    """The eight of one address go on to the end."""
    with ExitStack() as stack:
        slow = [Connection(nginx, stack, "127.0.0.11").begin("/u/a-link") for _ in range(8)]
        assert Connection(nginx, stack, "127.0.0.11").begin("/u/a-link").status == 429
        for connection in slow:
            connection.finish()
        assert {connection.status for connection in slow} == {404}


def test_the_address_and_scheme_that_nginx_saw_are_believed_and_no_others(nginx: Nginx, site: Composed) -> None:
    """Wrong tokens are counted by address: those of one do not shut another out, whatever they claim to be."""
    rude, polite = client(nginx, "127.0.0.2"), client(nginx, "127.0.0.3")
    wrong = {"token": "orc_wrong"}

    def sign_in(session: requests.Session, number: int) -> int:
        claimed = {"X-Forwarded-For": f"198.51.100.{number}", "X-Forwarded-Proto": "http", "Origin": f"https://{HOST}"}
        return session.post(f"{nginx.url}/login", data=wrong, headers=claimed, timeout=20).status_code

    assert [sign_in(rude, number) for number in range(11)][-2:] == [401, 429]
    assert sign_in(polite, 1) == 401
    made = site.run("web", "orchestrator", "token", "create", "--role", "viewer", "--name", "proxied")
    signed_in = polite.post(
        f"{nginx.url}/login",
        data={"token": made.stdout.strip()},
        headers={"Origin": f"https://{HOST}"},
        allow_redirects=False,
        timeout=20,
    )
    assert signed_in.headers["Set-Cookie"].startswith("__Host-orchestrator="), "the service knows that it is TLS"
    assert "Secure" in signed_in.headers["Set-Cookie"]


def test_a_request_keeps_its_id_through_nginx_and_its_log(nginx: Nginx) -> None:
    session = client(nginx)
    own = session.get(f"{nginx.url}/healthz", headers={"X-Request-ID": "shop-4711"}, timeout=20)
    made = session.get(f"{nginx.url}/healthz", headers={"X-Request-ID": "not one, nor short"}, timeout=20)

    assert own.headers["X-Request-ID"] == "shop-4711"
    assert re.fullmatch(r"[0-9a-f]{32}", made.headers["X-Request-ID"])
    until(lambda: "request_id=shop-4711" in nginx.log("access"))
    until(lambda: f"request_id={made.headers['X-Request-ID']}" in nginx.log("access"))


SPELLINGS = (
    "/u/{}",
    "/u/{}/x?y={}",
    "//u/{}",
    "/./u/{}",
    "/x/../u/{}",
    "/%75/{}",
    "/U/{}",
    "/callbacks/oslpay/{}",
    "/callbacks//oslpay/{}",
    "/callbacks/oslpay/{}?a={}",
    "/Callbacks/%6fslpay/{}",
    "/api/v1/onboardings?q={}",
    "http://" + HOST + "/u/{}",
    "/u/{}%0a%00",
    "/u/{} HTTP/1.1 {}",
)


def test_no_spelling_of_a_path_brings_a_token_into_the_logs(tmp_path: Path) -> None:
    """Nobody listens behind it: what nginx says of its failures is looked at too."""
    nginx = Nginx(program("nginx", "nginx-light"), tmp_path / "nginx", free_port())
    nginx.start()
    token = "Zq" * 21 + "7"
    assert SECRET.fullmatch(token)
    trust = ssl.create_default_context(cafile=str(nginx.certificate))
    for method in ("GET", "POST"):
        for spelling in SPELLINGS:
            target = spelling.replace("{}", token)
            head = f"{method} {target} HTTP/1.1\r\nHost: {HOST}\r\nReferer: https://{HOST}/u/{token}\r\n"
            with (
                socket.create_connection(("127.0.0.1", nginx.port), 10) as plain,
                trust.wrap_socket(plain, server_hostname="127.0.0.1") as tls,
            ):
                tls.sendall(f"{head}Content-Length: 0\r\nConnection: close\r\n\r\n".encode())
                assert tls.recv(100).startswith(b"HTTP/1.1 ")
    nginx.stop()
    lines = nginx.log("access").splitlines()

    assert len(lines) == 2 * len(SPELLINGS)
    assert "502" in nginx.log("access")
    assert "/u/- HTTP/1.1" in nginx.log("access")
    assert token.casefold() not in (nginx.log("access") + nginx.log("error")).casefold()
