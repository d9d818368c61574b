"""Two sites below paths of one host, behind one nginx, as the documentation describes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Thread

import pytest
from flask import Flask
from werkzeug.serving import make_server

from pywry_auth.config import DeploySettings
from pywry_auth.deploy_routes import create_auth_blueprint
from pywry_auth.flask import current_session
from pywry_auth.providers.oidc import GenericOIDCProvider
from pywry_auth.state.auth import AuthConfig
from pywry_auth.state.session_stores import MemorySessionStore
from pywry_auth.state.token_stores import MemoryTokenStore
from pywry_auth.testing.identity_provider import Client, IdentityProvider
from tests.documents import DOCS, block
from tests.peers.nginx import Nginx
from tests.peers.tls import TLSFiles
from tests.peers.web_server import Visitor
from tests.person import Person

_SITES = ("shop", "wiki")
_SECRET = "a secret of the client at the provider"
_PAGE = DOCS / "deploy" / "proxies.md"


class _TwoSites(Nginx):
    """An nginx with the block of the documentation for each of two sites."""

    ports: dict[str, int]

    def _server(self, port: int) -> str:
        whole = super()._server(port)
        below = block(_PAGE, "nginx", "location /shop/")
        parts = [
            below.replace("/shop", f"/{name}").replace("127.0.0.1:8000", f"127.0.0.1:{self.ports[name]}")
            for name in _SITES
        ]
        return re.sub(r"(?=    location / \{)", lambda _: "\n".join(parts), whole, count=1)


def _site(name: str, issuer: str, cookie: str) -> Flask:
    app = Flask(name)
    settings = DeploySettings(
        auth_session_cookie=cookie,
        trusted_proxy_hops=1,
        trust_forwarded_prefix=True,
        login_rate_limit="1000/minute",
    )
    provider = GenericOIDCProvider("sites", _SECRET, issuer_url=issuer)
    auth = create_auth_blueprint(
        provider,
        MemorySessionStore(),
        MemoryTokenStore(),
        settings,
        AuthConfig(token_secret=f"the secret of the site {name}, at its own path"),
    )
    app.register_blueprint(auth)
    app.add_url_rule("/me", "me", lambda: current_session.user_id if current_session else "a stranger")
    return app


@contextmanager
def _served(app: Flask) -> Iterator[int]:
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def _sites(files: TLSFiles, folder: Path, cookies: dict[str, str]) -> Iterator[Visitor]:
    """Serve both sites, and yield a browser."""
    nginx = _TwoSites(folder, files)
    uris = tuple(f"{nginx.url}/{name}/auth/callback" for name in _SITES)
    with IdentityProvider(clients=[Client("sites", _SECRET, uris)]) as idp, ExitStack() as stack:
        apps = {name: _site(name, idp.issuer, cookies[name]) for name in _SITES}
        nginx.ports = {name: stack.enter_context(_served(app)) for name, app in apps.items()}
        stack.enter_context(nginx.before(nginx.ports["shop"]))
        yield Visitor(nginx.url, Person(), str(files.ca))


def _users(visitor: Visitor) -> list[str]:
    return [visitor.get(f"/{name}/me").text for name in _SITES]


def test_two_sites_with_a_cookie_name_each_keep_their_sessions(tls_files: TLSFiles, tmp_path: Path) -> None:
    """Each callback returns to its own path, and a sign-out at one is none at the other. [S8]"""
    with _sites(tls_files, tmp_path, {name: f"__Host-{name}" for name in _SITES}) as visitor:
        for name in _SITES:
            answer = visitor.sign_in(f"/{name}/auth/login?next=/{name}/me")
            assert answer.headers["Location"].endswith(f"/{name}/me")
        assert _users(visitor) == ["user-alice"] * 2
        assert {"__Host-shop", "__Host-wiki"} <= {cookie.name for cookie in visitor.cookies}
        visitor.post("/shop/auth/logout")
        assert _users(visitor) == ["a stranger", "user-alice"]


def test_two_sites_with_one_cookie_name_are_told_apart_in_the_log(
    tls_files: TLSFiles, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A sign-in at one site replaces the cookie of the other, and no site accepts a foreign cookie. [S8]"""
    with _sites(tls_files, tmp_path, dict.fromkeys(_SITES, "__Host-session")) as visitor:
        visitor.sign_in("/shop/auth/login")
        assert _users(visitor) == ["user-alice", "a stranger"]
        visitor.sign_in("/wiki/auth/login")
        assert _users(visitor) == ["a stranger", "user-alice"]
    assert "give each site on this host another name of the cookie" in caplog.text
    assert "PYWRY_DEPLOY__AUTH_SESSION_COOKIE" in caplog.text
