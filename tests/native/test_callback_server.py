"""The callback server accepts the right redirect, and survives all other clients. [N1, N8, N14, L]"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from urllib.parse import urlsplit

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pywry_auth.exceptions import AuthenticationError, AuthFlowCancelled, AuthFlowTimeout
from pywry_auth.native.callback_server import OAuthCallbackServer
from pywry_auth.native.waiting import wait_for
from pywry_auth.pages import native as pages
from tests.native.sockets import PATIENCE, Client, Running, fetch, is_listening, open_descriptors

STATE = "right-state"
RIGHT = f"/callback?code=right-code&state={STATE}"
PARAMETERS = [("code", "right-code"), ("state", STATE)]


@pytest.fixture
def server() -> Iterator[OAuthCallbackServer]:
    with OAuthCallbackServer() as listening:
        listening.expect(STATE)
        yield listening


def assert_still_waiting(server: OAuthCallbackServer) -> None:
    """Assert that the right redirect ends the wait, and that no earlier request did."""
    waiting = Running(lambda: server.wait(PATIENCE))
    browser = Running(lambda: fetch(server.redirect_uri, RIGHT))
    assert waiting.result() == PARAMETERS
    server.answer(pages.complete())
    assert browser.result().status == 200


def heading(html: str) -> str:
    """Return the text of the page's only heading."""
    (text,) = re.findall("<h1>(.*)</h1>", html)
    return re.sub("</?span>", "", text)


# The expected redirect


def test_the_redirect_uri_is_the_loopback_literal_with_the_port_that_is_bound(
    server: OAuthCallbackServer,
) -> None:
    """It is neither localhost nor ::1, which a browser may exchange for each other. [N9]"""
    host, _, port = server.redirect_uri.removeprefix("http://").removesuffix("/callback").partition(":")
    assert host == "127.0.0.1"
    assert int(port) > 0
    assert is_listening(server.redirect_uri)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (f"code=a%2Fb+c&state={STATE}&iss=", [("code", "a/b c"), ("state", STATE), ("iss", "")]),
        (f"state={STATE}&error=access_denied", [("state", STATE), ("error", "access_denied")]),
        (f"state={STATE}", [("state", STATE)]),
    ],
)
def test_the_right_state_ends_the_wait_with_all_parameters_in_order(
    server: OAuthCallbackServer, query: str, expected: list[tuple[str, str]]
) -> None:
    """So do a denial and a response without a code, which the flow validates. [S5.3, N10]"""
    browser = Running(lambda: fetch(server.redirect_uri, "/callback?" + query))
    assert server.wait(PATIENCE) == expected
    server.answer(pages.failed("The provider said no."))
    assert browser.result().status == 400


def test_a_state_of_any_characters_is_recognised() -> None:
    with OAuthCallbackServer() as server:
        server.expect("zustand-é-雪")
        browser = Running(
            lambda: fetch(server.redirect_uri, "/callback?code=c&state=zustand-%C3%A9-%E9%9B%AA")
        )
        assert dict(server.wait(PATIENCE))["code"] == "c"
        server.answer(pages.complete())
        assert browser.result().status == 200


def test_a_response_before_the_wait_is_returned_at_once(server: OAuthCallbackServer) -> None:
    with Client(server.redirect_uri) as browser:
        browser.get(RIGHT)
        assert server.wait(PATIENCE) == PARAMETERS


def test_every_response_is_refused_before_a_state_is_expected() -> None:
    with OAuthCallbackServer() as server:
        assert fetch(server.redirect_uri, RIGHT).status == 400
        assert fetch(server.redirect_uri, "/callback?code=c&state=").status == 400
        server.expect(STATE)
        assert_still_waiting(server)


# All other requests (L): they are answered properly and change nothing


