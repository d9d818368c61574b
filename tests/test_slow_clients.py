"""Clients that stop within a request, at gunicorn without a proxy in front."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from types import SimpleNamespace

import pytest
from gunicorn.config import Config

from pywry_auth.deploy.capacity import this_process
from tests.peers.impatient_gunicorn import SECONDS
from tests.peers.web_server import WebServer, settings_for

_APP = "tests.peers.body_wsgi:app"
_IMPATIENT = ("--config", "python:tests.peers.impatient_gunicorn", "--workers", "1")
_POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\nContent-Length: 8\r\n\r\n"

_CHUNKED = _POST.replace(b"Content-Length: 8", b"Transfer-Encoding: chunked")


@pytest.fixture(scope="module")
def server() -> Iterator[WebServer]:
    """One worker with 4 threads, which waits for clients for a shorter time than usual."""
    server = WebServer(*_IMPATIENT, "--threads", "4", app=_APP)
    with server.running({}):
        yield server


def test_a_client_that_stops_within_a_request_is_disconnected(server: WebServer) -> None:
    """All threads wait for half-sent requests, and then serve another client. [T62]

    gunicorn waits up to 2 seconds more when it closes each connection.
    """
    halves = (b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: a\r\n", b"POST /")
    with _half_sent(server, *halves) as stopped:
        begun = time.monotonic()
        answers = [_answer(client) for client in stopped]
        with _half_sent(server, _POST + b"abcdefgh") as (client,):
            served = _answer(client)
        seconds = time.monotonic() - begun
    assert answers == [b"", b"", b"", b""]
    assert served.startswith(b"HTTP/1.1 200 OK")
    assert served.endswith(b"8 bytes")
    assert SECONDS / 2 < seconds < SECONDS + 12
    assert "Traceback" not in server.output()


def test_gunicorn_waits_five_seconds_for_a_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other tests wait for a shorter time. [T62]"""
    for name, value in settings_for("http://127.0.0.1:1").items():
        monkeypatch.setenv(name, value)
    from pywry_auth.site import gunicorn_settings

    monkeypatch.setattr(this_process, "threads", this_process.threads)  # the hook changes it
    config = Config()
    config.set("worker_class", "gthread")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        worker = SimpleNamespace(cfg=config, sockets=[listener])
        gunicorn_settings.post_fork(SimpleNamespace(), worker)  # type: ignore[arg-type]
        limit = listener.getsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.calcsize("@ll"))
    assert struct.unpack("@ll", limit) == (5, 0)


def test_a_client_that_stops_within_a_body_gets_400(server: WebServer) -> None:
    """Four of them occupy all threads, and another client is served afterwards. [T62]"""
    halves = (
        _POST.replace(b"text/plain", b"application/x-www-form-urlencoded") + b"a=b",
        _POST.replace(b"text/plain", b"multipart/form-data; boundary=x") + b"--x\r\n",
        _POST.replace(b"text/plain", b"application/json") + b"{",
        _CHUNKED + b"9\r\nabc",
    )
    with _half_sent(server, *halves) as stopped, _half_sent(server, _POST + b"abcdefgh") as (client,):
        assert _answer(client).endswith(b"8 bytes")
        for other in stopped:
            assert _answer(other).startswith(b"HTTP/1.1 400 ")
    with _half_sent(server, _CHUNKED + b"x\r\nabc\r\n0\r\n\r\n") as (client,):
        assert _answer(client).startswith(b"HTTP/1.1 400 ")
    assert "Traceback" not in server.output()


def test_the_rest_of_a_failed_body_is_no_request() -> None:
    """gunicorn asks the body whether it has failed, and closes the connection. [T62]"""
    server = WebServer(*_IMPATIENT, "--keep-alive", "30", app=_APP)
    with server.running({}), _half_sent(server, _CHUNKED + b"9\r\nabc") as (client,):
        assert client.recv(65536).startswith(b"HTTP/1.1 400 ")
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        with suppress(ConnectionResetError):
            assert b" 200 OK" not in _answer(client)


def test_a_client_that_sends_slowly_is_served(server: WebServer) -> None:
    """Each pause is shorter than the limit, and all of them together are longer. [T62]"""
    request = _POST + b"abcdefgh"
    pauses = 3
    part = len(request) // pauses + 1
    with _half_sent(server, b"") as (client,):
        begun = time.monotonic()
        for start in range(0, len(request), part):
            client.sendall(request[start : start + part])
            time.sleep(SECONDS / pauses + 0.2)
        assert time.monotonic() - begun > SECONDS
        assert _answer(client).endswith(b"8 bytes")


@contextmanager
def _half_sent(server: WebServer, *requests: bytes) -> Iterator[list[socket.socket]]:
    """Open connections on which only these bytes were sent."""
    with ExitStack() as stack:
        address = ("127.0.0.1", server.port)
        clients = [stack.enter_context(socket.create_connection(address, timeout=20)) for _ in requests]
        for client, request in zip(clients, requests, strict=True):
            client.sendall(request)
        yield clients


def _answer(client: socket.socket) -> bytes:
    """Return all that the server sends before it closes the connection."""
    received = b""
    while part := client.recv(65536):
        received += part
    return received
