"""The routes ``status`` and ``userinfo``, and all routes' headers and errors."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pywry_auth.state.auth import AuthConfig
from pywry_auth.state.sessions import issue_session_token
from tests.deploy.web import SECRET, Browser, Web, set_cookies

SIGNED_OUT: dict[str, object] = {
    **{"authenticated": False, "user_id": None, "roles": [], "expires_at": None},
    **{"name": None, "picture": None},
}


def test_a_new_store_has_no_session(web_on: Web) -> None:
    """With a new store of every backend. [T11]"""
    response = web_on.browser().get("/auth/status")
    assert (response.status_code, response.json) == (200, SIGNED_OUT)
    assert not set_cookies(response)


def test_the_status_has_user_roles_and_expiry(web_on: Web) -> None:
    browser = web_on.browser()
    browser.sign_in()
    (session,) = web_on.sessions.list_user_sessions("user-alice")
    response = browser.get("/auth/status")
    assert response.status_code == 200
    assert response.json == {
        "authenticated": True,
        "user_id": "user-alice",
        "roles": ["viewer"],
        "expires_at": session.expires_at,
        "name": "Alice Example",
        "picture": f"{web_on.idp.issuer}/pictures/alice.png",
    }
    assert not set_cookies(response)


def test_userinfo_is_the_unchanged_profile_from_the_provider(web_on: Web) -> None:
    browser = web_on.browser()
    browser.sign_in(username="bob")
    response = browser.get("/auth/userinfo")
    assert response.status_code == 200
    assert response.json == {
        "user_id": "user-bob",
        "roles": ["viewer"],
        "user_info": {
            "sub": "user-bob",
            "name": "Bob Example",
            "given_name": "Bob",
            "family_name": "Example",
            "preferred_username": "bob",
            "picture": f"{web_on.idp.issuer}/pictures/bob.png",
            "email": "bob@example.com",
            "email_verified": False,
        },
    }


def test_userinfo_requires_a_session(web: Web) -> None:
    response = web.browser().get("/auth/userinfo")
    assert response.status_code == 401
    assert set(response.json) == {"error", "error_description"}
    assert response.json["error"] == "not_signed_in"
    assert response.headers["WWW-Authenticate"] == 'Bearer realm="session"'


def test_an_api_client_has_a_status_too(web: Web) -> None:
    token = issue_session_token(web.sessions, "robot", ["editor"], 60)
    status = web.browser().get("/auth/status", Authorization=f"Bearer {token}").json
    assert (status["authenticated"], status["user_id"], status["roles"]) == (True, "robot", ["editor"])
    assert status["name"] is status["picture"] is None
    info = web.browser().get("/auth/userinfo", Authorization=f"bearer   {token} ").json
    assert info == {"user_id": "robot", "roles": ["editor"], "user_info": {}}


_REQUESTS = (
    ("GET", "/auth/login"),
    ("GET", "/auth/callback"),
    ("GET", "/auth/callback?state=a&state=b"),
    ("POST", "/auth/refresh"),
    ("GET", "/auth/refresh"),
    ("POST", "/auth/logout"),
    ("GET", "/auth/logout"),
    ("GET", "/auth/userinfo"),
    ("POST", "/auth/userinfo"),
    ("GET", "/auth/status"),
    ("POST", "/auth/status"),
    ("HEAD", "/auth/status"),
    ("HEAD", "/auth/login"),
    ("POST", "/auth/login"),
    ("GET", "/auth/nothing"),
    ("GET", "/auth/status/"),
    ("POST", "/auth/callback"),
)


@pytest.mark.parametrize("html", [True, False])
@pytest.mark.parametrize("signed_in", [True, False])
def test_no_response_under_auth_is_cached(web: Web, html: bool, signed_in: bool) -> None:
    """Errors have one form, as JSON or page, also 404 and 405. [T30]"""
    for method, path in _REQUESTS:
        browser = web.browser()
        if signed_in:
            browser.sign_in()
        ask = {"GET": browser.get, "POST": browser.post, "HEAD": browser.head}[method]
        response = ask(path, html=html)
        case = f"{method} {path}"
        assert response.headers["Cache-Control"] == "no-store", case
        assert "Cookie" in response.headers["Vary"], case
        assert response.status_code < 500, case
        if response.status_code >= 400 and method != "HEAD":
            if html:
                assert "Content-Security-Policy" in response.headers, case
                assert '<a class="button" href="/' in response.text, case
            else:
                assert set(response.json) - {"reference"} == {"error", "error_description"}, case
                assert all(response.json.values()), case


def test_a_405_response_lists_the_allowed_methods(web: Web) -> None:
    for path, right in (("/auth/login", "GET"), ("/auth/callback", "GET"), ("/auth/status", "GET")):
        response = web.browser().post(path)
        assert response.status_code == 405
        assert right in response.headers["Allow"]
    for path in ("/auth/refresh", "/auth/logout"):
        response = web.browser().get(path)
        assert response.status_code == 405
        assert "POST" in response.headers["Allow"]
        assert response.json["error"] == "method_not_allowed"
    assert web.browser().get("/auth/other").json["error"] == "not_found"


def test_options_returns_the_methods_of_a_route(web: Web) -> None:
    for path, methods in (("/auth/login", {"GET", "HEAD", "OPTIONS"}), ("/auth/logout", {"OPTIONS", "POST"})):
        response = web.client().open(path, method="OPTIONS")
        assert (response.status_code, response.text) == (200, "")
        assert {method.strip() for method in response.headers["Allow"].split(",")} == methods
        assert response.headers["Cache-Control"] == "no-store"


def test_the_applications_own_pages_are_unchanged(web: Web) -> None:
    """Outside the prefix, errors and headers come from the application."""
    response = web.browser().get("/nothing")
    assert response.status_code == 404
    assert "Cache-Control" not in response.headers
    assert "Not Found" in response.text
    assert "Cache-Control" not in web.browser().get("/public").headers
    assert web.browser().get("/authors").headers.get("Cache-Control") is None


def test_with_sign_in_disabled_no_session_is_valid_and_a_warning_is_logged(
    make_web: Callable[..., Web], alice: Browser, web: Web, caplog: pytest.LogCaptureFixture
) -> None:
    """Guards refuse, also with an earlier session. The variable is ``AUTH_ENABLED``."""
    off = make_web(web.backend, config=AuthConfig(token_secret=SECRET), settings={"auth_enabled": False})
    assert "AUTH_ENABLED" in caplog.text
    browser = off.browser()
    browser.plant("pywry_session", alice.cookie() or "")
    token = issue_session_token(off.sessions, "robot", ["admin"], 60)
    for headers in ({}, {"Authorization": f"Bearer {token}"}):
        assert browser.get("/auth/status", html=False, **headers).json == SIGNED_OUT
        assert browser.get("/members", html=False, **headers).status_code == 401
        assert browser.get("/admin", html=False, **headers).status_code == 401
        assert browser.get("/write", html=False, **headers).status_code == 401
        assert browser.get("/who", html=False, **headers).json["user_id"] is None
        for path in ("/auth/login", "/auth/callback?state=x", "/auth/userinfo"):
            response = browser.get(path, html=False, **headers)
            assert (response.status_code, response.json["error"]) == (503, "auth_disabled")
        for path in ("/auth/refresh", "/auth/logout"):
            assert browser.post(path, html=False, **headers).status_code == 503
    assert off.browser().get("/public").status_code == 200
    assert alice.user == "user-alice", "the session remains valid on an enabled site"


@pytest.mark.parametrize(
    ("settings", "chosen", "status"),
    [
        ({}, None, 302),
        ({"auth_enabled": False}, None, 503),
        ({}, False, 503),
        ({"auth_enabled": False}, True, 302),
        ({"auth_enabled": True}, False, 503),
    ],
)
def test_a_provider_in_code_switches_sign_in_on_unless_it_is_set_otherwise(
    make_web: Callable[..., Web], settings: dict[str, bool], chosen: bool | None, status: int
) -> None:
    """``AuthConfig`` takes precedence over the variable. [S3]"""
    web = make_web(config=AuthConfig(chosen), settings=settings)
    assert web.browser().get("/auth/login").status_code == status
