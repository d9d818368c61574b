"""The OpenID Foundation's modules for RP-initiated logout of a client, at the local provider."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
import requests

from tests.deploy.hosts import FLASK, Host
from tests.deploy.web import Browser, Web

CONFIRMED = "You are signed out of this site and of"


@pytest.fixture
def hosting() -> Host:
    """The web host that serves the routes."""
    return FLASK


@pytest.fixture
def browser(make_web: Callable[..., Web]) -> Browser:
    """A browser with a session of alice.

    The package has the page after a sign-out.
    """
    browser = make_web(settings={"after_logout_url": "/auth/signed-out"}).browser()
    browser.sign_in()
    return browser


def _returns(browser: Browser) -> str:
    """Sign out at the site and at the provider, and return the address to which the provider redirects."""
    response = browser.post("/auth/logout", html=True)
    return requests.get(response.location or "", allow_redirects=False, timeout=20).headers["Location"]


def test_oidcc_client_test_rp_init_logout(browser: Browser, caplog: pytest.LogCaptureFixture) -> None:
    """The provider returns the state, and the page confirms its sign-out."""
    caplog.set_level(logging.INFO, "pywry_auth.deploy")
    page = browser.get(_returns(browser), html=True)
    assert (page.status_code, CONFIRMED in page.text) == (200, True)
    assert browser.user is None
    assert not [text for text in caplog.messages if "page after a sign-out" in text]


def test_oidcc_client_test_rp_init_logout_no_state(
    browser: Browser, caplog: pytest.LogCaptureFixture
) -> None:
    """The provider returns no state: this is logged, and the page confirms less."""
    caplog.set_level(logging.INFO, "pywry_auth.deploy")
    page = browser.get(_returns(browser).partition("?")[0], html=True)
    assert (page.status_code, CONFIRMED in page.text) == (200, False)
    assert "You are signed out of this site." in page.text
    assert [text for text in caplog.messages if "without a state" in text]
    assert browser.user is None


def test_oidcc_client_test_rp_init_logout_invalid_state(
    browser: Browser, caplog: pytest.LogCaptureFixture
) -> None:
    """The provider returns another state: it is ignored and logged without its value."""
    caplog.set_level(logging.INFO, "pywry_auth.deploy")
    page = browser.get(_returns(browser) + "canary", html=True)
    assert (page.status_code, CONFIRMED in page.text) == (200, False)
    assert [text for text in caplog.messages if "unknown state" in text]
    assert "canary" not in caplog.text
    assert browser.user is None
