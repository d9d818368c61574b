"""Sign-out: remove a user's tokens, then revoke them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pywry_auth.exceptions import StoreUnavailable
from pywry_auth.flow.refresh import store_unsaved
from pywry_auth.flow.revocation import issued_by, retry_revocations, revoke_queued
from pywry_auth.models import OAuthTokenSet

if TYPE_CHECKING:
    from pywry_auth.providers.base import OAuthProvider
    from pywry_auth.state.revocations import Revocation
    from pywry_auth.state.token_record import StoredTokens
    from pywry_auth.state.tokens import TokenStore

_logger = logging.getLogger("pywry_auth.flow")


@dataclass(frozen=True)
class SignOutResult:
    """The result of a sign-out.

    Args:
        tokens: The set that was removed from the store; None if the store had none of this client.
        revoked: Whether the provider confirmed that both tokens are revoked.
    """

    tokens: OAuthTokenSet | None = None
    revoked: bool = False


@dataclass(frozen=True)
class TakenTokens:
    """Tokens that a sign-out removed from the store and has not revoked yet.

    Args:
        tokens: The removed set, or the set that stays because the user has another session; None without one.
        revocation: The entry in the queue; None if there is nothing to revoke.
        removed: Whether the set was removed.
        foreign: Whether the set belongs to another client. Such a set is never sent anywhere.
        owner: The owner of the removed set, see :class:`StoredTokens`.
    """

    tokens: OAuthTokenSet | None = None
    revocation: Revocation | None = None
    removed: bool = False
    foreign: bool = False
    owner: str = ""


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
    taken = take(provider, store, key, foreign=foreign)
    revoked = revoke_taken(provider, store, key, taken)
    return SignOutResult(taken.tokens if taken.removed and not taken.foreign else None, revoked)


def take(
    provider: OAuthProvider | None,
    store: TokenStore,
    key: str,
    *,
    foreign: bool = False,
    leave_to_others: bool = False,
    is_last: Callable[[StoredTokens], bool] = lambda stored: True,
) -> TakenTokens:
    """Remove a user's tokens from the store without revoking them yet.

    The tokens enter the queue of revocations first, so that an interrupted sign-out is finished later. If
    other tokens replace the set in the meantime, the decision is made again.

    Args:
        provider: The provider that issued the tokens; None if it is no longer known.
        store: The store that holds them.
        key: The user's ID.
        foreign: Whether to remove the set of another client too.
        leave_to_others: Whether a set that the caller cannot revoke enters the queue of revocations. The
            workers of its site then revoke it.
        is_last: Decides whether no other session of the user needs this set. It is called after the set was
            loaded: a session that begins later brings tokens of its own.
    """
    store_unsaved(lambda tokens: provider, store, key)
    while (stored := store.find(key)) is not None:
        tokens = stored.tokens
        ours = provider is None or provider.issued_to_this_client(tokens)
        if not ours and not foreign:
            return TakenTokens()
        if not is_last(stored):
            return TakenTokens(tokens if ours else None)
        queued = leave_to_others or (ours and provider is not None)
        entry = store.revocations.add(key, tokens) if queued else None
        # If the set is gone all the same, the answer was lost, or another sign-out was faster.
        if store.remove(key, stored) or not store.exists(key):
            return TakenTokens(tokens, entry, removed=True, foreign=not ours, owner=stored.owner)
        if entry is not None:
            store.revocations.remove(entry)
    store.discard_unreadable(key)  # such a record must not outlive the sign-out either
    return TakenTokens()


def revoke_taken(provider: OAuthProvider | None, store: TokenStore, key: str, taken: TakenTokens) -> bool:
    """Revoke the tokens that a sign-out removed.

    Args:
        provider: The provider that issued the tokens; None revokes nothing.
        store: The store that held them.
        key: The user's ID.
        taken: The removed tokens. Without any, an interrupted earlier sign-out of the user is finished.

    Returns:
        Whether the provider confirmed that both are revoked.
    """
    if provider is None or taken.foreign:
        return False
    if taken.tokens is None:
        return retry_revocations(store, issued_by(provider), key)
    if not taken.removed:
        return False
    return revoke_queued(provider, taken.tokens, store.revocations, taken.revocation)


def revoke_later(store: TokenStore, taken: TakenTokens) -> None:
    """Leave the revocation of tokens that a sign-out removed to the workers of the site.

    The workers of this process begin at once. If the process ends before that, those of others make the
    revocation when they look at the queue. No call is made.

    Args:
        store: The store that held the tokens.
        taken: The removed tokens. Without any, an interrupted earlier sign-out may have left some.
    """
    if taken.removed and taken.revocation is not None:
        try:
            store.revocations.leave(taken.revocation)
        except StoreUnavailable as error:
            _logger.warning("a revocation is made only after a pause: %s", error)
    store.revocations.postponed()
