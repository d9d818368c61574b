"""SessionManager: keeps the signed-in user's tokens fresh."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING
from weakref import WeakMethod, finalize, ref

from pywry_auth.exceptions import (
    AuthenticationError,
    AuthFlowCancelled,
    TokenError,
    TokenExpiredError,
    TokenRefreshError,
)
from pywry_auth.flow.events import SignedOut, TokensRefreshed, emit
from pywry_auth.flow.refresh import (
    SHORTEST_PAUSE,
    has_expired,
    is_due,
    not_signed_in,
    refresh_margin,
    refresh_stored,
)
from pywry_auth.flow.revocation import issued_by, retry_revocations
from pywry_auth.flow.sign_out import sign_out
from pywry_auth.models import OAuthTokenSet
from pywry_auth.native.account import described
from pywry_auth.native.bounded_call import Bounds, must_end
from pywry_auth.native.refresh_timer import RefreshTimer
from pywry_auth.single_flight import SingleFlight

if TYPE_CHECKING:
    from pywry_auth.protocol.urls import HTTPOptions
    from pywry_auth.providers.base import OAuthProvider
    from pywry_auth.state.tokens import TokenStore

_logger = logging.getLogger("pywry_auth.native")
_FIRST_RETRY = 5.0  # seconds
_LAST_RETRY = 300.0  # seconds


class SessionManager:
    """Keeps one user's access token fresh.

    Any number of threads, and of processes on the store, may share the tokens. After ``initialize`` or
    ``save_tokens``, a daemon timer refreshes the token before it expires. It stops at ``close`` or
    ``logout``, or when this object is garbage-collected. Tokens of another client or issuer under the same
    user ID are neither used nor changed.

    Args:
        provider: The provider that issued the tokens.
        token_store: The store that holds them.
        session_key: The user's ID, which is the key in the store.
        refresh_buffer_seconds: Seconds before its expiry at which an access token is refreshed, at most half
            of its lifetime.
        on_reauth_required: Called once when the provider has ended the grant, with no lock held. It may call
            ``login()``; callers that wait for a token then get the new one.
        clock: Unix time in seconds.
        sender: Sender of the events ``TokensRefreshed`` and ``SignedOut``, held weakly; default: this object.
    """

    def __init__(
        self,
        provider: OAuthProvider,
        token_store: TokenStore,
        session_key: str,
        refresh_buffer_seconds: float = 60.0,
        on_reauth_required: Callable[[], object] | None = None,
        *,
        clock: Callable[[], float] = time.time,
        sender: object = None,
    ) -> None:
        self._provider = provider
        self._store = token_store
        self._key = session_key
        self._buffer = refresh_buffer_seconds
        self._on_reauth_required = on_reauth_required
        self._clock = clock
        self._sender = ref(self if sender is None else sender)
        self._refresh = SingleFlight[OAuthTokenSet](TokenError)
        self._watched = ""  # the access token that the timer is set for
        self._known_until: float | None = None
        self._retries = 0
        self._timer = RefreshTimer(_weakly(self._wake), clock)
        finalize(self, self._timer.stop)

    def __repr__(self) -> str:
        user = described(self._key, {}, self._known_until)
        return f"<SessionManager: {user}, at {self._provider.name}>"

    @property
    def known_until(self) -> float | None:
        """Unix time in seconds at which the tokens that this object saw last expire; None if unknown.

        This reads no store.
        """
        return self._known_until

    @property
    def http_options(self) -> HTTPOptions:
        """Time limit, proxy and certificates of calls to the provider."""
        return self._provider.http_options

    @property
    def tokens(self) -> OAuthTokenSet | None:
        """The stored tokens; None after a logout, or after the provider has ended the grant."""
        tokens = self._store.load(self._key)
        if tokens is not None and not self._provider.issued_to_this_client(tokens):
            tokens = None
        self._known_until = None if tokens is None else tokens.expires_at
        return tokens

    def initialize(self) -> OAuthTokenSet | None:
        """Return usable stored tokens, and keep them fresh.

        Tokens that are due are refreshed first.

        Returns:
            None if the user must sign in: there are no tokens, they have expired, or the provider has ended
            the grant.

        Raises:
            TokenError: The tokens have expired, and the provider cannot be reached or refused for a reason
                that can be corrected; they are kept.
        """
        return self._usable(None)

    def resume(self, asks: Callable[[], bool], bounds: Bounds | None = None) -> OAuthTokenSet | None:
        """Return usable stored tokens for a login, and keep them fresh.

        Unlike ``initialize``, this reports any refusal, also one that does not end the grant: the user can
        sign in again.

        Args:
            asks: Returns whether the login asks the user after a refusal. Refused tokens then stay in the
                store until the sign-in replaces them. It is called only before a refresh.
            bounds: The bounds of the login. A refresh that outlives them still stores its result.

        Returns:
            None if there are no tokens, or if they have expired and there is no refresh token.

        Raises:
            TokenRefreshError: The provider has ended the grant, or its response is not valid.
            TokenError: The provider refused for a reason that can be corrected (``refused``). Or the tokens
                have expired, and it cannot be reached. The tokens are kept.
            AuthFlowCancelled: The login was cancelled during the refresh.
            AuthFlowTimeout: The tokens have expired, and the time of the login passed during the refresh.
        """
        return self._usable(asks, bounds)

    def _usable(self, asks: Callable[[], bool] | None, bounds: Bounds | None = None) -> OAuthTokenSet | None:
        self._timer.start()
        tokens = self.tokens
        if tokens is None:
            return None
        seen = tokens
        if self._is_due(seen):
            keep = asks is not None and asks()
            try:
                tokens = self._within(bounds, lambda: self._refreshed(seen, keep_refused=keep))
            except AuthFlowCancelled:
                raise
            except TokenExpiredError:
                tokens = None if has_expired(seen, self._clock()) else self.tokens
            except TokenRefreshError:
                if asks is not None:
                    raise
                tokens = None if self._has_expired(seen) else self.tokens
            except AuthenticationError as error:
                refused = isinstance(error, TokenError) and error.refused
                if self._has_expired(seen) or (refused and asks is not None):
                    raise
        if tokens is not None:
            self._schedule(tokens)
        return tokens

    def _within(self, bounds: Bounds | None, refresh: Callable[[], OAuthTokenSet]) -> OAuthTokenSet:
        if bounds is None:
            return self._refresh.run(refresh)
        return bounds.run(lambda: self._refresh.run(refresh))

    def save_tokens(self, tokens: OAuthTokenSet) -> None:
        """Replace the stored tokens, and keep the new ones fresh."""
        self._store.save(self._key, tokens)
        self.keep_fresh(tokens)

    def discard(self, user_id: str, tokens: OAuthTokenSet) -> bool:
        """Remove tokens of a login that ended while they were stored.

        Args:
            user_id: The user of the login, whose tokens are stored under the key of this object.
            tokens: The tokens to remove.

        Returns:
            Whether they were still stored; other tokens stay.
        """
        return self._store.discard(self._key, tokens)

    def keep_fresh(self, tokens: OAuthTokenSet) -> None:
        """Keep tokens fresh that have just been stored."""
        self._timer.start()
        self._schedule(tokens)

    def get_access_token(self) -> str:
        """Return a valid access token, refreshed if necessary.

        Many threads together make one refresh call. While the provider cannot be reached, a token that has
        not expired yet is returned unchanged.

        Raises:
            TokenRefreshError: The provider has ended the grant: sign in again.
            TokenExpiredError: No user is signed in, or the token has expired and cannot be refreshed.
            TokenError: The token has expired, and the provider cannot be reached: try again later. Or the
                provider refused for a reason that can be corrected (``refused``): the text names it.
        """
        tokens = self._signed_in()
        if not self._is_due(tokens):
            return tokens.access_token
        try:
            return self._replace(tokens).access_token
        except AuthenticationError:
            if self._has_expired(tokens) or self.tokens is None:
                raise
            return tokens.access_token

    def refresh(self, instead_of: str | None = None) -> OAuthTokenSet:
        """Refresh now, due or not, and return the new tokens.

        While a refresh is under way, in any process, other callers wait and get its result.

        Args:
            instead_of: An access token that an API refused. If it was replaced in the meantime, the stored
                tokens are returned without a call to the provider.

        Raises:
            TokenRefreshError: The provider has ended the grant: sign in again.
            TokenExpiredError: No user is signed in, or there is no refresh token.
            TokenError: The provider cannot be reached: try again later. Or it refused for a reason that can
                be corrected (``refused``). The tokens are kept.
        """
        tokens = self._signed_in()
        if instead_of is not None and tokens.access_token != instead_of:
            return tokens
        return self._replace(tokens)

    def logout(self) -> bool:
        """Remove the tokens from the store, then revoke both.

        Returns:
            Whether the provider confirmed that both are revoked.
        """
        self.close()
        result = sign_out(self._provider, self._store, self._key)
        if result.revoked:  # the provider answers, so that earlier revocations have a chance too, due or not
            self.retry_revocations(at_once=True)
        if result.tokens is not None:
            event = SignedOut(mode="native", user_id=self._key, provider=self._provider.name)
            emit(self._sender() or self, event)
        return result.revoked

    def close(self) -> None:
        """Stop refreshing in the background.

        The store keeps the tokens, and ``get_access_token`` still refreshes them.
        """
        self._timer.stop()

    def _replace(self, seen: OAuthTokenSet) -> OAuthTokenSet:
        """Return tokens that replace those seen.

        If the provider has ended the grant, let the user sign in again.
        """
        return self._refresh.run(lambda: self._renewed(seen))

    def _renewed(self, seen: OAuthTokenSet) -> OAuthTokenSet:
        try:
            return self._refreshed(seen)
        except TokenRefreshError:
            tokens = self._signed_in_again(seen)
            if tokens is None:
                raise
            self._schedule(tokens)
            return tokens

    def _refreshed(self, seen: OAuthTokenSet, *, keep_refused: bool = False) -> OAuthTokenSet:
        brought: list[OAuthTokenSet] = []
        tokens = refresh_stored(
            self._provider,
            self._store,
            self._key,
            lambda stored: stored == seen,
            brought.append,
            must_end,
            keep_refused=keep_refused,
        )
        self._retries = 0
        self._schedule(tokens)
        if brought:  # refreshed by this process, not by a faster one
            event = TokensRefreshed(mode="native", user_id=self._key, provider=self._provider.name)
            emit(self._sender() or self, event)
        return tokens

    def _signed_in_again(self, refused: OAuthTokenSet) -> OAuthTokenSet | None:
        if self._on_reauth_required is None:
            return None
        try:
            self._on_reauth_required()
        except AuthenticationError as error:
            _logger.warning("the user did not sign in again: %s", error)
        tokens = self.tokens
        # A login of another thread may have kept the refused tokens.
        return None if tokens is None or tokens == refused or self._has_expired(tokens) else tokens

    def _schedule(self, tokens: OAuthTokenSet) -> None:
        self._watched, self._known_until = tokens.access_token, tokens.expires_at
        if not tokens.refresh_token or tokens.expires_at is None:
            return self._timer.set(None)
        # Shortly after the token is due, but never at once: tokens may have a lifetime of zero.
        margin = refresh_margin(tokens, self._buffer)
        early = random.uniform(0.9, 1) * margin  # noqa: S311  # spreads processes
        soonest = self._clock() + SHORTEST_PAUSE
        return self._timer.set(max(tokens.expires_at - early, soonest))

    def _wake(self) -> None:
        """Refresh in the timer's thread.

        Try again after a failure, but not after the end of the grant.
        """
        try:
            tokens = self._signed_in()
            if tokens.access_token == self._watched:
                self._replace(tokens)
            else:
                self._schedule(tokens)  # another process was faster
        except (TokenRefreshError, TokenExpiredError) as error:
            _logger.info("the tokens are not refreshed any more: %s", error)
        except AuthenticationError as error:
            wait = min(_FIRST_RETRY * 2**self._retries, _LAST_RETRY)
            self._retries += 1
            _logger.warning("the tokens could not be refreshed, next try in about %.0f s: %s", wait, error)
            self._timer.set(self._clock() + wait * random.uniform(0.8, 1.2))  # noqa: S311  # spreads processes
        else:
            self.retry_revocations()

    def retry_revocations(self, *, at_once: bool = False) -> None:
        """Try revocations again that failed at earlier sign-outs from this store.

        A failure is logged. The background timer calls this method too.

        Args:
            at_once: Whether to try those that are not due yet, too.
        """
        try:
            retry_revocations(self._store, issued_by(self._provider), at_once=at_once)
        except AuthenticationError as error:
            _logger.warning("revocations could not be tried again: %s", error)

    def _is_due(self, tokens: OAuthTokenSet) -> bool:
        return is_due(tokens, self._clock(), self._buffer)

    def _has_expired(self, tokens: OAuthTokenSet) -> bool:
        return tokens.expires_within(0, self._clock())

    def _signed_in(self) -> OAuthTokenSet:
        tokens = self.tokens
        # If the user is signing in again at this moment, wait for the new tokens.
        return self._refresh.run(self._found) if tokens is None else tokens

    def _found(self) -> OAuthTokenSet:
        tokens = self.tokens
        if tokens is None:
            raise not_signed_in()
        return tokens


def _weakly(method: Callable[[], None]) -> Callable[[], None]:
    """Return a function that calls the method by weak reference.

    A timer must not keep the method's object alive.
    """
    reference = WeakMethod(method)

    def call() -> None:
        living = reference()
        if living is not None:
            living()

    return call
