"""Judge the claims of an ID token whose signature was verified (OIDC Core §3.1.3.7)."""

from __future__ import annotations

import hashlib
import hmac
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from pywry_auth.exceptions import ErrorCode, TokenError, TokenRefreshError
from pywry_auth.models import Claims

if TYPE_CHECKING:
    from pywry_auth.protocol.jws import VerifiedToken

_LONGEST_SUBJECT = 255
_END_OF_TIME = 1e12
_HASHES = {"256": "sha256", "384": "sha384", "512": "sha512", "DSA": "sha512", "519": "sha512"}


@dataclass(frozen=True)
class ExpectedClaims:
    """What an ID token has to say.

    Args:
        issuer: Who issued it, byte for byte.
        client_id: Whom it is for.
        now: Unix time in seconds.
        leeway: Seconds that the two clocks may differ.
    """

    issuer: str
    client_id: str
    now: float
    leeway: float


def check_claims(
    token: VerifiedToken,
    expected: ExpectedClaims,
    *,
    nonce: str | None = None,
    access_token: str | None = None,
) -> Claims:
    """Return the claims of an ID token that was made for this client, now, and for this login.

    Args:
        token: The token, its signature verified.
        expected: Issuer, client and time.
        nonce: What was sent with the authorization request; None where none was sent (a refresh).
        access_token: The access token that came with it, held against ``at_hash`` (OIDC Core §3.1.3.6).

    Raises:
        TokenError: The claim that is wrong is named, never its value.
    """
    claims = token.claims
    check_issuer_and_audience(claims, expected)
    if claims.get("exp") is None or claims.get("iat") is None:
        _refuse("it has no time of issue or of expiry (iat, exp)")
    check_times(claims, expected)
    _check_subject(claims)
    if nonce is not None and not _same(claims.get("nonce"), nonce):
        _refuse("its nonce is not the one of this login")
    if access_token is not None and "at_hash" in claims:
        _check_at_hash(claims["at_hash"], token.algorithm, access_token)
    return claims


def check_issuer_and_audience(claims: Claims, expected: ExpectedClaims) -> None:
    """Check who made a token and for whom: ``iss``, ``aud`` and ``azp``.

    Raises:
        TokenError: One of them is missing or another's.
    """
    if claims.get("iss") != expected.issuer:
        _refuse("its issuer (iss) is another")
    audience = claims.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    if expected.client_id not in audiences or not all(isinstance(name, str) for name in audiences):
        _refuse("it is not meant for this client (aud)")
    if len(audiences) > 1 and "azp" not in claims:
        _refuse("it has several audiences and no authorized party (azp)")
    if claims.get("azp", expected.client_id) != expected.client_id:
        _refuse("its authorized party (azp) is another client")


def check_times(claims: Claims, expected: ExpectedClaims) -> None:
    """Check that a token is good now: ``exp``, ``iat`` and ``nbf``, those of them that it has.

    Raises:
        TokenError: It is not, or one of them is no time.
    """
    ends = _time(claims, "exp")
    if ends is not None and expected.now - expected.leeway >= ends:
        _refuse(f"it expired {expected.now - ends:.0f} s ago by this machine's clock")
    for begins in (_time(claims, "iat"), _time(claims, "nbf")):
        if begins is not None and begins > expected.now + expected.leeway:
            _refuse(f"it is from {begins - expected.now:.0f} s in the future by this machine's clock")


def check_same_subject(first: Claims, later: Claims) -> None:
    """Check that a later token speaks of the same person, issuer and client as the first (OIDC Core §12.2).

    Raises:
        TokenRefreshError: It does not.
    """
    for name in ("iss", "sub", "aud"):
        if first.get(name) != later.get(name):
            raise TokenRefreshError(
                f"The refreshed ID token has another {name} than the one of the sign-in: sign in again.",
                error=ErrorCode.SUBJECT_MISMATCH,
            )


def _time(claims: Claims, name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < _END_OF_TIME:
        _refuse(f"{name} is not a time")
    return float(value)


def _check_subject(claims: Claims) -> None:
    subject = claims.get("sub")
    if not isinstance(subject, str) or not subject.strip() or len(subject) > _LONGEST_SUBJECT:
        _refuse("its subject (sub) is not a string of 1 to 255 characters")


def _check_at_hash(at_hash: object, algorithm: str, access_token: str) -> None:
    name = _HASHES.get(algorithm[-3:])  # EdDSA is only accepted with Ed25519, which hashes with SHA-512
    if name is None:
        _refuse(f"it has an at_hash, which is not defined for {algorithm}")
    digest = hashlib.new(name, access_token.encode()).digest()
    half = urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=").decode("ascii")
    if not _same(at_hash, half):
        _refuse("the access token is not the one it came with (at_hash)")


def _same(received: object, expected: str) -> bool:
    return isinstance(received, str) and hmac.compare_digest(
        received.encode(errors="replace"), expected.encode()
    )


def _refuse(why: str) -> NoReturn:
    raise TokenError(
        f"The ID token is refused: {why}. Check the clock and the client's registration, then sign in again.",
        error=ErrorCode.INVALID_ID_TOKEN,
    )
