"""``request.state.session``, guards as dependencies, and websockets."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI, WebSocket
from starlette.requests import HTTPConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from pywry_auth.asgi import AuthMiddleware, current_session, require_role
from pywry_auth.backends.memory import MemoryBackend
from pywry_auth.deploy_routes import create_auth_router
from pywry_auth.exceptions import AuthenticationError, StoreUnavailable
from pywry_auth.models import UserSession
from pywry_auth.state.sessions import issue_session_token
from tests.deploy.hosts import HOSTS, Host, served_by_wsgi
from tests.deploy.web import HTML, SITE, SiteClient, WatchedBackend, Web
from tests.peers.asgi_server import served


def app_of(web: Web, mount: str = "") -> FastAPI:
    """Return an application on the stores of another, with websockets."""
    router = create_auth_router(web.provider, web.sessions, web.tokens, web.deploy_settings, web.config)
    app = FastAPI()
    app.include_router(router, prefix=mount)
    app.add_middleware(AuthMiddleware, router=router)

    @app.websocket("/open")
    async def everybody(websocket: WebSocket) -> None:
        await websocket.accept()
        session = websocket.state.session
        await websocket.send_json({"user": session.user_id if session else None})
        await websocket.close()

    @app.websocket("/members")
    async def members(
        websocket: WebSocket, session: Annotated[UserSession, Depends(current_session)]
    ) -> None:
        await websocket.accept()
        await websocket.send_json({"user": session.user_id})
        await websocket.close()

    @app.websocket("/admin")
    async def admin(
        websocket: WebSocket, session: Annotated[UserSession, Depends(require_role("admin"))]
    ) -> None:
        await websocket.accept()

    return app


def hear(address: str, path: str, **headers: str) -> Any:
    """Return what a websocket says first, or the status with which its handshake is refused."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        with connect(f"ws://{address}{path}", additional_headers=sent, proxy=None) as websocket:
            return websocket.recv(10)
    except InvalidStatus as refused:
        return refused.response.status_code
    except ConnectionClosed as closed:
        return closed.rcvd and closed.rcvd.code


@pytest.fixture
def cookie(web: Web) -> str:
    """The cookie of a browser in which alice has signed in."""
    browser = web.browser()
    browser.sign_in()
    return f"pywry_session={browser.cookie()}"


def test_a_websocket_knows_who_is_signed_in(web: Web, cookie: str) -> None:
    with served(app_of(web)) as address:
        own = f"http://{address}"
        assert hear(address, "/open") == '{"user":null}'
        assert hear(address, "/open", Cookie=cookie, Origin=own) == '{"user":"user-alice"}'
        assert hear(address, "/members", Cookie=cookie, Origin=own) == '{"user":"user-alice"}'
        token = issue_session_token(web.sessions, "robot", [], 60)
        assert hear(address, "/members", Authorization=f"Bearer {token}") == '{"user":"robot"}'


def test_a_websockets_guard_lets_nobody_else_in(web: Web, cookie: str) -> None:
    with served(app_of(web)) as address:
        own = f"http://{address}"
        assert hear(address, "/members") == 403
        assert hear(address, "/members", Origin=own) == 403
        assert hear(address, "/admin", Cookie=cookie, Origin=own) == 403
        forged = f"pywry_session={'x' * 43}.{'y' * 43}"
        assert hear(address, "/members", Cookie=forged, Origin=own) == 403


@pytest.mark.parametrize(
    "origin", ["https://evil.example.com", "null", "http://sibling.127.0.0.1", "{own}0", "https://{host}"]
)
def test_another_sites_page_cannot_use_a_users_cookie(web: Web, cookie: str, origin: str) -> None:
    """T27: browsers send cookies along with any site's websocket handshake."""
    with served(app_of(web)) as address:
        sent = origin.format(own=f"http://{address}", host=address)
        for path in ("/open", "/members"):
            assert hear(address, path, Cookie=cookie, Origin=sent) == 403
        assert hear(address, "/open", Origin=sent) == '{"user":null}', "a stranger's page for strangers"


def test_a_sites_own_origin_is_its_public_one(make_web: Callable[..., Web]) -> None:
    """P6."""
    web = make_web(
        settings={"public_base_url": "https://app.example.com"}, base_url="https://app.example.com"
    )
    browser = web.browser()
    browser.sign_in()
    cookie = f"pywry_session={browser.cookie()}"
    with served(app_of(web)) as address:
        assert hear(address, "/members", Cookie=cookie, Origin="https://app.example.com") != 403
        assert hear(address, "/members", Cookie=cookie, Origin=f"http://{address}") == 403


