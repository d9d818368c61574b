"""The two steps of a login: ``begin`` and ``complete``.

``begin`` makes the authorization request, and ``complete`` turns the response into a result. Between them
stands the interactive step: a function that presents the request to the user and returns the response. A
browser, a window, a pasted URL and a test are such functions (:data:`AuthorizationHandler`).
"""

from __future__ import annotations

import logging
import math
import secrets
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError, TokenError, naming_provider, printable
from pywry_auth.flow.freshness import requested_max_age, require_fresh
from pywry_auth.flow.revocation import revoked_on_failure
from pywry_auth.flow.subject import qualified_user_id, user_id
from pywry_auth.models import AuthFlowResult, AuthorizationRequest, Grant, OAuthTokenSet
from pywry_auth.protocol.authorization_response import ResponseParameters, validate_authorization_response
from pywry_auth.protocol.pkce import PKCEChallenge
from pywry_auth.strict_json import read_json, without_surrogates, write_json

if TYPE_CHECKING:
    from pywry_auth.providers.base import OAuthProvider
    from pywry_auth.state.revocations import RevocationQueue

__all__ = [
    "AuthorizationHandler",
    "ResponseParameters",
    "accept",
    "begin",
    "complete",
    "finish",
    "require_binding",
]

_logger = logging.getLogger("pywry_auth.flow")

AuthorizationHandler = Callable[[AuthorizationRequest], ResponseParameters]
"""Presents ``request.url`` to the user, waits, and returns the decoded parameters of the response.

Raises AuthFlowTimeout or AuthFlowCancelled when the response does not arrive.
"""


Within = Callable[[Callable[[], AuthFlowResult]], AuthFlowResult]
"""Calls a function, and raises when its caller need not wait for it any more."""

IsEnough = Callable[[OAuthTokenSet], bool]
"""Returns whether the ID token's claims can replace a profile that could not be obtained."""


def require_binding(provider: OAuthProvider, use_pkce: bool) -> None:
    """Raise if neither a nonce nor PKCE would tie a code to its login (RFC 9700 §2.1.1).

    Args:
        provider: The provider that users sign in at.
        use_pkce: Whether logins send a code challenge.

    Raises:
        AuthenticationError: Both are switched off (``invalid_configuration``).
    """
    if not use_pkce and not provider.options.use_nonce:
        raise provider.configuration_error(
            "USE_NONCE=false requires PKCE: leave USE_PKCE at true, or leave out USE_NONCE"
        )


def begin(
    provider: OAuthProvider,
    redirect_uri: str,
    *,
    use_pkce: bool = True,
    extra_params: Mapping[str, str] | None = None,
) -> AuthorizationRequest:
    """Return a new authorization request.

    Its URL is for the browser. All other members stay in the application.

    Args:
        provider: The provider that the user signs in at.
        redirect_uri: The address to which the provider sends the browser back.
        use_pkce: Whether to send a code challenge; the provider may ignore it (RFC 9700 §2.1.1).
        extra_params: Further parameters such as ``prompt`` or ``login_hint``.

    Raises:
        AuthenticationError: The provider's endpoints could not be obtained, or the request would have neither
            a nonce nor a code challenge although the provider's options leave out the nonce.
    """
    require_binding(provider, use_pkce)
    use_nonce = provider.options.use_nonce
    pkce = PKCEChallenge.generate() if use_pkce else None
    state = secrets.token_urlsafe(32)
    nonce = secrets.token_urlsafe(32) if provider.uses_openid and use_nonce else None
    with naming_provider(provider.name):
        if not use_nonce:
            provider.require_endpoint("userinfo_endpoint")  # fail before the user signs in
        url = provider.build_authorize_url(redirect_uri, state, pkce, nonce, extra_params)
        max_age = requested_max_age(provider, url)
    verifier = pkce.verifier if pkce else None
    return AuthorizationRequest(url, state, redirect_uri, nonce, verifier, max_age=max_age)


def complete(
    provider: OAuthProvider,
    request: AuthorizationRequest,
    parameters: ResponseParameters,
    revocations: RevocationQueue | None = None,
    is_enough: IsEnough | None = None,
    name: str = "",
    within: Within | None = None,
) -> AuthFlowResult:
    """Validate a response, exchange its code, and return the sign-in.

    The tokens of the result carry a new grant.

    Args:
        provider: The provider that the request was made for.
        request: The result of ``begin``; it is valid for one response.
        parameters: The response's decoded parameters, with duplicates.
        revocations: Keeps the tokens of a failed sign-in until the provider has revoked them; without it,
            there is one attempt.
        is_enough: Returns whether the ID token's claims are enough if the UserInfo request fails; without it,
            they are.
        name: The provider's name on a site with several, which is a part of user IDs there; otherwise empty.
        within: Makes the UserInfo request, and raises when the login ends in the meantime.

    Raises:
        AuthenticationError: The response does not belong to the request, the provider refused, or its
            tokens or profile could not be validated. Tokens that were issued by then are revoked.
    """
    with naming_provider(provider.name):
        metadata = provider.metadata
        code = validate_authorization_response(
            request,
            parameters,
            issuer=metadata.issuer,
            is_same_issuer=provider.is_same_issuer,
            iss_required=metadata.authorization_response_iss_parameter_supported,
        )
        tokens = provider.exchange_code(code, request.redirect_uri, request.code_verifier, request.nonce)
        return accept(provider, tokens, request.nonce, revocations, is_enough, name, within, request.max_age)


