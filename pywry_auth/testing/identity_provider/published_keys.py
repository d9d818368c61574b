"""The key set as published, with the provider's quirks (RFC 7517 §5)."""

from __future__ import annotations

from typing import Any

from pywry_auth.testing.identity_provider.keys import SigningKeys
from pywry_auth.testing.identity_provider.quirks import Quirks

_OPTIONAL = ("use", "alg", "key_ops", "x5u", "x5c", "x5t", "x5t#S256")
_POINT = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU"  # from RFC 7517 appendix A.1, here as any 32 bytes
_FOREIGN: list[dict[str, Any]] = [
    {"kty": "OKP", "crv": "X25519", "use": "enc", "alg": "ECDH-ES", "kid": "encryption", "x": _POINT},
    {"kty": "OKP", "crv": "Unheard-Of", "use": "sig", "kid": "unknown curve", "x": _POINT},
    {"kty": "Unheard-Of", "use": "sig", "kid": "unknown type"},
    {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": "incomplete"},
]


def published_keys(keys: SigningKeys, quirks: Quirks) -> dict[str, Any]:
    """Return the key set."""
    entries = keys.public_set()["keys"]
    if quirks.null_key_members:
        entries = [entry | dict.fromkeys(_OPTIONAL) for entry in entries]
    if quirks.duplicate_keys:
        entries = [entry for entry in entries for _ in range(2)]
    return {"keys": [*_FOREIGN, *entries] if quirks.foreign_keys else entries}
