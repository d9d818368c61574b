"""Begins and ends sessions, and revokes tokens with the last.

The tokens of a sign-in are stored before its session, so that no session begins without tokens. A sign-out
removes the tokens first and the session last, so that a repeated sign-out finishes an interrupted one.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pywry_auth.deploy.granted_scopes import ASKED
from pywry_auth.exceptions import AuthenticationError, StoreUnavailable
from pywry_auth.flow.access_review import given_roles
from pywry_auth.flow.refresh import store_unsaved
from pywry_auth.flow.revocation import is_earlier, retry_revocations, revoked_on_failure
from pywry_auth.flow.sign_out import revoke_taken, take
from pywry_auth.flow.subject import Subject, completed_profile, qualified_user_id
from pywry_auth.state.ending_sessions import EndingSessions
from pywry_auth.state.session_record import given_member, united

if TYPE_CHECKING:
    from pywry_auth.deploy.current import CurrentSessions
    from pywry_auth.deploy.options import DeployOptions
    from pywry_auth.deploy.providers import Providers
    from pywry_auth.flow.sign_out import TakenTokens
    from pywry_auth.models import AuthFlowResult, Grant, OAuthTokenSet, UserSession
    from pywry_auth.providers.base import OAuthProvider
    from pywry_auth.state.browsers import BrowserSessions
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
class SessionLifecycle:
    """Begins and ends sessions.

    Args:
        providers: The site's providers.
        tokens: The store of users' OAuth tokens.
        sessions: The store of sessions, and the cookie with a session's token.
        browsers: The sessions that each browser was given.
        options: The site's options.
    """

    providers: Providers
    tokens: TokenStore
    sessions: CurrentSessions
    browsers: BrowserSessions
    options: DeployOptions

    @property
    def ending(self) -> EndingSessions:
        """The sessions of users that are not admitted any more."""
        return EndingSessions(self.sessions.store.backend)

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
        """
        user = qualified_user_id(name, result.user_id)
        signer = self.sessions.cookie.signer
        value = signer.new()
        session_id = signer.digest(value) or ""
        tokens = self._on_this_site(name, result.tokens)
        with revoked_on_failure(self.providers.named(name), tokens, self.tokens.revocations, user):
            given = self._given_roles(name, result)
            earlier = self.browsers.add(client.binding, session_id, client.sessions)
            self.tokens.save(user, tokens, hold=_HOLD_SECONDS)
        try:
            session = self.sessions.store.create_session(
                session_id,
                user,
                roles=united(given),
                ttl=self.options.session_ttl,
                idle_ttl=self.options.idle_ttl or None,
                metadata={"user_info": result.user_info}
                | given_member(given)
                | ({"provider": name} if name else {})
                | ({ASKED: list(asked)} if asked else {}),
                grant=tokens.grant,
                browser=client.browser,
                network=client.network,
            )
        except AuthenticationError:
            self._abandon(name, user, session_id, tokens)
            raise
        self._end_earlier(earlier)
        ended = self._end_oldest(user)
        return Begun(value if self._settle(name, session, tokens) else None, session, tuple(ended))

    def end(
        self, sessions: Iterable[UserSession], everywhere: bool = False
    ) -> list[tuple[UserSession, int, OAuthTokenSet | None]]:
        """End sessions.

        A user's tokens are removed and revoked with the user's last session.

        Args:
            sessions: The sessions, of one or several users.
            everywhere: Whether to end all sessions of these users.

        Returns:
            For each user: one of the sessions, how many ended, and the user's tokens.

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
        user, store = session.user_id, self.sessions.store
        # A later sign-in may have replaced the tokens while this request waited.
        if refused is None or self.tokens.load(user) not in (None, refused):
            return []
        grant = refused.grant.grant_id if refused.grant else None
        found = [
            each for each in store.list_user_sessions(user) if each.grant and each.grant.grant_id == grant
        ]
        ids = {each.session_id: each for each in found}
        own = ids.pop(session.session_id, None)
        ended = [each for each in (*ids.values(), own) if each and store.delete_session(each.session_id)]
        try:
            self.tokens.discard(user, refused)
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
        user = session.user_id

        def is_same(stored: OAuthTokenSet, held: bool) -> bool:
            return stored.grant == reviewed.grant

        self.ending.note(user, found)
        try:
            taken = take(self.providers.of_session(session), self.tokens, user, is_last=is_same)
            if taken.tokens is not None and not taken.removed:
                self.ending.forget(user)
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
        ids = self.ending.of(session.user_id)
        if session.session_id not in ids:
            return False
        found = self.sessions.store.list_user_sessions(session.user_id)
        self._end_last(session, [each for each in found if each.session_id in ids], ended)
        return True

    def _end_last(self, own: UserSession, found: list[UserSession], ended: list[UserSession]) -> None:
        """End sessions, the session of the request after all others."""
        for each in sorted(found, key=lambda each: each.session_id == own.session_id):
            if self.sessions.store.delete_session(each.session_id):
                ended.append(each)

    def of_grant(self, user: str, tokens: OAuthTokenSet) -> list[UserSession]:
        """Return a user's sessions that the claims of a token set concern.

        They are those of its own sign-in, and of others with the same client, whose tokens it superseded. The
        caller checks afterwards that the set is still stored: if so, no session is one of a later sign-in,
        which stores its tokens before its session. The clocks of several machines could not tell.

        Args:
            user: The user's ID.
            tokens: The token set.
        """
        found = self.sessions.store.list_user_sessions(user) if tokens.grant else []
        return [each for each in found if each.grant and not _is_of_other_client(each, tokens)]

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

    def _given_roles(self, name: str, result: AuthFlowResult) -> dict[str, list[str]]:
        """Return the roles that each rule gives a user who may sign in."""
        rules, tokens = self.options.rules, result.tokens
        profile = completed_profile(result.user_info, tokens.id_token_claims)
        email = rules.email_of(self.providers.named(name), profile, tokens.access_token)
        subject = Subject(profile, email, name)
        rules.require_admitted(subject)
        rules.roles_of(subject)  # logs the roles that a rule withheld
        return given_roles(rules, subject)

    def _abandon(self, name: str, user: str, session_id: str, tokens: OAuthTokenSet) -> None:
        """Undo a login that has no session because the store failed.

        If the store is still down, the tokens stay stored under their user.
        """
        try:
            self.sessions.store.delete_session(session_id)
            self.tokens.settle(user, tokens)
            self._end_grant(name, user, tokens)
        except StoreUnavailable as error:
            _logger.warning("a login that failed could not be undone: %s", error)

    def _settle(self, name: str, session: UserSession, tokens: OAuthTokenSet) -> bool:
        """Make sure that a new session has tokens, and that neither exists without the other.

        Returns:
            Whether the session still exists.
        """
        user = session.user_id
        try:
            self.tokens.settle(user, tokens)
            if self.sessions.store.validate_session(session.session_id):
                return True
            self._end_grant(name, user, tokens)
        except StoreUnavailable as error:
            _logger.warning("a finished login could not be settled; its tokens may stay held: %s", error)
            return True
        return False

    def _end_grant(self, name: str, user: str, tokens: OAuthTokenSet) -> None:
        """Remove and revoke the tokens of a sign-in, if its user has no session."""

        def is_last(stored: OAuthTokenSet, held: bool) -> bool:
            return stored.grant == tokens.grant and not self._needed(user, stored)

        provider = self.providers.named(name)
        taken = take(provider, self.tokens, user, is_last=is_last)
        revoke_taken(provider, self.tokens, user, taken)

    def _end_earlier(self, session_ids: Iterable[str]) -> None:
        """End the browser's earlier sessions.

        A failure is not reported: the next sign-in or sign-out of this browser ends them.
        """
        try:
            found = [self.sessions.store.get_session(session_id) for session_id in session_ids]
            self.end(session for session in found if session is not None)
        except StoreUnavailable as error:
            _logger.warning("a browser's earlier session could not be ended: %s", error)

    def _end_oldest(self, user: str) -> list[UserSession]:
        """End a user's oldest sign-ins beyond the limit, and return them.

        Each login does this after it created its session. Of logins that run at the same time, the last one
        to look sees all sessions, so that the limit holds afterwards. All of them keep the same newest
        sessions, which need the tokens. A failure is not reported: the user's next sign-in ends the sessions.
        """
        store, ended = self.sessions.store, []
        try:
            for session in store.sign_ins_beyond(user, self.options.sessions_per_user):
                if store.delete_session(session.session_id):
                    ended.append(session)
        except StoreUnavailable as error:
            _logger.warning("a user's oldest session could not be ended: %s", error)
        return ended

    def _end_of_user(
        self, user: str, ending: list[UserSession], everywhere: bool
    ) -> tuple[int, OAuthTokenSet | None]:
        store = self.sessions.store
        provider = self._provider_of(user, ending)
        ids = [session.session_id for session in ending]
        if everywhere:
            found = store.list_user_sessions(user)
            # The sessions of the request end last. As long as they exist, a repeated request finishes the
            # work.
            ids, ending = [*self._others(user, ending, found), *ids], [*ending, *found]
        grants = {session.grant.grant_id for session in ending if session.grant and session.session_id in ids}

        def is_last(tokens: OAuthTokenSet, held: bool) -> bool:
            # A login in another browser may be about to create its session.
            needed = held and (tokens.grant is None or tokens.grant.grant_id not in grants)
            return not needed and not self._needed(user, tokens, ids)

        def taken() -> TakenTokens:
            return take(provider, self.tokens, user, foreign=True, is_last=is_last)

        looked = [taken()]
        try:
            ended = sum(store.delete_session(session_id) for session_id in ids)
            # Look again: if two sessions end at the same moment, each sees the other at first.
            looked.append(taken())
            removed = [tokens for tokens in looked if tokens.removed]
            # A login may have created its session after the first look, and rely on these tokens.
            last = removed[-1].tokens if removed else None
            if last and self._needed(user, last, ids) and self._give_back(user, removed[-1]):
                removed[-1] = taken()
        except StoreUnavailable:
            self.tokens.revocations.postponed()
            raise
        for tokens in removed:
            revoke_taken(provider, self.tokens, user, tokens)
        if not removed:
            revoke_taken(provider, self.tokens, user, looked[0])
        return ended, next((each.tokens for each in looked if each.tokens and not each.foreign), None)

    def _provider_of(self, user: str, ending: Iterable[UserSession]) -> OAuthProvider | None:
        """Return the provider of sessions that end, or of the user's tokens if the site has it no longer."""
        for provider in map(self.providers.of_session, ending):
            if provider is not None:
                return provider
        stored = self.tokens.load(user)
        return None if stored is None else self.providers.issuer_of(stored)

    def _others(self, user: str, ending: list[UserSession], found: Iterable[UserSession]) -> list[str]:
        """Return the IDs of a user's other sessions, without those of a person at another provider."""
        kept = {each.session_id for each in (*found, *ending) if _is_of_other_client(each, ending[0].grant)}
        kept.update(each.session_id for each in ending)
        return [each for each in self.sessions.store.session_ids(user) if each not in kept]

    def _needed(self, user: str, tokens: OAuthTokenSet, ending: Collection[str] = ()) -> bool:
        """Return whether a session other than those that end needs a token set.

        After a change of the provider, two people can have the same user ID. Neither needs the tokens of the
        other one's sign-in. A session that this process cannot read may need them.
        """
        store = self.sessions.store
        left = set(store.session_ids(user)).difference(ending)
        if not left:
            return False
        found = store.list_user_sessions(user)
        return not left.issubset(each.session_id for each in found if _is_of_other_client(each, tokens))

    def _give_back(self, user: str, taken: TakenTokens) -> bool:
        """Store removed tokens again, unless others are stored.

        Returns:
            Whether they must not be revoked: they are stored, or a later sign-in superseded them.
        """
        if taken.tokens is None:
            return False
        self.tokens.settle(user, taken.tokens)
        stored = self.tokens.load(user)
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
