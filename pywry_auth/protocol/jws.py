"""Verification of a token's signature with the issuer's key set.

See RFC 7515 and RFC 8725.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
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
from pywry_auth.strict_json import require_json, without_surrogates

ALGORITHMS = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), ("RSA", None)),
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "ES512": ("EC", "P-521"),
    **dict.fromkeys(("EdDSA", "Ed25519"), ("OKP", "Ed25519")),
}
"""The supported signature algorithms, each with its key type and curve. All are asymmetric."""

_PUBLIC = {"RSA": ("kty", "n", "e"), "EC": ("kty", "crv", "x", "y"), "OKP": ("kty", "crv", "x")}
"""The members that make up a public key, by its type (RFC 7638 §3.2, RFC 8037 §2)."""

_LARGEST_TOKEN = 1 << 20  # bytes
_MOST_KEYS = 4  # different keys that share one key ID
_SMALLEST_RSA_BITS = 2048
_TIMES = ("exp", "iat", "nbf", "auth_time")


@dataclass(frozen=True)
class VerifiedToken:
    """A token with a valid signature; its claims are not yet validated."""

    algorithm: str
    claims: Claims = field(repr=False)


class _CriticalHeader(ValueError):
    """The header has a critical extension."""


class _OtherType(ValueError):
    """The header names another type of token."""


class _Explained(ValueError):
    """The text is the reason for the refusal, without a part of the token."""


_REASONS: Mapping[type[Exception], str] = {
    BadSignatureError: "its signature is not the issuer's",
    InvalidKeyIdError: "the issuer's key set has no single usable key for it",
    UnsupportedAlgorithmError: "its signature algorithm is not accepted",
    UnsupportedHeaderError: "it has a critical header that is not understood",
    _CriticalHeader: "it has a critical header that is not understood",
    _OtherType: "its type (typ) is that of another kind of token",
}
_UNREADABLE = (JoseError, ValueError, KeyError, TypeError, RecursionError)


PLAIN_TYPES = ("jwt", "application/jwt")
"""The values of ``typ`` of an ID token or a signed UserInfo response."""


class AlgorithmRegistry(JWSRegistry):
    """Accepts only the algorithms that the constructor names."""

    # Headers with certificates (x5c) are long. They are allowed, and the certificates are ignored.
    max_header_length = 8192
    max_payload_length = _LARGEST_TOKEN  # Microsoft sends hundreds of groups

    def get_alg(self, name: str) -> Any:
        """Return an algorithm if it is on the list."""
        # The parent reads an empty list as its defaults, which include HS256; it also warns about EdDSA.
        if name not in (self.allowed or ()):
            raise UnsupportedAlgorithmError
        return self.algorithms[name]


def verify_signature(
    token: str, keys: KeySet, advertised: Sequence[str], types: Collection[str] = PLAIN_TYPES
) -> VerifiedToken:
    """Return the claims of a token that its issuer signed.

    Keys come only from the key set: ``jku``, ``x5u``, ``jwk`` and ``x5c`` headers are ignored.

    Args:
        token: The token in compact form.
        keys: The issuer's key set. If the set lacks the key, the set is fetched again, at most as often as
            its limit allows.
        advertised: The issuer's signature algorithms; empty if its metadata does not list them.
        types: The values of ``typ`` to accept, in lower case (RFC 8725 §3.11). A token without ``typ`` counts
            as ``jwt``.

    Raises:
        TokenError: The issuer did not sign the token, or its algorithm, type or header is not accepted.
        AuthenticationError: The key set cannot be fetched.
    """
    allowed = [name for name in ALGORITHMS if not advertised or name in advertised]
    known = keys.keys()
    found = _decoded(token, known, allowed, types)
    if isinstance(found, BadSignatureError | InvalidKeyIdError):
        newer = keys.newer(known)
        found = found if newer is None else _decoded(token, newer, allowed, types)
    if isinstance(found, VerifiedToken):
        return found
    raise _refused(found)  # outside of an except clause, because the library's errors quote the token


def _decoded(
    token: str, keys: Sequence[Mapping[str, Any]], allowed: Sequence[str], types: Collection[str]
) -> VerifiedToken | Exception:
    """Return the token, or the reason to refuse it."""
    try:
        return _decode(token, keys, allowed, types)
    except _UNREADABLE as error:
        return error


def _decode(
    token: str, keys: Sequence[Mapping[str, Any]], allowed: Sequence[str], types: Collection[str]
) -> VerifiedToken:
    if len(token) > _LARGEST_TOKEN:
        raise _Explained(f"it is too large: {len(token)} bytes of at most {_LARGEST_TOKEN}")
    registry = AlgorithmRegistry(algorithms=allowed, strict_check_header=False)
    left: list[Key] = []

    def first(message: Any) -> Key:
        left.extend(_fitting(message.headers(), keys, types))
        return left.pop(0)

    try:
        decoded = jwt.decode(token, first, registry=registry)
    except BadSignatureError:
        decoded = _with_others(token, left, registry)
    for name, value in decoded.claims.items():  # the library accepts numbers that are not JSON
        _require_json(value, name if name in _TIMES else "a claim")
    return VerifiedToken(decoded.header["alg"], without_surrogates(decoded.claims))


def _with_others(token: str, keys: Sequence[Key], registry: AlgorithmRegistry) -> jwt.Token:
    """Return the token that one of some keys signed."""
    for key in keys:
        with suppress(BadSignatureError):
            return jwt.decode(token, key, registry=registry)
    raise BadSignatureError


def _fitting(
    header: Mapping[str, Any], keys: Sequence[Mapping[str, Any]], types: Collection[str]
) -> list[Key]:
    """Return the keys that fit a header with an allowed ``alg``.

    Some issuers give one ID to several keys, although RFC 7517 §4.5 advises against it. Each of them may have
    made the signature. A token without an ID needs a set with a single fitting key (OIDC Core §10.1). An
    empty ID counts as absent, in the token as in the set.
    """
    _require_json(header, "its header")
    # RFC 7515 §4.1.11: refuse every critical extension, because none is implemented here.
    if "crit" in header:
        raise _CriticalHeader
    # RFC 8725 §3.11: refuse a token of another kind, even if the issuer signed it.
    if str(header.get("typ") or "JWT").lower() not in types:
        raise _OtherType
    kid = header.get("kid") or None
    fitting = [key for key in keys if kid in (None, key.get("kid")) and _fits(key, header["alg"])]
    most = 1 if kid is None else _MOST_KEYS
    usable = (key for key in map(_usable, _distinct(fitting)) if key is not None)
    found = list(islice(usable, most + 1))
    if not 0 < len(found) <= most:
        raise InvalidKeyIdError
    return found


def _require_json(value: object, place: str) -> None:
    try:
        require_json(value)
    except ValueError:
        raise _Explained(f"{place} has a number that is not JSON, or is nested too deeply") from None


def usable_keys(keys: Sequence[Mapping[str, Any]], offered: Collection[str] = ()) -> int:
    """Return how many different keys of a set can verify a signature.

    Args:
        keys: The keys, as :meth:`KeySet.keys` returns them.
        offered: The algorithms of the issuer; without them, all supported ones.
    """
    algorithms = [name for name in ALGORITHMS if not offered or name in offered]
    fitting = [key for key in keys if any(_fits(key, algorithm) for algorithm in algorithms)]
    return sum(_usable(public) is not None for public in _distinct(fitting))


def _distinct(keys: Sequence[Mapping[str, Any]]) -> Iterable[Mapping[str, Any]]:
    """Return the public part of each key; a key that the set repeats counts once (RFC 7638 §3)."""
    # An issuer that publishes the private part lets every reader of the key set sign tokens.
    found = [{name: key.get(name) for name in _PUBLIC[key["kty"]]} for key in keys if "d" not in key]
    return {str(public): public for public in found}.values()


def _usable(public: Mapping[str, Any]) -> Key | None:
    """Return a key, or None if it cannot be used.

    An invalid key does not make the other keys of the set unusable.
    """
    try:
        # Measure before the import, which would warn about a key that the user cannot change.
        if public["kty"] == "RSA" and _bits(public["n"]) < _SMALLEST_RSA_BITS:
            return None
        return JWKRegistry.import_key(dict(public))
    except _UNREADABLE:
        return None


def _bits(number: str) -> int:
    return int.from_bytes(urlsafe_b64decode(number + "==")).bit_length()


def _fits(key: Mapping[str, Any], algorithm: str) -> bool:
    key_type, curve = ALGORITHMS[algorithm]
    operations = key.get("key_ops", "verify")
    return (
        key.get("kty") == key_type
        and curve in (None, key.get("crv"))
        and key.get("use", "sig") == "sig"
        and key.get("alg", algorithm) == algorithm
        and "verify" in (operations if isinstance(operations, list) else [operations])
    )


def _refused(error: Exception) -> TokenError:
    # The library's own texts quote the token, so show only the type of its error.
    why = _REASONS.get(type(error), f"it cannot be read ({type(error).__name__})")
    if isinstance(error, _Explained):
        why = str(error)
    refused = TokenError(
        f"The provider's signed token is refused: {why}. Sign in again; if this happens again, "
        "check the issuer in the settings.",
        error=ErrorCode.INVALID_ID_TOKEN,
    )
    refused.reason = why
    return refused
