"""The route ``GET /auth/callback``."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import time_machine

from pywry_auth.backends.base import Backend
from pywry_auth.exceptions import AuthenticationError
from pywry_auth.flow.revocation import retry_revocations
from pywry_auth.providers.oidc import GenericOIDCProvider
from tests.deploy.binding import BINDING, binding_of
from tests.deploy.web import (
    CLIENT_SECRET,
    SITE,
    Web,
    attributes,
    parameter,
    set_cookies,
    with_parameter,
)
from tests.faults import Faults
from tests.person import Person


def test_a_callback_redirects_to_the_application_with_a_session_cookie(web_on: Web) -> None:
    browser = web_on.browser()
    response = browser.sign_in("/auth/login?next=/members")
    assert (response.status_code, response.location, response.data) == (303, f"{SITE}/members", b"")
    assert response.headers["Cache-Control"] == "no-store"
    assert "Cookie" in response.headers["Vary"]
    cookies = set_cookies(response)
    assert list(cookies) == ["pywry_session"]
    found = attributes(cookies["pywry_session"])
    assert found.pop("expires")
    assert found == {"max-age": "86400", "httponly": "True", "path": "/", "samesite": "Lax"}
    assert len(cookies["pywry_session"].partition(";")[0]) < 120, "P13"
    assert browser.get("/members").json["user_id"] == "user-alice"


def test_without_next_a_callback_redirects_to_the_root(web: Web) -> None:
    assert web.browser().sign_in().location == f"{web.base_url}/"


def test_a_session_has_user_id_roles_and_profile(web_on: Web) -> None:
    before = time.time()
    web_on.browser().sign_in()
    (session,) = web_on.sessions.list_user_sessions("user-alice")
    assert (session.user_id, session.roles) == ("user-alice", ["viewer"])
    assert session.metadata["user_info"]["email"] == "alice@example.com"
    assert before <= session.created_at <= time.time()
    assert session.expires_at == session.created_at + 86400


def test_tokens_are_stored_under_the_user_id(web_on: Web) -> None:
    web_on.browser().sign_in()
    assert web_on.tokens.list_keys() == ["user-alice"]
    tokens = web_on.tokens.load("user-alice")
    assert tokens is not None
    assert web_on.provider is not None
    assert web_on.provider.get_userinfo(tokens.access_token)["sub"] == "user-alice"
    assert (tokens.issuer, tokens.client_id) == (web_on.idp.issuer, "site")


def test_login_and_callback_can_reach_different_workers(
    make_web: Callable[..., Web], redis_backend: Backend
) -> None:
    """Two instances of the application share only the store and the secret. [P8]"""
    one, two = make_web(redis_backend), make_web(redis_backend)
    first, second = one.browser(), two.browser()
    callback = first.authorize()
    second.plant(BINDING, binding_of(first))
    assert second.get(callback).status_code == 303
    first.plant("pywry_session", second.cookie() or "")
    assert first.user == "user-alice"


def test_a_head_request_does_not_use_the_callback(web: Web) -> None:
    """HEAD has no effect. [T27]"""
    browser = web.browser()
    callback = browser.authorize()
    response = browser.head(callback)
    assert (response.status_code, response.data) == (204, b"")
    assert not set_cookies(response)
    assert web.calls()["token"] == 0
    assert browser.get(callback).status_code == 303


def test_a_cancelled_login_gets_access_denied(web: Web) -> None:
    browser = web.browser()
    callback = Person(action="cancel").authorize(browser.begin("/auth/login?next=/members"))
    response = browser.get(callback)
    assert response.status_code == 403
    assert response.json["error"] == "access_denied"
    assert "You cancelled" in response.json["error_description"]
    assert not set_cookies(response)
    assert web.calls()["token"] == 0
    assert browser.user is None


@pytest.mark.parametrize(
    ("path", "status", "error"),
    [("/token", 502, "provider_unreachable"), ("/jwks", 502, "provider_unreachable")],
)
def test_an_unreachable_provider_creates_no_session(
    web: Web, faults: Faults, path: str, status: int, error: str
) -> None:
    """The login fails with an error. [T28]"""
    browser = web.browser()
    callback = browser.authorize()
    faults.down(path)
    response = browser.get(callback)
    assert (response.status_code, response.json["error"]) == (status, error)
    assert not set_cookies(response)
    assert web.sessions.list_user_sessions("user-alice") == []
    assert web.tokens.list_keys() == []


def test_without_userinfo_the_id_token_identifies_the_user(web: Web, faults: Faults) -> None:
    faults.down("/userinfo")
    browser = web.browser()
    browser.sign_in()
    assert browser.user == "user-alice"
    assert browser.get("/auth/userinfo").json["user_info"]["nonce"]


@pytest.mark.parametrize(
    ("rules", "status"),
    [
        ({}, 303),
        ({"roles_claim": "department"}, 502),
        ({"allowed_email_domains": "example.com"}, 303),
        ({"allowed_users": "user-alice"}, 303),
    ],
)
def test_without_userinfo_a_rule_that_reads_a_missing_claim_fails_the_login(
    make_web: Callable[..., Web], faults: Faults, rules: dict[str, str], status: int
) -> None:
    """The user is neither admitted nor refused, and keeps no grant. A later sign-in keeps its own. [S4]"""
    faults.answers["/userinfo"] = (403, "text/html", b"blocked canary")
    web = make_web(settings=rules)
    browser = web.browser()
    response = browser.get(browser.authorize())
    assert response.status_code == status
    assert len(web.tokens.list_keys()) == (1 if status == 303 else 0)
    if status == 502:
        assert response.json["error"] == "provider_unreachable"
        assert "try again" in response.json["error_description"]
        assert "canary" not in response.text
        assert not set_cookies(response)
        assert web.tokens.revocations.next_due(lambda tokens: True) is not None
        faults.answers.clear()
        browser.sign_in()
        with time_machine.travel(time.time() + 60, tick=True):
            retry_revocations(web.tokens, lambda tokens: web.provider)
        assert web.calls()["revoke"] == 0, "many providers would end the new grant too"
        assert web.tokens.revocations.next_due() is None


def test_a_provider_that_never_returns_the_nonce(make_web: Callable[..., Web], faults: Faults) -> None:
    """The profile comes from UserInfo, and PKCE is required. [S3]"""
    web = make_web()
    provider = GenericOIDCProvider("site", CLIENT_SECRET, issuer_url=web.idp.issuer, use_nonce=False)
    site = make_web(provider=provider)
    browser = site.browser()
    assert "nonce=" not in browser.begin()
    browser.sign_in()
    assert browser.user == "user-alice"
    assert "nonce" not in browser.get("/auth/userinfo").json["user_info"]
    faults.down("/userinfo")
    other = site.browser()
    assert other.get(other.authorize()).status_code == 502
    with pytest.raises(AuthenticationError, match="PKCE"):
        make_web(provider={"corp": provider}, use_pkce=False)


def test_a_profile_without_a_user_id_creates_no_session(make_web: Callable[..., Web], faults: Faults) -> None:
    faults.answers["/userinfo"] = (200, "application/json", b'{"name": "unknown", "sub": ""}')
    web = make_web()
    at = web.idp.issuer
    custom = GenericOIDCProvider(
        "site",
        CLIENT_SECRET,
        scopes=["email"],
        authorize_url=f"{at}/authorize",
        token_url=f"{at}/token",
        userinfo_url=f"{at}/userinfo",
    )
    browser = make_web(provider=custom).browser()
    response = browser.get(browser.authorize())
    assert (response.status_code, response.json["error"]) == (400, "no_user_id")
    assert not set_cookies(response)


@pytest.mark.parametrize("name", ["state", "code", "iss", "error", "session_state"])
def test_a_duplicate_parameter_is_refused(web: Web, name: str) -> None:
    """A parameter must not appear twice. [T34]"""
    browser = web.browser()
    callback = browser.authorize()
    twice = f"{with_parameter(callback, name, 'a')}&{name}=a"
    response = browser.get(twice)
    assert response.status_code == 400
    assert response.json["error"] in ("invalid_state", "invalid_response")
    assert web.calls()["token"] == 0
    assert not set_cookies(response)


def test_a_duplicate_valid_state_is_refused_and_not_used(web: Web) -> None:
    """The login can still be finished. [T34]"""
    browser = web.browser()
    callback = browser.authorize()
    response = browser.get(f"{callback}&state={parameter(callback, 'state')}")
    assert (response.status_code, response.json["error"]) == (400, "invalid_state")
    assert browser.get(callback).status_code == 303


@pytest.mark.parametrize("issuer", [None, "https://evil.example.com", ""])
def test_a_response_of_another_issuer_is_refused(web: Web, issuer: str | None) -> None:
    """This provider announces that it always sends ``iss`` (RFC 9207). [T4]"""
    browser = web.browser()
    response = browser.get(with_parameter(browser.authorize(), "iss", issuer))
    assert (response.status_code, response.json["error"]) == (400, "issuer_mismatch")
    assert web.calls()["token"] == 0


@pytest.mark.parametrize("code", [None, "", "forged"])
def test_an_invalid_code_creates_no_session(web: Web, code: str | None) -> None:
    browser = web.browser()
    response = browser.get(with_parameter(browser.authorize(), "code", code))
    assert response.status_code == 400
    assert response.json["error"] in ("invalid_response", "invalid_grant")
    assert not set_cookies(response)


def test_a_code_of_another_login_creates_no_session(web: Web) -> None:
    """The attacker's code under the victim's state fails at the code challenge. [T5]"""
    attacker, victim = web.browser(), web.browser()
    stolen = parameter(attacker.authorize(username="bob"), "code")
    response = victim.get(with_parameter(victim.authorize(), "code", stolen))
    assert (response.status_code, response.json["error"]) == (400, "invalid_grant")
    assert victim.user is None


@pytest.mark.parametrize(
    "query", ["", "state=", "code=x", "state=%00", "state=%ff&code=x", "state=" + "s" * 9000]
)
def test_an_incomplete_response_is_refused(web: Web, query: str) -> None:
    browser = web.browser()
    browser.begin()
    response = browser.get(f"/auth/callback?{query}")
    assert response.status_code == 400
    assert response.json["error"] in ("invalid_state", "state_unknown")
    assert web.calls()["token"] == 0


def test_a_response_with_too_many_parameters_is_refused(web: Web) -> None:
    """The pending login is not used. [T41]"""
    browser = web.browser()
    callback = browser.authorize()
    response = browser.get(f"{callback}{'&x=1' * 64}")
    assert (response.status_code, response.json["error"]) == (400, "invalid_response")
    assert browser.get(f"{callback}&x=1").status_code == 303
