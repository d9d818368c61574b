"""The end of sessions at the provider, and the logout tokens for their clients."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from pywry_auth.testing.identity_provider import Client, IdentityProvider, Quirks
from tests.testing.identity_provider.person import CALLBACK, Clock, Person, claims_of, json_of, refusal_in
from tests.testing.identity_provider.site import Site, listening_site

SILENT = Client("silent", redirect_uris=(CALLBACK,))


def _provider(site: Site, clock: Clock, quirks: Quirks | None = None) -> IdentityProvider:
    told = Client("pywry-demo", redirect_uris=(CALLBACK,), backchannel_logout_uri=site.uri)
    wrong = Client("wrong", redirect_uris=(CALLBACK,), backchannel_logout_uri="nonsense")
    absent = Client("absent", redirect_uris=(CALLBACK,), backchannel_logout_uri="http://127.0.0.1:1/logout")
    return IdentityProvider(
        clients=(told, SILENT, absent, wrong), signing_algorithm="ES256", clock=clock, quirks=quirks
    )


@pytest.fixture(scope="module")
def shared_site() -> Iterator[Site]:
    with listening_site() as running:
        yield running


@pytest.fixture
def site(shared_site: Site) -> Site:
    shared_site.status = 200
    return shared_site


@pytest.fixture
def provider(site: Site, clock: Clock) -> Iterator[IdentityProvider]:
    with _provider(site, clock) as running:
        yield running


def test_the_end_of_a_session_reaches_each_client_with_tokens_of_it(
    provider: IdentityProvider, site: Site, alice: Person
) -> None:
    """A client that only received a code gets no logout token."""
    alice.tokens()
    alice.tokens_again(client_id="silent")
    alice.asks(prompt="none", client_id="absent")
    (sid,) = provider.sids("alice@example.com")
    assert provider.end_sessions("alice") == [200]
    claims = claims_of(site.received.get_nowait(), provider.issuer)
    assert (claims["sub"], claims["sid"], claims["aud"]) == ("user-alice", sid, "pywry-demo")
    assert (provider.sids("alice"), alice.is_signed_in()) == ([], False)
    assert provider.end_sessions("alice") == []
    assert site.received.empty()


def test_one_session_of_several_can_be_ended(provider: IdentityProvider, site: Site, alice: Person) -> None:
    phone = Person(provider.issuer)
    alice.tokens()
    phone.tokens()
    first, second = provider.sids("alice")
    assert provider.end_sessions("alice", "unknown") == []
    assert provider.end_sessions("alice", second) == [200]
    assert claims_of(site.received.get_nowait(), provider.issuer)["sid"] == second
    assert (provider.sids("alice"), alice.is_signed_in(), phone.is_signed_in()) == ([first], True, False)


def test_a_sign_out_at_the_provider_reaches_the_client(
    provider: IdentityProvider, site: Site, alice: Person
) -> None:
    tokens = alice.tokens()
    (sid,) = provider.sids("alice")
    assert "You are signed out" in alice.signs_out(id_token_hint=tokens["id_token"]).text
    assert claims_of(site.received.get(timeout=10), provider.issuer)["sid"] == sid
    assert provider.sids("alice") == []


@pytest.mark.parametrize("status", [302, 400, 503])
def test_a_refused_logout_token_is_logged_and_not_sent_to_another_address(
    provider: IdentityProvider, site: Site, alice: Person, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    site.status = status
    alice.tokens()
    with caplog.at_level(logging.WARNING, "pywry_auth.identity_provider"):
        assert provider.end_sessions("alice") == [status]
    token = site.received.get_nowait()
    assert site.received.empty()
    assert f"refused a logout token at {site.uri} (status {status})" in caplog.text
    assert "--backchannel-logout-uri" in caplog.text
    assert token not in caplog.text


def test_a_site_that_does_not_listen_changes_nothing_for_the_user(
    provider: IdentityProvider, alice: Person, caplog: pytest.LogCaptureFixture
) -> None:
    alice.tokens(client_id="absent")
    with caplog.at_level(logging.WARNING, "pywry_auth.identity_provider"):
        assert provider.end_sessions("alice") == [0]
        alice.signs_in()
        page = alice.fills_in(alice.signs_out(), action="sign_out")
    assert "You are signed out" in page.text
    (text,) = {each for each in caplog.messages if "absent got no logout token at http://127.0.0.1:" in each}
    assert "(ConnectionRefusedError): start the site there, or name its address with --backchannel" in text


def test_an_address_without_a_host_gets_nothing(provider: IdentityProvider, alice: Person) -> None:
    alice.tokens(client_id="wrong")
    assert provider.end_sessions("alice") == [0]


def test_a_provider_that_stops_still_signs_out(alice: Person, provider: IdentityProvider) -> None:
    tokens = alice.tokens()
    provider.stop()
    browser = provider.app.test_client()
    for cookie in alice.browser.cookies:
        browser.set_cookie(cookie.name, cookie.value or "", domain="127.0.0.1")
    path = f"/end_session?id_token_hint={tokens['id_token']}"
    assert "You are signed out" in browser.get(path, base_url=provider.url).text
    assert provider.sids("alice") == []


def test_tokens_end_with_the_session_unless_they_are_for_offline_access(
    provider: IdentityProvider, alice: Person
) -> None:
    """OIDC Back-Channel Logout 1.0 §2.7."""
    bound, offline = alice.tokens(), alice.tokens_again(scope="openid offline_access")
    (sid,) = provider.sids("alice")
    provider.end_sessions("alice")
    assert refusal_in(alice.refreshes(bound)) == (400, "invalid_grant")
    assert alice.profile(bound).status_code == 401
    assert [grant.ended for grant in provider.grants()] == [True, False]
    refreshed = json_of(alice.refreshes(offline))
    assert claims_of(refreshed["id_token"], provider.issuer)["sid"] == sid


@pytest.mark.parametrize("scope", ["openid", "openid offline_access"])
def test_a_code_of_a_session_that_has_ended_is_refused(
    provider: IdentityProvider, alice: Person, scope: str
) -> None:
    """Otherwise the client would get an ID token after the logout tokens were sent."""
    code = alice.code(scope=scope)
    assert provider.end_sessions("alice") == []
    assert refusal_in(alice.exchanges(code)) == (400, "invalid_grant")


def test_the_session_of_a_user_who_signs_in_again_keeps_its_sid(
    provider: IdentityProvider, alice: Person, clock: Clock
) -> None:
    first = claims_of(alice.tokens()["id_token"], provider.issuer)
    clock.now += 100
    second = claims_of(alice.tokens(prompt="login")["id_token"], provider.issuer)
    assert second["sid"] == first["sid"]
    assert second["auth_time"] == first["auth_time"] + 100
    bob = alice.tokens(prompt="login", name="bob", password="builder")
    assert claims_of(bob["id_token"], provider.issuer)["sid"] not in provider.sids("alice")


def test_sessions_expire_in_the_list(provider: IdentityProvider, alice: Person, clock: Clock) -> None:
    alice.tokens()
    assert len(provider.sids("alice")) == 1
    clock.now += 12 * 3600
    assert provider.sids("alice") == []
    assert provider.end_sessions("alice") == []
