"""Responses for people and programs: pages that escape all input, and JSON."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import quote, urlencode

import pytest

from tests.deploy.web import HTML, SITE, SiteResponse, Web, parameter
from tests.faults import Faults

EVIL = "\"><script>alert('canary')</script><img src=//evil.example.com onerror=x>&lt;&#x27;"


def _pages(web: Web, faults: Faults) -> dict[str, SiteResponse]:
    """Return each page that the package itself shows."""
    browser, signed_in = web.browser(), web.browser()
    signed_in.sign_in()
    callback = browser.authorize()
    pages = {
        "no response": browser.get("/auth/callback", html=True),
        "cookie missing": web.browser().get(callback, html=True),
        "other browser": signed_in.get(callback, html=True),
        "wrong issuer": browser.get(callback.replace("iss=", "iss=x"), html=True),
        "used": browser.get(callback, html=True),
        "cross site": signed_in.post("/auth/logout", html=True, Origin="https://evil.example.com"),
        "method": browser.get("/auth/logout", html=True),
        "nothing": browser.get("/auth/nothing", html=True),
        "sign in": browser.get("/auth/userinfo", html=True),
        "forbidden": signed_in.get("/admin", html=True),
        "form": browser.post("/members", html=True, Referer=SITE + web.at("/public?a=b")),
        "frame": browser.get("/members", html=True, Sec_Fetch_Mode="navigate", Sec_Fetch_Dest="iframe"),
    }
    web.tokens.delete("user-alice")
    pages["reauthenticate"] = signed_in.post("/auth/refresh", html=True)
    callback = browser.authorize()
    faults.down("/token")
    pages["provider down"] = browser.get(callback, html=True)
    faults.answers.clear()
    return pages


def test_every_page_has_strict_security_headers(web: Web, faults: Faults) -> None:
    """Framing, scripts, foreign content, referrers, caching and sniffing are forbidden. [T39, T40]"""
    for name, page in _pages(web, faults).items():
        assert page.status_code >= 400, name
        assert page.content_type == "text/html; charset=utf-8", name
        policy = dict(
            part.strip().partition(" ")[::2] for part in page.headers["Content-Security-Policy"].split(";")
        )
        assert policy["default-src"] == policy["base-uri"] == "'none'", name
        assert policy["frame-ancestors"] == ("*" if name == "frame" else "'none'"), name
        assert policy["form-action"] == "'none'", name
        assert set(policy) == {"default-src", "style-src", "form-action", "base-uri", "frame-ancestors"}, name
        assert re.fullmatch(r"'sha256-[A-Za-z0-9+/=]+'", policy["style-src"]), name
        assert page.headers["Referrer-Policy"] == "no-referrer", name
        assert page.headers["X-Content-Type-Options"] == "nosniff", name
        assert page.headers["Cache-Control"] == "no-store", name
        assert not re.search(
            r"<script|<iframe|<img|<form|<object|<link|\son\w+=|\sstyle=|javascript:", page.text
        ), name
        assert not re.findall(r'(?:src|href|action)="(?!/)', page.text), (
            f"{name} leads or loads from elsewhere"
        )
        assert not re.findall(r'(?:src|href|action)="//', page.text), name


def test_every_page_is_accessible(web: Web, faults: Faults) -> None:
    for name, page in _pages(web, faults).items():
        assert page.text.startswith('<!doctype html>\n<html lang="en">'), name
        (title,), (heading,) = (
            re.findall("<title>(.+)</title>", page.text),
            re.findall("<h1>(.+)</h1>", page.text),
        )
        assert title == heading, name
        assert page.text.count("<main") == 1, name
        assert re.search(r'<a class="button" href="/[^"]*"( target="_top")?>[A-Z][a-z ]+</a>', page.text), (
            name
        )
        assert '<meta name="viewport"' in page.text, name


def test_a_successful_callback_redirects_without_a_page(web: Web) -> None:
    """The code disappears from the address bar, and no referrer contains it. [T40]"""
    response = web.browser().sign_in()
    assert (response.status_code, response.data) == (303, b"")


@pytest.mark.parametrize("name", ["error", "error_description", "error_uri", "state", "code", "x"])
def test_a_forged_error_is_not_repeated(web: Web, name: str) -> None:
    """Without a pending login, it is not shown, logged or linked. [T35]"""
    browsers = [web.browser(), web.browser()]
    browsers[1].begin()
    for browser in browsers:
        for html in (True, False):
            response = browser.get(
                f"/auth/callback?{urlencode({name: EVIL, 'error': 'access_denied'})}", html=html
            )
            assert response.status_code == 400
            assert "canary" not in response.text
            assert "evil.example.com" not in response.text
            assert "access_denied" not in response.text


@pytest.mark.parametrize("name", ["error", "error_description", "error_uri"])
def test_the_providers_error_is_escaped_and_its_link_omitted(web: Web, name: str) -> None:
    """With a valid state, the page shows the provider's code if it is one word, and no other text. [T35]"""
    browser = web.browser()
    reported = {"error": "invalid_request"} | {name: EVIL}
    state = parameter(browser.begin(), "state")
    query = urlencode({"state": state, "iss": web.idp.issuer, **reported})
    page = browser.get(f"/auth/callback?{query}", html=True)
    assert page.status_code == 400
    assert "<script>" not in page.text
    assert "<img" not in page.text
    assert "href=//" not in page.text
    assert "canary" not in page.text
    assert f"Error code: {'invalid_response' if name == 'error' else 'invalid_request'}" in page.text
    state = parameter(browser.begin(), "state")
    query = urlencode({"state": state, "iss": web.idp.issuer, "error": "<script>canary</script>"})
    assert "&lt;script&gt;canary" in browser.get(f"/auth/callback?{query}", html=True).text


