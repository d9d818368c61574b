"""Sign-out, at once or after a question."""

from __future__ import annotations

from urllib.parse import urlencode

import pytest
import requests

from tests.testing.identity_provider.person import (
    AFTER_LOGOUT,
    SECRET,
    VERIFIER,
    WEB_CALLBACK,
    Clock,
    Person,
    answer_in,
    assert_protected,
    basic,
    json_of,
)


def test_a_client_with_an_id_token_signs_the_user_out_and_gets_the_redirect(
    alice: Person, clock: Clock
) -> None:
    """An expired ID token is enough (OIDC RP-Initiated Logout §2, §3)."""
    alice.signs_in()
    form = {"grant_type": "authorization_code", "code_verifier": VERIFIER, "redirect_uri": WEB_CALLBACK}
    code = answer_in(alice.asks(client_id="web app", redirect_uri=WEB_CALLBACK, prompt="none"))["code"]
    header = basic("web app", SECRET)
    url = f"{alice.issuer}/token"
    tokens = json_of(requests.post(url, data={**form, "code": code}, headers=header, timeout=10))
    clock.now += 4000
    assert alice.is_signed_in()
    response = alice.signs_out(
        id_token_hint=tokens["id_token"], post_logout_redirect_uri=AFTER_LOGOUT, state="s&t"
    )
    assert response.status_code == 303
    assert response.headers["Location"] == f"{AFTER_LOGOUT}?state=s%26t"
    assert not alice.is_signed_in()


def test_without_a_hint_the_user_is_asked_first(alice: Person) -> None:
    alice.signs_in()
    page = alice.signs_out(client_id="web app", post_logout_redirect_uri=AFTER_LOGOUT, state="x")
    assert "Sign out?" in page.text
    assert "Alice Example" in page.text
    assert alice.is_signed_in()
    assert "You are still signed in" in alice.fills_in(page, action="stay").text
    assert alice.is_signed_in()
    assert alice.fills_in(page, action="sign_out").headers["Location"] == f"{AFTER_LOGOUT}?state=x"
    assert not alice.is_signed_in()


def test_without_parameters_a_page_confirms_the_sign_out(alice: Person) -> None:
    alice.signs_in()
    page = alice.fills_in(alice.signs_out(), action="sign_out")
    assert "You are signed out" in page.text
    assert "You are signed out" in alice.signs_out().text
    assert_protected(page)


def test_a_form_of_another_site_signs_no_user_out(alice: Person) -> None:
    alice.signs_in()
    form = {"csrf": "guessed", "action": "sign_out"}
    response = alice.browser.post(f"{alice.issuer}/end_session", data=form, timeout=10)
    assert "Sign out?" in response.text
    assert alice.is_signed_in()


@pytest.mark.parametrize(
    "values",
    [
        {"post_logout_redirect_uri": AFTER_LOGOUT},
        {"client_id": "web app", "post_logout_redirect_uri": "https://evil.example.com/"},
        {"client_id": "pywry-demo", "post_logout_redirect_uri": AFTER_LOGOUT},
        {"client_id": "unknown"},
        {"id_token_hint": "nonsense", "post_logout_redirect_uri": AFTER_LOGOUT},
        {"state": ["a", "b"]},
    ],
)
def test_a_sign_out_never_redirects_to_an_unregistered_address(
    alice: Person, values: dict[str, str | list[str]]
) -> None:
    alice.signs_in()
    url = f"{alice.issuer}/end_session?{urlencode(values, doseq=True)}"
    response = alice.browser.get(url, allow_redirects=False, timeout=10)
    assert (response.status_code, "Location" in response.headers) == (400, False)
    assert alice.is_signed_in()


def test_an_id_token_of_another_client_or_user_does_not_sign_out(alice: Person) -> None:
    hint = alice.tokens()["id_token"]
    assert alice.signs_out(id_token_hint=hint, client_id="web app").status_code == 400
    bob = Person(alice.issuer)
    bob.signs_in(name="bob", password="builder")
    assert "Sign out?" in bob.signs_out(id_token_hint=hint).text
    assert bob.is_signed_in()
