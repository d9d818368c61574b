"""Small applications, and a test client of FastAPI that needs no further package."""

from __future__ import annotations

from email.message import Message
from http.cookiejar import CookieJar
from types import SimpleNamespace
from typing import Annotated, Any
from urllib.parse import urljoin, urlsplit
from urllib.request import Request

from fastapi import Depends, FastAPI
from flask import Flask
from werkzeug.test import Client as WSGIClient

from pywry_auth.asgi import AuthMiddleware, access_token
from pywry_auth.asgi import current_session as asgi_session
from pywry_auth.deploy_routes import create_auth_blueprint, create_auth_router
from pywry_auth.flask import current_session, get_access_token, login_required
from pywry_auth.models import UserSession
from pywry_auth.state import MemorySessionStore
from pywry_auth.state.token_stores import MemoryTokenStore
from pywry_auth.testing import LocalProvider
from tests.deploy.hosts import Host, served_by_wsgi

SITE = "https://app.example.com"


def parts_of(provider: LocalProvider, **settings: Any) -> dict[str, Any]:
    """Return the arguments of ``create_auth_blueprint``, with stores of their own."""
    return {
        "provider": provider.oauth_provider,
        "session_store": MemorySessionStore(),
        "token_store": MemoryTokenStore(),
        "deploy_settings": provider.deploy_settings.model_copy(update=settings),
    }


def flask_site(provider: LocalProvider, register: dict[str, Any] | None = None, **settings: Any) -> Flask:
    """Return an application with a page of the user and one with the access token."""
    app = Flask("site")
    app.register_blueprint(create_auth_blueprint(**parts_of(provider, **settings)), **(register or {}))

    @app.route("/me", methods=["GET", "POST"])
    @login_required
    def me() -> dict[str, Any]:
        assert current_session
        return {
            "user": current_session.user_id,
            "roles": current_session.roles,
            **current_session.metadata["user_info"],
        }

    app.add_url_rule("/token", view_func=login_required(get_access_token))
    return app


def fastapi_site(provider: LocalProvider, **settings: Any) -> FastAPI:
    """Return the same application in FastAPI."""
    app = FastAPI()
    router = create_auth_router(**parts_of(provider, **settings))
    app.include_router(router)
    app.add_middleware(AuthMiddleware, router=router)

    async def me(session: Annotated[UserSession, Depends(asgi_session)]) -> dict[str, Any]:
        return {"user": session.user_id, "roles": session.roles, **session.metadata["user_info"]}

    async def token(token: Annotated[str, Depends(access_token)]) -> str:
        return token

    app.add_api_route("/me", me, methods=["GET", "POST"])
    app.add_api_route("/token", token)
    return app


class ASGIClient:
    """Has the attributes of Starlette's ``TestClient`` that the helpers use, and a jar like that of httpx.

    Args:
        app: The application.
        base_url: The origin of relative URLs.
    """

    __test__ = False

    def __init__(self, app: FastAPI, base_url: str = "http://testserver") -> None:
        self.app, self.base_url = app, base_url
        self.cookies = SimpleNamespace(jar=CookieJar())
        self._wsgi = WSGIClient(served_by_wsgi(app, Host("fastapi")), use_cookies=False)

    def get(self, url: str, headers: dict[str, str] | None = None, *, follow_redirects: bool = False) -> Any:
        """Send a GET request."""
        assert not follow_redirects
        return self.open("GET", url, headers)

    def post(self, url: str, data: dict[str, str] | None = None, *, follow_redirects: bool = False) -> Any:
        """Send a POST request."""
        assert not follow_redirects
        return self.open("POST", url, data=data)

    def open(
        self,
        method: str,
        url: str,
        headers: dict[str, str] | None = None,
        data: dict[str, str] | None = None,
    ) -> Any:
        """Send a request with the cookies of its URL."""
        whole = urljoin(self.base_url, url)
        request, parts = Request(whole), urlsplit(whole)  # noqa: S310 - only for the jar
        self.cookies.jar.add_cookie_header(request)
        sent = {**(headers or {}), "Cookie": request.get_header("Cookie", "")}
        response = self._wsgi.open(
            f"{parts.path}?{parts.query}",
            method=method,
            base_url=f"{parts.scheme}://{parts.netloc}",
            headers=sent,
            data=data,
        )
        received: Any = SimpleNamespace(info=lambda: _message(response.headers.getlist("Set-Cookie")))
        self.cookies.jar.extract_cookies(received, request)
        return response


def _message(cookies: list[str]) -> Message:
    message = Message()
    for each in cookies:
        message["Set-Cookie"] = each
    return message
