"""Refresh, sign-out and revocation of token sets."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import (
    AuthenticationError,
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
_CALLS = 4  # calls of one refresh at most: discovery, the key set, the refresh itself, the key set again
_SLACK = 5.0  # seconds for the store
_PAUSES = (0.1, 0.4, 1.5)  # seconds between attempts to store, together less than _SLACK
_SKEW = 60.0  # seconds by which the clocks of machines on one store may differ
_SETTLED = 5.0  # seconds
SHORTEST_PAUSE = 1.0
"""Seconds between two refreshes that no caller requested explicitly."""


def refresh_margin(tokens: OAuthTokenSet, buffer: float) -> float:
    """Return how many seconds before expiry a token is due.

    They are ``buffer``, but at most half of the token's lifetime. Otherwise a short-lived token would be
    refreshed at every use.

    Args:
        tokens: The token set.
        buffer: Seconds.
    """
    return min(buffer, (tokens.expires_in or 0) / 2)


def is_due(tokens: OAuthTokenSet, now: float, buffer: float) -> bool:
    """Return whether an access token must be refreshed.

    It must if it has expired, or is about to expire.

    Args:
        tokens: The token set.
        now: Unix time in seconds.
        buffer: Seconds before its expiry at which a token is due (see :func:`refresh_margin`).
    """
    age = now - tokens.issued_at
    if tokens.expires_at is None or 0 <= age < SHORTEST_PAUSE:
        return False
    # Issued in the future: the clock was set back, so the remaining lifetime is unknown.
    return age < -_SKEW or tokens.expires_within(refresh_margin(tokens, buffer), now)


def was_just_refreshed(tokens: OAuthTokenSet, now: float, signed_in_at: float) -> bool:
    """Return whether a token set was refreshed within 5 s.

    Another refresh is then unnecessary. For a short-lived token the limit is half of its lifetime.

    Args:
        tokens: The token set.
        now: Unix time in seconds.
        signed_in_at: Unix time in seconds of the sign-in, whose own tokens do not count.
    """
    settled = min(_SETTLED, (tokens.expires_in or 2 * _SETTLED) / 2)
    return tokens.issued_at > signed_in_at and now - tokens.issued_at < settled


def refresh(provider: OAuthProvider, tokens: OAuthTokenSet) -> OAuthTokenSet:
    """Refresh a token set, and return the new one.

    Members that the response omits keep their values.

    Args:
        provider: The provider that issued the tokens.
        tokens: The set to refresh; its refresh token may be invalid afterwards.

    Raises:
        TokenExpiredError: The set has no refresh token.
        TokenRefreshError: The provider refused, or returned an ID token that is forged or names another
            user or issuer (OIDC Core §12.2).
        TokenError: The provider gave no usable response: the set may still be valid.
    """
    with naming_provider(provider.name):
        if not tokens.refresh_token:
            raise TokenExpiredError(
                "The access token cannot be refreshed, because the provider issued no refresh token: sign in "
                "again when it expires, and request offline access if sign-ins should last.",
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
    provider: OAuthProvider,
    store: TokenStore,
    key: str,
    is_due: Callable[[OAuthTokenSet], bool],
    on_refresh: Callable[[OAuthTokenSet], object] = lambda tokens: None,
) -> OAuthTokenSet:
    """Return a user's tokens, refreshed once for all callers.

    Tokens that are not due are returned unchanged. All threads, processes and machines on the store take
    turns. The fresh set is stored before it is returned, because with rotation the old refresh token is
    invalid by then. A caller that was waiting when another caller's refresh failed gets the same error.
    Otherwise the last of many callers would sit through every timeout in turn. If a process dies in its turn,
    the others continue when its lock has expired.

    Args:
        provider: The provider that issued the tokens.
        store: The store that holds them.
        key: The user's ID.
        is_due: Decides, with the lock held, whether the stored set needs a refresh. It does not if
            another caller has just replaced it.
        on_refresh: Receives the fresh set if this call refreshed and stored it; no lock is held.

    Raises:
        TokenExpiredError: There are no tokens, or no refresh token.
        TokenRefreshError: The provider refused; the tokens were removed from the store.
        TokenError: The provider cannot be reached: the tokens are kept.
        StoreUnavailable: The store is down, or another caller's refresh did not end in time.
    """
    seconds = _CALLS * provider.http_options.timeout + _SLACK
    earlier = store.last_failure(key)
    with store.lock(key, 2 * seconds):
        tokens = _stored(provider, store, key)
        if not is_due(tokens):
            return tokens
        failure = store.last_failure(key)
        if failure is not None and failure != earlier:
            raise _failed_just_now(failure, provider.name)
        try:
            fresh = _refreshed_in_turn(provider, store, key, tokens)
        except (TokenRefreshError, TokenExpiredError):
            raise
        except TokenError as error:
            store.record_failure(key, error.error, seconds)
            raise
        if fresh is None:
            return _stored(provider, store, key)
    on_refresh(fresh)
    return fresh


def _refreshed_in_turn(
    provider: OAuthProvider, store: TokenStore, key: str, tokens: OAuthTokenSet
) -> OAuthTokenSet | None:
    """Refresh and store a set; None if another was faster."""
    try:
        fresh = refresh(provider, tokens)
    except TokenRefreshError:
        if store.discard(key, tokens):
            raise
        return None  # the user signed in again: the refusal concerns the earlier grant
    if _put_in_place(store, key, tokens, fresh):
        return fresh
    if not store.exists(key):
        revoke(provider, fresh)  # the user signed out: these tokens have no owner
    # The user signed in again: a revocation here could end the new grant too.
    return None


def _put_in_place(store: TokenStore, key: str, tokens: OAuthTokenSet, fresh: OAuthTokenSet) -> bool:
    """Store the fresh set unless another writer was faster.

    A failing store is tried again, because the old refresh token may be invalid already.

    Returns:
        Whether the fresh set was stored.
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
    if tokens is None or not provider.issued_to_this_client(tokens):
        raise not_signed_in()
    return tokens


