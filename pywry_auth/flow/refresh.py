"""Refresh of token sets: one call for all callers, stored before it is used."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Protocol

from pywry_auth.backends.base import UnreadableRecord
from pywry_auth.digests import digest_of, same_secret
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import (
    AuthenticationError,
    StoreUnavailable,
    TokenError,
    TokenExpiredError,
    TokenRefreshError,
    as_token_error,
    naming_provider,
)
from pywry_auth.flow.revocation import (
    ProviderOf,
    revoke,
    revoked_on_failure,
)
from pywry_auth.flow.shared_failure import failure_text, shared_error
from pywry_auth.measures import measured
from pywry_auth.models import Claims, OAuthTokenSet

if TYPE_CHECKING:
    from pywry_auth.backends.lease import Lease
    from pywry_auth.providers.base import OAuthProvider
    from pywry_auth.state.token_record import StoredTokens
    from pywry_auth.state.tokens import TokenStore

_logger = logging.getLogger("pywry_auth.flow")
_CALLS = 4  # calls of one refresh at most: discovery, the key set, the refresh itself, the key set again
_SLACK = 5.0  # seconds for the store
_TIME = 12  # hexadecimal digits of milliseconds
_PAUSE = 2.0  # seconds after a failure, without Retry-After
_LONGEST_PAUSE_AFTER = 300.0  # seconds, also with a longer Retry-After
_FIRST_PAUSE = 0.05  # seconds between attempts to store
_LONGEST_PAUSE = 0.5  # seconds
_LONGEST_OUTAGE = 20.0  # seconds; a lease can be renewed although the tokens cannot be stored
_SHORTEST_OUTAGE = 3.0  # seconds; a lock may end with the same connection that could not store the tokens
_SKEW = 60.0  # seconds by which the clocks of machines on one store may differ
_SETTLED = 5.0  # seconds
_MARK = 16  # hexadecimal digits
_WITH_CLAIMS, _WITHOUT_CLAIMS = "claims", "no claims"  # of the ID token that a refresh brought

SHORTEST_PAUSE = 1.0
"""Seconds between two refreshes that no caller requested explicitly."""


class Review(Protocol):
    """The work that a refresh causes, such as that of access rules.

    It is noted together with the fresh set, and done with the lock held, so that the claims of two refreshes
    never overtake each other. If it is interrupted, the next caller does it again, also a caller that needs
    no refresh.
    """

    def is_due(self) -> bool:
        """Return whether the next refresh needs the work."""

    def finish(self, tokens: OAuthTokenSet, claims: Claims) -> bool:
        """Do the work.

        Args:
            tokens: The fresh set, which is stored.
            claims: The claims of the ID token that the refresh brought; empty without one.

        Returns:
            Whether it is done. Otherwise the next caller tries again.
        """


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


def has_expired(tokens: OAuthTokenSet, now: float) -> bool:
    """Return whether an access token that cannot be refreshed is unusable.

    It is if it has expired. It is too if it was issued further in the future than it lasts: the clock was
    wrong then, and the token would seem valid for years.

    Args:
        tokens: The token set.
        now: Unix time in seconds.
    """
    lifetime = tokens.expires_in
    return tokens.expires_within(0, now) or (
        lifetime is not None and tokens.issued_at - now > max(lifetime, _SKEW)
    )


def was_just_refreshed(tokens: OAuthTokenSet, now: float, signed_in_at: float) -> bool:
    """Return whether a token set was refreshed within 5 s.

    Another refresh is then unnecessary. For a short-lived token the limit is half of its lifetime.

    Args:
        tokens: The token set.
        now: Unix time in seconds.
        signed_in_at: Unix time in seconds of the sign-in, whose own tokens do not count.
    """
    settled = min(_SETTLED, (tokens.expires_in or 2 * _SETTLED) / 2)
    # The machine that refreshed may have a clock that is ahead.
    return tokens.issued_at > signed_in_at and abs(now - tokens.issued_at) < settled


def refresh(provider: OAuthProvider, tokens: OAuthTokenSet) -> OAuthTokenSet:
    """Refresh a token set, and return the new one.

    Members that the response omits keep their values. So does the ID token if only the times of the new one
    are wrong.

    Args:
        provider: The provider that issued the tokens.
        tokens: The set to refresh; its refresh token may be invalid afterwards.

    Raises:
        TokenExpiredError: The set has no refresh token.
        TokenRefreshError: The provider has ended the grant, or returned an ID token that is forged or names
            another user or issuer (OIDC Core §12.2).
        TokenError: The provider refused for another reason (``refused``), or gave no usable response: the set
            may still be valid.
    """
    with naming_provider(provider.name):
        if not tokens.refresh_token:
            raise TokenExpiredError(
                "The access token cannot be refreshed, because the provider issued no refresh token: sign in "
                "again when it expires, and request offline access if sign-ins should last.",
                error=ErrorCode.NO_REFRESH_TOKEN,
            )
        with _measured(provider):
            fresh = _ask(provider, tokens.refresh_token)
        first = _first_claims(tokens)
        if fresh.id_token_claims:
            from pywry_auth.protocol.id_token import check_same_subject

            with revoked_on_failure(provider, fresh):
                check_same_subject(first, fresh.id_token_claims)
        if fresh.id_token is None:
            fresh = replace(fresh, id_token=tokens.id_token, id_token_claims=tokens.id_token_claims)
        nonce = first.get("nonce")
        return replace(
            fresh,
            scope=fresh.scope or tokens.scope,
            grant=tokens.grant,
            nonce=nonce if isinstance(nonce, str) else None,
        )


@contextmanager
def _measured(provider: OAuthProvider) -> Iterator[None]:
    """Measure one refresh, in which the provider may also be asked for its keys."""
    with measured("step", "refresh", provider.gate.name) as measure:
        try:
            yield
        except TokenRefreshError:
            measure.outcome = "refused"
            raise


def _first_claims(tokens: OAuthTokenSet) -> Claims:
    """Return the claims of the sign-in's ID token, as far as they are known.

    A refreshed ID token usually has no nonce, and the stored one may be such a token.
    """
    subject = tokens.grant.subject if tokens.grant else ""
    nonce = tokens.nonce
    return (
        ({"sub": subject} if subject else {})
        | dict(tokens.id_token_claims)
        | ({} if nonce is None else {"nonce": nonce})
    )


def refresh_stored(
    provider: OAuthProvider,
    store: TokenStore,
    key: str,
    is_due: Callable[[OAuthTokenSet], bool],
    on_refresh: Callable[[OAuthTokenSet], object] = lambda tokens: None,
    before_call: Callable[[], object] = lambda: None,
    wait: float | None = None,
    keep_refused: bool = False,
    review: Review | None = None,
) -> OAuthTokenSet:
    """Return a user's tokens, refreshed once for all callers.

    Tokens that are not due are returned unchanged. The callers in this process share one attempt, and all
    processes and machines on the store take turns. The fresh set is stored before it is returned, because
    with rotation the old refresh token is invalid by then. A caller that was waiting when another caller's
    refresh failed gets the same error. Otherwise the last of many callers would sit through every timeout in
    turn. If a process dies in its turn, the others continue when its lease has expired.

    Args:
        provider: The provider that issued the tokens.
        store: The store that holds them.
        key: The user's ID.
        is_due: Decides, with the lock held, whether the stored set needs a refresh. It does not if
            another caller has just replaced it.
        on_refresh: Receives the fresh set if this call refreshed and stored it, also if ``review`` raised an
            error; no lock is held.
        before_call: Called with the lock held, just before the call to the provider. An error that it raises
            prevents the call.
        wait: Seconds to wait for another caller's refresh; by default, the longest time that two refreshes
            can take.
        keep_refused: Whether the tokens stay in the store if the provider has ended their grant. A login
            replaces them later.
        review: The work after the refresh, done once for all callers. An error that it raises reaches all
            callers in this process.

    Raises:
        TokenExpiredError: There are no tokens, or no refresh token.
        TokenRefreshError: The provider has ended the grant; the tokens were removed from the store.
        TokenError: The provider refused for another reason (``refused``) or cannot be reached, or another
            caller's refresh took longer than ``wait``: the tokens are kept.
        ProviderBusy: Too many requests wait for the provider: the tokens are kept.
        StoreUnavailable: The store is down, or another process's refresh took longer than ``wait``.
    """
    patience = 2 * _longest(provider) if wait is None else wait
    attempt = _Attempt(provider, store, key, is_due, before_call, patience, keep_refused, review)

    def shared() -> OAuthTokenSet:
        # Callers that keep refused tokens and those that remove them share no attempt, only its failure.
        # An impatient caller must not fail those that would wait for another process.
        # Callers with different reviews share only its call, so that each review is done.
        flight = (key, keep_refused, patience <= 0, type(review))
        return store.refreshes.run(attempt, key=flight, wait=wait, room=provider.gate.waiting)

    try:
        return shared()
    except AuthenticationError as error:
        # A TokenError has the provider's code, which may be the same.
        if attempt.begun or isinstance(error, TokenError) or error.error != ErrorCode.RATE_LIMITED:
            raise
        return shared()  # the limit of another session does not concern this one
    finally:
        for fresh in attempt.brought:
            on_refresh(fresh)


@dataclass
class _Attempt:
    """One attempt to refresh a user's tokens, in turn with other processes.

    Args:
        provider: The provider that issued the tokens.
        store: The store that holds them.
        key: The user's ID.
        is_due: See :func:`refresh_stored`.
        before_call: See :func:`refresh_stored`.
        patience: Seconds to wait for the turn.
        keep_refused: See :func:`refresh_stored`.
        review: See :func:`refresh_stored`.
        begun: Whether this attempt had to do the work itself.
        brought: The fresh tokens, as soon as they are stored.
    """

    provider: OAuthProvider
    store: TokenStore
    key: str
    is_due: Callable[[OAuthTokenSet], bool]
    before_call: Callable[[], object]
    patience: float
    keep_refused: bool
    review: Review | None
    begun: bool = False
    brought: list[OAuthTokenSet] = field(default_factory=list)

    def __call__(self) -> OAuthTokenSet:
        """Return the user's tokens, refreshed if they are due."""
        provider, store, key = self.provider, self.store, self.key
        self.begun = True
        earlier = store.last_failure(key)
        with ExitStack() as held:
            with provider.gate.waiting(self.patience) as seconds:
                lease = held.enter_context(store.lock(key, self.patience if seconds is None else seconds))
            stored = _stored(provider, store, key)
            tokens = stored.tokens
            left = _finish(self.review, store, key, tokens, stored.review)
            if not self.is_due(tokens):
                return tokens
            failure = store.last_failure(key)
            if failure is not None and failure != earlier:
                raise _failed_just_now(failure, provider, store, key, tokens, self.keep_refused)
            due = self.review is not None and self.review.is_due()
            self.before_call()
            after = partial(_review_after, tokens, is_due=due, left=left)
            fresh = _refreshed_in_turn(provider, store, key, tokens, lease, self.keep_refused, after)
            if fresh is None:
                return _stored(provider, store, key).tokens
            self.brought.append(fresh)
            _finish(self.review, store, key, fresh, after(fresh))
        return fresh


