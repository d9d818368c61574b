"""Ends sessions, and revokes tokens with the last session that needs them.

A sign-out removes the tokens first and the session last, so that a repeated sign-out finishes an interrupted
one.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from pywry_auth.deploy.provider_logout import ProviderLogout
from pywry_auth.exceptions import StoreUnavailable
from pywry_auth.flow.revocation import is_earlier
from pywry_auth.flow.sign_out import TakenTokens, revoke_later, revoke_taken, take
from pywry_auth.state.ending_sessions import EndingSessions
from pywry_auth.state.session_record import has_account
from pywry_auth.state.sign_in_index import EndedSignIns, SignInIndex

if TYPE_CHECKING:
    from pywry_auth.deploy.account_sessions import AccountSessions
    from pywry_auth.models import OAuthTokenSet, UserSession
    from pywry_auth.providers.base import OAuthProvider
    from pywry_auth.state.token_record import StoredTokens

_logger = logging.getLogger("pywry_auth.deploy")


@dataclass(frozen=True)
class _AccountEnding:
    """The end of one account's tokens.

    Args:
        account: The account.
        user: The user of the sessions that end.
        provider: The provider that issued the tokens; None if the site has it no longer.
        take: Removes the tokens, unless another session needs them.
    """

    account: str
    user: str
    provider: OAuthProvider | None
    take: Callable[[], TakenTokens]


@dataclass(frozen=True)
class SessionEnd:
    """Ends sessions.

    Args:
        accounts: Finds the sessions of accounts.
        leave_to_site: Whether tokens of a provider that is not in ``accounts`` enter the queue of
            revocations, for the workers of the site. Without it they are removed only: a site has no use for
            the tokens of a provider that it offers no longer.
        revoke_later: Whether the workers of the site revoke the removed tokens, so that the caller does not
            wait for the provider.
        settled: Called for each account after its sessions have ended, with whether tokens were removed.
    """

    accounts: AccountSessions
    leave_to_site: bool = False
    revoke_later: bool = False
    settled: Callable[[str, bool], object] = lambda account, removed: None

    @property
    def ending(self) -> EndingSessions:
        """The sessions of accounts that are not admitted any more."""
        return EndingSessions(self.accounts.store.backend)

    def end_at_provider(
        self,
        provider_name: str,
        issuer: str,
        subject: str | None,
        sid: str | None,
        client_id: str,
    ) -> Iterator[tuple[UserSession, int]]:
        """End the sessions of sign-ins that the provider has ended.

        The logout is remembered first, so that a sign-in which is about to begin its session notices it.
        Tokens that were granted for ``offline_access`` stay stored for jobs (OIDC Back-Channel Logout §2.7).

        Args:
            provider_name: The provider's name on this site; empty for the only one.
            issuer: The issuer, as grants record it.
            subject: The user at the provider; None if only the session is known.
            sid: The provider's session; None for all sessions of the user.
            client_id: The client.

        Yields:
            One session of each user, and how many of the user's sessions ended.

        Raises:
            StoreUnavailable: The store is down, or a session cannot be read. A repeated call finishes the
                work.
        """
        ended = EndedSignIns(issuer, client_id, subject, sid)
        SignInIndex(self.accounts.store.backend).mark(ended)
        logout = ProviderLogout(self.accounts, ended)
        keeps = partial(_is_for_jobs, self.accounts.providers.named(provider_name))
        for user, ending in by_user(logout.sessions()).items():
            count, _ = self._end_of_user(user, ending, False, [], keeps)
            if count:
                yield ending[0], count
        logout.require_readable()

    def end(
        self, sessions: Iterable[UserSession], everywhere: bool = False, ended: list[str] | None = None
    ) -> list[tuple[UserSession, int, OAuthTokenSet | None]]:
        """End sessions.

        Tokens are removed and revoked with the last session of their account and of its owner.

        Args:
            sessions: The sessions, of one or several users.
            everywhere: Whether to end all sessions of these users, also those of their accounts from before
                the site gave the users IDs of its own.
            ended: Receives the ID of each session as it ends, also if the store fails later.

        Returns:
            For each user: one of the sessions, how many ended, and the tokens of that session's account.

        Raises:
            StoreUnavailable: The store is down; a repeated call finishes the work.
        """
        deleted = [] if ended is None else ended
        return [
            (ending[0], *self._end_of_user(user, ending, everywhere, deleted))
            for user, ending in by_user(sessions).items()
        ]

    def end_user(
        self, user: str, ended: list[str] | None = None
    ) -> list[tuple[UserSession, int, OAuthTokenSet | None]]:
        """End all sessions of a user.

        Tokens that earlier work has left without a session are removed and revoked too.

        Args:
            user: The user's ID.
            ended: As for :meth:`end`.

        Returns:
            As for :meth:`end`. An empty list if this process can read none of the user's sessions; those that
            it cannot read then stay.

        Raises:
            StoreUnavailable: The store is down; a repeated call finishes the work.
        """
        results = self.end(self.accounts.store.list_user_sessions(user), everywhere=True, ended=ended)
        self._end_tokens(user)
        return results

    def end_refused(
        self, session: UserSession, refused: OAuthTokenSet | None, ended: list[UserSession]
    ) -> None:
        """End the sessions of a grant that the provider has ended, and remove its tokens.

        The session of the request ends after all others, so that a repeated request finishes the work.
        Sessions of the user's other sign-ins stay.

        Args:
            session: The session of the request.
            refused: The tokens that the provider refused; None if they are gone.
            ended: Receives each session as it ends.

        Raises:
            StoreUnavailable: The store is down.
        """
        account = session.account
        # A later sign-in may have replaced the tokens while this request waited.
        if refused is None or self.accounts.tokens.load(account) not in (None, refused):
            return
        grant = refused.grant.grant_id if refused.grant else None
        found = [
            each for each in self.accounts.of_account(session) if each.grant and each.grant.grant_id == grant
        ]
        with self.accounts.replicated():
            self._end_last(session, found, ended)
            try:
                self.accounts.tokens.discard(account, refused)
            except StoreUnavailable as error:  # no session uses them any more
                _logger.warning("refused tokens stay stored until their user signs in again: %s", error)

    def end_not_admitted(
        self,
        session: UserSession,
        reviewed: OAuthTokenSet,
        found: list[UserSession],
        ended: list[UserSession],
    ) -> TakenTokens:
        """End the sessions of a user that the access rules do not admit any more.

        The tokens are removed first, and the session of the request ends last. A later sign-in of the user
        was admitted, so that nothing happens if its tokens are stored by now.

        Args:
            session: The session of the request.
            reviewed: The tokens that brought the claims.
            found: The result of :meth:`of_grant` before the call.
            ended: Receives each session as it ends.

        Returns:
            The removed tokens, which the caller revokes.

        Raises:
            StoreUnavailable: The store is down; :meth:`end_interrupted` finishes the work.
        """
        account = session.account

        def is_same(stored: StoredTokens) -> bool:
            return stored.tokens.grant == reviewed.grant

        provider = self.accounts.providers.of_session(session)
        try:
            with self.accounts.replicated():
                self.ending.note(account, found)
                taken = take(provider, self.accounts.tokens, account, is_last=is_same)
                if taken.tokens is not None and not taken.removed:
                    self.ending.forget(account)
                else:
                    self._end_last(session, found, ended)
        except StoreUnavailable:
            self.accounts.tokens.revocations.postponed()
            raise
        return taken

    def end_interrupted(self, session: UserSession, ended: list[UserSession]) -> bool:
        """Finish the work of :meth:`end_not_admitted` if it was interrupted.

        Args:
            session: The session of the request.
            ended: Receives each session as it ends.

        Returns:
            Whether the session of the request was one of those that had to end.

        Raises:
            StoreUnavailable: The store is down; a repeated call finishes the work.
        """
        ids = self.ending.of(session.account)
        if session.session_id not in ids:
            return False
        with self.accounts.replicated():
            found = self.accounts.of_account(session)
            self._end_last(session, [each for each in found if each.session_id in ids], ended)
        return True

    def end_grant(self, name: str, account: str, tokens: OAuthTokenSet, by_provider: bool = False) -> None:
        """Remove and revoke the tokens of a sign-in, if no session needs them.

        Args:
            name: The provider's name on this site; empty for the only one.
            account: The account.
            tokens: The tokens of the sign-in.
            by_provider: Whether the provider has ended the sign-in. Tokens for ``offline_access`` then stay,
                as :meth:`end_at_provider` describes.

        Raises:
            StoreUnavailable: The store is down.
        """
        provider = self.accounts.providers.named(name)

        def is_last(stored: StoredTokens) -> bool:
            if stored.tokens.grant != tokens.grant or (by_provider and _is_for_jobs(provider, stored.tokens)):
                return False
            return not self.accounts.need(account, stored.tokens, stored.owner)

        taken = take(provider, self.accounts.tokens, account, is_last=is_last)
        revoke_taken(provider, self.accounts.tokens, account, taken)

    def _end_of_user(
        self,
        user: str,
        ending: list[UserSession],
        everywhere: bool,
        deleted: list[str],
        keeps: Callable[[OAuthTokenSet], bool] = lambda tokens: False,
    ) -> tuple[int, OAuthTokenSet | None]:
        first = ending[0].account
        ids = [session.session_id for session in ending]
        found = self.accounts.store.list_user_sessions(user) if everywhere else []
        accounts = dict.fromkeys(each.account for each in (*ending, *found) if has_account(each))
        owned = self.accounts.owned(user, accounts, everywhere)
        if everywhere:
            unlinked = [each for account in owned for each in self.accounts.unlinked(user, account)]
            # The sessions of the request end last. As long as they exist, a repeated request finishes the
            # work.
            others = [*self.accounts.others(user, ending, found), *(each.session_id for each in unlinked)]
            ids, ending = [*others, *ids], [*ending, *found, *unlinked]
        accounts |= dict.fromkeys(owned)
        parts = [self._part(account, user, ending, ids, keeps) for account in accounts]
        looked: list[list[TakenTokens]] = []
        try:
            looked += [[part.take()] for part in parts]
            ended = sum(self._delete(session_id, deleted) for session_id in ids)
            # Look again: if two sessions end at the same moment, each sees the other at first.
            for part, taken in zip(parts, looked, strict=True):
                taken.append(part.take())
            removed = [self._kept(part, taken, ids) for part, taken in zip(parts, looked, strict=True)]
        except StoreUnavailable:
            self.accounts.tokens.revocations.postponed()
            raise
        for part, taken, gone in zip(parts, looked, removed, strict=True):
            for tokens in gone or taken[:1]:
                self.revoke(part.provider, part.account, tokens)
        of_first = (
            taken
            for account, each in zip(accounts, looked, strict=True)
            if account == first
            for taken in each
        )
        return ended, next((each.tokens for each in of_first if each.tokens and not each.foreign), None)

    def _delete(self, session_id: str, deleted: list[str]) -> bool:
        """Delete a session; note its ID and return True if there was one."""
        was = self.accounts.store.delete_session(session_id)
        if was:
            deleted.append(session_id)
        return was

    def _end_tokens(self, user: str) -> None:
        """Remove and revoke the tokens of a user that no session needs."""
        tokens = self.accounts.tokens
        owned = [each for each in self.accounts.owned(user, (), everywhere=True) if tokens.load(each)]
        parts = [self._part(account, user, (), ()) for account in owned]
        try:
            gone = [self._kept(part, [part.take()], ()) for part in parts]
        except StoreUnavailable:
            tokens.revocations.postponed()
            raise
        for part, removed in zip(parts, gone, strict=True):
            for taken in removed:
                self.revoke(part.provider, part.account, taken)

    def revoke(self, provider: OAuthProvider | None, account: str, taken: TakenTokens) -> None:
        """Revoke removed tokens, or leave that to the workers of the site.

        Args:
            provider: The provider that issued the tokens; None if the site has it no longer.
            account: The account.
            taken: The removed tokens. Without any, an interrupted earlier sign-out is finished.

        Raises:
            StoreUnavailable: The store is down; the workers finish the work later.
        """
        if self.revoke_later:
            revoke_later(self.accounts.tokens, taken)
        else:
            revoke_taken(provider, self.accounts.tokens, account, taken)
        self.settled(account, taken.removed)

    def _part(
        self,
        account: str,
        user: str,
        ending: Iterable[UserSession],
        ids: Collection[str],
        keeps: Callable[[OAuthTokenSet], bool] = lambda tokens: False,
    ) -> _AccountEnding:
        """Return how the tokens of one account are removed.

        Args:
            account: The account.
            user: The user.
            ending: The user's sessions.
            ids: The IDs of those that end.
            keeps: Whether tokens stay although no session needs them.
        """
        own = [session for session in ending if session.account == account]
        provider = self.accounts.provider_of(account, own)
        grants = {session.grant.grant_id for session in own if session.grant and session.session_id in ids}

        def is_last(stored: StoredTokens) -> bool:
            tokens, held = stored.tokens, stored.held_until > time.time()
            if held and (tokens.grant is None or tokens.grant.grant_id not in grants):
                return False  # a login in another browser may be about to create its session
            if not self.accounts.need(account, tokens, stored.owner, ids, user) and not keeps(tokens):
                return True
            if held:  # its session ends now, so that the hold must not outlive the other sessions
                self.accounts.tokens.settle(account, tokens)
            return False

        def taken() -> TakenTokens:
            return take(
                provider,
                self.accounts.tokens,
                account,
                foreign=True,
                leave_to_others=self.leave_to_site,
                is_last=is_last,
            )

        return _AccountEnding(account, user, provider, taken)

    def _kept(
        self, part: _AccountEnding, looked: Iterable[TakenTokens], ids: Collection[str]
    ) -> list[TakenTokens]:
        """Return the removed tokens of an account, without those that another session needs again."""
        removed = [tokens for tokens in looked if tokens.removed]
        # A login may have created its session after the first look, and rely on these tokens.
        last = removed[-1] if removed else TakenTokens()
        if (
            last.tokens
            and self.accounts.need(part.account, last.tokens, last.owner, ids, part.user)
            and self._give_back(part.account, last)
        ):
            removed[-1] = part.take()
        return removed

    def _give_back(self, account: str, taken: TakenTokens) -> bool:
        """Store removed tokens again, unless others are stored.

        Returns:
            Whether they must not be revoked: they are stored, or a later sign-in superseded them.
        """
        if taken.tokens is None:
            return False
        self.accounts.tokens.settle(account, taken.tokens, taken.owner)
        stored = self.accounts.tokens.load(account)
        if stored is None or is_earlier(stored, taken.tokens):
            return False
        if taken.revocation is not None:
            self.accounts.tokens.revocations.remove(taken.revocation)
        return True

    def _end_last(self, own: UserSession, found: list[UserSession], ended: list[UserSession]) -> None:
        """End sessions, the session of the request after all others."""
        for each in sorted(found, key=lambda each: each.session_id == own.session_id):
            if self.accounts.store.delete_session(each.session_id):
                ended.append(each)


def by_user(sessions: Iterable[UserSession]) -> dict[str, list[UserSession]]:
    """Return sessions by their user's ID.

    Args:
        sessions: The sessions.
    """
    found: dict[str, list[UserSession]] = {}
    for session in sessions:
        found.setdefault(session.user_id, []).append(session)
    return found


def _is_for_jobs(provider: OAuthProvider, tokens: OAuthTokenSet) -> bool:
    """Return whether a user has allowed the site to use tokens while no session exists (OIDC Core §11)."""
    return provider.issued_to_this_client(tokens) and provider.grants(tokens, "offline_access")
