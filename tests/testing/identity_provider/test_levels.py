"""The levels of authentication: a password, and a second factor."""

from __future__ import annotations

from typing import Any

import pytest

from pywry_auth.testing.identity_provider.levels import DEMO_CODE, PASSWORD, SECOND_FACTOR
from tests.testing.identity_provider.person import (
    Clock,
    Person,
    answer_in,
    assert_protected,
    claims_of,
    json_of,
)


def _claims(person: Person, code: str) -> dict[str, Any]:
    claims = claims_of(json_of(person.exchanges(code))["id_token"], person.issuer)
    return {name: claims[name] for name in ("acr", "amr", "auth_time", "sid")}


def _level(person: Person, **changes: str) -> tuple[str, list[str]]:
    claims = _claims(person, answer_in(person.asks(prompt="none", **changes))["code"])
    return claims["acr"], claims["amr"]


def test_a_second_factor_is_asked_after_the_password(alice: Person, clock: Clock) -> None:
    page = alice.signs_in(acr_values=f"urn:unknown {SECOND_FACTOR}")
    assert "Second step" in page.text
    assert DEMO_CODE in page.text
    assert_protected(page)
    clock.now += 5
    wrong = alice.confirms(page, "000000")
    assert (wrong.status_code, "That code is wrong" in wrong.text) == (403, True)
    claims = _claims(alice, answer_in(alice.confirms(wrong, f" {DEMO_CODE}"))["code"])
    assert (claims["acr"], claims["amr"]) == (SECOND_FACTOR, ["pwd", "otp"])
    assert claims["auth_time"] == int(clock.now)
    assert _level(alice) == (SECOND_FACTOR, ["pwd", "otp"])
    assert _level(alice, acr_values=PASSWORD) == (PASSWORD, ["pwd"])


def test_a_signed_in_user_only_adds_the_second_factor(alice: Person) -> None:
    alice.signs_in()
    before = alice.tokens_again()
    page = alice.asks(acr_values=SECOND_FACTOR)
    assert "Second step" in page.text
    assert "Alice Example" in page.text
    claims = _claims(alice, answer_in(alice.confirms(page))["code"])
    assert claims["sid"] == claims_of(before["id_token"], alice.issuer)["sid"]
    assert "Continue as Alice Example" in alice.asks(acr_values=SECOND_FACTOR).text


def test_a_fresh_password_is_asked_before_the_second_factor(alice: Person, clock: Clock) -> None:
    alice.signs_in()
    clock.now += 100
    for changes in ({"prompt": "login"}, {"max_age": "99"}):
        page = alice.asks(acr_values=SECOND_FACTOR, **changes)
        assert "Password" in page.text
        page = alice.fills_in(page, username="alice", password="wonderland", action="login")
        assert _claims(alice, answer_in(alice.confirms(page))["code"])["auth_time"] == int(clock.now)
        clock.now += 100


@pytest.mark.parametrize("values", ["urn:unknown", PASSWORD, ""])
def test_other_levels_ask_nothing_more(alice: Person, values: str) -> None:
    """``acr_values`` is a preference (OIDC Core §3.1.2.1)."""
    claims = _claims(alice, answer_in(alice.signs_in(acr_values=values))["code"])
    assert (claims["acr"], claims["amr"]) == (PASSWORD, ["pwd"])
    assert "Continue as Alice Example" in alice.asks(acr_values=values).text


def test_prompt_none_returns_the_level_of_the_session(alice: Person) -> None:
    alice.signs_in()
    assert _level(alice, acr_values=SECOND_FACTOR) == (PASSWORD, ["pwd"])


def test_the_first_step_cannot_be_skipped(alice: Person) -> None:
    page = alice.signs_in(acr_values=SECOND_FACTOR, prompt="login")
    for step in ("", "guessed"):
        answer = alice.fills_in(page, code=DEMO_CODE, action="code", step=step)
        assert "Password" in answer.text
    other = alice.asks(acr_values=SECOND_FACTOR, prompt="login", state="another")
    stolen = page.text.partition('name="step" value="')[2].partition('"')[0]
    assert len(stolen) == 64
    assert "Password" in alice.fills_in(other, code=DEMO_CODE, action="code", step=stolen).text
    assert answer_in(alice.fills_in(page, action="cancel"))["error"] == "access_denied"


def test_a_form_cannot_skip_the_second_step(alice: Person) -> None:
    page = alice.signs_in(acr_values=SECOND_FACTOR)
    assert "Second step" in alice.fills_in(page, action="continue").text


def test_a_session_that_ended_has_no_second_step(alice: Person) -> None:
    page = alice.signs_in(acr_values=SECOND_FACTOR)
    alice.fills_in(alice.signs_out(), action="sign_out")
    assert "Password" in alice.confirms(page).text
