"""A web application at a real provider, and browsers that sign in there."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from flask import Blueprint, Flask, g
from markupsafe import escape
from werkzeug.exceptions import NotFound
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.serving import make_server
from werkzeug.test import Client as WSGIClient
from werkzeug.test import TestResponse

from pywry_auth.backends.base import Backend, Terms
from pywry_auth.config import DeploySettings
from pywry_auth.deploy_routes import create_auth_blueprint
from pywry_auth.exceptions import StoreUnavailable
from pywry_auth.flask import (
    current_session,
    login_required,
    permission_required,
    protect_from_csrf,
    roles_required,
    scopes_required,
)
from pywry_auth.providers.oidc import GenericOIDCProvider
from pywry_auth.state.auth import AuthConfig
from pywry_auth.state.sessions import SessionStore
from pywry_auth.state.tokens import TokenStore
from pywry_auth.testing.identity_provider import Client, IdentityProvider
from tests.deploy.hosts import CHANGING, FLASK, PROTECTED, Host, fastapi_app, served_by_wsgi
from tests.person import Person

SITE = "http://127.0.0.1"
SECRET = "the site's own long secret for tests"
CLIENT_SECRET = "s3cret-of-the-client"
HTML = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
_CALLBACKS = (
    f"{SITE}/auth/callback",
    "https://app.example.com/auth/callback",
    "https://app.example.com/app/auth/callback",
    "https://app.example.com/app/account/callback",
    f"{SITE}/app/auth/callback",
    "http://app.localhost:8000/auth/callback",
    f"{SITE}/api/v1/auth/callback",
    f"{SITE}/account/callback",
)
_HOMES = (
    *(f"{SITE}/", f"{SITE}/app/", "https://app.example.com/app/"),
    *(f"{SITE}/auth/signed-out", f"{SITE}/app/auth/signed-out", f"{SITE}/api/v1/auth/signed-out"),
    "https://app.example.com/app/auth/signed-out",
)
SITE_CLIENT = Client("site", CLIENT_SECRET, _CALLBACKS, _HOMES)


class WatchedBackend(Backend):
    """Records the operations of another backend, and fails on demand."""

    def __init__(self, inner: Backend) -> None:
        self._inner = inner
        self.shared = inner.shared
        self.operations: list[str] = []
        self.fails: Callable[[int], bool] = lambda number: False
        self._lock = threading.Lock()

    def get(self, key: str) -> bytes | None:
        self._note("get", key)
        return self._inner.get(key)

    def put(self, key: str, value: bytes, terms: Terms = Terms()) -> bool:
        self._note("put", key)
        return self._inner.put(key, value, terms)

    def pop(self, key: str, expected: bytes | None = None, *, group: str | None = None) -> bytes | None:
        self._note("pop", key)
        return self._inner.pop(key, expected, group=group)

    def members(self, group: str) -> list[str]:
        self._note("members", group)
        return self._inner.members(group)

    def count(self, key: str, window: float) -> int:
        self._note("count", key)
        return self._inner.count(key, window)

    def prune(self, kind: str, within: float = 0.0) -> int:
        return self._inner.prune(kind, within)

    def close(self) -> None:
        self._inner.close()

    def forget(self) -> None:
        """Remove the recorded operations."""
        self.operations.clear()

    def _note(self, operation: str, key: str) -> None:
        with self._lock:
            number = len(self.operations)
            self.operations.append(f"{operation} {key.partition(':')[0]}")
        if self.fails(number):
            raise StoreUnavailable("The store is down: a simulated failure.")


@dataclass
class Web:
    """One instance of an application, on stores that can be shared.

    Args:
        idp: The provider where users sign in.
        backend: The backend of all stores.
        settings: The arguments of ``DeploySettings``.
        config: Options set in code.
        register: The arguments of ``register_blueprint``.
        base_url: The site's URL for browsers; by default a URL with the host's path.
        host: The web host that serves the routes.
        provider: A provider in place of the default one for ``idp``, or a mapping of several.
        on_sign_in: The site's own decision about each sign-in.
    """

    idp: IdentityProvider
    backend: Backend
    settings: Mapping[str, Any] = field(default_factory=dict)
    config: AuthConfig | None = field(default_factory=lambda: AuthConfig(enabled=True, token_secret=SECRET))
    register: Mapping[str, Any] = field(default_factory=dict)
    base_url: str = ""
    host: Host = FLASK
    provider: Any = None
    use_pkce: bool | None = None
    on_sign_in: Any = None

    def __post_init__(self) -> None:
        """Wire the application."""
        self.sessions = SessionStore(self.backend)
        self.tokens = TokenStore(self.backend)
        if self.provider is None:
            self.provider = GenericOIDCProvider("site", CLIENT_SECRET, issuer_url=self.idp.issuer)
        self.base_url = self.base_url or SITE + self.host.path
        self.deploy_settings = DeploySettings(**{"login_rate_limit": "100000/minute", **self.settings})
        parts = {
            "provider": self.provider,
            "session_store": self.sessions,
            "token_store": self.tokens,
            "deploy_settings": self.deploy_settings,
            "auth_config": self.config,
            "use_pkce": self.use_pkce,
            "on_sign_in": self.on_sign_in,
        }
        self.wsgi = self._fastapi(parts) if self.host.fastapi else self._flask(parts)

    def _flask(self, parts: dict[str, Any]) -> Any:
        self.app: Any = Flask("site")
        self.app.register_blueprint(create_auth_blueprint(**parts), **self.register)
        add_views(self.app)
        return self.app

    def _fastapi(self, parts: dict[str, Any]) -> Any:
        self.app = fastapi_app(self.host, **parts)
        return served_by_wsgi(self.app, self.host)

    def client(self, *, use_cookies: bool = True) -> SiteClient:
        """Return a client that sends requests unchanged."""
        return SiteClient(self, use_cookies=use_cookies)

    def browser(self, address: str = "127.0.0.1") -> Browser:
        """Return a new browser without cookies."""
        return Browser(self.client(), self.base_url, address)

    def at(self, path: str) -> str:
        """Return the public path of a route or view."""
        mount = self.host.mount if path.startswith("/auth/") else ""
        return urlsplit(self.base_url).path + mount + path

    def calls(self) -> Counter[str]:
        """Return how many requests each endpoint of the provider received."""
        return self.idp.calls

    @contextmanager
    def served(self) -> Iterator[str]:
        """Serve with a thread for each connection, and yield the address."""
        app = DispatcherMiddleware(NotFound(), {self.host.path: self.wsgi})
        server = make_server("127.0.0.1", 0, app, threaded=True)
        server.daemon_threads = True  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}{self.host.path}{self.host.mount}"
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


def add_views(app: Flask) -> None:
    """Add a public page, guarded pages and one that shows the user."""

    @app.get("/public")
    def public() -> str:
        return "for all visitors"

    @app.route("/members", methods=["GET", "POST"])
    @login_required
    def members() -> dict[str, Any]:
        assert current_session
        return {"page": PROTECTED, "user_id": current_session.user_id, "roles": g.session.roles}

    @app.get("/who")
    def who() -> dict[str, Any]:
        return {"user_id": g.session.user_id if g.session else None, "again": bool(current_session)}

    @app.get("/admin")
    @roles_required("admin")
    def admin() -> str:
        return PROTECTED

    @app.get("/write")
    @permission_required("write")
    def write() -> str:
        return PROTECTED

    @app.get("/documents/<document>")
    @permission_required("write", "document", "document")
    def edit(document: str) -> str:
        return f"{PROTECTED}: {escape(document)}"

    @app.route("/groups", methods=["GET", "POST"])
    @scopes_required("groups")
    def groups() -> str:
        return PROTECTED

    @app.get("/away")
    @scopes_required("offline_access")
    def away() -> str:
        return PROTECTED

    @app.route("/change", methods=[*CHANGING, "GET", "HEAD", "OPTIONS"])
    @login_required
    def change() -> dict[str, Any]:
        assert current_session
        return {"changed_by": current_session.user_id}

    def done() -> str:
        return "done"

    guards: dict[str, Callable[..., Any]] = {
        "/change/role": roles_required("viewer"),
        "/change/permission": permission_required("read"),
        "/hook": login_required(csrf=False),
        "/hook/role": roles_required("viewer", csrf=False),
        "/hook/permission": permission_required("read", csrf=False),
    }
    for path, guard in guards.items():
        app.add_url_rule(path, path, guard(done), methods=["POST"])
    forms = Blueprint("forms", __name__)
    forms.add_url_rule("/form", "form", done, methods=[*CHANGING, "GET"])
    protect_from_csrf(forms)
    app.register_blueprint(forms)


class SiteResponse(TestResponse):
    """A response whose JSON a test may read without proving that there is any."""

    @property
    def json(self) -> Any:
        """The parsed body, or None if it is not JSON."""
        return self.get_json()


class SiteClient(WSGIClient):
    """Sends requests to an application on any web host.

    ``SITE`` stands for the URL of the application.

    Args:
        web: The application.
        use_cookies: Whether to keep cookies.
    """

    def __init__(self, web: Web, *, use_cookies: bool) -> None:
        super().__init__(web.wsgi, SiteResponse, use_cookies=use_cookies)
        self._base_url, self._mount = web.base_url, web.host.mount

    def open(self, path: str, *args: Any, **arguments: Any) -> SiteResponse:  # type: ignore[override]
        """Send a request to a public path, or to a route as ``/auth/…``."""
        if arguments.get("base_url", SITE) == SITE:
            arguments["base_url"] = self._base_url
        root = urlsplit(arguments["base_url"]).path
        inside = path.removeprefix(root) if path.startswith(f"{root}/") else path
        mount = self._mount if inside.startswith("/auth/") else ""
        response = super().open(mount + inside, *args, **arguments)
        assert isinstance(response, SiteResponse)
        return response

    def get(self, *args: Any, **arguments: Any) -> SiteResponse:
        """Send a GET request."""
        return self.open(*args, method="GET", **arguments)

    def post(self, *args: Any, **arguments: Any) -> SiteResponse:
        """Send a POST request."""
        return self.open(*args, method="POST", **arguments)


class Browser:
    """A user's browser for one application and its provider.

    Args:
        client: The client that keeps the cookies.
        base_url: The URL of the site.
        address: The client address of its requests.
    """

    def __init__(self, client: WSGIClient, base_url: str, address: str = "127.0.0.1") -> None:
        self.client = client
        self.client.response_wrapper = SiteResponse
        self.base_url = base_url
        self._address = address

    def get(self, path: str, html: bool = False, **headers: str) -> SiteResponse:
        """Get a path or URL of the site.

        Names of headers have underscores in place of dashes.
        """
        return self._open("GET", path, html, headers)

    def post(self, path: str, html: bool = False, **headers: str) -> SiteResponse:
        """Send an empty POST."""
        return self._open("POST", path, html, headers)

    def head(self, path: str, html: bool = False, **headers: str) -> SiteResponse:
        """Send a HEAD request."""
        return self._open("HEAD", path, html, headers)

    def begin(self, path: str = "/auth/login", **headers: str) -> str:
        """Start a login, and return the provider's URL."""
        response = self.get(path, html=True, **headers)
        assert response.status_code == 302, (response.status_code, response.text)
        return response.location or ""

    def authorize(self, path: str = "/auth/login", username: str = "alice") -> str:
        """Sign in at the provider, and return the URL of the callback."""
        password = {"alice": "wonderland", "bob": "builder"}[username]
        return Person(username, password).authorize(self.begin(path))

    def sign_in(self, path: str = "/auth/login", username: str = "alice") -> SiteResponse:
        """Sign in, and return the response to the callback."""
        response = self.get(self.authorize(path, username), html=True)
        assert response.status_code == 303, (response.status_code, response.text)
        return response

    def cookie(self, name: str = "pywry_session") -> str | None:
        """Return the value of a cookie of the site."""
        found = self.client.get_cookie(name, urlsplit(self.base_url).hostname or "")
        return found.value if found else None

    def plant(self, name: str, value: str) -> None:
        """Add a cookie, as an attacker could."""
        self.client.set_cookie(name, value, domain=urlsplit(self.base_url).hostname or "")

    @property
    def user(self) -> str | None:
        """The signed-in user's ID according to the application."""
        user: str | None = self.get("/auth/status").json["user_id"]
        return user

    def _open(self, method: str, path: str, html: bool, headers: Mapping[str, str]) -> SiteResponse:
        sent = {"Accept": HTML if html else "application/json"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        target = path.removeprefix(self.base_url)
        response = self.client.open(
            target,
            method=method,
            base_url=self.base_url,
            headers=sent,
            environ_overrides={"REMOTE_ADDR": self._address},
        )
        assert isinstance(response, SiteResponse)
        return response


def set_cookies(response: TestResponse) -> dict[str, str]:
    """Return a response's Set-Cookie headers by the cookie's name."""
    return {header.partition("=")[0]: header for header in response.headers.getlist("Set-Cookie")}


def attributes(header: str) -> dict[str, str]:
    """Return the attributes of one Set-Cookie header, in lower case."""
    (morsel,) = SimpleCookie(header).values()
    return {name: str(value) for name, value in morsel.items() if value}


def with_parameter(url: str, name: str, value: str | None) -> str:
    """Return a URL with one query parameter changed or, for None, removed."""
    from urllib.parse import urlencode

    head, _, query = url.partition("?")
    kept = [pair for pair in parse_qsl(query, keep_blank_values=True) if pair[0] != name]
    return f"{head}?{urlencode(kept + ([] if value is None else [(name, value)]))}"


def parameter(url: str, name: str) -> str:
    """Return one query parameter of a URL."""
    return dict(parse_qsl(urlsplit(url).query))[name]
