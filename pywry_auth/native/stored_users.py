"""The stored users of a program, and their silent sign-in."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pywry_auth.models import AuthFlowResult
from pywry_auth.native.session_manager import SessionManager
from pywry_auth.state.accounts import Accounts

if TYPE_CHECKING:
    from pywry_auth.models import OAuthTokenSet
    from pywry_auth.providers.base import OAuthProvider
    from pywry_auth.state.accounts import Account
    from pywry_auth.state.tokens import TokenStore

_NAMES = ("email", "preferred_username", "login", "name")


@dataclass(frozen=True)
class SignedIn:
    """A signed-in user.

    Args:
        result: User ID, profile and tokens.
        session: Keeps the tokens fresh.
        accounts: The program's users.
        seconds: Seconds from the authorization request until the tokens were stored; None for a silent
            login.
    """

    result: AuthFlowResult
    session: SessionManager
    accounts: Accounts
    seconds: float | None = None

    def sign_out(self) -> bool:
        """Remove the user and the tokens, and revoke the tokens.

        Returns:
            Whether the provider confirmed the revocation.
        """
        try:
            return self.session.logout()
        finally:
            self.accounts.forget(self.result.user_id)


@dataclass(frozen=True)
class StoredUsers:
    """The users of one program on one store.

    Args:
        provider: The provider that they sign in at.
        store: The store that holds their tokens.
        buffer: Seconds before their expiry at which tokens are refreshed.
        sender: Sender of the sessions' events.
    """

    provider: OAuthProvider
    store: TokenStore
    buffer: float
    sender: object = None

    def add(self, result: AuthFlowResult, seconds: float | None) -> SignedIn:
        """Remember a user whose new tokens have been stored.

        Args:
            result: The result of the sign-in.
            seconds: Seconds that the sign-in took.
        """
        session = self._session(result.user_id)
        session.initialize()
        session.retry_revocations()
        accounts = self._accounts()
        accounts.remember(result.user_id, result.user_info, self.provider.scopes)
        return SignedIn(result, session, accounts, seconds)

    def resume(
        self, user_id: str | None = None, login_hint: str | None = None, scopes: Collection[str] = ()
    ) -> SignedIn | None:
        """Sign a stored user in silently.

        Tokens that are about to expire are refreshed.

        Args:
            user_id: The user; None means the one that was used last.
            login_hint: A name that the user's profile must have, if no user ID is given.
            scopes: Scopes the tokens must have, except those already requested and not granted.

        Returns:
            None if the user must sign in at the provider.

        Raises:
            AuthenticationError: The tokens have expired or the user's profile is not stored, and the
                provider cannot be reached; the tokens are kept.
        """
        accounts = self._accounts()
        current = accounts.current
        user = user_id or current
        if user is None:
            return None
        account = accounts.get(user)
        if user_id is None and login_hint is not None and not _is_called(login_hint, user, account):
            return None
        session = self._session(user)
        tokens = session.initialize()
        asked = account.asked if account else frozenset()
        if tokens is None or not set(scopes) <= asked.union(tokens.scope.split()):
            session.close()
            return None
        if account is not None and account.user_info:
            result = AuthFlowResult(True, tokens, account.user_info, user)
            if user != current:
                accounts.select(user)
        else:
            result = self._finish(user, tokens)
            accounts.remember(user, result.user_info, asked)
        return SignedIn(result, session, accounts)

    def _finish(self, user: str, tokens: OAuthTokenSet) -> AuthFlowResult:
        from pywry_auth.flow.authorization_code import finish

        return replace(finish(self.provider, tokens), user_id=user)

    def _accounts(self) -> Accounts:
        return Accounts(self.store.backend, self.provider.client_id)

    def _session(self, user_id: str) -> SessionManager:
        return SessionManager(self.provider, self.store, user_id, self.buffer, sender=self.sender)


def _is_called(name: str, user_id: str, account: Account | None) -> bool:
    profile: Mapping[str, Any] = account.user_info if account else {}
    names = [user_id, *(str(profile.get(member, "")) for member in _NAMES)]
    return name.casefold() in [known.casefold() for known in names]