HOST = "Host: {host}\r\n"
REQUESTS = {
    "favicon": ("GET /favicon.ico HTTP/1.1\r\n" + HOST, 204),
    "head": ("HEAD " + RIGHT + " HTTP/1.1\r\n" + HOST, 204),
    "head elsewhere": ("HEAD / HTTP/1.1\r\n" + HOST, 404),
    "root": ("GET / HTTP/1.1\r\n" + HOST, 404),
    "other path": (f"GET /callbacks?code=c&state={STATE} HTTP/1.1\r\n" + HOST, 404),
    "path below": (f"GET /callback/?code=c&state={STATE} HTTP/1.1\r\n" + HOST, 404),
    "two slashes": (f"GET //callback?code=c&state={STATE} HTTP/1.1\r\n" + HOST, 404),
    "encoded path": (f"GET /%63allback?code=c&state={STATE} HTTP/1.1\r\n" + HOST, 404),
    "upper case": (f"GET /CALLBACK?code=c&state={STATE} HTTP/1.1\r\n" + HOST, 404),
    "as by a proxy": (f"GET http://{{host}}/callback?code=c&state={STATE} HTTP/1.1\r\n" + HOST, 404),
    "no query": ("GET /callback HTTP/1.1\r\n" + HOST, 400),
    "forged code": ("GET /callback?code=forged&state=wrong HTTP/1.1\r\n" + HOST, 400),
    "forged code without state": ("GET /callback?code=forged HTTP/1.1\r\n" + HOST, 400),
    "forged error": ("GET /callback?error=access_denied&state=wrong HTTP/1.1\r\n" + HOST, 400),
    "forged error without state": ("GET /callback?error=access_denied HTTP/1.1\r\n" + HOST, 400),
    "empty state": ("GET /callback?code=forged&state= HTTP/1.1\r\n" + HOST, 400),
    "beginning of the state": ("GET /callback?code=forged&state=right HTTP/1.1\r\n" + HOST, 400),
    "non-ASCII state": ("GET /callback?code=forged&state=%C3%A9%E9%9B%AA HTTP/1.1\r\n" + HOST, 400),
    "state that is not UTF-8": ("GET /callback?code=forged&state=%ff%fe%00 HTTP/1.1\r\n" + HOST, 400),
    "raw non-ASCII state": ("GET /callback?code=forged&state=é雪 HTTP/1.1\r\n" + HOST, 400),
    "lone surrogate": ("GET /callback?code=forged&state=%ED%A0%80 HTTP/1.1\r\n" + HOST, 400),
    "state twice": (f"GET {RIGHT}&state={STATE} HTTP/1.1\r\n" + HOST, 400),
    "two states": (f"GET {RIGHT}&state=wrong HTTP/1.1\r\n" + HOST, 400),
    "code twice": (f"GET {RIGHT}&code=other HTTP/1.1\r\n" + HOST, 400),
    "another parameter twice": (f"GET {RIGHT}&iss=a&iss=b HTTP/1.1\r\n" + HOST, 400),
    "many parameters": (
        f"GET {RIGHT}&" + "&".join(f"p{n}" for n in range(500)) + " HTTP/1.1\r\n" + HOST,
        400,
    ),
    "foreign host": (f"GET {RIGHT} HTTP/1.1\r\nHost: rebound.example.com\r\n", 421),
    "host without port": (f"GET {RIGHT} HTTP/1.1\r\nHost: 127.0.0.1\r\n", 421),
    "host with another port": (f"GET {RIGHT} HTTP/1.1\r\nHost: 127.0.0.1:1\r\n", 421),
    "localhost": (f"GET {RIGHT} HTTP/1.1\r\nHost: localhost:{{port}}\r\n", 421),
    "two hosts": (f"GET {RIGHT} HTTP/1.1\r\nHost: rebound.example.com\r\n" + HOST, 421),
    "no host": (f"GET {RIGHT} HTTP/1.1\r\n", 400),
    "http 0.9": (f"GET {RIGHT}\r\n", 400),
    "post": (f"POST {RIGHT} HTTP/1.1\r\n" + HOST + "Content-Length: 0\r\n", 405),
    "put": (f"PUT {RIGHT} HTTP/1.1\r\n" + HOST, 405),
    "lower case": (f"get {RIGHT} HTTP/1.1\r\n" + HOST, 405),
    "preflight": (
        f"OPTIONS {RIGHT} HTTP/1.1\r\n"
        + HOST
        + "Origin: https://rebound.example.com\r\nAccess-Control-Request-Method: GET\r\n"
        + "Access-Control-Request-Private-Network: true\r\n",
        405,
    ),
    "garbage": ("\x16\x03\x01\x02garbage", 400),
    "one word": ("GET\r\n", 400),
    "four words": (f"GET {RIGHT} x HTTP/1.1\r\n" + HOST, 400),
    "no version": (f"GET {RIGHT} HTTP/x.y\r\n" + HOST, 400),
    "http 2": ("PRI * HTTP/2.0\r\n", 505),
    "empty line": ("\r\n" + HOST, 400),
    "long line": (f"GET {RIGHT}&x=" + "x" * 9000 + " HTTP/1.1\r\n" + HOST, 414),
    "long line without end": ("GET /" + "x" * 9000, 414),
    "large header": (f"GET {RIGHT} HTTP/1.1\r\n" + HOST + "X: " + "x" * 70_000 + "\r\n", 431),
    "large headers": (f"GET {RIGHT} HTTP/1.1\r\n" + HOST + ("X: " + "x" * 7000 + "\r\n") * 90, 431),
    "many headers": (f"GET {RIGHT} HTTP/1.1\r\n" + HOST + "X: y\r\n" * 120, 431),
}


