"""Both modes at an imitated provider, wired as users wire them."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from flask import Flask
from werkzeug.serving import make_server
from werkzeug.test import TestResponse

from pywry_auth.app import PyWry
from pywry_auth.backends.memory import MemoryBackend
from pywry_auth.config import DeploySettings
from pywry_auth.deploy_routes import create_auth_blueprint
from pywry_auth.models import AuthFlowResult
from pywry_auth.providers.base import OAuthProvider
from pywry_auth.state.auth import AuthConfig
from pywry_auth.state.sessions import SessionStore
from pywry_auth.state.token_stores import MemoryTokenStore
from pywry_auth.state.tokens import TokenStore
from tests.deploy.web import SECRET, SITE, Browser
from tests.person import Person


class Site:
    """An application at one provider, or at several.

    Args:
        provider: The provider, or several.
        settings: Fields of ``DeploySettings``.
    """

    def __init__(self, provider: OAuthProvider | Mapping[str, OAuthProvider], **settings: Any) -> None:
        backend = MemoryBackend()
        self.sessions, self.tokens = SessionStore(backend), TokenStore(backend)
        config = AuthConfig(enabled=True, token_secret=SECRET)
        self.app = Flask("site")
        self.app.register_blueprint(
            create_auth_blueprint(provider, self.sessions, self.tokens, DeploySettings(**settings), config)
        )

    def browser(self) -> Browser:
        """Return a new browser."""
        return Browser(self.app.test_client(), SITE)

    @contextmanager
    def served(self) -> Iterator[str]:
        """Serve the application on the loopback address, for a real browser."""
        server = make_server("127.0.0.1", 0, self.app, threaded=True)
        server.daemon_threads = True  # type: ignore[attr-defined]  # a kept-alive connection would delay it
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

    def roles(self) -> list[str]:
        """Sign in, and return the roles."""
        browser = self.browser()
        come_back(browser)
        roles: list[str] = browser.get("/auth/status").json["roles"]
        return roles


def come_back(browser: Browser) -> TestResponse:
    """Sign in, and return the application's answer to the callback."""
    return browser.get(Person().authorize(browser.begin()))


def signed_in(provider: OAuthProvider) -> tuple[PyWry, AuthFlowResult]:
    """Sign in from a program; return its application and the result."""
    app, person = PyWry(), Person()
    result = app.login(
        provider, token_store=MemoryTokenStore(), show_window=person.open, close_window=person.close
    )
    assert "✅ Authentication Complete" in person.last_page
    return app, result
