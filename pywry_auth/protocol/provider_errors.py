"""A provider's error response, explained with the next step (RFC 6749 §4.1.2.1, §5.2)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TypeVar

from pywry_auth.exceptions import AuthenticationError, TokenRefreshError, printable
from pywry_auth.protocol.redaction import provider_code, provider_text

_E = TypeVar("_E", bound=AuthenticationError)

CLIENT_CREDENTIALS = "client_credentials"
"""The grant type of a client that acts for itself (RFC 6749 §4.4)."""

TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
"""The grant type of an exchange of a user's token (RFC 8693 §2.1)."""

DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"
"""The grant type of a sign-in on another device (RFC 8628 §3.4)."""

SLOW_DOWN = "slow_down"
"""The code for a client that asks too often (RFC 8628 §3.5)."""

INVALID_TOKEN = "invalid_token"  # also Google's answer to the revocation of an expired token

ENDED_GRANT = frozenset(
    {"invalid_grant", "interaction_required", "login_required", "consent_required"}
    | {INVALID_TOKEN, "expired_token", "token_expired", "invalid_refresh_token"}
    | {"bad_refresh_token"}  # GitHub's code for invalid_grant
)
"""The only codes that end a grant. Any other cause, such as a wrong client secret, can be corrected."""

CLIENT_FAULTS = frozenset(
    {"invalid_client", "unauthorized_client", "invalid_scope"}
    | {"incorrect_client_credentials"}  # GitHub's code for invalid_client
)
"""Codes of a mistake in the configuration of this client, which its operator must correct."""

CANCELLED_AT_PROVIDER = frozenset(
    {"access_denied"}  # RFC 6749 §4.1.2.1
    | {"user_cancelled_authorize", "user_cancelled_login"}  # Apple and LinkedIn
    | {"authorization_declined"}  # Microsoft's code for access_denied at the device authorization grant
)
"""The codes after the user pressed Cancel."""

_LONGEST_DESCRIPTION = 1000  # characters
_QUOTES = str.maketrans("“”", '""')
_SIGN_IN_AGAIN = "Sign in again."
_CHECK_SECRET = (
    "Check PYWRY_OAUTH2__CLIENT_ID, PYWRY_OAUTH2__CLIENT_SECRET and PYWRY_OAUTH2__TOKEN_ENDPOINT_AUTH_METHOD."
)
_CHECK_REGISTRATION = "Check the client's registration at the provider."
_NEXT_STEP = {
    "access_denied": "Sign-in was refused at the provider: sign in again and allow the access.",
    "login_required": "The provider requires the user to sign in: try again without prompt=none.",
    **dict.fromkeys(
        ("interaction_required", "consent_required", "account_selection_required"),
        "The provider has to ask the user: sign in again, without prompt=none.",
    ),
    "invalid_target": (
        "Check the resource (PYWRY_OAUTH2__RESOURCE): it must be an API that the provider knows. Sign in "
        "again after a change of it."
    ),
    "invalid_scope": "Check the requested scopes.",
    "invalid_request": "Check the redirect URI and the client's registration at the provider.",
    "redirect_uri_mismatch": "Check the redirect URI in the client's registration at the provider.",
    "unauthorized_client": _CHECK_REGISTRATION,
    "unsupported_grant_type": _CHECK_REGISTRATION,
    "invalid_client": "Check PYWRY_OAUTH2__CLIENT_ID and the client's registration at the provider.",
    "incorrect_client_credentials": "Check PYWRY_OAUTH2__CLIENT_ID and PYWRY_OAUTH2__CLIENT_SECRET.",
    "temporarily_unavailable": "The provider is busy: try again in a moment.",
    "server_error": "The provider had an internal error: try again in a moment.",
}