@pytest.mark.parametrize(("text", "status"), REQUESTS.values(), ids=REQUESTS)
def test_every_other_request_is_answered_and_changes_nothing(
    server: OAuthCallbackServer, text: str, status: int
) -> None:
    with Client(server.redirect_uri) as client:
        port = client.authority.split(":")[1]
        request = text.replace("{host}", client.authority).replace("{port}", port) + "\r\n"
        method = "HEAD" if text.startswith("HEAD") else "GET"
        answer = client.send(request.encode()).answer(method)
    assert answer.status == status
    assert "forged" not in answer.text
    assert STATE not in answer.text
    assert_still_waiting(server)


@pytest.mark.parametrize("name", ["favicon", "head", "root", "forged code", "post", "preflight", "garbage"])
def test_every_answer_is_complete_and_private(server: OAuthCallbackServer, name: str) -> None:
    """It has Content-Length and Connection: close, but no CORS header and no version banner. [L]"""
    text, status = REQUESTS[name]
    with Client(server.redirect_uri) as client:
        raw = client.send(text.replace("{host}", client.authority).encode() + b"\r\n").everything()
    head, _, body = raw.partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
    assert headers["Connection"] == "close"
    assert headers["Cache-Control"] == "no-store"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Security-Policy"].startswith("default-src 'none'; style-src 'sha256-")
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert not [header for header in headers if header.lower().startswith(("access-control", "server"))]
    if status == 204:
        assert "Content-Length" not in headers
        assert body == b""
    else:
        assert int(headers["Content-Length"]) == len(body)
    assert headers.get("Allow") == ("GET, HEAD" if status == 405 else None)


def test_cookies_of_other_local_servers_do_not_block_the_redirect(server: OAuthCallbackServer) -> None:
    """Cookies ignore ports: a browser sends those of all other servers on 127.0.0.1 too."""
    with Client(server.redirect_uri) as browser:
        cookies = "; ".join(f"session{n}={'x' * 4000}" for n in range(10))
        browser.send(
            f"GET {RIGHT} HTTP/1.1\r\nHost: {browser.authority}\r\nCookie: {cookies}\r\n\r\n".encode()
        )
        assert server.wait(PATIENCE) == PARAMETERS


def test_a_redirect_in_small_pieces_is_accepted(server: OAuthCallbackServer) -> None:
    with Client(server.redirect_uri) as browser:
        browser.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in f"GET {RIGHT} HTTP/1.1\r\nHost: {browser.authority}\r\n\r\n".encode():
            browser.send(bytes([byte]))
        assert server.wait(PATIENCE) == PARAMETERS


# Responses that do not belong to the login are named when it times out


@pytest.mark.parametrize(
    ("target", "method", "headers", "told"),
    [
        ("/callback?error=invalid_scope", "GET", "", "without the state of this login.*invalid_scope"),
        (
            "/callback?error=invalid_scope&state=x",
            "GET",
            "",
            "with the state of another login.*invalid_scope",
        ),
        ("/callback?code=c", "GET", "Sec-Fetch-Dest: document\r\n", "without the state of this login"),
        ("/callback", "GET", "", "without parameters.*authorization code flow"),
        (RIGHT + "&iss=a&iss=b", "GET", "", "with a parameter twice"),
        ("/callback", "POST", "Content-Length: 0\r\n", "with a form.*response mode query"),
        ("/callback?error=e", "GET", "Sec-Fetch-Dest: image\r\n", None),
        ("/callback?error=e", "HEAD", "", None),
        ("/other?error=e", "GET", "", None),
        ("/favicon.ico?error=e", "GET", "", None),
    ],
)
def test_a_timeout_names_the_last_response_of_a_browser(
    server: OAuthCallbackServer, target: str, method: str, headers: str, told: str | None
) -> None:
    with Client(server.redirect_uri) as client:
        head = f"{method} {target} HTTP/1.1\r\nHost: {client.authority}\r\n{headers}\r\n"
        page = client.send(head.encode()).answer(method)
    if told:
        assert heading(page.text) == "This response does not belong to the sign-in"
        assert "invalid_scope" not in page.text
    with pytest.raises(AuthFlowTimeout, match=f"within 0.01 seconds.*{told or ''}") as caught:
        server.wait(0.01)
    assert ("In the meantime" in str(caught.value)) is (told is not None)


