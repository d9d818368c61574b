"""Cross-site requests that change state are refused without effect. [T27]"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from werkzeug.test import TestResponse

from tests.deploy.web import HTML, SITE, Browser, Web, set_cookies

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
@pytest.mark.parametrize("headers", OWN, ids=str)
def test_requests_from_own_pages_and_programs_are_accepted(
    alice: Browser, path: str, headers: dict[str, str]
) -> None:
    assert _post(alice, path, headers).status_code == 200


@pytest.mark.parametrize("body", _BODIES)
@pytest.mark.parametrize("own", [True, False])
def test_the_body_does_not_matter(alice: Browser, body: str, own: bool) -> None:
    headers = {"Origin": SITE if own else "https://evil.example.com"}
    response = _post(alice, "/auth/logout", headers, **_BODIES[body])
    assert response.status_code == (200 if own else 403)


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "TRACE", "QUERY"])
@pytest.mark.parametrize("path", ["/auth/refresh", "/auth/logout", "/auth/login", "/auth/callback"])
def test_other_methods_have_no_effect(alice: Browser, method: str, path: str) -> None:
    response = alice.client.open(path, method=method, base_url=SITE, headers={"Sec-Fetch-Site": "cross-site"})
    assert response.status_code == 405
    assert alice.user == "user-alice"


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


def _post(browser: Browser, path: str, headers: dict[str, str], **arguments: Any) -> TestResponse:
    return browser.client.post(path, base_url=SITE, headers=headers, **arguments)
