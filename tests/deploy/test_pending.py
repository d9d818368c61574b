"""Logins that fail: one code for each cause, several tabs, back and expiry."""

from __future__ import annotations

import logging
import re
from html import unescape

import pytest
import time_machine

from tests.deploy.web import SITE, Browser, Web, set_cookies, with_parameter
from tests.faults import Faults
from tests.person import Person

_TRY_AGAIN = re.compile(r'<a class="button" href="([^"]*)">(?:Try again|Use another account)</a>')


def _cookie_missing(web: Web) -> tuple[Browser, str]:
    return web.browser(), web.browser().authorize()


def _other_browser(web: Web) -> tuple[Browser, str]:
    other = web.browser()
    other.begin()
    return other, web.browser().authorize()


def _state_unknown(web: Web) -> tuple[Browser, str]:
    browser = web.browser()
    return browser, with_parameter(browser.authorize(), "state", "never-given-out")


def _state_used(web: Web) -> tuple[Browser, str]:
    browser = web.browser()
    callback = browser.authorize()
    assert browser.get(callback).status_code == 303
    browser.post("/auth/logout")
    return browser, callback


CAUSES = {
    "cookie_missing": _cookie_missing,
    "other_browser": _other_browser,
    "state_unknown": _state_unknown,
    "state_used": _state_used,
}


@pytest.mark.parametrize("cause", CAUSES)
def test_each_cause_has_its_error_code_and_one_log_line(
    web_on: Web, cause: str, caplog: pytest.LogCaptureFixture
) -> None:
    """No cookie is set, and no token request is sent. [P1]"""
    browser, callback = CAUSES[cause](web_on)
    before = web_on.calls()["token"]
    caplog.clear()
    with caplog.at_level(logging.INFO, "pywry_auth.audit"):
        response = browser.get(callback)
    assert (response.status_code, response.json["error"]) == (400, cause)
    assert not set_cookies(response)
    assert web_on.calls()["token"] == before
    (line,) = [record.getMessage() for record in caplog.records if record.name == "pywry_auth.audit"]
    assert f"login_failed error='{cause}'" in line


@pytest.mark.parametrize("cause", CAUSES)
def test_each_cause_has_a_page_with_a_working_link(web: Web, cause: str) -> None:
    """The link begins a login that succeeds. [P1]"""
    browser, callback = CAUSES[cause](web)
    response = browser.get(callback, html=True)
    assert response.status_code == 400
    assert response.content_type == "text/html; charset=utf-8"
    assert cause in response.text
    again = _TRY_AGAIN.search(response.text)
    assert again is not None
    assert browser.sign_in(again[1]).status_code == 303


def test_several_tabs_can_sign_in_in_any_order(web_on: Web) -> None:
    """Each callback finds its own login. [P2]"""
    browser = web_on.browser()
    callbacks = [browser.authorize(f"/auth/login?next=/tab/{number}") for number in range(5)]
    for number in (3, 0, 4, 1, 2):
        response = browser.get(callbacks[number], html=True)
        assert (response.status_code, response.location) == (303, f"{SITE}/tab/{number}")
    assert browser.user == "user-alice"
    assert len(web_on.sessions.list_user_sessions("user-alice")) == 1, "each ended the one before"


@pytest.mark.parametrize("html", [True, False])
def test_going_back_leads_a_signed_in_user_to_the_application(web: Web, html: bool) -> None:
    """A used state never redeems a code. [P3, P4]"""
    browser = web.browser()
    callback = browser.authorize("/auth/login?next=/members")
    assert browser.get(callback).status_code == 303
    cookie = browser.cookie()
    for _ in range(3):
        response = browser.get(callback, html=html)
        assert response.status_code == 303
        assert response.location in (f"{web.base_url}/", f"{SITE}/members")
        assert not set_cookies(response)
    assert web.calls()["token"] == 1
    assert browser.cookie() == cookie


def test_an_unknown_state_leads_a_signed_in_user_to_the_application(web: Web, alice: Browser) -> None:
    """Its login may have been evicted. [P3]"""
    response = alice.get("/auth/callback?code=x&state=forgotten")
    assert (response.status_code, response.location) == (303, f"{web.base_url}/")
    assert web.calls()["token"] == 1


