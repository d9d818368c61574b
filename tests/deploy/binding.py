"""The cookie that binds logins to a browser, under an unpredictable name."""

from __future__ import annotations

from http.cookies import SimpleCookie

from werkzeug.test import TestResponse

from tests.deploy.web import Browser, set_cookies

BINDING = "pywry_session_login"
"""The beginning of its name, if the session cookie has the default name."""


def binding_of(browser: Browser) -> str:
    """Begin a login, and return the binding cookie's value.

    A browser that already has a binding cookie keeps it.
    """
    return binding_set_by(browser.get("/auth/login"))[1]


def binding_set_by(response: TestResponse) -> tuple[str, str]:
    """Return name and value of the cookie that a login sets."""
    (header,) = set_cookies(response).values()
    (morsel,) = SimpleCookie(header).values()
    return morsel.key, morsel.value