def _review_after(before: OAuthTokenSet, fresh: OAuthTokenSet, is_due: bool, left: str) -> str:
    """Return the review that a refresh makes due; empty if it makes none due.

    Args:
        before: The set before the refresh.
        fresh: The set after it.
        is_due: Whether a review follows this refresh.
        left: The review of an earlier refresh that is not finished; otherwise empty.
    """
    if not is_due:
        return ""
    if left == _WITH_CLAIMS:
        return left  # the claims of the ID token that the set still has were not reviewed
    return _WITHOUT_CLAIMS if same_secret(before.id_token or "", fresh.id_token) else _WITH_CLAIMS


def _finish(review: Review | None, store: TokenStore, key: str, tokens: OAuthTokenSet, due: str) -> str:
    """Do the work after a refresh, if it is due, and return the review that is left."""
    if review is None or not due:
        return due
    if not review.finish(tokens, tokens.id_token_claims if due == _WITH_CLAIMS else {}):
        return due
    store.note_reviewed(key, tokens)
    return ""


def _longest(provider: OAuthProvider) -> float:
    """Return the seconds that one refresh takes at most."""
    return _CALLS * provider.http_options.timeout + _SLACK


def _refreshed_in_turn(
    provider: OAuthProvider,
    store: TokenStore,
    key: str,
    tokens: OAuthTokenSet,
    lease: Lease,
    keep_refused: bool,
    review_after: Callable[[OAuthTokenSet], str],
) -> OAuthTokenSet | None:
    """Refresh and store a set; None if another was faster."""
    try:
        with provider.gate.slot():
            if lease.left() <= 0:
                # The machine slept, for example. Another process may have used the refresh token by now.
                raise StoreUnavailable("The lock for the refresh was lost: try again.")
            fresh = refresh(provider, tokens)
    except TokenRefreshError as error:
        # Tokens of a provider that returned a forged ID token must not be sent again in any case.
        keep = keep_refused and error.refused
        if not _was_stored(store, key, tokens, keep):
            return None  # the user signed in again: the refusal concerns the earlier grant
        if keep:
            _record_failure(store, key, tokens, error, _longest(provider))
        raise
    except TokenExpiredError:
        raise
    except TokenError as error:
        _record_failure(store, key, tokens, error, max(_longest(provider), _pause_after(error)))
        raise
    if _put_in_place(store, key, tokens, fresh, lease, review_after(fresh)):
        return fresh
    _revoke_without_owner(provider, store, key, fresh)
    return None


