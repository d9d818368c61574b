"""The OpenID Foundation's modules for back-channel logout of a client, at the local provider."""

from __future__ import annotations

from typing import Any

import pytest
import requests

from tests.deploy.hosts import FLASK, Host
from tests.deploy.web import Browser, SiteResponse, Web

EVENT = "http://schemas.openid.net/event/backchannel-logout"


@pytest.fixture
def hosting() -> Host:
    """The web host that serves the routes."""
    return FLASK


@pytest.fixture
def alice(web: Web) -> Browser:
    """A browser where alice is signed in."""
    browser = web.browser()
    browser.sign_in()
    return browser


def test_oidcc_client_test_rp_backchannel_rpinitlogout(web: Web, alice: Browser) -> None:
    """A valid logout token ends the user's sessions. [T33]"""
    assert _told(web).status_code == 200
    assert alice.user is None


def test_oidcc_client_test_rp_backchannel_rpinitlogout_alg_none(web: Web, alice: Browser) -> None:
    """A logout token without a signature is refused. [T33]"""
    _assert_refused(_told(web, key="none"), alice)


def test_oidcc_client_test_rp_backchannel_rpinitlogout_wrong_alg(web: Web, alice: Browser) -> None:
    """A logout token with another algorithm than the provider's is refused. [T33]"""
    _assert_refused(_told(web, key="secret"), alice)


def test_oidcc_client_test_rp_backchannel_rpinitlogout_no_event(web: Web, alice: Browser) -> None:
    """A logout token without events is refused. [T33]"""
    _assert_refused(_told(web, events=None), alice)


def test_oidcc_client_test_rp_backchannel_rpinitlogout_wrong_event(web: Web, alice: Browser) -> None:
    """A logout token with another event is refused. [T33]"""
    _assert_refused(_told(web, events={f"{EVENT}-wrong": {}}), alice)


def test_oidcc_client_test_rp_backchannel_rpinitlogout_with_nonce(web: Web, alice: Browser) -> None:
    """A logout token with a nonce is refused. [T33]"""
    _assert_refused(_told(web, nonce="n-0S6_WzA2Mj"), alice)


def test_oidcc_client_test_rp_backchannel_rpinitlogout_wrong_aud(web: Web, alice: Browser) -> None:
    """A logout token for another client is refused. [T33]"""
    _assert_refused(_told(web, aud="another-client"), alice)


def test_oidcc_client_test_rp_backchannel_rpinitlogout_wrong_iss(web: Web, alice: Browser) -> None:
    """A logout token of another issuer is refused. [T33]"""
    _assert_refused(_told(web, iss="https://another.example.com"), alice)


def _told(web: Web, **changes: Any) -> SiteResponse:
    """Sign out of one browser at the site and the provider; return the answer to the logout token."""
    first = web.browser()
    first.sign_in()
    response = first.post("/auth/logout", html=True)
    requests.get(response.location or "", allow_redirects=False, timeout=20)
    token = web.idp.logout_token("site", sub="user-alice", **changes)
    return web.client().post("/auth/backchannel-logout", data={"logout_token": token})


def _assert_refused(response: SiteResponse, browser: Browser) -> None:
    assert (response.status_code, response.json["error"]) == (400, "invalid_request")
    assert response.headers["Cache-Control"] == "no-store"
    assert browser.user == "user-alice"
