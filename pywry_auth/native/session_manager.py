"""SessionManager: the signed-in user's tokens, refreshed when they are asked for and due."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pywry_auth.exceptions import TokenError, TokenExpiredError, TokenRefreshError
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
        refresh_buffer_seconds: Seconds before its end at which an access token is refreshed.
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
        self._refresh = SingleFlight[OAuthTokenSet]()

    @property
    def tokens(self) -> OAuthTokenSet | None:
        """The stored tokens, or None after a logout or a refusal."""
        return self._store.load(self._key)

    def save_tokens(self, tokens: OAuthTokenSet) -> None:
        """Store tokens in place of the earlier ones."""
        self._store.save(self._key, tokens)

    def get_access_token(self) -> str:
        """Return an access token that is good for at least ``refresh_buffer_seconds``, refreshed if need be.

        Many threads asking at once make one refresh call. While the provider cannot be reached, a token that
        has not ended yet is returned as it is.

        Raises:
            TokenRefreshError: The provider refused to refresh: sign in again.
            TokenExpiredError: Nobody is signed in, or the token has ended and cannot be refreshed.
            TokenError: The token has ended and the provider cannot be reached: try again later.
        """
        tokens = self._signed_in()
        if not tokens.expires_within(self._buffer):
            return tokens.access_token
        try:
            return self._refresh.run(lambda: self._renew(due=True)).access_token
        except TokenRefreshError:
            raise
        except TokenError:
            if tokens.is_expired:
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
        try:
            return tokens is not None and token_lifecycle.revoke(self._provider, tokens)
        finally:
            self._store.delete(self._key)

    def _renew(self, due: bool) -> OAuthTokenSet:
        tokens = self._signed_in()
        if due and not tokens.expires_within(self._buffer):
            return tokens  # somebody else was faster
        try:
            fresh = token_lifecycle.refresh(self._provider, tokens)
        except TokenRefreshError:
            self._store.delete(self._key)  # dead for good: nobody shall try it again
            raise
        # Stored before it is published: with rotation the old refresh token is worth nothing by now. A logout
        # in the meantime is not undone.
        if not self._store.replace(self._key, fresh):
            token_lifecycle.revoke(self._provider, fresh)
            raise _nobody()
        return fresh

    def _signed_in(self) -> OAuthTokenSet:
        tokens = self.tokens
        if tokens is None:
            raise _nobody()
        return tokens


def _nobody() -> TokenExpiredError:
    return TokenExpiredError("Nobody is signed in: call login() first.", error="not_signed_in")
