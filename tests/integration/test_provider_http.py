"""Outgoing HTTP against servers that misbehave in every way we could think of."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import threading
import time
import traceback
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from pathlib import Path

import pytest

from orchestrator.errors import Kind, ProviderError
from orchestrator.providers import deadline
from orchestrator.providers.http import Outgoing, Reply
from tests.scripted_server import (
    Behaviour,
    Peer,
    Received,
    ScriptedServer,
    answer,
    answering,
    scripted_server,
    self_signed,
)

DEADLINE = 0.3
Make = Callable[..., Outgoing]
Serve = Callable[..., ScriptedServer]


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@pytest.fixture
def make(ca_file: Path) -> Iterator[Make]:
    with contextlib.ExitStack() as stack:

        def outgoing(**options: object) -> Outgoing:
            settings = {"deadline_seconds": DEADLINE, "proxy_url": None, "now_ms": now_ms}
            settings |= {"ca_file": str(ca_file)} | options
            made = Outgoing(**settings)  # type: ignore[arg-type]
            stack.callback(made.close)
            return made

        yield outgoing


@pytest.fixture
def serve() -> Iterator[Serve]:
    with contextlib.ExitStack() as stack:
        yield lambda behave, tls=None: stack.enter_context(scripted_server(behave, tls))


@pytest.fixture(scope="module")
def ca_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for 127.0.0.1, with its key in the same file."""
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    self_signed(path)
    return path


