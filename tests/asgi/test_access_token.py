"""``Depends(access_token)`` in applications, mounted ones, websockets and with overrides."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI, WebSocket
from starlette.responses import PlainTextResponse

from pywry_auth.asgi import AuthMiddleware, access_token, current_session
from pywry_auth.exceptions import (
    AuthenticationError,
    LoginRequired,
    ProviderBusy,
    TokenError,
    TokenRefreshError,
)
from pywry_auth.models import UserSession
from tests.asgi.test_guards import browser_of, router_of
from tests.asgi.test_middleware import first_message
from tests.deploy.web import Web
from tests.faults import Faults
from tests.peers.asgi_server import served

_USER = "user-alice"
_Token = Annotated[str, Depends(access_token)]


def _expire(web: Web, **changes: Any) -> None:
    tokens = web.tokens.load(_USER)
    assert tokens is not None
    old = replace(tokens, issued_at=time.time() - 4000, **changes)
    assert web.tokens.replace(_USER, old, tokens)


def _app(web: Web) -> tuple[FastAPI, FastAPI]:
    """Return an application and the one that it mounts at ``/part``."""
    router = router_of(web)
    app, part = FastAPI(), FastAPI()
    app.include_router(router)
    app.add_middleware(AuthMiddleware, router=router)
    app.mount("/part", part)

    @part.get("/token")
    def token(token: _Token) -> str:
        return token

    @app.get("/own/{kind}")
    def own(kind: str) -> None:
        kinds = {
            "busy": ProviderBusy,
            "token": TokenError,
            "login": LoginRequired,
            "ended": TokenRefreshError,
        }
        raise kinds[kind]("for a job")

    @app.websocket("/live")
    async def live(websocket: WebSocket, token: _Token) -> None:
        await websocket.accept()
        await websocket.send_text(token)
        await websocket.close()

    return app, part


def test_a_mounted_application_answers(web: Web, faults: Faults) -> None:
    app, part = _app(web)
    browser = browser_of(web, app)
    page = browser.get("/part/token", html=True)
    assert (page.status_code, page.location) == (302, "/auth/login?next=%2Fpart%2Ftoken")
    browser.sign_in(page.location)
    tokens = web.tokens.load(_USER)
    assert tokens is not None
    assert browser.get("/part/token").json == tokens.access_token
    _expire(web)
    faults.down("/token")
    response = browser.get("/part/token")
    assert (response.status_code, response.json["error"]) == (502, "provider_unreachable")
    _expire(web, refresh_token=None)
    response = browser.get("/part/token")
    assert (response.status_code, response.json["error"]) == (401, "reauth_required")
    assert "parameters" not in part.openapi()["paths"]["/token"]["get"]
    assert "security" not in part.openapi()["paths"]["/token"]["get"]


def test_an_override_of_the_session_reaches_the_token(web: Web) -> None:
    app, part = _app(web)
    browser_of(web, app).sign_in()
    tokens = web.tokens.load(_USER)
    assert tokens is not None
    visitor = browser_of(web, app)
    part.dependency_overrides[current_session] = lambda: UserSession("a session", _USER, [])
    assert visitor.get("/part/token").json == tokens.access_token
    part.dependency_overrides[current_session] = lambda: None
    assert visitor.get("/part/token").status_code == 401


@pytest.mark.parametrize(("kind", "status"), [("busy", 503), ("token", 502), ("login", 401), ("ended", 502)])
def test_errors_of_a_path_operation_without_a_guard_are_answered(web: Web, kind: str, status: int) -> None:
    """An application's own handler takes precedence."""
    app, _ = _app(web)
    response = browser_of(web, app).get(f"/own/{kind}")
    assert response.status_code == status
    assert response.json["error"]
    assert ("Retry-After" in response.headers) is (status == 503)
    app, _ = _app(web)
    app.add_exception_handler(AuthenticationError, _own)
    assert browser_of(web, app).get(f"/own/{kind}").status_code == 418


def test_a_view_whose_job_lost_its_grant_offers_a_sign_in(web: Web) -> None:
    """To wait would not help."""
    app, _ = _app(web)
    page = browser_of(web, app).get("/own/ended", html=True)
    assert "sign in again" in page.text
    assert "try again in a minute" not in page.text
    assert 'href="/auth/login?next=%2Fown%2Fended"' in page.text


async def _own(request: Any, error: Exception) -> PlainTextResponse:
    return PlainTextResponse("own", 418)


def test_a_websocket_gets_the_token_or_is_refused(web: Web) -> None:
    app, _ = _app(web)
    browser = browser_of(web, app)
    browser.sign_in()
    tokens = web.tokens.load(_USER)
    assert tokens is not None
    with served(app) as address:
        cookie, own = f"pywry_session={browser.cookie()}", f"http://{address}"
        assert first_message(address, "/live") == 403
        assert first_message(address, "/live", Cookie=cookie, Origin=own) == tokens.access_token
        _expire(web, refresh_token=None)
        assert first_message(address, "/live", Cookie=cookie, Origin=own) == 403


def test_a_token_on_the_whole_application_leaves_the_routes_of_sign_in_open(web: Web) -> None:
    router = router_of(web)
    app = FastAPI(dependencies=[Depends(access_token)])
    app.include_router(router)
    app.add_middleware(AuthMiddleware, router=router)
    browser = browser_of(web, app)
    browser.sign_in()
    assert browser.user == _USER
