"""A site with one signed-in user, without a network; each door sends it one request at a time."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from html.parser import HTMLParser
from typing import Any

from werkzeug.datastructures import Headers
from werkzeug.test import create_environ, run_wsgi_app

from pywry_auth.backends.memory import MemoryBackend
from pywry_auth.testing.identity_provider import IdentityProvider
from tests.deploy.hosts import FLASK, HOSTS, Host
from tests.deploy.web import CLIENT_SECRET, SITE, SITE_CLIENT, Browser, Web
from tests.lifecycle.in_process import InProcessAdapter, InProcessProvider, Subject

FASTAPI = HOSTS[1]
COOKIE = "pywry_session"
_TAGS = re.compile(
    "a|body|br|button|code|d[dlt]|div|form|h1|head|html|li|main|meta|nav|p|span|style|title|ul"
)


@dataclass(frozen=True)
class Received:
    """The site's response."""

    status: int
    headers: Headers
    text: str

    def assert_well_formed(self) -> None:
        """Assert the properties of every response."""
        assert self.status < 500 or self._asks_for_https, f"{self.status} {self.text}"
        assert len(self.headers.getlist("Location")) <= 1
        for name, value in self.headers:
            assert not set(name + value) & set("\r\n\0"), (name, value)
        if self.headers.get("Content-Type", "").startswith("text/html"):
            _Page().feed(self.text)

    @property
    def _asks_for_https(self) -> bool:
        return self.status == 503 and ("invalid_configuration" in self.text or not self.text)

    def begins_session(self) -> bool:
        """Return whether the response sets a session cookie."""
        cookies = self.headers.getlist("Set-Cookie")
        return any(each.startswith(f"{COOKIE}=") and "Max-Age=0" not in each for each in cookies)


class _Page(HTMLParser):
    """Asserts that a page contains only the elements and attributes of this library."""

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        assert _TAGS.fullmatch(tag), tag
        for name, value in attributes:
            assert not name.startswith("on"), name
            assert not (value or "").strip().lower().startswith(("javascript:", "data:", "//")), value


class FuzzedSite:
    """An application at the local identity provider, all in this process.

    Args:
        host: The web host that serves the routes.
        settings: Arguments of ``DeploySettings``.
    """

    def __init__(self, host: Host = FLASK, **settings: Any) -> None:
        self._idp = _idp()
        adapter = InProcessAdapter(self._idp.app, lambda kind: None, lambda kind: None)
        provider = InProcessProvider(SITE_CLIENT.client_id, CLIENT_SECRET, self._idp.issuer, adapter)
        self._web = Web(self._idp, MemoryBackend(), settings=settings, provider=provider, host=host)
        self._subject = Subject(self._idp)
        self.issuer = self._idp.issuer

    def browser(self) -> Browser:
        """Return a new browser without cookies."""
        return self._web.browser()

    def authorize(self, url: str) -> str:
        """Sign in at the provider, and return the URL of the callback."""
        return self._subject.authorize(url)

    def sign_in(self) -> str:
        """Sign in with a new browser, and return the value of its session cookie."""
        browser = self.browser()
        browser.get(self.authorize(browser.begin()), html=True)
        value = browser.cookie()
        assert value is not None
        return value

    def send(self, path: str, environ: Mapping[str, Any], method: str = "GET", body: bytes = b"") -> Received:
        """Send a request, and return the well-formed response.

        Args:
            path: The path of the request.
            environ: Variables of WSGI that replace the usual ones.
            method: The method of the request.
            body: The body of the request.
        """
        sent = create_environ(path, SITE, method=method, data=body) | dict(environ)
        if self._web.host.fastapi:  # a server of ASGI replaces the bytes that are not UTF-8
            path_sent = sent["PATH_INFO"].encode("latin-1").decode(errors="replace")
            sent["PATH_INFO"] = path_sent.encode().decode("latin-1")
        content, status, headers = run_wsgi_app(self._web.wsgi, sent, buffered=True)
        received = Received(int(status[:3]), headers, b"".join(content).decode())
        received.assert_well_formed()
        return received


@cache
def _idp() -> IdentityProvider:
    return IdentityProvider(clients=[SITE_CLIENT], signing_algorithm="ES256")