def _was_stored(store: TokenStore, key: str, refused: OAuthTokenSet, keep: bool) -> bool:
    """Remove a refused set unless it is kept, and return whether it was stored."""
    return store.load(key) == refused if keep else store.discard(key, refused)


def _record_failure(
    store: TokenStore, key: str, tokens: OAuthTokenSet, error: TokenError, lifetime: float
) -> None:
    try:
        store.record_failure(key, failure_text(error), lifetime, _mark(tokens))
    except StoreUnavailable as outage:
        _logger.warning("other callers do not learn that a refresh failed: %s", outage)


def _mark(tokens: OAuthTokenSet) -> str:
    """Return digits for the record of a failure: the present time, and a name of the tokens."""
    return f"{round(1000 * time.time()):0{_TIME}x}{_name(tokens)}"


def _name(tokens: OAuthTokenSet) -> str:
    return digest_of(tokens.refresh_token or "")[:_MARK]


def _pause_after(error: TokenError) -> float:
    """Return the seconds after a failure in which no view may cause another attempt."""
    return min(max(error.retry_after or 0.0, _PAUSE), _LONGEST_PAUSE_AFTER)


def recent_failure(
    provider: OAuthProvider, store: TokenStore, key: str, tokens: OAuthTokenSet
) -> TokenError | None:
    """Return the error of a recent attempt to refresh this very set, or None.

    Args:
        provider: The provider that issued the tokens.
        store: The store that holds them.
        key: The user's ID.
        tokens: The set.
    """
    return _failure_of(provider, store, key, tokens, store.last_failure(key))


