"""The one-time address redirects one browser of the user, and no other client. [T59]"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from email.message import Message
from http import HTTPStatus

import pytest

from pywry_auth.exceptions import AuthenticationError, AuthFlowCancelled
from pywry_auth.native.callback_server import OAuthCallbackServer
from pywry_auth.native.http_connection import Request
from pywry_auth.native.start_address import StartAddress
from pywry_auth.pages import native as pages
from pywry_auth.pages.native import PageResponse
from tests.native.sockets import PATIENCE, Answer, Client, Running, fetch

URL = "https://provider.example.com/authorize?state=right-state&nonce=n%20n&code_challenge=c"
STATE = "right-state"


class Used:
    """A one-time address, and the second uses that it reported."""

    def __init__(self, same_user: bool = True) -> None:
        self.same_user = same_user
        self.reports = 0
        self.address = StartAddress(URL, self._report, lambda client, server: self.same_user)

    def _report(self) -> None:
        self.reports += 1

    def open(self, method: str = "GET", **headers: str) -> PageResponse:
        message = Message()
        for name, value in headers.items():
            message[name.replace("_", "-")] = value
        ends = ("127.0.0.1", 50_000), ("127.0.0.1", 60_000)
        return self.address.respond(Request(method, self.address.path, message, *ends))


def headers_of(page: PageResponse) -> dict[str, str]:
    return dict(page.headers)


def cookie_of(page: PageResponse) -> str:
    return headers_of(page)["Set-Cookie"].partition(";")[0]


def test_the_first_use_redirects() -> None:
    used = Used()
    page = used.open(Sec_Fetch_Dest="document", Sec_Fetch_Mode="navigate")
    assert (page.status, headers_of(page)["Location"]) == (HTTPStatus.FOUND, URL)


def test_a_second_browser_gets_no_url_and_is_reported() -> None:
    used = Used()
    used.open()
    for cookie in ("", "pywry_sign_in=", "pywry_sign_in=guessed", "other=x; pywry_sign_in"):
        page = used.open(Cookie=cookie)
        assert page.status == HTTPStatus.GONE
        assert "Location" not in headers_of(page)
        assert STATE not in page.html
    assert used.reports == 4


def test_the_same_browser_may_load_the_address_again() -> None:
    """A browser restores a tab, or the user reloads it."""
    used = Used()
    cookie = cookie_of(used.open())
    for sent in (cookie, f"theme=dark; {cookie}; x=y"):
        page = used.open(Cookie=sent)
        assert (page.status, headers_of(page)["Location"]) == (HTTPStatus.FOUND, URL)
    assert used.reports == 0


def test_the_cookie_is_for_this_address_only() -> None:
    used = Used()
    attributes = headers_of(used.open())["Set-Cookie"].split("; ")[1:]
    assert {f"Path={used.address.path}", "HttpOnly", "SameSite=Strict"} <= set(attributes)


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec_Purpose": "prefetch"},
        {"Sec_Purpose": "prefetch;prerender"},
        {"Purpose": "prefetch"},
        {"X_Purpose": "preview"},
        {"X_Moz": "prefetch"},
        {"Sec_Fetch_Dest": "image"},
        {"Sec_Fetch_Dest": "iframe"},
        {"Sec_Fetch_Dest": "empty"},
    ],
)
def test_a_preview_or_a_part_of_another_page_does_not_use_the_address(headers: dict[str, str]) -> None:
    used = Used()
    page = used.open(**headers)
    assert page.status in (HTTPStatus.NO_CONTENT, HTTPStatus.FORBIDDEN)
    assert "Location" not in headers_of(page)
    assert used.open().status == HTTPStatus.FOUND
    assert used.reports == 0


@pytest.mark.parametrize(("method", "status"), [("HEAD", 204), ("POST", 405), ("OPTIONS", 405)])
def test_other_methods_do_not_use_the_address(method: str, status: int) -> None:
    used = Used()
    assert used.open(method).status == status
    assert used.open().status == HTTPStatus.FOUND


def test_another_user_gets_nothing_and_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Another user reads the address in the process list and opens it first, in between and last. [T59]"""
    used = Used()
    cookie = ""
    for status in (HTTPStatus.FOUND, HTTPStatus.FOUND):
        used.same_user = False
        with caplog.at_level(logging.WARNING, "pywry_auth.native"):
            refused = used.open(Cookie=cookie)
        assert refused.status == HTTPStatus.FORBIDDEN
        assert "Set-Cookie" not in headers_of(refused)
        assert "Location" not in headers_of(refused)
        used.same_user = True
        opened = used.open(Cookie=cookie)
        assert opened.status == status
        cookie = cookie_of(opened)
    assert used.reports == 0
    assert "another user of this machine" in caplog.text
    assert used.address.path not in caplog.text


def test_of_browsers_that_open_it_at_once_one_is_redirected() -> None:
    used, start = Used(), threading.Barrier(8)

    def browser() -> int:
        start.wait(PATIENCE)
        return used.open().status

    browsers = [Running(browser) for _ in range(8)]
    assert sorted(browser.result() for browser in browsers) == [302] + [410] * 7


def test_no_character_of_the_url_can_end_the_header() -> None:
    page = pages.redirect("https://provider.example.com/é?x=\r\nSet-Cookie: a=b", "c=d")
    assert headers_of(page)["Location"] == "https://provider.example.com/%C3%A9?x=%0D%0ASet-Cookie:%20a=b"


