"""The small web application that comes along: what its pages show, and to whom."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pywry_auth.backends.memory import MemoryBackend
from pywry_auth.config import DeploySettings
from pywry_auth.deploy_routes import create_auth_blueprint
from pywry_auth.providers.oidc import GenericOIDCProvider
from pywry_auth.site.application import create_app
from pywry_auth.site.views import SignOutSources
from pywry_auth.state.auth import AuthConfig
from pywry_auth.state.sessions import SessionStore
from pywry_auth.state.tokens import TokenStore
from pywry_auth.testing.identity_provider import DEFAULT_USERS, Client, IdentityProvider, User
from tests.deploy.web import CLIENT_SECRET, SITE, Browser
from tests.faults import Faults
from tests.person import Person

_EVIL = User("eve", "secret", {"sub": "user-eve", "name": "<script>alert(1)</script>", "email": '"><b>@x'})


@pytest.fixture
def idp() -> Iterator[IdentityProvider]:
    client = Client(
        "site", CLIENT_SECRET, (f"{SITE}/auth/callback", f"{SITE}/app/auth/callback"), (f"{SITE}/",)
    )
    users = (*DEFAULT_USERS, _EVIL)
    with IdentityProvider(clients=[client], users=users, signing_algorithm="ES256") as idp:
        yield idp


@pytest.fixture
def make_browser(idp: IdentityProvider) -> Callable[..., Browser]:
    def make(hint: str = "", enabled: bool = True, **settings: Any) -> Browser:
        provider = GenericOIDCProvider("site", CLIENT_SECRET, issuer_url=idp.issuer)
        backend = MemoryBackend()
        chosen = DeploySettings(admin_users=["alice@example.com", "bob@example.com"], **settings)
        blueprint = create_auth_blueprint(
            provider, SessionStore(backend), TokenStore(backend), chosen, AuthConfig(enabled=enabled), True
        )
        return Browser(create_app(blueprint, provider, hint).test_client(), SITE)

    return make


@pytest.fixture
def browser(make_browser: Callable[..., Browser]) -> Browser:
    return make_browser()


def test_a_visitor_is_invited_to_sign_in_and_told_whatever_the_host_wants(
    make_browser: Callable[..., Browser],
) -> None:
    shown = make_browser("Try <alice>.").get("/", html=True)
    assert "You are not signed in. Try &lt;alice&gt;." in shown.text
    assert 'href="/auth/login?next=%2F">Sign in</a>' in shown.text
    assert "Sign out" not in shown.text


def test_home_shows_name_email_roles_and_the_sessions_end(browser: Browser) -> None:
    browser.sign_in(username="alice")
    shown = browser.get("/", html=True).text
    assert "<h1>Signed in as Alice Example</h1>" in shown
    for text in ("<dd>alice@example.com</dd>", "<dd>viewer, admin</dd>", "<dt>Session ends</dt><dd><time"):
        assert text in shown
    assert '<form method="post" action="/auth/logout">' in shown


def test_an_address_that_the_provider_does_not_vouch_for_makes_no_administrator(browser: Browser) -> None:
    """T14: bob's address is among the administrators', and his provider says that it is not verified."""
    browser.sign_in(username="bob")
    assert "<dd>viewer</dd>" in browser.get("/", html=True).text
    refused = browser.get("/admin", html=True)
    assert (refused.status_code, "manage_users" in refused.text) == (403, False)


def test_the_pages_behind_the_guards(browser: Browser) -> None:
    for path in ("/account", "/admin"):
        asked = browser.get(path, html=True)
        assert (asked.status_code, asked.location) == (302, f"/auth/login?next=%2F{path[1:]}")
        assert browser.get(path).status_code == 401
    browser.sign_in(username="alice")
    assert "<dt>preferred_username</dt><dd>alice</dd>" in browser.get("/account", html=True).text
    assert "manage_users" in browser.get("/admin", html=True).text
    assert "email_verified" not in browser.get("/admin", html=True).text


def test_where_one_is_stands_out_in_the_navigation(browser: Browser) -> None:
    browser.sign_in()
    assert (
        '<a href="/account" aria-current="page">Your account</a>' in browser.get("/account", html=True).text
    )
    assert browser.get("/", html=True).text.count("aria-current") == 1 + 1  # the style names it too


def test_a_profile_cannot_write_html(browser: Browser) -> None:
    """T35: what a provider says is text."""
    callback = Person("eve", "secret").authorize(browser.begin())
    browser.get(callback, html=True)
    for path in ("/", "/account"):
        shown = browser.get(path, html=True).text
        assert "Signed in as &lt;script&gt;" in shown or path == "/account"
        assert "<script" not in shown
        assert "<b>" not in shown


def test_a_profile_of_what_is_no_text_is_shown_all_the_same(browser: Browser, idp: IdentityProvider) -> None:
    """T29: JSON may hold halves of a character (RFC 8259 §8.2), in names too."""
    faults = Faults()
    faults.answers["/userinfo"] = (
        200,
        "application/json",
        b'{"sub": "user-alice", "name": "Al\\ud800ice", "half\\udfff": "x"}',
    )
    idp.wrap(faults.around)
    browser.sign_in()
    assert "<h1>Signed in as Al ice</h1>" in browser.get("/", html=True).text
    assert "<dt>half </dt>" in browser.get("/account", html=True).text


def test_all_pages_are_strict_and_none_is_kept(browser: Browser) -> None:
    """T30, T39."""
    browser.sign_in(username="bob")
    for path, status in (("/", 200), ("/account", 200), ("/admin", 403), ("/nothing", 404)):
        shown = browser.get(path, html=True)
        policy = shown.headers["Content-Security-Policy"]
        assert shown.status_code == status
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "script" not in policy
        assert (shown.headers["Cache-Control"], shown.headers["Referrer-Policy"]) == (
            "no-store",
            "no-referrer",
        )


def test_the_sign_out_form_may_lead_to_the_provider_and_nowhere_else(
    browser: Browser, idp: IdentityProvider
) -> None:
    """Chromium holds a form's redirects to form-action, too."""
    browser.sign_in()
    policy = browser.get("/", html=True).headers["Content-Security-Policy"]
    assert f"; form-action 'self' {idp.issuer};" in policy
    without_form = browser.get("/nothing", html=True).headers["Content-Security-Policy"]
    assert "form-action 'none'" in without_form


