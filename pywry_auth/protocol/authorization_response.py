"""The validation of an authorization response (RFC 6749 §4.1.2, RFC 9207)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pywry_auth.digests import same_secret
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError, printable
from pywry_auth.models import AuthorizationRequest
from pywry_auth.protocol.provider_errors import explain

ResponseParameters = Sequence[tuple[str, str]]
"""Decoded parameters of an authorization response, in order, duplicates kept."""


@dataclass(frozen=True)
class AuthorizationCode:
    """A code from a validated response; no other code is exchanged."""

    value: str = field(repr=False)


def validate_authorization_response(
    request: AuthorizationRequest,
    parameters: ResponseParameters,
    *,
    issuer: str,
    is_same_issuer: Callable[[str], bool],
    iss_required: bool,
) -> AuthorizationCode:
    """Validate a response to the request and return its code.

    The checks come in this order: duplicate parameters, state, issuer, error, code.

    Args:
        request: The authorization request.
        parameters: The response.
        issuer: The provider's issuer. If it is empty, ``iss`` is ignored.
        is_same_issuer: Returns whether an ``iss`` names that issuer.
        iss_required: Whether the provider always sends ``iss`` (RFC 9207 §3).

    Raises:
        AuthenticationError: The response belongs to another request or issuer, or the provider refused.
    """
    values = dict(parameters)
    if len(values) != len(parameters):
        raise AuthenticationError(
            "The response has a parameter twice (RFC 6749 §3.1): start a new login.",
            error=ErrorCode.INVALID_RESPONSE,
        )
    if not same_secret(request.state, values.get("state")):
        raise AuthenticationError(
            "The response does not belong to this login: start a new one.", error=ErrorCode.INVALID_STATE
        )
    received = values.get("iss")
    # RFC 9207 §2.4: check the issuer before the error, because another server may have sent the refusal.
    if issuer and (iss_required or received is not None) and not is_same_issuer(received or ""):
        raise AuthenticationError(
            f"The response does not come from {printable(issuer)}: start a new login, and if this "
            "happens again, do not sign in.",
            error=ErrorCode.ISSUER_MISMATCH,
        )
    if "error" in values:
        description = values.get("error_description", "")
        sent = (request.state, request.nonce, request.code_verifier, values.get("code"))
        secrets = tuple(filter(None, sent))
        raise explain("The provider", values["error"], description, AuthenticationError, secrets)
    if not values.get("code"):
        raise AuthenticationError(
            "The provider sent neither a code nor an error: start a new login.",
            error=ErrorCode.INVALID_RESPONSE,
        )
    return AuthorizationCode(values["code"])
