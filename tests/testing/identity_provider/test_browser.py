"""Sessions at the provider, and the requests that they satisfy."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import pytest

from tests.testing.identity_provider.person import Clock, Person, answer_in, json_of


def test_a_second_login_needs_no_password(alice: Person) -> None:
    alice.signs_in()
    page = alice.asks()
    assert "Continue as Alice Example" in page.text
    assert 'type="password"' not in page.text
    assert "code" in answer_in(alice.fills_in(page, action="continue"))


def test_another_account_can_be_used(alice: Person) -> None:
    alice.signs_in()
    form = alice.fills_in(alice.asks(), action="other")
    response = alice.fills_in(form, username="bob", password="builder", action="login")
    tokens = json_of(alice.exchanges(answer_in(response)["code"]))
    assert json_of(alice.profile(tokens))["sub"] == "user-bob"
    assert "Continue as Bob Example" in alice.asks().text


def test_the_session_cookie_is_hidden_from_scripts_and_other_sites(alice: Person) -> None:
    cookie = alice.signs_in().headers["Set-Cookie"]
    port = urlsplit(alice.issuer).port
    assert re.fullmatch(rf"idp_session_{port}=[\w-]{{43}}; HttpOnly; Path=/; SameSite=Lax", cookie)


def test_prompt_none_shows_no_page(alice: Person) -> None:
    assert answer_in(alice.asks(prompt="none"))["error"] == "login_required"
    alice.signs_in()
    answer = answer_in(alice.asks(prompt="none"))
    assert answer["code"]
    assert answer["iss"] == alice.issuer


@pytest.mark.parametrize(
    ("changes", "page"),
    [
        ({"prompt": "login"}, "Password"),
        ({"prompt": "select_account"}, "Use another account"),
        ({"prompt": "consent"}, "Continue as Alice Example"),
        ({"max_age": "99"}, "Password"),
        ({"max_age": "101"}, "Continue as Alice Example"),
    ],
)
def test_prompt_and_max_age_decide_which_page_is_shown(
    alice: Person, clock: Clock, changes: dict[str, str], page: str
) -> None:
    alice.signs_in()
    clock.now += 100
    response = alice.asks(**changes)
    assert page in response.text
    if page == "Password":  # and the user cannot skip that page
        assert "Password" in alice.fills_in(response, action="continue").text


def test_a_session_counts_only_for_the_user_of_the_hint(alice: Person) -> None:
    mine = alice.tokens()["id_token"]
    assert "code" in answer_in(alice.asks(prompt="none", id_token_hint=mine))
    bob = Person(alice.issuer)
    theirs = json_of(bob.exchanges(bob.code(name="bob", password="builder")))["id_token"]
    for hint in (theirs, "nonsense", mine[:-4] + "AAAA"):
        assert answer_in(alice.asks(prompt="none", id_token_hint=hint))["error"] == "login_required"


def test_sessions_expire(alice: Person, clock: Clock) -> None:
    alice.signs_in()
    clock.now += 12 * 3600 + 1
    assert not alice.is_signed_in()


def test_an_old_session_cookie_is_refused(alice: Person) -> None:
    """The session ends at a sign-out and when another user signs in. [T9]"""
    old = Person(alice.issuer)
    alice.signs_in()
    old.browser.cookies.update(alice.browser.cookies)
    assert old.is_signed_in()
    alice.signs_in(name="bob", password="builder", prompt="login")
    assert not old.is_signed_in()
    old.browser.cookies.update(alice.browser.cookies)
    assert old.is_signed_in()
    alice.fills_in(alice.signs_out(), action="sign_out")
    assert not old.is_signed_in()
