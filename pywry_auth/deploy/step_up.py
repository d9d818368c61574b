"""Compares sign-ins with the demands of pages for a recent or a strong one, and asks for another (RFC 9470).

The session's grant decides. A refresh keeps the grant, so that no session becomes fresher by itself.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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
"""The member of a session's metadata with the demands of pages that its sign-in was for, the last one last.

Those of the browser's sign-ins shortly before are among them: two guards of a page could otherwise send the
browser back and forth.
"""

_MOST_DEMANDS = 10

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

        A navigation goes to the provider, unless the user has just come from there for this demand: workers
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
        made = any(_includes(each, demand) for each in recent_demands(session))
        redirect = session.grant is not None and not made
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
        own = (grant.issuer, grant.subject, session.session_id, session.account)
        return StepUp(demand.max_age, demand.acr, *own)

    def require(self, pending: PendingAuthorization, account: str, grant: Grant) -> None:
        """Refuse a sign-in that does not satisfy the page that demanded it.

        The claims of the ID token decide, and the user must be the one of the session.

        Args:
            pending: The login, with its demand.
            account: The account of the sign-in.
            grant: The grant of the new tokens.

        Raises:
            AuthenticationError: Another user signed in, or the sign-in is too old or too weak.
        """
        step_up = pending.step_up
        if step_up is None:
            return
        if step_up.has_session and not step_up.is_same_user(account, grant):
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


def recent_demands(session: UserSession | None) -> list[Any]:
    """Return the demands of pages that a user's latest sign-ins were for.

    Args:
        session: The session; None if no user is signed in. One that did not just begin has none.
    """
    if session is None or abs(time.time() - session.created_at) >= JUST_SIGNED_IN:
        return []
    made = session.metadata.get(STEPPED_UP)
    return made if isinstance(made, list) else []


def demands_with(earlier: list[Any], step_up: StepUp | None) -> list[Any]:
    """Return the demands for the metadata of a new session.

    Args:
        earlier: The result of :func:`recent_demands` before the sign-in.
        step_up: The demand of the sign-in; None without one.
    """
    if step_up is None:
        return earlier
    made = {"max_age": step_up.max_age, "acr": list(step_up.acr)}
    return [*(each for each in earlier if each != made), made][-_MOST_DEMANDS:]


def _includes(made: Any, demand: LoginDemand) -> bool:
    """Return whether each sign-in that satisfies an earlier demand satisfies another one too."""
    age, acr = made["max_age"], made["acr"]
    is_recent = demand.max_age is None or (age is not None and age <= demand.max_age)
    return is_recent and (not demand.acr or (bool(acr) and set(acr) <= set(demand.acr)))
