"""One site with several providers, each with its own callback and users."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from typing import Any

import pytest
from selenium import webdriver

from pywry_auth.backends.memory import MemoryBackend
from pywry_auth.config import DeploySettings
from pywry_auth.deploy_routes import create_auth_blueprint
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError
from pywry_auth.providers.oidc import GenericOIDCProvider
from pywry_auth.state.sessions import issue_session_token
from pywry_auth.testing.identity_provider import Client, IdentityProvider
from tests.deploy.web import CLIENT_SECRET, SITE, Browser, Web, parameter, with_parameter
from tests.faults import Faults
from tests.peers.browser import set_appearance
from tests.peers.walk import Walk
from tests.person import Person

CORP, HUB = "/auth/login?provider=corp", "/auth/login?provider=my-hub_2"


def _provider(name: str) -> IdentityProvider:
    callback = f"{SITE}/auth/callback/{name}"
    return IdentityProvider(
        clients=[Client("site", CLIENT_SECRET, (callback,), (f"{SITE}/",))], signing_algorithm="ES256"
    )


@pytest.fixture
def corp() -> Iterator[IdentityProvider]:
    with _provider("corp") as running:
        yield running


@pytest.fixture
def hub() -> Iterator[IdentityProvider]:
    with _provider("my-hub_2") as running:
        yield running


def _web(corp: IdentityProvider, hub: IdentityProvider, **settings: Any) -> Web:
    several = {
        name: GenericOIDCProvider("site", CLIENT_SECRET, issuer_url=at.issuer)
        for name, at in (("corp", corp), ("my-hub_2", hub))
    }
    return Web(corp, MemoryBackend(), provider=several, settings=settings)


@pytest.fixture
def site(corp: IdentityProvider, hub: IdentityProvider) -> Web:
    return _web(corp, hub)


def test_the_grant_of_a_failed_login_waits_under_its_user(
    corp: IdentityProvider, hub: IdentityProvider
) -> None:
    """A later sign-in of the same user at the same provider then supersedes it. [S7]"""
    Faults(corp).down("/userinfo")
    site = _web(corp, hub, roles_claim="department")
    browser = site.browser()
    assert browser.get(browser.authorize(path=CORP)).status_code == 502
    (entry,) = site.tokens.revocations.of_user("corp:user-alice")
    assert entry.tokens.grant is not None
    site.tokens.revocations.remove(entry)


def test_the_visitor_chooses_a_provider_and_returns_to_the_page(site: Web) -> None:
    browser = site.browser()
    sent = browser.get("/members?a=1&b=2", html=True)
    page = browser.get(sent.location or "", html=True)
    assert (page.status_code, page.headers["Cache-Control"]) == (200, "no-store")
    assert "script" not in page.text
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    buttons = dict(re.findall(r'<a class="button" href="([^"]*)">([^<]*)</a>', page.text))
    assert list(buttons.values()) == ["Corp", "My hub 2"]
    for path, user in zip(buttons, ("corp:user-alice", "my-hub_2:user-alice"), strict=True):
        assert browser.sign_in(unescape(path)).location == f"{SITE}/members?a=1&b=2"
        assert browser.user == user


def test_a_foreign_next_is_not_passed_on(site: Web) -> None:
    """The links of the choice contain only paths of this site. [T7]"""
    page = site.browser().get("/auth/login?next=//evil.example.com/", html=True).text
    assert "evil" not in page
    assert page.count("next=%2F&quot;") == 0
    assert page.count('next=%2F"') == 2


@pytest.mark.parametrize(
    "name", ["unknown", "Corp", "corp ", "corp/../my-hub_2", "a" * 5000, "<b>", "\u00e9"]
)
def test_an_unknown_provider_gets_an_error_page(site: Web, name: str) -> None:
    browser = site.browser()
    response = browser.client.get(
        "/auth/login", query_string={"provider": name, "next": "/members"}, headers={"Accept": "text/html"}
    )
    assert response.status_code == 400
    assert "does not offer that way to sign in" in response.text
    assert 'href="/auth/login?next=%2Fmembers"' in response.text, "the link leads to the provider choice"
    assert "Set-Cookie" not in response.headers
    assert browser.get("/auth/callback/unknown?state=x&code=y").json["error"] == "unknown_provider"
    assert browser.get("/auth/callback?state=x&code=y").status_code == 404


def test_each_provider_has_its_callback_and_its_users(
    site: Web, corp: IdentityProvider, hub: IdentityProvider
) -> None:
    """The same ID at two providers means two users, in sessions and tokens. [S7]"""
    first, second = site.browser(), site.browser()
    assert parameter(first.begin(CORP), "redirect_uri") == f"{SITE}/auth/callback/corp"
    assert parameter(second.begin(HUB), "redirect_uri") == f"{SITE}/auth/callback/my-hub_2"
    first.sign_in(CORP)
    second.sign_in(HUB)
    assert (first.user, second.user) == ("corp:user-alice", "my-hub_2:user-alice")
    assert sorted(site.tokens.list_keys()) == ["corp:user-alice", "my-hub_2:user-alice"]
    kept = [site.tokens.load(key) for key in ("corp:user-alice", "my-hub_2:user-alice")]
    assert [tokens and tokens.issuer for tokens in kept] == [corp.issuer, hub.issuer]
    (session,) = site.sessions.list_user_sessions("my-hub_2:user-alice")
    assert session.metadata["provider"] == "my-hub_2"


def test_refresh_and_logout_use_the_sessions_own_provider(
    site: Web, corp: IdentityProvider, hub: IdentityProvider
) -> None:
    first, second = site.browser(), site.browser()
    first.sign_in(CORP)
    second.sign_in(HUB)
    before = site.tokens.load("corp:user-alice")
    assert corp.calls["token"] == hub.calls["token"] == 1
    assert second.post("/auth/refresh").json["refreshed"] is True
    assert (corp.calls["token"], hub.calls["token"]) == (1, 2)
    answer = second.post("/auth/logout").json
    assert answer["logout_url"].startswith(hub.issuer)
    assert (corp.calls["revoke"], hub.calls["revoke"]) == (0, 2)
    assert (first.user, second.user) == ("corp:user-alice", None)
    assert site.tokens.load("corp:user-alice") == before
    assert site.tokens.load("my-hub_2:user-alice") is None
    assert first.post("/auth/logout?everywhere=1").json["logout_url"].startswith(corp.issuer)
    assert (corp.calls["revoke"], hub.calls["revoke"]) == (2, 2)


def test_a_login_at_another_provider_ends_the_earlier_session(
    site: Web, corp: IdentityProvider, hub: IdentityProvider
) -> None:
    """The first provider's tokens are revoked there and not at the second. [T9]"""
    browser = site.browser()
    browser.sign_in(CORP)
    browser.sign_in(HUB)
    assert browser.user == "my-hub_2:user-alice"
    assert (corp.calls["revoke"], hub.calls["revoke"]) == (2, 0)
    assert site.tokens.list_keys() == ["my-hub_2:user-alice"]