# At the callback server


@pytest.fixture
def server() -> Iterator[OAuthCallbackServer]:
    with OAuthCallbackServer() as listening:
        listening.expect(STATE)
        yield listening


def path_of(address: str) -> str:
    return "/" + address.rpartition("/")[2]


def test_the_server_redirects_once(server: OAuthCallbackServer) -> None:
    address = server.offer(URL)
    first = fetch(server.redirect_uri, path_of(address))
    assert (first.status, first.headers["Location"]) == (302, URL)
    assert first.headers["Referrer-Policy"] == "no-referrer"
    assert first.headers["Cache-Control"] == "no-store"
    assert fetch(server.redirect_uri, path_of(address)).status == 410


def test_a_second_use_ends_the_login_at_once_with_a_clear_error(server: OAuthCallbackServer) -> None:
    """The waiting program is told, and a response that arrives afterwards is refused. [T59]"""
    waiting = Running(lambda: server.wait(PATIENCE))
    path = path_of(server.offer(URL))
    fetch(server.redirect_uri, path)
    assert not waiting.is_over
    fetch(server.redirect_uri, path)
    with pytest.raises(AuthenticationError, match="opened in two browsers") as caught:
        waiting.result()
    assert caught.value.error == "other_browser"
    assert STATE not in str(caught.value)
    assert fetch(server.redirect_uri, f"/callback?code=c&state={STATE}").status == 410


def test_a_system_that_shows_no_users_still_allows_one_browser(
    server: OAuthCallbackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OAuthCallbackServer, "can_identify_users", lambda _: False)
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000_001)
    monkeypatch.setattr(os, "geteuid", lambda: 4_000_000_001)
    path = path_of(server.offer(URL))
    assert [fetch(server.redirect_uri, path).status for _ in range(2)] == [302, 410]


def test_no_response_is_accepted_after_a_second_use(server: OAuthCallbackServer) -> None:
    """The program may not have noticed the second use yet."""
    path = path_of(server.offer(URL))
    assert [fetch(server.redirect_uri, path).status for _ in range(2)] == [302, 410]
    assert fetch(server.redirect_uri, f"/callback?code=c&state={STATE}").status == 410


def test_a_thief_who_finishes_before_the_users_browser_opens_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where the system shows no users, the response is held until the user's browser has had time. [T59]"""
    monkeypatch.setattr(OAuthCallbackServer, "can_identify_users", lambda _: False)
    with OAuthCallbackServer(watch=PATIENCE) as server:
        server.expect(STATE)
        path = path_of(server.offer(URL))
        assert fetch(server.redirect_uri, path).status == 302
        with Client(server.redirect_uri) as thief:
            thief.get(f"/callback?code=c&state={STATE}")
            waiting = Running(lambda: server.wait(PATIENCE))
            assert not thief.has_input(0.2)
            assert not waiting.is_over
            assert fetch(server.redirect_uri, path).status == 410
            with pytest.raises(AuthenticationError, match="opened in two browsers"):
                waiting.result()


def test_a_response_is_held_only_where_the_system_shows_no_users(monkeypatch: pytest.MonkeyPatch) -> None:
    for identifies, watch in ((True, 60.0), (False, 0.05)):
        monkeypatch.setattr(OAuthCallbackServer, "can_identify_users", lambda _, value=identifies: value)
        with OAuthCallbackServer(watch=watch) as server, Client(server.redirect_uri) as browser:
            server.expect(STATE)
            server.offer(URL)
            browser.get(f"/callback?code=c&state={STATE}")
            assert dict(server.wait(PATIENCE))["code"] == "c"


def test_a_login_can_be_cancelled_while_its_response_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OAuthCallbackServer, "can_identify_users", lambda _: False)
    with OAuthCallbackServer(watch=60.0) as server, Client(server.redirect_uri) as browser:
        server.expect(STATE)
        server.offer(URL)
        browser.get(f"/callback?code=c&state={STATE}")
        waiting = Running(lambda: server.wait(PATIENCE))
        server.cancel()
        with pytest.raises(AuthFlowCancelled):
            waiting.result()


@pytest.mark.parametrize("target", ["/", "/callback", "{path}?", "{path}?x=y", "{path}/", "/{path}"])
def test_only_the_exact_address_redirects(server: OAuthCallbackServer, target: str) -> None:
    path = path_of(server.offer(URL))
    assert fetch(server.redirect_uri, target.format(path=path)).status in (400, 404)
    assert fetch(server.redirect_uri, path).status == 302


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:{port}", 302),
        ("127.0.0.1:{port}", 302),
        ("127.0.0.1", 421),
        ("rebound.example.com:{port}", 421),
    ],
)
def test_the_address_works_under_the_names_of_this_machine_only(
    server: OAuthCallbackServer, host: str, status: int
) -> None:
    """Remote development tools open forwarded ports as localhost; a rebound name is refused."""
    path = path_of(server.offer(URL))
    with Client(server.redirect_uri) as client:
        name = host.format(port=client.authority.partition(":")[2])
        client.send(f"GET {path} HTTP/1.1\r\nHost: {name}\r\n\r\n".encode())
        answer: Answer = client.answer()
    assert answer.status == status
