"""Clients that stop within a request, at gunicorn without a proxy in front."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tests.peers.web_server import WebServer

_PAUSE_SECONDS = 5.0
_POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\nContent-Length: 8\r\n\r\n"


@pytest.fixture(scope="module")
def server() -> Iterator[WebServer]:
    """One worker with 4 threads."""
    server = WebServer("--workers", "1", "--threads", "4", app="tests.peers.body_wsgi:app")
    with server.running({}):
        yield server


def test_a_client_that_stops_within_a_request_is_disconnected(server: WebServer) -> None:
    """All threads wait for half-sent requests, and then serve another client. [T62]

    gunicorn waits up to 2 seconds more when it closes each connection.
    """
    halves = (b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: a\r\n", b"POST /")
    with _half_sent(server, *halves) as stopped:
        begun = time.monotonic()
        answers = [client.recv(65536) for client in stopped]
        with _half_sent(server, _POST + b"abcdefgh") as (client,):
            served = client.recv(65536)
        seconds = time.monotonic() - begun
    assert answers == [b"", b"", b"", b""]
    assert served.startswith(b"HTTP/1.1 200 OK")
    assert served.endswith(b"8 bytes")
    assert _PAUSE_SECONDS - 1 < seconds < _PAUSE_SECONDS + 12
    assert "Traceback" not in server.output()


def test_a_client_that_stops_within_a_body_occupies_no_thread(server: WebServer) -> None:
    """The application gets an error instead of the rest of the body. [T62]"""
    whole = _POST + b"abcdefgh"
    with _half_sent(server, *[whole[:-5]] * 4) as stopped, _half_sent(server, whole) as (client,):
        assert client.recv(65536).endswith(b"8 bytes")
        assert not any(other.recv(65536).endswith(b" bytes") for other in stopped)


def test_a_client_that_sends_slowly_is_served(server: WebServer) -> None:
    """Each pause is shorter than the limit, and all of them together are longer. [T62]"""
    request = _POST + b"abcdefgh"
    pauses = 3
    part = len(request) // pauses + 1
    with _half_sent(server, b"") as (client,):
        begun = time.monotonic()
        for start in range(0, len(request), part):
            client.sendall(request[start : start + part])
            time.sleep(_PAUSE_SECONDS / pauses + 0.2)
        assert time.monotonic() - begun > _PAUSE_SECONDS
        assert client.recv(65536).endswith(b"8 bytes")


@contextmanager
def _half_sent(server: WebServer, *requests: bytes) -> Iterator[list[socket.socket]]:
    """Open connections on which only these bytes were sent."""
    with ExitStack() as stack:
        address = ("127.0.0.1", server.port)
        clients = [stack.enter_context(socket.create_connection(address, timeout=20)) for _ in requests]
        for client, request in zip(clients, requests, strict=True):
            client.sendall(request)
        yield clients
