"""``request.state.session``, guards as dependencies, and websockets."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI, WebSocket
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection, Request
from starlette.types import ASGIApp, Receive, Scope, Send
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from pywry_auth.asgi import AuthMiddleware, current_session, require_role, require_scope
from pywry_auth.backends.memory import MemoryBackend
from pywry_auth.deploy_routes import create_auth_router
from pywry_auth.exceptions import AuthenticationError, StoreUnavailable
from pywry_auth.models import UserSession
from pywry_auth.state.sessions import issue_session_token
from tests.deploy.hosts import HOSTS, Host, served_by_wsgi
from tests.deploy.web import HTML, SITE, SiteClient, WatchedBackend, Web
from tests.peers.asgi_server import served


class MethodOverride:
    """Middleware that replaces the method of a request by the one in a header."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] == "http":
            request = Request(scope)
            scope["method"] = request.headers.get("X-HTTP-Method-Override", request.method)
        await self._app(scope, receive, send)


def app_of(web: Web, mount: str = "") -> FastAPI:
    """Return an application that shares another's stores, with websockets."""
    router = create_auth_router(web.provider, web.sessions, web.tokens, web.deploy_settings, web.config)
    app = FastAPI()
    app.include_router(router, prefix=mount)
    app.add_middleware(AuthMiddleware, router=router)

    @app.websocket("/open")
    async def open_to_all(websocket: WebSocket) -> None:
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

    @app.websocket("/groups", dependencies=[Depends(require_scope("groups"))])
    async def groups(websocket: WebSocket) -> None:
        await websocket.accept()

    @app.websocket("/admin")
    async def admin(
        websocket: WebSocket, session: Annotated[UserSession, Depends(require_role("admin"))]
    ) -> None:
        await websocket.accept()

    return app


def first_message(address: str, path: str, **headers: str) -> Any:
    """Return a websocket's first message, or the status or code of its refusal."""
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
    """The cookie of a browser where alice is signed in."""
    browser = web.browser()
    browser.sign_in()
    return f"pywry_session={browser.cookie()}"


def test_a_websocket_has_the_session_of_the_signed_in_user(web: Web, cookie: str) -> None:
    with served(app_of(web)) as address:
        own = f"http://{address}"
        assert first_message(address, "/open") == '{"user":null}'
        assert first_message(address, "/open", Cookie=cookie, Origin=own) == '{"user":"user-alice"}'
        assert first_message(address, "/members", Cookie=cookie, Origin=own) == '{"user":"user-alice"}'
        token = issue_session_token(web.sessions, "robot", [], 60)
        assert first_message(address, "/members", Authorization=f"Bearer {token}") == '{"user":"robot"}'


def test_a_websocket_guard_refuses_other_visitors(web: Web, cookie: str) -> None:
    with served(app_of(web)) as address:
        own = f"http://{address}"
        assert first_message(address, "/members") == 403
        assert first_message(address, "/members", Origin=own) == 403
        assert first_message(address, "/admin", Cookie=cookie, Origin=own) == 403
        assert first_message(address, "/groups", Cookie=cookie, Origin=own) == 403
        forged = f"pywry_session={'x' * 43}.{'y' * 43}"
        assert first_message(address, "/members", Cookie=forged, Origin=own) == 403


@pytest.mark.parametrize(
    "origin", ["https://evil.example.com", "null", "http://sibling.127.0.0.1", "{own}0", "https://{host}"]
)
def test_another_sites_page_cannot_use_a_users_cookie(web: Web, cookie: str, origin: str) -> None:
    """Browsers send cookies with any site's websocket handshake. [T27]"""
    with served(app_of(web)) as address:
        sent = origin.format(own=f"http://{address}", host=address)
        for path in ("/open", "/members"):
            assert first_message(address, path, Cookie=cookie, Origin=sent) == 403
        assert first_message(address, "/open", Origin=sent) == '{"user":null}', "without a cookie"


def test_the_own_origin_is_that_of_the_public_url(make_web: Callable[..., Web]) -> None:
    """The origin of the server's own address is refused. [P6]"""
    web = make_web(
        settings={"public_base_url": "https://app.example.com"}, base_url="https://app.example.com"
    )
    browser = web.browser()
    browser.sign_in()
    cookie = f"pywry_session={browser.cookie()}"
    with served(app_of(web)) as address:
        assert first_message(address, "/members", Cookie=cookie, Origin="https://app.example.com") != 403
        assert first_message(address, "/members", Cookie=cookie, Origin=f"http://{address}") == 403


