"""Claims: a token for another client, time, login or user is refused.

These tokens have valid signatures.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import TokenError, TokenRefreshError
from pywry_auth.protocol.id_token import ExpectedClaims, check_claims, check_same_subject
from pywry_auth.protocol.jws import VerifiedToken
from pywry_auth.providers.oidc import GenericOIDCProvider
from tests.protocol.forge import ALGORITHMS, at_hash, changed, kind_of, make_key, public_jwk, sign
from tests.protocol.issuer import ACCESS_TOKEN, CLIENT_ID, NOW, SUBJECT, ScriptedIssuer, claims_of
from tests.protocol.refusal import assert_refused

NONCE = "canary-nonce"
SKEW = 60
OTHER = "canary-other-client"


@pytest.fixture(scope="module")
def issuer() -> Iterator[ScriptedIssuer]:
    with ScriptedIssuer() as scripted:
        scripted.metadata["id_token_signing_alg_values_supported"] = ALGORITHMS
        kinds = sorted({kind_of(name) for name in ALGORITHMS})
        scripted.jwks = [public_jwk(make_key(kind), kid=kind) for kind in kinds]
        yield scripted


@pytest.fixture(scope="module")
def client(issuer: ScriptedIssuer) -> GenericOIDCProvider:
    return issuer.provider(clock_skew_seconds=SKEW)


@dataclass(frozen=True)
class Signer:
    """Signs claims with the issuer's key."""

    issuer: ScriptedIssuer
    algorithm: str

    def token(self, payload: object) -> str:
        kind = kind_of(self.algorithm)
        return sign({"alg": self.algorithm, "kid": kind}, payload, make_key(kind), self.algorithm)

    def claims(self, **members: object) -> dict[str, Any]:
        return claims_of(self.issuer.url, nonce=NONCE, **members)

    @property
    def at_hash(self) -> str:
        return at_hash(ACCESS_TOKEN, self.algorithm)


Fault = Callable[[Signer], dict[str, object]]


def says(**members: object) -> Fault:
    return lambda signer: members


