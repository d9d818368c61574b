"""Test clients of Flask, Starlette and FastAPI, as the browsers of an application."""

from __future__ import annotations

from email.message import Message
from typing import TYPE_CHECKING, Any, Protocol, cast
from urllib.parse import urlsplit
from urllib.request import Request as URLRequest

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from http.cookiejar import CookieJar

    from flask import Flask
    from werkzeug.test import Client as WSGIClient

    from pywry_auth.deploy.auth_routes import AuthRoutes
    from pywry_auth.deploy.cookies import Cookie

_OTHER_KIND = (
    "pass app.test_client() of a Flask application, or a TestClient of a Starlette or FastAPI application, "
    "not an object of the type {}."
)


class ClientBrowser(Protocol):
    """The browser that a test client stands for."""

    @property
    def routes(self) -> AuthRoutes:
        """The authentication routes of the application."""

    @property
    def base_url(self) -> str:
        """Scheme, host and port of the client's requests."""

    @property
    def advice(self) -> str:
        """The change of the client or application after which sign-in may be tested."""

    def path_of(self, name: str) -> str:
        """Return the path of a route.

        Args:
            name: For example ``login``.
        """

    def get(self, url: str, headers: Mapping[str, str]) -> Any:
        """Return the client's own response to a GET request; redirects are not followed."""

    def post(self, url: str, form: Mapping[str, str]) -> Any:
        """Return the response to a form of another program.

        Such a program has no cookies.
        """

    def cookies(self) -> list[str]:
        """Return the values of the session cookies that the client has."""

    def keep(self, value: str, base_url: str) -> None:
        """Put a session cookie into the client's jar.

        Args:
            value: The cookie's value.
            base_url: The origin of the cookie.
        """

    def forget(self) -> None:
        """Remove the session cookies from the client's jar."""


def browser_of(client: object) -> ClientBrowser:
    """Return the browser that a test client stands for.

    Args:
        client: A test client of Flask, Starlette or FastAPI.

    Raises:
        AuthenticationError: The application has no authentication routes, or no middleware that finds
            sessions.
        TypeError: The client is of another kind.
    """
    from flask import Flask
    from werkzeug.test import Client as WSGIClient

    if isinstance(client, WSGIClient) and isinstance(client.application, Flask):
        return FlaskBrowser(client, client.application)
    if all(hasattr(client, name) for name in ("app", "base_url", "cookies", "get")):
        return ASGIBrowser(client)
    raise TypeError(_OTHER_KIND.format(type(client).__name__))


class FlaskBrowser:
    """The browser of a Flask application.

    Args:
        client: The test client.
        app: Its application.
    """

    advice = (
        "in the tests, set PYWRY_DEPLOY__PUBLIC_BASE_URL to the site's address on https, or SERVER_NAME to "
        "None"
    )

    def __init__(self, client: WSGIClient, app: Flask) -> None:
        from pywry_auth.deploy.flask_adapter import routes_of_app

        self._client, self._app = client, app
        with app.app_context():
            self.routes = routes_of_app()

    @property
    def base_url(self) -> str:
        """Scheme, host and port of the client's requests."""
        host = self._app.config.get("SERVER_NAME") or "localhost"
        return f"{self._app.config['PREFERRED_URL_SCHEME']}://{host}"

    def path_of(self, name: str) -> str:
        """Return the path of a route, or its URL if the routes are on another host."""
        from flask import url_for

        from pywry_auth.deploy.flask_adapter import AuthBlueprint

        found = self._app.blueprints.items()
        blueprint = next(key for key, each in found if isinstance(each, AuthBlueprint))
        with self._app.test_request_context():
            return url_for(f"{blueprint}.{name}")

    def get(self, url: str, headers: Mapping[str, str]) -> Any:
        """Return the response to a GET request.

        Flask puts ``APPLICATION_ROOT`` before the path.
        """
        return self._client.get(self._below_root(url), headers=dict(headers), follow_redirects=False)

    def post(self, url: str, form: Mapping[str, str]) -> Any:
        """Return the response to a form of another program."""
        other = self._app.test_client(use_cookies=False)
        return other.post(self._below_root(url), data=dict(form), follow_redirects=False)

    def cookies(self) -> list[str]:
        """Return the values of the session cookies."""
        return [each.value for each in self._jar()]

    def keep(self, value: str, base_url: str) -> None:
        """Put a session cookie into the jar.

        Werkzeug's client also sends a ``Secure`` cookie over plain http.
        """
        host = urlsplit(base_url).hostname or ""
        secure = _is_secure(self.routes, base_url)
        self._client.set_cookie(
            self._cookie.name, value, domain=host, secure=secure, httponly=True, samesite="Lax"
        )

    def forget(self) -> None:
        """Remove the session cookies."""
        for each in self._jar():
            self._client.delete_cookie(each.key, domain=each.domain, path=each.path)

    def _below_root(self, url: str) -> str:
        parts, root = urlsplit(url), self._app.config["APPLICATION_ROOT"].rstrip("/")
        if parts.path.startswith(f"{root}/"):
            return parts._replace(path=parts.path.removeprefix(root)).geturl()
        return url

    @property
    def _cookie(self) -> Cookie:
        return self.routes.sessions.cookie

    def _jar(self) -> list[Any]:
        stored = getattr(self._client, "_cookies", None) or {}  # Werkzeug has no public list
        return [each for each in stored.values() if each.key == self._cookie.name]


