"""The door ``key_set``: the provider's answer with its signing keys.

In an input, ``{key}`` stands for the provider's key and ``{forger}`` for the key of a forger with another ID.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from pywry_auth.exceptions import AuthenticationError, TokenError
from tests.fuzz.provider import ISSUER, JWK, KEY, METADATA, FuzzedProvider
from tests.protocol.forge import make_key, public_jwk, sign, sign_with_secret
from tests.protocol.issuer import claims_of

_FORGER = make_key("P-256", "forger")
_FORGER_JWK = public_jwk(_FORGER, kid="other")


def check(data: bytes) -> None:
    """Assert that a token is accepted only if the answer contains the key that signed it."""
    body = data.replace(b"{key}", json.dumps(JWK).encode())
    body = body.replace(b"{forger}", json.dumps(_FORGER_JWK).encode())
    for name, token in _tokens().items():
        try:
            claims = _provider(body).validate_id_token(token)
        except TokenError:
            continue
        except AuthenticationError as error:
            assert str(error).isprintable()
            assert error.error
            continue
        assert claims["iss"] == ISSUER
        points = [(key.get("x"), key.get("y")) for key in _keys(body) if isinstance(key, dict)]
        signer = {"genuine": JWK, "forged": _FORGER_JWK}[name]
        assert (signer["x"], signer["y"]) in points


def _keys(body: bytes) -> list[Any]:
    keys = json.loads(body)["keys"]
    return keys if isinstance(keys, list) else []


def _provider(body: bytes) -> FuzzedProvider:
    return FuzzedProvider({"/.well-known/openid-configuration": json.dumps(METADATA).encode(), "/jwks": body})


@cache
def _tokens() -> dict[str, str]:
    """Return tokens, of which the last ones have no asymmetric signature."""
    header, claims = {"alg": "ES256", "kid": "main"}, claims_of(ISSUER)
    return {
        "genuine": sign(header, claims, KEY, "ES256"),
        "forged": sign({"alg": "ES256", "kid": "other"}, claims, _FORGER, "ES256"),
        "secret": sign_with_secret({"alg": "HS256", "kid": "main"}, claims, JWK["x"].encode()),
        "unsigned": sign({"alg": "none"}, claims, KEY, "ES256").rpartition(".")[0] + ".",
    }