def test_two_tabs_can_sign_in_at_two_providers(site: Web) -> None:
    """Each callback finds its own login. [P2]"""
    browser = site.browser()
    at_corp, at_hub = browser.authorize(CORP), browser.authorize(HUB, "bob")
    assert browser.get(at_corp).status_code == 303
    assert browser.user == "corp:user-alice"
    assert browser.get(at_hub).status_code == 303
    assert browser.user == "my-hub_2:user-bob"


def test_a_state_is_valid_only_at_its_own_providers_callback(
    site: Web, corp: IdentityProvider, hub: IdentityProvider
) -> None:
    """Another callback is refused before any token request, and the state stays valid. [T4]"""
    browser = site.browser()
    callback = browser.authorize(HUB)
    misled = browser.get(callback.replace("/callback/my-hub_2", "/callback/corp"))
    assert (misled.status_code, misled.json["error"]) == (400, "other_provider")
    assert corp.calls["token"] == hub.calls["token"] == 0
    assert browser.user is None
    assert browser.get(callback).status_code == 303
    assert browser.user == "my-hub_2:user-alice"


def test_a_mix_up_attack_does_not_reveal_the_code(
    site: Web, corp: IdentityProvider, hub: IdentityProvider
) -> None:
    """The hub sends the visitor to corp to obtain its code (RFC 9700 §4.4). [T4]"""
    browser: Browser = site.browser()
    honest = browser.begin(CORP)
    begun = browser.begin(HUB)
    forwarded = honest
    for name in ("state", "nonce", "code_challenge"):
        forwarded = with_parameter(forwarded, name, parameter(begun, name))
    callback = Person().authorize(forwarded)  # corp sends the code to this site's registered URI
    assert callback.startswith(f"{SITE}/auth/callback/corp?")
    assert browser.get(callback).json["error"] == "other_provider"
    # Even if the code reaches the hub's own callback, it is refused.
    moved = browser.get(callback.replace("/callback/corp", "/callback/my-hub_2"))
    assert moved.json["error"] == "issuer_mismatch"
    assert corp.calls["token"] == hub.calls["token"] == 0
    assert browser.user is None