def test_while_the_store_is_down_whoever_has_a_session_is_told_so(
    make_web: Callable[..., Web], caplog: pytest.LogCaptureFixture
) -> None:
    """P15, T28: nobody is let in, nobody is logged out, and the public pages are served."""
    watched = WatchedBackend(MemoryBackend())
    web = make_web(watched)
    browser = web.browser()
    browser.sign_in()
    cookie = browser.cookie()
    watched.fails = lambda number: True
    for path in ("/members", "/who", "/public", "/auth/status"):
        response = browser.get(path)
        assert response.status_code == 503
        assert int(response.headers["Retry-After"]) > 0
        assert set(response.json) == {"error", "error_description"}
        assert "says the test" not in response.text
        page = browser.get(path, html=True)
        assert page.status_code == 503
        assert "Try again" in page.text
        assert "Content-Security-Policy" in page.headers
    assert browser.cookie() == cookie
    assert web.browser().get("/public").status_code == 200
    with caplog.at_level(logging.WARNING), served(app_of(web)) as address:
        heard = hear(address, "/members", Cookie=f"pywry_session={cookie}", Origin=f"http://{address}")
        assert heard == 403
    watched.fails = lambda number: False
    assert browser.user == "user-alice"


def test_a_store_that_fails_inside_a_view_is_an_outage_too(make_web: Callable[..., Web]) -> None:
    web = make_web()
    app = app_of(web)

    @app.get("/work")
    async def work() -> None:
        raise StoreUnavailable("The store at redis://secret-host is down.")

    client = SiteClient(web, use_cookies=False)
    client.application = served_by_wsgi(app, web.host)
    response = client.get("/work", headers={"Accept": "application/json"})
    assert response.status_code == 503
    assert "secret-host" not in response.text


def test_a_visitor_without_credentials_costs_no_look_up(make_web: Callable[..., Web]) -> None:
    watched = WatchedBackend(MemoryBackend())
    web = make_web(watched)
    browser = web.browser()
    browser.plant("other", "cookie")
    browser.plant("pywry_session", "x" * 43 + "." + "y" * 43)
    for headers in ({}, {"Authorization": "Basic YTpi"}, {"Authorization": "Bearer nonsense"}):
        assert browser.get("/who", html=False, **headers).json["user_id"] is None
    assert watched.operations == []


def test_a_signed_in_user_costs_one_look_up(make_web: Callable[..., Web]) -> None:
    watched = WatchedBackend(MemoryBackend())
    web = make_web(watched)
    browser = web.browser()
    browser.sign_in()
    watched.forget()
    assert browser.get("/members").json["user_id"] == "user-alice"
    assert watched.operations == ["get session"]


def test_what_depends_on_the_visitor_says_so_to_caches(web: Web) -> None:
    """T30."""
    for path in ("/public", "/who", "/members", "/nothing"):
        vary = web.browser().get(path).headers["Vary"]
        assert {name.strip() for name in vary.split(",")} == {"Cookie", "Authorization"}


@pytest.mark.parametrize("host", HOSTS[1:], ids=lambda host: host.name)
def test_a_visitor_who_navigates_signs_in_and_comes_back(make_web: Callable[..., Web], host: Host) -> None:
    web = make_web(host=host)
    browser = web.browser()
    response = browser.get("/documents/a%20b%3F?x=1&y=%2F", html=True)
    assert response.status_code == 302
    assert response.location.startswith(f"{web.at('/auth/login')}?next=")
    done = browser.sign_in(response.location)
    assert done.location == f"{SITE}{web.at('/documents/a%20b%3F?x=1&y=%2F')}"
    page = browser.get("/documents/7", html=True)
    assert page.status_code == 403
    assert "Use another account" in page.text
    assert web.at("/auth/login") in page.text


def test_a_script_that_fetches_gets_a_status(web: Web) -> None:
    """P14."""
    for headers in ({"Sec-Fetch-Mode": "cors", "Accept": HTML}, {"Accept": "application/json"}):
        response = web.client().get("/members", headers=headers)
        assert response.status_code == 401
        assert response.headers["WWW-Authenticate"] == 'Bearer realm="session"'
    assert web.client().post("/members", headers={"Accept": HTML}).status_code == 401


def test_without_the_middleware_a_guard_says_what_is_missing() -> None:
    connection = HTTPConnection({"type": "http", "headers": []})
    with pytest.raises(AuthenticationError, match="AuthMiddleware"):
        asyncio.run(current_session(connection))
