"""The door ``token_answer``: the answer of the token endpoint.

An input may begin with a line that contains a status. ``{code}``, ``{verifier}`` and ``{secret}`` stand for
the secrets of the request, which some providers repeat, and ``{id_token}`` for a valid ID token.
"""

from __future__ import annotations

import json
import re
from functools import cache

from pywry_auth.exceptions import TokenError
from pywry_auth.models import OAuthTokenSet
from pywry_auth.state.token_record import pack_tokens, unpack_tokens
from tests.fuzz.provider import ISSUER, JWK, KEY, METADATA, FuzzedProvider, Reply
from tests.fuzz.values import assert_storable
from tests.protocol.forge import sign
from tests.protocol.issuer import CLIENT_SECRET, claims_of
from tests.protocol.refusal import everything_told

_CODE, _VERIFIER, _NONCE = "canary-code-8Zk2", "canary-verifier-Q7x", "nonce-3fK"
_SECRETS = (_CODE, _VERIFIER, CLIENT_SECRET)
_LONGEST = 10 * 365 * 86400  # seconds


def check(data: bytes) -> None:
    """Assert that an answer becomes valid tokens or an error without a secret."""
    try:
        tokens = _provider(_reply(data)).exchange_code(
            _CODE, "https://site.example.com/cb", _VERIFIER, _NONCE
        )
    except TokenError as error:
        told = everything_told(error)
        assert not [secret for secret in _SECRETS if secret in told]
        assert str(error).isprintable()
        assert len(str(error)) < 2000
    else:
        _assert_valid(tokens)


def _assert_valid(tokens: OAuthTokenSet) -> None:
    for value in (tokens.access_token, tokens.refresh_token or "x", tokens.id_token or "x"):
        assert value
        assert value.isascii()
        assert value.isprintable()
    assert tokens.token_type == "Bearer"
    assert tokens.expires_in is None or 0 <= tokens.expires_in <= _LONGEST
    assert tokens.id_token_claims["iss"] == ISSUER
    assert tokens.id_token_claims["nonce"] == _NONCE
    assert_storable(tokens.raw)
    assert unpack_tokens(pack_tokens(tokens)) == tokens


def _reply(data: bytes) -> Reply:
    status, line, body = data.partition(b"\n")
    if not (line and re.fullmatch(b"[2-5][0-9]{2}", status)):
        status, body = b"200", data
    told = {"code": _CODE, "verifier": _VERIFIER, "secret": CLIENT_SECRET, "id_token": _id_token()}
    for name, value in told.items():
        body = body.replace(f"{{{name}}}".encode(), value.encode())
    return Reply(body, int(status))


def _provider(reply: Reply) -> FuzzedProvider:
    return FuzzedProvider(
        {
            "/.well-known/openid-configuration": json.dumps(METADATA).encode(),
            "/jwks": json.dumps({"keys": [JWK]}).encode(),
            "/token": reply,
        }
    )


@cache
def _id_token() -> str:
    claims = claims_of(ISSUER, nonce=_NONCE)
    return sign({"alg": "ES256", "kid": "main"}, claims, KEY, "ES256")