FAULTS: dict[str, Fault] = {
    "iss missing": says(iss=...),
    "iss null": says(iss=None),
    "iss empty": says(iss=""),
    "iss another": says(iss="https://canary.example.com"),
    "iss with a slash": lambda s: {"iss": s.issuer.url + "/"},
    "iss in capitals": lambda s: {"iss": s.issuer.url.upper()},
    "iss with a path": lambda s: {"iss": s.issuer.url + "/tenant"},
    "iss as the prefix of a host": lambda s: {"iss": s.issuer.url + ".canary.example.com"},
    "iss with a space": lambda s: {"iss": s.issuer.url + " "},
    "iss a list": lambda s: {"iss": [s.issuer.url]},
    "iss an object": lambda s: {"iss": {"url": s.issuer.url}},
    # T20
    "aud missing": says(aud=...),
    "aud null": says(aud=None),
    "aud empty": says(aud=""),
    "aud another": says(aud=OTHER),
    "aud another, azp us": says(aud=OTHER, azp=CLIENT_ID),
    "aud longer": says(aud=CLIENT_ID + "0"),
    "aud in capitals": says(aud=CLIENT_ID.upper()),
    "aud in one string with another": says(aud=f"{CLIENT_ID} {OTHER}"),
    "aud an empty list": says(aud=[]),
    "aud a list without us": says(aud=[OTHER, "third"], azp=CLIENT_ID),
    "aud a list with us and no azp": says(aud=[CLIENT_ID, OTHER]),
    "azp null, aud a list with us": says(aud=[CLIENT_ID, OTHER], azp=None),
    "azp empty, aud a list with us": says(aud=[CLIENT_ID, OTHER], azp=""),
    "azp another, aud a list with us": says(aud=[CLIENT_ID, OTHER], azp=OTHER),
    "azp another, aud a list with only us": says(aud=[CLIENT_ID], azp=OTHER),
    "aud nested": says(aud=[[CLIENT_ID]]),
    "aud an object": says(aud={CLIENT_ID: True}),
    "aud with a number": says(aud=[CLIENT_ID, 5], azp=CLIENT_ID),
    "aud with null": says(aud=[CLIENT_ID, None], azp=CLIENT_ID),
    "aud true": says(aud=True),
    "azp another": says(azp=OTHER),
    "azp a list": says(azp=[CLIENT_ID]),
    "azp zero": says(azp=0),
    # times
    "exp missing": says(exp=...),
    "exp null": says(exp=None),
    "exp empty": says(exp=""),
    "exp zero": says(exp=0),
    "exp a day ago": says(exp=NOW - 86400),
    "exp just beyond the leeway": says(exp=NOW - SKEW),
    "exp a string": says(exp=str(NOW + 300)),
    "exp true": says(exp=True),
    "exp a list": says(exp=[NOW + 300]),
    "exp NaN": says(exp=float("nan")),
    "exp Infinity": says(exp=float("inf")),
    "exp -Infinity": says(exp=float("-inf")),
    "exp huge": says(exp=10**400),
    "exp in milliseconds": says(exp=(NOW + 300) * 1000),
    "exp negative": says(exp=-1),
    "iat missing": says(iat=...),
    "iat null": says(iat=None),
    "iat empty": says(iat=""),
    "iat beyond the leeway": says(iat=NOW + SKEW + 1),
    "iat next year": says(iat=NOW + 365 * 86400),
    "iat a string": says(iat=str(NOW)),
    "iat NaN": says(iat=float("nan")),
    "iat true": says(iat=True),
    "nbf beyond the leeway": says(nbf=NOW + SKEW + 1),
    "nbf a string": says(nbf="canary"),
    "nbf NaN": says(nbf=float("nan")),
    # T5
    "nonce missing": says(nonce=...),
    "nonce another": says(nonce="canary-of-another-login"),
    "nonce empty": says(nonce=""),
    "nonce null": says(nonce=None),
    "nonce longer": says(nonce=NONCE + "x"),
    "nonce cut": says(nonce=NONCE[:-1]),
    "nonce not ASCII": says(nonce="canary-nonc\u00e9"),
    "nonce with a lone surrogate": says(nonce="canary-\ud800"),
    "nonce a list": says(nonce=[NONCE]),
    "nonce true": says(nonce=True),
    "sub missing": says(sub=...),
    "sub empty": says(sub=""),
    "sub of spaces": says(sub="   "),
    "sub a number": says(sub=248289761001),
    "sub null": says(sub=None),
    "sub true": says(sub=True),
    "sub a list": says(sub=[SUBJECT]),
    "sub too long": says(sub="x" * 256),
    # T19
    "at_hash of another token": lambda s: {"at_hash": at_hash("canary-another", s.algorithm)},
    "at_hash whole": lambda s: {"at_hash": at_hash(ACCESS_TOKEN, s.algorithm) * 2},
    "at_hash cut": lambda s: {"at_hash": s.at_hash[:-1]},
    "at_hash padded": lambda s: {"at_hash": s.at_hash + "=="},
    "at_hash of another hash": lambda s: {
        "at_hash": at_hash(ACCESS_TOKEN, "RS384" if s.algorithm[2:] != "384" else "RS256")
    },
    "at_hash an empty list": says(at_hash=[]),
    "at_hash a list": lambda s: {"at_hash": [s.at_hash]},
    "at_hash not ASCII": says(at_hash="\u00e9" * 22),
}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_wrong_claim_refuses_the_token(
    issuer: ScriptedIssuer, client: GenericOIDCProvider, algorithm: str
) -> None:
    """The issuer signed these tokens, but they are for another client, time or login. [T5, T17, T19, T20]"""
    signer = Signer(issuer, algorithm)
    for fault, change in FAULTS.items():
        print(fault)  # the last one is that of a failure
        token = signer.token(changed(signer.claims(), **change(signer)))
        text = assert_refused(client, token, nonce=NONCE, access_token=ACCESS_TOKEN)
        assert re.search(EXPECTED[fault.split()[0]], text), "the error names the claim"


