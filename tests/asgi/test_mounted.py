"""Guards in mounted applications answer as they do in the outer one."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Depends, FastAPI, HTTPException, WebSocket
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount

from pywry_auth.asgi import AuthMiddleware, current_session, require_permission, require_role
from pywry_auth.backends.memory import MemoryBackend
from pywry_auth.deploy_routes import create_auth_router
from pywry_auth.exceptions import StoreUnavailable
from pywry_auth.models import UserSession
from pywry_auth.state.sessions import issue_session_token
from tests.asgi.test_middleware import first_message
from tests.deploy.hosts import HOSTS, Host, served_by_wsgi
from tests.deploy.web import HTML, SITE, Browser, WatchedBackend, Web
from tests.peers.asgi_server import served

# Starlette finds no mounted application behind a proxy that removes its path.
_HOSTS = [host for host in HOSTS[1:] if not host.strips]
PLACES = ["/part", "/router", "/outer/middle/inner", "/router/app"]


def add_views(router: FastAPI | APIRouter) -> None:
    """Add guarded views, and one whose store fails."""

    @router.get("/members")
    async def members(session: Annotated[UserSession, Depends(current_session)]) -> str:
        return session.user_id

    @router.get("/admin", dependencies=[Depends(require_role("admin"))])
    async def admin() -> str:
        return "for administrators"

    @router.get("/write", dependencies=[Depends(require_permission("write"))])
    async def write() -> str:
        return "for editors"

    @router.get("/work", dependencies=[Depends(current_session)])
    async def work() -> None:
        raise StoreUnavailable("The store at redis://secret-host is down.")

    @router.websocket("/live")
    async def live(websocket: WebSocket, session: Annotated[UserSession, Depends(current_session)]) -> None:
        await websocket.accept()
        await websocket.send_json({"user": session.user_id})
        await websocket.close()


def app_of(web: Web, **options: Any) -> FastAPI:
    """Return an application with guarded views at each of the places.

    Args:
        web: An application whose stores it shares.
        options: The arguments of the mounted FastAPI applications.
    """
    auth = create_auth_router(web.provider, web.sessions, web.tokens, web.deploy_settings, web.config)
    app = FastAPI()
    app.include_router(auth, prefix=web.host.mount)
    app.add_middleware(AuthMiddleware, router=auth)
    part, inner, middle, outer, parts = (
        FastAPI(**options),
        FastAPI(**options),
        FastAPI(),
        FastAPI(),
        APIRouter(),
    )
    for router in (part, inner, parts):
        add_views(router)
    parts.mount("/app", part)
    middle.mount("/inner", inner)
    outer.mount("/middle", middle)
    app.mount("/part", part)
    app.mount("/outer", outer)
    app.mount("/router", parts)
    return app


def browser_of(web: Web, **options: Any) -> Browser:
    browser = web.browser()
    browser.client.application = served_by_wsgi(app_of(web, **options), web.host)
    return browser


@pytest.mark.parametrize("place", PLACES)
def test_a_guard_in_a_mounted_application_answers_as_in_the_outer_one(web: Web, place: str) -> None:
    """A script gets 401, a user without the role 403, and a visitor the login."""
    browser = browser_of(web)
    for path in ("/members", "/admin", "/write"):
        response = browser.get(place + path)
        assert (response.status_code, response.json["error"]) == (401, "login_required")
        assert response.headers["WWW-Authenticate"] == 'Bearer realm="session"'
        assert response.headers["Cache-Control"] == "no-store"
        assert {"Cookie", "Authorization"} <= {name.strip() for name in response.headers["Vary"].split(",")}
    token = f"Bearer {issue_session_token(web.sessions, 'robot', ['viewer'])}"
    for path in ("/admin", "/write"):
        response = browser.get(place + path, Authorization=token)
        assert (response.status_code, response.json["error"]) == (403, "access_denied")
        page = browser.get(place + path, html=True, Authorization=token)
        assert page.status_code == 403
        assert "Use another account" in page.text
        assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert browser.get(f"{place}/members", Authorization=token).json == "robot"


@pytest.mark.parametrize("host", _HOSTS, ids=lambda host: host.name)
@pytest.mark.parametrize("place", PLACES)
def test_a_visitor_of_a_mounted_application_signs_in_and_returns(
    make_web: Callable[..., Web], host: Host, place: str
) -> None:
    """The login of the outer application is found, and ``next`` is the whole path."""
    web = make_web(host=host)
    browser = browser_of(web)
    response = browser.get(f"{place}/members?x=1&y=%2F", html=True)
    assert response.status_code == 302
    assert response.location.startswith(f"{web.at('/auth/login')}?next=")
    done = browser.sign_in(response.location)
    assert done.location == f"{SITE}{web.at(f'{place}/members?x=1&y=%2F')}"
    assert browser.get(f"{place}/members").json == "user-alice"


@pytest.mark.parametrize("place", PLACES)
def test_a_store_failure_in_a_mounted_application_gets_503(
    make_web: Callable[..., Web], place: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither a guard nor a guarded view turns it into 500. [P15]"""
    watched = WatchedBackend(MemoryBackend())
    web = make_web(watched)
    browser = browser_of(web)
    token = f"Bearer {issue_session_token(web.sessions, 'robot', ['editor'])}"
    watched.forget()
    watched.fails = lambda number: number == 1  # the session is found, the table of roles is not
    for path in ("/work", "/write"):
        watched.forget()
        response = browser.get(place + path, Authorization=token)
        assert response.status_code == 503, path
        assert int(response.headers["Retry-After"]) > 0
        assert "secret-host" not in response.text
    assert "Traceback" not in caplog.text


