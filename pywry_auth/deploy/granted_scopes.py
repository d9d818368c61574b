"""Checks the scopes of users' stored tokens, and asks for more."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pywry_auth.deploy.answers import insufficient_scope
from pywry_auth.deploy.login_demand import is_scope
from pywry_auth.models import OAuthTokenSet

if TYPE_CHECKING:
    from werkzeug.wrappers import Response

    from pywry_auth.deploy.login_demand import DemandSigner, LoginDemand
    from pywry_auth.deploy.providers import Providers
    from pywry_auth.deploy.site import Site
    from pywry_auth.models import UserSession
    from pywry_auth.providers.base import OAuthProvider
    from pywry_auth.state.tokens import TokenStore

ASKED = "asked"
"""The member of a session's metadata with the scopes that its sign-in asked for on demand of a page."""

_JUST_NOW = 60.0  # seconds
_LONGEST = 4000  # characters of the granted scopes that a sign-in asks for again


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
        return not self._missing(session, self._stored(session), demand)

    def refuse(
        self, site: Site, session: UserSession, demand: LoginDemand, is_page: bool = False
    ) -> Response:
        """Return the response to a user with too few scopes.

        A navigation goes to the provider, unless the user has just come from there: the user or the provider
        refused the scopes then, and another redirect could become a loop.

        Args:
            site: The site.
            session: The user's session.
            demand: The demand of the page.
            is_page: Whether the request's path is that of a page, so that GET leads to it.

        Raises:
            StoreUnavailable: The store is down.
        """
        stored = self._stored(session)
        missing = self._missing(session, stored, demand) or demand.scopes
        ask = not _was_refused(session, stored, missing)
        return insufficient_scope(site, missing, self.signer.sign(demand), is_page, redirect=ask)

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
        stored = None
        if session is not None and self.providers.name_of(session) == name:
            stored = self._stored(session)
        own = self.providers.named(name).scopes
        granted = [scope for scope in stored.scope.split() if is_scope(scope)] if stored else []
        further = [scope for scope in granted if scope not in own]
        if len(" ".join(further)) > _LONGEST:  # the URL must not become too long
            further = []
        return tuple(dict.fromkeys([*further, *demand.scopes]))

    def _stored(self, session: UserSession) -> OAuthTokenSet | None:
        """Return the user's tokens, if the provider of the session issued them to this site."""
        provider = self.providers.of_session(session)
        stored = None if provider is None else self.tokens.load(session.account)
        if provider is None or stored is None or not provider.issued_to_this_client(stored):
            return None
        return stored

    def _missing(
        self, session: UserSession, stored: OAuthTokenSet | None, demand: LoginDemand
    ) -> tuple[str, ...]:
        provider = self.providers.of_session(session)
        if provider is None or stored is None:
            return demand.scopes
        return tuple(scope for scope in demand.scopes if not provider.grants(stored, scope))


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
    return own or abs(time.time() - session.created_at) < _JUST_NOW
