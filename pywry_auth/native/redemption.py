"""Turns the response of a native login into stored tokens."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from pywry_auth.exceptions import StoreUnavailable
from pywry_auth.flow.revocation import revoke, revoked_on_failure
from pywry_auth.models import AuthFlowResult
from pywry_auth.native.bounded_call import Bounds, closing, must_end

if TYPE_CHECKING:
    from pywry_auth.flow.authorization_code import Within
    from pywry_auth.models import OAuthTokenSet
    from pywry_auth.providers.base import OAuthProvider
    from pywry_auth.state.revocations import RevocationQueue

_R = TypeVar("_R")
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

    def redeem(self, obtain: Callable[[RevocationQueue | None, Within], _R]) -> _R:
        """Return the result of the login, with its tokens stored.

        The store also remembers the user, if it can (``remember``). Then the login has succeeded, and a later
        end changes nothing. If it ends before, the tokens are removed and revoked.

        Args:
            obtain: Obtains tokens, in the worker thread, and validates them. It returns anything that is not
                a result if there are none yet. It receives the queue for failed revocations, and a function
                that makes the UserInfo request.

        Raises:
            AuthenticationError: As ``obtain``, or the login has ended.
        """
        return self.bounds.run(lambda: self._obtained(obtain), self._take_back)

    def _obtained(self, obtain: Callable[[RevocationQueue | None, Within], _R]) -> _R:
        """Obtain and store the tokens, in the worker thread."""
        must_end()
        revocations = getattr(self.store, "revocations", None)
        # The profile has no owner to be told, so the login's end does not wait for it.
        result = obtain(revocations, self.bounds.run)
        if not isinstance(result, AuthFlowResult):
            return result
        with revoked_on_failure(self.provider, result.tokens, revocations, result.user_id):
            self.check()
            closing()
            if self.store is not None:
                self.store.save(result.user_id, result.tokens)
            elif self.session is not None:
                self.session.save_tokens(result.tokens)
        self._remember(result)
        if self.store is not None and self.session is not None:
            # The stored tokens have an owner, so a failure does not revoke them any more.
            self.session.save_tokens(result.tokens)
        return result

    def _remember(self, result: AuthFlowResult) -> None:
        remember = getattr(self.store, "remember", None)
        if remember is None:
            return
        try:
            remember(result)
        except BaseException:
            self._take_back(result)
            raise

    def _take_back(self, result: object) -> None:
        if isinstance(result, AuthFlowResult):
            take_back(self.provider, self.session if self.store is None else self.store, result)


def take_back(provider: OAuthProvider, store: object, result: AuthFlowResult) -> None:
    """Remove and revoke the tokens of a login that ended while they were stored.

    Tokens that another sign-in or a refresh has replaced by now have a successor, and stay valid.

    Args:
        provider: The provider that issued the tokens.
        store: The object that stored them, if any.
        result: The result that no caller got.
    """
    discard = getattr(store, "discard", None)
    try:
        if discard is not None and not discard(result.user_id, result.tokens):
            return
    except StoreUnavailable as error:
        _logger.warning("the tokens of a login that had ended could not be removed: %s", error)
    revoke(provider, result.tokens, getattr(store, "revocations", None), result.user_id)
