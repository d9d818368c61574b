"""A TCP proxy in front of a server, which delays answers or cuts them off."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType


class TCPProxy:
    """Passes the bytes of each connection on, in both directions.

    Args:
        port: The port of the server on this machine.

    Attributes:
        delay: The seconds by which each part of an answer is late.
        cuts: Whether each connection ends in the middle of its next answer.
    """

    def __init__(self, port: int) -> None:
        self._server = port
        self._open = set[socket.socket]()
        self._lock = threading.Lock()  # guards the open sockets, and their number of listeners
        self.delay = 0.0
        self.cuts = False
        self._late = threading.Event()  # set when the answers are no longer late
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listening.getsockname()[1]
        self._begin()

    @contextmanager
    def slow(self, seconds: float) -> Iterator[None]:
        """Delay each part of an answer in the block."""
        self._late.clear()
        self.delay = seconds
        yield
        self.delay = 0.0
        self._late.set()

    @contextmanager
    def cutting(self) -> Iterator[None]:
        """End each connection in the middle of its next answer in the block."""
        self.cuts = True
        yield
        self.cuts = False

    @contextmanager
    def closed(self) -> Iterator[None]:
        """Refuse connections in the block, as a machine without the server does."""
        self.close()
        yield
        self._listening = socket.create_server(("127.0.0.1", self.port), backlog=64)
        self._begin()

    def close(self) -> None:
        """End all connections, and accept no others."""
        self._late.set()
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)  # ends a pending accept()
        self._accepts.join()
        self._listening.close()
        with self._lock:
            for end in self._open:
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def _begin(self) -> None:
        self._accepts = threading.Thread(target=self._accept, args=(self._listening,), daemon=True)
        self._accepts.start()

    def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                client, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client:
            try:
                server = socket.create_connection(("127.0.0.1", self._server))
            except OSError:
                return
            with server:
                with self._lock:
                    self._open |= {client, server}
                asks = threading.Thread(target=self._ask, args=(client, server), daemon=True)
                asks.start()
                self._answer(server, client)
                asks.join()
                with self._lock:
                    self._open -= {client, server}

    def _ask(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while part := client.recv(65536):
                server.sendall(part)
        with suppress(OSError):
            server.shutdown(socket.SHUT_WR)

    def _answer(self, server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while part := server.recv(65536):
                if self.delay:
                    self._late.wait(self.delay)
                if self.cuts:
                    client.sendall(part[: len(part) // 2])
                    break
                client.sendall(part)
        for end in (client, server):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> TCPProxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
