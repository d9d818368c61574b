"""The endpoints for programs."""

from __future__ import annotations

import base64
import hashlib
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from pywry_auth.testing.identity_provider import IdentityProvider
from tests.testing.identity_provider.person import (
    CALLBACK,
    CHALLENGE,
    SECRET,
    VERIFIER,
    Clock,
    Person,
    basic,
    claims_of,
    json_of,
    refusal_in,
)

API = "https://api.example.com"


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"code_verifier": None}, "invalid_request"),
        ({"code_verifier": CHALLENGE}, "invalid_grant"),
        ({"code_verifier": "x" * 42}, "invalid_grant"),
        ({"redirect_uri": None}, "invalid_request"),
        ({"redirect_uri": CALLBACK + "/"}, "invalid_grant"),
        ({"redirect_uri": "http://127.0.0.1:1/callback"}, "invalid_grant"),
        ({"code": None}, "invalid_request"),
        ({"code": "unknown"}, "invalid_grant"),
        ({"grant_type": None}, "invalid_request"),
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({"client_id": "other"}, "invalid_grant"),
        ({"code_verifier": [VERIFIER, VERIFIER]}, "invalid_request"),
    ],
)
def test_an_exchange_with_wrong_parameters_is_refused(
    alice: Person, changes: dict[str, str | list[str] | None], error: str
) -> None:
    response = alice.exchanges(alice.code(), **changes)
    assert refusal_in(response) == (400, error)
    assert response.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("verifier", ["x" * 42, "x" * 129, "x" * 42 + "=", "x" * 42 + "\n"])
