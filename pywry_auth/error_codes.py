"""Every error code, with its meaning, its HTTP status and the sentence for visitors."""

from __future__ import annotations

from enum import StrEnum

_AGAIN = "If this happens again, tell the site's administrator."
_SIGN_IN_FAILED = f"You could not be signed in: try again. {_AGAIN}"
_NOT_SET_UP = "This site is not set up correctly: tell the site's administrator."
_BAD_ANSWER = f"The service where you sign in sent an answer that cannot be used: start again. {_AGAIN}"
_NO_ANSWER = "The service where you sign in does not answer: try again in a few minutes."
_SIGN_IN_FIRST = "Sign in first."
_START_AGAIN = "Start again from this site."
REFUSED_REQUEST = (
    "The service where you sign in does not accept the request of this site: tell the site's administrator."
)
"""The sentence for a request that the provider refuses, because of the site's registration or settings."""

_OF_PROVIDERS = {
    **dict.fromkeys(
        ("invalid_client", "incorrect_client_credentials", "unauthorized_client"),
        REFUSED_REQUEST,
    ),
    **dict.fromkeys(("invalid_scope", "invalid_target", "redirect_uri_mismatch"), REFUSED_REQUEST),
    **dict.fromkeys(("unsupported_response_type", "unsupported_grant_type"), REFUSED_REQUEST),
}
"""The sentences for codes that only providers use."""


