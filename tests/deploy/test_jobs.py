"""Background jobs beside a site: the site does the work that only it can do."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from pywry_auth.exceptions import TokenExpiredError, TokenRefreshError
from pywry_auth.flow.user_tokens import UserTokens
from pywry_auth.testing.identity_provider import IdentityProvider
from tests.deploy.web import Web

_USER = "user-alice"


def _expire(web: Web) -> None:
    tokens = web.tokens.load(_USER)
    assert tokens is not None
    web.tokens.replace(_USER, replace(tokens, issued_at=time.time() - 3601), tokens)


def test_the_site_ends_the_sessions_of_a_grant_that_a_job_found_ended(web: Web) -> None:
    jobs, browser = UserTokens(web.provider, web.tokens), web.browser()
    browser.sign_in()
    tokens = web.tokens.load(_USER)
    assert tokens is not None
    assert web.provider.revoke_token(tokens.refresh_token or "")
    _expire(web)
    with pytest.raises(TokenRefreshError):
        jobs.get_access_token(_USER)
    assert browser.user == _USER
    assert browser.post("/auth/refresh").status_code == 401
    assert browser.user is None
    with pytest.raises(TokenExpiredError):
        jobs.get_access_token(_USER)


def test_the_site_reviews_the_access_rules_after_the_refresh_of_a_job(
    make_web: Callable[..., Web], idp: IdentityProvider
) -> None:
    """The site needs no refresh of its own for that."""
    scopes = {"roles_claim": "email", "role_map": {"alice@example.com": "editor"}}
    web = make_web(settings=scopes)
    jobs, browser = UserTokens(web.provider, web.tokens), web.browser()
    browser.sign_in()
    _expire(web)
    (session,) = web.sessions.list_user_sessions(_USER)
    web.sessions.set_given_roles(session.session_id, {"claim": ["admin"]}, frozenset({"admin"}))
    (session,) = web.sessions.list_user_sessions(_USER)
    assert "admin" in session.roles
    jobs.get_access_token(_USER)
    calls = idp.calls["token"]
    assert browser.post("/auth/refresh").status_code == 200
    assert idp.calls["token"] == calls
    (session,) = web.sessions.list_user_sessions(_USER)
    assert session.roles == ["viewer", "editor"]


def test_a_job_and_the_site_refresh_once(web: Web, idp: IdentityProvider) -> None:
    jobs, browser = UserTokens(web.provider, web.tokens), web.browser()
    browser.sign_in()
    _expire(web)
    before = idp.calls["token"]
    token = jobs.get_access_token(_USER)
    assert browser.post("/auth/refresh").status_code == 200
    assert jobs.get_access_token(_USER) == token
    assert idp.calls["token"] == before + 1
