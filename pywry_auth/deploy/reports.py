"""The log line of a refused request, and the reference that leads to it."""

from __future__ import annotations

import logging
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pywry_auth.deploy.site import InsecureAddress
from pywry_auth.error_codes import REFUSED_REQUEST, ErrorCode
from pywry_auth.exceptions import AuthenticationError, StoreUnavailable, TokenError, printable
from pywry_auth.flow.events import log_fields
from pywry_auth.protocol.provider_errors import CANCELLED_AT_PROVIDER

if TYPE_CHECKING:
    from pywry_auth.deploy.site import Site

_logger = logging.getLogger("pywry_auth.deploy")

_ALPHABET = "23456789ABCDEFGHJKMNPQRSTVWXYZ"  # without 0, 1, I, L, O and U, which readers confuse
_LONGEST = 1000  # characters of a sentence in the log
_STORE_DOWN = "This site cannot look up sessions at the moment: try again in a few seconds."

_USED_CODE = ("invalid_grant", "bad_verification_code")  # the second one is GitHub's
"""The token endpoint's codes for an authorization code that is used or late, so that a new sign-in helps."""

OF_VISITORS = CANCELLED_AT_PROVIDER | {
    ErrorCode.AUTH_DISABLED,  # the start has logged a warning
    ErrorCode.INVALID_HOST,
    ErrorCode.UNKNOWN_PROVIDER,
    ErrorCode.INVALID_PARAMETER,
    ErrorCode.INVALID_STATE,
    ErrorCode.STATE_UNKNOWN,
    ErrorCode.STATE_USED,
    ErrorCode.STATE_EXPIRED,
    ErrorCode.OTHER_BROWSER,
    ErrorCode.OTHER_PROVIDER,
    ErrorCode.COOKIE_MISSING,
    ErrorCode.COOKIE_UNKNOWN,
    ErrorCode.INSUFFICIENT_SCOPE,
    ErrorCode.CROSS_SITE_REQUEST,
    ErrorCode.NOT_A_NAVIGATION,
    ErrorCode.INVALID_DEMAND,
    ErrorCode.RATE_LIMITED,
    ErrorCode.LOGIN_REQUIRED,
    ErrorCode.NOT_SIGNED_IN,
    ErrorCode.REAUTH_REQUIRED,
    ErrorCode.NO_REFRESH_TOKEN,
    ErrorCode.BROWSER_SESSION_REQUIRED,
    ErrorCode.METRICS_TOKEN_REQUIRED,
    ErrorCode.UNKNOWN_SESSION,
}
"""The codes that any visitor can cause, so that the site need not act."""

_OF_PROVIDERS = (ErrorCode.INVALID_ID_TOKEN, ErrorCode.INSUFFICIENT_USER_AUTHENTICATION)
"""The codes of an ID token that is not as the site needs it."""


@dataclass(frozen=True)
class Report:
    """A refusal in the log.

    Args:
        reference: Identifies the line; empty if the refusal is not in the log.
        sentence: The sentence for developers and operators.
    """

    reference: str = ""
    sentence: str = ""


UNREPORTED = Report()
"""A refusal that is not in the log, because it is an ordinary response such as 401 without a session."""


def new_reference() -> str:
    """Return a random reference of eight characters and a dash, for example ``7K3F-92QX``."""
    text = "".join(secrets.choice(_ALPHABET) for _ in range(8))
    return f"{text[:4]}-{text[4:]}"


def report(
    site: Site,
    error: AuthenticationError,
    *,
    status: int = 0,
    provider: str = "",
    reference: str = "",
    quiet: bool = False,
) -> Report:
    """Log a refusal with its whole sentence.

    The level is WARNING if the site or its provider has to act, otherwise INFO, because any visitor can
    cause such lines.

    Args:
        site: The site.
        error: The reason.
        status: The HTTP status of the response; 0 for the status of the error code.
        provider: The provider's name, unless the error names it.
        reference: The reference; empty for a new one.
        quiet: Whether the level is INFO in any case.
    """
    status = status or ErrorCode.status_of(error.error)
    found = Report(reference or new_reference(), printable(str(error), _LONGEST))
    facts = {
        "reference": found.reference,
        "error": printable(error.error, 60),
        "provider": printable(error.provider or provider, 60),
        "client": printable(site.client, 60),
    }
    known = " ".join(f"{name}={value!r}" for name, value in facts.items() if value)
    level = logging.WARNING if not quiet and _needs_action(site, error, status) else logging.INFO
    fields = log_fields("refused", {**facts, "status": status, "browser": site.browser})
    _logger.log(level, "refused %s: %s", known, found.sentence, extra=fields)
    return found


def is_refused_request(error: AuthenticationError) -> bool:
    """Return whether the token endpoint refused this site's request with a code.

    Its code may be one that means a refused user in the authorization response, or one of this package.
    """
    at_present = (ErrorCode.TEMPORARILY_UNAVAILABLE, "server_error")
    is_refusal = isinstance(error, TokenError) and error.refused
    return is_refusal and error.error not in (ErrorCode.INVALID_RESPONSE, *at_present)


def _needs_action(site: Site, error: AuthenticationError, status: int) -> bool:
    if isinstance(error, InsecureAddress):  # any stranger can send such a request, as often as it wants
        return site.options.once.is_first(str(error))
    if is_refused_request(error) or (isinstance(error, TokenError) and error.error in _OF_PROVIDERS):
        return True
    if error.error in OF_VISITORS:
        return status >= 500 and error.error != ErrorCode.AUTH_DISABLED
    return status >= 500 or not error.visitor  # the sentence says what the visitor did


def visitor_text(error: AuthenticationError) -> str:
    """Return the sentence of an error for the visitor."""
    if error.visitor:
        return error.visitor
    if is_refused_request(error) and error.error not in _USED_CODE:
        return REFUSED_REQUEST
    # The store's address and its error belong in the log only.
    return _STORE_DOWN if isinstance(error, StoreUnavailable) else ErrorCode.visitor_of(error.error)
