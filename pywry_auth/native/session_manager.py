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
from pywry_auth.native.single_flight import SingleFlight

if TYPE_CHECKING:
    from pywry_auth.protocol.urls import HTTPOptions
    from pywry_auth.providers.base import OAuthProvider
    from pywry_auth.state.tokens import TokenStore

_log = logging.getLogger("pywry_auth.native")
_SHORTEST_PAUSE = 1.0  # seconds
_FIRST_RETRY = 5.0
_LAST_RETRY = 300.0


class SessionManager:
    """Keeps one user's access token fresh; any number of threads, and processes on the store, may share it.

    From ``initialize`` or ``save_tokens`` on a daemon timer refreshes before the token ends, until ``close``,
    ``logout``, or nobody holds this object any more.

    Args:
        provider: Who issued the tokens.
        token_store: Where they are kept.
        session_key: The user's ID, their key in the store.
        refresh_buffer_seconds: Seconds before its end at which an access token is refreshed; never more than
            half of its life, or a short-lived one would be refreshed whenever it is asked for.
        on_reauth_required: Called once when the provider has ended the grant, with no lock held: it may call
            ``login()``, and whoever waits for a token then gets the new one.
    """

    def __init__(
        self,
        provider: OAuthProvider,
        token_store: TokenStore,
        session_key: str,
        refresh_buffer_seconds: float = 60.0,
        on_reauth_required: Callable[[], object] | None = None,
    ) -> None:
        self._provider = provider
        self._store = token_store
        self._key = session_key
        self._buffer = refresh_buffer_seconds
        self._on_reauth_required = on_reauth_required
        self._refresh = SingleFlight[OAuthTokenSet](TokenError)
        self._retries = 0
        self._timer = RefreshTimer(_weakly(self._wake))
        finalize(self, self._timer.stop)

    @property
    def http_options(self) -> HTTPOptions:
        """How calls to the provider are made."""
        return self._provider.http_options

    @property
    def tokens(self) -> OAuthTokenSet | None:
        """The stored tokens, or None after a logout or a refusal."""
        return self._store.load(self._key)

    def initialize(self) -> OAuthTokenSet | None:
        """Return the stored tokens if they are good or can be refreshed, and keep them fresh from now on.

        Returns:
            None when somebody has to sign in: there are none, they have ended, or the provider refused.

        Raises:
            TokenError: They have ended and the provider cannot be reached; they are kept.
        """
        tokens = self.tokens
        # Made for another client or by another issuer: of no use here, and another's to keep.
        if tokens is None or not self._provider.issued(tokens):
            return None
        if self._is_due(tokens):
            try:
                tokens = self._refresh.run(lambda: self._refreshed(due=True))
            except (TokenRefreshError, TokenExpiredError):
                return None if tokens.is_expired or self.tokens is None else tokens
            except TokenError:
                if tokens.is_expired:
                    raise
        self._schedule(tokens)
        return tokens

    def save_tokens(self, tokens: OAuthTokenSet) -> None:
        """Store tokens in place of the earlier ones, and keep them fresh from now on."""
        self._store.save(self._key, tokens)
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
            return self._refresh.run(lambda: self._renew(due=True)).access_token
        except TokenError:
            if tokens.is_expired or self.tokens is None:
                raise
            return tokens.access_token

    def refresh(self, instead_of: str | None = None) -> OAuthTokenSet:
        """Refresh now, whether or not it is due, and return the new tokens.

        Args:
            instead_of: An access token that an API refused: if it has been replaced by now, nothing is asked.

        Raises:
            TokenRefreshError: The provider refused: sign in again.
            TokenExpiredError: Nobody is signed in, or there is no refresh token.
            TokenError: The provider cannot be reached: the tokens are kept, try again later.
        """
        return self._refresh.run(lambda: self._renew(due=False, instead_of=instead_of))

    def logout(self) -> bool:
        """Revoke both tokens at the provider and forget them, whatever the provider says.

        Returns:
            Whether the provider confirmed that both are revoked.
        """
        self.close()
        tokens = self.tokens
        # First of all here: a refresh under way must not find anything to put its tokens in place of.
        self._store.delete(self._key)
        return tokens is not None and token_lifecycle.revoke(self._provider, tokens)

    def close(self) -> None:
        """Stop the timer; tokens stay where they are, and are still refreshed when they are asked for."""
        self._timer.stop()

    def _renew(self, due: bool, instead_of: str | None = None) -> OAuthTokenSet:
        """Refresh, and where the provider has ended the grant, have the user sign in again."""
        try:
            return self._refreshed(due, instead_of)
        except TokenRefreshError:
            tokens = self._signed_in_again()
            if tokens is None:
                raise
            return tokens

    def _refreshed(self, due: bool, instead_of: str | None = None) -> OAuthTokenSet:
        def is_due(tokens: OAuthTokenSet) -> bool:
            if instead_of is not None:
                return tokens.access_token == instead_of
            return not due or self._is_due(tokens)

        tokens = token_lifecycle.refresh_stored(self._provider, self._store, self._key, is_due)
        self._retries = 0
        self._schedule(tokens)
        return tokens

    def _signed_in_again(self) -> OAuthTokenSet | None:
        if self._on_reauth_required is None:
            return None
        try:
            self._on_reauth_required()
        except AuthenticationError as exc:
            _log.warning("nobody signed in again: %s", exc)
        tokens = self.tokens
        return None if tokens is None or tokens.is_expired else tokens

    def _schedule(self, tokens: OAuthTokenSet) -> None:
        if not tokens.refresh_token or tokens.expires_at is None:
            return
        # A little after it is due, and never at once: a provider may issue tokens that end at once.
        early = random.uniform(0.9, 1) * self._margin(tokens)  # noqa: S311  # spreads processes
        self._timer.set(max(tokens.expires_at - early, time.time() + _SHORTEST_PAUSE))

    def _wake(self) -> None:
        """Refresh in the timer's thread; network trouble is tried again later, a refusal is not."""
        try:
            self._refresh.run(lambda: self._renew(due=True))
        except (TokenRefreshError, TokenExpiredError) as exc:
            _log.info("the tokens are not refreshed any more: %s", exc)
        except AuthenticationError as exc:
            wait = min(_FIRST_RETRY * 2**self._retries, _LAST_RETRY)
            self._retries += 1
            _log.warning("the tokens could not be refreshed, next try in about %.0f s: %s", wait, exc)
            self._timer.set(time.time() + wait * random.uniform(0.8, 1.2))  # noqa: S311  # spreads processes

    def _is_due(self, tokens: OAuthTokenSet) -> bool:
        return tokens.expires_within(self._margin(tokens))

    def _margin(self, tokens: OAuthTokenSet) -> float:
        return min(self._buffer, (tokens.expires_in or 0) / 2)

    def _signed_in(self) -> OAuthTokenSet:
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
