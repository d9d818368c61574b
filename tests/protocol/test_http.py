"""The transport, against servers that redirect, drip, flood, disconnect, set cookies or send wrong sizes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import requests
from urllib3.util import connection as urllib3_connection

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError, ProviderBusy
from pywry_auth.protocol import deadline, http
from pywry_auth.protocol.deadline import IDLE_SECONDS
from pywry_auth.protocol.gate import CallGate
from pywry_auth.protocol.http import MAX_ANSWER_BYTES, ProviderAnswer, ProviderSession, close_idle_connections
from pywry_auth.protocol.urls import HTTPOptions
from pywry_auth.version import __version__
from tests.peers.tls import TLSFiles, make_tls_files
from tests.protocol.issuer import one_after_the_other
from tests.protocol.refusal import everything_told
from tests.protocol.servers import (
    Answer,
    Behaviour,
    Script,
    ScriptedServer,
    drips,
    floods,
    free_port,
    hangs,
    proxy_to,
    resets,
    sends,
    tls_context,
)
from tests.waiting import eventually

SHORT = 0.3  # the time limit, in seconds, of calls whose time limit is tested
GENEROUS = 4.0  # seconds within which a call of SHORT has ended even on a busy machine
PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"

Serve = Callable[[Script], ScriptedServer]


@pytest.fixture(autouse=True)
def no_proxy_nor_certificates_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*PROXY_VARIABLES, *map(str.lower, PROXY_VARIABLES)):
        monkeypatch.delenv(name, raising=False)
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start servers that stop at the end of the test."""
    started: list[ScriptedServer] = []

    def start(script: Script) -> ScriptedServer:
        started.append(ScriptedServer(script))
        return started[-1]

    yield start
    for server in started:
        server.close()


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the pauses between attempts, for tests that count attempts."""
    monkeypatch.setattr(time, "sleep", lambda seconds: None)


def call(url: str, method: str = "GET", data: str | None = None, **options: Any) -> ProviderAnswer:
    with ProviderSession(HTTPOptions(**options)) as session:
        return session.call(method, url, data=data)


def refused(url: str, error: str, method: str = "GET", **options: Any) -> AuthenticationError:
    """Make a call that must fail with this error; return the error."""
    with pytest.raises(AuthenticationError) as caught:
        call(url, method, "code=canary-code" if method == "POST" else None, **options)
    assert caught.value.error == error
    assert "canary" not in everything_told(caught.value)
    return caught.value


# T22, T24: redirects


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 305, 307, 308])
def test_a_redirect_is_never_followed(serve: Serve, status: int, method: str) -> None:
    """The target of the redirect receives no request, and so neither code nor secret. [T22, T24]"""
    canary = serve(lambda request: Answer({}))
    server = serve(lambda request: Answer(b"", status, headers={"Location": f"{canary.url}/latest"}))
    assert "redirect" in str(refused(f"{server.url}/token", ErrorCode.INVALID_RESPONSE, method))
    assert (len(server.received), canary.received) == (1, [])


@pytest.mark.parametrize("method", ["get", "post", "head", "options"])
def test_a_caller_cannot_turn_redirects_on(serve: Serve, method: str) -> None:
    canary = serve(lambda request: Answer({}))
    server = serve(lambda request: Answer(b"", 307, headers={"Location": canary.url}))
    with ProviderSession(HTTPOptions()) as session:
        assert getattr(session, method)(server.url, allow_redirects=True).status_code == 307
    assert canary.received == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_the_body_of_a_redirect_is_not_decompressed(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    """A megabyte could decompress to gigabytes. [T41]"""
    headers = {"Location": "/elsewhere", "Content-Encoding": "gzip"}
    server = serve(lambda request: Answer(packed(b"x" * (1 << 20)), status, headers=headers))
    monkeypatch.setattr(requests.Response, "content", property(lambda _: pytest.fail("the body is read")))
    assert "it redirects to" in str(refused(server.url, ErrorCode.INVALID_RESPONSE))


@pytest.mark.parametrize("location", ["http://[canary", "//[::1", "https://a:b:c/"])
def test_a_redirect_to_an_invalid_address_is_an_invalid_answer(serve: Serve, location: str) -> None:
    server = serve(lambda request: Answer(b"", 302, headers={"Location": location}))
    refusal = refused(server.url, ErrorCode.INVALID_RESPONSE, "POST")
    assert "(redirects are never followed)" in str(refusal)


@pytest.mark.parametrize(
    "url",
    ["http://id.example.com/", "http://169.254.169.254/latest", "ftp://127.0.0.1/", "https://u:p@127.0.0.1/"],
)
def test_nothing_is_sent_in_the_clear_to_another_machine(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Neither oauthlib's switch nor the session's own methods allow plain http. [R, P17]"""
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")
    monkeypatch.setattr(urllib3_connection, "create_connection", lambda *_, **__: pytest.fail("a connection"))
    assert "https" in str(refused(url, ErrorCode.INVALID_CONFIGURATION))
    with ProviderSession(HTTPOptions()) as session, pytest.raises(AuthenticationError):
        session.get(url)


