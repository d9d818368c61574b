"""The two strokes of a login: ``begin`` makes the request, ``complete`` turns its response into a result."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pywry_auth.exceptions import AuthenticationError, ErrorCode, TokenError, naming_provider
from pywry_auth.flow.identity import user_id
from pywry_auth.models import AuthFlowResult, AuthorizationRequest, OAuthTokenSet
from pywry_auth.protocol.authorization import ResponseParameters, validate_authorization_response
from pywry_auth.protocol.pkce import PKCEChallenge

if TYPE_CHECKING:
    from pywry_auth.providers.base import OAuthProvider

__all__ = ["ResponseParameters", "begin", "complete"]


def begin(
    provider: OAuthProvider,
    redirect_uri: str,
    *,
    use_pkce: bool = True,
    extra_params: Mapping[str, str] | None = None,
) -> AuthorizationRequest:
    """Return a new authorization request: its URL is for the browser, the rest stays here.

    Args:
        provider: Where the user signs in.
        redirect_uri: Where the browser comes back to.
        use_pkce: Whether to send a code challenge; the provider may ignore it (RFC 9700 §2.1.1).
        extra_params: Further parameters such as ``prompt`` or ``login_hint``.

    Raises:
        AuthenticationError: The provider's endpoints cannot be had.
    """
    pkce = PKCEChallenge.generate() if use_pkce else None
    state = secrets.token_urlsafe(32)
    nonce = secrets.token_urlsafe(32) if provider.uses_openid else None
    with naming_provider(provider.name):
        url = provider.build_authorize_url(redirect_uri, state, pkce, nonce, extra_params)
    return AuthorizationRequest(url, state, redirect_uri, nonce, pkce.verifier if pkce else None)


def complete(
    provider: OAuthProvider, request: AuthorizationRequest, parameters: ResponseParameters
) -> AuthFlowResult:
    """Return who signed in, with tokens, from what came back to the redirect URI.

    Args:
        provider: The one that the request was made for.
        request: What ``begin`` returned; it is good for one response.
        parameters: The response's decoded parameters, duplicates kept.

    Raises:
        AuthenticationError: The response is not this request's, the provider refused, or what it sent cannot
            be believed.
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
        profile = _profile(provider, tokens)
        return AuthFlowResult(True, tokens, profile, user_id(profile))


def _profile(provider: OAuthProvider, tokens: OAuthTokenSet) -> dict[str, Any]:
    claims = tokens.id_token_claims
    if provider.profile_suffices(claims):
        return dict(claims)
    try:
        profile = provider.get_userinfo(tokens.access_token)
    except AuthenticationError as error:
        # A forged statement is not the same as none; without an ID token there is nothing else to go by.
        if not claims or error.error == ErrorCode.INVALID_ID_TOKEN:
            raise
        return dict(claims)
    # OIDC Core §5.3.2: else a token that was swapped could bring in somebody else's profile.
    if claims and profile.get("sub") != claims["sub"]:
        raise TokenError(
            "The UserInfo response is about another user than the ID token: sign in again.",
            error=ErrorCode.SUBJECT_MISMATCH,
        )
    return profile