def test_a_mounted_applications_own_error_pages_are_used(web: Web) -> None:
    """Its handlers get 401 and 403; a redirect to the login is no error."""
    shown = []

    async def own(request: Request, error: HTTPException) -> JSONResponse:
        shown.append(error.status_code)
        return JSONResponse({"own": error.detail}, error.status_code, error.headers)

    for handlers in ({HTTPException: own}, {401: own, 403: own}):
        shown.clear()
        browser = browser_of(web, exception_handlers=handlers)
        response = browser.get("/part/members")
        assert (response.status_code, response.json) == (401, {"own": "Sign in first."})
        assert response.headers["WWW-Authenticate"] == 'Bearer realm="session"'
        assert browser.get("/part/members", html=True).status_code == 302
        token = f"Bearer {issue_session_token(web.sessions, 'robot', [])}"
        assert browser.get("/part/admin", Authorization=token).status_code == 403
        assert shown == [401, 403]


def own_page(request: Request, error: HTTPException) -> JSONResponse:
    return JSONResponse({"own": error.detail}, error.status_code, error.headers)


async def own_page_later(request: Request, error: HTTPException) -> JSONResponse:
    return own_page(request, error)


class OwnPages:
    """Error handlers that are objects or methods."""

    async def __call__(self, request: Request, error: HTTPException) -> JSONResponse:
        """Return the page."""
        return own_page(request, error)

    def shown(self, request: Request, error: HTTPException) -> JSONResponse:
        """Return the page."""
        return own_page(request, error)

    async def shown_later(self, request: Request, error: HTTPException) -> JSONResponse:
        """Return the page."""
        return own_page(request, error)


HANDLERS: list[Any] = [
    own_page,
    own_page_later,
    OwnPages(),
    OwnPages().shown,
    OwnPages().shown_later,
    partial(own_page),
    partial(own_page_later),
    partial(OwnPages()),
]


@pytest.mark.parametrize("number", range(len(HANDLERS)))
def test_an_applications_own_handler_can_be_any_callable(web: Web, number: int) -> None:
    """Starlette accepts functions, objects, methods and partials, each of them also asynchronous."""
    browser = browser_of(web, exception_handlers={HTTPException: HANDLERS[number]})
    response = browser.get("/part/members")
    assert (response.status_code, response.json) == (401, {"own": "Sign in first."})
    token = f"Bearer {issue_session_token(web.sessions, 'robot', [])}"
    assert browser.get("/part/admin", Authorization=token).status_code == 403


