"""The pages of the sample site for visitors, users and administrators."""

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


def test_a_visitor_sees_a_sign_in_button_and_the_hint(
    make_browser: Callable[..., Browser],
) -> None:
    shown = make_browser("Try <alice>.").get("/", html=True)
    assert "You are not signed in. Try &lt;alice&gt;." in shown.text
    assert 'href="/auth/login?next=%2F">Sign in</a>' in shown.text
    assert "Sign out" not in shown.text


def test_home_shows_name_email_roles_and_session_expiry(browser: Browser) -> None:
    browser.sign_in(username="alice")
    shown = browser.get("/", html=True).text
    assert "<h1>Signed in as Alice Example</h1>" in shown
    for text in ("<dd>alice@example.com</dd>", "<dd>viewer, admin</dd>", "<dt>Session ends</dt><dd><time"):
        assert text in shown
    assert '<form method="post" action="/auth/logout">' in shown


def test_an_unverified_email_address_makes_no_administrator(browser: Browser) -> None:
    """Bob's address is among the administrators', but his provider has not verified it. [T14]"""
    browser.sign_in(username="bob")
    assert "<dd>viewer</dd>" in browser.get("/", html=True).text
    refused = browser.get("/admin", html=True)
    assert "<h1>Not allowed</h1>" in refused.text
    assert (browser.get("/admin").json or {})["error"] == "access_denied"
    assert (refused.status_code, "manage_users" in refused.text) == (403, False)


def test_the_guarded_pages_require_sign_in(browser: Browser) -> None:
    for path in ("/account", "/admin"):
        asked = browser.get(path, html=True)
        assert (asked.status_code, asked.location) == (302, f"/auth/login?next=%2F{path[1:]}")
        assert browser.get(path).status_code == 401
    browser.sign_in(username="alice")
    assert "<dt>preferred_username</dt><dd>alice</dd>" in browser.get("/account", html=True).text
    assert "manage_users" in browser.get("/admin", html=True).text
    assert "email_verified" not in browser.get("/admin", html=True).text


def test_the_navigation_marks_the_current_page(browser: Browser) -> None:
    browser.sign_in()
    assert (
        '<a href="/account" aria-current="page">Your account</a>' in browser.get("/account", html=True).text
    )
    assert browser.get("/", html=True).text.count("aria-current") == 1 + 1  # once in the style sheet


def test_html_in_a_profile_is_escaped(browser: Browser) -> None:
    """Claims from the provider are shown as text. [T35]"""
    callback = Person("eve", "secret").authorize(browser.begin())
    browser.get(callback, html=True)
    for path in ("/", "/account"):
        shown = browser.get(path, html=True).text
        assert "Signed in as &lt;script&gt;" in shown or path == "/account"
        assert "<script" not in shown
        assert "<b>" not in shown


def test_a_profile_with_lone_surrogates_is_shown(browser: Browser, idp: IdentityProvider) -> None:
    """JSON may contain them (RFC 8259 §8.2), in names too. [T29]"""
    faults = Faults()
    faults.answers["/userinfo"] = (
        200,
        "application/json",
        b'{"sub": "user-alice", "name": "Al\\ud800ice", "half\\udfff": "x"}',
    )
    idp.wrap(faults.around)
    browser.sign_in()
    assert "<h1>Signed in as Al\ufffdice</h1>" in browser.get("/", html=True).text
    assert "<dt>half\ufffd</dt>" in browser.get("/account", html=True).text


def test_all_pages_have_a_strict_policy_and_are_not_cached(browser: Browser) -> None:
    """No page loads a script, is framed, or sends a referrer. [T30, T39]"""
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


def test_the_sign_out_form_may_only_lead_to_the_provider(browser: Browser, idp: IdentityProvider) -> None:
    """Chromium also applies form-action to a form's redirects."""
    browser.sign_in()
    policy = browser.get("/", html=True).headers["Content-Security-Policy"]
    assert f"; form-action 'self' {idp.issuer};" in policy
    without_form = browser.get("/nothing", html=True).headers["Content-Security-Policy"]
    assert "form-action 'none'" in without_form


def test_signing_out_leads_to_the_provider_and_then_home(browser: Browser, idp: IdentityProvider) -> None:
    browser.sign_in()
    answer = browser.post("/auth/logout", html=True)
    assert answer.status_code == 303
    assert (answer.location or "").startswith(f"{idp.issuer}/end_session?")
    assert "You are not signed in." in browser.get("/", html=True).text


def test_an_unreachable_provider_is_tried_once_a_minute() -> None:
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


def test_without_a_provider_sign_out_page_the_form_only_targets_the_site() -> None:
    plain = GenericOIDCProvider(
        "site", authorize_url="https://id.example.com/a", token_url="https://id.example.com/t"
    )
    assert SignOutSources(plain)() == "'self'"


def test_refused_requests_get_html_or_json_as_preferred(browser: Browser) -> None:
    page = browser.get("/nothing", html=True)
    assert (page.status_code, "<h1>Not Found</h1>" in page.text, 'href="/">Home' in page.text) == (
        404,
        True,
        True,
    )
    unknown = browser.get("/nothing")
    assert (unknown.status_code, unknown.json["error"]) == (404, "not_found")
    wrong = browser.post("/account")
    assert (wrong.status_code, wrong.json["error"]) == (405, "method_not_allowed")
    assert "GET" in wrong.headers["Allow"]


def test_with_sign_in_disabled_the_page_names_the_setting(
    make_browser: Callable[..., Browser],
) -> None:
    shown = make_browser(enabled=False).get("/", html=True).text
    assert "PYWRY_DEPLOY__AUTH_ENABLED" in shown
    assert "/auth/login" not in shown


def test_links_begin_with_the_public_path(make_browser: Callable[..., Browser]) -> None:
    """A proxy can serve the site under a path without announcing it. [P7]"""
    browser = make_browser(public_base_url=f"{SITE}/app")
    shown = browser.get("/", html=True).text
    assert 'href="/app/auth/login?next=%2Fapp%2F"' in shown
    assert 'href="/app/account"' in shown