class ASGIBrowser:
    """The browser of a Starlette or FastAPI application.

    Args:
        client: The ``TestClient``.
    """

    advice = 'use TestClient(app, base_url="http://localhost")'

    def __init__(self, client: Any) -> None:
        from pywry_auth.asgi.installed import router_of

        self._client = client
        router = router_of(client.app)
        if router is None:
            raise AuthenticationError(
                "This application has no AuthMiddleware, which looks up sessions: "
                "call app.add_middleware(AuthMiddleware, router=…). If a mounted application has it, use a "
                "TestClient of that one.",
                error=ErrorCode.INVALID_CONFIGURATION,
            )
        self._router = router
        self.routes = router.auth_routes

    @property
    def base_url(self) -> str:
        """Scheme, host and port of the client's requests."""
        parts = urlsplit(str(self._client.base_url))
        return f"{parts.scheme}://{parts.netloc}"

    def path_of(self, name: str) -> str:
        """Return the path of a route."""
        return f"{self._router.prefix_in(self._client.app)}/{name}"

    def get(self, url: str, headers: Mapping[str, str]) -> Any:
        """Return the response to a GET request."""
        return self._client.get(url, headers=dict(headers), follow_redirects=False)

    def post(self, url: str, form: Mapping[str, str]) -> Any:
        """Return the response to a form of another program."""
        other = type(self._client)(self._client.app, base_url=self.base_url)
        return other.post(url, data=dict(form), follow_redirects=False)

    def cookies(self) -> list[str]:
        """Return the values of the session cookies."""
        return [each.value or "" for each in self._jar if each.name == self._name]

    def keep(self, value: str, base_url: str) -> None:
        """Put a session cookie into the jar.

        Raises:
            AuthenticationError: The client would not send the cookie, because it is for https only.
        """
        from werkzeug.wrappers import Response

        secure = _is_secure(self.routes, base_url)
        if secure and not base_url.startswith("https:"):
            raise AuthenticationError(
                "The session cookie of this site is sent over https only, and the client's base_url is "
                f'{base_url}: use TestClient(app, base_url="{_https(self.routes, base_url)}").',
                error=ErrorCode.INVALID_CONFIGURATION,
            )
        response = Response()
        self.routes.sessions.cookie.set(response, value, self.routes.options.session_ttl, secure)
        self._jar.extract_cookies(cast("Any", _Headers(response.headers["Set-Cookie"])), URLRequest(base_url))  # noqa: S310 - not opened

    def forget(self) -> None:
        """Remove the session cookies."""
        for each in [each for each in self._jar if each.name == self._name]:
            self._jar.clear(each.domain, each.path, each.name)

    @property
    def _jar(self) -> CookieJar:
        return cast("CookieJar", self._client.cookies.jar)

    @property
    def _name(self) -> str:
        return self.routes.sessions.cookie.name


class _Headers:
    """The headers of a response, as the standard library's cookie jar reads them."""

    def __init__(self, set_cookie: str) -> None:
        self._message = Message()
        self._message["Set-Cookie"] = set_cookie

    def info(self) -> Message:
        return self._message


def _is_secure(routes: AuthRoutes, base_url: str) -> bool:
    options = routes.options
    always = options.session_cookie.startswith(("__Host-", "__Secure-"))
    if options.cookie_secure != "auto":
        return always or options.cookie_secure == "true"
    return always or (options.public_origin or base_url).startswith("https:")


def _https(routes: AuthRoutes, base_url: str) -> str:
    return routes.options.public_origin or f"https://{urlsplit(base_url).netloc}"
