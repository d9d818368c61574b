"""The current request's query as it came: any bytes, bounded, duplicates kept."""

from __future__ import annotations

from urllib.parse import parse_qsl

from flask import request

from pywry_auth.exceptions import AuthenticationError, ErrorCode
from pywry_auth.flow.authorization_code import ResponseParameters

_MOST_PARAMETERS = 64


def query_parameters() -> ResponseParameters:
    """Return the decoded parameters in order, those that come twice twice.

    Raises:
        AuthenticationError: There are far too many.
    """
    try:
        # Not request.args: it refuses bytes that are no UTF-8 with an error of its own.
        query = request.query_string.decode("utf-8", errors="replace")
        return parse_qsl(query, keep_blank_values=True, max_num_fields=_MOST_PARAMETERS)
    except ValueError:
        raise AuthenticationError(
            "The address has too many parameters: start the sign-in anew.", error=ErrorCode.INVALID_RESPONSE
        ) from None


def query_value(name: str) -> str | None:
    """Return the first value of a parameter, or None where there is none or the query cannot be read."""
    try:
        return next((value for key, value in query_parameters() if key == name), None)
    except AuthenticationError:
        return None
