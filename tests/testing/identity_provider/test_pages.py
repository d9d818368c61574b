"""The content of the pages, and the limits in their headers."""

from __future__ import annotations

import pytest
import requests

from pywry_auth.testing.identity_provider import Client, IdentityProvider, User
from tests.testing.identity_provider.person import CALLBACK, Person, answer_in, assert_protected, json_of


def test_a_wrong_password_shows_the_form_again_with_an_announced_error(alice: Person) -> None:
    page = alice.signs_in(password="wrong")
    assert page.status_code == 403
    assert 'role="alert">That user name and password do not match' in page.text
    assert 'aria-invalid="true" aria-describedby="problem"' in page.text
    assert 'name="username" value="alice"' in page.text
    assert "wrong" not in page.text
    assert "code" in answer_in(alice.fills_in(page, username="alice", password="wonderland", action="login"))


@pytest.mark.parametrize("name", ["", "unknown", "None", "ali\x00ce", "a" * 5000])
def test_other_users_cannot_sign_in(alice: Person, name: str) -> None:
    assert alice.signs_in(name=name).status_code == 403


def test_a_cancelled_login_redirects_with_access_denied(alice: Person) -> None:
    answer = answer_in(alice.fills_in(alice.asks(), action="cancel"))
    assert answer.pop("error_description")
    assert answer == {"error": "access_denied", "state": "the state & more", "iss": alice.issuer}


def test_the_page_names_the_application_and_the_permissions(alice: Person) -> None:
    text = alice.asks(login_hint='bob"><i>').text
    assert "pywry-demo would like to" in text
    assert "See your e-mail address" in text
    assert "See the groups you belong to" not in text
    assert f"You will go back to {CALLBACK}" in text
    assert "For demos and tests." in text
    assert 'value="bob&#34;&gt;&lt;i&gt;"' in text


def test_only_passwords_of_demo_users_are_shown(provider: IdentityProvider) -> None:
    assert "wonderland" in Person(provider.issuer).asks().text
    with IdentityProvider(users=[User("carol", "concealed", {})], signing_algorithm="ES256") as other:
        carol = Person(other.issuer)
        assert "concealed" not in carol.asks().text
        tokens = json_of(carol.exchanges(carol.code(name="carol", password="concealed")))
        assert json_of(carol.profile(tokens)) == {"sub": "carol"}


def test_a_form_of_another_site_signs_no_user_in(alice: Person) -> None:
    """The form's secret is tied to this browser. [T1]"""
    stranger = Person(alice.issuer)
    page = alice.asks()
    stranger.asks()
    response = stranger.fills_in(page, username="alice", password="wonderland", action="login")
    assert response.status_code == 403
    assert "This page had expired" in response.text
    assert not stranger.is_signed_in()


@pytest.mark.parametrize("path", ["/authorize", "/end_session?client_id=unknown", "/nothing-here"])
def test_pages_cannot_be_framed_cached_scripted_or_leak_their_address(
    provider: IdentityProvider, path: str
) -> None:
    """The headers of every page forbid it. [T39]"""
    page = requests.get(provider.issuer + path, timeout=10)
    assert_protected(page)
    assert '<html lang="en">' in page.text


def test_the_login_page_is_protected_and_its_form_leads_to_the_application_only(alice: Person) -> None:
    page = alice.asks()
    assert_protected(page)
    assert "form-action 'self' http://127.0.0.1:51234;" in page.headers["Content-Security-Policy"]
    native = Client("native", redirect_uris=("com.example.app:/cb", "http://[::1]/cb"))
    with IdentityProvider(clients=[native], signing_algorithm="ES256") as provider:
        for address, source in (("com.example.app:/cb", "com.example.app:"), ("http://[::1]:7/cb", "http:")):
            page = Person(provider.issuer).asks(client_id="native", redirect_uri=address)
            assert f"form-action 'self' {source};" in page.headers["Content-Security-Policy"]
