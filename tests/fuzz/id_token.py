"""The door ``id_token``: an ID token from the token endpoint.

An input of two lines is a header and claims that the provider signs. Any other input is a whole token, in
which ``{token}`` stands for a valid one.
"""

from __future__ import annotations

import base64
import json
from functools import cache
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import TokenError
from pywry_auth.strict_json import without_surrogates
from tests.fuzz.provider import ISSUER, JWK, KEY, METADATA, FuzzedProvider
from tests.fuzz.values import assert_storable
from tests.protocol.forge import b64, sign, signature
from tests.protocol.issuer import CLIENT_ID, NOW, claims_of

_LEEWAY = 60


def check(data: bytes) -> None:
    """Assert that a token is accepted only with the provider's signature and fitting claims."""
    token = _token(data)
    try:
        claims = _provider().validate_id_token(token)
    except TokenError as error:
        assert error.error == ErrorCode.INVALID_ID_TOKEN
        assert str(error).isprintable()
        assert not [part for part in token.split(".") if len(part) > 20 and part in str(error)]
    else:
        _assert_signed(token)
        _assert_fits(claims)
        # Only a lone surrogate is changed.
        assert claims == without_surrogates(json.loads(_decoded(token.split(".")[1])))


def _token(data: bytes) -> str:
    header, line, claims = data.partition(b"\n")
    if line:
        signed = f"{b64(header)}.{b64(claims)}"
        return f"{signed}.{b64(signature('ES256', KEY, signed.encode()))}"
    return data.decode("utf-8", "surrogateescape").replace("{token}", _valid())


def _assert_signed(token: str) -> None:
    signed, _, mark = token.rpartition(".")
    numbers = _decoded(mark)
    r, s = int.from_bytes(numbers[:32]), int.from_bytes(numbers[32:])
    assert isinstance(KEY, ec.EllipticCurvePrivateKey)
    try:
        KEY.public_key().verify(encode_dss_signature(r, s), signed.encode(), ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        pytest.fail("a token with a wrong signature was accepted")
    header = json.loads(_decoded(signed.split(".")[0]))
    assert header["alg"] == "ES256"
    assert "crit" not in header


def _assert_fits(claims: dict[str, Any]) -> None:
    assert claims["iss"] == ISSUER
    audience = claims["aud"]
    assert audience == CLIENT_ID or CLIENT_ID in audience
    assert claims["exp"] > NOW - _LEEWAY
    assert claims["iat"] <= NOW + _LEEWAY
    assert claims.get("nbf") is None or claims["nbf"] <= NOW + _LEEWAY
    assert isinstance(claims["sub"], str)
    assert 0 < len(claims["sub"]) <= 255
    assert_storable(claims)


def _decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


@cache
def _valid() -> str:
    return sign({"alg": "ES256", "kid": "main"}, claims_of(ISSUER), KEY, "ES256")


@cache
def _provider() -> FuzzedProvider:
    replies = {"/.well-known/openid-configuration": METADATA, "/jwks": {"keys": [JWK]}}
    return FuzzedProvider({path: json.dumps(body).encode() for path, body in replies.items()})
