"""Valid and forged tokens, signed with only ``cryptography``.

A library for tokens therefore never verifies its own output.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from functools import cache
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

ALGORITHMS = (
    *("RS256", "RS384", "RS512"),
    *("PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512"),
    *("EdDSA", "Ed25519"),
)
"""All algorithms that the specification allows."""

_HASHES = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}
_CURVES = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1()}
_CURVE_OF = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}


def b64(data: bytes) -> str:
    """Return base64url without padding (RFC 7515 §2)."""
    return urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def segment(part: object) -> str:
    """Return a token's segment; bytes stay as they are, other values become JSON."""
    return b64(part if isinstance(part, bytes) else json.dumps(part).encode())


@cache
def make_key(kind: str, name: str = "signing") -> PrivateKey:
    """Return the key of a kind (``RSA``, ``RSA-1024``, a curve) and name; it is made once."""
    if kind.startswith("RSA"):
        return rsa.generate_private_key(65537, int(kind[4:] or 2048))
    if kind == "Ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    return ec.generate_private_key(_CURVES[kind])


def kind_of(algorithm: str) -> str:
    """Return the type of key that an algorithm needs."""
    if algorithm in ("EdDSA", "Ed25519"):
        return "Ed25519"
    return _CURVE_OF.get(algorithm, "RSA")


def signature(algorithm: str, key: PrivateKey, signed: bytes) -> bytes:
    """Return a signature (RFC 7518 §3, RFC 8037 §3.1)."""
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(signed)
    digest = _HASHES[algorithm[2:]]
    if isinstance(key, rsa.RSAPrivateKey):
        if algorithm.startswith("RS"):
            return key.sign(signed, padding.PKCS1v15(), digest)
        return key.sign(signed, padding.PSS(padding.MGF1(digest), digest.digest_size), digest)
    size = (key.curve.key_size + 7) // 8
    numbers = decode_dss_signature(key.sign(signed, ec.ECDSA(digest)))
    return b"".join(number.to_bytes(size, "big") for number in numbers)


def sign(header: object, payload: object, key: PrivateKey, algorithm: str) -> str:
    """Return a token in compact form, signed with ``algorithm``.

    The header may name another algorithm.
    """
    signed = f"{segment(header)}.{segment(payload)}"
    return f"{signed}.{b64(signature(algorithm, key, signed.encode()))}"


def sign_with_secret(header: object, payload: object, secret: bytes, algorithm: str = "HS256") -> str:
    """Return a token with an HMAC."""
    signed = f"{segment(header)}.{segment(payload)}"
    digest = hmac.new(secret, signed.encode(), "sha" + algorithm[2:]).digest()
    return f"{signed}.{b64(digest)}"


def public_jwk(key: PrivateKey | ed448.Ed448PrivateKey, **members: object) -> dict[str, Any]:
    """Return the public key as a JWK with further members (RFC 7518 §6, RFC 8037 §2)."""
    if isinstance(key, rsa.RSAPrivateKey):
        numbers = key.public_key().public_numbers()
        return {"kty": "RSA", "n": _integer(numbers.n), "e": _integer(numbers.e), **members}
    if isinstance(key, ec.EllipticCurvePrivateKey):
        point = key.public_key().public_numbers()
        size = (key.curve.key_size + 7) // 8
        curve = {256: "P-256", 384: "P-384", 521: "P-521"}[key.curve.key_size]
        return {
            "kty": "EC",
            "crv": curve,
            "x": b64(point.x.to_bytes(size, "big")),
            "y": b64(point.y.to_bytes(size, "big")),
            **members,
        }
    name = "Ed25519" if isinstance(key, ed25519.Ed25519PrivateKey) else "Ed448"
    return {"kty": "OKP", "crv": name, "x": b64(key.public_key().public_bytes_raw()), **members}


def at_hash(access_token: str, algorithm: str) -> str:
    """Return the left half of the access token's hash (OIDC Core §3.1.3.6)."""
    size = algorithm[2:] if algorithm[2:] in _HASHES else "512"
    digest = hashlib.new(f"sha{size}", access_token.encode("ascii")).digest()
    return b64(digest[: len(digest) // 2])


def changed(source: Mapping[str, Any], **members: object) -> dict[str, Any]:
    """Return a copy with some members changed; ``...`` removes a member."""
    return {name: value for name, value in {**source, **members}.items() if value is not ...}


def _integer(number: int) -> str:
    return b64(number.to_bytes((number.bit_length() + 7) // 8, "big"))
