"""Cross-site requests that change state are refused without effect. [T27]"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pywry_auth.state.sessions import issue_session_token
from tests.deploy.hosts import CHANGING
from tests.deploy.web import HTML, SITE, Browser, SiteResponse, Web, set_cookies

OWN = [
    {},
    {"Sec-Fetch-Site": "same-origin"},
    {"Sec-Fetch-Site": "none"},
    {"Sec-Fetch-Site": "same-origin", "Origin": SITE},
    {"Sec-Fetch-Site": "same-origin", "Origin": SITE, "Sec-Fetch-Mode": "navigate"},
    {"Origin": SITE},
    {"Referer": "https://evil.example.com/"},
]
FOREIGN = [
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "cross-site", "Origin": SITE},
    {"Sec-Fetch-Site": "same-site", "Origin": "http://other.127.0.0.1"},
    {"Sec-Fetch-Site": ""},
    {"Sec-Fetch-Site": "SAME-ORIGIN "},
    {"Sec-Fetch-Site": "same-origin, cross-site"},
    {"Origin": "null"},
    {"Origin": ""},
    {"Origin": "https://evil.example.com"},
    {"Origin": "https://127.0.0.1"},
    {"Origin": f"{SITE}:8080"},
    {"Origin": f"{SITE}.evil.example.com"},
    {"Origin": f"{SITE}@evil.example.com"},
    {"Origin": f"{SITE}/"},
    {"Origin": "http://sibling.127.0.0.1"},
    {"Origin": f"{SITE} https://evil.example.com"},
]
_BODIES: dict[str, dict[str, Any]] = {
    "nothing": {},
    "form": {"data": {"a": "b"}},
    "text": {"data": "a=b", "content_type": "text/plain"},
    "json": {"json": {"a": "b"}},
    "multipart": {"data": {"a": "b"}, "content_type": "multipart/form-data"},
}


@pytest.mark.parametrize("path", ["/auth/refresh", "/auth/logout", "/auth/logout?everywhere=1"])
@pytest.mark.parametrize("accept", [HTML, "application/json"])
def test_requests_from_another_site_are_refused(web: Web, alice: Browser, path: str, accept: str) -> None:
    before = web.calls()
    for headers in FOREIGN:
        response = _post(alice, path, headers | {"Accept": accept})
        assert response.status_code == 403, headers
        assert "cross_site_request" in response.text
        assert not set_cookies(response)
        assert response.headers["Cache-Control"] == "no-store"
    assert web.calls() == before
    assert alice.user == "user-alice"


@pytest.mark.parametrize("path", ["/auth/refresh", "/auth/logout"])
def test_requests_from_own_pages_and_programs_are_accepted(web: Web, path: str) -> None:
    for headers in OWN:
        browser = web.browser()
        browser.sign_in()
        assert _post(browser, path, headers).status_code == 200, headers


@pytest.mark.parametrize("body", _BODIES)
@pytest.mark.parametrize("own", [True, False])
def test_the_body_does_not_matter(alice: Browser, body: str, own: bool) -> None:
    headers = {"Origin": SITE if own else "https://evil.example.com"}
    response = _post(alice, "/auth/logout", headers, **_BODIES[body])
    assert response.status_code == (200 if own else 403)


@pytest.mark.parametrize("path", ["/auth/refresh", "/auth/logout", "/auth/login", "/auth/callback"])
def test_other_methods_have_no_effect(alice: Browser, path: str) -> None:
    for method in ("PUT", "DELETE", "PATCH", "TRACE", "QUERY"):
        headers = {"Sec-Fetch-Site": "cross-site"}
        response = alice.client.open(path, method=method, base_url=SITE, headers=headers)
        assert response.status_code == 405, method
        assert alice.user == "user-alice", method


def test_a_method_cannot_be_overridden(alice: Browser) -> None:
    for headers in ({"X-HTTP-Method-Override": "POST"}, {"X-Method-Override": "POST"}):
        response = alice.client.get("/auth/logout?_method=POST", base_url=SITE, headers=headers)
        assert response.status_code == 405
    assert alice.user == "user-alice"


def test_the_own_origin_is_that_of_the_public_url(make_web: Callable[..., Web]) -> None:
    """The application itself may be reached under another name and over http. [P6]"""
    web = make_web(settings={"public_base_url": "https://app.example.com"}, base_url="http://10.0.0.7:8000")
    browser = web.browser()
    for origin, status in (
        ("https://app.example.com", 200),
        ("http://10.0.0.7:8000", 403),
        ("http://app.example.com", 403),
        ("https://app.example.com:443", 403),
    ):
        assert browser.post("/auth/logout", Origin=origin).status_code == status


@pytest.mark.parametrize("public", ["https://APP.Example.com:443/", "https://app.example.com:443"])
def test_the_public_origin_is_normalized(make_web: Callable[..., Web], public: str) -> None:
    """Browsers send it in lower case and without the default port (RFC 6454 §4)."""
    web = make_web(settings={"public_base_url": public}, base_url="https://app.example.com")
    assert web.browser().post("/auth/logout", Origin="https://app.example.com").status_code == 200


def test_preflight_requests_get_no_permission(alice: Browser) -> None:
    for path in ("/auth/logout", "/auth/refresh", "/auth/status", "/auth/userinfo"):
        response = alice.client.options(
            path,
            base_url=SITE,
            headers={"Origin": "https://evil.example.com", "Access-Control-Request-Method": "POST"},
        )
        assert not [name for name, _ in response.headers if name.startswith("Access-Control")]
    assert alice.user == "user-alice"


@pytest.mark.parametrize("path", ["/change", "/change/role", "/change/permission", "/form"])
def test_a_view_refuses_requests_that_another_site_caused(alice: Browser, path: str) -> None:
    """Guards and ``protect_from_csrf`` apply the rule of the routes. [T60]"""
    for headers in FOREIGN if path == "/change" else FOREIGN[::4]:
        response = _post(alice, path, headers)
        assert (response.status_code, response.json["error"]) == (403, "cross_site_request"), headers
        assert response.headers["Cache-Control"] == "no-store"
    page = _post(alice, path, {"Sec-Fetch-Site": "same-site", "Accept": HTML})
    assert page.status_code == 403
    assert "Error code: cross_site_request" in page.text
    for headers in OWN if path == "/change" else OWN[:1]:
        assert _post(alice, path, headers).status_code == 200, headers


@pytest.mark.parametrize("method", CHANGING)
def test_each_method_that_can_change_something_is_checked(alice: Browser, method: str) -> None:
    """Methods that this package does not know count as unsafe. [T60]"""
    for path in ("/change", "/form"):
        for headers, status in (({"Sec-Fetch-Site": "same-site"}, 403), ({"Origin": SITE}, 200)):
            response = alice.client.open(path, method=method, base_url=SITE, headers=headers)
            assert response.status_code == status, path


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_methods_that_change_nothing_are_not_checked(alice: Browser, method: str) -> None:
    """A link on another site leads to a guarded page. [T60]"""
    headers = {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example.com"}
    assert alice.client.open("/change", method=method, base_url=SITE, headers=headers).status_code == 200


@pytest.mark.parametrize("path", ["/hook", "/hook/role", "/hook/permission"])
def test_the_check_can_be_switched_off_for_one_view(web: Web, alice: Browser, path: str) -> None:
    """``csrf=False`` leaves the guard itself in place. [T60]"""
    for headers in FOREIGN[:4]:
        assert _post(alice, path, headers).status_code == 200
        assert _post(web.browser(), path, headers).status_code == 401


@pytest.mark.parametrize("path", ["/change", "/change/role", "/change/permission", "/form"])
def test_a_bearer_token_needs_no_check(web: Web, alice: Browser, path: str) -> None:
    """Another site cannot send it. With a cookie beside it, the session is that of the token. [T60]"""
    token = issue_session_token(web.sessions, "robot", ["viewer"], 60)
    foreign = {"Origin": "https://evil.example.com", "Sec-Fetch-Site": "cross-site"}
    for browser in (web.browser(), alice):
        response = _post(browser, path, foreign | {"Authorization": f"Bearer {token}"})
        assert response.status_code == 200
        if path == "/change":
            assert response.json == {"changed_by": "robot"}


@pytest.mark.parametrize(
    "header", ["Bearer pywry_nonsense", "Bearer nonsense", "Basic YTpi", "Bearer", "bearer  ", ""]
)
def test_a_header_without_a_session_does_not_replace_the_check(alice: Browser, header: str) -> None:
    """A request that relies on the cookie is refused, whatever else it carries. [T60]"""
    foreign = {"Sec-Fetch-Site": "same-site", "Authorization": header}
    assert _post(alice, "/form", foreign).status_code == 403
    response = _post(alice, "/change", foreign)
    assert response.status_code == (401 if "pywry_" in header else 403)


def test_a_visitor_without_a_session_is_asked_to_sign_in(web: Web) -> None:
    """A browser withholds the cookie from most requests of other sites. [T60]"""
    for headers in FOREIGN[:4]:
        assert _post(web.browser(), "/change", headers).status_code == 401


def test_pages_of_trusted_origins_can_post(make_web: Callable[..., Web]) -> None:
    """``TRUSTED_ORIGINS`` applies to the routes and to views; no CORS header is sent. [T60]"""
    origins = "http://localhost:3000, https://SPA.example.com:443"
    browser = make_web(settings={"trusted_origins": origins}).browser()
    browser.sign_in()
    for path in ("/change", "/form", "/auth/logout"):
        for origin in ("https://spa.example.com.evil.example", "null", "http://spa.example.com"):
            assert _post(browser, path, {"Origin": origin}).status_code == 403
        for origin in ("https://spa.example.com", "http://localhost:3000"):
            for fetch_site in ({}, {"Sec-Fetch-Site": "same-site"}):
                response = _post(browser, path, {"Origin": origin} | fetch_site)
                assert response.status_code == 200
                assert not [name for name, _ in response.headers if name.startswith("Access-Control")]
        assert _post(browser, path, {"Sec-Fetch-Site": "same-site"}).status_code == 403


def test_a_program_needs_no_origin(web: Web, caplog: pytest.LogCaptureFixture) -> None:
    """It also reaches a view by a name for which the site has no sign-in. [T60]"""
    for headers, status in (({}, 200), ({"Origin": "http://10.0.0.7:8000"}, 503)):
        response = web.client().post("/form", base_url="http://10.0.0.7:8000", headers=headers)
        assert response.status_code == status
    assert "PYWRY_DEPLOY__PUBLIC_BASE_URL" not in response.text
    assert "PYWRY_DEPLOY__PUBLIC_BASE_URL" in caplog.text


def _post(browser: Browser, path: str, headers: dict[str, str], **arguments: Any) -> SiteResponse:
    response = browser.client.post(path, base_url=SITE, headers=headers, **arguments)
    assert isinstance(response, SiteResponse)
    return response