def failure_to_await(
    provider: OAuthProvider, store: TokenStore, key: str, tokens: OAuthTokenSet, now: float
) -> TokenError | None:
    """Return the error of the last attempt to refresh this very set if it is too early for another one.

    Another one may follow after the provider's ``Retry-After``, at most 300 s, and otherwise after 2 s. The
    end of a grant is no such error, because the next caller may have to end its sessions.

    Args:
        provider: The provider that issued the tokens.
        store: The store that holds them.
        key: The user's ID.
        tokens: The set.
        now: Unix time in seconds.

    Returns:
        The error, or None if another attempt may begin.
    """
    failure = store.last_failure(key) or ""
    error = _failure_of(provider, store, key, tokens, failure)
    if error is None or isinstance(error, TokenRefreshError):
        return None
    at = int(failure.partition(" ")[0][-_TIME - _MARK : -_MARK], 16) / 1000
    # The machine that recorded the failure may have another clock.
    return error if abs(now - at) < _pause_after(error) else None


def _failure_of(
    provider: OAuthProvider, store: TokenStore, key: str, tokens: OAuthTokenSet, failure: str | None
) -> TokenError | None:
    if failure is None or not failure.partition(" ")[0].endswith(_name(tokens)):
        return None
    return _failed_just_now(failure, provider, store, key, tokens, keep_refused=True)


