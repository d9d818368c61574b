"""Who signed in before: they are signed in again with what the store has, and mostly without any call."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pywry_auth.models import AuthFlowResult
from pywry_auth.native.session_manager import SessionManager
from pywry_auth.state.accounts import Accounts

if TYPE_CHECKING:
    from pywry_auth.models import OAuthTokenSet
    from pywry_auth.providers.base import OAuthProvider
    from pywry_auth.state.tokens import TokenStore

_NAMES = ("email", "preferred_username", "login", "name")


@dataclass(frozen=True)
class SignedIn:
    """Somebody who is signed in.

    Args:
        result: Who, with profile and tokens.
        session: Keeps the tokens fresh.
        accounts: What the program remembers of its users.
    """

    result: AuthFlowResult
    session: SessionManager
    accounts: Accounts

    def sign_out(self) -> bool:
        """Forget the user and the tokens, and return whether the provider confirmed that they are revoked."""
        confirmed = self.session.logout()
        self.accounts.forget(self.result.user_id)
        return confirmed


class StoredUsers:
    """The users of one program on one store.

    Args:
        provider: Where they sign in.
        store: Where their tokens are.
        buffer: Seconds before their end at which tokens are refreshed.
    """

    def __init__(self, provider: OAuthProvider, store: TokenStore, buffer: float) -> None:
        self._provider = provider
        self._store = store
        self._buffer = buffer
        self._accounts = Accounts(store.backend, provider.client_id)

    def begin(self, result: AuthFlowResult) -> SignedIn:
        """Return who has just signed in, and remember them; their tokens are in the store already."""
        user = result.user_id
        session = SessionManager(self._provider, self._store, user, self._buffer)
        session.initialize()
        self._accounts.remember(user, result.user_info, self._provider.scopes)
        return SignedIn(result, session, self._accounts)

    def resume(
        self, user_id: str | None = None, login_hint: str | None = None, scopes: Collection[str] = ()
    ) -> SignedIn | None:
        """Return who is signed in already, their tokens refreshed if they were about to end.

        Args:
            user_id: Who is wanted; None means the one that was used last.
            login_hint: What the program calls who is wanted, if it names no user ID.
            scopes: What the tokens have to be good for, as far as it was not asked for in vain before.

        Returns:
            None when somebody has to sign in.

        Raises:
            TokenError: The tokens have ended and the provider cannot be reached; they are kept.
        """
        current = self._accounts.current
        user = user_id or current
        if user is None:
            return None
        account = self._accounts.get(user)
        profile = account.user_info if account else {}
        if user_id is None and login_hint is not None and not _is_called(login_hint, user, profile):
            return None
        session = SessionManager(self._provider, self._store, user, self._buffer)
        tokens = session.initialize()
        asked = account.asked if account else frozenset()
        if tokens is None or not set(scopes) <= asked.union(tokens.scope.split()):
            session.close()
            return None
        result = AuthFlowResult(True, tokens, profile or self._profile(tokens), user)
        if user != current:
            self._accounts.select(user)
        return SignedIn(result, session, self._accounts)

    def _profile(self, tokens: OAuthTokenSet) -> dict[str, Any]:
        return dict(tokens.id_token_claims) or self._provider.get_userinfo(tokens.access_token)


def _is_called(name: str, user_id: str, profile: Mapping[str, Any]) -> bool:
    names = [user_id, *(str(profile.get(member, "")) for member in _NAMES)]
    return name.casefold() in [known.casefold() for known in names]
