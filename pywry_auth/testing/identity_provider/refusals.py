"""The provider's errors, and the parameters of requests."""

from __future__ import annotations

from werkzeug.datastructures import MultiDict

_REPEATABLE = ("audience", "resource")


class OAuthError(Exception):
    """An error with a code from the specifications.

    Args:
        error: The code (RFC 6749 §4.1.2.1, §5.2; OIDC Core §3.1.2.6; RFC 6750 §3.1).
        description: The reason, for developers.
        status: The HTTP status of a response that is not a redirect.
        challenge: The value of ``WWW-Authenticate``; empty for none.
    """

    def __init__(self, error: str, description: str, *, status: int = 400, challenge: str = "") -> None:
        super().__init__(description)
        self.error = error
        self.description = description
        self.status = status
        self.challenge = challenge


class PageError(Exception):
    """An error page for the user, without a redirect (RFC 6749 §4.1.2.1)."""


def single_values(parameters: MultiDict[str, str]) -> dict[str, str]:
    """Return the parameters that have a value (RFC 6749 §3.1).

    An empty value counts as missing. Of a parameter that may appear more than once (RFC 8693 §2.1), this is
    the first value.

    Raises:
        OAuthError: ``invalid_request``: a parameter appears more than once (RFC 6749 §3.1, §3.2).
    """
    if any(len(values) > 1 and name not in _REPEATABLE for name, values in parameters.lists()):
        raise OAuthError("invalid_request", "a parameter was sent more than once")
    return {name: value for name, value in parameters.items() if value}


def required(values: dict[str, str], name: str) -> str:
    """Return a required parameter.

    Raises:
        OAuthError: ``invalid_request``: the parameter is missing.
    """
    if name not in values:
        raise OAuthError("invalid_request", f"{name} is missing")
    return values[name]
