"""A proxy before a server that cuts a connection at one moment: before a message is passed on, or right after it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def _hanging_up(server: socket.socket) -> Iterator[None]:
    """At the end the server hears of it at once: closing alone waits for the thread that still reads."""
    try:
        yield
    finally:
        with suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)


class CuttingProxy:
    """Between clients and 127.0.0.1:`port`. Once `cut(message, passed)` was called, the next connection on which
    `message` goes to the server ends, before or after it is passed on; what the server answers is not passed back."""

    def __init__(self, port: int) -> None:
        self._server = port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._message: bytes | None = None
        self._passed = False
        self.cuts = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self, message: bytes, *, passed: bool) -> None:
        """Cut at the next `message`."""
        self._passed = passed
        self._message = message

    def close(self) -> None:
        """Take no more connections."""
        self._listening.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                server = socket.create_connection(("127.0.0.1", self._server))
                threading.Thread(target=self._upwards, args=(client, server), daemon=True).start()
                threading.Thread(target=self._downwards, args=(server, client), daemon=True).start()

    def _upwards(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError), client, server, _hanging_up(server):
            while data := client.recv(65_536):
                message = self._message
                if message is not None and message in data:
                    self._message = None
                    self.cuts += 1
                    # From now on nothing goes back: the client never learns what became of it.
                    client.shutdown(socket.SHUT_RDWR)
                    if self._passed:
                        server.sendall(data)
                        server.settimeout(10)
                        server.recv(65_536)
                    return
                server.sendall(data)

    def _downwards(self, server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(65_536):
                client.sendall(data)