def _failed_just_now(
    failure: str,
    provider: OAuthProvider,
    store: TokenStore,
    key: str,
    tokens: OAuthTokenSet,
    keep_refused: bool,
) -> TokenError:
    """Return the error for a refresh that failed while this caller waited for it."""
    error = shared_error(failure, "refresh these tokens", provider.name)
    if isinstance(error, TokenRefreshError):
        _was_stored(store, key, tokens, keep_refused)
    return error


def _put_in_place(
    store: TokenStore, key: str, tokens: OAuthTokenSet, fresh: OAuthTokenSet, lease: Lease, review: str
) -> bool:
    """Store the fresh set unless another writer was faster.

    A failing store is tried again while the lease holds, but for 3 s at least and 20 s at most, because the
    old refresh token may be invalid already. Without the lease this is safe, too: the set is stored only in
    place of the old one. After that, the process keeps the set for the next caller. An interrupt is followed
    by one more attempt.

    Returns:
        Whether the fresh set was stored.
    """
    pause, begun = _FIRST_PAUSE, time.monotonic()
    try:
        while True:
            try:
                return store.replace(key, fresh, tokens, review=review)
            except UnreadableRecord:
                raise  # it stays unreadable while the request waits
            except StoreUnavailable as error:
                _logger.warning("fresh tokens could not be stored: %s", error)
                taken = time.monotonic() - begun
                if min(max(lease.left(), _SHORTEST_OUTAGE - taken), _LONGEST_OUTAGE - taken) <= pause:
                    raise
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
    except BaseException as error:
        lost = True
        try:
            # After Ctrl-C, a program usually ends, and this process with it: there is no next caller.
            lost = isinstance(error, StoreUnavailable) or not store.replace(key, fresh, tokens, review=review)
        except StoreUnavailable as outage:
            _logger.warning("fresh tokens could not be stored: %s", outage)
        finally:
            if lost:
                store.unsaved.keep(key, tokens, fresh, review)
                store.revocations.postponed()
        raise


def _revoke_without_owner(provider: OAuthProvider, store: TokenStore, key: str, fresh: OAuthTokenSet) -> None:
    """Revoke fresh tokens if the user signed out during the refresh."""
    if not store.exists(key):
        revoke(provider, fresh, store.revocations, key)
    # Otherwise the user signed in again: a revocation here could end the new grant too.


def store_unsaved(provider_of: ProviderOf, store: TokenStore, key: str) -> None:
    """Store the fresh tokens that an outage of the store left in this process.

    Args:
        provider_of: Finds the provider of a token set.
        store: The store of tokens.
        key: The user's ID.

    Raises:
        StoreUnavailable: The store is still down; the process keeps the tokens.
    """
    with store.unsaved.taken(key) as unsaved:
        if unsaved is None or store.replace(key, unsaved.fresh, unsaved.instead_of, review=unsaved.review):
            return
        provider = provider_of(unsaved.fresh)
        if provider is not None:
            _revoke_without_owner(provider, store, key, unsaved.fresh)


def _stored(provider: OAuthProvider, store: TokenStore, key: str) -> StoredTokens:
    store_unsaved(lambda tokens: provider, store, key)
    stored = store.find(key)
    if stored is None or not provider.issued_to_this_client(stored.tokens):
        raise not_signed_in()
    return stored


def not_signed_in() -> TokenExpiredError:
    """Return the error for a user without tokens."""
    return TokenExpiredError("No user is signed in: sign in first.", error=ErrorCode.NOT_SIGNED_IN)


def _ask(provider: OAuthProvider, refresh_token: str) -> OAuthTokenSet:
    with as_token_error():  # discovery or the key set may fail
        try:
            return provider.refresh_tokens(refresh_token)
        except TokenError as error:
            if error.refused:
                _log_fault_of_client(provider, error)
                raise
            if error.error != ErrorCode.INVALID_ID_TOKEN:
                raise
            # A provider that returned a forged ID token must not be sent this refresh token again.
            raise TokenRefreshError(str(error), error=error.error) from error


def _log_fault_of_client(provider: OAuthProvider, error: TokenError) -> None:
    from pywry_auth.protocol.provider_errors import CLIENT_FAULTS

    if error.error in CLIENT_FAULTS:
        _logger.error("%s: no tokens can be refreshed until this is corrected: %s", provider.name, error)
