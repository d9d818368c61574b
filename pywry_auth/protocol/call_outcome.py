"""The outcome of a call to a provider, as one word for measurements."""

from __future__ import annotations

from urllib.parse import urlsplit

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError
from pywry_auth.measures import FAILED, OK

OUTCOMES = (OK, "refused", "rate_limited", "server_error", "timeout", "unreachable", "invalid", FAILED)
"""All outcomes: of answers by status, and of calls without a usable answer."""


def outcome_of_status(status: int) -> str:
    """Return the outcome of an answer.

    Args:
        status: Its HTTP status.
    """
    if status == 429:
        return "rate_limited"
    if status >= 500:
        return "server_error"
    return "refused" if status >= 400 else OK


def outcome_of_error(error: AuthenticationError) -> str:
    """Return the outcome of a call that failed.

    Args:
        error: The reason.
    """
    if error.timeout is not None:
        return "timeout"
    if error.error == ErrorCode.PROVIDER_UNREACHABLE:
        return "unreachable"
    return "invalid" if error.error == ErrorCode.INVALID_RESPONSE else FAILED


def host_and_port(url: str) -> tuple[str, int]:
    """Return the host and the port of a URL, or an empty host and 0 for a URL without them.

    Args:
        url: The URL of an endpoint.
    """
    try:
        parts = urlsplit(url)
        return parts.hostname or "", parts.port or (80 if parts.scheme == "http" else 443)
    except ValueError:
        return "", 0