_START_AGAIN = "The code cannot be used any more: start the sign-in again."
_ALLOW_DEVICES = (
    "Allow the device authorization grant for this client at the provider, and check "
    "PYWRY_OAUTH2__CLIENT_ID, PYWRY_OAUTH2__CLIENT_SECRET and PYWRY_OAUTH2__TOKEN_ENDPOINT_AUTH_METHOD."
)
# The next steps at the token endpoint that differ, by the type of the grant.
_NEXT_STEP_OF_GRANT: Mapping[str, Mapping[str, str]] = {
    # Auth0 refuses a wrong secret like this. At a token endpoint, no user denies anything.
    "authorization_code": {"access_denied": _CHECK_SECRET},
    "refresh_token": {"access_denied": _CHECK_SECRET},
    TOKEN_EXCHANGE: {
        "invalid_target": "Check the audience and the resource, and allow them at the provider.",
        "unsupported_grant_type": "Allow token exchange for this client, if the provider offers it.",
        "unauthorized_client": "Allow token exchange for this client at the provider.",
        "invalid_request": (
            "Check the audience, the resource and the scopes. If they are right, the provider does not "
            "accept this user's token."
        ),
        "invalid_grant": "The provider does not accept this user's token: let the user sign in again.",
    },
    DEVICE_CODE: {
        **dict.fromkeys(("access_denied", "authorization_declined"), _NEXT_STEP["access_denied"]),
        # bad_verification_code is Microsoft's, and incorrect_device_code is GitHub's.
        **dict.fromkeys(("expired_token", "invalid_grant", "bad_verification_code"), _START_AGAIN),
        "incorrect_device_code": _START_AGAIN,
        **dict.fromkeys(("invalid_client", "unauthorized_client", "unsupported_grant_type"), _ALLOW_DEVICES),
        "device_flow_disabled": "Switch on “Enable Device Flow” in the settings of the app at GitHub.",
        "invalid_scope": "Check the scopes: some providers, such as Google, allow few of them to devices.",
        "invalid_request": "Check the scopes, PYWRY_OAUTH2__RESOURCE and PYWRY_OAUTH2__AUTHORIZE_PARAMS.",
        "rate_limit_exceeded": "This client has asked for too many codes: try again later.",
        "slow_down": "This client has asked too often: try again in a minute.",
        "authorization_pending": "Wait until the user has approved the sign-in, and ask again.",
    },
    CLIENT_CREDENTIALS: {
        "invalid_target": "Check the resource, and allow it for this client at the provider.",
        "unsupported_grant_type": "Allow client credentials for this client, if the provider offers them.",
        "unauthorized_client": "Allow client credentials for this client at the provider.",
        "invalid_request": "Check the scopes, the resource and the parameters.",
        "invalid_grant": _CHECK_REGISTRATION,
        "access_denied": _CHECK_REGISTRATION,
    },
}


def _unquoted(text: str) -> str:
    """Return printable text without the quotes in which it is shown, so that it cannot end the quotation."""
    return printable(text).translate(_QUOTES)


def explain(
    source: str,
    code: str,
    description: str,
    kind: type[_E],
    secrets: Collection[str] = (),
    grant_type: str = "",
    check_client: str = "",
) -> _E:
    """Return the error for a provider's error response, with a remedy.

    Args:
        source: The endpoint that answered, as the subject of the sentence.
        code: The response's ``error``.
        description: The response's ``error_description``; empty for none.
        kind: The class of the error.
        secrets: The values that the provider received. Neither they nor parts of them are shown.
        grant_type: The type of the grant that was refused; empty for a sign-in.
        check_client: The remedy if the client's authentication was refused; empty for a general one.
    """
    known = {**_NEXT_STEP, **({"invalid_client": check_client} if check_client else {})}
    known |= _NEXT_STEP_OF_GRANT.get(grant_type, {})
    # A code that this package knows is never a secret, even if a user chose such a secret.
    if code not in known and code not in ENDED_GRANT:
        code = provider_code(code, secrets)
    description = printable(provider_text(description, secrets), _LONGEST_DESCRIPTION)
    quoted = f"{_unquoted(code)}: “{_unquoted(description)}”" if description else _unquoted(code)
    # At a refresh, login_required has nothing to do with the parameter prompt.
    ended = issubclass(kind, TokenRefreshError)
    usual = _CHECK_REGISTRATION if grant_type in (CLIENT_CREDENTIALS, TOKEN_EXCHANGE) else _SIGN_IN_AGAIN
    advice = _SIGN_IN_AGAIN if ended else known.get(code, usual)
    return kind(f"{source} answered {quoted}. {advice}", error=code, error_description=description)
