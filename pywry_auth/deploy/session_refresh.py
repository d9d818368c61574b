"""Refreshes a user's tokens, and applies the result to the user's sessions."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError, TokenExpiredError, TokenRefreshError
from pywry_auth.flow.access_review import review_access
from pywry_auth.flow.events import Event, SignedOut, TokensRefreshed
from pywry_auth.flow.refresh import refresh_stored, was_just_refreshed
from pywry_auth.models import Claims, OAuthTokenSet
from pywry_auth.protocol.gate import RUN_SECONDS

if TYPE_CHECKING:
    from pywry_auth.deploy.options import DeployOptions
    from pywry_auth.deploy.providers import Providers
    from pywry_auth.deploy.rate_limit import RateLimit
    from pywry_auth.deploy.session_lifecycle import SessionLifecycle
    from pywry_auth.models import UserSession
    from pywry_auth.providers.base import OAuthProvider

_logger = logging.getLogger("pywry_auth.deploy")


class AccessEnded(AuthenticationError):
    """The access rules do not admit the user any more."""


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
        """Refresh the tokens, and return the new ones.

        Tokens that another request refreshed just before, or in the meantime, are returned unchanged.

        Args:
            session: The session of the request.
            notify: Receives the events; no lock is held.

        Raises:
            AuthenticationError: The user must sign in again (``reauth_required``), or may not sign in any
                more (``access_denied``, as :class:`AccessEnded`). Their sessions have ended then.
            TokenError: The provider refused for another reason or gave no usable response, or there is no
                refresh token. The session stays.
            StoreUnavailable: The store is down.
        """
        provider = self.providers.of_session(session)
        if provider is None:
            raise _reauthenticate()
        seen = self.lifecycle.tokens.load(session.user_id)

        def is_due(tokens: OAuthTokenSet) -> bool:
            # Another request may have refreshed the tokens just before, or while this request waited.
            fresh = was_just_refreshed(tokens, time.time(), session.created_at)
            return tokens == seen and not fresh

        reviewed: list[OAuthTokenSet] = []  # only by the request that called the provider

        def review(tokens: OAuthTokenSet, claims: Claims) -> None:
            reviewed.append(tokens)
            self._review(provider, session, tokens, claims)

        try:
            return refresh_stored(
                provider,
                self.lifecycle.tokens,
                session.user_id,
                is_due,
                lambda tokens: notify(TokensRefreshed(mode="web", session=session, **self._facts(session))),
                before_call=lambda: self.limit.spend(session.session_id),
                wait=RUN_SECONDS,
                keep_refused=self.options.refresh_refused_ends_sessions,  # until the sessions have ended
                on_claims=review,
            )
        except AccessEnded:
            if reviewed:
                self._report(self.lifecycle.end_not_admitted(session), "access_changed", notify)
            raise
        except TokenRefreshError as error:
            self._report(self._end_refused(session, seen, error), "refresh_refused", notify)
            raise _reauthenticate() from error
        except TokenExpiredError as error:
            if error.error == ErrorCode.NOT_SIGNED_IN:
                raise _reauthenticate() from error
            raise

    def _review(
        self, provider: OAuthProvider, session: UserSession, tokens: OAuthTokenSet, claims: Claims
    ) -> None:
        """Evaluate the access rules again, and write changed roles to the user's sessions.

        Raises:
            AccessEnded: The rules do not admit the user any more.
        """
        if not self.options.rules.read_claims:
            return
        name, lifecycle = self.providers.name_of(session) or "", self.lifecycle
        review = review_access(self.options.rules, provider, tokens, claims, name)
        # A sign-in during the call to the provider brought newer claims.
        if lifecycle.tokens.load(session.user_id) != tokens:
            return
        if review.admitted is False:
            raise AccessEnded(
                "This account may not sign in here any more: use another account, or ask the site's "
                "administrator.",
                error=ErrorCode.ACCESS_DENIED,
            )
        for each in lifecycle.of_grant(session.user_id, tokens):
            lifecycle.sessions.store.set_given_roles(each.session_id, review.given, review.doubtful)

    def _end_refused(
        self, session: UserSession, refused: OAuthTokenSet | None, error: TokenRefreshError
    ) -> list[UserSession]:
        """End the sessions of a grant that the provider has ended, unless the site keeps them."""
        if not error.refused:  # the provider sent an ID token that could not be validated
            _logger.warning("tokens could not be refreshed: %s", error)
            return []
        ends = self.options.refresh_refused_ends_sessions
        return self.lifecycle.end_refused(session, refused) if ends else []

    def _report(self, ended: list[UserSession], reason: str, notify: Callable[[Event], object]) -> None:
        for each in ended:
            notify(SignedOut(mode="web", session=each, sessions=1, reason=reason, **self._facts(each)))

    def _facts(self, session: UserSession) -> dict[str, str]:
        return {"user_id": session.user_id, "provider": self.providers.label_of(session)}


def _reauthenticate() -> AuthenticationError:
    return AuthenticationError(
        "Your sign-in at the provider is no longer valid: sign in again.", error=ErrorCode.REAUTH_REQUIRED
    )