def test_an_error_ends_the_wait_unless_a_response_has_arrived(server: OAuthCallbackServer) -> None:
    server.fail(AuthenticationError("No browser opens."))
    with pytest.raises(AuthenticationError, match="No browser opens"):
        server.wait(PATIENCE)


# The redirect URI can be another one


@pytest.mark.parametrize("address", ["127.0.0.1", "[::1]"])
def test_localhost_is_served_on_both_address_families(address: str) -> None:
    """A browser may try either first. [N9]"""
    with OAuthCallbackServer(host="localhost", path="/") as server:
        server.expect(STATE)
        uri = server.redirect_uri
        assert re.fullmatch("http://localhost:[0-9]+/", uri)
        with Client(uri.replace("localhost", address)) as browser:
            browser.authority = uri.removeprefix("http://").rstrip("/")
            browser.get(f"/?code=right-code&state={STATE}")
            assert server.wait(PATIENCE) == PARAMETERS
            server.answer(pages.complete())
            assert browser.answer().status == 200


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_the_host_header_must_name_the_host_of_the_redirect_uri(host: str) -> None:
    with OAuthCallbackServer(host=host) as server:
        server.expect(STATE)
        port = server.redirect_uri.rpartition(":")[2].partition("/")[0]
        for other in {"127.0.0.1", "localhost", "[::1]", "rebound.example.com"} - {host}:
            with Client(server.redirect_uri) as client:
                client.authority = f"{other}:{port}"
                assert client.get(RIGHT).answer().status == 421
        assert_still_waiting(server)


def test_the_one_time_address_works_at_the_ipv6_address() -> None:
    with OAuthCallbackServer(host="[::1]") as server:
        server.expect(STATE)
        assert server.can_identify_users()
        address = server.offer("https://provider.example.com/")
        assert address.startswith("http://[::1]:")
        answer = fetch(address, address.rpartition("/")[2].join(["/", ""]))
        assert (answer.status, answer.headers["Location"]) == (302, "https://provider.example.com/")


@pytest.mark.parametrize("options", [{"path": "callback"}, {"path": "/a/../b"}, {"host": "example.com"}])
def test_an_unusable_redirect_uri_is_refused_before_a_port_is_taken(options: dict[str, str]) -> None:
    before = open_descriptors()
    with pytest.raises(AuthenticationError, match="redirect URI is not valid") as caught:
        OAuthCallbackServer(**options)  # type: ignore[arg-type]
    assert caught.value.error == "invalid_configuration"
    assert open_descriptors() <= before


def test_a_port_in_use_on_one_family_leaves_nothing_open() -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as other:
        before = open_descriptors()
        with pytest.raises(AuthenticationError, match=str(other.getsockname()[1])):
            OAuthCallbackServer([other.getsockname()[1]], host="localhost")
        assert open_descriptors() <= before


# One response is accepted


def test_a_second_redirect_changes_nothing(
    server: OAuthCallbackServer,
) -> None:
    second = f"/callback?code=second&state={STATE}"
    with Client(server.redirect_uri) as browser:
        browser.get(RIGHT)
        assert server.wait(PATIENCE) == PARAMETERS
        late = fetch(server.redirect_uri, second)
        server.answer(pages.complete())
        later = fetch(server.redirect_uri, second)
        assert browser.answer().status == 200
    for answer in (late, later):
        assert answer.status == 409
        assert heading(answer.text) == "This sign-in has already received a response"
    assert server.wait(PATIENCE) == PARAMETERS


def test_of_many_redirects_at_once_exactly_one_is_accepted(server: OAuthCallbackServer) -> None:
    barrier = threading.Barrier(16)

    def redirect(number: int) -> int:
        with Client(server.redirect_uri) as client:
            barrier.wait(PATIENCE)
            return client.get(f"/callback?code={number}&state={STATE}").answer().status

    clients = [Running(partial(redirect, number)) for number in range(16)]
    code = dict(server.wait(PATIENCE))["code"]
    server.answer(pages.complete())
    statuses = [client.result() for client in clients]
    assert statuses.pop(int(code)) == 200
    assert statuses == [409] * 15


