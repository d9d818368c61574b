"""A stand-in for PgBouncer: it relays connections, and hands out process numbers of its own."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from types import TracebackType

_KEY_DATA = b"K\0\0\0\x0c"  # BackendKeyData, before the process and the secret key (4 bytes each)


class Pooler:
    """A relay that shows the clients other process numbers than the server's.

    Args:
        port: The port of the server on the loopback address.
    """

    def __init__(self, port: int) -> None:
        self._server = port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._open: list[socket.socket] = []

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                server = socket.create_connection(("127.0.0.1", self._server))
                self._open += [client, server]
                for source, target, renames in ((client, server, False), (server, client, True)):
                    relay = threading.Thread(target=_relay, args=(source, target, renames), daemon=True)
                    relay.start()

    def __enter__(self) -> Pooler:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for each in (self._listening, *self._open):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


def _relay(source: socket.socket, target: socket.socket, renames: bool) -> None:
    with suppress(OSError):
        while data := source.recv(1 << 16):
            before, found, after = data.partition(_KEY_DATA) if renames else (data, b"", b"")
            target.sendall(before + found + (b"\0\0\0\1" + after[4:] if found else after))
        target.shutdown(socket.SHUT_WR)
