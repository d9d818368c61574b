"""Two sites below paths of one host, behind one nginx, as the documentation describes."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Thread

import pytest
import requests
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
from tests.peers.tls import TLSFiles
from tests.peers.web_server import Visitor
from tests.person import Person
from tests.test_deployed_site import ShippedNginx

_SITES = ("shop", "wiki")
_SECRET = "a secret of the client at the provider"
_PAGE = DOCS / "deploy" / "proxies.md"


class _TwoSites(ShippedNginx):
    """The shipped nginx, with the block of the documentation for each of two sites."""

    ports: dict[str, int]

    def _server(self, port: int) -> str:
        below = block(_PAGE, "nginx", "location /shop/")
        below = below.replace("/var/log/nginx/app.error.log", f"{self.folder}/error.log")
        parts = [
            below.replace("/shop", f"/{name}").replace("127.0.0.1:8000", f"127.0.0.1:{self.ports[name]}")
            for name in _SITES
        ]
        whole, count = re.subn(
            r"    # For Prometheus.*\}\n\}\n",
            lambda _: "".join(parts) + "}\n",
            super()._server(port),
            flags=re.S,
        )
        assert count == 1
        return whole


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


@pytest.fixture
def down(tls_files: TLSFiles, tmp_path: Path) -> Iterator[_TwoSites]:
    """An nginx in front of two sites that are down."""
    nginx = _TwoSites(tmp_path, tls_files)
    with socket.socket() as first, socket.socket() as second:
        for each in (first, second):
            each.bind(("127.0.0.1", 0))  # and does not listen
        nginx.ports = dict(zip(_SITES, (first.getsockname()[1], second.getsockname()[1]), strict=True))
        with nginx.before(nginx.ports["shop"]):
            requests.get(nginx.url, verify=str(tls_files.ca), timeout=30)  # it has opened all its sockets
            yield nginx


@pytest.mark.parametrize("name", _SITES)
def test_nginx_protects_the_routes_below_a_path(name: str, down: _TwoSites, tls_files: TLSFiles) -> None:
    """As it does without a path: no code in a log, no routes for machines, and limits of logins. [T31]"""
    visitor = Visitor(down.url, ca=str(tls_files.ca))
    for path in ("metrics", "ready", "/ready", "%72eady", "../auth/metrics"):
        answer = visitor.get(f"/{name}/auth/{path}")
        assert (answer.status_code, "<center>nginx" in answer.text) == (404, True), path
    for _ in range(60):
        visitor.get(f"/{name}/auth/callback/oidc?code=canary-code")
    assert {visitor.get(f"/{name}/auth/login").status_code for _ in range(60)} >= {429}
    assert {visitor.post(f"/{name}/auth/backchannel-logout").status_code for _ in range(60)} == {502}
    assert f"POST /{name}/auth/backchannel-logout" in down.error_log()
    assert f"GET /{name}/auth/callback" in down.log()
    assert f'"GET /{name}/auth/callback/oidc" 429' in down.log()
    assert "canary-code" not in down.log() + down.error_log()