def test_another_browsers_state_is_refused_for_a_signed_in_user(web: Web, alice: Browser) -> None:
    """No redirect into the application hides the attempt. [T1]"""
    response = alice.get(web.browser().authorize(username="bob"))
    assert (response.status_code, response.json["error"]) == (400, "other_browser")
    assert alice.user == "user-alice"


def test_an_expired_login_restarts_once_and_keeps_next(web_on: Web) -> None:
    """The restart has a new state, and the old code is never used. [P5]"""
    browser = web_on.browser()
    with time_machine.travel(0, tick=True) as clock:
        clock.move_to(1_900_000_000)
        callback = browser.authorize("/auth/login?next=/members%3Fpage=2")
        clock.shift(601)
        response = browser.get(callback, html=True)
        assert response.status_code == 302
        assert response.location.startswith(f"{web_on.idp.issuer}/authorize?")
        assert web_on.calls()["token"] == 0
        again = Person().authorize(response.location)
        response = browser.get(again, html=True)
        assert (response.status_code, response.location) == (303, f"{SITE}/members?page=2")
        assert browser.user == "user-alice"


def test_a_login_that_expires_twice_gets_a_page(web_on: Web) -> None:
    """There is no redirect loop. [P5]"""
    browser = web_on.browser()
    with time_machine.travel(1_900_000_000, tick=True) as clock:
        callback = browser.authorize("/auth/login?next=/members")
        clock.shift(601)
        callback = Person().authorize(browser.get(callback).location)
        clock.shift(601)
        response = browser.get(callback, html=True)
        assert response.status_code == 400
        assert "state_expired" in response.text
        assert "too long" in response.text
        assert web_on.calls()["token"] == 0


def test_a_login_within_ten_minutes_succeeds(web: Web) -> None:
    """A pending login is valid for ten minutes. [P5]"""
    browser = web.browser()
    with time_machine.travel(1_900_000_000, tick=True) as clock:
        url = browser.begin()
        clock.shift(595)
        assert browser.get(Person().authorize(url)).status_code == 303


def test_a_long_expired_login_is_unknown(web: Web) -> None:
    browser = web.browser()
    with time_machine.travel(1_900_000_000, tick=True) as clock:
        callback = browser.authorize()
        clock.shift(1201)
        assert browser.get(callback).json["error"] == "state_unknown"


def test_an_expired_login_of_a_signed_in_user_leads_to_the_application(web: Web) -> None:
    """Another tab signed in, so the user need not return to the provider. [P3]"""
    browser = web.browser()
    with time_machine.travel(1_900_000_000, tick=True) as clock:
        callback = browser.authorize("/auth/login?next=/members")
        clock.shift(601)
        browser.sign_in()
        before = web.calls()
        response = browser.get(callback)
        assert (response.status_code, response.location) == (303, f"{SITE}/members")
        assert web.calls() == before


def test_trying_again_after_a_refusal_keeps_next(web: Web) -> None:
    """A new login leads to the same page. [P1]"""
    browser = web.browser()
    callback = Person(action="cancel").authorize(browser.begin("/auth/login?next=/members%3Fa=1%26b=2"))
    again = re.search(r'<a class="button" href="([^"]+)">Sign in<', browser.get(callback, html=True).text)
    assert again is not None
    assert browser.sign_in(unescape(again[1])).location == f"{SITE}/members?a=1&b=2"


def test_trying_again_after_a_failed_start_keeps_next(
    web: Web, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The provider was unreachable when the login began. [P1]"""
    monkeypatch.setattr("pywry_auth.protocol.shared_fetch._REMEMBERED_SECONDS", 0.0)
    faults.down("/.well-known/openid-configuration")
    page = web.browser().get("/auth/login?next=/members", html=True)
    faults.answers.clear()
    again = _TRY_AGAIN.search(page.text)
    assert again is not None
    assert web.browser().sign_in(unescape(again[1])).location == f"{SITE}/members"


def test_trying_again_never_leads_to_another_site(web: Web, faults: Faults) -> None:
    """The page's link is checked like any other ``next``. [T7, T35]"""
    faults.down("/.well-known/openid-configuration")
    page = web.browser().get("/auth/login?next=//evil.example.com/%22%3E%3Cscript%3E", html=True)
    assert page.status_code == 502
    assert "evil" not in page.text
    assert "<script" not in page.text
