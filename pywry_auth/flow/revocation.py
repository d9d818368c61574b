"""Revocation of tokens (RFC 7009), now or as soon as the provider answers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pywry_auth.backends.base import UnreadableRecord
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError, StoreUnavailable
from pywry_auth.protocol.gate import SLOT_SECONDS

if TYPE_CHECKING:
    from pywry_auth.models import OAuthTokenSet
    from pywry_auth.providers.base import OAuthProvider
    from pywry_auth.state.revocations import Revocation, RevocationQueue
    from pywry_auth.state.tokens import TokenStore

_logger = logging.getLogger("pywry_auth.flow")

ProviderOf = Callable[["OAuthTokenSet"], "OAuthProvider | None"]
"""Returns the provider that issued a token set; None if the application no longer uses it."""


def issued_by(provider: OAuthProvider) -> ProviderOf:
    """Return the function for an application with one provider.

    Args:
        provider: The provider. Token sets that it did not issue to this client have none.
    """
    return lambda tokens: provider if provider.issued_to_this_client(tokens) else None


def revoke(
    provider: OAuthProvider,
    tokens: OAuthTokenSet,
    queue: RevocationQueue | None = None,
    user_id: str = "",
) -> bool:
    """Revoke both tokens, the refresh token first (RFC 7009 §2.1).

    Args:
        provider: The provider that issued the tokens.
        tokens: The tokens.
        queue: Keeps the tokens until the provider answers; without one, there is a single attempt.
        user_id: The user of the sign-in; empty if unknown.

    Returns:
        Whether the provider confirmed both.
    """
    entry = None if queue is None else queued(queue, user_id, tokens)
    return revoke_queued(provider, tokens, queue, entry, user_id)


def queued(queue: RevocationQueue, user_id: str, tokens: OAuthTokenSet) -> Revocation | None:
    """Add tokens to the queue; None if the store is down."""
    try:
        return queue.add(user_id, tokens)
    except StoreUnavailable as error:
        _logger.warning("a revocation could not be stored: %s", error)
        return None


def revoke_queued(
    provider: OAuthProvider,
    tokens: OAuthTokenSet,
    queue: RevocationQueue | None,
    entry: Revocation | None,
    user_id: str = "",
) -> bool:
    """Revoke tokens, and remove them from the queue if the provider confirms or finally refuses.

    Tokens that could not be stored in the queue are kept by this process if the provider fails too.

    Args:
        provider: The provider that issued the tokens.
        tokens: The tokens.
        queue: The queue that contains them; None without one.
        entry: Their entry in the queue; None if they are not in the queue.
        user_id: The user of the sign-in; empty if unknown.

    Returns:
        Whether the provider confirmed both.
    """
    try:
        # A queued revocation can wait, so it does not occupy a thread.
        with provider.gate.slot(SLOT_SECONDS if entry is None else 0):
            confirmed = _requested(provider, tokens)
    except AuthenticationError as error:
        _logger.warning("%s: tokens could not be revoked: %s", provider.name, error)
        if queue is not None and entry is not None:
            _postpone(queue, entry)
        elif queue is not None and not queue.keep_here(user_id, tokens):
            _logger.warning("a revocation is not tried again, because too many wait for the store")
        return False
    if confirmed is False:
        _logger.warning("%s: the provider refused to revoke a token", provider.name)
    if queue is not None and entry is not None:
        _remove(queue, entry)
    return confirmed is True


def retry_revocations(
    store: TokenStore, provider_of: ProviderOf, user_id: str | None = None, *, at_once: bool = False
) -> bool:
    """Try queued revocations again.

    If the user has signed in again, the tokens are dropped, because many providers would end the new grant
    too. Tokens that the store still contains wait: their sign-out was not finished.

    Args:
        store: The users' tokens, and the queue.
        provider_of: Finds the provider of a token set. Other applications may share the store; their entries
            stay in the queue.
        user_id: Tries all revocations of this user; None tries those that are due.
        at_once: Whether to try those of all users that are not due either.

    Returns:
        Whether there were such revocations, and the provider confirmed all of them.

    Raises:
        StoreUnavailable: The store is down.
    """
    queue = store.revocations

    def ours(tokens: OAuthTokenSet) -> bool:
        return provider_of(tokens) is not None

    if user_id is None:  # a request of one user does not do the work of others
        queue.store_kept()
    found = queue.of_user(user_id, ours) if user_id is not None else queue.due(ours, at_once=at_once)
    attempts = [retry_revocation(store, provider_of, entry) for entry in found]
    results = [confirmed for confirmed in attempts if confirmed is not None]
    return bool(results) and all(results)


def retry_revocation(store: TokenStore, provider_of: ProviderOf, entry: Revocation) -> bool | None:
    """Try one queued revocation again, as :func:`retry_revocations` does.

    Args:
        store: The users' tokens, and the queue.
        provider_of: Finds the provider of a token set.
        entry: The revocation, which this process has claimed.

    Returns:
        Whether the provider confirmed it; None if the user has signed in again, so that it was dropped. If
        only another process can read the user's tokens, the revocation is left to that process.

    Raises:
        StoreUnavailable: The store is down.
    """
    try:
        current = _current(store, entry)
    except UnreadableRecord:
        return False
    provider = provider_of(entry.tokens)
    if provider is None or (current is not None and _same_grant(current, entry.tokens)):
        return False
    if current is not None and not is_earlier(current, entry.tokens):
        store.revocations.remove(entry)
        return None
    return revoke_queued(provider, entry.tokens, store.revocations, entry)


def _current(store: TokenStore, entry: Revocation) -> OAuthTokenSet | None:
    """Return the user's stored tokens of the same client, if any."""
    stored = store.load(entry.user_id) if entry.user_id else None
    if stored is None or (stored.issuer, stored.client_id) != (entry.tokens.issuer, entry.tokens.client_id):
        return None
    return stored


