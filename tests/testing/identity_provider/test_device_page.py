"""The page on which a user enters the code of a device."""

from __future__ import annotations

import pytest
import requests

from pywry_auth.testing.identity_provider import IdentityProvider
from pywry_auth.testing.identity_provider.device_requests import MISSES
from tests.testing.identity_provider.device import Device
from tests.testing.identity_provider.person import Clock, Person, assert_protected

_UNKNOWN = "That code is unknown or has expired."
_CONFIRMATION = "Connect this device?"


@pytest.fixture
def device(provider: IdentityProvider) -> Device:
    return Device(provider.issuer)


def _opens(person: Person, **query: str) -> requests.Response:
    return person.browser.get(f"{person.issuer}/device", params=query, timeout=10)


def _types(person: Person, code: str) -> requests.Response:
    return person.fills_in(_opens(person), user_code=code, action="code")


def _signs_in(person: Person, page: requests.Response, password: str = "wonderland") -> requests.Response:
    return person.fills_in(page, username="alice", password=password, action="login")


def test_a_code_in_the_address_fills_in_the_field_and_nothing_more(device: Device, alice: Person) -> None:
    code = device.starts()
    alice.signs_in()
    page = _opens(alice, user_code=code)
    assert f'value="{code}"' in page.text
    assert "Check that your device or program shows this code." in page.text
    assert "pywry-demo" not in page.text
    assert device.refusal()[1] == "authorization_pending"
    confirmation = alice.fills_in(page, user_code=code, action="code")
    assert _CONFIRMATION in confirmation.text
    assert device.refusal()[1] == "slow_down"


def test_case_dashes_and_spaces_do_not_matter(device: Device, alice: Person) -> None:
    code = device.starts()
    left, right = code.split("-")
    for typed in (code.lower(), left + right, f" {left} {right} ", f"{left}\u2013{right}"):
        assert "to connect <strong>pywry-demo</strong>" in _types(alice, typed).text


def test_the_confirmation_shows_the_context(device: Device, alice: Person, clock: Clock) -> None:
    """The user can notice a request of an attacker (RFC 10027)."""
    code = device.starts(scope="openid email")
    clock.now += 130
    wrong = _signs_in(alice, _types(alice, code), "wrong")
    assert wrong.status_code == 403
    assert "do not match" in wrong.text
    page = _signs_in(alice, wrong)
    assert_protected(page)
    assert "form-action 'self';" in page.headers["Content-Security-Policy"]
    for fact in (
        *("<dd>pywry-demo</dd>", f"<dd>{code}</dd>", "<dd>17:46:40 UTC, 2 minutes ago</dd>"),
        *("<dd>127.0.0.1</dd>", "<dd>Alice Example</dd>", "<li>See your e-mail address</li>"),
        "Continue only if you started this sign-in on your own device.",
    ):
        assert fact in page.text
    assert "See your name" not in page.text
    other = alice.fills_in(page, action="other")
    assert 'name="password"' in other.text
    assert "connected" in alice.fills_in(page, action="allow").text
    assert "Already used" in alice.fills_in(page, action="deny").text
    assert "Already used" in _types(alice, code).text
    assert device.polls().status_code == 200
    assert alice.is_signed_in()


def test_a_user_denies_before_or_after_signing_in(device: Device, alice: Person) -> None:
    page = _types(alice, device.starts())
    assert "You denied the request" in alice.fills_in(page, action="deny").text
    assert device.refusal()[1] == "access_denied"


def test_no_page_allows_without_a_signed_in_user(device: Device, alice: Person) -> None:
    page = _types(alice, device.starts())
    assert 'name="password"' in alice.fills_in(page, action="allow").text
    assert device.refusal()[1] == "authorization_pending"


def test_unknown_and_expired_codes_get_the_same_page(device: Device, alice: Person, clock: Clock) -> None:
    code = device.starts()
    clock.now += 600
    pages = [_types(alice, typed) for typed in (code, "BBBB-BBBB", "", "\x00<b>é\u2028")]
    assert {page.status_code for page in pages} == {403}
    for page in pages:
        assert_protected(page)
        assert _UNKNOWN in page.text
        assert 'aria-invalid="true" aria-describedby="problem"' in page.text
    assert pages[0].text.replace(code, "BBBB-BBBB") == pages[1].text
    assert "<b>" not in pages[3].text


def test_a_form_of_another_browser_decides_nothing(device: Device, alice: Person) -> None:
    """The form's secret is tied to the browser. [T1]"""
    victim = Person(alice.issuer)
    victim.signs_in()
    page = _signs_in(alice, _types(alice, device.starts()))
    _opens(victim)
    refused = victim.fills_in(page, action="allow")
    assert (refused.status_code, "This page had expired" in refused.text) == (403, True)
    bare = victim.browser.post(
        f"{alice.issuer}/device",
        data={"user_code": device.answer["user_code"], "action": "allow"},
        timeout=10,
    )
    assert "Enter the code" in bare.text
    assert device.refusal()[1] == "authorization_pending"


def test_codes_cannot_be_guessed(device: Device, alice: Person, clock: Clock) -> None:
    """After a few wrong codes, even the right one waits a minute (RFC 8628 §5.1)."""
    code = device.starts()
    for _ in range(MISSES):
        assert _UNKNOWN in _types(Person(alice.issuer), "BBBB-BBBB").text
    page = _types(alice, code)
    assert (page.status_code, "Too many wrong codes" in page.text) == (429, True)
    clock.now += 60
    assert 'name="password"' in _types(alice, code).text


def test_the_page_is_protected(alice: Person) -> None:
    page = _opens(alice, user_code='"><script>')
    assert_protected(page)
    assert "form-action 'self';" in page.headers["Content-Security-Policy"]
    assert 'value="&#34;&gt;&lt;script&gt;"' in page.text
