"""One HTTP request and its answer on a loopback connection.

Both are bounded in bytes and in time.
"""

from __future__ import annotations

import contextlib
import io
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from email.message import Message
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any, Protocol

from pywry_auth.pages.native import PageResponse, refused

_LINE_LIMIT = 8 * 1024  # bytes of the request line
_HEAD_LIMIT = 64 * 1024  # bytes in total: cookies ignore ports, so a browser sends those of all local servers
_SEND_TIMEOUT = 5.0  # seconds
_LINGER = 1.0  # seconds


@dataclass(frozen=True)
class Request:
    """The request of a client.

    Args:
        method: As sent.
        target: Path and query as sent (RFC 9112 §3.2); it may contain a code.
        headers: All headers; they may contain cookies.
        client: The client's address and port.
        server: The address and port that the client has connected to.
    """

    method: str
    target: str = field(repr=False)
    headers: Message = field(repr=False)
    client: tuple[str, int]
    server: tuple[str, int]

    @property
    def hosts(self) -> Sequence[str]:
        """The value of every Host header."""
        return self.headers.get_all("Host", [])

    def header(self, name: str) -> str:
        """Return all values of a header as one.

        Args:
            name: The header's name, in any case.
        """
        return "; ".join(self.headers.get_all(name, []))


Respond = Callable[[Request, Callable[[PageResponse], None]], None]
"""Receives a request and the function that sends its page, in the connection's own thread."""


class Listener(Protocol):
    """The part of the server that an exchange needs."""

    respond: Respond
    head_timeout: float

    def set_idle(self, connection: socket.socket, idle: bool) -> None:
        """Mark whether a connection may be closed for a new one."""


class Exchange(BaseHTTPRequestHandler):
    """Reads one request, answers it, and closes the connection.

    The connection is closed in a way that lets the answer arrive.
    """

    def __init__(self, request: socket.socket, client_address: Any, server: Any) -> None:
        self._listener: Listener = server
        super().__init__(request, client_address, server)

    def setup(self) -> None:
        """Limit the time and the size of the whole head.

        The base class limits each single read only: a client that drips bytes could continue forever.
        """
        self.connection = self.request
        self._head = _BoundedHead(self.connection, time.monotonic() + self._listener.head_timeout)
        self.rfile = io.BufferedReader(self._head)

    def handle(self) -> None:
        """Read the request and answer it."""
        self.command = ""
        self._answered = False
        try:
            complete = self._read_head()
        except _HeadTooLarge:
            return self._send(refused(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE))
        except TimeoutError:
            return self._send(refused(HTTPStatus.REQUEST_TIMEOUT)) if self._head.has_begun else None
        if not complete:
            return None
        self._listener.set_idle(self.connection, False)
        # Not self.path: the base class shortens a leading // there, and only the exact path counts.
        target = self.requestline.split()[1]
        # An IPv6 address has four members, of which the last two are 0 for the loopback address.
        client, server = self.connection.getpeername()[:2], self.connection.getsockname()[:2]
        request = Request(self.command, target, self.headers, client, server)
        return self._listener.respond(request, self._send)

    def finish(self) -> None:
        """Wait briefly until the client has read the answer.

        Closing with unread input would reset the connection.
        """
        deadline = time.monotonic() + _LINGER
        with contextlib.suppress(OSError):
            self.connection.settimeout(_LINGER)
            while self._answered and time.monotonic() < deadline and self.connection.recv(65536):
                pass
        self.rfile.close()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Send a page that shows no part of the request."""
        self._send(refused(HTTPStatus(code)))

    def log_message(self, format: str, *args: Any) -> None:
        """Write nothing: a request line may contain a code."""

    def _read_head(self) -> bool:
        self.raw_requestline = self.rfile.readline(_LINE_LIMIT + 1)
        if not self.raw_requestline:
            return False  # the connection was opened in advance and never used
        if len(self.raw_requestline) > _LINE_LIMIT:
            self.send_error(HTTPStatus.REQUEST_URI_TOO_LONG)
            return False
        if not self.raw_requestline.strip():
            self.send_error(HTTPStatus.BAD_REQUEST)
            return False
        return self.parse_request()

    def _send(self, page: PageResponse) -> None:
        body = page.html.encode()
        lines = [f"HTTP/1.1 {page.status.value} {page.status.phrase}"]
        if page.status is not HTTPStatus.NO_CONTENT:  # 204 has neither header (RFC 9110 §8.6)
            lines += ["Content-Type: text/html; charset=utf-8", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in (*page.security, *page.headers)]
        lines += ["Connection: close", "", ""]
        self.connection.settimeout(_SEND_TIMEOUT)
        self.connection.sendall("\r\n".join(lines).encode() + (b"" if self.command == "HEAD" else body))
        self._answered = True
        self.connection.shutdown(socket.SHUT_WR)
        self._listener.set_idle(self.connection, True)


class _HeadTooLarge(Exception):
    """The head of a request exceeds the limit."""


class _BoundedHead(io.RawIOBase):
    """Reads a connection within a deadline and a size limit."""

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self._connection = connection
        self._deadline = deadline
        self._left = _HEAD_LIMIT

    @property
    def has_begun(self) -> bool:
        return self._left < _HEAD_LIMIT

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        seconds = self._deadline - time.monotonic()
        if seconds <= 0:
            raise TimeoutError
        if self._left <= 0:
            raise _HeadTooLarge
        self._connection.settimeout(seconds)
        count = self._connection.recv_into(memoryview(buffer)[: self._left])
        self._left -= count
        return count
