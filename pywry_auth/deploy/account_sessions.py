"""The sessions of an account, and the tokens that they need.

Tokens are stored under the user's account, the ID at the provider. Sessions belong to the user's ID on the
site. The two differ if the site's hook gives users IDs of its own: one user can then have several accounts.
The owner of an account is the user of its last sign-in, and is recorded with the tokens. They are needed by
the sessions of the account and by all sessions of its owner.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pywry_auth.state.linked_users import LinkedUsers
from pywry_auth.state.session_record import has_account

if TYPE_CHECKING:
    from pywry_auth.deploy.providers import Providers
    from pywry_auth.models import Grant, OAuthTokenSet, UserSession
    from pywry_auth.providers.base import OAuthProvider
    from pywry_auth.state.sessions import SessionStore
    from pywry_auth.state.tokens import TokenStore


@dataclass(frozen=True)
class AccountSessions:
    """Finds the sessions of accounts, and decides which tokens they need.

    Args:
        providers: The site's providers.
        tokens: The store of users' OAuth tokens, by account.
        store: The store of sessions.
        has_own_ids: Whether the site may give users IDs of its own.
    """

    providers: Providers
    tokens: TokenStore
    store: SessionStore
    has_own_ids: bool = False

    @property
    def linked(self) -> LinkedUsers:
        """The user IDs of each account."""
        return LinkedUsers(self.store.backend)

    @contextmanager
    def replicated(self) -> Iterator[None]:
        """Make sure that a sign-in or a sign-out survives the loss of a server.

        A repeated sign-out needs it too if it finds nothing to end: an earlier attempt may have removed the
        session from one server only.

        Raises:
            StoreUnavailable: See :meth:`Backend.replicated`.
        """
        backends = {id(each): each for each in (self.store.backend, self.tokens.backend)}
        with ExitStack() as stack:
            for backend in backends.values():
                stack.enter_context(backend.replicated())
            yield

    def of_account(self, session: UserSession) -> list[UserSession]:
        """Return all sessions of a session's account, under each user ID.

        Args:
            session: A session of the account.

        Raises:
            StoreUnavailable: The store is down.
        """
        account, store = session.account, self.store
        users = self._users_of(account, session.user_id)
        return [each for user in users for each in store.list_user_sessions(user) if each.account == account]

    def of_grant(self, session: UserSession, tokens: OAuthTokenSet) -> list[UserSession]:
        """Return the sessions of an account that the claims of a token set concern.

        They are those of its own sign-in, and of others with the same client, whose tokens it superseded. The
        caller checks afterwards that the set is still stored: if so, no session is one of a later sign-in,
        which stores its tokens before its session. The clocks of several machines could not tell.

        Args:
            session: A session of the account.
            tokens: The token set.
        """
        found = self.of_account(session) if tokens.grant else []
        return [each for each in found if each.grant and not _is_of_other_client(each, tokens)]

    def owned(self, user: str, accounts: Collection[str], everywhere: bool) -> list[str]:
        """Return the accounts that belong to a user.

        A site whose users have no other IDs does not look for more than those of the sessions.

        Args:
            user: The user.
            accounts: The accounts of the user's sessions, some of which may belong to another user by now.
            everywhere: Whether all sessions end.
        """
        if not everywhere and not self.has_own_ids and [*accounts] == [user]:
            return []
        found = {each: self.tokens.find(each) for each in (*accounts, *self.tokens.accounts_of(user), user)}
        if accounts and found[user] is None:
            del found[user]
        return [each for each, stored in found.items() if not stored or (stored.owner or each) == user]

    def others(self, user: str, ending: list[UserSession], found: Iterable[UserSession]) -> list[str]:
        """Return the IDs of a user's other sessions, without those of a person at another provider.

        Sessions to which the site's hook gave the user ID belong to one person, whatever their providers are.
        """
        linked = any(each.account != user for each in ending)
        kept = {each.session_id for each in ending}
        kept.update(
            each.session_id
            for each in (*found, *ending)
            if not (linked or each.account != user) and _is_of_other_client(each, ending[0].grant)
        )
        return [each for each in self.store.session_ids(user) if each not in kept]

    def unlinked(self, user: str, account: str) -> list[UserSession]:
        """Return the sign-ins with an account from before the site gave its user an ID."""
        found = [] if account == user else self.store.list_user_sessions(account)
        return [each for each in found if each.account == account and each.grant is not None]

    def provider_of(self, account: str, ending: Iterable[UserSession]) -> OAuthProvider | None:
        """Return the provider of sessions that end, or of the stored tokens if the site has it no longer."""
        for provider in map(self.providers.of_session, ending):
            if provider is not None:
                return provider
        stored = self.tokens.load(account)
        return None if stored is None else self.providers.issuer_of(stored)

    def need(
        self,
        account: str,
        tokens: OAuthTokenSet,
        owner: str,
        ending: Collection[str] = (),
        user: str = "",
    ) -> bool:
        """Return whether a session other than those that end needs a token set.

        Args:
            account: The account of the tokens.
            tokens: The token set.
            owner: The owner of the set; empty for the account itself.
            ending: The IDs of the sessions that end.
            user: The user of these sessions, if known.
        """

        def is_other(session: UserSession) -> bool:
            if session.account != account or not has_account(session):
                return session.user_id != (owner or account)
            return _is_of_other_client(session, tokens)

        users = self._users_of(account, user, owner)
        return any(self._is_needed_by(each, is_other, ending) for each in users)

    def _users_of(self, account: str, *users: str) -> Iterator[str]:
        """Yield the user IDs under which an account can have sessions, the likely ones first."""
        known = dict.fromkeys((*filter(None, users), account))
        yield from known
        yield from (each for each in self.linked.of(account) if each not in known)

    def _is_needed_by(
        self, user: str, is_other: Callable[[UserSession], bool], ending: Collection[str]
    ) -> bool:
        """Return whether a session of one user needs a token set.

        After a change of the provider, two people can have the same user ID. Neither needs the tokens of the
        other one's sign-in. A session that this process cannot read may need them.

        Args:
            user: The user.
            is_other: Returns whether a session does not need the set.
            ending: The IDs of the sessions that end.
        """
        store = self.store
        left = set(store.session_ids(user)).difference(ending)
        if not left:
            return False
        return not left.issubset(each.session_id for each in store.list_user_sessions(user) if is_other(each))


def _is_of_other_client(session: UserSession, issued: Grant | OAuthTokenSet | None) -> bool:
    """Return whether a session belongs to another issuer or client than a grant or token set."""
    if session.grant is None or issued is None or not issued.client_id:
        return False
    issuers = {session.grant.issuer, issued.issuer} - {""}  # earlier versions did not always record one
    return session.grant.client_id != issued.client_id or len(issuers) > 1
