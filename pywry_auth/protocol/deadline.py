"""urllib3 connections whose answer, head and body together, must be there by a deadline.

A socket's own timeout starts anew with each read, so a server that sends one byte now and then could hold
a caller for hours.
"""

from __future__ import annotations

import http.client
import io
import socket
import time
from typing import TYPE_CHECKING, Any

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection

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


class _PlainConnection(HTTPConnection):
    response_class = _response  # type: ignore[assignment]  # http.client calls it with the socket


class _TLSConnection(HTTPSConnection):
    response_class = _response  # type: ignore[assignment]  # http.client calls it with the socket


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = _PlainConnection


class _TLSPool(HTTPSConnectionPool):
    ConnectionCls = _TLSConnection


POOL_CLASSES = {"http": _PlainPool, "https": _TLSPool}
"""For ``PoolManager.pool_classes_by_scheme``."""