@contextmanager
def revoked_on_failure(
    provider: OAuthProvider,
    tokens: OAuthTokenSet,
    queue: RevocationQueue | None = None,
    user_id: str = "",
) -> Iterator[None]:
    """Revoke new tokens if the block fails.

    A failed login must not leave a grant without an owner.

    Args:
        provider: The provider that issued the tokens.
        tokens: The tokens.
        queue: Keeps the tokens until the provider answers; without one, there is a single attempt.
        user_id: The user of the sign-in; empty if unknown.
    """
    try:
        yield
    except BaseException as error:
        entry = None if queue is None else queued(queue, user_id, tokens)
        if queue is not None and entry is not None and _is_urgent(error):
            _postpone(queue, entry)
        else:
            revoke_queued(provider, tokens, queue, entry, user_id)
        raise


def _requested(provider: OAuthProvider, tokens: OAuthTokenSet) -> bool | None:
    """Request both revocations.

    The second is requested even if the first fails, unless it would probably take its whole time limit too.

    Returns:
        Whether the provider confirmed both; None if it offers no revocation of a token.
    """
    failure: AuthenticationError | None = None
    answers: list[bool | None] = []
    for token in filter(None, (tokens.refresh_token, tokens.access_token)):
        try:
            answers.append(provider.request_revocation(token))
        except AuthenticationError as error:
            if error.timeout is not None:
                raise
            failure = error
    if failure is not None:
        raise failure
    return False if False in answers else None if None in answers else True


def _is_urgent(error: BaseException) -> bool:
    """Return whether a failure must be reported at once.

    It is an interrupt, or the provider did not answer, so that another call would probably take its whole
    time limit too.
    """
    if not isinstance(error, AuthenticationError) or isinstance(error, StoreUnavailable):
        return not isinstance(error, Exception)
    return error.error in (ErrorCode.PROVIDER_UNREACHABLE, ErrorCode.TEMPORARILY_UNAVAILABLE)


def _postpone(queue: RevocationQueue, entry: Revocation) -> None:
    try:
        if not queue.keep(entry):
            _logger.warning("a revocation is not tried again, because its user has too many in the queue")
            return
    except StoreUnavailable as error:
        _logger.warning("the revocations in the queue could not be counted: %s", error)
    queue.postponed()


def _remove(queue: RevocationQueue, entry: Revocation) -> None:
    try:
        queue.remove(entry)
    except StoreUnavailable as error:
        _logger.warning("a finished revocation stays in the queue and is tried once more: %s", error)


def _same_grant(stored: OAuthTokenSet, tokens: OAuthTokenSet) -> bool:
    if stored.grant is None or tokens.grant is None:
        return stored == tokens
    return stored.grant.grant_id == tokens.grant.grant_id


def is_earlier(stored: OAuthTokenSet, tokens: OAuthTokenSet) -> bool:
    """Return whether stored tokens belong to an earlier sign-in than others.

    Args:
        stored: The stored tokens.
        tokens: The others.
    """
    if stored.grant is None or tokens.grant is None:
        return stored.issued_at < tokens.issued_at
    return stored.grant.signed_in_at < tokens.grant.signed_in_at
