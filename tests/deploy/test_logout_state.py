"""The state of a sign-out at the provider, and the browser's return."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import requests
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Request, Response

from pywry_auth.backends.memory import MemoryBackend
from pywry_auth.deploy.cookies import Cookie, TokenSigner
from pywry_auth.deploy.logout_state import LOGOUT_SECONDS, LogoutStates
from pywry_auth.deploy.options import DeployOptions
from pywry_auth.deploy.site import Mount, Site
from pywry_auth.providers.oidc import GenericOIDCProvider
from pywry_auth.state.sessions import issue_session_token
from tests.deploy.hosts import FLASK, HOSTS
from tests.deploy.web import CLIENT_SECRET, SITE, Browser, WatchedBackend, Web, attributes, set_cookies

MakeWeb = Callable[..., Web]
COOKIE = "pywry_session_logout"
ON_HTTPS = {"public_base_url": "https://app.example.com/app"}


def _signs_out(browser: Browser, html: bool = True) -> str:
    """Sign in and out, and return the address to which the provider sends the browser."""
    browser.sign_in()
    response = browser.post("/auth/logout", html=html)
    url = response.location if html else response.json["logout_url"]
    return requests.get(url, allow_redirects=False, timeout=20).headers["Location"]


@pytest.mark.parametrize("html", [True, False])
@pytest.mark.parametrize("hosting", [FLASK, HOSTS[1]], ids=lambda host: host.name)
def test_the_state_is_bound_to_the_browser_for_ten_minutes(web: Web, html: bool) -> None:
    browser = web.browser()
    browser.sign_in()
    response = browser.post("/auth/logout", html=html)
    url = response.location if html else response.json["logout_url"]
    state = dict(parse_qsl(urlsplit(url or "").query))["state"]
    assert len(state) == 22
    found = attributes(set_cookies(response)[COOKIE])
    assert (found["max-age"], found["path"], found["httponly"]) == ("600", "/", "True")
    assert found["samesite"] == "Lax"


def test_on_https_no_other_host_can_set_the_cookie(make_web: MakeWeb) -> None:
    web = make_web(settings=ON_HTTPS, base_url="https://app.example.com/app")
    browser = web.browser()
    browser.sign_in()
    header = set_cookies(browser.post("/auth/logout"))[f"__Host-{COOKIE}"]
    assert "Secure" in header


@pytest.mark.parametrize("hosting", [FLASK, HOSTS[3]], ids=lambda host: host.name)
def test_the_applications_page_accepts_a_state_once(
    make_web: MakeWeb, caplog: pytest.LogCaptureFixture
) -> None:
    """The page itself stays as it is, and no store is asked. [P11]"""
    caplog.set_level(logging.INFO, "pywry_auth.deploy")
    watched = WatchedBackend(MemoryBackend())
    web = make_web(watched, settings={"after_logout_url": "/public"})
    browser = web.browser()
    browser.sign_in()
    asked = dict(parse_qsl(urlsplit(browser.post("/auth/logout").json["logout_url"]).query))
    assert asked["post_logout_redirect_uri"] == f"{web.base_url}/public"
    usual = browser.get("/who")
    assert COOKIE not in set_cookies(usual)
    watched.forget()
    caplog.clear()
    page = browser.get(f"/public?state={asked['state']}", html=True)
    assert "for all visitors" in page.text
    assert attributes(set_cookies(page)[COOKIE])["max-age"] == "0"
    assert (watched.operations, caplog.messages) == ([], [])
    again = browser.get(f"/public?state={asked['state']}", html=True)
    assert (again.status_code, COOKIE in set_cookies(again)) == (200, False)
    (text,) = caplog.messages
    assert "unknown state" in text
    assert asked["state"] not in text


@pytest.mark.parametrize("hosting", [FLASK, HOSTS[1]], ids=lambda host: host.name)
def test_the_applications_own_state_is_left_alone(make_web: MakeWeb) -> None:
    browser = make_web(settings={"after_logout_url": "/public"}).browser()
    for path in ("/public?state=own", "/who?state=own", "/public", "/public?" + "state=a&" * 70):
        response = browser.get(path)
        assert (response.status_code, set_cookies(response)) == (200, {})


def test_another_browsers_state_confirms_nothing(web: Web) -> None:
    web.browser().sign_in()
    one, two = web.browser(), web.browser()
    state = _signs_out(one).rpartition("=")[2]
    assert two.get(f"/auth/signed-out?state={state}").json["provider_signed_out"] is False
    two.plant(COOKIE, f"{state}:9999999999.{'A' * 43}")
    assert two.get(f"/auth/signed-out?state={state}").json["provider_signed_out"] is False
    one.head(f"/auth/signed-out?state={state}")  # it spends nothing
    assert one.get(f"/auth/signed-out?state={state}").json["provider_signed_out"] is True
    assert one.get(f"/auth/signed-out?state={state}").json["provider_signed_out"] is False


def test_tabs_that_sign_out_keep_their_states(web: Web) -> None:
    browser = web.browser()
    states = [_signs_out(browser).rpartition("=")[2] for _ in range(5)]
    confirmed = [browser.get(f"/auth/signed-out?state={state}") for state in states]
    assert [each.json["provider_signed_out"] for each in confirmed] == [False, *[True] * 4]


def test_a_state_expires() -> None:
    now = [1_800_000_000.0]
    states = LogoutStates(Cookie("logout", TokenSigner(["a key"], "logout")), clock=lambda: now[0])
    first, state = Response(), states.new()
    states.keep(_site(""), first, state)
    cookie = first.headers["Set-Cookie"].partition(";")[0]
    now[0] += LOGOUT_SECONDS - 1
    assert states.is_known(_site(cookie, state))
    now[0] += 1
    assert not states.is_known(_site(cookie, state))


def _site(cookie: str, state: str = "") -> Site:
    path = f"/auth/signed-out?state={state}"
    builder = EnvironBuilder(path, SITE, headers=[("Cookie", cookie)])
    options = DeployOptions(enabled=True, secrets=["a key"])
    return Site(options, Request(builder.get_environ()), Mount(None, "", "/auth", "/auth/signed-out"))


def test_two_states_in_one_address_confirm_nothing(web: Web) -> None:
    browser = web.browser()
    state = _signs_out(browser).rpartition("=")[2]
    path = f"/auth/signed-out?state={state}&state={state}"
    assert browser.get(path).json["provider_signed_out"] is False


def test_an_api_client_gets_no_state(web: Web, alice: Browser) -> None:
    """No browser of it comes back. [T61]"""
    token = issue_session_token(web.sessions, "user-alice", ["viewer"])
    response: Any = alice.post("/auth/logout", Authorization=f"Bearer {token}")
    assert "state=" not in response.json["logout_url"]
    assert COOKIE not in set_cookies(response)


@pytest.mark.parametrize(("length", "kept"), [(2000, True), (2001, False)])
def test_a_template_loses_an_id_token_that_is_too_long(make_web: MakeWeb, length: int, kept: bool) -> None:
    """The address of a template has at most 2,000 characters, as any other. [P11]"""
    idp = make_web().idp
    own = "https://id.example.com/out?hint={id_token_hint}&to={post_logout_redirect_uri}"
    provider = GenericOIDCProvider("site", CLIENT_SECRET, issuer_url=idp.issuer, end_session_url=own)
    web = make_web(provider=provider)
    browser = web.browser()
    browser.sign_in()
    stored = web.tokens.load("user-alice")
    assert stored is not None
    back = "to=http%3A%2F%2F127.0.0.1%2F"
    hint = "i" * (length - len(f"https://id.example.com/out?hint=&{back}"))
    web.tokens.save("user-alice", replace(stored, id_token=hint))
    response = browser.post("/auth/logout")
    query = f"hint={hint}&{back}" if kept else back
    assert response.json["logout_url"] == f"https://id.example.com/out?{query}"
    assert COOKIE not in set_cookies(response), "the template has no place for a state"