def accept(
    provider: OAuthProvider,
    tokens: OAuthTokenSet,
    nonce: str | None,
    revocations: RevocationQueue | None = None,
    is_enough: IsEnough | None = None,
    name: str = "",
    within: Within | None = None,
    max_age: int | None = None,
) -> AuthFlowResult:
    """Return the sign-in of new tokens, which carry a new grant.

    Args:
        provider: The provider that issued the tokens.
        tokens: The validated tokens of a code or of a device.
        nonce: The nonce of the request; None if none was sent.
        revocations: As for ``complete``.
        is_enough: As for ``complete``.
        name: As for ``complete``.
        within: As for ``complete``.
        max_age: The ``max_age`` of the request in seconds; None if none was sent.

    Raises:
        AuthenticationError: The tokens belong to another login, the user authenticated too long ago, or the
            profile could not be validated. The tokens are revoked.
    """
    with naming_provider(provider.name):
        grant = _new_grant(provider, tokens)
        tokens = replace(tokens, grant=grant)
        # With the user, a retry of the revocation knows whether it would end a later sign-in.
        user = qualified_user_id(name, grant.subject) if grant.subject else ""
        with revoked_on_failure(provider, tokens, revocations, user):
            _check_no_other_nonce(provider, nonce, tokens)
            require_fresh(provider, grant, max_age)
            profile = partial(finish, provider, tokens, is_enough)
            result = profile() if within is None else within(profile)
        if grant.subject:
            return result
        return replace(result, tokens=replace(tokens, grant=replace(grant, subject=result.user_id)))


def finish(
    provider: OAuthProvider, tokens: OAuthTokenSet, is_enough: IsEnough | None = None
) -> AuthFlowResult:
    """Return the sign-in of a validated token set.

    The profile is requested from the provider unless the claims of the ID token suffice.

    Args:
        provider: The provider that issued the tokens.
        tokens: The tokens of a sign-in.
        is_enough: As for ``complete``.

    Raises:
        AuthenticationError: The profile could not be obtained or has no user ID, or it belongs to
            another user than the ID token.
    """
    with naming_provider(provider.name):
        profile = _profile(provider, tokens, is_enough)
        return AuthFlowResult(True, tokens, profile, user_id(profile))


def _new_grant(provider: OAuthProvider, tokens: OAuthTokenSet) -> Grant:
    claims = tokens.id_token_claims
    sid, auth_time, acr, amr = (claims.get(name) for name in ("sid", "auth_time", "acr", "amr"))
    is_time = isinstance(auth_time, (int, float)) and type(auth_time) is not bool and math.isfinite(auth_time)
    return Grant(
        secrets.token_urlsafe(16),
        tokens.issued_at,
        provider=provider.name,
        issuer=tokens.issuer,
        client_id=tokens.client_id,
        subject=str(claims.get("sub") or ""),
        sid=sid if isinstance(sid, str) else None,
        auth_time=auth_time if is_time else None,
        acr=acr if isinstance(acr, str) else "",
        amr=tuple(method for method in amr if isinstance(method, str)) if isinstance(amr, list) else (),
    )


def _check_no_other_nonce(provider: OAuthProvider, nonce: str | None, tokens: OAuthTokenSet) -> None:
    """Refuse the ID token of a login that did send a nonce (OIDC Core §3.1.3.7)."""
    if nonce is None and tokens.id_token_claims.get("nonce") not in (None, ""):
        remedy = "Sign in again."
        if not provider.options.use_nonce:
            remedy = (
                "Sign in again; if this happens again, leave out USE_NONCE, because the provider returns the "
                "nonce."
            )
        raise TokenError(
            "The ID token has a nonce, but this login sent none: the code belongs to another login. "
            + remedy,
            error=ErrorCode.INVALID_ID_TOKEN,
        )


def _profile(provider: OAuthProvider, tokens: OAuthTokenSet, is_enough: IsEnough | None) -> dict[str, Any]:
    claims, use_nonce = tokens.id_token_claims, provider.options.use_nonce
    try:
        if use_nonce and provider.profile_suffices(claims):
            return dict(claims)
        profile = checked_profile(provider.get_userinfo(tokens.access_token))
    except AuthenticationError as error:
        # A forged profile is an attack, a missing one is not. Without an ID token that a nonce ties to this
        # login, the profile is required.
        if not claims or not use_nonce or error.error == ErrorCode.INVALID_ID_TOKEN:
            raise
        if is_enough is not None and not is_enough(tokens):
            _logger.warning("%s: a login failed, because a rule needs the profile: %s", provider.name, error)
            raise AuthenticationError(
                "The provider did not send your profile, without which this site cannot decide about your "
                "account: try again in a moment.",
                error=ErrorCode.PROVIDER_UNREACHABLE,
            ) from error
        _logger.warning("%s: the profile has only the ID token's claims: %s", provider.name, error)
        return dict(claims)
    # OIDC Core §5.3.2: otherwise a substituted token could bring in another user's profile.
    if claims and profile.get("sub") != claims["sub"]:
        raise TokenError(
            "The UserInfo response belongs to another user than the ID token: sign in again.",
            error=ErrorCode.SUBJECT_MISMATCH,
        )
    return profile


def checked_profile(profile: object) -> dict[str, Any]:
    """Return a profile as it will be stored.

    A provider's class may have made it without reading JSON.

    Args:
        profile: The result of ``get_userinfo``.

    Raises:
        AuthenticationError: The profile is not a JSON object (``invalid_response``).
    """
    try:
        stored = without_surrogates(read_json(write_json(profile)))
    except (TypeError, ValueError) as error:
        why = str(error)
    else:
        if isinstance(stored, dict):
            return stored
        why = f"it is not a mapping but {type(profile).__name__}"
    raise AuthenticationError(
        f"The provider's class returned a profile that is not JSON: {printable(why)}.",
        error=ErrorCode.INVALID_RESPONSE,
    )