def test_during_a_store_outage_requests_with_a_session_get_503(
    make_web: Callable[..., Web], caplog: pytest.LogCaptureFixture
) -> None:
    """No user is let in or signed out; public pages work. [P15, T28]"""
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
        assert set(response.json) == {"error", "error_description", "reference"}
        assert "simulated failure" not in response.text
        page = browser.get(path, html=True)
        assert page.status_code == 503
        assert "Try again" in page.text
        assert "Content-Security-Policy" in page.headers
    assert browser.cookie() == cookie
    assert web.browser().get("/public").status_code == 200
    with caplog.at_level(logging.WARNING), served(app_of(web)) as address:
        refusal = first_message(
            address, "/members", Cookie=f"pywry_session={cookie}", Origin=f"http://{address}"
        )
        assert refusal == 403
    watched.fails = lambda number: False
    assert browser.user == "user-alice"


def test_a_store_failure_inside_a_view_gets_503(make_web: Callable[..., Web]) -> None:
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


def test_a_visitor_without_credentials_causes_no_look_up(make_web: Callable[..., Web]) -> None:
    watched = WatchedBackend(MemoryBackend())
    web = make_web(watched)
    browser = web.browser()
    browser.plant("other", "cookie")
    browser.plant("pywry_session", "x" * 43 + "." + "y" * 43)
    for headers in ({}, {"Authorization": "Basic YTpi"}, {"Authorization": "Bearer nonsense"}):
        assert browser.get("/who", html=False, **headers).json["user_id"] is None
    assert watched.operations == []


def test_a_signed_in_user_causes_one_look_up(make_web: Callable[..., Web]) -> None:
    watched = WatchedBackend(MemoryBackend())
    web = make_web(watched)
    browser = web.browser()
    browser.sign_in()
    watched.forget()
    assert browser.get("/members").json["user_id"] == "user-alice"
    assert watched.operations == ["get session"]


def test_responses_vary_by_cookie_and_authorization_header(web: Web) -> None:
    """A cache must not serve them to another visitor. [T30]"""
    for path in ("/public", "/who", "/members", "/nothing"):
        vary = web.browser().get(path).headers["Vary"]
        assert {name.strip() for name in vary.split(",")} == {"Cookie", "Authorization"}


@pytest.mark.parametrize("host", HOSTS[1:], ids=lambda host: host.name)
def test_a_navigating_visitor_signs_in_and_returns_to_the_page(
    make_web: Callable[..., Web], host: Host
) -> None:
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


def test_a_fetching_script_gets_401_without_a_redirect(web: Web) -> None:
    """A script cannot follow a redirect to the provider. [P14]"""
    for headers in ({"Sec-Fetch-Mode": "cors", "Accept": HTML}, {"Accept": "application/json"}):
        response = web.client().get("/members", headers=headers)
        assert response.status_code == 401
        assert response.headers["WWW-Authenticate"] == 'Bearer realm="session"'
    assert web.client().post("/members", headers={"Accept": HTML}).status_code == 401


def test_a_guard_checks_the_method_that_the_application_sees(web: Web, cookie: str) -> None:
    """Middleware that lets a form replace its method is no way around the check. [T60]"""
    app = app_of(web)

    @app.delete("/item", dependencies=[Depends(current_session)])
    async def delete() -> str:
        return "deleted"

    client = SiteClient(web, use_cookies=False)
    app.user_middleware.append(Middleware(MethodOverride))  # inside AuthMiddleware
    client.application = served_by_wsgi(app, web.host)
    headers = {"Cookie": cookie, "X-HTTP-Method-Override": "DELETE"}
    assert client.get("/item", headers=headers).status_code == 200
    assert client.get("/item", headers=headers | {"Sec-Fetch-Site": "same-site"}).status_code == 403


def test_without_the_middleware_a_guard_names_it_in_the_error() -> None:
    connection = HTTPConnection({"type": "http", "headers": []})
    with pytest.raises(AuthenticationError, match="AuthMiddleware"):
        asyncio.run(current_session(connection))
