"""A loopback HTTP server that behaves as a test says, and remembers all requests."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Self
from urllib.parse import parse_qsl, urlsplit

from tests.peers.tls import TLSFiles

_PATIENCE = 30.0  # seconds until a hanging test fails; no test measures it


@dataclass(frozen=True)
class Received:
    """One request as it was received.

    ``connection`` counts the connections of its server.
    """

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    connection: int

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def form(self) -> dict[str, str]:
        """The form in the body; a repeated field fails the test."""
        pairs = parse_qsl(self.body.decode("ascii"), keep_blank_values=True, strict_parsing=True)
        assert len(dict(pairs)) == len(pairs)
        return dict(pairs)


@dataclass(frozen=True)
class Answer:
    """A valid answer; a body other than bytes is sent as JSON."""

    body: Any = b""
    status: int = 200
    media_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)

    def encoded(self) -> bytes:
        body = self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()
        lines = [f"HTTP/1.1 {self.status} Scripted", f"Content-Type: {self.media_type}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        lines.append(f"Content-Length: {len(body)}")
        return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


Behaviour = Callable[[socket.socket, threading.Event], None]
"""Acts on a connection instead of an answer, until the event ends the test."""

Script = Callable[[Received], "Answer | Behaviour"]


class ScriptedServer:
    """Listens on a loopback address until ``close``; connections are kept alive.

    Args:
        script: Returns the answer to a request.
        context: Makes it an https server.
        place: The loopback address and the port; 0 means any free port.
    """

    def __init__(
        self,
        script: Script,
        context: ssl.SSLContext | None = None,
        place: tuple[str, int] = ("127.0.0.1", 0),
    ) -> None:
        self.received: list[Received] = []
        self.connections = 0
        self.over = threading.Event()
        self._script = script
        self._context = context
        self._listener = socket.create_server(place)
        self._open: set[socket.socket] = set()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    @property
    def port(self) -> int:
        port: int = self._listener.getsockname()[1]
        return port

    @property
    def url(self) -> str:
        return f"{'https' if self._context else 'http'}://127.0.0.1:{self.port}"

    def requests(self, path: str) -> list[Received]:
        """Return the requests for a path so far."""
        return [request for request in list(self.received) if request.path == path]

    def drop_connections(self) -> None:
        """Close all open connections, as servers do with idle ones."""
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.over.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join(_PATIENCE)
        self._listener.close()
        self.drop_connections()
        for thread in self._threads:
            thread.join(_PATIENCE)
            assert not thread.is_alive()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        while not self.over.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.add(connection)
            thread = threading.Thread(target=self._serve, args=(connection, self.connections), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        self_made = connection
        try:
            connection.settimeout(_PATIENCE)
            if self._context:
                connection = self._context.wrap_socket(connection, server_side=True)
                self._open.add(connection)
            with connection.makefile("rb") as stream:
                while self._answer(connection, stream, number):
                    pass
        except (OSError, ValueError):
            pass  # the client closed the connection, or the test is over
        finally:
            self._open -= {connection, self_made}
            connection.close()

    def _answer(self, connection: socket.socket, stream: BinaryIO, number: int) -> bool:
        request = read_request(stream, number)
        if request is None:
            return False
        self.received.append(request)
        answer = self._script(request)
        if isinstance(answer, Answer):
            connection.sendall(answer.encoded())
            return True
        answer(connection, self.over)
        return False


def read_request(stream: BinaryIO, number: int = 0) -> Received | None:
    """Return the next request of a connection, or None at its end."""
    words = stream.readline().decode("latin-1").split()
    if len(words) != 3:
        return None
    headers: dict[str, str] = {}
    while line := stream.readline().decode("latin-1").strip():
        name, _, value = line.partition(":")
        assert name.lower() not in headers, "the client sent a header twice"
        headers[name.lower()] = value.strip()
    body = stream.read(int(headers.get("content-length", "0")))
    return Received(words[0], words[1], headers, body, number)


def sends(data: bytes) -> Behaviour:
    """Send exactly these bytes and close."""
    return lambda connection, over: connection.sendall(data)


def drips(head: bytes, piece: bytes, seconds: float = 0.02) -> Behaviour:
    """Send the head, and then the same piece again and again with pauses."""

    def behave(connection: socket.socket, over: threading.Event) -> None:
        connection.sendall(head)
        while not over.wait(seconds):
            connection.sendall(piece)

    return behave


def floods(head: bytes, piece: bytes) -> Behaviour:
    """Send the head, and then the same piece as fast as possible, without an end."""

    def behave(connection: socket.socket, over: threading.Event) -> None:
        connection.sendall(head)
        while not over.is_set():
            connection.sendall(piece)

    return behave


def resets(connection: socket.socket, over: threading.Event) -> None:
    """Close the connection with a TCP reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")


def hangs(connection: socket.socket, over: threading.Event) -> None:
    """Send nothing until the test is over."""
    over.wait(_PATIENCE)


def relays(port: int, greeting: bytes) -> Behaviour:
    """Send the greeting, and then relay all data between the client and a local port."""

    def behave(connection: socket.socket, over: threading.Event) -> None:
        with socket.create_connection(("127.0.0.1", port)) as target:
            connection.sendall(greeting)
            back = threading.Thread(target=_pump, args=(target, connection), daemon=True)
            back.start()
            _pump(connection, target)
            back.join(_PATIENCE)

    return behave


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_RDWR)


class SocksServer(ScriptedServer):
    """A SOCKS 5 proxy that always connects to one local port (RFC 1928).

    Args:
        port: The port to connect to.
    """

    def __init__(self, port: int) -> None:
        self._relay = relays(port, b"\5\0\0\1" + bytes(6))
        super().__init__(lambda request: Answer())

    def _answer(self, connection: socket.socket, stream: BinaryIO, number: int) -> bool:
        stream.read(stream.read(2)[1])
        connection.sendall(b"\5\0")
        kind = stream.read(4)[3]
        stream.read((stream.read(1)[0] if kind == 3 else {1: 4, 4: 16}[kind]) + 2)
        self._relay(connection, self.over)
        return False


def proxy_to(kind: str, port: int) -> ScriptedServer:
    """Return a proxy (``http`` or ``socks5``) that connects to one local port."""
    if kind == "socks5":
        return SocksServer(port)
    return ScriptedServer(lambda request: relays(port, b"HTTP/1.1 200 Connected\r\n\r\n"))


def tls_context(files: TLSFiles) -> ssl.SSLContext:
    """Return the server's TLS context for these files."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.cert, files.key)
    return context


def free_port() -> int:
    """Return a loopback port on which no server listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
