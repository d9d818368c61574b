"""Logout tokens: each check of OIDC Back-Channel Logout §2.6 on its own. [T33]"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import TokenError
from pywry_auth.protocol.logout_token import EVENT, addressee_of
from pywry_auth.providers.oidc import GenericOIDCProvider
from tests.protocol.forge import b64, changed, make_key, public_jwk, segment, sign, sign_with_secret
from tests.protocol.issuer import CLIENT_ID, CLIENT_SECRET, NOW, SUBJECT, ScriptedIssuer
from tests.protocol.refusal import everything_told

SKEW = 60


@pytest.fixture(scope="module")
def issuer() -> Iterator[ScriptedIssuer]:
    with ScriptedIssuer() as scripted:
        yield scripted


@pytest.fixture(scope="module")
def provider(issuer: ScriptedIssuer) -> GenericOIDCProvider:
    return issuer.provider(clock_skew_seconds=SKEW)


def claims_of(issuer: ScriptedIssuer, **members: object) -> dict[str, Any]:
    usual = {
        "iss": issuer.url,
        "aud": CLIENT_ID,
        "iat": NOW - 1,
        "exp": NOW + 120,
        "jti": "canary-jti",
        "sub": SUBJECT,
        "sid": "canary-sid",
        "events": {EVENT: {}},
    }
    return changed(usual, **members)


def token_of(issuer: ScriptedIssuer, header: Any = None, **members: object) -> str:
    head = changed({"alg": "ES256", "kid": "main", "typ": "logout+jwt"}, **(header or {}))
    return sign(head, claims_of(issuer, **members), issuer.key, "ES256")


ACCEPTED: dict[str, dict[str, object]] = {
    "as the specification has it": {},
    "only a user": {"sid": ...},
    "only a session": {"sub": ...},
    "one audience in a list": {"aud": [CLIENT_ID]},
    "two audiences and this party": {"aud": [CLIENT_ID, "other"], "azp": CLIENT_ID},
    "no expiry, as in earlier drafts": {"exp": ...},
    "expired within the skew": {"exp": NOW - SKEW + 1},
    "issued ahead within the skew": {"iat": NOW + SKEW},
    "old within the skew": {"iat": NOW - 300 - SKEW + 1},
    "a fraction of a second": {"iat": NOW - 0.5},
    "further events": {"events": {EVENT: {}, "https://example.com/event": {}}},
    "an event with members": {"events": {EVENT: {"reason": "x"}}},
    "unknown claims": {"toe": 1, "txn": "x"},
}


@pytest.mark.parametrize("members", ACCEPTED.values(), ids=ACCEPTED)
def test_a_valid_token_is_accepted(
    issuer: ScriptedIssuer, provider: GenericOIDCProvider, members: dict[str, object]
) -> None:
    claims = claims_of(issuer, **members)
    found = provider.client.validate_logout_token(token_of(issuer, **members))
    assert (found.issuer, found.client_id, found.token_id) == (issuer.url, CLIENT_ID, "canary-jti")
    assert (found.subject, found.sid) == (claims.get("sub"), claims.get("sid"))
    assert found.expires_at > NOW


@pytest.mark.parametrize("typ", ["logout+jwt", "LOGOUT+JWT", "application/logout+jwt", "JWT", "jwt", ...])
def test_the_types_of_the_specification_are_accepted(
    issuer: ScriptedIssuer, provider: GenericOIDCProvider, typ: object
) -> None:
    assert provider.client.validate_logout_token(token_of(issuer, {"typ": typ})).sid == "canary-sid"


REFUSED: dict[str, tuple[dict[str, object], str]] = {
    "iss another": ({"iss": "https://canary.example.com"}, "(iss)"),
    "iss with a slash": ({"iss": "http://127.0.0.1/"}, "(iss)"),
    "iss missing": ({"iss": ...}, "(iss)"),
    "aud another": ({"aud": "canary-client"}, "(aud)"),
    "aud missing": ({"aud": ...}, "(aud)"),
    "aud with a number": ({"aud": [CLIENT_ID, 7]}, "(aud)"),
    "azp missing": ({"aud": [CLIENT_ID, "other"]}, "(azp)"),
    "azp another": ({"azp": "canary-client"}, "(azp)"),
    "iat missing": ({"iat": ...}, "(iat)"),
    "iat null": ({"iat": None}, "(iat)"),
    "iat a text": ({"iat": str(NOW)}, "(iat)"),
    "iat true": ({"iat": True}, "(iat)"),
    "iat in the future": ({"iat": NOW + SKEW + 1}, "in the future"),
    "iat in milliseconds": ({"iat": NOW * 1000}, "iat is not a time"),
    "iat NaN": ({"iat": float("nan")}, "iat has a number that is not JSON"),
    "iat Infinity": ({"iat": float("inf")}, "iat has a number that is not JSON"),
    "too old": ({"iat": NOW - 300 - SKEW}, "older than 300 s"),
    "too old without an expiry": ({"iat": NOW - 300 - SKEW, "exp": ...}, "older than 300 s"),
    "too old with a late expiry": ({"iat": NOW - 86400, "exp": NOW + 86400}, "older than 300 s"),
    "expired": ({"exp": NOW - SKEW}, "it expired"),
    "exp a text": ({"exp": "canary"}, "exp is not a time"),
    "exp NaN": ({"exp": float("nan")}, "exp has a number that is not JSON"),
    "nbf in the future": ({"nbf": NOW + SKEW + 1}, "in the future"),
    "jti missing": ({"jti": ...}, "(jti)"),
    "jti empty": ({"jti": ""}, "jti is not a text"),
    "jti null": ({"jti": None}, "jti is not a text"),
    "jti a number": ({"jti": 7}, "jti is not a text"),
    "jti huge": ({"jti": "x" * 1001}, "jti is not a text"),
    "events missing": ({"events": ...}, "(events)"),
    "events null": ({"events": None}, "(events)"),
    "events a list": ({"events": [EVENT]}, "(events)"),
    "events a text": ({"events": EVENT}, "(events)"),
    "events without a logout": ({"events": {"https://example.com/event": {}}}, "(events)"),
    "event null": ({"events": {EVENT: None}}, "(events)"),
    "event a list": ({"events": {EVENT: []}}, "(events)"),
    "event true": ({"events": {EVENT: True}}, "(events)"),
    "nonce": ({"nonce": "canary"}, "nonce"),
    "nonce empty": ({"nonce": ""}, "nonce"),
    "nonce null": ({"nonce": None}, "nonce"),
    "neither sub nor sid": ({"sub": ..., "sid": ...}, "(sub)"),
    "sub null": ({"sub": None}, "sub is not a text"),
    "sub empty": ({"sub": ""}, "sub is not a text"),
    "sub a number": ({"sub": 7}, "sub is not a text"),
    "sub a list": ({"sub": [SUBJECT]}, "sub is not a text"),
    "sid null": ({"sid": None}, "sid is not a text"),
    "sid blank": ({"sid": "  "}, "sid is not a text"),
    "sid an object": ({"sid": {}}, "sid is not a text"),
}


@pytest.mark.parametrize(("members", "why"), REFUSED.values(), ids=REFUSED)
def test_a_wrong_claim_is_refused_by_name(
    issuer: ScriptedIssuer, provider: GenericOIDCProvider, members: dict[str, object], why: str
) -> None:
    """The text says which check failed, and repeats no value. [T33]"""
    assert why in _refused(provider, token_of(issuer, **members))


def test_a_token_that_the_provider_did_not_sign_is_refused(
    issuer: ScriptedIssuer, provider: GenericOIDCProvider
) -> None:
    """No signature, the client's secret, a foreign key and another type are refused. [T33]"""
    claims = claims_of(issuer)
    header = {"alg": "ES256", "kid": "main", "typ": "logout+jwt"}
    none = f"{segment(header | {'alg': 'none'})}.{segment(claims)}."
    hmac = sign_with_secret(header | {"alg": "HS256"}, claims, CLIENT_SECRET.encode())
    foreign = sign(header, claims, make_key("P-256", "foreign"), "ES256")
    other_alg = sign(header | {"alg": "RS256"}, claims, make_key("RSA"), "RS256")
    for token in (none, hmac, foreign, other_alg):
        _refused(provider, token)
    for typ in ("at+jwt", "secevent+jwt", "logout", ["logout+jwt"]):
        _refused(provider, token_of(issuer, {"typ": typ}))
    assert "critical" in _refused(provider, token_of(issuer, {"crit": ["x"], "x": 1}))


