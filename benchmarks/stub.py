"""Both providers and the merchant's receiver, as light as possible: all is answered at once and nothing checked.

`python -m benchmarks.stub PORT KEYFILE` serves until it is ended. After a share its webhook PASS is sent at once,
signed with the key in KEYFILE; the status query says PASS.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from benchmarks.processes import APP_ID
from orchestrator.signatures import load_private_key, osl_sign

_SENDERS = 8
_numbers = count(1)


class _Provider(asyncio.Protocol):
    """One connection of a client."""

    def __init__(self, webhooks: asyncio.Queue[tuple[str, str]]) -> None:
        self._webhooks = webhooks
        self._received = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Answers leave at once."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        """Answer every request that is complete."""
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            head = bytes(self._received[:end])
            at = head.lower().find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self._received) < end + 4 + length:
                return
            body = bytes(self._received[end + 4 : end + 4 + length])
            del self._received[: end + 4 + length]
            self._answer(head.split(b" ", 2)[1].decode(), body)

    def _answer(self, path: str, body: bytes) -> None:
        data: object = None
        if path.endswith("/share"):
            user_id = str(next(_numbers))
            self._webhooks.put_nowait((json.loads(body)["callbackUrl"], user_id))
            data = {"userId": user_id}
        elif path.endswith("/upload-file"):
            data = f"https://files.example.com/{next(_numbers)}"
        elif path.endswith("/status/query"):
            data = {**json.loads(body), "kycStatus": "PASS", "rejectReason": ""}
        answer = json.dumps({"code": "00000", "msg": "success", "success": True, "data": data}).encode()
        date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime())
        head = f"HTTP/1.1 200 OK\r\nDate: {date}\r\nContent-Type: application/json\r\nContent-Length: {len(answer)}\r\n"
        self._transport.write(head.encode() + b"\r\n" + answer)


async def _send(key: RSAPrivateKey, webhooks: asyncio.Queue[tuple[str, str]]) -> None:
    """Webhooks one after the other over a kept-alive connection."""
    stream: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
    while True:
        url, user_id = await webhooks.get()
        where = urlsplit(url)
        timestamp = str(time.time_ns() // 1_000_000)
        body = json.dumps({"type": "kyc_status_change", "data": {"userId": user_id, "kycStatus": "PASS"}})
        signature = osl_sign(key, APP_ID, timestamp)
        request = (
            f"POST {where.path} HTTP/1.1\r\nHost: {where.netloc}\r\nContent-Type: application/json\r\n"
            f"appId: {APP_ID}\r\ntimestamp: {timestamp}\r\nsignature: {signature}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n{body}"
        ).encode()
        status = 0
        while status != 200:
            try:
                stream = stream or await asyncio.open_connection(where.hostname, where.port)
                status = await _exchange(*stream, request)
            except (OSError, asyncio.IncompleteReadError):
                stream = None
                await asyncio.sleep(0.01)


async def _exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> int:
    writer.write(request)
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    await reader.readexactly(int(head[head.find(b"content-length:") + 15 :].split(b"\r\n", 1)[0]))
    return int(head[9:12])


async def _serve(port: int, key: RSAPrivateKey) -> None:
    webhooks: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
    senders: list[Awaitable[None]] = [asyncio.ensure_future(_send(key, webhooks)) for _ in range(_SENDERS)]
    made: Callable[[], asyncio.Protocol] = lambda: _Provider(webhooks)  # noqa: E731 - what the library asks for
    server = await asyncio.get_running_loop().create_server(made, "127.0.0.1", port, backlog=1024)
    await asyncio.gather(server.serve_forever(), *senders)


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), load_private_key(Path(sys.argv[2]).read_text("utf-8"))))
