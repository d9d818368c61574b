"""The signing keys and their rotation."""

from __future__ import annotations

import base64
import json
from typing import Any

import requests

from pywry_auth.testing.identity_provider import IdentityProvider
from tests.testing.identity_provider.person import Person, claims_of, json_of


def test_a_new_key_signs_and_the_old_one_is_valid_until_it_is_dropped(
    provider: IdentityProvider, alice: Person
) -> None:
    old = alice.tokens()["id_token"]
    provider.rotate_keys()
    new = json_of(alice.exchanges(alice.code(prompt="login")))["id_token"]
    assert len(published_keys(alice.issuer)) == 2
    assert claims_of(old, alice.issuer)["sub"] == claims_of(new, alice.issuer)["sub"]
    provider.rotate_keys(drop_old=True)
    kids = published_keys(alice.issuer)
    last = json_of(alice.exchanges(alice.code(prompt="login")))["id_token"]
    assert kids == [header_of(last)["kid"]]
    assert header_of(old)["kid"] not in kids


def test_only_public_parts_of_keys_are_published() -> None:
    for algorithm in ("RS256", "ES256"):
        with IdentityProvider(signing_algorithm=algorithm) as provider:
            (key,) = requests.get(f"{provider.issuer}/jwks", timeout=10).json()["keys"]
        assert key["alg"] == algorithm
        assert not {"d", "p", "q", "dp", "dq", "qi", "oth"} & set(key)


def published_keys(issuer: str) -> list[str]:
    keys = requests.get(f"{issuer}/jwks", timeout=10).json()["keys"]
    return [key["kid"] for key in keys]


def header_of(token: str) -> dict[str, Any]:

    decoded = json.loads(base64.urlsafe_b64decode(token.partition(".")[0] + "=="))
    assert isinstance(decoded, dict)
    return decoded