def test_a_response_after_the_timeout_gets_a_page_that_the_sign_in_has_ended(
    server: OAuthCallbackServer,
) -> None:
    with pytest.raises(AuthFlowTimeout):
        server.wait(0.01)
    answer = fetch(server.redirect_uri, RIGHT)
    assert answer.status == 410
    assert heading(answer.text) == "This sign-in has ended"


# The page is held until the login's end is known


def test_the_browser_is_held_until_the_page_is_known(server: OAuthCallbackServer) -> None:
    with Client(server.redirect_uri) as browser:
        browser.get(RIGHT)
        server.wait(PATIENCE)
        assert not browser.has_input(0.2)
        server.answer(pages.failed("The token endpoint has a <fault>."))
        # The page has been sent by now, so that a process may end at once.
        assert browser.has_input()
        answer = browser.answer()
    assert answer.status == 400
    assert "The token endpoint has a &lt;fault&gt;." in answer.text


def test_the_page_arrives_although_the_server_closes_at_once(server: OAuthCallbackServer) -> None:
    with Client(server.redirect_uri) as browser:
        browser.get(RIGHT).send(b"and unexpected bytes")
        server.wait(PATIENCE)
        server.answer(pages.complete())
        server.close()
        answer = browser.answer()
    assert heading(answer.text) == "✅ Authentication Complete — You can close this window."


def test_a_browser_that_is_held_too_long_gets_an_honest_page() -> None:
    with OAuthCallbackServer(hold_timeout=0.1) as server:
        server.expect(STATE)
        answer = fetch(server.redirect_uri, RIGHT)
        assert answer.status == 202
        assert heading(answer.text) == "Your sign-in is not finished yet"
        assert server.wait(PATIENCE) == PARAMETERS
        server.answer(pages.complete())  # no browser is held any more


def test_closing_without_an_answer_sends_the_browser_a_page(server: OAuthCallbackServer) -> None:
    with Client(server.redirect_uri) as browser:
        browser.get(RIGHT)
        server.wait(PATIENCE)
        server.close()
        assert heading(browser.answer().text) == "This sign-in has ended"


def test_a_browser_that_went_away_delays_no_answer(server: OAuthCallbackServer) -> None:
    with Client(server.redirect_uri) as browser:
        browser.get(RIGHT)
        server.wait(PATIENCE)
    started = time.monotonic()
    server.answer(pages.complete())
    assert time.monotonic() - started < 5


# Clients that are slow or many (N1)


@contextlib.contextmanager
def idle_connections(redirect_uri: str, number: int, sending: bytes = b"") -> Iterator[list[Client]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(Client(redirect_uri)).send(sending) for _ in range(number)]


@pytest.mark.parametrize("sent", [b"", b"GET /callb", b"GET /callback HTTP/1.1\r\nHost: x\r\nX"])
def test_silent_and_slow_clients_do_not_delay_the_redirect(server: OAuthCallbackServer, sent: bytes) -> None:
    """A browser may open connections in advance. [N1]"""
    with idle_connections(server.redirect_uri, 12, sent):
        started = time.monotonic()
        assert_still_waiting(server)
        assert time.monotonic() - started < 3  # less than the time limit for a head


@pytest.mark.parametrize("sent", [b"", b"GET /callb"])
def test_the_wait_times_out_and_the_port_closes_despite_silent_clients(sent: bytes) -> None:
    """Idle connections delay neither the timeout nor the end of the server. [N1, N14]"""
    before = open_descriptors()
    with OAuthCallbackServer() as server:
        server.expect(STATE)
        with idle_connections(server.redirect_uri, 5, sent):
            started = time.monotonic()
            with pytest.raises(AuthFlowTimeout) as caught:
                server.wait(0.2)
            server.close()
            assert 0.2 <= time.monotonic() - started < 2
            assert not is_listening(server.redirect_uri)
    assert caught.value.timeout == 0.2
    assert "0.2 seconds" in str(caught.value)
    assert open_descriptors() <= before


def test_cancel_ends_the_wait_despite_silent_clients(server: OAuthCallbackServer) -> None:
    with idle_connections(server.redirect_uri, 5, b"GET"):
        waiting = Running(lambda: server.wait(PATIENCE))
        started = time.monotonic()
        server.cancel()
        with pytest.raises(AuthFlowCancelled):
            waiting.result()
        server.close()
        assert time.monotonic() - started < 2
        assert not is_listening(server.redirect_uri)