@pytest.fixture(scope="module")
def server_tls(ca_file: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(ca_file)
    return context


def get(outgoing: Outgoing, url: str, **options: object) -> Reply:
    return outgoing.send("btse", "GET", url, headers={}, **options)  # type: ignore[arg-type]


def fault(outgoing: Outgoing, url: str, **options: object) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        get(outgoing, url, **options)
    assert caught.value.kind is Kind.TRANSIENT
    return caught.value


# The deadline ---------------------------------------------------------------------------------------------------


def drip_in_body(peer: Peer, _: Received) -> None:
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    peer.drip(b"x", 0.05)


def drip_in_chunks(peer: Peer, _: Received) -> None:
    peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    peer.drip(b"1\r\nx\r\n", 0.02)


def drip_in_status_line(peer: Peer, _: Received) -> None:
    peer.drip(b"HTTP/1.1 200 OK and so on and on", 0.05)


def drip_in_headers(peer: Peer, _: Received) -> None:
    peer.send(b"HTTP/1.1 200 OK\r\n")
    peer.drip(b"A: b\r\n", 0.02)


def stall(peer: Peer, _: Received) -> None:
    peer.stall()


@pytest.mark.parametrize("over_tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("behave", [drip_in_body, drip_in_chunks, drip_in_status_line, drip_in_headers, stall])
def test_an_answer_that_drips_is_cut_at_the_deadline(
    make: Make, serve: Serve, server_tls: ssl.SSLContext, behave: Behaviour, over_tls: bool
) -> None:
    server = serve(behave, server_tls if over_tls else None)
    outgoing = make()

    started = time.monotonic()
    error = fault(outgoing, server.url)
    took = time.monotonic() - started

    assert (error.code, error.unknown_outcome) == ("timeout", True)
    assert DEADLINE <= took < DEADLINE + 1.0


@pytest.mark.parametrize("over_tls", [False, True], ids=["plain", "tls"])
def test_a_server_that_does_not_read_the_request_is_cut_at_the_deadline(
    make: Make, server_tls: ssl.SSLContext, over_tls: bool
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        accepted: list[socket.socket] = []

        def accept() -> None:
            connection, _ = listener.accept()
            accepted.append(server_tls.wrap_socket(connection, server_side=True) if over_tls else connection)

        thread = threading.Thread(target=accept)
        thread.start()
        scheme = "https" if over_tls else "http"
        started = time.monotonic()
        with pytest.raises(ProviderError) as caught:
            make().send(
                "btse",
                "POST",
                f"{scheme}://127.0.0.1:{listener.getsockname()[1]}",
                headers={},
                body=bytes(20_000_000),
            )
        took = time.monotonic() - started
        thread.join()
        accepted[0].close()

    assert (caught.value.code, caught.value.unknown_outcome) == ("timeout", True)
    assert DEADLINE <= took < DEADLINE + 1.0


def test_a_tls_handshake_that_stalls_is_cut_at_the_deadline_and_nothing_was_sent(make: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        started = time.monotonic()
        error = fault(make(), f"https://127.0.0.1:{listener.getsockname()[1]}")
        took = time.monotonic() - started

    assert (error.code, error.unknown_outcome) == ("connect-timeout", False)
    assert DEADLINE <= took < DEADLINE + 1.0


def test_a_tls_handshake_that_drips_is_cut_at_the_deadline(make: Make, server_tls: ssl.SSLContext) -> None:
    """The bytes of a genuine handshake, forwarded one at a time, so that the client keeps waiting for more."""

    def forward(client: socket.socket) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        server = server_tls.wrap_bio(incoming, outgoing, server_side=True)
        with contextlib.suppress(OSError):
            incoming.write(client.recv(65_536))
            with contextlib.suppress(ssl.SSLWantReadError):
                server.do_handshake()
            while piece := outgoing.read(1):
                client.sendall(piece)
                time.sleep(0.01)
        client.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=lambda: forward(listener.accept()[0]))
        thread.start()
        started = time.monotonic()
        error = fault(make(), f"https://127.0.0.1:{listener.getsockname()[1]}")
        took = time.monotonic() - started
        thread.join()

    assert (error.code, error.unknown_outcome) == ("connect-timeout", False)
    assert DEADLINE <= took < DEADLINE + 1.0


def test_a_silent_address_leaves_time_for_the_next_one(
    make: Make, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(answering(answer(200, b"{}")))
    port = int(server.url.rpartition(":")[2])
    # A listener whose queue is full answers no SYN: what a dead address looks like.
    with socket.socket() as full, contextlib.ExitStack() as fillers:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(3):
            filler = fillers.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        entry = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        addresses = [(*entry, full.getsockname()), (*entry, ("127.0.0.1", port))]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: addresses)

        assert get(make(), server.url).status == 200


# Faults before anything is sent -----------------------------------------------------------------------------------


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_a_refused_connection_is_known_not_to_have_been_acted_upon_and_nothing_is_signed(make: Make) -> None:
    signed: list[int] = []

    def headers() -> dict[str, str]:
        signed.append(1)
        return {}

    with pytest.raises(ProviderError) as caught:
        make().send("btse", "GET", f"http://127.0.0.1:{free_port()}", headers=headers)

    assert (caught.value.code, caught.value.unknown_outcome) == ("connection-refused", False)
    assert signed == []


def test_a_host_without_an_address_is_named_as_such(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "no such host")

    monkeypatch.setattr(socket, "getaddrinfo", nowhere)
    error = fault(make(), "http://btse.invalid")

    assert (error.code, error.unknown_outcome) == ("unknown-host", False)


def test_a_certificate_nobody_vouches_for_is_refused_before_anything_is_sent(
    make: Make, serve: Serve, server_tls: ssl.SSLContext
) -> None:
    server = serve(answering(answer()), server_tls)
    error = fault(make(ca_file=None), server.url)

    assert (error.code, error.unknown_outcome) == ("certificate", False)
    assert server.received == []


def test_a_certificate_for_another_host_is_refused(make: Make, serve: Serve, server_tls: ssl.SSLContext) -> None:
    server = serve(answering(answer()), server_tls)
    error = fault(make(), server.url.replace("127.0.0.1", "localhost"))

    assert (error.code, error.unknown_outcome) == ("certificate", False)


def test_a_server_that_speaks_no_tls_is_a_fault_of_tls(make: Make, serve: Serve) -> None:
    def gibber(connection: socket.socket) -> None:
        connection.recv(1000)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        connection.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=lambda: gibber(listener.accept()[0]))
        thread.start()
        error = fault(make(), f"https://127.0.0.1:{listener.getsockname()[1]}")
        thread.join()

    assert (error.code, error.unknown_outcome) == ("tls", False)


@pytest.mark.parametrize("url", ["http://", "http://[::1", "ftp://127.0.0.1/", "http://a..b/", "nonsense"])
def test_an_url_that_leads_nowhere_is_one_of_our_errors(make: Make, url: str) -> None:
    assert fault(make(), url).unknown_outcome is False


# Faults after sending ---------------------------------------------------------------------------------------------


def close_without_a_word(peer: Peer, _: Received) -> None:
    peer.reset()


def close_politely_without_a_word(peer: Peer, _: Received) -> None:
    raise OSError("closes the connection")


def break_off_in_the_body(peer: Peer, _: Received) -> None:
    peer.send(b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"half": ')
    raise OSError("closes the connection")


def break_off_in_a_chunk(peer: Peer, _: Received) -> None:
    peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nhalf")
    raise OSError("closes the connection")


def speak_no_http(peer: Peer, _: Received) -> None:
    peer.send(b"220 mail.example.com ESMTP\r\n\r\n")
    raise OSError("closes the connection")


def send_endless_headers(peer: Peer, _: Received) -> None:
    peer.send(b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 10_000 + b"\r\n")


@pytest.mark.parametrize("over_tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize(
    ("behave", "code"),
    [
        (close_without_a_word, "connection-reset"),
        (close_politely_without_a_word, "connection-reset"),
        (break_off_in_the_body, "unreadable"),
        (break_off_in_a_chunk, "unreadable"),
        (speak_no_http, "unreadable"),
        (send_endless_headers, "unreadable"),
        (answering(answer(200, b"plain", Content_Encoding="gzip")), "unreadable"),
        (answering(answer(200, b"plain", Content_Encoding="br")), "unreadable"),
    ],
)
def test_a_fault_after_sending_has_an_unknown_outcome(
    make: Make,
    serve: Serve,
    server_tls: ssl.SSLContext,
    behave: Behaviour,
    code: str,
    over_tls: bool,
) -> None:
    server = serve(behave, server_tls if over_tls else None)
    error = fault(make(deadline_seconds=5.0), server.url)

    assert (error.code, error.unknown_outcome) == (code, True)


def test_a_refusal_sent_before_the_request_was_read_is_still_seen(make: Make) -> None:
    def refuse(connection: socket.socket) -> None:
        connection.recv(1000)
        connection.sendall(answer(413, b"{}", Connection="close"))
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65_536):
            pass
        connection.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=lambda: refuse(listener.accept()[0]))
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        outgoing = make(deadline_seconds=5.0)
        reply = outgoing.send("btse", "POST", url, headers={}, body=bytes(3_000_000))
        outgoing.close()
        thread.join()

    assert reply.status == 413


# Too much ---------------------------------------------------------------------------------------------------------


def send_fifty_megabytes(peer: Peer, _: Received) -> None:
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 50000000\r\n\r\n")
    for _ in range(500):
        peer.send(bytes(100_000))


def send_fifty_megabytes_in_chunks(peer: Peer, _: Received) -> None:
    peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(500):
        peer.send(b"186a0\r\n" + bytes(100_000) + b"\r\n")


def redirect_with_fifty_megabytes(peer: Peer, _: Received) -> None:
    peer.send(b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 50000000\r\n\r\n")
    for _ in range(500):
        peer.send(bytes(100_000))


@pytest.mark.parametrize(
    "behave", [send_fifty_megabytes, send_fifty_megabytes_in_chunks, redirect_with_fifty_megabytes]
)
def test_an_answer_beyond_the_limit_is_not_read_to_its_end(make: Make, serve: Serve, behave: Behaviour) -> None:
    server = serve(behave)
    error = fault(make(deadline_seconds=10.0), server.url)

    assert (error.code, error.unknown_outcome) == ("answer-too-large", True)
    assert server.peers[0].sent < 20_000_000


def test_an_answer_of_exactly_the_limit_is_taken(make: Make, serve: Serve) -> None:
    server = serve(answering(answer(200, bytes(1_000_000)), answer(200, bytes(1_000_001))))
    outgoing = make()

    assert len(get(outgoing, server.url).body) == 1_000_000
    assert fault(outgoing, server.url).code == "answer-too-large"


def test_a_small_answer_that_unpacks_to_a_huge_one_is_refused(make: Make, serve: Serve) -> None:
    bomb = zlib.compress(bytes(100_000_000), wbits=31)
    server = serve(answering(answer(200, bomb, Content_Encoding="gzip")))

    assert len(bomb) < 200_000
    assert fault(make(), server.url).code == "answer-too-large"


def test_compression_is_not_asked_for_but_understood(make: Make, serve: Serve) -> None:
    packed = zlib.compress(b'{"code": 1}', wbits=31)
    server = serve(answering(answer(200, packed, Content_Encoding="gzip")))

    assert get(make(), server.url).body == b'{"code": 1}'
    assert server.received[0].headers["accept-encoding"] == "identity"


# What is sent -----------------------------------------------------------------------------------------------------


def test_a_redirect_is_handed_back_and_not_followed(make: Make, serve: Serve) -> None:
    server = serve(answering(answer(302, b"", Location="/elsewhere")))
    reply = get(make(), server.url)

    assert (reply.status, reply.headers["location"]) == (302, "/elsewhere")
    assert len(server.received) == 1


def test_cookies_are_not_kept(make: Make, serve: Serve) -> None:
    server = serve(answering(answer(200, b"", Set_Cookie="a=b")))
    outgoing = make()
    get(outgoing, server.url)
    get(outgoing, server.url)

    assert "cookie" not in server.received[1].headers


def test_the_environment_changes_nothing(
    make: Make, serve: Serve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server = serve(answering(answer()))
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login a password b\n")
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("NETRC", os.fspath(netrc))

    assert get(make(), server.url).status == 200
    assert "authorization" not in server.received[0].headers


def test_headers_made_late_are_sent_beside_our_own(make: Make, serve: Serve) -> None:
    server = serve(answering(answer()))
    calls = iter(["1", "2"])
    outgoing = make()
    for _ in range(2):
        outgoing.send(
            "osl",
            "POST",
            server.url + "/a",
            headers=lambda: {"nonce": next(calls), "accept": "x/y"},
            body="中文".encode(),
            params={"q": "中 文&"},
        )

    assert [request.headers["nonce"] for request in server.received] == ["1", "2"]
    first = server.received[0]
    assert (first.method, first.target, first.body) == (
        "POST",
        "/a?q=%E4%B8%AD+%E6%96%87%26",
        "中文".encode(),
    )
    assert first.headers["accept"] == "x/y"


def test_headers_are_asked_for_once_the_connection_stands(make: Make, serve: Serve) -> None:
    server = serve(answering(answer()))
    seen: list[int] = []

    def headers() -> dict[str, str]:
        limit = time.monotonic() + 2
        while not server.connections and time.monotonic() < limit:
            time.sleep(0.001)
        seen.append(server.connections)
        return {}

    make(deadline_seconds=5.0).send("btse", "GET", server.url, headers=headers)

    assert seen == [1]


# Connections ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("over_tls", [False, True], ids=["plain", "tls"])
def test_a_connection_is_used_again_and_by_one_call_at_a_time(
    make: Make, serve: Serve, server_tls: ssl.SSLContext, over_tls: bool
) -> None:
    both = threading.Barrier(2, timeout=5.0)

    def answer_both(peer: Peer, _: Received) -> None:
        both.wait()
        peer.send(answer())

    server = serve(answer_both, server_tls if over_tls else None)
    outgoing = make(deadline_seconds=5.0)
    for _ in range(3):
        with ThreadPoolExecutor(2) as pool:
            calls = [pool.submit(get, outgoing, server.url) for _ in range(2)]
        assert [call.result().status for call in calls] == [200, 200]
    assert server.connections == 2


def test_a_connection_that_the_server_closed_meanwhile_is_not_used_again(make: Make, serve: Serve) -> None:
    def answer_and_close(peer: Peer, _: Received) -> None:
        peer.send(answer())
        raise OSError("closes the connection")

    server = serve(answer_and_close)
    outgoing = make()
    for _ in range(5):
        assert get(outgoing, server.url).status == 200
        time.sleep(0.02)  # lets the close arrive
    assert server.connections == 5


def test_a_connection_idle_for_long_is_not_used_again(
    make: Make, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(answering(answer()))
    outgoing = make()
    get(outgoing, server.url)
    monkeypatch.setattr(deadline, "LONGEST_IDLE_SECONDS", 0.0)
    get(outgoing, server.url)

    assert server.connections == 2


def test_a_call_after_one_that_failed_starts_with_a_clean_connection(make: Make, serve: Serve) -> None:
    scripts = iter([drip_in_body, answering(answer(200, b"fresh"))])

    def behave(peer: Peer, request: Received) -> None:
        next(scripts)(peer, request)

    server = serve(behave)
    outgoing = make()
    fault(outgoing, server.url)

    assert get(outgoing, server.url).body == b"fresh"


# Proxies ----------------------------------------------------------------------------------------------------------


def test_a_proxy_that_is_set_is_used(make: Make, serve: Serve) -> None:
    proxy = serve(answering(answer(200, b"{}")))
    reply = get(make(proxy_url=proxy.url.replace("//", "//user:pass@")), "http://btse.example/pay")

    assert reply.status == 200
    assert proxy.received[0].target == "http://btse.example/pay"
    assert proxy.received[0].headers["proxy-authorization"].startswith("Basic ")


def test_https_goes_through_a_tunnel_and_keeps_its_own_tls(
    make: Make, serve: Serve, server_tls: ssl.SSLContext
) -> None:
    server = serve(answering(answer(200, b"{}")), server_tls)
    port = int(server.url.rpartition(":")[2])

    def tunnel(peer: Peer, request: Received) -> None:
        assert (request.method, request.target) == ("CONNECT", f"127.0.0.1:{port}")
        with socket.create_connection(("127.0.0.1", port)) as far:
            peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
            near = peer._connection  # the raw bytes from here on
            back = threading.Thread(target=_pump, args=(far, near), daemon=True)
            back.start()
            _pump(near, far)
            back.join()

    proxy = serve(tunnel)
    outgoing = make(proxy_url=proxy.url, deadline_seconds=5.0)
    assert get(outgoing, server.url).status == 200
    assert len(server.received) == 1
    outgoing.close()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def test_a_proxy_that_refuses_the_tunnel_means_nothing_was_sent(make: Make, serve: Serve) -> None:
    proxy = serve(answering(answer(407)))
    error = fault(make(proxy_url=proxy.url), "https://btse.example/")

    assert (error.code, error.unknown_outcome) == ("proxy", False)


# Skew -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("theirs", "least", "most"),
    [(0, 0, 0), (-400, 0, 0), (31_000, 30_000, 32_000), (-42_000, -43_000, -41_000)],
)
def test_the_skew_is_learnt_from_the_date_of_the_answer(
    make: Make, serve: Serve, theirs: int, least: int, most: int
) -> None:
    def dated(peer: Peer, _: Received) -> None:
        peer.send(answer(200, b"", Date=formatdate((now_ms() + theirs) / 1000, usegmt=True)))

    skew = get(make(), serve(dated).url).skew_ms

    assert skew is not None
    assert least <= skew <= most


@pytest.mark.parametrize(
    "date", ["", "yesterday", "Mon, 99 Foo 2026 00:00:00 GMT", "0", "Mon, 32 Jan 2026 00:00:00 GMT"]
)
def test_a_garbled_date_teaches_nothing(make: Make, serve: Serve, date: str) -> None:
    assert get(make(), serve(answering(answer(200, b"", Date=date))).url).skew_ms is None


# Silence ----------------------------------------------------------------------------------------------------------


def test_no_error_and_no_log_line_names_what_was_sent(
    make: Make, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    server = serve(break_off_in_the_body)
    outgoing = make()
    try:
        outgoing.send("btse", "POST", server.url, headers={"api": "hush-1"}, body=b"hush-2", params={"who": "hush-3"})
    except ProviderError as error:
        text = "".join(traceback.format_exception(error)) + str(error.__context__)
    fault(outgoing, f"http://127.0.0.1:{free_port()}/hush-4?hush-5=1")

    quoted = text.replace('"hush', "")  # the traceback shows this file's own lines
    assert "hush" not in quoted + caplog.text


def test_a_reply_does_not_print_its_body() -> None:
    assert "hush" not in repr(Reply(200, {}, b"hush", None))
