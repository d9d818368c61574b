"""urllib3 connections whose answer, head and body together, must be there by a deadline.

A socket's own timeout starts anew with each read, so a server that sends one byte now and then could hold
a caller for hours.
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

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class _DeadlineReader(io.RawIOBase):
    """Reads a socket, giving each read only the time that is left."""

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
    """As much of a socket as an ``http.client.HTTPResponse`` asks for."""

    def __init__(self, sock: socket.socket, seconds: float) -> None:
        self._socket = sock
        self._seconds = seconds

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_DeadlineReader(self._socket, self._seconds))


def _response(connection: HTTPConnection, sock: Any, *args: Any, **kwargs: Any) -> http.client.HTTPResponse:
    # urllib3 2 has set the connection's timeout to what is left of the call's total when it asks for this.
    if isinstance(connection.timeout, (int, float)):
        sock = _DeadlineSocket(sock, connection.timeout)
    return http.client.HTTPResponse(sock, *args, **kwargs)


class _Deadline:
    response_class = _response  # http.client calls it with the socket


@cache
def with_deadline(pool: type[HTTPConnectionPool]) -> type[HTTPConnectionPool]:
    """Return a kind of pool whose connections keep the deadline of each call.

    Args:
        pool: A kind of pool: for http or https, direct or through a SOCKS proxy.
    """
    kind = pool.ConnectionCls
    if issubclass(kind, _Deadline):
        return pool
    return type(pool.__name__, (pool,), {"ConnectionCls": type(kind.__name__, (_Deadline, kind), {})})