# T41: sizes and encodings


def test_a_body_may_have_one_mebibyte_and_not_one_byte_more(serve: Serve) -> None:
    server = serve(lambda request: Answer(b" " * int(request.path[1:])))
    assert len(call(f"{server.url}/{MAX_ANSWER_BYTES}").body) == 1 << 20
    refusal = refused(f"{server.url}/{MAX_ANSWER_BYTES + 1}", ErrorCode.INVALID_RESPONSE)
    assert f"too large ({MAX_ANSWER_BYTES + 1} bytes of at most {MAX_ANSWER_BYTES}): let the" in str(refusal)


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65536),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999\r\n\r\n", b"x" * 65536),
        (CHUNKED, b"8000\r\n" + b"x" * 0x8000 + b"\r\n"),
    ],
)
def test_an_endless_body_is_read_up_to_one_mebibyte(serve: Serve, head: bytes, piece: bytes) -> None:
    server = serve(lambda request: floods(head, piece))
    told = str(refused(server.url, ErrorCode.INVALID_RESPONSE))
    assert "sent an answer that is too large (" in told
    assert "fewer claims" in told
    redirect = head.replace(b"200 OK", b"302 Found\r\nLocation: /elsewhere", 1)
    server = serve(lambda request: floods(redirect, piece))
    assert "it redirects to" in str(refused(server.url, ErrorCode.INVALID_RESPONSE, timeout=GENEROUS))


def packed(data: bytes, bits: int = 31) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, bits)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize("encoding", ["deflate", "br", "zstd", "gzip, gzip", "canary-unknown"])
def test_compression_without_request_is_refused(serve: Serve, encoding: str) -> None:
    """It is refused if it is damaged, of an unknown kind, or repeated. [T41]"""
    server = serve(lambda request: Answer(packed(b"{}"), headers={"Content-Encoding": encoding}))
    assert "compressed once with gzip or deflate" in str(refused(server.url, ErrorCode.INVALID_RESPONSE))


def test_a_compressed_answer_that_is_too_large_is_refused(serve: Serve) -> None:
    """A few bytes could decompress to gigabytes. [T41]"""
    bomb = packed(b"x" * (8 << 20))
    server = serve(lambda request: Answer(bomb, headers={"Content-Encoding": "gzip"}))
    assert "1048576 bytes after its decompression" in str(refused(server.url, ErrorCode.INVALID_RESPONSE))
    assert [request.headers["accept-encoding"] for request in server.received] == ["identity"]


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_answer_may_be_compressed_without_request(serve: Serve, method: str) -> None:
    """Some servers compress every answer."""
    body = packed(b'{"a": 1}' + b" " * (MAX_ANSWER_BYTES - 8))
    server = serve(lambda request: Answer(body, headers={"Content-Encoding": "GZIP"}))
    answer = call(server.url, method)
    assert answer.json_object() == {"a": 1}
    assert len(answer.body) == MAX_ANSWER_BYTES
    damaged = serve(lambda request: Answer(body[:-1], headers={"Content-Encoding": "gzip"}))
    assert "compressed" in str(refused(damaged.url, ErrorCode.INVALID_RESPONSE, method))
    silent = serve(lambda request: Answer(b"", 204, headers={"Content-Encoding": "gzip"}))
    assert call(silent.url, method).body == b""


def test_every_request_accepts_any_media_type(serve: Serve) -> None:
    """A strict server would otherwise answer with status 406."""
    server = serve(lambda request: Answer({}))
    call(server.url)
    assert server.received[0].headers["accept"] == "application/json, */*;q=0.1"