def test_administrators_are_named_with_their_provider(corp: IdentityProvider, hub: IdentityProvider) -> None:
    """A bare ID matches no user; the own provider must verify an address. [S7]"""
    site = _web(corp, hub, admin_users="user-alice,corp:user-bob")
    roles = {}
    for path in (CORP, HUB):
        for name in ("alice", "bob"):
            browser = site.browser()
            browser.sign_in(path, name)
            roles[browser.user] = browser.get("/auth/status").json["roles"]
    assert {user for user, given in roles.items() if "admin" in given} == {"corp:user-bob"}
    by_address = _web(corp, hub, admin_users="alice@example.com", allowed_users="my-hub_2:user-alice")
    browser = by_address.browser()
    assert browser.get(browser.authorize(CORP)).json["error"] == "access_denied"
    browser.sign_in(HUB)
    assert browser.get("/admin").status_code == 200


def test_an_applications_own_session_belongs_to_the_users_provider(
    site: Web, corp: IdentityProvider, hub: IdentityProvider
) -> None:
    site.browser().sign_in(HUB)
    token = issue_session_token(site.sessions, "my-hub_2:user-alice", ["viewer"])
    client = site.browser()
    assert client.post("/auth/refresh", Authorization=f"Bearer {token}").json["refreshed"] is True
    assert (corp.calls["token"], hub.calls["token"]) == (0, 2)
    stranger = issue_session_token(site.sessions, "gone:user-alice", ["viewer"])
    refused = client.post("/auth/refresh", Authorization=f"Bearer {stranger}")
    assert (refused.status_code, refused.json["error"]) == (401, "reauth_required")
    ended = client.post("/auth/logout", Authorization=f"Bearer {stranger}")
    assert ended.json == {"logged_out": True, "logout_url": None}


@pytest.mark.parametrize("name", ["", "a b", "a:b", "a/b", "\u00e9", "a" * 41, "corp\n", 7])
def test_an_invalid_provider_name_is_refused(corp: IdentityProvider, name: Any) -> None:
    provider = GenericOIDCProvider("site", CLIENT_SECRET, issuer_url=corp.issuer)
    with pytest.raises(AuthenticationError, match="name") as caught:
        create_auth_blueprint({name: provider, "hub": provider}, deploy_settings=DeploySettings())
    assert caught.value.error == ErrorCode.INVALID_CONFIGURATION


def test_an_empty_mapping_of_providers_is_refused() -> None:
    with pytest.raises(AuthenticationError, match="empty mapping"):
        create_auth_blueprint({}, deploy_settings=DeploySettings())


def test_the_provider_choice_works_in_a_browser(
    site: Web, hub: IdentityProvider, chromium: webdriver.Chrome
) -> None:
    """Light, dark and narrow; then one button leads to its provider."""
    set_appearance(chromium)
    with site.served() as address:
        walk = Walk(chromium, address)
        walk.go("/members")
        for look in ({"width": 1280}, {"dark": True, "width": 1280}, {"width": 360}):
            set_appearance(chromium, **look)  # type: ignore[arg-type]
            assert (walk.heading, walk.faults_of_looks()) == ("Sign in", [])
            assert walk.text.split("\n")[1:] == ["Choose a provider to sign in with.", "Corp", "My hub 2"]
        walk.press("My hub 2")
        assert chromium.current_url.startswith(hub.issuer)
        assert parameter(chromium.current_url, "redirect_uri") == f"{address}/auth/callback/my-hub_2"
