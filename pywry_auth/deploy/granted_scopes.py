"""Checks the scopes of users' stored tokens, and asks for more."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pywry_auth.deploy.answers import JUST_SIGNED_IN, ask_for_more, insufficient_scope
from pywry_auth.deploy.login_demand import is_scope
from pywry_auth.deploy.session_account import with_own_account
from pywry_auth.models import OAuthTokenSet

if TYPE_CHECKING:
    from werkzeug.wrappers import Response

    from pywry_auth.deploy.login_demand import DemandSigner, LoginDemand
    from pywry_auth.deploy.providers import Providers
    from pywry_auth.deploy.site import Site
    from pywry_auth.models import UserSession
    from pywry_auth.providers.base import OAuthProvider
    from pywry_auth.state.tokens import TokenStore

_logger = logging.getLogger("pywry_auth.deploy")

ASKED = "asked"
"""The member of a session's metadata with the scopes that its sign-in asked for on demand of a page."""

_LONGEST = 4000  # characters of the granted scopes that a sign-in asks for again


@dataclass(frozen=True)
class _Held:
    provider: OAuthProvider
    tokens: OAuthTokenSet


@dataclass(frozen=True)
class GrantedScopes:
    """Compares the scopes that pages need with those that users granted.

    Args:
        providers: The site's providers.
        tokens: The store of users' OAuth tokens.
        signer: Writes the demands of pages into URLs.
    """

    providers: Providers
    tokens: TokenStore
    signer: DemandSigner

    def suffice(self, session: UserSession, demand: LoginDemand) -> bool:
        """Return whether a user's stored tokens have all scopes of a demand.

        Args:
            session: The user's session.
            demand: The demand of a page.

        Raises:
            StoreUnavailable: The store is down.
        """
        return not self._missing(self._held(session), demand)

    def refuse(
        self,
        site: Site,
        session: UserSession,
        demand: LoginDemand,
        is_page: bool = False,
        whole: LoginDemand | None = None,
    ) -> Response:
        """Return the response to a user with too few scopes.

        A navigation goes to the provider, unless the user has just come from there: the user or the provider
        refused the scopes then, and another redirect could become a loop.

        Args:
            site: The site.
            session: The user's session.
            demand: The demand of the guard.
            is_page: Whether the request's path is that of a page, so that GET leads to it.
            whole: The demand of all guards of the page; None for that of the guard.

        Raises:
            StoreUnavailable: The store is down.
        """
        held = self._held(session)
        missing = self._missing(held, demand) or demand.scopes
        ask = not _was_refused(session, None if held is None else held.tokens, missing)
        signed = self.signer.sign(whole or demand)
        return ask_for_more(site, insufficient_scope(missing), signed, is_page, redirect=ask)

    def to_request(self, session: UserSession | None, name: str, demand: LoginDemand) -> tuple[str, ...]:
        """Return the scopes that a sign-in requests in addition to the provider's own.

        They are those of the demand, and those that the user has granted before. Otherwise the new grant
        would lack them.

        Args:
            session: The session of the visitor; None if no user is signed in.
            name: The name of the provider for the sign-in; empty for the only one.
            demand: The demand of the page.

        Raises:
            AuthenticationError: The provider is unknown.
            StoreUnavailable: The store is down.
        """
        held = None if session is None else self._held(session)
        provider = self.providers.named(name)
        own, granted = provider.scopes, []
        if held is not None and held.provider is provider:
            granted = [scope for scope in held.tokens.scope.split() if is_scope(scope)]
        further = [scope for scope in granted if scope not in own]
        if len(" ".join(further)) > _LONGEST:  # the URL must not become too long
            _logger.warning("a sign-in on demand of a page lost earlier scopes: their names are too long")
            further = []
        return tuple(dict.fromkeys([*further, *demand.scopes]))

    def warn_of_missing(
        self, provider: OAuthProvider, tokens: OAuthTokenSet, demanded: Sequence[str]
    ) -> None:
        """Log the scopes that a sign-in on demand of a page did not bring.

        Args:
            provider: The provider of the sign-in.
            tokens: The new tokens.
            demanded: The scopes of the demand.
        """
        missing = [scope for scope in demanded if not provider.grants(tokens, scope)]
        if missing:
            _logger.warning(
                "the provider did not grant %s, which a page needs: the user did not allow it, or the client "
                "is not registered for it",
                " ".join(missing),
            )

    def _held(self, session: UserSession) -> _Held | None:
        """Return the user's tokens, if the provider of the session issued them to this site."""
        own = with_own_account(self.tokens, session)
        provider = None if own is None else self.providers.of_session(own)
        tokens = None if own is None or provider is None else self.tokens.load(own.account)
        if provider is None or tokens is None or not provider.issued_to_this_client(tokens):
            return None
        return _Held(provider, tokens)

    def _missing(self, held: _Held | None, demand: LoginDemand) -> tuple[str, ...]:
        if held is None:
            return demand.scopes
        return tuple(scope for scope in demand.scopes if not held.provider.grants(held.tokens, scope))


def with_more_scopes(provider: OAuthProvider, scopes: Sequence[str]) -> OAuthProvider:
    """Return a provider that requests further scopes too.

    A scope that another one includes is left out.

    Args:
        provider: The provider with its own scopes.
        scopes: The further scopes.
    """
    if not scopes:
        return provider
    requested = list(provider.scopes)
    for scope in scopes:
        if scope not in requested and not provider.grants(
            OAuthTokenSet("", scope=" ".join(requested)), scope
        ):
            requested.append(scope)
    return provider.with_scopes(requested)


def _was_refused(session: UserSession, stored: OAuthTokenSet | None, missing: Sequence[str]) -> bool:
    """Return whether the session's own sign-in asked for the missing scopes in vain.

    A later sign-in in another browser may have replaced the tokens. That says nothing about the user's
    answer, but soon after the sign-in a redirect could lead back here at once.
    """
    asked = session.metadata.get(ASKED)
    if not isinstance(asked, list) or not set(missing) <= {
        scope for scope in asked if isinstance(scope, str)
    }:
        return False
    grant = stored.grant if stored is not None else None
    own = grant is not None and session.grant is not None and grant.grant_id == session.grant.grant_id
    return own or abs(time.time() - session.created_at) < JUST_SIGNED_IN
