"""Ground: the errors of this package, and their codes.

    AuthenticationError           sign-in failed, or the configuration is wrong
    ├── AuthFlowTimeout           the user did not sign in within the time allowed
    ├── AuthFlowCancelled         cancel() was called, or the login window was closed
    ├── StoreUnavailable          the store cannot be reached or used at present
    └── TokenError                tokens could not be obtained or validated
        ├── TokenExpiredError     the access token has expired and there is no refresh token
        └── TokenRefreshError     the provider refused the refresh token: sign in again

Each error carries a stable ``error`` code: the provider's own (RFC 6749 §4.1.2.1, §5.2) if it sent
one, otherwise a member of ``ErrorCode``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum


class ErrorCode(StrEnum):
    """The error codes of this package, with their HTTP statuses.

    A member is equal to its text, so ``error.error == ErrorCode.STATE_USED`` works for any error.

    Args:
        code: The text that clients see.
        sentence: The condition, in one sentence.
        status: The HTTP status of a response with this code.
    """

    sentence: str
    status: int

    def __new__(cls, code: str, sentence: str, status: int) -> ErrorCode:
        """Return a member that carries its sentence and status."""
        member = str.__new__(cls, code)
        member._value_ = code
        member.sentence = sentence
        member.status = status
        return member

    AUTHENTICATION_FAILED = "authentication_failed", "Sign-in failed for a reason that has no code.", 400
    INVALID_CONFIGURATION = (
        "invalid_configuration",
        "A setting or an argument is invalid; the text names it.",
        503,
    )
    AUTH_DISABLED = "auth_disabled", "Sign-in is switched off on this site.", 503
    TEMPORARILY_UNAVAILABLE = (
        "temporarily_unavailable",
        "The store or the provider is not available at present: try again in a moment.",
        503,
    )
    SERVER_ERROR = "server_error", "The provider reported an internal error (RFC 6749 §4.1.2.1).", 502
    PROVIDER_UNREACHABLE = (
        "provider_unreachable",
        "The provider could not be reached, or closed the connection early: try again later.",
        502,
    )
    UNKNOWN_PROVIDER = "unknown_provider", "The request names a provider that this site does not offer.", 400
    INVALID_STATE = "invalid_state", "The authorization response does not belong to the request.", 400
    STATE_UNKNOWN = "state_unknown", "No pending login has this state.", 400
    STATE_USED = "state_used", "The login with this state was finished before.", 400
    STATE_EXPIRED = "state_expired", "The user took too long to sign in.", 400
    OTHER_BROWSER = "other_browser", "The login was started in another browser.", 400
    OTHER_PROVIDER = "other_provider", "The login was started at another provider.", 400
    COOKIE_MISSING = "cookie_missing", "The browser did not send the cookie of its pending login.", 400
    ISSUER_MISMATCH = (
        "issuer_mismatch",
        "The authorization response names an issuer other than the expected one (RFC 9207).",
        400,
    )
    INVALID_RESPONSE = (
        "invalid_response",
        "The provider's response does not follow the specification.",
        400,
    )
    INVALID_ID_TOKEN = (
        "invalid_id_token",
        "An ID token or a signed UserInfo response is missing or could not be validated.",
        400,
    )
    SUBJECT_MISMATCH = (
        "subject_mismatch",
        "Two responses about one sign-in name different subjects (OIDC Core §5.3.2, §12.2).",
        400,
    )
    NO_USER_ID = "no_user_id", "The provider's profile has no claim that can be a user ID.", 400
    ACCESS_DENIED = (
        "access_denied",
        "The user, the provider or the site's rules refused (RFC 6749 §4.1.2.1).",
        403,
    )
    CROSS_SITE_REQUEST = "cross_site_request", "Another site caused the request.", 403
    RATE_LIMITED = "rate_limited", "Too many logins were started from one client address.", 429
    LOGIN_REQUIRED = "login_required", "The page is for signed-in users only.", 401
    NOT_SIGNED_IN = "not_signed_in", "No user is signed in.", 401
    REAUTH_REQUIRED = "reauth_required", "The provider no longer accepts the grant: sign in again.", 401
    NO_REFRESH_TOKEN = "no_refresh_token", "The provider issued no refresh token.", 400
    TIMEOUT = "timeout", "The user did not sign in within the time allowed.", 400
    CANCELLED = "cancelled", "The login was cancelled.", 400

    @classmethod
    def status_of(cls, code: str) -> int:
        """Return the HTTP status for a code.

        A code that only providers use has the status 400.
        """
        return next((member.status for member in cls if member == code), 400)


class AuthenticationError(Exception):
    """Sign-in failed, or the configuration is wrong.

    Args:
        message: A sentence for people that names the condition and the remedy. It never contains a token,
            code, verifier or secret.
        error: A stable code: the provider's own if it sent one, otherwise a member of ``ErrorCode``.
        error_description: The provider's own words (RFC 6749 §4.1.2.1, §5.2): escape them
            before you show them.
        provider: The name of the provider, if known.
        flow_id: The identifier of the login attempt in logs, if there is one.
        timeout: The time allowed in seconds, if the error is a timeout.
    """

    def __init__(
        self,
        message: str = "",
        *,
        error: str = ErrorCode.AUTHENTICATION_FAILED,
        error_description: str = "",
        provider: str | None = None,
        flow_id: str | None = None,
        timeout: float | None = None,
    ) -> None:
        super().__init__(message)
        self.error = str(error)
        self.error_description = error_description
        self.provider = provider
        self.flow_id = flow_id
        self.timeout = timeout


class AuthFlowTimeout(AuthenticationError):
    """The user did not sign in within ``timeout`` seconds."""


class AuthFlowCancelled(AuthenticationError):
    """The login was cancelled, or its window was closed."""


class StoreUnavailable(AuthenticationError):
    """The store cannot be reached or used: try again later.

    Args:
        message: The condition and where to look, without keys and values.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message, error=ErrorCode.TEMPORARILY_UNAVAILABLE)


class TokenError(AuthenticationError):
    """Tokens could not be obtained or validated."""


class TokenExpiredError(TokenError):
    """The access token expired, and there is no refresh token.

    The user must sign in again.
    """


class TokenRefreshError(TokenError):
    """The provider refused the refresh token: sign in again."""


@contextmanager
def naming_provider(provider: str) -> Iterator[None]:
    """Add the provider's name to any ``AuthenticationError`` of the block."""
    try:
        yield
    except AuthenticationError as error:
        error.provider = error.provider or provider
        raise


def printable(text: str, limit: int = 200) -> str:
    """Return untrusted text in a form for messages and logs.

    Args:
        text: Text from outside this program.
        limit: The number of characters to keep.

    Returns:
        One line without control characters.
    """
    line = "".join(c if c.isprintable() else " " for c in text[: limit + 1])
    return line if len(line) <= limit else line[:limit] + "…"