class ErrorCode(StrEnum):
    """The error codes of this package, with their HTTP statuses.

    A member is equal to its text, so ``error.error == ErrorCode.STATE_USED`` works for any error.

    Args:
        code: The text that clients see.
        sentence: The condition, in one sentence.
        status: The HTTP status of a response with this code.
        visitor: The sentence for a visitor of a site: it says what to do, and names no setting.
    """

    sentence: str
    status: int
    visitor: str

    def __new__(cls, code: str, sentence: str, status: int, visitor: str) -> ErrorCode:
        """Return a member that carries its sentences and status."""
        member = str.__new__(cls, code)
        member._value_ = code
        member.sentence = sentence
        member.status = status
        member.visitor = visitor
        return member

    AUTHENTICATION_FAILED = (
        "authentication_failed",
        "Sign-in failed for a reason that has no code.",
        400,
        _SIGN_IN_FAILED,
    )
    INVALID_CONFIGURATION = (
        "invalid_configuration",
        "A setting or an argument is invalid; the text names it.",
        503,
        _NOT_SET_UP,
    )
    AUTH_DISABLED = (
        "auth_disabled",
        "Sign-in is switched off on this site.",
        503,
        "Sign-in is switched off on this site.",
    )
    TEMPORARILY_UNAVAILABLE = (
        "temporarily_unavailable",
        "The store or the provider is not available at present: try again in a moment.",
        503,
        "This is not available at the moment: try again in a few seconds.",
    )
    SERVER_ERROR = (
        "server_error",
        "The provider reported an internal error (RFC 6749 §4.1.2.1).",
        502,
        _NO_ANSWER,
    )
    PROVIDER_UNREACHABLE = (
        "provider_unreachable",
        "The provider could not be reached, or closed the connection early: try again later.",
        502,
        _NO_ANSWER,
    )
    INVALID_HOST = (
        "invalid_host",
        "The request's Host header is not the name of a host.",
        400,
        "Open this site at its usual address.",
    )
    UNKNOWN_PROVIDER = (
        "unknown_provider",
        "The request names a provider that this site does not offer.",
        400,
        "This site does not offer that way to sign in: choose another one.",
    )
    INVALID_PARAMETER = (
        "invalid_parameter",
        "An address has a parameter that is unknown, or a sign-in link one that cannot be passed on.",
        400,
        "This sign-in link cannot be used: sign in without it.",
    )
    INVALID_STATE = (
        "invalid_state",
        "The authorization response does not belong to the request.",
        400,
        f"This address only accepts the response to a sign-in. {_START_AGAIN}",
    )
    STATE_UNKNOWN = (
        "state_unknown",
        "No pending login has this state.",
        400,
        f"This sign-in is no longer known here. {_START_AGAIN}",
    )
    STATE_USED = (
        "state_used",
        "The login with this state was finished before.",
        400,
        f"This sign-in was finished before. {_START_AGAIN}",
    )
    STATE_EXPIRED = (
        "state_expired",
        "The user took too long to sign in.",
        400,
        f"The sign-in took too long. {_START_AGAIN}",
    )
    OTHER_BROWSER = (
        "other_browser",
        "The login was started in another browser.",
        400,
        "This sign-in was started in another browser: start again in this one.",
    )
    OTHER_PROVIDER = (
        "other_provider",
        "The login was started at another provider.",
        400,
        f"This sign-in was started in another way. {_START_AGAIN}",
    )
    COOKIE_MISSING = (
        "cookie_missing",
        "The browser did not send the cookie of its pending login.",
        400,
        "Your browser did not send the cookie of this sign-in: allow cookies, and start again from this "
        "site.",
    )
    COOKIE_UNKNOWN = (
        "cookie_unknown",
        "The browser sent the cookie of its pending login, but no secret of the site has signed it.",
        400,
        f"This site cannot read the cookie of this sign-in. {_START_AGAIN} {_AGAIN}",
    )
    INVALID_REQUEST = (
        "invalid_request",
        "A logout token was not accepted, or the logout failed (OIDC Back-Channel Logout §2.8). Or the "
        "provider did not accept a request of the site (RFC 6749 §5.2).",
        400,
        REFUSED_REQUEST,
    )
    ISSUER_MISMATCH = (
        "issuer_mismatch",
        "The authorization response names an issuer other than the expected one (RFC 9207).",
        400,
        "The answer did not come from the service where you sign in: start again. If this happens again, do "
        "not sign in, and tell the site's administrator.",
    )
    INVALID_RESPONSE = (
        "invalid_response",
        "The provider's response does not follow the specification.",
        400,
        _BAD_ANSWER,
    )
    INVALID_ID_TOKEN = (
        "invalid_id_token",
        "An ID token or a signed UserInfo response is missing or could not be validated.",
        400,
        _BAD_ANSWER,
    )
    SUBJECT_MISMATCH = (
        "subject_mismatch",
        "Two responses about one sign-in name different subjects (OIDC Core §5.3.2, §12.2).",
        400,
        _BAD_ANSWER,
    )
    NO_USER_ID = (
        "no_user_id",
        "The provider's profile has no claim that can be a user ID.",
        400,
        "The service where you sign in did not send your user ID: tell the site's administrator.",
    )
    ACCESS_DENIED = (
        "access_denied",
        "The user, the provider or the site's rules refused (RFC 6749 §4.1.2.1).",
        403,
        "This account may not sign in here: use another account, or ask the site's administrator.",
    )
    INSUFFICIENT_SCOPE = (
        "insufficient_scope",
        "The user has not granted the site all scopes that the page needs (RFC 6750 §3.1).",
        403,
        "You have not allowed all the access that this needs: allow it to continue.",
    )
    INSUFFICIENT_USER_AUTHENTICATION = (
        "insufficient_user_authentication",
        "The user's sign-in is too old or too weak for the page (RFC 9470).",
        401,
        "This needs a more recent or a stronger sign-in: sign in again to continue.",
    )
    CROSS_SITE_REQUEST = (
        "cross_site_request",
        "Another site caused the request.",
        403,
        "This request came from another site, so it changed nothing: use this site's own pages.",
    )
    NOT_A_NAVIGATION = (
        "not_a_navigation",
        "A frame, an image, a script or a prefetch requested a sign-in page.",
        400,
        "Open this site's sign-in link in a tab or window of its own.",
    )
    INVALID_DEMAND = (
        "invalid_demand",
        "No secret of the site has signed the demand in the address of the sign-in.",
        400,
        "This sign-in link was not made by this site, or it is too old: sign in without it, and open the "
        "page again.",
    )
    RATE_LIMITED = (
        "rate_limited",
        "Too many logins were begun or finished from one client address.",
        429,
        "Too many sign-ins from your network: wait a minute and try again.",
    )
    LOGIN_REQUIRED = (
        "login_required",
        "The user must sign in first.",
        401,
        _SIGN_IN_FIRST,
    )
    NOT_SIGNED_IN = (
        "not_signed_in",
        "No user is signed in.",
        401,
        _SIGN_IN_FIRST,
    )
    REAUTH_REQUIRED = (
        "reauth_required",
        "The provider no longer accepts the grant: sign in again.",
        401,
        "Your sign-in at the provider is no longer valid: sign in again.",
    )
    NO_REFRESH_TOKEN = (
        "no_refresh_token",
        "The provider issued no refresh token.",
        400,
        "Your access cannot be extended: sign in again when it ends.",
    )
    BROWSER_SESSION_REQUIRED = (
        "browser_session_required",
        "A bearer token authenticates a request that only a signed-in browser may send.",
        403,
        "Only a browser where you are signed in may show or sign out your sessions: open this page there.",
    )
    METRICS_TOKEN_REQUIRED = (
        "metrics_token_required",
        "A request for the metrics has no bearer token of `PYWRY_DEPLOY__METRICS_TOKEN`.",
        401,
        "This address is for the programs that monitor this site.",
    )
    UNKNOWN_SESSION = (
        "unknown_session",
        "The user has no session with this handle.",
        404,
        "This session is already signed out, or it is not one of yours: look at the list of your sessions.",
    )
    TIMEOUT = (
        "timeout",
        "The user did not sign in within the time allowed.",
        400,
        "The sign-in took too long: start again.",
    )
    CANCELLED = (
        "cancelled",
        "The login was cancelled.",
        400,
        "The sign-in was cancelled.",
    )

    @classmethod
    def status_of(cls, code: str) -> int:
        """Return the HTTP status for a code.

        A code that only providers use has the status 400.
        """
        return next((member.status for member in cls if member == code), 400)

    @classmethod
    def visitor_of(cls, code: str) -> str:
        """Return the sentence for a visitor who meets a code, perhaps a provider's own."""
        own = next((member.visitor for member in cls if member == code), "")
        return own or _OF_PROVIDERS.get(code, _SIGN_IN_FAILED)
