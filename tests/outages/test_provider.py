"""A site whose provider is down."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import time_machine

from pywry_auth.error_codes import ErrorCode
from tests.deploy.web import Browser, Web
from tests.faults import Faults, hanging

_ENDPOINTS = ("/.well-known/openid-configuration", "/authorize", "/token", "/jwks", "/userinfo", "/revoke")


def test_existing_sessions_go_on_without_the_provider(web: Web, faults: Faults) -> None:
    """Their pages, profile, tokens and sign-out need no call. [T64, S8]"""
    stays, leaves = web.browser(), web.browser()
    for browser in (stays, leaves):
        browser.sign_in()
    token = web.tokens.load("user-alice")
    assert token is not None
    # At once after the sign-in, a refresh would need no call either.
    with time_machine.travel(time.time() + 600, tick=True):
        _check_during(web, faults, stays, leaves, token.access_token)
        faults.answers.clear()
        assert stays.post("/auth/refresh").status_code == 200


def _check_during(web: Web, faults: Faults, stays: Browser, leaves: Browser, access_token: str) -> None:
    faults.down(*_ENDPOINTS)
    assert stays.get("/members").status_code == 200
    assert stays.get("/auth/userinfo").status_code == 200
    assert stays.get("/auth/ready").status_code == 200
    user_tokens = web.app.blueprints["auth"].auth_routes.user_tokens
    assert user_tokens.get_access_token("user-alice") == access_token
    refused = stays.post("/auth/refresh")
    assert (refused.status_code, refused.json["error"]) == (502, ErrorCode.PROVIDER_UNREACHABLE)
    assert leaves.post("/auth/logout").status_code == 200
    assert (stays.user, leaves.user) == ("user-alice", None)


@pytest.mark.parametrize("path", ["/token", "/.well-known/openid-configuration"])
def test_the_status_does_not_wait_for_a_silent_provider(
    make_web: Callable[..., Web], faults: Faults, path: str
) -> None:
    """It is as fast as before. [T44]"""
    browser = make_web().browser()
    browser.sign_in()
    with hanging(faults, path):
        began = time.monotonic()
        assert [browser.user for _ in range(20)] == ["user-alice"] * 20
        assert time.monotonic() - began < 2