def _failed_just_now(failure: str, provider: str) -> TokenError:
    return TokenError(
        "Another request to refresh these tokens failed a moment ago: try again later.",
        error=failure.partition(" ")[2],
        provider=provider,
    )


def not_signed_in() -> TokenExpiredError:
    """Return the error for a user without tokens."""
    return TokenExpiredError("No user is signed in: sign in first.", error=ErrorCode.NOT_SIGNED_IN)


@dataclass(frozen=True)
class SignOutResult:
    """The result of a sign-out.

    Args:
        tokens: The set that was removed from the store; None if the store had none of this client.
        revoked: Whether the provider confirmed that both tokens are revoked.
    """

    tokens: OAuthTokenSet | None = None
    revoked: bool = False


def sign_out(
    provider: OAuthProvider | None, store: TokenStore, key: str, *, foreign: bool = False
) -> SignOutResult:
    """Remove a user's tokens from the store, then revoke the removed set.

    A refresh that is under way finds no tokens to replace, and revokes its own.

    Args:
        provider: The provider that issued the tokens. None removes any set and revokes nothing.
        store: The store that holds them.
        key: The user's ID.
        foreign: Whether to remove the set of another client too. Such a set is never sent anywhere.
    """
    tokens = _take(provider, store, key, foreign)
    if tokens is None or provider is None:
        return SignOutResult(tokens)
    return SignOutResult(tokens, revoke(provider, tokens))


def _take(provider: OAuthProvider | None, store: TokenStore, key: str, foreign: bool) -> OAuthTokenSet | None:
    while (tokens := store.load(key)) is not None:
        ours = provider is None or provider.issued_to_this_client(tokens)
        if not ours and not foreign:
            return None
        if store.discard(key, tokens):  # not if another process has replaced the set since it was loaded
            return tokens if ours else None
    return store.take(key)  # a record that cannot be read must not outlive the sign-out either


@contextmanager
def revoked_on_failure(provider: OAuthProvider, tokens: OAuthTokenSet) -> Iterator[None]:
    """Revoke new tokens if the block fails.

    A failed login must not leave a grant without an owner.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, AuthenticationError) and error.error == ErrorCode.PROVIDER_UNREACHABLE:
            # Another timeout is likely, so there is one attempt: for the token that lives longer.
            provider.revoke_token(tokens.refresh_token or tokens.access_token)
        else:
            revoke(provider, tokens)
        raise


def revoke(provider: OAuthProvider, tokens: OAuthTokenSet) -> bool:
    """Revoke both tokens, the refresh token first (RFC 7009 §2.1).

    Returns:
        Whether the provider confirmed both.
    """
    refresh_revoked = not tokens.refresh_token or provider.revoke_token(tokens.refresh_token)
    return provider.revoke_token(tokens.access_token) and refresh_revoked


def _ask(provider: OAuthProvider, refresh_token: str) -> OAuthTokenSet:
    try:
        return provider.refresh_tokens(refresh_token)
    except TokenError as error:
        if error.error != ErrorCode.INVALID_ID_TOKEN:
            raise
        # A provider that returned a forged ID token must not be sent this refresh token again.
        raise TokenRefreshError(str(error), error=error.error) from error
    except AuthenticationError as error:  # discovery or the key set failed
        raise TokenError(str(error), error=error.error) from error
