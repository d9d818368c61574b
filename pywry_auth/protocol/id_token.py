"""Validation of the claims of an ID token (OIDC Core §3.1.3.7).

The signature is verified before, in ``jws.py``.
"""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from pywry_auth.digests import same_secret
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import TokenError, TokenRefreshError
from pywry_auth.models import Claims

if TYPE_CHECKING:
    from pywry_auth.protocol.jws import VerifiedToken

_LONGEST_SUBJECT = 255
_END_OF_TIME = 1e12
_EMPTY = (None, "")  # some servers write null or an empty text for a claim without a value
_HASHES = {"256": "sha256", "384": "sha384", "512": "sha512", "DSA": "sha512", "519": "sha512"}


@dataclass(frozen=True)
class ExpectedClaims:
    """The values that an ID token must have.

    Args:
        issuer: Its issuer, byte for byte.
        client_id: Its audience.
        now: Unix time in seconds.
        leeway: Seconds by which the two clocks may differ.
    """

    issuer: str
    client_id: str
    now: float
    leeway: float


@dataclass(frozen=True)
class WrongTimes:
    """The times of a token do not fit this machine's clock.

    One of the two clocks is wrong, or the token is old.

    Args:
        reason: The condition, as the end of a sentence about the token.
        lag: Seconds by which this machine's clock seems to be behind the provider's; negative if ahead.
    """

    reason: str
    lag: float


def check_claims(
    token: VerifiedToken,
    expected: ExpectedClaims,
    *,
    nonce: str | None = None,
    access_token: str | None = None,
) -> Claims:
    """Validate an ID token's claims for this client and login.

    The times are checked last.

    Args:
        token: The token with a verified signature.
        expected: Issuer, client and time.
        nonce: The nonce of the authorization request; None if none was sent (a refresh).
        access_token: The access token of the same response, compared with ``at_hash`` (OIDC Core §3.1.3.6).

    Raises:
        TokenError: A claim is wrong. The text names the claim without its value.
    """
    claims = check_claims_except_times(token, expected, nonce=nonce, access_token=access_token)
    check_times(claims, expected)
    return claims


def check_claims_except_times(
    token: VerifiedToken,
    expected: ExpectedClaims,
    *,
    nonce: str | None = None,
    access_token: str | None = None,
) -> Claims:
    """Validate as :func:`check_claims` does, but do not compare the times with the clock.

    Raises:
        TokenError: A claim is wrong, or a time is missing.
    """
    claims = token.claims
    check_issuer_and_audience(claims, expected)
    if claims.get("exp") in _EMPTY or claims.get("iat") in _EMPTY:
        _refuse("it has no time of issue or of expiry (iat, exp)")
    _check_subject(claims)
    if nonce is not None:
        _check_nonce(claims, nonce)
    if access_token is not None and claims.get("at_hash") not in _EMPTY:
        _check_at_hash(claims["at_hash"], token.algorithm, access_token)
    return claims


def check_issuer_and_audience(claims: Claims, expected: ExpectedClaims) -> None:
    """Check a token's issuer and audience: ``iss``, ``aud`` and ``azp``.

    Raises:
        TokenError: One of them is missing or wrong.
    """
    if claims.get("iss") != expected.issuer:
        _refuse("its issuer (iss) is not the expected one")
    audience = claims.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    if expected.client_id not in audiences or not all(isinstance(name, str) for name in audiences):
        _refuse("it is not meant for this client (aud)")
    party = claims.get("azp")
    if len(audiences) > 1 and party in _EMPTY:
        _refuse("it has several audiences and no authorized party (azp)")
    if party not in (*_EMPTY, expected.client_id):
        _refuse("its authorized party (azp) is another client")


def check_times(claims: Claims, expected: ExpectedClaims) -> None:
    """Check ``exp``, ``iat`` and ``nbf``, as far as the token has them.

    Raises:
        TokenError: The token has expired or is not valid yet, or a claim is not a time.
    """
    wrong = wrong_times(claims, expected)
    if wrong is not None:
        _refuse(wrong.reason)


def wrong_times(claims: Claims, expected: ExpectedClaims) -> WrongTimes | None:
    """Compare ``exp``, ``iat`` and ``nbf``, as far as the token has them, with the clock.

    Returns:
        None if the token is valid now.

    Raises:
        TokenError: A claim is not a time.
    """
    ends, issued, begins = (_time(claims, name) for name in ("exp", "iat", "nbf"))
    now = expected.now
    if ends is not None and now - expected.leeway >= ends:
        lag = (ends if issued is None else issued) - now
        return WrongTimes(f"it expired {now - ends:.0f} s ago by this machine's clock", lag)
    lag = max((moment for moment in (issued, begins) if moment is not None), default=now) - now
    if lag <= expected.leeway:
        return None
    return WrongTimes(f"it becomes valid {lag:.0f} s in the future by this machine's clock", lag)


def check_same_subject(first: Claims, later: Claims) -> None:
    """Check that a refresh kept subject, issuer and audience (OIDC Core §12.2).

    The order of several audiences is insignificant. A nonce and an authorized party (``azp``) may be missing
    in either token, but may not change.

    Args:
        first: The claims of the sign-in's ID token, as far as they are known.
        later: The claims of the refreshed ID token.

    Raises:
        TokenRefreshError: One of the claims is different.
    """
    for name in first.keys() & {"iss", "sub", "aud", "nonce", "azp"}:
        if name in ("nonce", "azp") and (first[name] in _EMPTY or later.get(name) in _EMPTY):
            continue
        if _comparable(first, name) != _comparable(later, name):
            raise TokenRefreshError(
                f"The refreshed ID token has a different {name} from the sign-in's: sign in again.",
                error=ErrorCode.SUBJECT_MISMATCH,
            )


def _comparable(claims: Claims, name: str) -> object:
    value = claims.get(name)
    # One audience is a string or a list of one (RFC 7519 §4.1.3).
    return {str(each) for each in (value if isinstance(value, list) else [value])} if name == "aud" else value


def _time(claims: Claims, name: str) -> float | None:
    value = claims.get(name)
    if value in _EMPTY:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < _END_OF_TIME:
        _refuse(f"{name} is not a time")
    return float(value)


def _check_nonce(claims: Claims, nonce: str) -> None:
    if claims.get("nonce") in _EMPTY:
        _refuse(
            "it has no nonce",
            "If the provider never returns one, set PYWRY_OAUTH2__USE_NONCE to false; otherwise sign in "
            "again",
        )
    if not same_secret(nonce, claims.get("nonce")):
        _refuse("its nonce does not belong to this login")


def _check_subject(claims: Claims) -> None:
    subject = claims.get("sub")
    if not isinstance(subject, str) or not subject.strip() or len(subject) > _LONGEST_SUBJECT:
        _refuse("its subject (sub) is not a string of 1 to 255 characters")


def _check_at_hash(at_hash: object, algorithm: str, access_token: str) -> None:
    name = _HASHES.get(algorithm[-3:])  # EdDSA is accepted only with Ed25519, which uses SHA-512
    if name is None:
        _refuse(f"it has an at_hash, which is not defined for {algorithm}")
    digest = hashlib.new(name, access_token.encode()).digest()
    half = urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=").decode("ascii")
    if not same_secret(half, at_hash):
        _refuse("its hash of the access token does not match (at_hash)")


def _refuse(
    why: str, advice: str = "Check the clock and the client's registration, then sign in again"
) -> NoReturn:
    refused = TokenError(f"The ID token is refused: {why}. {advice}.", error=ErrorCode.INVALID_ID_TOKEN)
    refused.reason = why
    raise refused
