"""The gathering worker under real gunicorn, over real sockets: slow senders and readers hold no thread."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

HERE = Path(__file__).parent
GATHERING = "orchestrator.web.gather.GatheringWorker"
IMPATIENT = "gathering_server.ImpatientWorker"
DOCUMENT = "/api/v1/onboardings/onb_1/documents/selfie"


@dataclass
class Answer:
    """One HTTP answer; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class Client:
    """One connection that sends exactly the bytes it is told to."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=8)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.reader = self.sock.makefile("rb")

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.reader.close()
        self.sock.close()

    def ask(self, method: str, path: str, body: bytes = b"", *fields: str) -> Answer:
        self.sock.sendall(request(method, path, body, *fields))
        return self.answer()

    def answer(self) -> Answer:
        status = int(self.reader.readline().split()[1])
        headers = {}
        while line := self.reader.readline().strip():
            name, value = line.decode().split(":", 1)
            headers[name.lower()] = value.strip()
        return Answer(status, headers, self.reader.read(int(headers.get("content-length", "0"))))

    def is_ended(self) -> bool:
        """Whether the server ends the connection, cleanly, without another byte."""
        return self.reader.read(1) == b""


def request(method: str, path: str, body: bytes = b"", *fields: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}", *fields]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@dataclass
class Server:
    port: int
    process: subprocess.Popen[bytes]

    def seconds_to_answer(self, path: str = "/quick") -> float:
        began = time.monotonic()
        with Client(self.port) as client:
            assert client.ask("GET", path).status == 200
        return time.monotonic() - began

    def slow(self, stack: contextlib.ExitStack, count: int, data: bytes) -> list[Client]:
        """`count` connections that have sent `data` and now wait."""
        clients = [stack.enter_context(Client(self.port)) for _ in range(count)]
        for client in clients:
            client.sock.sendall(data)
        time.sleep(0.1)
        return clients

    def open_files(self) -> int:
        with Client(self.port) as client:
            return int(client.ask("GET", "/").body.split()[5])


@contextlib.contextmanager
def serving(worker: str, *options: str, **environment: str) -> Iterator[Server]:
    """A gunicorn of its own on a free port."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        listener.set_inheritable(True)
        port = listener.getsockname()[1]
        command = [sys.executable, "-m", "gunicorn", "--worker-class", worker, "--log-level", "warning"]
        command += ["--bind", f"fd://{listener.fileno()}", "--keep-alive", "5", *options]
        process = subprocess.Popen(
            [*command, "gathering_server:app"],
            pass_fds=[listener.fileno()],
            cwd=HERE,  # away from the checkout's gunicorn.conf.py
            env={**os.environ, **environment, "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path])},
        )
    try:
        server = Server(port, process)
        server.seconds_to_answer()
        yield server
    finally:
        process.terminate()
        assert process.wait(timeout=10) == 0


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(GATHERING, "--workers", "2", "--threads", "8") as running:
        yield running


@pytest.fixture(scope="module")
def impatient() -> Iterator[Server]:
    with serving(IMPATIENT, "--workers", "1", "--threads", "2", IMPATIENT="1") as running:
        yield running


HALF_A_BODY = b"PUT " + DOCUMENT.encode() + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 90000\r\n\r\n" + bytes(45_000)


@pytest.mark.parametrize(
    ("count", "data"),
    [(64, b"G"), (64, HALF_A_BODY), (500, b"G"), (500, HALF_A_BODY[:2000]), (64, b"")],
    ids=["64 with one byte", "64 with half a body", "500 with one byte", "500 with half a body", "64 silent"],
)
def test_slow_senders_do_not_delay_others(server: Server, count: int, data: bytes) -> None:
    with contextlib.ExitStack() as stack:
        server.slow(stack, count, data)
        seconds = [server.seconds_to_answer() for _ in range(20)]
    print(f"{count} slow, {len(data)} bytes each: worst {max(seconds) * 1000:.1f} ms of 20")
    assert max(seconds) < 1.0


def test_who_asks_again_and_again_and_reads_nothing_holds_no_thread(server: Server) -> None:
    """Twice as many as there are threads, each with 60 requests for more than a connection's buffers hold."""
    with contextlib.ExitStack() as stack:
        server.slow(stack, 32, request("GET", "/?size=200000") * 60)
        time.sleep(0.5)
        assert max(server.seconds_to_answer() for _ in range(20)) < 1.0


def test_who_drips_is_answered_408_and_holds_nobody_up(impatient: Server) -> None:
    with contextlib.ExitStack() as stack:
        clients = impatient.slow(stack, 16, b"POST /drip HTTP/1.1\r\n")
        ended = time.monotonic() + 0.6
        while time.monotonic() < ended:
            for client in clients:
                client.sock.sendall(b"X")
            assert impatient.seconds_to_answer() < 0.5
        for client in clients:
            answer = client.answer()
            assert (answer.status, answer.headers["connection"]) == (408, "close")
            assert json.loads(answer.body)["title"] == "Request Timeout"
            assert client.is_ended()


def test_a_connection_that_never_asks_is_closed_without_an_answer(impatient: Server) -> None:
    with Client(impatient.port) as client:
        assert client.is_ended()


REFUSED = {
    "too large for a callback": (413, "POST /callbacks/oslpay HTTP/1.1\r\nContent-Length: 65537"),
    "too large for anything else": (413, "POST /hooks/signup HTTP/1.1\r\nContent-Length: 262145"),
    "too large for a document": (413, f"PUT {DOCUMENT} HTTP/1.1\r\nContent-Length: 5100001"),
    "too large for the upload page": (413, "POST /u/t HTTP/1.1\r\nContent-Length: 16500001"),
    "too large, asked first": (413, "POST /u/t HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 99999999"),
    "chunked": (411, "POST /x HTTP/1.1\r\nTransfer-Encoding: chunked"),
    "chunked and with a length": (411, "POST /x HTTP/1.1\r\nContent-Length: 3\r\ntransfer-encoding: chunked"),
    "two lengths": (400, "POST /x HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 3"),
    "a list of lengths": (400, "POST /x HTTP/1.1\r\nContent-Length: 3, 3"),
    "a signed length": (400, "POST /x HTTP/1.1\r\nContent-Length: +3"),
    "a bare LF": (400, "GET /x HTTP/1.1\nHost: x"),
    "another expectation": (417, "POST /x HTTP/1.1\r\nContent-Length: 3\r\nExpect: coffee"),
    "a long head": (431, "GET /x HTTP/1.1\r\nX: " + 33_000 * "x"),
    # From here on gunicorn's parser is the judge.
    "a long field": (431, "GET /x HTTP/1.1\r\nX: " + 9_000 * "x"),
    "a long request line": (414, f"GET /{5000 * 'x'} HTTP/1.1\r\nHost: x"),
    "a folded field": (400, "GET /x HTTP/1.1\r\nX: 1\r\n 2"),
    "a blank in a name": (400, "POST /x HTTP/1.1\r\nContent-Length : 0"),
    "no HTTP": (400, "hello"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_refusal_is_a_problem_and_ends_the_connection(server: Server, case: str) -> None:
    status, head = REFUSED[case]
    with Client(server.port) as client:
        # What follows must never be taken for a request.
        client.sock.sendall(head.encode() + b"\r\n\r\n" + request("GET", "/smuggled"))
        answer = client.answer()
        assert answer.status == status
        if " /u/" in head:
            assert answer.headers["content-type"] == "text/html; charset=utf-8"
            assert b"<h1>That file is too large</h1>" in answer.body
        else:
            problem = json.loads(answer.body)
            assert (problem["status"], problem["type"]) == (status, "about:blank")
            assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["connection"] == "close"
        assert client.is_ended()


def test_who_sends_a_body_too_large_to_its_end_can_still_read_the_refusal(server: Server) -> None:
    with Client(server.port) as client:
        answer = client.ask("PUT", DOCUMENT, bytes(8_000_000))
        assert answer.status == 413
        assert client.is_ended()


def test_a_connection_serves_200_requests_one_after_another(server: Server) -> None:
    with Client(server.port) as client:
        began = time.monotonic()
        for number in range(200):
            body = random.randbytes(number)
            said = client.ask("POST", f"/{number}", body).body.decode().split()
            assert said[:4] == ["POST", f"/{number}", str(number), hashlib.sha256(body).hexdigest()]
    print(f"200 requests on one connection: {time.monotonic() - began:.3f} s")


def test_pipelined_requests_are_answered_in_order(server: Server) -> None:
    sent = b"\r\n".join(request("POST", f"/{n}", bytes(n)) for n in range(5))
    with Client(server.port) as client:
        client.sock.sendall(sent[:-2])
        assert [client.answer().body.split()[1:3] for _ in range(4)] == [
            [f"/{n}".encode(), str(n).encode()] for n in range(4)
        ]
        client.sock.sendall(sent[-2:])
        assert client.answer().body.split()[1] == b"/4"


def test_a_body_that_the_application_skips_is_not_taken_for_a_request(server: Server) -> None:
    with Client(server.port) as client:
        assert client.ask("POST", "/?skip=1", request("GET", "/smuggled")).status == 200
        assert client.ask("GET", "/next").body.split()[1] == b"/next"


def test_a_connection_outlives_a_large_body_that_the_application_skips(server: Server) -> None:
    with Client(server.port) as client:
        answer = client.ask("PUT", f"{DOCUMENT}?skip=1", random.randbytes(5_000_001))
        assert (answer.status, answer.headers["connection"]) == (200, "keep-alive")
        assert client.ask("GET", "/next").body.split()[1] == b"/next"


def test_a_client_that_awaits_100_continue_is_told_once(server: Server) -> None:
    body = random.randbytes(2_000_000)
    with Client(server.port) as client:
        sent = request("PUT", DOCUMENT, body, "Expect: 100-continue")
        client.sock.sendall(sent[: -len(body)])
        assert client.answer().status == 100
        client.sock.sendall(body)
        answer = client.answer()
        assert answer.status == 200
        assert answer.body.decode().split()[3] == hashlib.sha256(body).hexdigest()
        assert answer.body.endswith(b" -")  # the application does not see the expectation
        assert client.ask("GET", "/next").status == 200


def test_eight_uploads_of_five_megabytes_arrive_as_sent(server: Server) -> None:
    def upload(seed: int) -> float:
        body = random.Random(seed).randbytes(5_000_000)
        began = time.monotonic()
        with Client(server.port) as client:
            said = client.ask("PUT", DOCUMENT, body).body.decode().split()
        assert said[2:4] == ["5000000", hashlib.sha256(body).hexdigest()]
        return time.monotonic() - began

    with ThreadPoolExecutor(8) as pool:
        seconds = list(pool.map(upload, range(8)))
    print(f"8 uploads of 5 MB: slowest {max(seconds):.2f} s")


def test_large_bodies_take_half_of_the_threads_and_small_requests_pass_them_by() -> None:
    """Of four threads two are left to the small requests, however many large ones there are; those wait without one."""
    with serving(GATHERING, "--workers", "1", "--threads", "4") as alone, ThreadPoolExecutor(8) as pool:

        def upload(_: int) -> int:
            with Client(alone.port) as client:
                return int(client.ask("PUT", f"{DOCUMENT}?nap=0.4", bytes(100_000)).body.split()[6])

        uploads = [pool.submit(upload, number) for number in range(8)]
        time.sleep(0.2)
        quick = [alone.seconds_to_answer() for _ in range(5)]
        assert not any(upload.done() for upload in uploads[4:])
        at_once = [upload.result() for upload in uploads]
    print(f"beside eight uploads, of which six wait: {max(quick):.3f} s")
    assert max(at_once) == 2
    assert max(quick) < 0.2


def test_requests_that_are_answered_together_are_each_answered(server: Server) -> None:
    def ask(number: int) -> None:
        with Client(server.port) as client:
            for turn in range(5):
                body = f"{number} {turn}".encode()
                said = client.ask("POST", "/together", body).body.decode().split()
                assert said[:2] == ["POST", "/together"]
                assert said[3] == hashlib.sha256(body).hexdigest()
            assert client.ask("GET", "/").status == 200
            assert client.ask("POST", "/together", b"", "Connection: close").headers["connection"] == "close"

    with ThreadPoolExecutor(40) as pool:
        list(pool.map(ask, range(80)))


def test_who_does_not_read_its_answers_holds_up_nobody_who_is_answered_together() -> None:
    """Four send requests without end and read nothing, so that the buffers fill: they are cut off."""
    many = request("POST", "/together?size=60000") * 2_000
    with serving(GATHERING, "--workers", "1", "--threads", "2") as alone, contextlib.ExitStack() as stack:
        deaf = [stack.enter_context(Client(alone.port)) for _ in range(4)]
        for client in deaf:
            client.sock.settimeout(0.5)
            with contextlib.suppress(OSError):
                client.sock.sendall(many)

        def ask(_: int) -> float:
            began = time.monotonic()
            with Client(alone.port) as client:
                assert client.ask("POST", "/together").status == 200
            return time.monotonic() - began

        slowest = max(map(ask, range(20)))
        print(f"beside four who do not read: {slowest:.3f} s")
        assert slowest < 0.5
        for client in deaf:
            client.sock.settimeout(8)
            with contextlib.suppress(ConnectionError):
                while client.sock.recv(1_000_000):
                    pass


def test_memory_goes_to_those_who_send(impatient: Server) -> None:
    """The dripping bodies exceed the budget of 1 MB; an honest one of 5 MB passes all the same."""
    half = request("PUT", DOCUMENT, bytes(800_000))[:-400_000]
    body = random.randbytes(5_000_000)
    with contextlib.ExitStack() as stack:
        slow = impatient.slow(stack, 8, half)
        with Client(impatient.port) as client:
            assert client.ask("PUT", DOCUMENT, body).body.decode().split()[3] == hashlib.sha256(body).hexdigest()
        assert slow[0].answer().status == 408
        assert impatient.seconds_to_answer() < 0.5


def test_who_does_not_read_an_answer_frees_the_thread(impatient: Server) -> None:
    """Two threads, four who ask for 30 MB and read nothing: each is given up after 0.3 s."""
    with contextlib.ExitStack() as stack:
        impatient.slow(stack, 4, request("GET", "/?size=30000000"))
        assert impatient.seconds_to_answer() < 1.5


def test_who_does_not_close_after_the_last_answer_holds_nobody_up(impatient: Server) -> None:
    with contextlib.ExitStack() as stack:
        for client in impatient.slow(stack, 16, request("GET", "/", b"", "Connection: close")):
            assert client.answer().headers["connection"] == "close"
        assert impatient.seconds_to_answer() < 0.5


def test_clients_that_leave_leave_no_open_file_behind(impatient: Server) -> None:
    before = impatient.open_files()
    for data in (
        b"",
        b"G",
        HALF_A_BODY,
        request("GET", "/"),
        request("PUT", DOCUMENT, bytes(6_000_000))[:-1],
    ):
        with contextlib.ExitStack() as stack:
            impatient.slow(stack, 20, data[:100_000])
    deadline = time.monotonic() + 15
    # Who asks is a connection too, and the one before may not be closed yet: what counts is that it comes to this.
    while (after := impatient.open_files()) > before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert after <= before


def test_connections_that_come_all_at_once_are_shared_by_the_workers(server: Server) -> None:
    def pids(count: int) -> list[int]:
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(Client(server.port)) for _ in range(count)]
            return [int(client.ask("GET", "/").body.split()[4]) for client in clients]

    until = time.monotonic() + 10
    while len(set(pids(64))) < 2 and time.monotonic() < until:  # one of them may still be starting
        time.sleep(0.1)
    smaller = []
    for _ in range(5):
        found = pids(64)
        smaller.append(min(found.count(pid) for pid in set(found)) if len(set(found)) == 2 else 0)
    print(f"of 64 connections the smaller share was {smaller}")
    assert sorted(smaller)[2] >= 20


def test_when_all_connections_are_taken_slow_ones_make_room() -> None:
    options = ("--workers", "1", "--threads", "2", "--worker-connections", "32")
    with serving(GATHERING, *options) as crowded, contextlib.ExitStack() as stack:
        crowded.slow(stack, 40, b"G")
        seconds = crowded.seconds_to_answer()
    print(f"40 slow on 32 connections: answered after {seconds:.2f} s")
    assert seconds < 3


def test_sigterm_finishes_what_runs_and_what_is_on_its_way_and_waits_for_no_slow_sender() -> None:
    with serving(GATHERING, "--workers", "1", "--threads", "2") as stopping:
        clients = [Client(stopping.port) for _ in range(4)]
        with contextlib.ExitStack() as stack:
            running, arriving, gathering, silent = [stack.enter_context(client) for client in clients]
            gathering.sock.sendall(HALF_A_BODY)
            running.sock.sendall(request("GET", "/?nap=0.8"))
            whole = request("GET", "/")
            arriving.sock.sendall(whole[:10])
            time.sleep(0.2)
            stopping.process.send_signal(signal.SIGTERM)
            time.sleep(0.3)
            arriving.sock.sendall(whole[10:])
            assert arriving.answer().status == 200
            assert running.answer().status == 200
            assert gathering.answer().status == 408
            with contextlib.suppress(ConnectionResetError):
                assert silent.is_ended()
        assert stopping.process.wait(timeout=10) == 0


@pytest.mark.parametrize(
    "options", [("--certfile", "c.pem", "--keyfile", "k.pem"), ("--proxy-protocol", "auto")], ids=["TLS", "PROXY"]
)
def test_settings_the_worker_cannot_serve_are_refused_at_the_start(options: tuple[str, ...], tmp_path: Path) -> None:
    for name in ("c.pem", "k.pem"):
        (tmp_path / name).touch()
    command = [
        sys.executable,
        "-m",
        "gunicorn",
        "--worker-class",
        GATHERING,
        "--bind",
        "127.0.0.1:0",
        *options,
    ]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path])}
    done = subprocess.run(
        [*command, "gathering_server:app"], env=environment, capture_output=True, timeout=10, check=False, cwd=tmp_path
    )
    assert done.returncode != 0
    assert b"GatheringWorker" in done.stderr


def test_slow_and_quick_clients_together_are_all_served(server: Server) -> None:
    """Heads cut into single bytes, sent quickly: the gatherer must put them together again."""

    def ask_in_pieces(number: int) -> None:
        with Client(server.port) as client:
            for byte in request("POST", f"/{number}", b"body"):
                client.sock.sendall(bytes([byte]))
            assert client.answer().body.split()[1:3] == [f"/{number}".encode(), b"4"]

    threads = [threading.Thread(target=ask_in_pieces, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
