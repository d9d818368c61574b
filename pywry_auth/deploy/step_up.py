"""Compares sign-ins with the demands of pages for a recent or a strong one, and asks for another (RFC 9470).

The session's grant decides. A refresh keeps the grant, so that no session becomes fresher by itself.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pywry_auth.deploy.answers import JUST_SIGNED_IN, ask_for_more, forbidden, insufficient_authentication
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError
from pywry_auth.flow.freshness import is_fresh, is_strong, require_fresh, require_strong
from pywry_auth.state.step_up import StepUp

if TYPE_CHECKING:
    from werkzeug.wrappers import Response

    from pywry_auth.deploy.login_demand import DemandSigner, LoginDemand
    from pywry_auth.deploy.providers import Providers
    from pywry_auth.deploy.site import Site
    from pywry_auth.models import Grant, UserSession
    from pywry_auth.state.pending import PendingAuthorization

STEPPED_UP = "stepped_up"
"""The member of a session's metadata that says that its sign-in satisfied the demand of a page."""

_OTHER_WAY = (
    "This page needs a sign-in with a known time and method, and the service where you signed in does not "
    "report them: sign in with another account."
)
_OTHER_USER = (
    "You signed in with another account than the one that you use here, so nothing has changed: try again "
    "with the same account, or sign out first."
)


@dataclass(frozen=True)
class StepUps:
    """Compares users' sign-ins with what pages need.

    Args:
        providers: The site's providers.
        signer: Writes the demands of pages into URLs.
    """

    providers: Providers
    signer: DemandSigner

    def suffice(self, session: UserSession, demand: LoginDemand) -> bool:
        """Return whether a session's sign-in is recent and strong enough.

        A session that the application created has no sign-in, so that it never is.

        Args:
            session: The user's session.
            demand: The demand of a page.
        """
        grant = session.grant
        if grant is None:
            return False
        provider = self.providers.of_session(session)
        now, skew = time.time(), 0.0
        if provider is not None:
            now, skew = provider.options.clock(), provider.options.clock_skew_seconds
        return is_strong(grant, demand.acr) and is_fresh(grant, demand.max_age, now, skew)

    def refuse(
        self,
        site: Site,
        session: UserSession,
        demand: LoginDemand,
        is_page: bool = False,
        whole: LoginDemand | None = None,
    ) -> Response:
        """Return the response to a user whose sign-in is too old or too weak.

        A navigation goes to the provider, unless the user has just come from there for this reason: workers
        with different clocks could otherwise send the browser back and forth.

        Args:
            site: The site.
            session: The user's session.
            demand: The demand of the guard.
            is_page: Whether the request's path is that of a page, so that GET leads to it.
            whole: The demand of all guards of the page; None for that of the guard.
        """
        provider = self.providers.of_session(session)
        if session.grant is not None and provider is not None and not provider.uses_openid:
            return forbidden(site, is_page, _OTHER_WAY)
        need = insufficient_authentication(demand.max_age, demand.acr)
        redirect = session.grant is not None and not _has_just_stepped_up(session)
        return ask_for_more(site, need, self.signer.sign(whole or demand), is_page, redirect=redirect)

    def begun(self, session: UserSession | None, demand: LoginDemand | None) -> StepUp | None:
        """Return the record of a sign-in on demand of a page; None if any sign-in suffices.

        Args:
            session: The session of the visitor; None if no user is signed in.
            demand: The demand of the page; None without one.
        """
        if demand is None or not demand.is_step_up:
            return None
        grant = None if session is None else session.grant
        if session is None or grant is None:
            return StepUp(demand.max_age, demand.acr)
        return StepUp(demand.max_age, demand.acr, grant.issuer, grant.subject, session.session_id)

    def require(self, pending: PendingAuthorization, grant: Grant) -> None:
        """Refuse a sign-in that does not satisfy the page that demanded it.

        The claims of the ID token decide, and the user must be the one of the session.

        Args:
            pending: The login, with its demand.
            grant: The grant of the new tokens.

        Raises:
            AuthenticationError: Another user signed in, or the sign-in is too old or too weak.
        """
        step_up = pending.step_up
        if step_up is None:
            return
        if step_up.has_session and (step_up.issuer, step_up.subject) != (grant.issuer, grant.subject):
            raise AuthenticationError(
                "A sign-in on demand of a page was finished by another user than that of the session: sign "
                "in with the same account.",
                error=ErrorCode.INSUFFICIENT_USER_AUTHENTICATION,
                visitor=_OTHER_USER,
            )
        require_fresh(self.providers.named(pending.provider), grant, pending.request.max_age)
        require_strong(grant, step_up.acr)

    def names(self, demand: LoginDemand | None) -> list[str]:
        """Return the names of the providers that can satisfy a demand.

        Args:
            demand: The demand of the page; None without one.
        """
        every = demand is None or not demand.is_step_up
        return [name for name, provider in self.providers.by_name.items() if every or provider.uses_openid]

    def require_able(self, name: str, demand: LoginDemand | None) -> None:
        """Refuse a provider that cannot satisfy a demand.

        Args:
            name: The name of the provider; empty for the only one.
            demand: The demand of the page; None without one.

        Raises:
            AuthenticationError: The provider does not use OpenID Connect (``unknown_provider``).
        """
        if name in self.providers.by_name and name not in self.names(demand):
            raise AuthenticationError(
                "This provider reports neither the time nor the method of a sign-in, which the page needs: "
                "choose another provider.",
                error=ErrorCode.UNKNOWN_PROVIDER,
            )


def require_openid(providers: Providers, views: Iterable[tuple[str, LoginDemand | None]]) -> None:
    """Refuse views with a demand that no provider of the site can satisfy.

    Args:
        providers: The site's providers.
        views: Names of views, each with the demand of one of its guards, or None.

    Raises:
        AuthenticationError: A view needs a recent or strong sign-in, and no provider uses OpenID Connect
            (``invalid_configuration``).
    """
    if any(provider.uses_openid for provider in providers.by_name.values()):
        return
    for name, demand in views:
        if demand is not None and demand.is_step_up:
            raise _no_openid(f"the view {name!r}")


def _no_openid(view: str) -> AuthenticationError:
    return AuthenticationError(
        f"{view} requires a recent or a strong sign-in, but no provider of this site reports the time "
        "and the method of a sign-in: use a provider with OpenID Connect and the scope openid, or remove "
        "fresh_login_required or require_fresh_login from the view.",
        error=ErrorCode.INVALID_CONFIGURATION,
    )


def _has_just_stepped_up(session: UserSession) -> bool:
    recent = abs(time.time() - session.created_at) < JUST_SIGNED_IN
    return recent and session.metadata.get(STEPPED_UP) is True