@pytest.mark.parametrize("kind", [HTTPException, StarletteHTTPException, 401])
def test_an_applications_own_page_never_stands_in_a_frame(web: Web, kind: Any) -> None:
    """The package's page for frames has a link out of them, and sets no cookie. [T39]"""

    async def own(request: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse("own", error.status_code, {"Set-Cookie": "own=1"})

    browser = browser_of(web, exception_handlers={kind: own})
    page = browser.get("/part/members", html=True, Sec_Fetch_Mode="navigate", Sec_Fetch_Dest="iframe")
    assert page.status_code == 401
    assert 'target="_top">Sign in</a>' in page.text
    assert "frame-ancestors *" in page.headers["Content-Security-Policy"]
    assert "Set-Cookie" not in page.headers


@pytest.mark.parametrize("number", range(len(HANDLERS)))
def test_a_handler_of_a_status_also_gets_the_applications_own_errors(web: Web, number: int) -> None:
    async def missing() -> None:
        raise HTTPException(401, "no key")

    app = app_of(web, exception_handlers={401: HANDLERS[number]})
    part = next(route.app for route in app.routes if isinstance(route, Mount) and route.path == "/part")
    assert isinstance(part, FastAPI)
    part.get("/missing")(missing)
    part.get("/guarded", dependencies=[Depends(current_session)])(missing)
    browser = web.browser()
    browser.client.application = served_by_wsgi(app, web.host)
    token = f"Bearer {issue_session_token(web.sessions, 'robot', [])}"
    for path in ("/missing", "/members", "/missing", "/guarded"):
        response = browser.get(f"/part{path}", Authorization=token if path == "/guarded" else "")
        reason = "Sign in first." if path == "/members" else "no key"
        assert (response.status_code, response.json) == (401, {"own": reason})


@pytest.mark.parametrize(
    ("status", "own", "expected"),
    [
        (None, {}, {"Cache-Control": "no-store", "WWW-Authenticate": 'Bearer realm="session"'}),
        (None, {"Cache-Control": "private"}, {"Cache-Control": "private"}),
        (303, {"Location": "/"}, {"Cache-Control": "no-store", "WWW-Authenticate": None}),
    ],
)
@pytest.mark.parametrize("kinds", [(HTTPException,), (401, 503)])
def test_headers_are_added_to_an_applications_own_page(
    web: Web,
    kinds: tuple[Any, ...],
    status: int | None,
    own: dict[str, str],
    expected: dict[str, str | None],
) -> None:
    """No cache keeps the page, also if its handler does not say so. [T30]"""

    def page(request: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse("own", status or error.status_code, own)

    browser = browser_of(web, exception_handlers=dict.fromkeys(kinds, page))
    response = browser.get("/part/members")
    assert (response.status_code, response.json) == (status or 401, "own")
    assert {name: response.headers.get(name) for name in expected} == expected
    refused = browser.get("/part/work", Authorization=f"Bearer {issue_session_token(web.sessions, 'r', [])}")
    assert (status is None) == ("Retry-After" in refused.headers)


def test_a_handler_of_all_errors_does_not_see_a_refusal(web: Web) -> None:
    def broken(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse("a failure", 500)

    browser = browser_of(web, exception_handlers={Exception: broken})
    for place in PLACES:
        assert browser.get(f"{place}/members").status_code == 401
        assert browser.get(f"{place}/members", html=True).status_code == 302


def test_a_websocket_in_a_mounted_application_is_refused(web: Web, caplog: pytest.LogCaptureFixture) -> None:
    """The server answers the handshake with 403, and no failure is logged."""
    token = issue_session_token(web.sessions, "robot", [])
    with caplog.at_level(logging.INFO, "pywry_auth"), served(app_of(web)) as address:
        for place in PLACES:
            assert first_message(address, f"{place}/live") == 403
            assert (
                first_message(address, f"{place}/live", Authorization=f"Bearer {token}") == '{"user":"robot"}'
            )
    assert "Traceback" not in caplog.text
    told = [each.levelno for each in caplog.records if "refused a websocket" in each.getMessage()]
    assert told == [logging.INFO] * len(PLACES), "any stranger can cause it"


def test_a_store_failure_closes_a_websocket(
    make_web: Callable[..., Web], caplog: pytest.LogCaptureFixture
) -> None:
    """Before the guard has admitted it, after it was accepted, and after it was closed. [P15]"""
    web = make_web()
    auth = create_auth_router(web.provider, web.sessions, web.tokens, web.deploy_settings, web.config)
    app, part = FastAPI(), FastAPI()

    async def fails(session: Annotated[UserSession, Depends(current_session)]) -> None:
        raise StoreUnavailable("The store is down: a simulated failure.")

    async def late(
        websocket: WebSocket, session: Annotated[UserSession, Depends(current_session)], close: bool = False
    ) -> None:
        await websocket.accept()
        if close:
            await websocket.close(1001)
        raise StoreUnavailable("The store is down: a simulated failure.")

    for router in (app, part):
        router.websocket("/live", dependencies=[Depends(fails)])(late)
        router.websocket("/late")(late)
    app.mount("/part", part)
    app.add_middleware(AuthMiddleware, router=auth)
    token = f"Bearer {issue_session_token(web.sessions, 'robot', [])}"
    with caplog.at_level(logging.WARNING), served(app) as address:
        for place in ("", "/part"):
            assert first_message(address, f"{place}/live", Authorization=token) == 403
            assert first_message(address, f"{place}/late", Authorization=token) == 1013
        assert "Traceback" not in caplog.text
        assert "without completing handshake" not in caplog.text
        assert first_message(address, "/late?close=1", Authorization=token) == 1001
    assert "RuntimeError" not in caplog.text


def test_the_middleware_can_surround_an_application(web: Web) -> None:
    """``AuthMiddleware(app, router)`` also answers for guards below it."""
    auth = create_auth_router(web.provider, web.sessions, web.tokens, web.deploy_settings, web.config)
    app, part = FastAPI(), FastAPI()
    app.include_router(auth, prefix="/api")
    add_views(part)
    app.mount("/part", part)
    browser = web.browser()
    browser.client.application = served_by_wsgi(AuthMiddleware(app, auth), web.host)  # type: ignore[arg-type]
    assert browser.get("/part/members").status_code == 401
    response = browser.get("/part/members", html=True, Accept=HTML)
    assert response.location == "/api/auth/login?next=%2Fpart%2Fmembers"