def test_cancel_before_the_wait_ends_it_at_once(server: OAuthCallbackServer) -> None:
    server.cancel()
    with pytest.raises(AuthFlowCancelled):
        server.wait(PATIENCE)


def test_cancel_takes_precedence_over_a_response(server: OAuthCallbackServer) -> None:
    with Client(server.redirect_uri) as browser:
        browser.get(RIGHT)
        server.wait(PATIENCE)
        server.cancel()
        with pytest.raises(AuthFlowCancelled):
            server.raise_if_cancelled()


def test_an_incomplete_request_is_answered_after_its_timeout() -> None:
    with OAuthCallbackServer(head_timeout=0.1) as server:
        server.expect(STATE)
        with Client(server.redirect_uri) as client:
            assert client.send(b"GET /callback?code").answer().status == 408
        assert_still_waiting(server)


def test_an_incomplete_request_is_answered_when_its_client_stops_sending(server: OAuthCallbackServer) -> None:
    with Client(server.redirect_uri) as client:
        client.send(b"GET /callb").socket.shutdown(socket.SHUT_WR)
        assert client.answer().status == 400
    assert_still_waiting(server)


def test_a_connection_that_was_never_used_is_closed_without_an_answer() -> None:
    """A browser would take an early 408 for the answer to its next request."""
    with OAuthCallbackServer(head_timeout=0.1) as server, Client(server.redirect_uri) as client:
        assert client.everything() == b""


def test_single_bytes_do_not_extend_the_time_of_a_request() -> None:
    with OAuthCallbackServer(head_timeout=0.3) as server:
        server.expect(STATE)
        with Client(server.redirect_uri) as client:
            started = time.monotonic()
            while not client.has_input(0.02) and time.monotonic() - started < PATIENCE:
                client.send(b"x")
            assert client.answer().status == 408
            assert time.monotonic() - started < 3
        assert_still_waiting(server)


def test_too_many_connections_close_the_oldest_and_not_the_redirect() -> None:
    with OAuthCallbackServer(max_connections=8) as server:
        server.expect(STATE)
        with idle_connections(server.redirect_uri, 40) as clients:
            for client in clients[:32]:
                assert client.everything() == b""
            assert_still_waiting(server)  # this connection is one more, and ends with its answer
            assert [client.has_input() for client in clients[33:]] == [False] * 7


def test_a_held_browser_is_not_closed_to_make_room() -> None:
    with OAuthCallbackServer(max_connections=4) as server:
        server.expect(STATE)
        with Client(server.redirect_uri) as browser:
            browser.get(RIGHT)
            server.wait(PATIENCE)
            with idle_connections(server.redirect_uri, 20) as clients:
                assert clients[0].everything() == b""
                server.answer(pages.complete())
                assert browser.answer().status == 200


OUT_OF_DESCRIPTORS = """
import os, resource, sys, time
from pywry_auth.native.waiting import wait_for
from pywry_auth.native.callback_server import OAuthCallbackServer
from pywry_auth.pages import native as pages
with OAuthCallbackServer() as server:
    server.expect("right-state")
    in_use = max(int(name) for name in os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (in_use + 10, in_use + 10))
    print(server.redirect_uri, flush=True)
    sys.stdin.readline()
    before = time.process_time()
    print(dict(server.wait(20))["code"], flush=True)
    server.answer(pages.complete())
    print(time.process_time() - before, flush=True)
"""


def test_the_redirect_gets_through_when_the_process_has_no_descriptor_left() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OUT_OF_DESCRIPTORS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        redirect_uri = process.stdout.readline().strip()
        with idle_connections(redirect_uri, 40) as clients:
            assert clients[0].everything() == b""
            print(file=process.stdin, flush=True)
            assert fetch(redirect_uri, RIGHT).status == 200
        assert process.stdout.readline().strip() == "right-code"
        assert float(process.stdout.readline()) < 1
        assert process.wait(PATIENCE) == 0


def test_waiting_uses_almost_no_cpu_time(server: OAuthCallbackServer) -> None:
    """The server does not poll. [S5.3]"""
    with idle_connections(server.redirect_uri, 5):
        before = time.process_time()
        with pytest.raises(AuthFlowTimeout):
            server.wait(1.0)
        assert time.process_time() - before < 0.1


