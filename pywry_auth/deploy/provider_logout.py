"""Finds the sessions that a logout at the provider ends."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pywry_auth.exceptions import StoreUnavailable
from pywry_auth.flow.subject import qualified_user_id
from pywry_auth.state.sign_in_index import EndedSignIns, SignInIndex

if TYPE_CHECKING:
    from pywry_auth.deploy.account_sessions import AccountSessions
    from pywry_auth.models import UserSession

_UNREADABLE = (
    "A session that may belong to the user cannot be read, so it may not have ended: check that all workers "
    "have the same version and the same PYWRY_DEPLOY__ENCRYPTION_KEYS."
)


@dataclass(frozen=True)
class ProviderLogout:
    """The sessions of the sign-ins that a provider has ended.

    Args:
        accounts: Finds the sessions of accounts.
        ended: The sign-ins.
    """

    accounts: AccountSessions
    ended: EndedSignIns

    def sessions(self) -> list[UserSession]:
        """Return the live sessions that end.

        Raises:
            StoreUnavailable: The store is down.
        """
        found = (each for user in self._users() for each in self.accounts.store.list_user_sessions(user))
        return [each for each in found if self.ended.include(each.grant)]

    def require_readable(self) -> None:
        """Check that no session was overlooked because this process cannot read it.

        Raises:
            StoreUnavailable: There is such a session.
        """
        store = self.accounts.store
        ids = (session_id for user in self._users() for session_id in store.session_ids(user))
        if any(store.is_unreadable(session_id) for session_id in ids):
            raise StoreUnavailable(_UNREADABLE)

    def _users(self) -> Collection[str]:
        """Return the user IDs of sessions that may end."""
        ended = self.ended
        indexed = SignInIndex(self.accounts.store.backend).users(ended.issuer, ended.subject, ended.sid)
        return dict.fromkeys([*indexed, *self._users_of_accounts()])

    def _users_of_accounts(self) -> Iterator[str]:
        """Yield the users of sessions that began with an earlier version, which kept no index."""
        if self.ended.subject is None:
            return
        for name, provider in self.accounts.providers.by_name.items():
            if provider.client_id == self.ended.client_id:
                account = qualified_user_id(name, self.ended.subject)
                yield account
                yield from self.accounts.linked.of(account)