EXPECTED = {
    "iss": r"\(iss\)",
    "aud": r"\(aud\)|\(azp\)",
    "azp": r"\(azp\)",
    "exp": r"exp\b|expired [0-9]+ s ago",
    "iat": r"iat\b|[0-9]+ s in the future",
    "nbf": r"nbf\b|[0-9]+ s in the future",
    "nonce": r"nonce",
    "sub": r"\(sub\)",
    "at_hash": r"\(at_hash\)",
}


GOOD: dict[str, Fault] = {
    "as it should be": says(),
    "aud a list of us": says(aud=[CLIENT_ID]),
    "azp us": says(azp=CLIENT_ID),
    "azp null": says(azp=None),
    "azp empty": says(azp=""),
    "aud a list with us, azp us": says(aud=["resource-server", CLIENT_ID], azp=CLIENT_ID),
    "exp within the leeway": says(exp=NOW - SKEW + 1),
    "exp a fraction": says(exp=NOW + 0.5),
    "exp in many years": says(exp=NOW + 10**9),
    "iat at the leeway's edge": says(iat=NOW + SKEW),
    "iat long ago": says(iat=1),
    "nbf at the leeway's edge": says(nbf=NOW + SKEW),
    "sub of 255": says(sub="x" * 255),
    "sub not ASCII": says(sub="J\u00f6rg"),
    "at_hash": lambda s: {"at_hash": s.at_hash},
    "at_hash null": says(at_hash=None),
    "at_hash empty": says(at_hash=""),
    "nbf null": says(nbf=None),
    "nbf empty": says(nbf=""),
    "further claims": says(acr="0", amr=["pwd"], auth_time=NOW, sid="s", deep={"a": [{}]}),
}


@pytest.mark.parametrize("good", GOOD)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_claims_of_a_valid_token_are_returned(
    issuer: ScriptedIssuer, client: GenericOIDCProvider, algorithm: str, good: str
) -> None:
    """The valid half of the table, with both clocks at the edges of the leeway. [T17, T20, P21]"""
    signer = Signer(issuer, algorithm)
    claims = changed(signer.claims(), **GOOD[good](signer))
    assert client.validate_id_token(signer.token(claims), NONCE, ACCESS_TOKEN) == claims


def test_an_at_hash_that_is_not_defined_for_the_algorithm_is_refused() -> None:
    """A new algorithm in the list must not disable this check. [T19]"""
    claims = claims_of("https://id.example.com", at_hash=at_hash(ACCESS_TOKEN, "RS256"))
    expected = ExpectedClaims("https://id.example.com", CLIENT_ID, NOW, SKEW)
    token = VerifiedToken("ML-DSA-65", claims)
    assert check_claims(token, expected) == claims
    with pytest.raises(TokenError, match="not defined for ML-DSA-65"):
        check_claims(token, expected, access_token=ACCESS_TOKEN)


@pytest.mark.parametrize("value", [..., None, ""])
def test_an_absent_nonce_is_told_from_a_wrong_one(
    issuer: ScriptedIssuer, client: GenericOIDCProvider, value: object
) -> None:
    """Only the setting helps with a provider that never returns it. [S11]"""
    signer = Signer(issuer, "ES256")
    text = assert_refused(client, signer.token(changed(signer.claims(), nonce=value)), nonce=NONCE)
    assert "it has no nonce. If the provider never returns one, set PYWRY_OAUTH2__USE_NONCE to false" in text
    wrong = assert_refused(client, signer.token(signer.claims() | {"nonce": "another"}), nonce=NONCE)
    assert "USE_NONCE" not in wrong