@pytest.mark.parametrize(
    "error",
    [
        "not_signed_in",
        "rate_limited",
        "state_used",
        "cross_site_request",
        "temporarily_unavailable",
        "x" * 5000,
    ],
)
def test_a_provider_error_does_not_end_an_existing_session(web: Web, error: str) -> None:
    """With any error code, the login fails and the user stays signed in. [T35]"""
    browser = web.browser()
    browser.sign_in()
    state = parameter(browser.begin(), "state")
    response = browser.get(
        f"/auth/callback?{urlencode({'state': state, 'error': error, 'iss': web.idp.issuer})}"
    )
    assert 400 <= response.status_code <= 503
    assert "Location" not in response.headers
    assert len(response.data) < 2000
    assert browser.user == "user-alice"


@pytest.mark.parametrize(
    ("accept", "html"),
    [
        (HTML, True),
        ("text/html", True),
        ("text/html;q=0.9, application/json;q=0.8", True),
        ("text/*, application/json;q=0.1", True),
        ("*/*", False),
        ("", False),
        (None, False),
        ("application/json", False),
        ("application/json, text/plain, */*", False),
        ("application/json, text/html;q=0.9", False),
        ("text/html;q=0", False),
        ("image/png", False),
        ("application/xml", False),
        ("text/html;q=abc", False),
    ],
)
def test_people_get_a_page_and_programs_json(web: Web, accept: str | None, html: bool) -> None:
    headers = {} if accept is None else {"Accept": accept}
    response = web.client().get("/auth/userinfo", base_url=SITE, headers=headers)
    assert response.status_code == 401
    assert response.is_json is not html
    if not html:
        assert response.content_type == "application/json"
        assert set(response.json) == {"error", "error_description"}


def test_a_title_names_the_problem(make_web: Callable[..., Web], faults: Faults) -> None:
    pages = _pages(make_web(), faults)
    titles = {name: re.findall("<h1>(.+)</h1>", page.text)[0] for name, page in pages.items()}
    assert titles["forbidden"] == titles["cross site"] == "Not allowed"
    assert titles["nothing"] == "Page not found"
    assert titles["used"] == titles["provider down"] == "Sign-in failed"
    assert titles["sign in"] == titles["form"] == titles["reauthenticate"] == "Please sign in"
    assert titles["frame"] == "Please sign in"


def test_the_button_offers_a_helpful_next_step(web: Web, faults: Faults) -> None:
    buttons = {
        name: re.findall(r'<a class="button" href="([^"]*)">([^<]+)</a>', page.text)
        for name, page in _pages(web, faults).items()
    }
    login, home = web.at("/auth/login"), web.at("/")
    assert buttons["used"] == [(login, "Try again")]
    assert buttons["provider down"] == [(f"{login}?next={quote(home, safe='')}", "Try again")]
    assert buttons["sign in"] == [(login, "Sign in")]
    form = f"{login}?next={quote(web.at('/public?a=b'), safe='')}"
    assert buttons["form"] == [(form, "Sign in")]
    assert buttons["nothing"] == buttons["method"] == [(home, "Home")]
    forbidden = f"{login}?prompt=login&amp;next={quote(web.at('/admin'), safe='')}"
    assert buttons["forbidden"] == [(forbidden, "Use another account")]
