"""The door ``form``: method, path, headers and body of a request with the cookie of a signed-in user.

An input looks like a request: a line with method and path, headers, an empty line and the body.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from urllib.parse import urlsplit

from tests.deploy.hosts import FLASK, Host
from tests.deploy.web import SITE
from tests.fuzz.site import COOKIE, FASTAPI, FuzzedSite
from tests.fuzz.whatwg import as_browsers_read

_SITES: tuple[tuple[Host, int], ...] = ((FLASK, 0), (FASTAPI, 0), (FLASK, 1))
"""Web hosts, and the number of proxies in front of each."""


@dataclass(frozen=True)
class _Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def environ(self) -> dict[str, str]:
        plain = {"CONTENT_TYPE", "CONTENT_LENGTH"}
        names = {name: name.upper().replace("-", "_") for name in self.headers}
        return {
            variable if variable in plain else f"HTTP_{variable}": self.headers[name]
            for name, variable in names.items()
            if variable != "CONTENT_LENGTH"
            or re.fullmatch("[0-9]+", self.headers[name])  # as servers require
        }

    @property
    def is_foreign(self) -> bool:
        """Whether a browser says that another site's page caused the request."""
        site, origin = self.headers.get("sec-fetch-site"), self.headers.get("origin")
        if site is not None:
            return site not in ("same-origin", "none")
        return origin is not None and origin != SITE


def check(data: bytes) -> None:
    """Assert that only a POST of this site's own pages changes a session."""
    request = _request(data)
    for host, hops in _SITES:
        _check(_Site.of(host, hops), request, hops)


def _check(site: _Site, request: _Request, hops: int) -> None:
    environ = {**request.environ, "HTTP_COOKIE": f"{COOKIE}={site.session}"}
    path, _, query = request.path.partition("?")
    environ |= {"PATH_INFO": path, "QUERY_STRING": query}
    answer = site.site.send("/", environ, request.method, request.body)
    assert not answer.begins_session()
    location = as_browsers_read(answer.headers.get("Location", "/"), SITE)
    assert location is not None
    own = {SITE, site.site.issuer, *([_forwarded(request)] if hops else [])}
    assert location.origin in own, location
    if site.is_signed_in():
        return
    assert request.method.upper() == "POST"
    assert hops or not request.is_foreign
    site.sign_in()


def _forwarded(request: _Request) -> str:
    """Return the origin that the trusted proxy names."""
    scheme = request.headers.get("x-forwarded-proto", "http").rpartition(",")[2].strip()
    host = request.headers.get("x-forwarded-host", urlsplit(SITE).netloc).rpartition(",")[2].strip()
    read = as_browsers_read(f"{scheme}://{host}/", SITE)
    return read.origin if read else SITE


def _request(data: bytes) -> _Request:
    head, _, body = data.partition(b"\n\n")
    first, *lines = head.decode("latin-1").split("\n")
    method, _, path = first.partition(" ")
    pairs = (line.partition(":") for line in lines)
    headers = {name.strip().lower(): value.strip() for name, colon, value in pairs if colon}
    return _Request(method or "POST", path if path.startswith("/") else "/auth/logout", headers, body)


class _Site:
    """A site with one signed-in user."""

    def __init__(self, host: Host, hops: int) -> None:
        self.site = FuzzedSite(host, trusted_proxy_hops=hops)
        self.session = self.site.sign_in()

    @staticmethod
    @cache
    def of(host: Host, hops: int) -> _Site:
        """Return the one site of a kind."""
        return _Site(host, hops)

    def is_signed_in(self) -> bool:
        answer = self.site.send("/auth/status", {"HTTP_COOKIE": f"{COOKIE}={self.session}"})
        return json.loads(answer.text)["user_id"] is not None

    def sign_in(self) -> None:
        self.session = self.site.sign_in()
