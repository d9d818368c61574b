"""What happens to a token set after the sign-in: it is refreshed, and one day revoked."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from pywry_auth.exceptions import (
    AuthenticationError,
    ErrorCode,
    StoreUnavailable,
    TokenError,
    TokenExpiredError,
    TokenRefreshError,
    naming_provider,
)
from pywry_auth.models import OAuthTokenSet

if TYPE_CHECKING:
    from pywry_auth.providers.base import OAuthProvider
    from pywry_auth.state.tokens import TokenStore

_logger = logging.getLogger("pywry_auth.flow")
_CALLS = 4  # that a refresh can take: discovery, the key set, the refresh itself, the key set once more
_SLACK = 5.0  # seconds for the store
_PAUSES = (0.1, 0.4, 1.5)  # seconds between tries to store, together less than that


def refresh(provider: OAuthProvider, tokens: OAuthTokenSet) -> OAuthTokenSet:
    """Return the set that follows ``tokens``: what the answer leaves out is kept from before.

    Args:
        provider: Who issued them.
        tokens: The set to refresh; its refresh token may be worth nothing afterwards.

    Raises:
        TokenExpiredError: It has no refresh token.
        TokenRefreshError: The provider refused, or answered with an ID token that is forged, or of another
            user or issuer (OIDC Core §12.2).
        TokenError: The provider did not answer, or not usably: the set may still be good.
    """
    with naming_provider(provider.name):
        if not tokens.refresh_token:
            raise TokenExpiredError(
                "The access token has ended and the provider gave no refresh token: sign in again, "
                "and ask for offline access if sign-ins shall last.",
                error=ErrorCode.NO_REFRESH_TOKEN,
            )
        fresh = _ask(provider, tokens.refresh_token)
        if fresh.id_token is None:
            fresh = replace(fresh, id_token=tokens.id_token, id_token_claims=tokens.id_token_claims)
        elif tokens.id_token_claims:
            from pywry_auth.protocol.id_token import check_same_subject

            check_same_subject(tokens.id_token_claims, fresh.id_token_claims)
        return fresh if fresh.scope else replace(fresh, scope=tokens.scope)


def refresh_stored(
    provider: OAuthProvider, store: TokenStore, key: str, is_due: Callable[[OAuthTokenSet], bool]
) -> OAuthTokenSet:
    """Return a user's tokens, refreshed if they are due: one call to the provider, whoever else asks.

    All threads, processes and machines on the store take turns. The fresh set is stored before it is
    returned, because with rotation the old refresh token is worth nothing by then. Who waits while another's
    call fails gets that failure: else the last of many would wait for everybody's time-out. Should a process
    die in its turn, the others go on after as long as a refresh can take: four calls to the provider.

    Args:
        provider: Who issued the tokens.
        store: Where they are.
        key: The user's ID.
        is_due: Decides, with the lock held, whether the stored set needs a refresh: false when somebody else
            was faster.

    Raises:
        TokenExpiredError: There are no tokens, or no refresh token.
        TokenRefreshError: The provider refused; the tokens are gone from the store.
        TokenError: The provider cannot be reached: the tokens are kept.
        StoreUnavailable: The store is down, or somebody else's refresh did not end.
    """
    seconds = _CALLS * provider.http_options.timeout + _SLACK
    earlier = store.last_failure(key)
    with store.lock(key, seconds):
        tokens = _stored(provider, store, key)
        if not is_due(tokens):
            return tokens
        failure = store.last_failure(key)
        if failure is not None and failure != earlier:
            raise _failed_just_now(failure, provider.name)
        try:
            return _refreshed_in_turn(provider, store, key, tokens)
        except (TokenRefreshError, TokenExpiredError):
            raise
        except TokenError as error:
            store.record_failure(key, error.error, seconds)
            raise


def _refreshed_in_turn(
    provider: OAuthProvider, store: TokenStore, key: str, tokens: OAuthTokenSet
) -> OAuthTokenSet:
    try:
        fresh = refresh(provider, tokens)
    except TokenRefreshError:
        if store.discard(key, tokens):
            raise
        # A new sign-in came in between: that grant is not the dead one.
        return _stored(provider, store, key)
    if _put_in_place(store, key, tokens, fresh):
        return fresh
    if not store.exists(key):
        revoke(provider, fresh)  # signed out meanwhile: that counts, and these have no owner
    # Signed in again meanwhile: that counts too. Revoking here could end the new grant with the old one.
    return _stored(provider, store, key)


def _put_in_place(store: TokenStore, key: str, tokens: OAuthTokenSet, fresh: OAuthTokenSet) -> bool:
    """Store what followed ``tokens`` unless somebody else wrote meanwhile, and return whether it was stored.

    A store that has just failed is tried again: the old refresh token may be worth nothing any more.
    """
    for pause in _PAUSES:
        try:
            return store.replace(key, fresh, tokens)
        except StoreUnavailable as error:
            _logger.warning("fresh tokens could not be stored, next try in %.1f s: %s", pause, error)
            time.sleep(pause)
    return store.replace(key, fresh, tokens)


def _stored(provider: OAuthProvider, store: TokenStore, key: str) -> OAuthTokenSet:
    tokens = store.load(key)
    if tokens is None or not provider.issued_to_this_client(tokens):  # another client's are of no use here
        raise not_signed_in()
    return tokens


def _failed_just_now(failure: str, provider: str) -> TokenError:
    return TokenError(
        "The provider was asked for new tokens a moment ago, and that failed: try again later.",
        error=failure.partition(" ")[2],
        provider=provider,
    )


def not_signed_in() -> TokenExpiredError:
    """Return the error for somebody who has no tokens."""
    return TokenExpiredError("Nobody is signed in: sign in first.", error=ErrorCode.NOT_SIGNED_IN)


def revoke(provider: OAuthProvider, tokens: OAuthTokenSet) -> bool:
    """Revoke both tokens at the provider, the refresh token first (RFC 7009 §2.1).

    Returns:
        True when the provider confirmed each.
    """
    refresh_ended = not tokens.refresh_token or provider.revoke_token(tokens.refresh_token)
    return provider.revoke_token(tokens.access_token) and refresh_ended


def _ask(provider: OAuthProvider, refresh_token: str) -> OAuthTokenSet:
    try:
        return provider.refresh_tokens(refresh_token)
    except TokenError as error:
        if error.error != ErrorCode.INVALID_ID_TOKEN:
            raise
        # Whoever answers so is not to be asked again with what this grant still has.
        raise TokenRefreshError(str(error), error=error.error) from error
    except AuthenticationError as error:  # discovery or the key set could not be had
        raise TokenError(str(error), error=error.error) from error
