"""The access token of a session's user, for views."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pywry_auth.deploy.session_refresh import AccessEnded
from pywry_auth.digests import same_secret
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError, LoginRequired, TokenError, TokenExpiredError
from pywry_auth.flow.refresh import has_expired, is_due
from pywry_auth.per_process import PerProcess

if TYPE_CHECKING:
    from pywry_auth.deploy.session_refresh import SessionRefresh
    from pywry_auth.flow.events import Event
    from pywry_auth.models import OAuthTokenSet, UserSession
    from pywry_auth.protocol.urls import HTTPOptions

_logger = logging.getLogger("pywry_auth.deploy")

_EARLY_SECONDS = 60.0
"""Seconds before its expiry at which a token is refreshed in the background."""

_LAST_SECONDS = 5.0
"""Seconds before its expiry at which a token may expire on its way to the API."""

_MOST_THREADS = 8


class _Running:
    """The accounts of the refreshes that run in one process, and the lock that guards them."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.accounts: set[str] = set()


class EarlyRefreshes:
    """Refreshes tokens in the background while they are still valid.

    A view with a valid token never waits for the provider. A thread exists only during its refresh. The
    interpreter waits for it at exit, because a lost response can cost the user the grant.
    """

    def __init__(self) -> None:
        self._here = PerProcess(_Running)

    def begin(self, account: str, work: Callable[[], object]) -> None:
        """Do the work in a thread, unless work for this account or eight other accounts is running.

        A later request begins the work that this call leaves undone.

        Args:
            account: The key of the tokens.
            work: The work. Its errors are logged.
        """
        running = self._here()
        with running.lock:
            if account in running.accounts or len(running.accounts) >= _MOST_THREADS:
                return
            running.accounts.add(account)
        target = _Work(running, account, work)
        try:
            threading.Thread(target=target, name="pywry-auth-early-refresh", daemon=False).start()
        except RuntimeError:  # the process has no more threads, or is about to end
            target.end()


@dataclass(frozen=True)
class _Work:
    running: _Running
    account: str
    work: Callable[[], object]

    def __call__(self) -> None:
        try:
            self.work()
        except AuthenticationError as error:
            _logger.info("tokens were not refreshed before their expiry: %s", error)
        except Exception as error:  # noqa: BLE001  # a receiver of a signal may raise any error
            # Its text may quote a token, so that only its name is logged.
            name = type(error).__name__
            _logger.error("a refresh in the background failed unexpectedly (%s)", name)
        finally:
            self.end()

    def end(self) -> None:
        """Allow the next work for the account."""
        with self.running.lock:
            self.running.accounts.discard(self.account)


@dataclass(frozen=True)
class SessionTokens:
    """Supplies the access token of a session's user.

    Any thread may use it, also after the request.

    Args:
        session: The session.
        renew: Refreshes the tokens.
        early: Refreshes tokens that are still valid.
        notify: Receives the events. No lock is held, and the caller may be a thread without a request.
    """

    session: UserSession
    renew: SessionRefresh
    early: EarlyRefreshes
    notify: Callable[[Event], object]

    @property
    def http_options(self) -> HTTPOptions:
        """Time limit, proxy and certificates of the provider's calls, which calls of its APIs share.

        Raises:
            LoginRequired: The site no longer offers the session's provider, or the user has no tokens.
            StoreUnavailable: The store is down.
        """
        return self.renew.provider_of(self._own()).http_options

    def get_access_token(self) -> str:
        """Return a valid access token, refreshed if necessary.

        A token that expires within 60 s is returned, and refreshed in the background. If it has expired, or
        expires within 5 s, this call waits up to 5 s for the refresh of another request, or refreshes itself.
        These refreshes do not count for ``REFRESH_RATE_LIMIT``: there is at most one for each lifetime of a
        token. After a failure, the next one follows after the provider's ``Retry-After``, at most 300 s, and
        otherwise after 2 s. Calls in the meantime get the same error.

        Raises:
            LoginRequired: The provider has ended the grant, or the token has expired and cannot be refreshed
                (``reauth_required``).
            AccessEnded: The access rules do not admit the user any more.
            TokenError: The token has expired, and the provider cannot be reached or refused for a reason that
                can be corrected.
            ProviderBusy: The token has expired, and too many requests wait for the provider.
            StoreUnavailable: The store is down.
        """
        session = self._own()
        stored = self.renew.find(session)
        if stored is None:  # an outage may have left fresh tokens in this process
            return self._due(session, None).access_token
        tokens, now = stored.tokens, time.time()
        if is_due(tokens, now, _LAST_SECONDS) if tokens.refresh_token else has_expired(tokens, now):
            return self._fresh_or(session, tokens).access_token
        if stored.review or (tokens.refresh_token and is_due(tokens, now, _EARLY_SECONDS)):
            self.early.begin(session.account, lambda: self._refresh_early(session, tokens))
        return tokens.access_token

    def refresh(self, instead_of: str | None = None) -> OAuthTokenSet:
        """Return fresh tokens after an API refused the access token.

        The refresh counts for ``REFRESH_RATE_LIMIT``. Above the limit, and within 5 s after a refresh, the
        present tokens are returned.

        Args:
            instead_of: The access token that the API refused. If it was replaced in the meantime, the present
                tokens are returned.

        Raises:
            TokenExpiredError: There is no refresh token.
            AuthenticationError: See :meth:`get_access_token`.
        """
        stored = self.renew.find(self._own())
        tokens = None if stored is None else stored.tokens
        if tokens and instead_of is not None and not same_secret(tokens.access_token, instead_of):
            return tokens
        try:
            return self.renew(self.session, self.notify)
        except AuthenticationError as error:
            # A TokenError has the provider's code, which may be the same.
            if not tokens or isinstance(error, TokenError) or error.error != ErrorCode.RATE_LIMITED:
                raise
            return tokens

    def _own(self) -> UserSession:
        """Return the session with the account whose tokens it may use now."""
        return self.renew.with_own_account(self.session)

    def _fresh_or(self, session: UserSession, tokens: OAuthTokenSet) -> OAuthTokenSet:
        """Return fresh tokens, or the present ones if they have not expired and no refresh is possible."""
        try:
            failure = self.renew.failure_to_await(session, tokens)
            if failure is not None:
                raise failure
            return self._due(session, tokens)
        except (LoginRequired, AccessEnded):
            raise
        except AuthenticationError:
            if has_expired(tokens, time.time()):
                raise
            return tokens

    def _due(self, session: UserSession, tokens: OAuthTokenSet | None) -> OAuthTokenSet:
        try:
            return self.renew.due(session, tokens, self.notify, _EARLY_SECONDS)
        except TokenExpiredError as error:
            raise LoginRequired(
                "Your sign-in at the provider has expired: sign in again.", error=ErrorCode.REAUTH_REQUIRED
            ) from error

    def _refresh_early(self, session: UserSession, tokens: OAuthTokenSet) -> None:
        # After a failure, only a request with an expired token tries again soon.
        if self.renew.has_failed(session):
            return
        with self.renew.provider_of(session).gate.spare_slot():
            self.renew.due(session, tokens, self.notify, _EARLY_SECONDS, wait=0.0)
