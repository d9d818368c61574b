"""Refreshes a user's tokens, and applies the result to the user's sessions."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pywry_auth.deploy.session_account import with_own_account
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import (
    AuthenticationError,
    LoginRequired,
    StoreUnavailable,
    TokenError,
    TokenExpiredError,
    TokenRefreshError,
)
from pywry_auth.flow.access_review import check_email, given_roles, review_access
from pywry_auth.flow.events import Event, SignedOut, TokensRefreshed
from pywry_auth.flow.refresh import failure_to_await, is_due, refresh_stored, was_just_refreshed
from pywry_auth.flow.sign_out import TakenTokens, revoke_taken
from pywry_auth.flow.subject import Subject
from pywry_auth.models import Claims, OAuthTokenSet
from pywry_auth.protocol.gate import RUN_SECONDS
from pywry_auth.state.session_record import records_other_roles

if TYPE_CHECKING:
    from pywry_auth.deploy.options import DeployOptions
    from pywry_auth.deploy.providers import Providers
    from pywry_auth.deploy.rate_limit import RateLimit
    from pywry_auth.deploy.session_lifecycle import SessionLifecycle
    from pywry_auth.flow.access import AccessRules
    from pywry_auth.models import UserSession
    from pywry_auth.providers.base import OAuthProvider
    from pywry_auth.state.token_record import StoredTokens

_logger = logging.getLogger("pywry_auth.deploy")


class AccessEnded(AuthenticationError):
    """The access rules do not admit the user any more."""


@dataclass(frozen=True)
class _RulesReview:
    """Evaluates the access rules after a refresh, and applies the result to the user's sessions.

    Args:
        providers: The providers where users signed in.
        lifecycle: Ends sessions.
        rules: The site's rules.
        session: The session of the request.
        ended: The sessions that ended.
        taken: The tokens of a user that is not admitted any more, which must be revoked.
    """

    providers: Providers
    lifecycle: SessionLifecycle
    rules: AccessRules
    session: UserSession
    ended: list[UserSession] = field(default_factory=list)
    taken: list[TakenTokens] = field(default_factory=list)

    def is_due(self) -> bool:
        """Return whether a rule reads claims, or a session has roles from a rule of earlier settings."""
        if self.rules.read_claims:
            return True
        given = given_roles(self.rules, Subject({}))
        return any(
            records_other_roles(each, given) for each in self.lifecycle.accounts.of_account(self.session)
        )

    def finish(self, tokens: OAuthTokenSet, claims: Claims) -> bool:
        """Write changed roles to the user's sessions, or end them.

        Args:
            tokens: The refreshed tokens, which are stored.
            claims: The claims of the ID token that the refresh brought; empty without one.

        Returns:
            Whether all rules were evaluated whose claims the provider has.

        Raises:
            AccessEnded: The rules do not admit the user any more.
        """
        lifecycle = self.lifecycle
        provider = self.providers.of_session(self.session)
        if provider is None:
            return False
        name = self.providers.name_of(self.session) or ""
        review = review_access(self.rules, provider, tokens, claims, name)
        found = lifecycle.accounts.of_grant(self.session, tokens)
        # A sign-in during the call to the provider brought newer claims.
        if lifecycle.tokens.load(self.session.account) != tokens:
            return True
        if review.admitted is False:
            self.taken.append(lifecycle.ends.end_not_admitted(self.session, tokens, found, self.ended))
            raise _access_ended()
        for each in found:
            renewed = review.renewed(self.rules, each)
            lifecycle.sessions.store.set_given_roles(each.session_id, review.given, review.doubtful, renewed)
            if review.email is not None and review.email.changes(each):
                lifecycle.sessions.store.check_email(each.session_id, review.email)
        return not review.postponed

    def finish_ending(self) -> None:
        """Finish an interrupted end of the sessions.

        Raises:
            AccessEnded: The session of the request was one of them.
        """
        if self.lifecycle.ends.end_interrupted(self.session, self.ended):
            self.taken.append(TakenTokens())
            raise _access_ended()

    def revoke(self) -> None:
        """Revoke the tokens of a user that is not admitted any more."""
        provider, tokens = self.providers.of_session(self.session), self.lifecycle.tokens
        for taken in self.taken:
            try:
                revoke_taken(provider, tokens, self.session.account, taken)
            except StoreUnavailable as error:
                _logger.warning("tokens of a user without access are revoked later: %s", error)


@dataclass(frozen=True)
class SessionRefresh:
    """Refreshes the tokens of a session's user.

    All requests share one refresh. The access rules are evaluated again as a part of it, with the claims that
    it brought.

    Args:
        providers: The providers where users signed in.
        lifecycle: Ends sessions.
        options: The site's options.
        limit: The limit of refresh calls for each session.
    """

    providers: Providers
    lifecycle: SessionLifecycle
    options: DeployOptions
    limit: RateLimit

    def __call__(self, session: UserSession, notify: Callable[[Event], object]) -> OAuthTokenSet:
        """Refresh the tokens at a client's request, and return the new ones.

        Tokens that another request refreshed just before, or in the meantime, are returned unchanged.

        Args:
            session: The session of the request.
            notify: Receives the events; no lock is held.

        Raises:
            LoginRequired: The user must sign in again (``reauth_required``). The sessions of the grant have
                ended, unless the site keeps them.
            AccessEnded: The access rules do not admit the user any more. The user's sessions have ended.
            AuthenticationError: The session has requested too many refreshes (``rate_limited``).
            TokenError: The provider refused for another reason or gave no usable response, or there is no
                refresh token. The session stays.
            ProviderBusy: Too many requests wait for the provider. The session stays.
            StoreUnavailable: The store is down.
        """
        session = self.with_own_account(session)
        seen = self.lifecycle.tokens.load(session.account)

        def needs_refresh(tokens: OAuthTokenSet) -> bool:
            # Another request may have refreshed the tokens just before, or while this request waited.
            fresh = was_just_refreshed(tokens, time.time(), session.created_at)
            return tokens == seen and not fresh

        return self._refreshed(
            session, seen, needs_refresh, notify, before_call=lambda: self.limit.spend(session.session_id)
        )

    def due(
        self,
        session: UserSession,
        seen: OAuthTokenSet | None,
        notify: Callable[[Event], object],
        buffer: float,
        *,
        wait: float = RUN_SECONDS,
    ) -> OAuthTokenSet:
        """Return the tokens, refreshed if they are due.

        Such a refresh does not count for the limit. A review of the access rules that another request did not
        finish is done in any case.

        Args:
            session: A session from :meth:`with_own_account`.
            seen: The tokens that are due; None if there were none. Others are returned unchanged.
            notify: Receives the events; no lock is held.
            buffer: Seconds before its expiry at which a token is due.
            wait: Seconds to wait for another caller's refresh.

        Raises:
            AuthenticationError: See :meth:`__call__`.
        """
        return self._refreshed(
            session,
            seen,
            lambda tokens: tokens == seen and is_due(tokens, time.time(), buffer),
            notify,
            wait=wait,
        )

    def with_own_account(self, session: UserSession) -> UserSession:
        """Return a session with the account whose tokens it may use.

        Args:
            session: The session of the request.

        Raises:
            LoginRequired: Its user has no account with tokens, or several (``reauth_required``).
            StoreUnavailable: The store is down.
        """
        own = with_own_account(self.lifecycle.tokens, session)
        if own is None:
            raise _reauthenticate()
        return own

    def find(self, session: UserSession) -> StoredTokens | None:
        """Return the stored tokens of a session's user; None if there are none of this site's client.

        Args:
            session: A session from :meth:`with_own_account`.

        Raises:
            LoginRequired: The site no longer offers the session's provider (``reauth_required``).
            StoreUnavailable: The store is down.
        """
        provider = self.provider_of(session)
        stored = self.lifecycle.tokens.find(session.account)
        return stored if stored is not None and provider.issued_to_this_client(stored.tokens) else None

    def has_failed(self, session: UserSession) -> bool:
        """Return whether a refresh failed within the last minute, in any process."""
        return self.lifecycle.tokens.last_failure(session.account) is not None

    def failure_to_await(self, session: UserSession, tokens: OAuthTokenSet) -> TokenError | None:
        """Return the error of a recent refresh if it is too early for another one, or None.

        Args:
            session: A session from :meth:`with_own_account`.
            tokens: The tokens that are due.

        Raises:
            LoginRequired: The site no longer offers the session's provider.
        """
        provider, store = self.provider_of(session), self.lifecycle.tokens
        return failure_to_await(provider, store, session.account, tokens, time.time())

    def provider_of(self, session: UserSession) -> OAuthProvider:
        """Return the provider of a session.

        Args:
            session: A session from :meth:`with_own_account`.

        Raises:
            LoginRequired: The site no longer offers it, or uses another client there (``reauth_required``).
        """
        provider = self.providers.of_session(session)
        if provider is None:
            raise _reauthenticate()
        return provider

    def _refreshed(
        self,
        session: UserSession,
        seen: OAuthTokenSet | None,
        needs_refresh: Callable[[OAuthTokenSet], bool],
        notify: Callable[[Event], object],
        *,
        before_call: Callable[[], object] = lambda: None,
        wait: float = RUN_SECONDS,
    ) -> OAuthTokenSet:
        provider = self.provider_of(session)
        review = _RulesReview(self.providers, self.lifecycle, self.options.rules, session)

        def finish(tokens: OAuthTokenSet) -> None:
            self._check_email(provider, session, tokens)
            notify(TokensRefreshed(mode="web", session=session, **self._facts(session)))

        try:
            return refresh_stored(
                provider,
                self.lifecycle.tokens,
                session.account,
                needs_refresh,
                finish,
                before_call=before_call,
                wait=wait,
                keep_refused=self.options.refresh_refused_ends_sessions,  # until the sessions have ended
                review=review,
            )
        except TokenRefreshError as error:
            self._end_refused(session, seen, error, notify)
            raise _reauthenticate() from error
        except TokenExpiredError as error:
            if error.error == ErrorCode.NOT_SIGNED_IN:
                review.finish_ending()
                raise _reauthenticate() from error
            raise
        finally:
            self._report(review.ended, "access_changed", notify)
            review.revoke()

    def _check_email(self, provider: OAuthProvider, session: UserSession, tokens: OAuthTokenSet) -> None:
        """Check the verified address on a site whose rules read no claims, so that no review does it."""
        if self.options.rules.read_claims:
            return
        check = check_email(provider, tokens, tokens.id_token_claims)
        if check is None or not check.changes(session):
            return
        try:
            for each in self.lifecycle.accounts.of_grant(session, tokens):
                self.lifecycle.sessions.store.check_email(each.session_id, check)
        except StoreUnavailable as error:
            _logger.warning("a session may keep an address that is not verified any more: %s", error)

    def _end_refused(
        self,
        session: UserSession,
        refused: OAuthTokenSet | None,
        error: TokenRefreshError,
        notify: Callable[[Event], object],
    ) -> None:
        """End the sessions of a grant that the provider has ended, unless the site keeps them."""
        if not error.refused:  # the provider sent an ID token that could not be validated
            _logger.warning("tokens could not be refreshed: %s", error)
            return
        ends, ended = self.options.refresh_refused_ends_sessions, list["UserSession"]()
        try:
            if ends:
                self.lifecycle.ends.end_refused(session, refused, ended)
        finally:
            if ended or not ends:  # requests that shared the refresh find no session to end
                _logger.warning("the provider has ended a grant: %s", error)
            self._report(ended, "refresh_refused", notify)

    def _report(self, ended: list[UserSession], reason: str, notify: Callable[[Event], object]) -> None:
        for each in ended:
            notify(SignedOut(mode="web", session=each, sessions=1, reason=reason, **self._facts(each)))

    def _facts(self, session: UserSession) -> dict[str, str]:
        return {"user_id": session.user_id, "provider": self.providers.label_of(session)}


def _access_ended() -> AccessEnded:
    text = "This account may not sign in here any more: use another account, or ask the site's administrator."
    return AccessEnded(text, error=ErrorCode.ACCESS_DENIED, visitor=text)


def _reauthenticate() -> LoginRequired:
    return LoginRequired(
        "Your sign-in at the provider is no longer valid: sign in again.", error=ErrorCode.REAUTH_REQUIRED
    )
