"""urllib3 connections with one deadline for the whole call.

A socket's own timeout starts again with each address of a host and with each read. A host with many
unreachable addresses, or a server that sends single bytes, could therefore block a caller for minutes or
hours.
"""

from __future__ import annotations

import http.client
import io
import socket
import time
from functools import cache
from typing import TYPE_CHECKING, Any

from urllib3 import HTTPConnectionPool
from urllib3.connection import HTTPConnection
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError
from urllib3.util.connection import allowed_gai_family

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_ADDRESS_SECONDS = 3.05  # longer than one retransmitted SYN; then another address may work


class _DeadlineReader(io.RawIOBase):
    """Reads a socket within the remaining time."""

    def __init__(self, sock: socket.socket, seconds: float) -> None:
        self._socket = sock
        self._file = sock.makefile("rb", buffering=0)
        self._ends = time.monotonic() + seconds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int | None:
        left = self._ends - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer was not complete in time")
        self._socket.settimeout(left)
        return self._file.readinto(buffer)

    def close(self) -> None:
        self._file.close()
        super().close()


class _DeadlineSocket:
    """The part of a socket that ``http.client.HTTPResponse`` uses."""

    def __init__(self, sock: socket.socket, seconds: float) -> None:
        self._socket = sock
        self._seconds = seconds

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_DeadlineReader(self._socket, self._seconds))


class _Response(http.client.HTTPResponse):
    """A response whose invalid header lines are dropped.

    urllib3 would log them, and a provider can quote a secret there.
    """

    def begin(self) -> None:
        super().begin()
        self.msg.set_payload("")
        self.msg.defects.clear()


def _response(connection: HTTPConnection, sock: Any, *args: Any, **kwargs: Any) -> http.client.HTTPResponse:
    # urllib3 2 has set the connection's timeout to the rest of the call's time limit.
    if isinstance(connection.timeout, (int, float)):
        sock = _DeadlineSocket(sock, connection.timeout)
    return _Response(sock, *args, **kwargs)


class _Deadline:
    response_class = _response  # http.client calls it with the socket


class _Connecting(HTTPConnection):
    """Divides the time limit among the addresses of a host.

    The parent class allows the whole time for each address.
    """

    def _new_conn(self) -> socket.socket:
        name, allowed = self._dns_host, self.timeout
        if not isinstance(allowed, (int, float)):
            return super()._new_conn()
        ends = time.monotonic() + allowed
        addresses = _addresses(name, self.port)
        try:
            for index, self._dns_host in enumerate(addresses):
                share = _left(ends) / (len(addresses) - index)
                self.timeout = min(share, _ADDRESS_SECONDS)
                try:
                    sock = super()._new_conn()
                    sock.settimeout(_left(ends))  # the rest is for TLS or a proxy's answer
                    return sock
                except (ConnectTimeoutError, NewConnectionError):
                    if index == len(addresses) - 1:
                        raise
        finally:
            self._dns_host, self.timeout = name, _left(ends)
        raise AssertionError("the last address returns or raises")


def _addresses(name: str, port: int) -> list[str]:
    try:
        found = socket.getaddrinfo(name, port, allowed_gai_family(), socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return [name]  # connecting to it then fails with a better error
    return list(dict.fromkeys(str(place[0]) for *_, place in found)) or [name]


def _left(ends: float) -> float:
    return max(ends - time.monotonic(), 0.001)


@cache
def with_deadline(pool: type[HTTPConnectionPool]) -> type[HTTPConnectionPool]:
    """Return a pool class with connections that keep each call's deadline.

    Args:
        pool: A pool class for http or https, direct or through a SOCKS proxy.
    """
    kind = pool.ConnectionCls
    if issubclass(kind, _Deadline):
        return pool
    # A SOCKS proxy connects by itself. Its URL decides whether the proxy or this machine resolves the name.
    usual = getattr(kind, "_new_conn", None) is HTTPConnection._new_conn
    bases = (_Deadline, _Connecting, kind) if usual else (_Deadline, kind)
    return type(pool.__name__, (pool,), {"ConnectionCls": type(kind.__name__, bases, {})})
