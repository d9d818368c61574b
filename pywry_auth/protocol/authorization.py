"""The authorization request (RFC 6749 §4.1.1), and the judgement of what comes back from it."""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from pywry_auth.exceptions import AuthenticationError, ErrorCode, printable
from pywry_auth.models import AuthorizationRequest
from pywry_auth.protocol.discovery import is_issuer

ResponseParameters = Sequence[tuple[str, str]]
"""Decoded parameters of an authorization response, in order, duplicates kept."""

_NEXT_STEP = {
    "access_denied": "Sign-in was refused at the provider: sign in again and allow the access.",
    "login_required": "The provider wants the user to sign in: try again without prompt=none.",
    "invalid_scope": "Check the scopes that are asked for.",
    "unauthorized_client": "Check the client's registration at the provider.",
    "invalid_request": "Check the redirect URI and the client's registration at the provider.",
    "temporarily_unavailable": "The provider is busy: try again in a moment.",
    "server_error": "The provider has a fault: try again in a moment.",
}


@dataclass(frozen=True)
class AuthorizationCode:
    """A code out of a response that was judged; nothing else is ever exchanged."""

    value: str = field(repr=False)


def build_authorization_url(endpoint: str, parameters: Mapping[str, str | None]) -> str:
    """Return the URL that the browser is sent to.

    Args:
        endpoint: The authorization endpoint; its own query is kept (RFC 6749 §3.1).
        parameters: What is asked for; None leaves a parameter to the endpoint's own query. The others win
            over that, because no parameter may be there twice.
    """
    parts = urlsplit(endpoint)
    asked = [(name, value) for name, value in parameters.items() if value is not None]
    own = parse_qsl(parts.query, keep_blank_values=True)
    kept = [(name, value) for name, value in own if parameters.get(name) is None]
    return urlunsplit(parts._replace(query=urlencode(kept + asked, quote_via=quote)))


def validate_authorization_response(
    request: AuthorizationRequest, parameters: ResponseParameters, *, issuer: str, iss_required: bool
) -> AuthorizationCode:
    """Return the code of a response that belongs to the request: duplicates, state, issuer, error, code.

    Args:
        request: What was asked.
        parameters: What came back.
        issuer: Who was asked; empty when the provider has no issuer identifier.
        iss_required: Whether that issuer says that it always sends ``iss`` (RFC 9207 §3).

    Raises:
        AuthenticationError: The response is not one to this request, or the provider refused.
    """
    values = dict(parameters)
    if len(values) != len(parameters):
        raise AuthenticationError(
            "The response has a parameter twice (RFC 6749 §3.1): start a new login.",
            error=ErrorCode.INVALID_RESPONSE,
        )
    if not same_state(request.state, values.get("state")):
        raise AuthenticationError(
            "The response does not belong to this login: start a new one.", error=ErrorCode.INVALID_STATE
        )
    _check_issuer(values.get("iss"), issuer, iss_required)
    if "error" in values:
        raise _refusal(values["error"], values.get("error_description", ""))
    if not values.get("code"):
        raise AuthenticationError(
            "The provider sent neither a code nor an error: start a new login.",
            error=ErrorCode.INVALID_RESPONSE,
        )
    return AuthorizationCode(values["code"])


def same_state(expected: str, received: str | None) -> bool:
    """Compare states in constant time, whatever characters were sent."""
    return received is not None and hmac.compare_digest(expected.encode(), received.encode(errors="replace"))


def _check_issuer(received: str | None, issuer: str, required: bool) -> None:
    # RFC 9207 §2.4, for error responses too: a response of another server is not even read.
    if received is None and not required:
        return
    if issuer and not is_issuer(received or "", issuer):
        raise AuthenticationError(
            f"The response does not come from {printable(issuer)}: start a new login, and if this "
            "happens again, do not sign in.",
            error=ErrorCode.ISSUER_MISMATCH,
        )


def _refusal(error: str, description: str) -> AuthenticationError:
    advice = _NEXT_STEP.get(error, "Start a new login.")
    told = f"{printable(error)}: {printable(description)}" if description else printable(error)
    return AuthenticationError(
        f"The provider answered {told}. {advice}", error=error, error_description=description
    )
