"""SessionManager: the signed-in user's tokens, kept fresh in the background and on demand."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING
from weakref import WeakMethod, finalize

from pywry_auth.exceptions import AuthenticationError, TokenError, TokenExpiredError, TokenRefreshError
from pywry_auth.flow import token_lifecycle
from pywry_auth.models import OAuthTokenSet
from pywry_auth.native.refresh_timer import RefreshTimer
from pywry_auth.single_flight import SingleFlight

if TYPE_CHECKING:
    from pywry_auth.protocol.urls import HTTPOptions
    from pywry_auth.providers.base import OAuthProvider
    from pywry_auth.state.tokens import TokenStore

_logger = logging.getLogger("pywry_auth.native")
_SHORTEST_PAUSE = 1.0  # seconds between two refreshes that nobody asked for by name
_FIRST_RETRY = 5.0
_LAST_RETRY = 300.0
_SKEW = 60.0  # seconds that the clocks of machines on one store may differ


class SessionManager:
    """Keeps one user's access token fresh; any number of threads, and processes on the store, may share it.

    From ``initialize`` or ``save_tokens`` on a daemon timer refreshes before the token ends, until ``close``,
    ``logout``, or nobody holds this object any more. Tokens that the store has under the same user ID for
    another client or from another issuer are not used, and left alone.

    Args:
        provider: Who issued the tokens.
        token_store: Where they are kept.
        session_key: The user's ID, their key in the store.
        refresh_buffer_seconds: Seconds before its end at which an access token is refreshed; never more than
            half of its life, or a short-lived one would be refreshed whenever it is asked for.
        on_reauth_required: Called once when the provider has ended the grant, with no lock held: it may call
            ``login()``, and whoever waits for a token then gets the new one.
        clock: Unix time in seconds.
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
    ) -> None:
        self._provider = provider
        self._store = token_store
        self._key = session_key
        self._buffer = refresh_buffer_seconds
        self._on_reauth_required = on_reauth_required
        self._clock = clock
        self._refresh = SingleFlight[OAuthTokenSet](TokenError)
        self._watched = ""  # the access token that the timer is set for
        self._retries = 0
        self._timer = RefreshTimer(_weakly(self._wake), clock)
        finalize(self, self._timer.stop)

    @property
    def http_options(self) -> HTTPOptions:
        """How calls to the provider are made."""
        return self._provider.http_options

    @property
    def tokens(self) -> OAuthTokenSet | None:
        """The stored tokens, or None after a logout or a refusal."""
        tokens = self._store.load(self._key)
        return tokens if tokens is not None and self._provider.issued_to_this_client(tokens) else None

    def initialize(self) -> OAuthTokenSet | None:
        """Return the stored tokens if they are good or can be refreshed, and keep them fresh from now on.

        Returns:
            None when somebody has to sign in: there are none, they have ended, or the provider refused.

        Raises:
            TokenError: They have ended and the provider cannot be reached; they are kept.
        """
        self._timer.start()
        tokens = self.tokens
        if tokens is None:
            return None
        seen = tokens
        if self._is_due(seen):
            try:
                tokens = self._refresh.run(lambda: self._refreshed(seen))
            except (TokenRefreshError, TokenExpiredError):
                tokens = None if self._has_ended(seen) else self.tokens
            except AuthenticationError:
                if self._has_ended(seen):
                    raise
        if tokens is not None:
            self._schedule(tokens)
        return tokens

    def save_tokens(self, tokens: OAuthTokenSet) -> None:
        """Store tokens in place of the earlier ones, and keep them fresh from now on."""
        self._store.save(self._key, tokens)
        self._timer.start()
        self._schedule(tokens)

    def get_access_token(self) -> str:
        """Return an access token that is good for use now, refreshed if it was about to end.

        Many threads asking at once make one refresh call. While the provider cannot be reached, a token that
        has not ended yet is returned as it is.

        Raises:
            TokenRefreshError: The provider refused to refresh: sign in again.
            TokenExpiredError: Nobody is signed in, or the token has ended and cannot be refreshed.
            TokenError: The token has ended and the provider cannot be reached: try again later.
        """
        tokens = self._signed_in()
        if not self._is_due(tokens):
            return tokens.access_token
        try:
            return self._replace(tokens).access_token
        except AuthenticationError:
            if self._has_ended(tokens) or self.tokens is None:
                raise
            return tokens.access_token

    def refresh(self, instead_of: str | None = None) -> OAuthTokenSet:
        """Refresh now, whether or not it is due, and return the new tokens.

        Whoever asks while somebody else's refresh is under way, in any process, gets the result of that.

        Args:
            instead_of: An access token that an API refused: if it has been replaced by now, nothing is asked.

        Raises:
            TokenRefreshError: The provider refused: sign in again.
            TokenExpiredError: Nobody is signed in, or there is no refresh token.
            TokenError: The provider cannot be reached: the tokens are kept, try again later.
        """
        tokens = self._signed_in()
        if instead_of is not None and tokens.access_token != instead_of:
            return tokens
        return self._replace(tokens)

    def logout(self) -> bool:
        """Revoke both tokens at the provider and forget them, whatever the provider says.

        Returns:
            Whether the provider confirmed that both are revoked.
        """
        self.close()
        tokens = self._store.load(self._key)
        if tokens is not None and not self._provider.issued_to_this_client(tokens):
            return False  # another program's
        # First of all here: a refresh under way must not find anything to put its tokens in place of. What is
        # revoked is what was there at that moment: another process may have just refreshed.
        tokens = self._store.take(self._key)
        return tokens is not None and token_lifecycle.revoke(self._provider, tokens)

    def close(self) -> None:
        """Stop the timer; tokens stay where they are, and are still refreshed when they are asked for."""
        self._timer.stop()

    def _replace(self, seen: OAuthTokenSet) -> OAuthTokenSet:
        """Return what follows the tokens that were seen; where nothing can, the user signs in again."""
        return self._refresh.run(lambda: self._renewed(seen))

    def _renewed(self, seen: OAuthTokenSet) -> OAuthTokenSet:
        try:
            return self._refreshed(seen)
        except TokenRefreshError:
            tokens = self._signed_in_again()
            if tokens is None:
                raise
            self._schedule(tokens)
            return tokens

    def _refreshed(self, seen: OAuthTokenSet) -> OAuthTokenSet:
        tokens = token_lifecycle.refresh_stored(
            self._provider, self._store, self._key, lambda stored: stored == seen
        )
        self._retries = 0
        self._schedule(tokens)
        return tokens

    def _signed_in_again(self) -> OAuthTokenSet | None:
        if self._on_reauth_required is None:
            return None
        try:
            self._on_reauth_required()
        except AuthenticationError as error:
            _logger.warning("nobody signed in again: %s", error)
        tokens = self.tokens
        return None if tokens is None or self._has_ended(tokens) else tokens

    def _schedule(self, tokens: OAuthTokenSet) -> None:
        self._watched = tokens.access_token
        if not tokens.refresh_token or tokens.expires_at is None:
            return self._timer.set(None)
        # A little after it is due, and never at once: a provider may issue tokens that end at once.
        early = random.uniform(0.9, 1) * self._margin(tokens)  # noqa: S311  # spreads processes
        return self._timer.set(max(tokens.expires_at - early, self._clock() + _SHORTEST_PAUSE))

    def _wake(self) -> None:
        """Refresh in the timer's thread; network trouble is tried again later, a refusal is not."""
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

    def _is_due(self, tokens: OAuthTokenSet) -> bool:
        now = self._clock()
        age = now - tokens.issued_at
        if tokens.expires_at is None or 0 <= age < _SHORTEST_PAUSE:
            return False
        # From the future: the clock was set back, and nobody knows how much of the token's life has passed.
        return age < -_SKEW or tokens.expires_within(self._margin(tokens), now)

    def _has_ended(self, tokens: OAuthTokenSet) -> bool:
        return tokens.expires_within(0, self._clock())

    def _margin(self, tokens: OAuthTokenSet) -> float:
        return min(self._buffer, (tokens.expires_in or 0) / 2)

    def _signed_in(self) -> OAuthTokenSet:
        tokens = self.tokens
        # Without tokens the user may just be signing in again: then that is waited for.
        return self._refresh.run(self._found) if tokens is None else tokens

    def _found(self) -> OAuthTokenSet:
        tokens = self.tokens
        if tokens is None:
            raise token_lifecycle.not_signed_in()
        return tokens


def _weakly(method: Callable[[], None]) -> Callable[[], None]:
    """Return a function that calls the method while its object lives: the timer alone keeps nobody alive."""
    reference = WeakMethod(method)

    def call() -> None:
        living = reference()
        if living is not None:
            living()

    return call