def test_a_verifier_must_be_well_formed_even_if_it_fits(alice: Person, verifier: str) -> None:
    """A verifier has 43 to 128 unreserved characters (RFC 7636 §4.1)."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest())
    code = alice.code(code_challenge=digest.rstrip(b"=").decode())
    assert refusal_in(alice.exchanges(code, code_verifier=verifier)) == (400, "invalid_grant")


@pytest.mark.parametrize("form", [{"client_secret": SECRET}, {"client_id": "other"}])
def test_a_client_may_authenticate_in_one_way_only(alice: Person, form: dict[str, str]) -> None:
    """Basic and form together are refused (RFC 6749 §2.3)."""
    token = alice.tokens()["access_token"]
    url, header = f"{alice.issuer}/introspect", basic("web app", SECRET)
    assert json_of(requests.post(url, data={"token": token}, headers=header, timeout=10))["active"]
    response = requests.post(url, data={"token": token} | form, headers=header, timeout=10)
    assert refusal_in(response) == (400, "invalid_request")


@pytest.mark.parametrize(
    ("form", "header"),
    [
        ({"client_id": "unknown"}, {}),
        ({}, {}),
        ({"client_id": "web app"}, {}),
        ({"client_id": "web app", "client_secret": "wrong"}, {}),
        ({"client_id": "pywry-demo", "client_secret": "any"}, {}),
        ({}, basic("web app", "wrong")),
        ({}, {"Authorization": "Basic !"}),
        ({}, {"Authorization": "Basic /w=="}),
        ({}, {"Authorization": "Bearer x"}),
    ],
)
def test_a_client_must_authenticate(
    provider: IdentityProvider, form: dict[str, str], header: dict[str, str]
) -> None:
    for path in ("/token", "/revoke", "/introspect"):
        response = requests.post(provider.issuer + path, data=form, headers=header, timeout=10)
        assert refusal_in(response) == (401, "invalid_client")
        assert response.headers["WWW-Authenticate"].startswith("Basic ")


def test_a_code_works_once_and_a_second_exchange_revokes_its_tokens(alice: Person) -> None:
    """The code may be stolen (RFC 6749 §4.1.2)."""
    code = alice.code()
    tokens = json_of(alice.exchanges(code))
    json_of(alice.profile(tokens))
    assert refusal_in(alice.exchanges(code)) == (400, "invalid_grant")
    assert alice.profile(tokens).status_code == 401
    assert refusal_in(alice.refreshes(tokens)) == (400, "invalid_grant")


@pytest.mark.parametrize("asked", [API, ""])
def test_an_access_token_is_for_the_resource_of_its_request(alice: Person, asked: str) -> None:
    """A token request may name only the resource of the authorization request (RFC 8707 §2.2)."""
    tokens = json_of(alice.exchanges(alice.code(resource=asked), resource=asked))
    plain = json_of(alice.refreshes(tokens))
    bound = json_of(alice.refreshes(plain, resource=asked))
    audiences = []
    for issued in (tokens, plain, bound):
        form = {"token": issued["access_token"]}
        url, header = f"{alice.issuer}/introspect", basic("web app", SECRET)
        audiences.append(json_of(requests.post(url, data=form, headers=header, timeout=10))["aud"])
    for_asked = [asked] if asked else "pywry-demo"
    assert audiences == [for_asked, "pywry-demo", for_asked]
    other = "https://other.example.com" if asked else API
    assert refusal_in(alice.refreshes(bound, resource=other)) == (400, "invalid_target")
    assert json_of(alice.refreshes(bound)), "the grant lasts"
    refused = alice.exchanges(alice.code(resource=asked), resource=other)
    assert refusal_in(refused) == (400, "invalid_target")


def test_of_many_exchanges_at_once_one_succeeds(alice: Person) -> None:
    code = alice.code()
    with ThreadPoolExecutor(16) as pool:
        statuses = [response.status_code for response in pool.map(alice.exchanges, [code] * 16)]
    assert sorted(statuses) == [200] + [400] * 15


def test_refreshing_rotates_and_narrows(alice: Person, clock: Clock) -> None:
    first = alice.tokens()
    clock.now += 50
    second = json_of(alice.refreshes(first, scope="openid email"))
    assert second["scope"] == "openid email"
    assert set(json_of(alice.profile(second))) == {"sub", "email", "email_verified"}
    assert second["refresh_token"] != first["refresh_token"]
    assert "name" in json_of(alice.profile(first))
    claims = claims_of(second["id_token"], alice.issuer)
    assert "nonce" not in claims
    assert (claims["iat"] - claims["auth_time"], claims["sub"]) == (50, "user-alice")
    assert json_of(alice.refreshes(second))["scope"] == "openid profile email"


def test_a_wider_scope_is_refused_and_does_not_spend_the_token(alice: Person) -> None:
    tokens = alice.tokens()
    assert refusal_in(alice.refreshes(tokens, scope="openid groups")) == (400, "invalid_scope")
    json_of(alice.refreshes(tokens))


def test_a_refresh_token_used_twice_ends_its_grant(alice: Person) -> None:
    first = alice.tokens()
    second = json_of(alice.refreshes(first))
    assert refusal_in(alice.refreshes(first)) == (400, "invalid_grant")
    assert refusal_in(alice.refreshes(second)) == (400, "invalid_grant")
    assert alice.profile(first).status_code == alice.profile(second).status_code == 401
    json_of(alice.profile(json_of(alice.exchanges(alice.code(prompt="login")))))


def test_another_client_can_neither_use_a_refresh_token_nor_end_its_grant(alice: Person) -> None:
    tokens = alice.tokens()
    assert refusal_in(alice.refreshes(tokens, client_id="other")) == (400, "invalid_grant")
    json_of(alice.refreshes(tokens))


def test_without_openid_there_is_no_id_token_and_no_profile(alice: Person) -> None:
    tokens = alice.tokens(scope="email offline_access nonsense")
    assert tokens["scope"] == "email offline_access"
    assert "id_token" not in tokens
    response = alice.profile(tokens)
    assert response.status_code == 403
    assert 'error="insufficient_scope"' in response.headers["WWW-Authenticate"]


def test_codes_and_tokens_expire(clock: Clock) -> None:
    provider = IdentityProvider(
        signing_algorithm="ES256",
        clock=clock,
        access_token_lifetime=5,
        refresh_token_lifetime=100,
        code_lifetime=10,
    )
    with provider:
        alice = Person(provider.issuer)
        late = alice.code()
        clock.now += 10
        assert refusal_in(alice.exchanges(late)) == (400, "invalid_grant")
        tokens = json_of(alice.exchanges(alice.code(prompt="login")))
        assert tokens["expires_in"] == 5
        clock.now += 4.9
        json_of(alice.profile(tokens))
        clock.now += 0.1
        assert alice.profile(tokens).status_code == 401
        clock.now += 94
        tokens = json_of(alice.refreshes(tokens))
        clock.now += 100
        assert refusal_in(alice.refreshes(tokens)) == (400, "invalid_grant")


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_userinfo_returns_the_claims_of_the_scope(alice: Person, method: str) -> None:
    tokens = alice.tokens(scope="openid groups")
    expected = {"sub": "user-alice", "groups": ["staff", "admins"]}
    assert json_of(alice.profile(tokens, method)) == expected


@pytest.mark.parametrize(
    ("header", "challenge"),
    [
        ({}, 'Bearer realm="userinfo"'),
        ({"Authorization": "Basic eDp5"}, 'Bearer realm="userinfo"'),
        ({"Authorization": "Bearer unknown"}, 'error="invalid_token"'),
        ({"Authorization": "Bearer "}, 'error="invalid_token"'),
    ],
)
def test_userinfo_refuses_a_missing_or_invalid_token(
    provider: IdentityProvider, header: dict[str, str], challenge: str
) -> None:
    """Only a request with a token gets the reason (RFC 6750 §3)."""
    response = requests.get(f"{provider.issuer}/userinfo", headers=header, timeout=10)
    assert response.status_code == 401
    assert challenge in response.headers["WWW-Authenticate"]
    assert ("error=" in response.headers["WWW-Authenticate"]) == ("error=" in challenge)


def test_a_token_of_one_kind_is_not_accepted_as_another(alice: Person) -> None:
    """Access token, refresh token and code are distinguished. [T10]"""
    tokens = alice.tokens()
    for wrong in (tokens["refresh_token"], tokens["id_token"]):
        assert alice.profile({"access_token": wrong}).status_code == 401
    assert refusal_in(alice.refreshes({"refresh_token": tokens["access_token"]})) == (400, "invalid_grant")


def test_revoking_an_access_token_leaves_the_refresh_token(alice: Person) -> None:
    tokens = alice.tokens()
    assert alice.revokes(tokens["access_token"]).status_code == 200
    assert alice.profile(tokens).status_code == 401
    json_of(alice.profile(json_of(alice.refreshes(tokens))))


def test_revoking_a_refresh_token_ends_the_grant(alice: Person) -> None:
    tokens = alice.tokens()
    newer = json_of(alice.refreshes(tokens))
    assert alice.revokes(newer["refresh_token"]).status_code == 200
    assert alice.profile(tokens).status_code == alice.profile(newer).status_code == 401


def test_revoking_an_unknown_or_foreign_token_succeeds_without_effect(alice: Person) -> None:
    """The status is 200 in each case (RFC 7009 §2.2)."""
    tokens = alice.tokens()
    assert alice.revokes("unknown").status_code == 200
    assert alice.revokes(tokens["refresh_token"], client_id="other").status_code == 200
    json_of(alice.profile(tokens))
    assert refusal_in(alice.revokes("")) == (400, "invalid_request")


def test_introspection_describes_a_token(alice: Person, clock: Clock) -> None:
    """An invalid token is only inactive (RFC 7662 §2.2)."""
    tokens = alice.tokens()
    expected = {
        "active": True,
        "iss": alice.issuer,
        "sub": "user-alice",
        "aud": "pywry-demo",
        "client_id": "pywry-demo",
        "username": "alice",
        "scope": "openid profile email",
        "token_type": "Bearer",
        "iat": int(clock.now),
        "exp": int(clock.now) + 3600,
    }
    assert alice.worth_of(tokens["access_token"]) == expected
    assert alice.worth_of(tokens["refresh_token"])["exp"] == int(clock.now) + 30 * 86400
    alice.revokes(tokens["refresh_token"])
    for token in (tokens["access_token"], tokens["refresh_token"], "unknown"):
        assert alice.worth_of(token) == {"active": False}
    form = {"client_id": "pywry-demo", "token": tokens["access_token"]}
    response = requests.post(f"{alice.issuer}/introspect", data=form, timeout=10)
    assert refusal_in(response) == (401, "invalid_client")
