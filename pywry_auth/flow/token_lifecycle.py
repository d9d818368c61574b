"""What happens to a token set after the sign-in: it is refreshed, and one day revoked."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pywry_auth.exceptions import TokenExpiredError, raised_at
from pywry_auth.models import OAuthTokenSet
from pywry_auth.protocol.id_token import same_person

if TYPE_CHECKING:
    from pywry_auth.providers.base import OAuthProvider


def refresh(provider: OAuthProvider, tokens: OAuthTokenSet) -> OAuthTokenSet:
    """Return the set that follows ``tokens``: what the answer leaves out is kept from before.

    Args:
        provider: Who issued them.
        tokens: The set to refresh; its refresh token may be worth nothing afterwards.

    Raises:
        TokenExpiredError: It has no refresh token.
        TokenRefreshError: The provider refused, or answered for another user (OIDC Core §12.2).
        TokenError: The provider did not answer, or not usably: the set may still be good.
    """
    with raised_at(provider.name):
        if not tokens.refresh_token:
            raise TokenExpiredError(
                "The access token has ended and the provider gave no refresh token: sign in again, "
                "and ask for offline access if sign-ins shall last.",
                error="no_refresh_token",
            )
        fresh = provider.refresh_tokens(tokens.refresh_token)
        if fresh.id_token is None:
            fresh = replace(fresh, id_token=tokens.id_token, id_token_claims=tokens.id_token_claims)
        elif tokens.id_token_claims:
            same_person(tokens.id_token_claims, fresh.id_token_claims)
        return fresh if fresh.scope else replace(fresh, scope=tokens.scope)


def revoke(provider: OAuthProvider, tokens: OAuthTokenSet) -> bool:
    """Revoke both tokens at the provider, the refresh token first (RFC 7009 §2.1).

    Returns:
        True when the provider confirmed each.
    """
    refresh_ended = not tokens.refresh_token or provider.revoke_token(tokens.refresh_token)
    return provider.revoke_token(tokens.access_token) and refresh_ended
