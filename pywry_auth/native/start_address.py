"""The one-time address that leads the browser to the authorization request."""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable
from http import HTTPStatus

from pywry_auth.digests import same_secret
from pywry_auth.native.http_connection import Request
from pywry_auth.native.peer import Address
from pywry_auth.pages import native as pages
from pywry_auth.pages.native import PageResponse

COOKIE = "pywry_sign_in"
"""Marks the browser that has used the address."""

IsSameUser = Callable[[Address, Address], bool]
"""Says whether the user of this process has opened a connection, from its two ends."""

_COOKIE_SECONDS = 3600
_logger = logging.getLogger("pywry_auth.native")


class StartAddress:
    """Redirects one browser to the authorization request.

    Other users of the machine can read the address in the process list. Only the user of this process may use
    it, and only once. The browser that has used it may load it again. The lock guards whether it was used.

    Args:
        url: URL of the authorization request.
        on_second_use: Called when a second browser opens the address.
        is_same_user: Says whether the user of this process has opened a connection.
    """

    def __init__(self, url: str, on_second_use: Callable[[], object], is_same_user: IsSameUser) -> None:
        self._url = url
        self._on_second_use = on_second_use
        self._is_same_user = is_same_user
        self._path = f"/{secrets.token_urlsafe(24)}"
        self._cookie = secrets.token_urlsafe(24)
        self._lock = threading.Lock()
        self._used = False

    @property
    def path(self) -> str:
        """The path of the address."""
        return self._path

    def matches(self, target: str) -> bool:
        """Return whether a request is for this address.

        Args:
            target: Path and query of the request.
        """
        return same_secret(self._path, target)

    def respond(self, request: Request) -> PageResponse:
        """Return the redirect, or a page with the reason against it.

        Args:
            request: A request for this address.
        """
        if request.method not in ("GET", "HEAD"):
            return pages.refused(HTTPStatus.METHOD_NOT_ALLOWED)
        if not self._is_same_user(request.client, request.server):
            _logger.warning("another user of this machine opened the address of a login and was refused")
            return pages.other_user()
        if request.method == "HEAD" or _is_preview(request):
            return PageResponse(HTTPStatus.NO_CONTENT)
        if request.header("Sec-Fetch-Dest") not in ("", "document"):
            return pages.refused(HTTPStatus.FORBIDDEN)  # an image or a frame of another page
        return self._use(request)

    def _use(self, request: Request) -> PageResponse:
        with self._lock:
            allowed = not self._used or self._is_first_browser(request)
            self._used = True
        if allowed:
            return pages.redirect(self._url, self._set_cookie)
        self._on_second_use()
        return pages.opened_twice()

    def _is_first_browser(self, request: Request) -> bool:
        pairs = (pair.strip().partition("=") for pair in request.header("Cookie").split(";"))
        return any(name == COOKIE and same_secret(self._cookie, value) for name, _, value in pairs)

    @property
    def _set_cookie(self) -> str:
        return (
            f"{COOKIE}={self._cookie}; Path={self._path}; Max-Age={_COOKIE_SECONDS}; "
            "HttpOnly; SameSite=Strict"
        )


def _is_preview(request: Request) -> bool:
    """Return whether the browser loads the page before the user has asked for it."""
    purposes = [request.header(name).lower() for name in ("Sec-Purpose", "Purpose", "X-Purpose", "X-Moz")]
    return any("prefetch" in purpose or "preview" in purpose for purpose in purposes)
