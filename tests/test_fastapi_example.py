"""The FastAPI example under uvicorn with two workers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from selenium import webdriver
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from pywry_auth.testing.identity_provider import IdentityProvider
from tests.peers.walk import Walk
from tests.peers.web_server import TOKEN_SECRET, ASGIServer, Visitor, children_of, settings_for

_LIVE = """
const done = arguments[0], live = new WebSocket(location.origin.replace("http", "ws") + "/live");
live.onmessage = message => done(message.data);
live.onerror = () => done("refused");
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ASGIServer]:
    server = ASGIServer("--workers", "2", "--no-access-log", app="examples.fastapi_app:app")
    with IdentityProvider(clients=[server.client()], signing_algorithm="ES256") as idp:
        path = tmp_path_factory.mktemp("state") / "state.sqlite3"
        settings = settings_for(
            idp.issuer,
            STATE_BACKEND="sqlite",
            SQLITE_PATH=str(path),
            TOKEN_SECRET=TOKEN_SECRET,
            ADMIN_USERS="alice@example.com",
        )
        with server.running(settings):
            server.wait_for("Started server process", times=2)
            yield server


def test_a_user_signs_in_and_out_in_a_browser(server: ASGIServer, chromium: webdriver.Chrome) -> None:
    chromium.execute_cdp_cmd("Network.clearBrowserCookies", {})
    walk = Walk(chromium, server.url)
    walk.go("/reports")
    walk.see("Sign in")
    walk.sign_in("alice", "wonderland")
    walk.arrive("/reports")
    assert "user-alice" in chromium.page_source
    assert walk.fetch("/auth/status")["json"]["roles"] == ["viewer", "admin"]
    assert walk.fetch("/users") == {"status": 200, "json": {"for": "administrators"}}
    assert walk.fetch("/auth/refresh", "POST")["json"]["refreshed"] is True
    assert chromium.execute_async_script(_LIVE) == '{"user":"user-alice"}'
    walk.go("/")
    walk.press("Sign out")
    walk.arrive_where(lambda path: path.startswith("/?state="))
    assert walk.fetch("/auth/status")["json"]["authenticated"] is False
    assert walk.fetch("/reports")["status"] == 401
    assert chromium.execute_async_script(_LIVE) == "refused"
    walk.go("/dashboard")
    walk.see("Sign in")


def test_a_login_can_begin_and_end_in_any_worker(server: ASGIServer) -> None:
    """Forty logins, each over fresh connections. [P8]"""
    assert len(children_of(server.process.pid)) >= 2
    for _ in range(40):
        visitor = Visitor(server.url)
        visitor.sign_in("/auth/login?next=/dashboard")
        assert visitor.user == "user-alice"
        assert visitor.get("/dashboard").json() == {"user": "user-alice", "roles": ["viewer", "admin"]}


def test_other_sites_pages_cannot_open_a_websocket(server: ASGIServer) -> None:
    """The handshake's origin is not the site's own. [T27]"""
    visitor = Visitor(server.url)
    visitor.sign_in()
    cookie = f"pywry_session={visitor.cookies['pywry_session']}"
    url = f"ws://127.0.0.1:{server.port}/live"
    sent = {"Cookie": cookie, "Origin": server.url}
    with connect(url, additional_headers=sent, proxy=None) as websocket:
        assert websocket.recv(10) == '{"user":"user-alice"}'
    with (
        pytest.raises(InvalidStatus),
        connect(url, additional_headers=sent | {"Origin": "https://evil.example"}),
    ):
        pass


def test_the_servers_output_contains_no_secret(server: ASGIServer) -> None:
    """It contains no session cookie, code or traceback. [T31]"""
    visitor = Visitor(server.url)
    visitor.sign_in()
    output = server.output()
    assert visitor.cookies["pywry_session"] not in output
    assert "code=" not in output
    assert "Traceback" not in output
