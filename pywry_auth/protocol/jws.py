"""Verify a JSON Web Token's signature with its issuer's key set (RFC 7515, RFC 8725)."""

from __future__ import annotations

from base64 import urlsafe_b64decode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from joserfc import jwt
from joserfc.errors import (
    BadSignatureError,
    InvalidKeyIdError,
    JoseError,
    UnsupportedAlgorithmError,
    UnsupportedHeaderError,
)
from joserfc.jwk import JWKRegistry, Key
from joserfc.jws import JWSRegistry

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import TokenError
from pywry_auth.models import Claims
from pywry_auth.protocol.key_set import KeySet

ALGORITHMS = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), ("RSA", None)),
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "ES512": ("EC", "P-521"),
    **dict.fromkeys(("EdDSA", "Ed25519"), ("OKP", "Ed25519")),
}
"""The signature algorithms that are ever accepted, all asymmetric, with the key type and curve of each."""

_SMALLEST_RSA_BITS = 2048


@dataclass(frozen=True)
class VerifiedToken:
    """A token with a valid signature: the algorithm, and the claims, which are not yet validated."""

    algorithm: str
    claims: Claims = field(repr=False)


class _CriticalHeader(ValueError):
    """The header has a critical extension."""


class _OtherType(ValueError):
    """The header's type is not an ID token's."""


_REASONS: Mapping[type[Exception], str] = {
    BadSignatureError: "its signature is not the issuer's",
    InvalidKeyIdError: "the issuer's key set has no single usable key for it",
    UnsupportedAlgorithmError: "its signature algorithm is not one that is accepted",
    UnsupportedHeaderError: "it has a critical header that is not understood",
    _CriticalHeader: "it has a critical header that is not understood",
    _OtherType: "it is of another type than an ID token",
}
_UNREADABLE = (JoseError, ValueError, KeyError, TypeError, RecursionError)


class AlgorithmRegistry(JWSRegistry):
    """Knows only the algorithms that it is constructed with."""

    # Certificates in the header (x5c) are ignored, but they are allowed.
    max_header_length = 8192

    def get_alg(self, name: str) -> Any:
        """Return an algorithm of the list; the argument is the parent's."""
        # For the parent an empty list means its defaults, HS256 among them; it also warns about EdDSA.
        if name not in (self.allowed or ()):
            raise UnsupportedAlgorithmError
        return self.algorithms[name]


def verify_signature(token: str, keys: KeySet, advertised: Sequence[str]) -> VerifiedToken:
    """Return a token's claims if its issuer signed it.

    Keys come only from the key set: ``jku``, ``x5u``, ``jwk`` and ``x5c`` headers are ignored.

    Args:
        token: The token in compact form.
        keys: The issuer's key set; fetched again, within its limits, if it lacks the key.
        advertised: Algorithms that the issuer says it uses; empty if it does not say.

    Raises:
        TokenError: The issuer did not sign it, or its algorithm, type or header is never accepted.
        AuthenticationError: The key set cannot be fetched.
    """
    allowed = [name for name in ALGORITHMS if not advertised or name in advertised]
    known = keys.keys()
    try:
        return _decode(token, known, allowed)
    except (BadSignatureError, InvalidKeyIdError) as error:
        newer = keys.newer(known)
        if newer is None:
            raise _refused(error) from None
    except _UNREADABLE as error:
        raise _refused(error) from None
    try:
        return _decode(token, newer, allowed)
    except _UNREADABLE as error:
        raise _refused(error) from None


def _decode(token: str, keys: Sequence[Mapping[str, Any]], allowed: Sequence[str]) -> VerifiedToken:
    registry = AlgorithmRegistry(algorithms=allowed, strict_check_header=False)
    decoded = jwt.decode(token, lambda message: _pick(message.headers(), keys), registry=registry)
    return VerifiedToken(decoded.header["alg"], decoded.claims)


def _pick(header: Mapping[str, Any], keys: Sequence[Mapping[str, Any]]) -> Key:
    """Return the one key that a header can mean; its ``alg`` is already known to be allowed."""
    # RFC 7515 §4.1.11: no extension is implemented here, so none may be critical.
    if "crit" in header:
        raise _CriticalHeader
    # RFC 8725 §3.11: an access token or a logout token is not an ID token, even if the issuer signed it.
    if str(header.get("typ", "JWT")).lower() not in ("jwt", "application/jwt"):
        raise _OtherType
    kid = header.get("kid")
    fitting = [key for key in keys if kid in (None, key.get("kid")) and _fits(key, header["alg"])]
    found = [key for key in map(_usable, fitting) if key is not None]
    if len(found) != 1:
        raise InvalidKeyIdError
    return found[0]


def _usable(members: Mapping[str, Any]) -> Key | None:
    """Return a key that can verify a signature, or None: one odd key must not spoil the set."""
    try:
        # Measured before the import, which would warn about a key that the user cannot change.
        if members["kty"] == "RSA" and _bits(members["n"]) < _SMALLEST_RSA_BITS:
            return None
        return JWKRegistry.import_key(dict(members))
    except _UNREADABLE:
        return None


def _bits(number: str) -> int:
    return int.from_bytes(urlsafe_b64decode(number + "==")).bit_length()


def _fits(key: Mapping[str, Any], algorithm: str) -> bool:
    key_type, curve = ALGORITHMS[algorithm]
    return (
        key.get("kty") == key_type
        and curve in (None, key.get("crv"))
        and key.get("use", "sig") == "sig"
        and key.get("alg", algorithm) == algorithm
    )


def _refused(error: Exception) -> TokenError:
    # The library's own texts quote the token, so only the kind of its error is shown.
    why = _REASONS.get(type(error), f"it cannot be read ({type(error).__name__})")
    return TokenError(
        f"The provider's signed token is refused: {why}. Sign in again; if this happens again, "
        "check that the issuer is the right one.",
        error=ErrorCode.INVALID_ID_TOKEN,
    )
