"""The route ``GET /auth/signed-out``, and where a sign-out leads on a guarded site."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from fastapi import FastAPI
from flask import Flask
from jinja2 import DictLoader

from pywry_auth.asgi import AuthMiddleware
from pywry_auth.backends.memory import MemoryBackend
from pywry_auth.deploy_routes import create_auth_router
from pywry_auth.flask import init_app
from pywry_auth.providers.oidc import GenericOIDCProvider
from tests.deploy.hosts import HOSTS, served_by_wsgi
from tests.deploy.web import CLIENT_SECRET, Browser, SiteClient, WatchedBackend, Web, set_cookies

MakeWeb = Callable[..., Web]
PATH = "/auth/signed-out"


def _parts(web: Web) -> dict[str, Any]:
    return {
        "session_store": web.sessions,
        "token_store": web.tokens,
        "deploy_settings": web.deploy_settings,
        "auth_config": web.config,
    }


def _guarded(web: Web, provider: Any, prefix: str = "/auth") -> Browser:
    """Return a browser at an application that guards every page, on the web host of the fixture."""
    client = SiteClient(web, use_cookies=True)
    if web.host.fastapi:
        router = create_auth_router(provider, **_parts(web))
        app = FastAPI()
        app.include_router(router, prefix=prefix.removesuffix("/auth"))
        app.add_middleware(AuthMiddleware, router=router, protect=True)
        client.application = served_by_wsgi(app, web.host)
    else:
        flask_app = Flask("guarded")
        init_app(flask_app, provider, **_parts(web), url_prefix=prefix, protect=True)
        client.application = flask_app
    return Browser(client, web.base_url)


@pytest.mark.parametrize("hosting", [HOSTS[0], HOSTS[3]], ids=lambda host: host.name)
def test_the_page_says_signed_out_and_begins_no_sign_in(web: Web) -> None:
    """The links are ordinary ones, for the visitor to follow. [P11]"""
    browser = web.browser()
    response = browser.get(PATH, html=True)
    assert (response.status_code, set_cookies(response)) == (200, {})
    assert "You are signed out of this site." in response.text
    assert "You may still be signed in at" in response.text
    assert f'href="{web.at("/auth/login")}">Sign in again</a>' in response.text
    assert f'href="{urlsplit(web.base_url).path}/">Home</a>' in response.text
    assert "<script" not in response.text
    assert response.headers["Cache-Control"] == "no-store"
    assert "default-src 'none'" in response.headers["Content-Security-Policy"]
    answer = {"signed_out": True, "provider_signed_out": False, "login_url": web.at("/auth/login")}
    assert browser.get(PATH).json == answer
    assert web.calls()["authorize"] == 0


def test_a_browser_with_a_session_can_sign_out_there(web: Web, alice: Browser) -> None:
    """Its policy lets the form follow the redirect to the provider."""
    response = alice.get(PATH, html=True)
    assert "signed in to this site as Alice Example" in response.text
    assert '<form method="post" action="/auth/logout">' in response.text
    assert "signed out of" not in response.text
    assert f"form-action 'self' {web.idp.issuer};" in response.headers["Content-Security-Policy"]
    assert alice.get(PATH).json["signed_out"] is False
    assert alice.user == "user-alice"


def test_an_outage_does_not_report_a_sign_out(make_web: MakeWeb) -> None:
    watched = WatchedBackend(MemoryBackend())
    web = make_web(watched)
    browser = web.browser()
    browser.sign_in()
    watched.fails = lambda number: True
    for html in (True, False):
        response = browser.get(PATH, html=html)
        assert response.status_code == 503
        assert "signed out" not in response.text


def test_with_several_providers_the_page_names_none(make_web: MakeWeb) -> None:
    one = make_web().provider
    web = make_web(provider={"corp": one, "github": one})
    text = web.browser().get(PATH, html=True).text
    assert "at the service that you use to sign in" in text


def test_an_application_replaces_the_page(web: Web, alice: Browser) -> None:
    text = "{{ page.values.signed_in }} {{ page.values.user }} {{ page.values.logout_url }}|{{ page.title }}"
    web.app.jinja_loader = DictLoader({"pywry_auth/signed_out.html": text})
    assert alice.get(PATH, html=True).text == "True Alice Example /auth/logout|You are signed in"
    assert web.browser().get(PATH, html=True).text == "False  |You are signed out"


def test_a_name_becomes_no_markup(web: Web) -> None:
    from pywry_auth.pages.html import document
    from pywry_auth.pages.web import signed_in_page

    html = document(signed_in_page("<b>Al</b>", "/auth/logout", "/", "'self'"))
    assert "<b>Al" not in html
    assert "&lt;b&gt;Al" in html


@pytest.mark.parametrize("hosting", HOSTS[:2], ids=lambda host: host.name)
def test_a_sign_out_of_a_guarded_site_does_not_sign_straight_back_in(web: Web) -> None:
    """The session at the provider lives on, and the page after the sign-out is open. [P11]"""
    at = web.idp.issuer
    endpoints: dict[str, Any] = {
        "authorize_url": f"{at}/authorize",
        "token_url": f"{at}/token",
        "userinfo_url": f"{at}/userinfo",
        "jwks_url": f"{at}/jwks",
    }
    plain = GenericOIDCProvider("site", CLIENT_SECRET, scopes=["openid"], issuer=at, **endpoints)
    browser = _guarded(web, plain, f"{web.host.mount}/auth")
    browser.sign_in()
    assert browser.get("/", html=True).status_code == 404, "the user is signed in, and there is no page"
    response = browser.post("/auth/logout", html=True)
    assert (response.status_code, response.location) == (303, f"{web.base_url}{web.host.mount}{PATH}")
    before = web.calls()["authorize"]
    page = browser.get(PATH, html=True)
    assert (page.status_code, web.calls()["authorize"]) == (200, before)
    assert browser.get("/", html=True).status_code == 302, "home leads to the provider"


@pytest.mark.parametrize("hosting", HOSTS[:2], ids=lambda host: host.name)
def test_a_guarded_site_returns_from_the_provider_to_the_page(web: Web) -> None:
    browser = _guarded(web, web.provider)
    browser.sign_in()
    asked = dict(parse_qsl(urlsplit(browser.post("/auth/logout").json["logout_url"]).query))
    assert asked["post_logout_redirect_uri"] == f"{web.base_url}{PATH}"
    text = browser.get(f"{PATH}?state={asked['state']}", html=True).text
    assert "signed out of this site and of the service" in text
    again = browser.get(f"{PATH}?state={asked['state']}", html=True).text
    assert "You are signed out of this site." in again
    assert "You may still be" not in again, "a reload takes nothing back"


def test_the_page_follows_the_prefix_and_a_chosen_path_wins(make_web: MakeWeb) -> None:
    web = make_web()
    assert _page_of(_guarded(web, web.provider, "/oauth"), "/oauth") == f"{web.base_url}/oauth/signed-out"
    chosen = make_web(settings={"after_logout_url": "/"})
    assert _page_of(_guarded(chosen, chosen.provider), "/auth") == f"{chosen.base_url}/"


def _page_of(browser: Browser, prefix: str) -> str:
    response = browser.post(f"{prefix}/logout", html=True)
    return response.location or ""
