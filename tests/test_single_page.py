"""The single-page application of the documentation, in a real browser behind a development server."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from selenium import webdriver
from werkzeug.middleware.http_proxy import ProxyMiddleware
from werkzeug.serving import BaseWSGIServer, make_server
from werkzeug.wrappers import Response

from pywry_auth.state import get_session_store
from pywry_auth.testing.identity_provider import Client, IdentityProvider
from tests.documents import DOCS, LOCAL_ISSUER, README, block, blocks, exported
from tests.peers.browser import set_appearance
from tests.peers.walk import Walk

_PAGE = DOCS / "single-page.md"
_AWAY = "This is not available at the moment."
_ALICE = ("alice", "wonderland")


def _address(server: BaseWSGIServer) -> str:
    return f"http://127.0.0.1:{server.server_port}"


@contextmanager
def _serving(server: BaseWSGIServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _server(app: Any) -> BaseWSGIServer:
    server = make_server("127.0.0.1", 0, app, threaded=True)
    server.daemon_threads = True  # type: ignore[attr-defined]
    return server


@pytest.fixture
def outage() -> threading.Event:
    """While it is set, the site answers as in an outage of its store."""
    return threading.Event()


@pytest.fixture
def walk(
    chromium: webdriver.Chrome, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, outage: threading.Event
) -> Iterator[Walk]:
    """The page on a development server, which passes ``/auth`` and ``/api`` on to the site."""
    static = tmp_path / "static"
    static.mkdir()
    (static / "index.html").write_text(block(_PAGE, "html", "app.js"))
    (static / "app.js").write_text(block(_PAGE, "js", "showUser"))
    monkeypatch.chdir(tmp_path)
    site = Flask("not yet")
    away = Response(json.dumps({"error_description": _AWAY}), 503, mimetype="application/json")
    site_server = _server(lambda *request: away(*request) if outage.is_set() else site(*request))
    files = Flask("files", static_folder=str(static))
    files.add_url_rule("/", "home", lambda: files.send_static_file("index.html"))
    passed = {
        f"{path}/": {"target": _address(site_server), "remove_prefix": False} for path in ("/auth", "/api")
    }
    server = _server(ProxyMiddleware(files, passed))
    at = _address(server)
    client = Client("pywry-web", "pywry-web-secret", (f"{at}/auth/callback",), (f"{at}/",))
    with ExitStack() as stack:
        idp = stack.enter_context(IdentityProvider(clients=[client], signing_algorithm="ES256"))
        settings = exported(block(README, "sh", "pywry-web"), idp.issuer)
        settings |= exported(
            block(_PAGE, "sh", "PUBLIC_BASE_URL").replace("http://127.0.0.1:8000", at), idp.issuer
        )
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("PYWRY_DEPLOY__SQLITE_PATH", str(tmp_path / "site.sqlite3"))
        names: dict[str, Any] = {"__name__": "own"}
        exec(blocks(_PAGE, "python")[0].replace(LOCAL_ISSUER, idp.issuer), names)  # noqa: S102
        site = names["app"]
        stack.enter_context(_serving(site_server))
        stack.enter_context(_serving(server))
        chromium.execute_cdp_cmd("Network.clearBrowserCookies", {})
        set_appearance(chromium)
        yield Walk(chromium, at)
        chromium.get("about:blank")


def test_a_user_signs_in_loads_data_and_signs_out(walk: Walk, outage: threading.Event) -> None:
    """An outage signs no user out, and the page says so."""

    def shows(text: str) -> None:
        walk.wait_for(lambda: text in walk.text, text)

    walk.go("/?page=2")
    shows("Not signed in")
    walk.press("Load")
    shows("Sign in to continue.")
    walk.press("Sign in")
    walk.sign_in(*_ALICE)
    walk.arrive("/?page=2")
    shows("Alice Example")
    width = "return document.getElementById('picture').naturalWidth"
    walk.wait_for(lambda: walk.driver.execute_script(width) == 96, "the picture")
    walk.press("Load")
    shows("Hello Alice Example")
    walk.press("Sign out")
    walk.arrive_where(lambda path: path.startswith("/?state="))
    shows("Not signed in")
    walk.press("Sign in")
    walk.sign_in(*_ALICE)  # the user was signed out at the provider too
    walk.arrive_where(lambda path: path.startswith("/?state="))
    shows("Alice Example")
    outage.set()
    for button in ("Load", "Sign out"):
        walk.press(button)
        shows(_AWAY)
        shows("Alice Example")
        walk.driver.execute_script("document.getElementById('text').textContent = ''")
    walk.go("/")
    shows(_AWAY)
    assert "Not signed in" not in walk.text
    outage.clear()
    walk.go("/")
    shows("Alice Example")
    get_session_store().delete_user_sessions("user-alice")
    walk.press("Load")
    shows("Sign in to continue.")
    shows("Not signed in")