def test_signing_out_ends_at_home_by_way_of_the_provider(browser: Browser, idp: IdentityProvider) -> None:
    browser.sign_in()
    answer = browser.post("/auth/logout", html=True)
    assert answer.status_code == 303
    assert (answer.location or "").startswith(f"{idp.issuer}/end_session?")
    assert "You are not signed in." in browser.get("/", html=True).text


def test_a_provider_that_is_away_is_asked_once_a_minute_and_no_page_waits_for_it() -> None:
    now = [1000.0]
    with IdentityProvider(signing_algorithm="ES256") as idp:
        calls = idp.calls
        away = GenericOIDCProvider("site", issuer_url=f"{idp.issuer}/nothing", http_timeout_seconds=2)
        sources = SignOutSources(away, lambda: now[0])
        for _ in range(3):
            assert sources() == "'self'"
        once = idp.calls["other"] - calls["other"]
        now[0] += 61
        assert sources() == "'self'"
        assert (once, idp.calls["other"] - calls["other"]) == (1, 2)
        known = SignOutSources(GenericOIDCProvider("site", issuer_url=idp.issuer), lambda: now[0])
        assert known() == known() == f"'self' {idp.issuer}"
        assert idp.calls["discovery"] == 1


def test_a_provider_without_a_sign_out_page_needs_no_more_than_the_site() -> None:
    plain = GenericOIDCProvider(
        "site", authorize_url="https://id.example.com/a", token_url="https://id.example.com/t"
    )
    assert SignOutSources(plain)() == "'self'"


def test_what_is_not_there_is_said_in_the_askers_language(browser: Browser) -> None:
    page = browser.get("/nothing", html=True)
    assert (page.status_code, "<h1>Not Found</h1>" in page.text, 'href="/">Home' in page.text) == (
        404,
        True,
        True,
    )
    told = browser.get("/nothing")
    assert (told.status_code, told.json["error"]) == (404, "not_found")
    wrong = browser.post("/account")
    assert (wrong.status_code, wrong.json["error"]) == (405, "method_not_allowed")
    assert "GET" in wrong.headers["Allow"]


def test_where_signing_in_is_switched_off_the_page_says_how_to_switch_it_on(
    make_browser: Callable[..., Browser],
) -> None:
    shown = make_browser(enabled=False).get("/", html=True).text
    assert "PYWRY_DEPLOY__AUTH_ENABLED" in shown
    assert "/auth/login" not in shown


def test_links_begin_where_browsers_see_the_application(make_browser: Callable[..., Browser]) -> None:
    """P7: a proxy serves it under a path and does not say so."""
    browser = make_browser(public_base_url=f"{SITE}/app")
    shown = browser.get("/", html=True).text
    assert 'href="/app/auth/login?next=%2Fapp%2F"' in shown
    assert 'href="/app/account"' in shown
