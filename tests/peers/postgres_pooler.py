"""A stand-in for PgBouncer: it relays connections, and hands out process numbers of its own."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType

_KEY_DATA = b"K\0\0\0\x0c"  # BackendKeyData, before the process and the secret key (4 bytes each)

_IGNORED = {
    b"-csearch_path=": b"-cignored.pat=",
    b"-c statement_timeout=": b"-c ignored.statement=",
    b"-c lock_timeout=": b"-c ignored.lock=",
}


class Pooler:
    """A relay that shows the clients other process numbers than the server's.

    Args:
        port: The port of the server on the loopback address.
        ignores_options: Whether the schema and the time limits of a connection have no effect.
    """

    def __init__(self, port: int, *, ignores_options: bool = False) -> None:
        self._server = port
        self._ignores_options = ignores_options
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._open: list[socket.socket] = []

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                server = socket.create_connection(("127.0.0.1", self._server))
                self._open += [client, server]
                asked = _unset if self._ignores_options else bytes
                for source, target, changed in ((client, server, asked), (server, client, _renamed)):
                    relay = threading.Thread(target=_relay, args=(source, target, changed), daemon=True)
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


def _relay(source: socket.socket, target: socket.socket, changed: Callable[[bytes], bytes]) -> None:
    with suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(changed(data))
        target.shutdown(socket.SHUT_WR)


def _renamed(data: bytes) -> bytes:
    before, found, after = data.partition(_KEY_DATA)
    return before + found + b"\0\0\0\1" + after[4:] if found else data


def _unset(data: bytes) -> bytes:
    """Give names of the same length without a meaning to some parameters of a connection."""
    for name, other in _IGNORED.items():
        data = data.replace(name, other)
    return data