# The port (N8)


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


def free_port() -> int:
    with socket.socket() as finder:
        finder.bind(("127.0.0.1", 0))
        port: int = finder.getsockname()[1]
        return port


def test_the_next_port_is_taken_when_one_is_in_use(taken: int) -> None:
    port = free_port()
    with OAuthCallbackServer([taken, port]) as server:
        assert server.redirect_uri == f"http://127.0.0.1:{port}/callback"


def test_ports_in_use_are_named_and_no_other_is_taken_instead(taken: int) -> None:
    """If the provider requires a registered port, another one only fails later and less clearly. [N8]"""
    with pytest.raises(AuthenticationError) as caught:
        OAuthCallbackServer([taken, taken])
    assert f"{taken}, {taken}." in str(caught.value)
    assert caught.value.error == "invalid_configuration"


RESERVED_PORT = """
import os, sys
from pywry_auth.exceptions import AuthenticationError
from pywry_auth.native.waiting import wait_for
from pywry_auth.native.callback_server import OAuthCallbackServer
if os.geteuid() == 0:
    os.setgid(65534); os.setuid(65534)
reserved, free = int(sys.argv[1]), int(sys.argv[2])
with OAuthCallbackServer([reserved, free]) as server:
    print(server.redirect_uri)
try:
    OAuthCallbackServer([reserved])
except AuthenticationError as error:
    print(error)
"""


def test_a_reserved_port_is_skipped_like_one_in_use() -> None:
    """The error is EACCES: on Windows for ports that Hyper-V reserves, on Linux for low ports. [N8]"""
    with open("/proc/sys/net/ipv4/ip_unprivileged_port_start") as file:
        reserved = int(file.read()) - 1
    assert reserved > 0, "this machine reserves no port, so this cannot be tried here"
    port = free_port()
    run = subprocess.run(
        [sys.executable, "-c", RESERVED_PORT, str(reserved), str(port)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    first, second = run.stdout.splitlines()
    assert first == f"http://127.0.0.1:{port}/callback"
    assert f"in use or reserved: {reserved}." in second


def test_no_port_or_an_invalid_port_is_a_configuration_error() -> None:
    for ports, text in (([70000], "70000"), ([-1], "-1"), ([], "give 0 for any")):
        with pytest.raises(AuthenticationError, match=text) as caught:
            OAuthCallbackServer(ports)
        assert caught.value.error == "invalid_configuration"


def test_another_failure_to_open_a_port_is_reported_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))

    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(AuthenticationError, match=os.strerror(errno.EADDRNOTAVAIL)):
        OAuthCallbackServer([0])


def test_a_fixed_port_can_be_reused_right_after_a_login() -> None:
    """A second login works, although connections of the first linger in TIME_WAIT."""
    port = free_port()
    for _ in range(3):
        with OAuthCallbackServer([port]) as server, Client(server.redirect_uri):
            server.expect(STATE)
            assert_still_waiting(server)
        assert not is_listening(server.redirect_uri)


def listen_on(address: str, port: int) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind((address, port))
        other.listen()


def test_no_other_socket_can_listen_on_the_port(server: OAuthCallbackServer) -> None:
    port = int(server.redirect_uri.split(":")[2].split("/")[0])
    for address in ("127.0.0.1", ""):
        with pytest.raises(OSError, match="in use"):
            listen_on(address, port)


# The process


def test_a_default_socket_timeout_has_no_effect() -> None:
    """``socket.setdefaulttimeout`` belongs to the program. [N14]"""
    socket.setdefaulttimeout(0.05)
    try:
        with OAuthCallbackServer() as server:
            server.expect(STATE)
            with Client(server.redirect_uri) as idle:
                assert not idle.has_input(0.3)
                assert_still_waiting(server)
    finally:
        socket.setdefaulttimeout(None)


