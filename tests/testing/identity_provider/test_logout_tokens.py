"""Logout tokens, and invalid ones for tests."""

from __future__ import annotations

import base64
import json
from typing import Any, cast

import pytest
import requests
from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet, OctKey

from pywry_auth.testing.identity_provider import IdentityProvider
from tests.testing.identity_provider.person import Clock, claims_of

EVENT = "http://schemas.openid.net/event/backchannel-logout"


def header_of(token: str) -> dict[str, Any]:
    text = token.partition(".")[0]
    return cast("dict[str, Any]", json.loads(base64.urlsafe_b64decode(text + "==")))


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
def test_a_logout_token_is_valid(algorithm: str, clock: Clock) -> None:
    with IdentityProvider(signing_algorithm=algorithm, clock=clock) as provider:
        token = provider.logout_token("pywry-web", sub="user-alice", sid="s")
        keys = KeySet.import_key_set(requests.get(f"{provider.issuer}/jwks", timeout=10).json())
    claims = jwt.decode(token, keys, algorithms=[algorithm]).claims
    assert len(claims.pop("jti")) > 20
    assert claims == {
        "iss": provider.issuer,
        "aud": "pywry-web",
        "iat": int(clock.now),
        "exp": int(clock.now) + 120,
        "events": {EVENT: {}},
        "sub": "user-alice",
        "sid": "s",
    }
    header = header_of(token)
    assert (header["alg"], header["typ"]) == (algorithm, "logout+jwt")


def test_claims_and_header_can_be_replaced_and_removed(provider: IdentityProvider) -> None:
    token = provider.logout_token(
        "pywry-web", sid="s", header={"typ": "JWT", "kid": None}, exp=None, nonce="n", aud=["a", "b"]
    )
    claims = claims_of(token, provider.issuer)
    assert (claims["nonce"], claims["aud"]) == ("n", ["a", "b"])
    assert {"exp", "sub"}.isdisjoint(claims)
    assert header_of(token) == {"alg": "ES256", "typ": "JWT"}


def test_a_foreign_key_is_not_published(provider: IdentityProvider) -> None:
    with pytest.raises((JoseError, ValueError)):
        claims_of(provider.logout_token("pywry-web", sid="s", key="foreign"), provider.issuer)
    kid = header_of(provider.logout_token("pywry-web", sid="s"))["kid"]
    forged = provider.logout_token("pywry-web", sid="s", key="foreign", header={"kid": kid})
    with pytest.raises(JoseError):
        claims_of(forged, provider.issuer)


def test_without_a_key_there_is_no_signature(provider: IdentityProvider) -> None:
    token = provider.logout_token("pywry-web", sid="s", key="none")
    assert token.endswith(".")
    assert header_of(token) == {"alg": "none", "typ": "logout+jwt"}


def test_the_secret_of_the_client_can_sign(provider: IdentityProvider) -> None:
    token = provider.logout_token("pywry-web", sid="s", key="secret")
    signed = jws.deserialize_compact(token, OctKey.import_key("pywry-web-secret"), algorithms=["HS256"])
    assert json.loads(signed.payload)["sid"] == "s"
    with pytest.raises(ValueError, match="has no secret"):
        provider.logout_token("pywry-demo", sid="s", key="secret")


def test_an_unknown_kind_of_key_is_an_error(provider: IdentityProvider) -> None:
    with pytest.raises(ValueError, match="own, foreign, none or secret"):
        provider.logout_token("pywry-web", sid="s", key=cast("Any", "other"))


def test_a_misspelt_name_is_an_error(provider: IdentityProvider) -> None:
    """A test of a site would otherwise pass with a token that means nothing."""
    for arguments in ({}, {"sub": None}, {"sid": ""}):
        with pytest.raises(ValueError, match="needs sub or sid"):
            provider.logout_token("pywry-web", **cast("Any", arguments))
    with pytest.raises(ValueError, match="no client 'site'; it has: pywry-demo, pywry-web"):
        provider.logout_token("site", sub="user-alice")
    for asked in (provider.sids, provider.end_sessions):
        with pytest.raises(ValueError, match="no user of this name; it has: alice, bob"):
            asked("alcie")


def test_a_token_without_user_and_session_is_asked_for(provider: IdentityProvider) -> None:
    token = provider.logout_token("pywry-web", sub=None, sid=None, aud="nosuch")
    claims = claims_of(token, provider.issuer)
    assert ({"sub", "sid"}.isdisjoint(claims), claims["aud"]) == (True, "nosuch")
