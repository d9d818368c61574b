"""Turns the response of a native login into stored tokens."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from pywry_auth.exceptions import StoreUnavailable
from pywry_auth.flow.authorization_code import complete
from pywry_auth.flow.revocation import revoke, revoked_on_failure
from pywry_auth.native.bounded_call import Bounds, closing, must_end

if TYPE_CHECKING:
    from pywry_auth.models import AuthFlowResult, AuthorizationRequest, OAuthTokenSet
    from pywry_auth.protocol.authorization_response import ResponseParameters
    from pywry_auth.providers.base import OAuthProvider

_logger = logging.getLogger("pywry_auth.native")


class SavesTokens(Protocol):
    """A store of token sets by user ID."""

    def save(self, key: str, tokens: OAuthTokenSet) -> object:
        """Store the token set of a user."""


class KeepsTokensFresh(Protocol):
    """An object that stores and refreshes one user's tokens."""

    def save_tokens(self, tokens: OAuthTokenSet) -> object:
        """Store a token set and keep it fresh."""


@dataclass(frozen=True)
class Redemption:
    """Redeems the code of one login within its bounds.

    Args:
        provider: The provider that the user signs in at.
        store: Receives the tokens; None stores nothing.
        session: Receives the tokens too, if given.
        bounds: The bounds of the login.
        check: Raises if the login must not continue.
    """

    provider: OAuthProvider
    store: SavesTokens | None
    session: KeepsTokensFresh | None
    bounds: Bounds
    check: Callable[[], object]

    def redeem(self, request: AuthorizationRequest, parameters: ResponseParameters) -> AuthFlowResult:
        """Return the result of the login, with its tokens stored.

        Tokens are revoked if the login has ended before they are stored, also if it ends during the calls.

        Args:
            request: The request of the login.
            parameters: The response.

        Raises:
            AuthenticationError: See ``complete``, or the login has ended.
        """
        return self.bounds.run(lambda: self._obtained(request, parameters), self._take_back)

    def _obtained(self, request: AuthorizationRequest, parameters: ResponseParameters) -> AuthFlowResult:
        """Obtain and store the tokens, in the worker thread."""
        must_end()
        revocations = getattr(self.store, "revocations", None)
        # The profile has no owner to be told, so the login's end does not wait for it.
        result = complete(self.provider, request, parameters, revocations, within=self.bounds.run)
        with revoked_on_failure(self.provider, result.tokens, revocations, result.user_id):
            self.check()
            closing()
            if self.store is not None:
                self.store.save(result.user_id, result.tokens)
            elif self.session is not None:
                self.session.save_tokens(result.tokens)
        if self.store is not None and self.session is not None:
            # The stored tokens have an owner, so a failure does not revoke them any more.
            self.session.save_tokens(result.tokens)
        return result

    def _take_back(self, result: AuthFlowResult) -> None:
        take_back(self.provider, self.store, result)


def take_back(provider: OAuthProvider, store: object, result: AuthFlowResult) -> None:
    """Remove and revoke the tokens of a login that ended while they were stored.

    Tokens that another sign-in or a refresh has replaced by now have a successor, and stay valid.

    Args:
        provider: The provider that issued the tokens.
        store: The store that received them, if any.
        result: The result that no caller got.
    """
    discard = getattr(store, "discard", None)
    try:
        if discard is not None and not discard(result.user_id, result.tokens):
            return
    except StoreUnavailable as error:
        _logger.warning("the tokens of a login that had ended could not be removed: %s", error)
    revoke(provider, result.tokens, getattr(store, "revocations", None), result.user_id)