@pytest.mark.parametrize("claim", ["nonce", "at_hash"])
def test_nonce_and_at_hash_are_compared_in_constant_time(
    issuer: ScriptedIssuer, client: GenericOIDCProvider, monkeypatch: pytest.MonkeyPatch, claim: str
) -> None:
    """``hmac.compare_digest`` is the only comparison. [T36]"""
    signer = Signer(issuer, "ES256")
    claims = signer.claims(at_hash=signer.at_hash) | {claim: "another"}
    monkeypatch.setattr(hmac, "compare_digest", lambda received, expected: True)
    assert client.validate_id_token(signer.token(claims), NONCE, ACCESS_TOKEN) == claims


def test_the_at_hash_example_of_openid_connect_core(
    issuer: ScriptedIssuer, client: GenericOIDCProvider
) -> None:
    """The example's access token has this hash under RS256, and no other hash (OIDC Core appendix A.3)."""
    signer = Signer(issuer, "RS256")
    token = signer.token(signer.claims(at_hash="77QmUPtjPfzWtF2AnpK9RQ"))
    access_token = "jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Y"
    assert client.validate_id_token(token, NONCE, access_token)["sub"] == SUBJECT
    assert_refused(client, token, nonce=NONCE, access_token=access_token.lower())


@pytest.mark.parametrize("members", [{"nonce": "any"}, {"nonce": ...}, {"at_hash": "any"}])
def test_a_nonce_that_was_not_sent_is_not_compared(
    issuer: ScriptedIssuer, client: GenericOIDCProvider, members: dict[str, object]
) -> None:
    """A refreshed ID token has no nonce, or that of the first one (OIDC Core §12.2)."""
    signer = Signer(issuer, "ES256")
    assert client.validate_id_token(signer.token(changed(signer.claims(), **members)))["sub"] == SUBJECT


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sub", "canary-mallory"),
        ("sub", ...),
        ("iss", "https://canary.example.com"),
        ("aud", OTHER),
        ("aud", [CLIENT_ID, OTHER]),
        ("aud", []),
        ("nonce", "canary-of-another-login"),
        ("nonce", []),
        ("azp", OTHER),
    ],
)
def test_a_refreshed_token_of_another_user_is_refused(name: str, value: object) -> None:
    """Issuer, subject and audience must stay the same (OIDC Core §12.2). [T37]"""
    first = claims_of("https://id.example.com", nonce=NONCE, azp=CLIENT_ID)
    check_same_subject(first, changed(first, exp=NOW + 9999, iat=NOW, email="alice@example.org"))
    with pytest.raises(TokenRefreshError, match=name) as caught:
        check_same_subject(first, changed(first, **{name: value}))
    assert caught.value.error == ErrorCode.SUBJECT_MISMATCH
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    ("before", "later"),
    [
        ({}, {"aud": [CLIENT_ID]}),
        ({"aud": [CLIENT_ID]}, {"aud": CLIENT_ID}),
        ({"aud": [CLIENT_ID, "b"]}, {"aud": ["b", CLIENT_ID, "b"]}),
        ({"nonce": NONCE}, {"nonce": NONCE}),
        ({"nonce": NONCE, "azp": CLIENT_ID}, {"nonce": ..., "azp": ...}),
        ({"nonce": NONCE}, {"nonce": None}),
        ({"nonce": NONCE, "azp": CLIENT_ID}, {"nonce": "", "azp": ""}),
        ({"nonce": "", "azp": ""}, {"nonce": NONCE, "azp": CLIENT_ID}),
        ({"nonce": ..., "azp": ...}, {"nonce": NONCE, "azp": CLIENT_ID}),
        ({"iss": ..., "aud": ...}, {}),
        ({"sub": ...}, {}),
    ],
)
def test_a_refreshed_token_may_be_written_in_another_form(
    before: dict[str, object], later: dict[str, object]
) -> None:
    """The audiences are a set, and claims that are not known cannot differ (OIDC Core §12.2). [S4]"""
    first = claims_of("https://id.example.com")
    check_same_subject(changed(first, **before), changed(first, **later))
