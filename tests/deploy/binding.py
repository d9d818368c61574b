"""The cookie that ties a browser's logins to it, whose name is known to nobody beforehand."""

from __future__ import annotations

from http.cookies import SimpleCookie

from werkzeug.test import TestResponse

from tests.deploy.web import Browser, set_cookies

BINDING = "pywry_session_login"
"""What its name begins with, unless the session cookie has another name."""


def binding_of(browser: Browser) -> str:
    """Return the cookie's value; this begins a login, which leaves a browser that has one its own."""
    return binding_set_by(browser.get("/auth/login"))[1]


def binding_set_by(response: TestResponse) -> tuple[str, str]:
    """Return name and value of the cookie with which a login begins."""
    (header,) = set_cookies(response).values()
    (morsel,) = SimpleCookie(header).values()
    return morsel.key, morsel.value
