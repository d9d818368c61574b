"""Begins and ends sessions, and revokes tokens with the last.

The tokens of a sign-in are stored before its session, so that no session begins without tokens. A sign-out
removes the tokens first and the session last, so that a repeated sign-out finishes an interrupted one.

Tokens are stored under the user's account, the ID at the provider. Sessions belong to the user's ID on the
site. The two differ if the site's hook gives users IDs of its own: one user can then have several accounts.
The owner of an account is the user of its last sign-in, and is recorded with the tokens. They are needed by
the sessions of the account and by all sessions of its owner.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pywry_auth.deploy.granted_scopes import ASKED
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError, StoreUnavailable
from pywry_auth.flow.access_review import given_roles
from pywry_auth.flow.refresh import store_unsaved
from pywry_auth.flow.revocation import is_earlier, retry_revocations, revoked_on_failure
from pywry_auth.flow.sign_in_hook import Admission, SignInAttempt, decided
from pywry_auth.flow.sign_out import TakenTokens, revoke_taken, take
from pywry_auth.flow.subject import Subject, canonical_email, completed_profile, qualified_user_id
from pywry_auth.state.ending_sessions import EndingSessions
from pywry_auth.state.linked_users import LinkedUsers
from pywry_auth.state.session_record import given_member, has_account, united

if TYPE_CHECKING:
    from pywry_auth.deploy.current import CurrentSessions
    from pywry_auth.deploy.options import DeployOptions
    from pywry_auth.deploy.providers import Providers
    from pywry_auth.flow.sign_in_hook import SignInHook
    from pywry_auth.models import AuthFlowResult, Grant, OAuthTokenSet, UserSession
    from pywry_auth.providers.base import OAuthProvider
    from pywry_auth.state.browsers import BrowserSessions
    from pywry_auth.state.token_record import StoredTokens
    from pywry_auth.state.tokens import TokenStore

_logger = logging.getLogger("pywry_auth.deploy")

_LONGEST_URL = 2000
"""Characters that every browser, proxy and server accepts in a URL."""

_HOLD_SECONDS = 60.0
"""How long a login may take between storing its tokens and creating its session."""


@dataclass(frozen=True)
class Client:
    """The browser that finished a sign-in.

    Args:
        binding: The digest of the cookie that binds logins to the browser.
        sessions: IDs of the sessions that the browser sent cookies of.
        browser: The browser and its platform, for people.
        network: The IPv4 address or IPv6 network.
    """

    binding: str
    sessions: Collection[str] = ()
    browser: str = ""
    network: str = ""


@dataclass(frozen=True)
class Begun:
    """A session that a sign-in began.

    Args:
        value: The cookie's value. None if the session has ended already, because another tab of the browser
            signed in: that tab's response has the cookie.
        session: The session.
        ended: The user's oldest sessions, which ended because the user had too many.
    """

    value: str | None
    session: UserSession
    ended: tuple[UserSession, ...] = ()


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
class SessionLifecycle:
    """Begins and ends sessions.

    Args:
        providers: The site's providers.
        tokens: The store of users' OAuth tokens.
        sessions: The store of sessions, and the cookie with a session's token.
        browsers: The sessions that each browser was given.
        options: The site's options.
        hook: The site's own decision about each sign-in; None for none.
    """

    providers: Providers
    tokens: TokenStore
    sessions: CurrentSessions
    browsers: BrowserSessions
    options: DeployOptions
    hook: SignInHook | None = None

    @property
    def ending(self) -> EndingSessions:
        """The sessions of accounts that are not admitted any more."""
        return EndingSessions(self.sessions.store.backend)

    @property
    def linked(self) -> LinkedUsers:
        """The user IDs of each account."""
        return LinkedUsers(self.sessions.store.backend)

    def decided_by(self, provider: OAuthProvider, tokens: OAuthTokenSet) -> bool:
        """Return whether a sign-in can do without the profile.

        The site's hook may read anything in it.

        Args:
            provider: The provider that the user signed in at.
            tokens: The tokens of the sign-in, with the validated claims.
        """
        return self.hook is None and self.options.rules.decided_by(provider, tokens)

    def begin(self, name: str, result: AuthFlowResult, client: Client, asked: Collection[str] = ()) -> Begun:
        """Create a session, and end earlier ones.

        They are the browser's own, and the user's oldest ones beyond ``SESSIONS_PER_USER``.

        Args:
            name: Name of the provider; empty for the only one.
            result: The finished sign-in. Its tokens are revoked if the user may not sign in here.
            client: The browser.
            asked: The scopes that the request had in addition to the provider's own.

        Raises:
            AuthenticationError: The user may not sign in here (``access_denied``), or the provider did not
                send the e-mail address that the site's rules need.
            StoreUnavailable: The store is down.
            Exception: Any exception of the site's hook.
        """
        account = qualified_user_id(name, result.user_id)
        signer = self.sessions.cookie.signer
        value = signer.new()
        session_id = signer.digest(value) or ""
        tokens = self._on_this_site(name, result.tokens)
        with revoked_on_failure(self.providers.named(name), tokens, self.tokens.revocations, account):
            admitted = self._admitted(name, account, result, tokens)
            user, given = admitted.user_id, admitted.given
            earlier = self.browsers.add(client.binding, session_id, client.sessions)
            # If a later sign-in is stored already, its user stays the owner too.
            self.tokens.save(account, tokens, hold=_HOLD_SECONDS, owner=user)
        try:
            session = self.sessions.store.create_session(
                session_id,
                user,
                roles=united(given),
                ttl=self.options.session_ttl,
                idle_ttl=self.options.idle_ttl or None,
                metadata={"user_info": result.user_info}
                | admitted.metadata
                | given_member(given)
                | ({"provider": name} if name else {})
                | ({ASKED: list(asked)} if asked else {}),
                grant=tokens.grant,
                browser=client.browser,
                network=client.network,
                account=account,
            )
        except AuthenticationError:
            self._abandon(name, account, user, session_id, tokens)
            raise
        self._keep_other_accounts(session)
        self._end_earlier(earlier)
        ended = self._end_oldest(session)
        return Begun(value if self._settle(name, session, tokens) else None, session, tuple(ended))

    def end(
        self, sessions: Iterable[UserSession], everywhere: bool = False
    ) -> list[tuple[UserSession, int, OAuthTokenSet | None]]:
        """End sessions.

        Tokens are removed and revoked with the last session of their account and of its owner.

        Args:
            sessions: The sessions, of one or several users.
            everywhere: Whether to end all sessions of these users, also those of their accounts from before
                the site gave the users IDs of its own.

        Returns:
            For each user: one of the sessions, how many ended, and the tokens of that session's account.

        Raises:
            StoreUnavailable: The store is down; a repeated call finishes the work.
        """
        by_user: dict[str, list[UserSession]] = {}
        for session in sessions:
            by_user.setdefault(session.user_id, []).append(session)
        return [(ending[0], *self._end_of_user(user, ending, everywhere)) for user, ending in by_user.items()]

    def end_refused(self, session: UserSession, refused: OAuthTokenSet | None) -> list[UserSession]:
        """End the sessions of a grant that the provider has ended, and remove its tokens.

        The session of the request ends after all others, so that a repeated request finishes the work.
        Sessions of the user's other sign-ins stay.

        Args:
            session: The session of the request.
            refused: The tokens that the provider refused; None if they are gone.

        Returns:
            The sessions that ended.

        Raises:
            StoreUnavailable: The store is down.
        """
        account, store = session.account, self.sessions.store
        # A later sign-in may have replaced the tokens while this request waited.
        if refused is None or self.tokens.load(account) not in (None, refused):
            return []
        grant = refused.grant.grant_id if refused.grant else None
        found = [each for each in self.of_account(session) if each.grant and each.grant.grant_id == grant]
        ids = {each.session_id: each for each in found}
        own = ids.pop(session.session_id, None)
        ended = [each for each in (*ids.values(), own) if each and store.delete_session(each.session_id)]
        try:
            self.tokens.discard(account, refused)
        except StoreUnavailable as error:  # no session uses them any more
            _logger.warning("refused tokens stay stored until their user signs in again: %s", error)
        return ended

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

        self.ending.note(account, found)
        try:
            taken = take(self.providers.of_session(session), self.tokens, account, is_last=is_same)
            if taken.tokens is not None and not taken.removed:
                self.ending.forget(account)
            else:
                self._end_last(session, found, ended)
        except StoreUnavailable:
            self.tokens.revocations.postponed()
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
        found = self.of_account(session)
        self._end_last(session, [each for each in found if each.session_id in ids], ended)
        return True

    def _end_last(self, own: UserSession, found: list[UserSession], ended: list[UserSession]) -> None:
        """End sessions, the session of the request after all others."""
        for each in sorted(found, key=lambda each: each.session_id == own.session_id):
            if self.sessions.store.delete_session(each.session_id):
                ended.append(each)

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

    def of_account(self, session: UserSession) -> list[UserSession]:
        """Return all sessions of a session's account, under each user ID.

        Args:
            session: A session of the account.

        Raises:
            StoreUnavailable: The store is down.
        """
        account, store = session.account, self.sessions.store
        users = self._users_of(account, session.user_id)
        return [each for user in users for each in store.list_user_sessions(user) if each.account == account]

    def unknown_to(self, browsers: Iterable[str], sessions: Iterable[UserSession]) -> list[UserSession]:
        """Return live sessions that a browser was given but does not know.

        The response to a sign-in was lost, or two tabs finished a sign-in at the same moment.

        Args:
            browsers: Digests of the cookies that bind logins to a browser.
            sessions: The sessions that the cookies name.

        Raises:
            StoreUnavailable: The store is down.
        """
        ids = {session_id: None for browser in browsers for session_id in self.browsers.of(browser)}
        known = {session.session_id for session in sessions}
        found = (self.sessions.store.get_session(session_id) for session_id in ids if session_id not in known)
        return [session for session in found if session is not None]

    def logout_url(self, session: UserSession, id_token: str | None, return_to: str) -> str | None:
        """Return the URL of the provider's own sign-out, if any.

        Args:
            session: The session that ended.
            id_token: The user's ID token, which the URL contains unless it becomes too long; None for a
                client that must not see it.
            return_to: URL that follows the sign-out.
        """
        provider = self.providers.of_session(session)
        if provider is None:
            return None
        try:
            url = provider.end_session_url(id_token_hint=id_token, post_logout_redirect_uri=return_to)
            if url is None or len(url) <= _LONGEST_URL:
                return url
            return provider.end_session_url(post_logout_redirect_uri=return_to)
        except AuthenticationError as error:  # the user is signed out of this site in any case
            _logger.warning("the provider's sign-out URL could not be obtained: %s", error)
            return None

    def finish_work(self) -> float | None:
        """Store fresh tokens that an outage left in this process, and try due revocations again.

        Returns:
            Unix time in seconds of the next attempt; None if no work is left.

        Raises:
            StoreUnavailable: The store is down.
        """
        for key in self.tokens.unsaved.users():
            store_unsaved(self.providers.issuer_of, self.tokens, key)
        retry_revocations(self.tokens, self.providers.issuer_of)
        return self.tokens.revocations.next_due(lambda tokens: self.providers.issuer_of(tokens) is not None)

    def _on_this_site(self, name: str, tokens: OAuthTokenSet) -> OAuthTokenSet:
        if tokens.grant is None:
            return tokens
        return replace(tokens, grant=replace(tokens.grant, provider=self.providers.label(name)))

    def _admitted(self, name: str, account: str, result: AuthFlowResult, tokens: OAuthTokenSet) -> Admission:
        """Return a user who may sign in, with the roles that each rule gives."""
        rules, provider = self.options.rules, self.providers.named(name)
        profile = completed_profile(result.user_info, tokens.id_token_claims)
        subject = Subject(profile, rules.email_of(provider, profile, tokens.access_token), name)
        rules.require_admitted(subject)
        rules.roles_of(subject)  # logs the roles that a rule withheld
        admission = Admission(account, given_roles(rules, subject))
        if self.hook is None:
            return admission
        attempt = SignInAttempt(
            account,
            result.user_info,
            tokens.id_token_claims,
            self.providers.label(name),
            self._verified_email(provider, subject, tokens),
            united(admission.given),
            tokens,
        )
        return decided(self.hook, attempt, admission)

    def _verified_email(self, provider: OAuthProvider, subject: Subject, tokens: OAuthTokenSet) -> str | None:
        """Return the address for the site's hook, also if no rule needs one."""
        if self.options.rules.need_email and not self.options.rules.trust_unverified_email:
            return subject.email
        try:
            return canonical_email(provider.verified_email(subject.profile, tokens.access_token))
        except AuthenticationError as error:
            _logger.warning("%s: a login failed without the address for on_sign_in: %s", provider.name, error)
            raise AuthenticationError(
                "The provider did not send your e-mail address: try again in a moment.",
                error=ErrorCode.PROVIDER_UNREACHABLE,
            ) from error

    def _abandon(self, name: str, account: str, user: str, session_id: str, tokens: OAuthTokenSet) -> None:
        """Undo a login that has no session because the store failed.

        If the store is still down, the tokens stay stored under their user.
        """
        try:
            self.sessions.store.delete_session(session_id)
            self.tokens.settle(account, tokens, user)
            self._end_grant(name, account, tokens)
        except StoreUnavailable as error:
            _logger.warning("a login that failed could not be undone: %s", error)

    def _settle(self, name: str, session: UserSession, tokens: OAuthTokenSet) -> bool:
        """Make sure that a new session has tokens, and that neither exists without the other.

        Returns:
            Whether the session still exists.
        """
        account = session.account
        try:
            self.tokens.settle(account, tokens, session.user_id)
            if self.sessions.store.validate_session(session.session_id):
                return True
            self._end_grant(name, account, tokens)
        except StoreUnavailable as error:
            _logger.warning("a finished login could not be settled; its tokens may stay held: %s", error)
            return True
        return False

    def _end_grant(self, name: str, account: str, tokens: OAuthTokenSet) -> None:
        """Remove and revoke the tokens of a sign-in, if no session needs them."""

        def is_last(stored: StoredTokens) -> bool:
            return stored.tokens.grant == tokens.grant and not self._needed(
                account, stored.tokens, stored.owner
            )

        provider = self.providers.named(name)
        taken = take(provider, self.tokens, account, is_last=is_last)
        revoke_taken(provider, self.tokens, account, taken)

    def _keep_other_accounts(self, begun: UserSession) -> None:
        """Keep the tokens of the user's other accounts as long as the new session, which needs them too."""
        if self.hook is None:
            return
        try:
            self.tokens.keep_accounts_until(begun.user_id, begun.expires_at, but=begun.account)
        except StoreUnavailable as error:
            _logger.warning("a session may outlive the tokens of its user's other accounts: %s", error)

    def _end_earlier(self, session_ids: Iterable[str]) -> None:
        """End the browser's earlier sessions.

        A failure is not reported: the next sign-in or sign-out of this browser ends them.
        """
        try:
            found = [self.sessions.store.get_session(session_id) for session_id in session_ids]
            self.end(session for session in found if session is not None)
        except StoreUnavailable as error:
            _logger.warning("a browser's earlier session could not be ended: %s", error)

    def _end_oldest(self, begun: UserSession) -> list[UserSession]:
        """End a user's oldest sign-ins beyond the limit, and return them.

        Each login does this after it created its session. Of logins that run at the same time, the last one
        to look sees all sessions, so that the limit holds afterwards. All of them keep the same newest
        sessions, which need the tokens. Those of another account may be its last ones: its tokens end with
        them if the account has another owner by now. A failure is not reported: the user's next sign-in ends
        the sessions.
        """
        store, ended = self.sessions.store, []
        try:
            for session in store.sign_ins_beyond(begun.user_id, self.options.sessions_per_user):
                if session.account != begun.account:
                    ended += [session for _, count, _ in self.end([session]) if count]
                elif store.delete_session(session.session_id):
                    ended.append(session)
        except StoreUnavailable as error:
            _logger.warning("a user's oldest session could not be ended: %s", error)
        return ended

    def _end_of_user(
        self, user: str, ending: list[UserSession], everywhere: bool
    ) -> tuple[int, OAuthTokenSet | None]:
        store, first = self.sessions.store, ending[0].account
        ids = [session.session_id for session in ending]
        found = store.list_user_sessions(user) if everywhere else []
        accounts = dict.fromkeys(each.account for each in (*ending, *found) if has_account(each))
        owned = self._owned(user, accounts, everywhere)
        if everywhere:
            unlinked = [each for account in owned for each in self._unlinked(user, account)]
            # The sessions of the request end last. As long as they exist, a repeated request finishes the
            # work.
            others = [*self._others(user, ending, found), *(each.session_id for each in unlinked)]
            ids, ending = [*others, *ids], [*ending, *found, *unlinked]
        accounts |= dict.fromkeys(owned)
        parts = [self._part(account, user, ending, ids) for account in accounts]
        looked: list[list[TakenTokens]] = []
        try:
            looked += [[part.take()] for part in parts]
            ended = sum(store.delete_session(session_id) for session_id in ids)
            # Look again: if two sessions end at the same moment, each sees the other at first.
            for part, taken in zip(parts, looked, strict=True):
                taken.append(part.take())
            removed = [self._kept(part, taken, ids) for part, taken in zip(parts, looked, strict=True)]
        except StoreUnavailable:
            self.tokens.revocations.postponed()
            raise
        for part, taken, gone in zip(parts, looked, removed, strict=True):
            for tokens in gone or taken[:1]:
                revoke_taken(part.provider, self.tokens, part.account, tokens)
        of_first = (
            taken
            for account, each in zip(accounts, looked, strict=True)
            if account == first
            for taken in each
        )
        return ended, next((each.tokens for each in of_first if each.tokens and not each.foreign), None)

    def _owned(self, user: str, accounts: Collection[str], everywhere: bool) -> list[str]:
        """Return the accounts that belong to a user.

        A site whose users have no other IDs does not look for more than those of the sessions.

        Args:
            user: The user.
            accounts: The accounts of the user's sessions, some of which may belong to another user by now.
            everywhere: Whether all sessions end.
        """
        if not everywhere and self.hook is None and [*accounts] == [user]:
            return []
        found = {each: self.tokens.find(each) for each in (*accounts, *self.tokens.accounts_of(user), user)}
        if accounts and found[user] is None:
            del found[user]
        return [each for each, stored in found.items() if not stored or (stored.owner or each) == user]

    def _unlinked(self, user: str, account: str) -> list[UserSession]:
        """Return the sign-ins with an account from before the site gave its user an ID."""
        found = [] if account == user else self.sessions.store.list_user_sessions(account)
        return [each for each in found if each.account == account and each.grant is not None]

    def _part(
        self, account: str, user: str, ending: Iterable[UserSession], ids: Collection[str]
    ) -> _AccountEnding:
        """Return how the tokens of one account are removed.

        Args:
            account: The account.
            user: The user.
            ending: The user's sessions.
            ids: The IDs of those that end.
        """
        own = [session for session in ending if session.account == account]
        provider = self._provider_of(account, own)
        grants = {session.grant.grant_id for session in own if session.grant and session.session_id in ids}

        def is_last(stored: StoredTokens) -> bool:
            tokens, held = stored.tokens, stored.held_until > time.time()
            if held and (tokens.grant is None or tokens.grant.grant_id not in grants):
                return False  # a login in another browser may be about to create its session
            if not self._needed(account, tokens, stored.owner, ids, user):
                return True
            if held:  # its session ends now, so that the hold must not outlive the other sessions
                self.tokens.settle(account, tokens)
            return False

        def taken() -> TakenTokens:
            return take(provider, self.tokens, account, foreign=True, is_last=is_last)

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
            and self._needed(part.account, last.tokens, last.owner, ids, part.user)
            and self._give_back(part.account, last)
        ):
            removed[-1] = part.take()
        return removed

    def _provider_of(self, account: str, ending: Iterable[UserSession]) -> OAuthProvider | None:
        """Return the provider of sessions that end, or of the stored tokens if the site has it no longer."""
        for provider in map(self.providers.of_session, ending):
            if provider is not None:
                return provider
        stored = self.tokens.load(account)
        return None if stored is None else self.providers.issuer_of(stored)

    def _others(self, user: str, ending: list[UserSession], found: Iterable[UserSession]) -> list[str]:
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
        return [each for each in self.sessions.store.session_ids(user) if each not in kept]

    def _users_of(self, account: str, *users: str) -> Iterator[str]:
        """Yield the user IDs under which an account can have sessions, the likely ones first."""
        known = dict.fromkeys((*filter(None, users), account))
        yield from known
        yield from (each for each in self.linked.of(account) if each not in known)

    def _needed(
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
        store = self.sessions.store
        left = set(store.session_ids(user)).difference(ending)
        if not left:
            return False
        return not left.issubset(each.session_id for each in store.list_user_sessions(user) if is_other(each))

    def _give_back(self, account: str, taken: TakenTokens) -> bool:
        """Store removed tokens again, unless others are stored.

        Returns:
            Whether they must not be revoked: they are stored, or a later sign-in superseded them.
        """
        if taken.tokens is None:
            return False
        self.tokens.settle(account, taken.tokens, taken.owner)
        stored = self.tokens.load(account)
        if stored is None or is_earlier(stored, taken.tokens):
            return False
        if taken.revocation is not None:
            self.tokens.revocations.remove(taken.revocation)
        return True


def _is_of_other_client(session: UserSession, issued: Grant | OAuthTokenSet | None) -> bool:
    """Return whether a session belongs to another issuer or client than a grant or token set."""
    if session.grant is None or issued is None or not issued.client_id:
        return False
    issuers = {session.grant.issuer, issued.issuer} - {""}  # earlier versions did not always record one
    return session.grant.client_id != issued.client_id or len(issuers) > 1
