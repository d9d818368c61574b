"""Servers that speak the protocol of Redis and give the answers of a test."""

from __future__ import annotations

import socket
import socketserver
import threading
from contextlib import suppress
from types import TracebackType


def listed(*texts: object) -> bytes:
    """Return texts as an answer of Redis."""
    encoded = [str(text).encode() for text in texts]
    return b"*%d\r\n" % len(encoded) + b"".join(b"$%d\r\n%s\r\n" % (len(each), each) for each in encoded)


class MistakenRedis(socketserver.ThreadingTCPServer):
    """A sentinel or a node of a cluster with given answers; the attributes can be changed while it runs.

    Args:
        primary: The answer to the question for the primary.
        epoch: The epoch of the configuration; None for a sentinel that does not say it.
    """

    daemon_threads = True

    def __init__(self, primary: bytes, epoch: int | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.primary, self.epoch = primary, epoch
        self.port = int(self.server_address[1])
        self._connections: list[socket.socket] = []  # list.append is atomic
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01})

    def answer(self, words: list[bytes]) -> bytes:
        """Return the answer to a command."""
        if words[0] == b"EXISTS" or words[:2] == [b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME"]:
            return self.primary
        if words[0] != b"SENTINEL":
            return b"+OK\r\n"
        knows = words[1] == b"MASTER" and self.epoch is not None
        return listed("name", "site", "config-epoch", self.epoch) if knows else b"*0\r\n"

    def note(self, connection: socket.socket) -> None:
        """Remember a connection, which ends with the server."""
        self._connections.append(connection)

    def __enter__(self) -> MistakenRedis:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        self.shutdown()
        self.server_close()
        for connection in self._connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._thread.join()


class _Answers(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        server = self.server
        assert isinstance(server, MistakenRedis)
        server.note(self.connection)
        while line := self.rfile.readline():
            words = [self.rfile.read(int(self.rfile.readline()[1:]) + 2)[:-2] for _ in range(int(line[1:]))]
            self.wfile.write(server.answer(words))
