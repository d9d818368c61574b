"""Begins sessions.

The tokens of a sign-in are stored before its session, so that no session begins without tokens.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pywry_auth.backends.base import UnreadableRecord
from pywry_auth.deploy.abandoned import AbandonedSignIn, AbandonedSignIns
from pywry_auth.deploy.granted_scopes import ASKED
from pywry_auth.deploy.step_up import STEPPED_UP
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError, StoreUnavailable
from pywry_auth.flow.access_review import given_roles
from pywry_auth.flow.refresh import store_unsaved
from pywry_auth.flow.revocation import retry_revocations, revoke, revoked_on_failure
from pywry_auth.flow.sign_in_hook import Admission, SignInAttempt, decided
from pywry_auth.flow.subject import Subject, canonical_email, completed_profile, qualified_user_id
from pywry_auth.measures import happened
from pywry_auth.state.session_record import email_member, given_member, united
from pywry_auth.state.sign_in_index import SignInIndex

if TYPE_CHECKING:
    from pywry_auth.deploy.account_sessions import AccountSessions
    from pywry_auth.deploy.current import CurrentSessions
    from pywry_auth.deploy.options import DeployOptions
    from pywry_auth.deploy.providers import Providers
    from pywry_auth.deploy.session_end import SessionEnd
    from pywry_auth.flow.sign_in_hook import SignInHook
    from pywry_auth.models import AuthFlowResult, OAuthTokenSet, UserSession
    from pywry_auth.providers.base import OAuthProvider
    from pywry_auth.state.browsers import BrowserSessions
    from pywry_auth.state.step_up import StepUp
    from pywry_auth.state.tokens import TokenStore

_logger = logging.getLogger("pywry_auth.deploy")

_ENDED = "The provider has signed you out in the meantime: sign in again."

_LONGEST_URL = 2000
"""Characters that every browser, proxy and server accepts in a URL."""

_ADDRESS_SECONDS = 2.0
"""Time limit of a request for an address that neither a rule nor the hook needs."""

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
    """Begins sessions, and ends those that a new one replaces.

    Args:
        ends: Ends sessions.
        sessions: The store of sessions, and the cookie with a session's token.
        browsers: The sessions that each browser was given.
        options: The site's options.
        hook: The site's own decision about each sign-in; None for none.
        abandoned: The sign-ins that wait to be undone.
    """

    ends: SessionEnd
    sessions: CurrentSessions
    browsers: BrowserSessions
    options: DeployOptions
    hook: SignInHook | None = None
    abandoned: AbandonedSignIns = field(default_factory=AbandonedSignIns)

    @property
    def accounts(self) -> AccountSessions:
        """Finds the sessions of accounts."""
        return self.ends.accounts

    @property
    def providers(self) -> Providers:
        """The site's providers."""
        return self.accounts.providers

    @property
    def tokens(self) -> TokenStore:
        """The store of users' OAuth tokens."""
        return self.accounts.tokens

    def decided_by(self, provider: OAuthProvider, tokens: OAuthTokenSet) -> bool:
        """Return whether a sign-in can do without the profile.

        The site's hook may read anything in it.

        Args:
            provider: The provider that the user signed in at.
            tokens: The tokens of the sign-in, with the validated claims.
        """
        return self.hook is None and self.options.rules.decided_by(provider, tokens)

    def begin(
        self,
        name: str,
        result: AuthFlowResult,
        client: Client,
        at: float,
        asked: Collection[str] = (),
        stepped_up: Sequence[Any] = (),
    ) -> Begun:
        """Create a session, and end earlier ones.

        They are the browser's own, and the user's oldest ones beyond ``SESSIONS_PER_USER``.

        Args:
            name: Name of the provider; empty for the only one.
            result: The finished sign-in. Its tokens are revoked if the user may not sign in here.
            client: The browser.
            at: Unix time in seconds at which the sign-in was begun at this site.
            asked: The scopes that the request had in addition to the provider's own.
            stepped_up: The demands of pages for a recent or a strong sign-in that this one, and those
                shortly before it, were for.

        Raises:
            AuthenticationError: The user may not sign in here (``access_denied``), or the provider did not
                send the e-mail address that the site's rules need, or has signed the user out in the
                meantime (``reauth_required``).
            StoreUnavailable: The store is down, or the sign-in is not known to be safe, see
                :meth:`Backend.replicated`.
            Exception: Any exception of the site's hook.
        """
        account = qualified_user_id(name, result.user_id)
        signer = self.sessions.cookie.signer
        value = signer.new()
        session_id = signer.digest(value) or ""
        tokens = self._on_this_site(name, result.tokens)
        with ExitStack() as replication:
            with revoked_on_failure(self.providers.named(name), tokens, self.tokens.revocations, account):
                admitted = self._admitted(name, account, result, tokens)
                user = admitted.user_id
                replication.enter_context(self.accounts.replicated())
                earlier = self.browsers.add(client.binding, session_id, client.sessions)
                # If a later sign-in is stored already, its user stays the owner too.
                self.tokens.save(account, tokens, hold=_HOLD_SECONDS, owner=user)
            metadata = {"user_info": result.user_info} | _metadata(admitted, name, asked, stepped_up)
            try:
                session = self._created(session_id, account, admitted, tokens, client, metadata)
                self._require_not_ended(tokens, at)
                replication.close()
            except AuthenticationError as error:
                by_provider = error.error == ErrorCode.REAUTH_REQUIRED
                self._abandon(AbandonedSignIn(name, account, user, session_id, tokens, by_provider))
                raise
        self._keep_other_accounts(session)
        self._end_earlier(earlier)
        ended = self._end_oldest(session)
        return Begun(value if self._settle(name, session, tokens) else None, session, tuple(ended))

    def _created(
        self,
        session_id: str,
        account: str,
        admitted: Admission,
        tokens: OAuthTokenSet,
        client: Client,
        metadata: Mapping[str, Any],
    ) -> UserSession:
        return self.sessions.store.create_session(
            session_id,
            admitted.user_id,
            roles=united(admitted.given),
            ttl=self.options.session_ttl,
            idle_ttl=self.options.idle_ttl or None,
            metadata=metadata,
            grant=tokens.grant,
            browser=client.browser,
            network=client.network,
            account=account,
        )

    def give_up(self, name: str, result: AuthFlowResult, step_up: StepUp | None) -> None:
        """Leave out a sign-in that does not satisfy the page that demanded it.

        If its user's session still exists, its tokens replace those of the session, which then ends with
        them. They are dropped if they could not be refreshed and the earlier ones can. Without the session,
        they are revoked.

        Args:
            name: Name of the provider; empty for the only one.
            result: The finished sign-in.
            step_up: The demand of the page, with the session that the sign-in was for; None without one.

        Raises:
            StoreUnavailable: The store is down; the tokens are revoked.
        """
        account, tokens = qualified_user_id(name, result.user_id), self._on_this_site(name, result.tokens)
        provider, revocations = self.providers.named(name), self.tokens.revocations
        session, kept = None, tokens
        with revoked_on_failure(provider, tokens, revocations, account):
            session = self._session_of(step_up, account, tokens)
            if session is not None:
                kept = _in_grant_of(session, tokens)
                self.tokens.save_if_lasting(account, kept, hold=_HOLD_SECONDS, owner=session.user_id)
        if session is not None:
            # Tokens that were not stored are not revoked: many providers know one grant of a user, which
            # would end with them. They have no refresh token, and the access token expires.
            self._settle(name, session, kept)
        else:
            revoke(provider, tokens, revocations, account)

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

    def logout_url(
        self, session: UserSession, id_token: str | None, return_to: str, state: str | None = None
    ) -> str | None:
        """Return the URL of the provider's own sign-out, if any.

        Args:
            session: The session that ended.
            id_token: The user's ID token, which the URL contains unless it becomes too long; None for a
                client that must not see it.
            return_to: URL that follows the sign-out.
            state: The value that the provider returns with the browser; None for none.
        """
        provider = self.providers.of_session(session)
        if provider is None:
            return None
        try:
            url = provider.end_session_url(id_token, return_to, state)
            if url is None or len(url) <= _LONGEST_URL:
                return url
            return provider.end_session_url(None, return_to, state)
        except AuthenticationError as error:  # the user is signed out of this site in any case
            _logger.warning("the provider's sign-out URL could not be obtained: %s", error)
            return None

    def finish_work(self) -> float | None:
        """Finish the work that an outage left in this process, and try due revocations again.

        Fresh tokens are stored, and failed logins are undone. Work on records that only another process can
        read waits until the next call, at most a minute after a later request.

        Returns:
            Unix time in seconds of the next attempt; None if no work is left.

        Raises:
            StoreUnavailable: The store is down.
        """
        for key in self.tokens.unsaved.users():
            with suppress(UnreadableRecord):  # the process keeps the tokens
                store_unsaved(self.providers.issuer_of, self.tokens, key)
        self.abandoned.undo(self._undo)
        retry_revocations(self.tokens, self.providers.issuer_of)
        return self.tokens.revocations.next_due(lambda tokens: self.providers.issuer_of(tokens) is not None)

    def _session_of(self, step_up: StepUp | None, account: str, tokens: OAuthTokenSet) -> UserSession | None:
        """Return the live session that a sign-in was for, if it is one of the same user."""
        if step_up is None or tokens.grant is None or not step_up.is_same_user(account, tokens.grant):
            return None
        return self.sessions.store.get_session(step_up.session) if step_up.has_session else None

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
        given = given_roles(rules, subject)
        if self.hook is None:
            return Admission(account, given, email=self._known_email(provider, subject, tokens))
        email = self._verified_email(provider, subject, tokens)
        admission = Admission(account, given, email=email)
        attempt = SignInAttempt(
            account,
            result.user_info,
            tokens.id_token_claims,
            self.providers.label(name),
            email,
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

    def _known_email(self, provider: OAuthProvider, subject: Subject, tokens: OAuthTokenSet) -> str | None:
        """Return the verified address, or None also if the provider does not answer quickly."""
        if self.options.rules.need_email and not self.options.rules.trust_unverified_email:
            return subject.email
        quick = provider.with_timeout(_ADDRESS_SECONDS)
        try:
            return canonical_email(quick.verified_email(subject.profile, tokens.access_token))
        except AuthenticationError as error:
            reason = str(error).partition("; ")[0].rstrip(".")  # without advice about the usual time limit
            _logger.warning(
                "%s: a session begins without the user's address: %s. It is asked for again at the next "
                "sign-in, each time for %g s at most.",
                provider.name,
                reason,
                _ADDRESS_SECONDS,
            )
            return None

    def _require_not_ended(self, tokens: OAuthTokenSet, begun: float) -> None:
        """Check that the provider has not ended the sign-in before its session existed.

        A logout is remembered before its sessions are looked up. So either it finds the session, or this
        method finds the logout.
        """
        grant = tokens.grant
        if grant is None or not grant.issuer:
            return
        if SignInIndex(self.sessions.store.backend).is_ended(grant, begun):
            raise AuthenticationError(_ENDED, error=ErrorCode.REAUTH_REQUIRED, visitor=_ENDED)

    def _abandon(self, sign_in: AbandonedSignIn) -> None:
        """Undo a login because the store failed, or because the provider has ended it.

        If the store is still down, the background work of this process undoes it later.
        """
        try:
            self._undo(sign_in)
        except StoreUnavailable as error:
            _logger.warning("a login that failed is undone later: %s", error)
            self.abandoned.add(sign_in)
            self.tokens.revocations.postponed()

    def _undo(self, sign_in: AbandonedSignIn) -> None:
        self.sessions.store.delete_session(sign_in.session_id)
        self.tokens.settle(sign_in.account, sign_in.tokens, sign_in.user)
        self.ends.end_grant(sign_in.name, sign_in.account, sign_in.tokens, sign_in.by_provider)

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
            self.ends.end_grant(name, account, tokens)
        except StoreUnavailable as error:
            _logger.warning("a finished login could not be settled; its tokens may stay held: %s", error)
            return True
        return False

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
        found: list[UserSession | None] = []
        ended: list[str] = []
        try:
            for session_id in session_ids:
                with suppress(UnreadableRecord):  # it does not keep the others from ending
                    found.append(self.sessions.store.get_session(session_id))
            self.ends.end((session for session in found if session is not None), ended=ended)
        except StoreUnavailable as error:
            _logger.warning("a browser's earlier session could not be ended: %s", error)
        for _ in ended:
            happened("ending", "replaced")

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
                    ids: list[str] = []
                    try:
                        self.ends.end([session], ended=ids)
                    finally:
                        ended += [session] if ids else []
                elif store.delete_session(session.session_id):
                    ended.append(session)
        except StoreUnavailable as error:
            _logger.warning("a user's oldest session could not be ended: %s", error)
        return ended


def _in_grant_of(session: UserSession, tokens: OAuthTokenSet) -> OAuthTokenSet:
    """Return tokens under the grant ID of a session.

    If the provider refuses to refresh them, the session ends, as with its own tokens.
    """
    if tokens.grant is None or session.grant is None:
        return tokens
    return replace(tokens, grant=replace(tokens.grant, grant_id=session.grant.grant_id))


def _metadata(
    admitted: Admission, name: str, asked: Collection[str], stepped_up: Sequence[Any]
) -> dict[str, Any]:
    """Return the metadata of a new session, without the profile."""
    return (
        dict(admitted.metadata)
        | email_member(admitted.email)
        | given_member(admitted.given)
        | ({"provider": name} if name else {})
        | ({ASKED: list(asked)} if asked else {})
        | ({STEPPED_UP: list(stepped_up)} if stepped_up else {})
    )