def test_an_algorithm_that_the_provider_does_not_announce_is_refused() -> None:
    """Its key set has a suitable key nevertheless. [T33]"""
    with ScriptedIssuer() as issuer:
        key = make_key("RSA", "rsa")
        issuer.jwks.append(public_jwk(key, kid="rsa", use="sig"))
        header = {"alg": "RS256", "kid": "rsa", "typ": "logout+jwt"}
        token = sign(header, claims_of(issuer), key, "RS256")
        _refused(issuer.provider(), token)


def test_an_id_token_is_no_logout_token(issuer: ScriptedIssuer, provider: GenericOIDCProvider) -> None:
    assert "(events)" in _refused(provider, issuer.id_token(nonce="canary", jti="canary"))


@pytest.mark.parametrize(
    "token",
    ["", ".", "a.b.c", "a.b.c.d.e", "a..c", f"a.{b64(b'[]')}.c", "é.é.é", f"a.{segment({'iss': 7})}.c"],
)
def test_a_text_that_names_no_provider_is_refused(token: str) -> None:
    with pytest.raises(TokenError) as caught:
        addressee_of(token)
    assert caught.value.error == ErrorCode.INVALID_REQUEST


def _refused(provider: GenericOIDCProvider, token: str) -> str:
    with pytest.raises(TokenError) as caught:
        provider.client.validate_logout_token(token)
    refusal = caught.value
    assert refusal.error == ErrorCode.INVALID_REQUEST
    text = str(refusal)
    assert text.startswith("The logout token is refused: ")
    assert "canary" not in everything_told(refusal)
    assert SUBJECT not in everything_told(refusal)
    return text