UNREADABLE = {
    "too large": Answer(b"canary" * (MAX_ANSWER_BYTES // 6 + 1), 400),
    "too large after its decompression": Answer(
        packed(b"x" * (MAX_ANSWER_BYTES + 1)), 400, headers={"Content-Encoding": "gzip"}
    ),
    "damaged": Answer(b"canary", 400, headers={"Content-Encoding": "gzip"}),
    "of an unknown kind": Answer(b"canary", 400, headers={"Content-Encoding": "br"}),
}


@pytest.mark.parametrize("status", [400, 401, 403, 429, 500, 503])
@pytest.mark.parametrize("unreadable", UNREADABLE)
def test_the_body_of_a_failure_may_be_unreadable(
    serve: Serve, no_pauses: None, unreadable: str, status: int
) -> None:
    """It only explains the status. [S5]"""
    server = serve(lambda request: replace(UNREADABLE[unreadable], status=status))
    answer = call(server.url)
    assert (answer.status, answer.body) == (status, b"")


NO_OBJECTS = {
    "empty": b"",
    "HTML": b"<html>canary</html>",
    "a list": b'["canary"]',
    "null": b"null",
    "a string": b'"canary"',
    "a number": b"5",
    "cut": b'{"canary": "',
    "two objects": b"{}{}",
    "invalid UTF-8": b'{"canary": "\xff"}',
    "deep lists": b"[" * 500_000,
    "deep objects": b'{"a":' * 200_000,
    "a huge number": b'{"canary": ' + b"9" * 5000 + b"}",
    "not a number": b'{"canary": NaN}',
    "infinity": b'{"canary": [-Infinity]}',
    "a number beyond all others": b'{"canary": 1e400}',
    "NUL": b"\0",
    "half of UTF-16": b"{\0}",
}


@pytest.mark.parametrize("body", NO_OBJECTS.values(), ids=NO_OBJECTS)
def test_a_body_that_is_no_json_object_is_refused(body: bytes) -> None:
    """Parsing is bounded in time and depth, and the error quotes nothing of the body. [T29, T41, S11]"""
    answer = ProviderAnswer("https://id.example.com/token", 200, "text/html", body)
    with pytest.raises(AuthenticationError, match=r"id\.example\.com/token") as caught:
        answer.json_object()
    assert caught.value.error == ErrorCode.INVALID_RESPONSE
    assert "canary" not in everything_told(caught.value) + repr(answer)


def test_a_media_type_is_shortened_to_one_line() -> None:
    """The media type is a text from the server. [T8, T31]"""
    answer = ProviderAnswer("https://id.example.com/token", 200, "text/\x1b[31m" + "canary" * 9999, b"")
    text = str(answer.fault("a token response"))
    assert text.isprintable()
    assert len(text) < 500


# P26: time


SLOW: dict[str, Behaviour] = {
    "no answer": hangs,
    "head dripped in one line": drips(b"HTTP/1.1 200 OK\r\nX: ", b"x"),
    "head dripped in many lines": drips(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
    "head dripped from the start": drips(b"", b"H"),
    "interim answers": drips(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "body dripped with its length": drips(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b" "),
    "body dripped without its length": drips(b"HTTP/1.1 200 OK\r\n\r\n", b" "),
    "chunks dripped": drips(CHUNKED, b"1\r\nx\r\n"),
    "a chunk's size dripped": drips(CHUNKED, b"0"),
    "trailers dripped": drips(CHUNKED + b"0\r\n", b"X: y\r\n"),
    "body never begun": drips(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", b"", seconds=30),
}


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("slow", SLOW)
def test_a_slow_answer_ends_at_the_time_limit(serve: Serve, slow: str, method: str) -> None:
    """The limit includes head, body and retries, even if bytes keep arriving. [P26]"""
    server = serve(lambda request: SLOW[slow])
    begun = time.monotonic()
    assert f"{SHORT:g} s" in str(refused(server.url, ErrorCode.PROVIDER_UNREACHABLE, method, timeout=SHORT))
    assert time.monotonic() - begun < GENEROUS
    assert method == "GET" or len(server.received) == 1


def test_retries_stay_within_the_time_limit(serve: Serve) -> None:
    """A ``Retry-After`` of an hour does not extend the limit. [P26]"""
    server = serve(lambda request: Answer({}, 503, headers={"Retry-After": "3600"}))
    begun = time.monotonic()
    assert call(server.url, timeout=SHORT).status == 503
    assert time.monotonic() - begun < GENEROUS


@contextmanager
def silence(address: str, port: int = 0) -> Iterator[int]:
    """Leave connections to an address (empty: any) unanswered, like a firewall; return the port."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind((address, port))
        listener.listen(0)
        port = listener.getsockname()[1]
        for _ in range(4):  # two connections fill the queue; the system drops the packets of the others
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex((address or "127.0.0.1", port))
        yield port


def resolve_localhost_to(monkeypatch: pytest.MonkeyPatch, addresses: list[str]) -> None:
    resolve = socket.getaddrinfo

    def look_up(host: str, *args: Any, **kwargs: Any) -> list[Any]:
        names = addresses if host == "localhost" else [host]
        return [found for name in names for found in resolve(name, *args, **kwargs)]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_many_unreachable_addresses_share_one_time_limit(
    monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """Some hosts have a dozen addresses, and a firewall may drop packets to all of them. [P26, N13]"""
    resolve_localhost_to(monkeypatch, [f"127.0.0.{number}" for number in range(1, 40)])
    with silence("") as port:
        begun = time.monotonic()
        url = f"http://localhost:{port}/token"
        assert f"{SHORT:g} s" in str(refused(url, ErrorCode.PROVIDER_UNREACHABLE, method, timeout=SHORT))
        assert time.monotonic() - begun < GENEROUS


def test_an_unreachable_address_leaves_time_for_the_next(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For example, an unreachable IPv6 address before a reachable IPv4 address. [P26, N13]"""
    server = serve(lambda request: Answer({}))
    resolve_localhost_to(monkeypatch, ["127.0.0.2", "127.0.0.3", "127.0.0.1"])
    with silence("127.0.0.2", server.port):  # and no server listens on the next one
        assert call(f"http://localhost:{server.port}/token", "POST", "code=c", timeout=3).status == 200
    assert [request.headers["host"] for request in server.received] == [f"localhost:{server.port}"]


# R: retries


@pytest.mark.usefixtures("no_pauses")
@pytest.mark.parametrize("status", [502, 503, 504])
def test_only_a_get_is_repeated_after_a_gateway_error(serve: Serve, status: int) -> None:
    server = serve(one_after_the_other(Answer({}, status), Answer({}, status), Answer({"ready": True})))
    assert call(server.url).json_object() == {"ready": True}
    assert len(server.received) == 3
    down = serve(lambda request: Answer({}, status))
    assert call(down.url).status == status
    assert len(down.received) == 3
    assert call(f"{down.url}/token", "POST", "code=c").status == status
    assert len(down.requests("/token")) == 1


@pytest.mark.parametrize("status", [200, 204, 400, 401, 403, 404, 429, 500, 501])
def test_other_statuses_are_not_repeated(serve: Serve, status: int) -> None:
    server = serve(lambda request: Answer(b"", status))
    assert call(server.url).status == status
    assert len(server.received) == 1


BROKEN: dict[str, Behaviour] = {
    "reset": resets,
    "closed": sends(b""),
    "closed in the body": sends(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{"),
    "closed in a chunk": sends(CHUNKED + b"50\r\n{"),
    "a chunk without a size": sends(CHUNKED + b"canary\r\n"),
    "no HTTP": sends(b"SSH-2.0-canary\r\n"),
    "a status that is no number": sends(b"HTTP/1.1 canary OK\r\n\r\n"),
    "a header without an end": sends(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000),
    "two hundred headers": sends(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n"),
    "NULs": sends(b"\0" * 100),
}


@pytest.mark.usefixtures("no_pauses")
@pytest.mark.parametrize("broken", BROKEN)
def test_only_a_get_is_repeated_after_a_broken_answer(serve: Serve, broken: str) -> None:
    """A POST is sent once, because a second attempt could spend the code. [R, S11]"""
    server = serve(lambda request: BROKEN[broken])
    refused(f"{server.url}/jwks", ErrorCode.PROVIDER_UNREACHABLE)
    assert len(server.requests("/jwks")) == 3
    refused(f"{server.url}/token", ErrorCode.PROVIDER_UNREACHABLE, "POST")
    assert len(server.requests("/token")) == 1


@pytest.mark.parametrize(
    "data",
    [
        CHUNKED + b"-5\r\n",
        b"HTTP/1.1 200 OK\r\nLocation: \xff\x00canary\r\n\r\ncanary",
        b"HTTP/1.1 200 OK\r\ncanary\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-",
        b"HTTP/1.1 101 Switching\r\n\r\n",
    ],
)
def test_every_invalid_answer_raises_the_same_error(serve: Serve, data: bytes) -> None:
    """It does not matter which library notices the fault. [S11]"""
    server = serve(lambda request: sends(data))
    with pytest.raises(AuthenticationError) as caught:
        call(server.url, "POST", "code=c").json_object()
    assert "canary" not in everything_told(caught.value)
    assert len(server.received) == 1


@pytest.mark.usefixtures("no_pauses")
@pytest.mark.parametrize("broken", BROKEN)
def test_a_get_succeeds_after_a_broken_answer(serve: Serve, broken: str) -> None:
    server = serve(one_after_the_other(BROKEN[broken], Answer({"keys": []})))
    assert call(server.url).json_object() == {"keys": []}


@pytest.mark.usefixtures("no_pauses")
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_refused_connection_is_repeated(serve: Serve, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    """This includes a POST, since none of it was sent. [R]"""
    server = serve(lambda request: Answer({}))
    connect, refusals = urllib3_connection.create_connection, iter([True, True])

    def refuse_twice(*args: Any, **kwargs: Any) -> socket.socket:
        if next(refusals, False):
            raise ConnectionRefusedError
        return connect(*args, **kwargs)

    monkeypatch.setattr(urllib3_connection, "create_connection", refuse_twice)
    assert call(server.url, method, "code=c" if method == "POST" else None).status == 200
    assert len(server.received) == 1


@pytest.mark.usefixtures("no_pauses")
def test_a_port_without_a_server_is_an_unreachable_provider() -> None:
    refused(f"http://127.0.0.1:{free_port()}/token", ErrorCode.PROVIDER_UNREACHABLE, "POST")


@pytest.mark.usefixtures("no_pauses")
def test_an_invalid_host_name_is_an_unreachable_provider() -> None:
    for host in ("x" * 64 + ".example.com", "id..example.com"):
        with pytest.raises(AuthenticationError):
            call(f"https://{host}/")


# The pool


def test_connections_are_reused_and_a_closed_one_is_noticed(serve: Serve) -> None:
    """A provider closes idle connections; the next POST must not fail because of it. [R]"""
    server = serve(lambda request: Answer({}))
    assert [call(server.url).status for _ in range(3)] == [200, 200, 200]
    assert {request.connection for request in server.received} == {1}
    server.drop_connections()
    assert call(f"{server.url}/token", "POST", "code=c").status == 200
    assert [request.connection for request in server.requests("/token")] == [2]


@pytest.mark.parametrize(("seconds", "connections"), [(IDLE_SECONDS - 1, 1), (IDLE_SECONDS, 2)])
def test_a_connection_that_was_idle_for_long_is_not_used_again(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, seconds: float, connections: int
) -> None:
    """A router may have forgotten it without a word to either end. [P26]"""
    server = serve(lambda request: Answer({}))
    assert call(server.url).status == 200
    later = time.clock_gettime(time.CLOCK_BOOTTIME) + seconds
    monkeypatch.setattr(deadline, "seconds_since_boot", lambda: later)
    assert call(f"{server.url}/token", "POST", "code=c").status == 200
    assert server.connections == connections


def test_an_idle_connection_through_a_proxy_is_not_used_again(
    tls_files: TLSFiles, tunnel: Callable[[ScriptedServer], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with ScriptedServer(lambda request: Answer({}), tls_context(tls_files)) as server:
        options = {"proxy_url": tunnel(server), "ca_bundle": str(tls_files.ca)}
        for later in (0.0, 0.0, 2 * IDLE_SECONDS):
            now = time.clock_gettime(time.CLOCK_BOOTTIME) + later
            monkeypatch.setattr(deadline, "seconds_since_boot", lambda now=now: now)
            assert call(f"https://localhost.:{server.port}/", **options).status == 200
        assert server.connections == 2


def test_every_call_names_this_package(serve: Serve) -> None:
    """Some firewalls refuse the default name of the HTTP library. [N13]"""
    server = serve(lambda request: Answer({}))
    for method, data in (("GET", None), ("POST", "code=c"), ("DELETE", "{}")):
        call(server.url, method, data)
    assert {request.headers["user-agent"] for request in server.received} == {f"pywry-auth/{__version__}"}


def test_closing_idle_connections_leaves_the_client_usable(serve: Serve) -> None:
    server = serve(lambda request: Answer({}))
    with ProviderSession(HTTPOptions()) as session:
        assert session.call("GET", server.url).status == 200
        close_idle_connections()
        assert session.call("GET", server.url).status == 200
    assert server.connections == 2


def test_no_thread_gets_the_answer_of_another(serve: Serve) -> None:
    """Concurrent calls do not exchange their answers. [T32]"""
    server = serve(lambda request: Answer({"path": request.path, "sent": request.form["code"]}))
    barrier = threading.Barrier(16)

    def ask(number: int) -> bool:
        barrier.wait(10)
        answers = [call(f"{server.url}/{number}-{n}", "POST", f"code={number}.{n}") for n in range(10)]
        return all(
            answer.json_object() == {"path": f"/{number}-{n}", "sent": f"{number}.{n}"}
            for n, answer in enumerate(answers)
        )

    with ThreadPoolExecutor(16) as threads:
        assert all(threads.map(ask, range(16)))


FORKS = """
import os, sys
from pywry_auth.protocol.http import ProviderSession
from pywry_auth.protocol.urls import HTTPOptions

def call(path):
    with ProviderSession(HTTPOptions()) as session:
        return session.call("GET", sys.argv[1] + path).json_object()["path"] == path

assert call("/before")
child = os.fork()
if not child:
    os._exit(0 if all(call("/child") for _ in range(20)) else 1)
assert all(call("/parent") for _ in range(20))
assert os.waitpid(child, 0)[1] == 0
assert call("/after")
"""


def test_a_forked_process_opens_its_own_connections(serve: Serve) -> None:
    """Two processes on one warm connection would read each other's answers."""
    server = serve(lambda request: Answer({"path": request.path}))
    subprocess.run([sys.executable, "-W", "error", "-c", FORKS, server.url], check=True, timeout=60)
    used = {
        path: {r.connection for r in server.requests(path)}
        for path in ("/before", "/parent", "/child", "/after")
    }
    assert used["/before"] == used["/parent"] == used["/after"] == {1}
    assert used["/child"] == {2}


# Cookies, .netrc, environment


def test_cookies_are_neither_kept_nor_sent(serve: Serve) -> None:
    server = serve(lambda request: Answer({}, headers={"Set-Cookie": "canary=1; Path=/"}))
    with ProviderSession(HTTPOptions()) as session:
        for _ in range(2):
            session.call("GET", server.url)
            session.get(server.url)
        assert len(session.cookies) == 0
    assert len(server.received) == 4
    assert not [request for request in server.received if "cookie" in request.headers]


@pytest.mark.parametrize("variable", ["HOME", "NETRC"])
def test_netrc_is_never_read(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """It would replace the Authorization header. [R]"""
    netrc = tmp_path / ".netrc"
    netrc.touch(mode=0o600)
    netrc.write_text("machine 127.0.0.1 login alice password canary\ndefault login a password canary\n")
    monkeypatch.setenv(variable, str(tmp_path if variable == "HOME" else netrc))
    server = serve(lambda request: Answer({}))
    with ProviderSession(HTTPOptions()) as session:
        session.call("GET", server.url)
        session.call("GET", server.url, headers={"Authorization": "Bearer mine"})
        session.get(server.url, headers={"Authorization": "Bearer mine"})
    assert [request.headers.get("authorization") for request in server.received] == [
        None,
        "Bearer mine",
        "Bearer mine",
    ]


def test_a_call_does_not_change_the_environment(serve: Serve) -> None:
    """Loopback addresses need no switch for the whole process. [R]"""
    before = dict(os.environ)
    server = serve(lambda request: Answer({}))
    assert call(server.url).status == 200
    assert dict(os.environ) == before
    assert "OAUTHLIB_INSECURE_TRANSPORT" not in before


@pytest.mark.parametrize("value", ["canary\r\nX-Injected: 1", "canary\n", "canary-\u20ac", " \tcanary\ud800"])
def test_an_invalid_header_is_an_error_that_does_not_quote_it(serve: Serve, value: str) -> None:
    """A token from another server may contain any characters. [T8, T31]"""
    server = serve(lambda request: Answer({}))
    with ProviderSession(HTTPOptions()) as session, pytest.raises(AuthenticationError) as caught:
        session.call("GET", server.url, headers={"Authorization": f"Bearer {value}"})
    assert "canary" not in everything_told(caught.value)
    assert server.received == []


# N13: proxies


@pytest.fixture
def proxy(serve: Serve) -> ScriptedServer:
    """A proxy that refuses to connect."""
    return serve(lambda request: Answer(b"", 403))


@pytest.fixture
def no_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Disable name resolution, so that no test leaves this machine."""

    def look_up(host: str, *_: Any, **__: Any) -> list[Any]:
        raise socket.gaierror(-2, host)

    resolve = socket.getaddrinfo
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, *a, **k: (resolve if host == "127.0.0.1" else look_up)(host, *a, **k),
    )


@pytest.mark.usefixtures("no_names", "no_pauses")
@pytest.mark.parametrize(
    ("environment", "asked"),
    [
        ({"HTTPS_PROXY": "{proxy}"}, True),
        ({"https_proxy": "{proxy}"}, True),
        ({"ALL_PROXY": "{proxy}"}, True),
        ({"HTTP_PROXY": "{proxy}"}, False),
        ({"HTTPS_PROXY": "{proxy}", "NO_PROXY": "example.com"}, False),
        ({"HTTPS_PROXY": "{proxy}", "no_proxy": ".example.com"}, False),
        ({"HTTPS_PROXY": "{proxy}", "NO_PROXY": "other.example.com"}, True),
        ({}, False),
    ],
)
def test_the_usual_proxy_variables_are_followed(
    proxy: ScriptedServer, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], asked: bool
) -> None:
    """``HTTPS_PROXY`` and ``NO_PROXY`` apply. [N13]"""
    for name, value in environment.items():
        monkeypatch.setenv(name, value.format(proxy=proxy.url))
    refused("https://id.example.com/token", ErrorCode.PROVIDER_UNREACHABLE, "POST")
    assert [request.target for request in proxy.received] == ["id.example.com:443"] * asked


@pytest.mark.usefixtures("no_names", "no_pauses")
def test_the_proxy_setting_has_precedence(proxy: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """It replaces HTTPS_PROXY, and also NO_PROXY, which belongs to HTTPS_PROXY. [N13]"""
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("NO_PROXY", "*")
    refused("https://id.example.com/token", ErrorCode.PROVIDER_UNREACHABLE, "POST", proxy_url=proxy.url)
    assert [request.method for request in proxy.received] == ["CONNECT"]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_loopback_is_never_proxied(
    serve: Serve, proxy: ScriptedServer, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    for name in PROXY_VARIABLES[:3]:
        monkeypatch.setenv(name, proxy.url)
    server = serve(lambda request: Answer({}))
    assert call(f"http://{host}:{server.port}/", proxy_url=proxy.url).status == 200
    assert proxy.received == []


@pytest.mark.parametrize(
    "proxy_url",
    [
        "http://alice:canary@127.0.0.1:notaport",
        "http://alice:canary@[::1",
        "http://alice:canary@127.0.0.1:{port}",
        "ftp://alice:canary@127.0.0.1:{port}",
        "socks5://alice:canary@127.0.0.1:{port}",
        "socks9://alice:canary@127.0.0.1:{port}",
        "//alice:canary@:{port}",
        "nonsense",
    ],
)
def test_an_unusable_proxy_is_named_without_its_password(proxy_url: str) -> None:
    """The error shows the proxy's address but not its password. [T31, N13]"""
    with pytest.raises(AuthenticationError) as caught:
        call("https://id.example.com/", proxy_url=proxy_url.format(port=free_port()), timeout=SHORT)
    assert "proxy" in str(caught.value).lower()
    assert "canary" not in everything_told(caught.value)


@pytest.fixture(params=["http", "socks5"])
def tunnel(request: pytest.FixtureRequest) -> Iterator[Callable[[ScriptedServer], str]]:
    """Return a function that starts a working proxy to a server and returns its URL."""
    proxies: list[ScriptedServer] = []

    def start(server: ScriptedServer) -> str:
        proxies.append(proxy_to(request.param, server.port))
        return f"{request.param}://127.0.0.1:{proxies[-1].port}"

    yield start
    for started in proxies:
        started.close()


@pytest.mark.parametrize("slow", ["", "head dripped in one line", "body dripped with its length"])
def test_the_time_limit_applies_through_a_proxy(
    tls_files: TLSFiles, tunnel: Callable[[ScriptedServer], str], slow: str
) -> None:
    """``localhost.`` names this machine but does not count as loopback. [N13, P26]"""
    begun = time.monotonic()
    with ScriptedServer(
        lambda request: SLOW[slow] if slow else Answer({"through": "the proxy"}), tls_context(tls_files)
    ) as server:
        options = {"proxy_url": tunnel(server), "ca_bundle": str(tls_files.ca)}
        url = f"https://localhost.:{server.port}/"
        if slow:
            refused(url, ErrorCode.PROVIDER_UNREACHABLE, timeout=SHORT, **options)
            assert time.monotonic() - begun < GENEROUS
        else:
            assert call(url, **options).json_object() == {"through": "the proxy"}
        assert len(server.received) >= 1


# N13: certificates


@pytest.fixture
def https(tls_files: TLSFiles) -> Iterator[ScriptedServer]:
    with ScriptedServer(lambda request: Answer({}), tls_context(tls_files)) as server:
        yield server


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", ""])
def test_a_named_certificate_bundle_is_trusted(
    https: ScriptedServer, tls_files: TLSFiles, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The usual variables name it, or the setting, which has precedence. [N13]"""
    if name:
        monkeypatch.setenv(name, str(tls_files.ca))
        assert call(https.url).status == 200
    else:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere.pem")
        assert call(https.url, ca_bundle=str(tls_files.ca)).status == 200


@pytest.mark.usefixtures("no_pauses")
def test_an_unknown_certificate_is_refused_even_with_an_open_connection(
    https: ScriptedServer, tls_files: TLSFiles, tmp_path: Path
) -> None:
    """An open connection is not shared with a client that does not trust its certificate."""
    other = make_tls_files(tmp_path).ca
    for distrusting in ({}, {"ca_bundle": str(other)}):
        assert call(https.url, ca_bundle=str(tls_files.ca)).status == 200
        assert "CA_BUNDLE" in str(refused(https.url, ErrorCode.PROVIDER_UNREACHABLE, **distrusting))
    assert len(https.received) == 2


@pytest.mark.usefixtures("no_pauses")
@pytest.mark.parametrize("content", [None, b"", b"canary", b"-----BEGIN CERTIFICATE-----\ncanary\n"])
def test_an_unusable_certificate_bundle_is_named(
    https: ScriptedServer, tmp_path: Path, content: bytes | None
) -> None:
    bundle = tmp_path / "ca.pem"
    if content is not None:
        bundle.write_bytes(content)
    with pytest.raises(AuthenticationError, match="CA_BUNDLE") as caught:
        call(https.url, "POST", "code=canary", ca_bundle=str(bundle))
    assert "canary" not in everything_told(caught.value)
    assert https.received == []


def test_a_certificate_for_another_name_is_refused(
    https: ScriptedServer, tls_files: TLSFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *a, **k: resolve("127.0.0.1", *a, **k))
    url = f"https://id.example.com:{https.port}/token"
    refused(url, ErrorCode.PROVIDER_UNREACHABLE, "POST", ca_bundle=str(tls_files.ca))
    assert https.received == []


# T44: the gate


def _gate() -> CallGate:
    gate = CallGate()
    gate.limit(lambda: 1, lambda: 1)
    return gate


def test_calls_to_a_provider_that_hangs_stop_after_three_time_outs(serve: Serve) -> None:
    """The next call fails at once, and no request is sent. [T44]"""
    server, gate = serve(lambda request: hangs), _gate()
    with ProviderSession(HTTPOptions(timeout=0.05), gate) as session:
        for _ in range(3):
            with pytest.raises(AuthenticationError, match="no complete answer") as caught:
                session.call("POST", server.url)
            assert (caught.value.error, caught.value.timeout) == (ErrorCode.PROVIDER_UNREACHABLE, 0.05)
        with pytest.raises(ProviderBusy):
            session.call("POST", server.url)
    assert len(server.received) == 3


@pytest.mark.parametrize("answer", [Answer({}), Answer({}, 500), Answer({}, 429)])
def test_any_answer_interrupts_a_series_of_time_outs(serve: Serve, answer: Answer) -> None:
    gate, answers = _gate(), cast("list[Answer | Behaviour]", [hangs, hangs, answer] * 3)
    server = serve(lambda request: answers.pop(0))
    with ProviderSession(HTTPOptions(timeout=0.05), gate) as session:
        for _ in range(9):
            with suppress(AuthenticationError):
                session.call("POST", server.url)
    assert answers == []


def test_a_refused_connection_is_no_time_out() -> None:
    """It fails at once, so it occupies no thread."""
    gate, url = _gate(), f"http://127.0.0.1:{free_port()}"
    with ProviderSession(HTTPOptions(timeout=0.05), gate) as session:
        for _ in range(4):
            with pytest.raises(AuthenticationError, match="nothing accepts connections there") as caught:
                session.call("POST", url)
            assert caught.value.timeout is None


def test_each_call_takes_a_slot(serve: Serve) -> None:
    server, gate = serve(lambda request: Answer({})), _gate()
    session = ProviderSession(HTTPOptions(), gate)
    assert session.call("GET", server.url).status == 200
    with gate.slot(), ThreadPoolExecutor(1) as pool:
        refused = pool.submit(ProviderSession(HTTPOptions(), gate).call, "GET", server.url)
        assert isinstance(refused.exception(20), ProviderBusy)
        assert session.call("GET", server.url).status == 200
    assert len(server.received) == 2


# T73: too many requests


@pytest.mark.parametrize(("value", "seconds"), [("42", 42), ("", 5), ("86400", 300)])
def test_an_answer_to_too_many_requests_says_when_to_try_again(
    serve: Serve, value: str, seconds: float
) -> None:
    """It is a temporary error with a bounded time, and the call is not repeated. [T73]"""
    server = serve(lambda request: Answer({}, 429, headers={"Retry-After": value} if value else {}))
    error = call(server.url).fault("a profile")
    assert (error.error, error.retry_after) == (ErrorCode.TEMPORARILY_UNAVAILABLE, seconds)
    assert len(server.received) == 1


# T57: name look-ups


class SilentResolver:
    """Answers look-ups of ``slow.example.com`` only at the end of the test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.over = threading.Event()
        self.asked: list[str] = []
        self._resolve = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self._look_up)

    def _look_up(self, host: str, *more: Any, **options: Any) -> list[Any]:
        if host != "slow.example.com":
            return list(self._resolve(host, *more, **options))
        self.asked.append(host)
        self.over.wait(30)
        raise socket.gaierror(socket.EAI_AGAIN, "over")


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[SilentResolver]:
    resolver = SilentResolver(monkeypatch)
    yield resolver
    resolver.over.set()
    assert eventually(
        lambda: not [thread for thread in threading.enumerate() if thread.name == "name-lookup"]
    )


SLOW_NAMES = {
    "provider": ("https://slow.example.com", ""),
    "http proxy": ("https://id.example.com", "http://slow.example.com:3128"),
    "https proxy": ("https://id.example.com", "https://slow.example.com:3128"),
    "socks5 proxy": ("https://id.example.com", "socks5h://slow.example.com:1080"),
    "socks4 proxy": ("https://id.example.com", "socks4a://slow.example.com:1080"),
    "provider, socks5": ("https://slow.example.com", "socks5://127.0.0.1:1080"),
    "provider, socks4": ("https://slow.example.com", "socks4://127.0.0.1:1080"),
}


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("slow", SLOW_NAMES)
def test_a_name_look_up_is_part_of_the_time_limit(silent: SilentResolver, slow: str, method: str) -> None:
    """The error is the usual time-out, for the provider's name and for a proxy's. [T57]"""
    url, proxy_url = SLOW_NAMES[slow]
    begun = time.monotonic()
    error = refused(url, ErrorCode.PROVIDER_UNREACHABLE, method, timeout=SHORT, proxy_url=proxy_url)
    assert time.monotonic() - begun < GENEROUS
    assert (error.timeout, f"within {SHORT:g} s" in str(error)) == (SHORT, True)
    assert silent.asked == ["slow.example.com"]


def test_a_proxy_of_the_environment_is_looked_up_within_the_time_limit(
    silent: SilentResolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``HTTPS_PROXY`` follows the same rule as the setting. [T57]"""
    monkeypatch.setenv("HTTPS_PROXY", "http://slow.example.com:3128")
    error = refused("https://id.example.com", ErrorCode.PROVIDER_UNREACHABLE, "POST", timeout=SHORT)
    assert error.timeout == SHORT


def test_the_exceptions_of_the_systems_proxies_are_compared_within_the_time_limit(
    silent: SilentResolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On macOS, urllib looks the provider's name up for this. [T57]"""
    monkeypatch.setattr(http, "getproxies", lambda: {"https": "http://127.0.0.1:3128"})
    monkeypatch.setattr(http, "get_environ_proxies", lambda url: silent.over.wait(30) and {})
    begun = time.monotonic()
    error = refused("https://id.example.com", ErrorCode.PROVIDER_UNREACHABLE, "POST", timeout=SHORT)
    assert error.timeout == SHORT
    assert time.monotonic() - begun < GENEROUS


def test_repeated_time_outs_of_a_resolver_stop_the_calls(silent: SilentResolver) -> None:
    """They occupy threads like those of a silent provider. [T44, T57]"""
    with ProviderSession(HTTPOptions(timeout=0.05), _gate()) as session:
        for _ in range(3):
            with pytest.raises(AuthenticationError, match="its name was not resolved"):
                session.call("POST", "https://slow.example.com")
        with pytest.raises(ProviderBusy):
            session.call("POST", "https://slow.example.com")
    assert silent.asked == ["slow.example.com"]


def test_sessions_of_programs_keep_the_time_limit_of_a_look_up(silent: SilentResolver) -> None:
    """``ProviderSession.request``, on which ``request_session`` of programs builds. [T57]"""
    with ProviderSession(HTTPOptions(timeout=SHORT)) as session, pytest.raises(requests.ConnectTimeout):
        session.get("https://slow.example.com")
