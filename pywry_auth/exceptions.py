"""Ground: every error that a caller of this package can act on.

    AuthenticationError           sign-in failed, or the configuration is wrong
    ├── AuthFlowTimeout           nobody signed in within the time allowed
    ├── AuthFlowCancelled         cancel() was called, or the login window was closed
    └── TokenError                the provider's tokens could not be had or not be believed
        ├── TokenExpiredError     the access token has ended and there is no refresh token
        └── TokenRefreshError     the provider refused the refresh token: sign in again

Each carries a stable ``error`` code: the provider's own (RFC 6749 §4.1.2.1, §5.2) where it sent one,
else one of this package's, which are the constants below.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

INVALID_CONFIGURATION = "invalid_configuration"
"""A setting or an argument cannot work; the text says which."""

INVALID_STATE = "invalid_state"
"""The authorization response does not belong to the request that was made."""

ISSUER_MISMATCH = "issuer_mismatch"
"""The authorization response names another issuer than the one asked (RFC 9207)."""

INVALID_RESPONSE = "invalid_response"
"""The provider answered, but with something no specification allows."""

INVALID_ID_TOKEN = "invalid_id_token"
"""An ID token or a signed UserInfo response is missing, forged, stale or meant for somebody else."""

SUBJECT_MISMATCH = "subject_mismatch"
"""Two statements about one sign-in name two people (OIDC Core §5.3.2, §12.2)."""

NO_USER_ID = "no_user_id"
"""The provider's profile names nobody."""

ACCESS_DENIED = "access_denied"
"""The user, the provider or the site's rules said no (RFC 6749 §4.1.2.1)."""

CROSS_SITE = "cross_site_request"
"""Another site caused the request."""

RATE_LIMITED = "rate_limited"
"""Too many logins were begun from one place."""

PROVIDER_UNREACHABLE = "provider_unreachable"
"""The provider could not be reached, or broke off: trying again later can help."""


class AuthenticationError(Exception):
    """Sign-in failed, or the configuration is wrong.

    Args:
        message: A sentence for people that says what to do. Never a token, code, verifier or secret.
        error: Stable code, the provider's own where it sent one.
        error_description: The provider's own words (RFC 6749 §4.1.2.1, §5.2): escape them before showing.
        provider: Name of the provider, when known.
        flow_id: Identifies one login attempt in logs, when there is one.
        timeout: Seconds that were allowed, where time ran out.
    """

    def __init__(
        self,
        message: str = "",
        *,
        error: str = "authentication_failed",
        error_description: str = "",
        provider: str | None = None,
        flow_id: str | None = None,
        timeout: float | None = None,
    ) -> None:
        super().__init__(message)
        self.error = error
        self.error_description = error_description
        self.provider = provider
        self.flow_id = flow_id
        self.timeout = timeout


class AuthFlowTimeout(AuthenticationError):
    """Nobody signed in within ``timeout`` seconds."""


class AuthFlowCancelled(AuthenticationError):
    """The login was cancelled, or its window closed, before it ended."""


class TokenError(AuthenticationError):
    """Tokens could not be had from the provider, or what came cannot be believed."""


class TokenExpiredError(TokenError):
    """The access token has ended and there is no refresh token: sign in again."""


class TokenRefreshError(TokenError):
    """The provider refused the refresh token: sign in again."""


@contextmanager
def raised_at(provider: str) -> Iterator[None]:
    """Name the provider in any AuthenticationError that leaves the block."""
    try:
        yield
    except AuthenticationError as exc:
        exc.provider = exc.provider or provider
        raise


def printable(text: str, limit: int = 200) -> str:
    """Return foreign text fit for a message or a log line: one line, no control characters, bounded.

    Args:
        text: What somebody else sent.
        limit: Characters to keep.
    """
    line = "".join(c if c.isprintable() else " " for c in text[: limit + 1])
    return line if len(line) <= limit else line[:limit] + "…"