def test_a_program_with_over_1024_open_files_can_sign_in() -> None:
    """A desktop program may have thousands of open files; ``select()`` is limited to 1024."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    try:
        with contextlib.ExitStack() as stack:
            for _ in range(1100):
                stack.callback(os.close, os.open(os.devnull, os.O_RDONLY))
            server = stack.enter_context(OAuthCallbackServer())
            server.expect(STATE)
            waiting = Running(lambda: server.wait(PATIENCE))
            command = f"import sys, urllib.request as r; r.urlopen(sys.argv[1] + '{RIGHT[9:]}')"
            with subprocess.Popen([sys.executable, "-c", command, server.redirect_uri]) as browser:
                assert waiting.result() == PARAMETERS
                server.answer(pages.complete())
                assert browser.wait(PATIENCE) == 0
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_no_request_is_logged_or_printed(
    server: OAuthCallbackServer, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Logs contain neither a code or state nor a traceback of a broken connection. [T31]"""
    caplog.set_level(logging.DEBUG)
    fetch(server.redirect_uri, "/callback?code=canary&state=canary")
    with Client(server.redirect_uri) as broken:
        broken.send(b"GET /callback?code=canary HTTP/1.1\r\ncanary")
        broken.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset
    assert_still_waiting(server)
    server.close()
    printed = capfd.readouterr()
    assert printed.out == printed.err == ""
    for record in caplog.records:
        assert "canary" not in record.getMessage()
        assert "right-" not in record.getMessage()


def test_a_server_can_be_closed_twice_and_without_a_start() -> None:
    before = open_descriptors()
    server = OAuthCallbackServer()
    server.close()
    server.close()
    assert open_descriptors() <= before
    assert not is_listening(server.redirect_uri)


REQUEST_PARTS = st.sampled_from(
    [b"GET ", b"HEAD ", b"POST ", b"/callback", b"?", b"state=", b"right", b"&", b"code=", b"%", b" ", b"\t"]
)
HEADER_PARTS = st.sampled_from(
    [b" HTTP/1.1", b" HTTP/9.9", b"\r\n", b"\r\n\r\n", b"\n", b"\r", b"Host: ", b"127.0.0.1", b":", b"\0"]
)
HEADERS = st.sampled_from([b"Expect: 100-continue", b"Transfer-Encoding: chunked", b"Content-Length: -1"])


@settings(max_examples=150, deadline=None)
@given(
    st.lists(REQUEST_PARTS | HEADER_PARTS | HEADERS | st.binary(max_size=30), max_size=30).map(b"".join),
    st.booleans(),
)
@example(b"", True)
@example(b"GET /callback?state=%ff HTTP/1.1\r\nHost: \xff\r\n\r\n", True)
def test_the_right_redirect_works_after_any_bytes(data: bytes, politely: bool) -> None:
    with OAuthCallbackServer(head_timeout=5) as server:
        server.expect(STATE)
        with Client(server.redirect_uri) as client:
            client.send(data)
            if politely:
                client.socket.shutdown(socket.SHUT_WR)
                raw = client.everything()
                assert raw == b"" or raw.startswith(b"HTTP/1.1 ")
        assert_still_waiting(server)


# wait_for


def test_an_event_that_has_happened_is_not_waited_for() -> None:
    event = threading.Event()
    event.set()
    assert wait_for(event, 0)
    assert wait_for(event, -1)


def test_an_event_ends_the_wait_at_any_time() -> None:
    """The length of the current nap does not matter."""
    event = threading.Event()
    waiting = Running(lambda: wait_for(event, 10 * PATIENCE))
    assert not wait_for(threading.Event(), 0.8)
    started = time.monotonic()
    event.set()
    assert waiting.result()
    assert time.monotonic() - started < 0.5


def test_a_long_wait_is_a_few_naps() -> None:
    """Waiting does not poll. [S5.3, S12]"""

    class Counting(threading.Event):
        naps = 0

        def wait(self, timeout: float | None = None) -> bool:
            self.naps += 1
            return super().wait(timeout)

    event = Counting()
    assert not wait_for(event, 1)
    assert event.naps < 8


def test_the_wait_takes_as_long_as_requested() -> None:
    started = time.monotonic()
    assert not wait_for(threading.Event(), 0.2)
    assert 0.2 <= time.monotonic() - started < 1


def test_a_wait_without_a_time_limit_is_possible() -> None:
    event = threading.Event()
    waiting = Running(lambda: wait_for(event, float("inf")))
    event.set()
    assert waiting.result()


def test_logins_at_once_take_different_ports_of_a_list() -> None:
    """With localhost, a port counts as taken if one address family is. [N8, N9]"""
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as other:
        taken = other.getsockname()[1]
        with OAuthCallbackServer(host="localhost") as first:
            port = urlsplit(first.redirect_uri).port
            assert port is not None
            with OAuthCallbackServer([taken, port, 0], host="localhost") as second:
                assert urlsplit(second.redirect_uri).port not in (taken, port, 0)
