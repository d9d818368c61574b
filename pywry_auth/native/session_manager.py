"""SessionManager: the signed-in user's tokens, refreshed when they are asked for and due."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pywry_auth.exceptions import TokenError
from pywry_auth.flow import token_lifecycle
from pywry_auth.models import OAuthTokenSet
from pywry_auth.native.single_flight import SingleFlight

if TYPE_CHECKING:
    from pywry_auth.providers.base import OAuthProvider
    from pywry_auth.state.tokens import TokenStore


class SessionManager:
    """Keeps one user's access token fresh; any number of threads may share it.

    Args:
        provider: Who issued the tokens.
        token_store: Where they are kept.
        session_key: The user's ID, their key in the store.
        refresh_buffer_seconds: Seconds before its end at which an access token is refreshed; never more than
            half of its life, or a short-lived one would be refreshed whenever it is asked for.
    """

    def __init__(
        self,
        provider: OAuthProvider,
        token_store: TokenStore,
        session_key: str,
        refresh_buffer_seconds: float = 60.0,
    ) -> None:
        self._provider = provider
        self._store = token_store
        self._key = session_key
        self._buffer = refresh_buffer_seconds
        self._refresh = SingleFlight[OAuthTokenSet](TokenError)

    @property
    def tokens(self) -> OAuthTokenSet | None:
        """The stored tokens, or None after a logout or a refusal."""
        return self._store.load(self._key)

    def save_tokens(self, tokens: OAuthTokenSet) -> None:
        """Store tokens in place of the earlier ones."""
        self._store.save(self._key, tokens)

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

    def refresh(self) -> OAuthTokenSet:
        """Refresh now, whether or not it is due, and return the new tokens.

        Raises:
            TokenRefreshError: The provider refused: sign in again.
            TokenExpiredError: Nobody is signed in, or there is no refresh token.
            TokenError: The provider cannot be reached: the tokens are kept, try again later.
        """
        return self._refresh.run(lambda: self._renew(due=False))

    def logout(self) -> bool:
        """Revoke both tokens at the provider and forget them, whatever the provider says.

        Returns:
            Whether the provider confirmed that both are revoked.
        """
        tokens = self.tokens
        # First of all here: a refresh under way must not find anything to put its tokens in place of.
        self._store.delete(self._key)
        return tokens is not None and token_lifecycle.revoke(self._provider, tokens)

    def _renew(self, due: bool) -> OAuthTokenSet:
        return token_lifecycle.refresh_stored(
            self._provider,
            self._store,
            self._key,
            lambda tokens: not due or self._is_due(tokens),
        )

    def _is_due(self, tokens: OAuthTokenSet) -> bool:
        return tokens.expires_within(min(self._buffer, (tokens.expires_in or 0) / 2))

    def _signed_in(self) -> OAuthTokenSet:
        tokens = self.tokens
        if tokens is None:
            raise token_lifecycle.not_signed_in()
        return tokens
