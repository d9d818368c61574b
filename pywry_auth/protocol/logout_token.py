"""Validation of logout tokens (OIDC Back-Channel Logout 1.0 §2.6).

The signature is verified before, in ``jws.py``.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import TokenError
from pywry_auth.models import Claims
from pywry_auth.protocol.id_token import ExpectedClaims, check_issuer_and_audience, check_times
from pywry_auth.protocol.jws import PLAIN_TYPES
from pywry_auth.strict_json import read_json

LOGOUT_TYPES = ("logout+jwt", "application/logout+jwt", *PLAIN_TYPES)
"""The values of ``typ`` of a logout token (§2.4). Earlier drafts did not define one."""

OLDEST = 300.0
"""Seconds after which a logout token is too old, whatever its expiry is.

The limit also protects against a token without an expiry, which earlier drafts allowed.
"""

EVENT = "http://schemas.openid.net/event/backchannel-logout"
"""The member of ``events`` that makes a token a logout token (§2.4)."""

_CHECK_REGISTRATION = "Check the client's registration at the provider"
_CHECK_CLOCKS = "Check the clocks of the provider and of this site"
_CHECK_CLAIMS = "The provider must send a logout token as OIDC Back-Channel Logout 1.0 §2.4 defines it"
_LONGEST = 255  # characters of a subject (OIDC Core §2), and of the other names
_LONGEST_ID = 1000


@dataclass(frozen=True)
class LogoutToken:
    """The content of a valid logout token.

    Args:
        issuer: The issuer.
        client_id: The client.
        token_id: Identifies the token among those of the issuer (``jti``).
        issued_at: Unix time in seconds.
        expires_at: Unix time in seconds from which no clock of this site accepts the token any more.
        subject: The user at the provider; None if the token names only a session.
        sid: The provider's session that has ended; None for all sessions of the user.
    """

    issuer: str
    client_id: str
    token_id: str
    issued_at: float
    expires_at: float
    subject: str | None = None
    sid: str | None = None


@dataclass(frozen=True)
class Addressee:
    """The issuer and the audience of an unverified token.

    Args:
        issuer: The issuer.
        audiences: The clients.
        party: The authorized party (``azp``); empty if it is absent.
    """

    issuer: str
    audiences: Collection[str]
    party: str = ""

    def may_be(self, client_id: str) -> bool:
        """Return whether the token may be for a client."""
        return client_id in self.audiences and self.party in ("", client_id)


def addressee_of(token: str) -> Addressee:
    """Return the issuer and the audience of a token.

    They choose the provider that verifies it.

    Args:
        token: Any text.

    Raises:
        TokenError: The text is not a signed token, or names no issuer or client.
    """
    claims = _unverified(token)
    issuer, audience, party = claims.get("iss"), claims.get("aud"), claims.get("azp")
    audiences: list[Any] = audience if isinstance(audience, list) else [audience]
    if not isinstance(issuer, str) or not issuer:
        raise logout_refusal("it names no issuer (iss)")
    if not audiences or not all(isinstance(name, str) and name for name in audiences):
        raise logout_refusal("it names no client (aud)")
    return Addressee(issuer, frozenset(audiences), party if isinstance(party, str) else "")


def check_logout_token(claims: Claims, expected: ExpectedClaims) -> LogoutToken:
    """Validate a logout token's claims for this client.

    Args:
        claims: The claims of the token with a verified signature.
        expected: Issuer, client and time.

    Raises:
        TokenError: A claim is wrong. The text names the claim without its value.
    """
    check_issuer_and_audience(claims, expected)
    issued_at = _issued_at(claims)
    _check_event(claims)
    token_id = _text(claims, "jti", _LONGEST_ID)
    if token_id is None:
        raise logout_refusal("it has no identifier (jti)")
    subject, sid = _text(claims, "sub"), _text(claims, "sid", _LONGEST_ID)
    if subject is None and sid is None:
        raise logout_refusal("it names neither a user (sub) nor a session (sid)")
    check_times(claims, expected)
    if expected.now - expected.leeway >= issued_at + OLDEST:
        raise logout_refusal(f"it is older than {OLDEST:g} s (iat) by this machine's clock", _CHECK_CLOCKS)
    until = issued_at + OLDEST + expected.leeway
    return LogoutToken(expected.issuer, expected.client_id, token_id, issued_at, until, subject, sid)


@contextmanager
def as_logout_refusal() -> Iterator[None]:
    """Raise a block's ``TokenError`` as one about a logout token."""
    try:
        yield
    except TokenError as error:
        if error.error == ErrorCode.INVALID_REQUEST:
            raise
        # The error itself may name a setting.
        reason = error.reason or "its issuer (iss) is not one that this site accepts"
    else:
        return
    # Outside of the except clause, so that the error has no context.
    raise logout_refusal(reason, f"{_CHECK_REGISTRATION}, and the clocks")


def logout_refusal(why: str, remedy: str = _CHECK_CLAIMS) -> TokenError:
    """Return the error for an invalid logout token (``invalid_request``).

    Args:
        why: The condition, without a value of the token.
        remedy: What the operator of the provider or of the site can do, without a full stop.
    """
    refused = TokenError(f"The logout token is refused: {why}. {remedy}.", error=ErrorCode.INVALID_REQUEST)
    refused.reason = why
    return refused


def _unverified(token: str) -> Mapping[str, Any]:
    parts = token.split(".")
    if len(parts) != 3:
        raise logout_refusal("it is not a signed token (RFC 7515 §7.1)")
    try:
        claims = read_json(urlsafe_b64decode(parts[1].encode("ascii") + b"=="))
    except ValueError:
        claims = None
    if not isinstance(claims, dict):
        raise logout_refusal("its claims cannot be read")
    return claims


def _issued_at(claims: Claims) -> float:
    issued_at = claims.get("iat")
    if isinstance(issued_at, bool) or not isinstance(issued_at, int | float):
        raise logout_refusal("it has no time of issue (iat)")
    return float(issued_at)


def _check_event(claims: Claims) -> None:
    """Check that a token is a logout token.

    It refuses an ID token of a sign-in.
    """
    events = claims.get("events")
    if not isinstance(events, dict) or not isinstance(events.get(EVENT), dict):
        raise logout_refusal("it has no event of a logout (events)")
    if "nonce" in claims:  # also null: §2.4 prohibits the claim
        raise logout_refusal("it has a nonce, as only an ID token may")


def _text(claims: Claims, name: str, longest: int = _LONGEST) -> str | None:
    """Return a text, or None if it is absent."""
    if name not in claims:
        return None
    value = claims[name]
    if not isinstance(value, str) or not value.strip() or len(value) > longest:
        raise logout_refusal(f"{name} is not a text of 1 to {longest} characters")
    return value
