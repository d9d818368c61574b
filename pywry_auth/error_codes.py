"""Every error code, with its meaning and its HTTP status."""

from __future__ import annotations

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
    INVALID_HOST = "invalid_host", "The request's Host header is not the name of a host.", 400
    UNKNOWN_PROVIDER = "unknown_provider", "The request names a provider that this site does not offer.", 400
    INVALID_PARAMETER = (
        "invalid_parameter",
        "A sign-in link has a parameter that cannot be passed on to the provider.",
        400,
    )
    INVALID_STATE = "invalid_state", "The authorization response does not belong to the request.", 400
    STATE_UNKNOWN = "state_unknown", "No pending login has this state.", 400
    STATE_USED = "state_used", "The login with this state was finished before.", 400
    STATE_EXPIRED = "state_expired", "The user took too long to sign in.", 400
    OTHER_BROWSER = "other_browser", "The login was started in another browser.", 400
    OTHER_PROVIDER = "other_provider", "The login was started at another provider.", 400
    COOKIE_MISSING = "cookie_missing", "The browser did not send the cookie of its pending login.", 400
    COOKIE_UNKNOWN = (
        "cookie_unknown",
        "The browser sent the cookie of its pending login, but no secret of the site has signed it.",
        400,
    )
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
    INSUFFICIENT_SCOPE = (
        "insufficient_scope",
        "The user has not granted the site all scopes that the page needs (RFC 6750 §3.1).",
        403,
    )
    CROSS_SITE_REQUEST = "cross_site_request", "Another site caused the request.", 403
    NOT_A_NAVIGATION = (
        "not_a_navigation",
        "A frame, an image, a script or a prefetch requested a sign-in page.",
        400,
    )
    INVALID_DEMAND = (
        "invalid_demand",
        "No secret of the site has signed the demand in the address of the sign-in.",
        400,
    )
    RATE_LIMITED = "rate_limited", "Too many logins were begun or finished from one client address.", 429
    LOGIN_REQUIRED = "login_required", "The user must sign in first.", 401
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
