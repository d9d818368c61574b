"""Dependencies that guard path operations and websockets.

They require a signed-in user, a role, a permission or scopes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

from fastapi import Depends, Security
from fastapi.security import SecurityScopes
from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection

from pywry_auth.asgi.visit import answer_preflight, is_own_route, refuse, visit_of
from pywry_auth.deploy.answers import challenge, forbidden, refusal_for
from pywry_auth.deploy.csrf import SAFE_METHODS, require_own_or_bearer, require_own_use_of_cookie
from pywry_auth.deploy.login_demand import LoginDemand
from pywry_auth.exceptions import AuthenticationError
from pywry_auth.flow.events import emit
from pywry_auth.models import UserSession
from pywry_auth.state.auth import check_roles

if TYPE_CHECKING:
    from pywry_auth.deploy.current import CurrentSessions
    from pywry_auth.deploy.site import Site

_FORBIDDEN = "The user's account may not do this."
_NO_SCOPES = SecurityScopes()
# FastAPI calls a dependency once per request and set of scopes. Without a scope of its own, a guard with
# csrf=False would find the session also for a guard that checks the request.
_ANY_SITE = "pywry_auth: from any site"
_DEMANDED = "pywry_auth: scope "  # in front of each scope that the sign-in of a visitor must ask for


_Dependency = TypeVar("_Dependency", bound=Callable[..., object])
_MARK = "_pywry_auth_guard"


def _guarding(dependency: _Dependency) -> _Dependency:
    """Mark a dependency that admits signed-in users only."""
    dependency.__dict__[_MARK] = True
    return dependency


def is_guard(dependency: object) -> bool:
    """Return whether a dependency admits signed-in users only."""
    return getattr(dependency, _MARK, False) is True


@_guarding
async def current_session(
    connection: HTTPConnection, security_scopes: SecurityScopes = _NO_SCOPES
) -> UserSession:
    """Return the session of the signed-in user: ``Depends(current_session)``.

    Without a session, a visitor who navigates to a page is sent to the login and then returned to the page.
    Other requests get 401, and a websocket is refused. A public path operation reads
    ``request.state.session`` instead.

    A request other than GET, HEAD and OPTIONS that another site's page caused gets 403, unless a bearer token
    authenticates it.

    The guards never refuse the routes of sign-in, so they can stand on a whole application. There, a visitor
    has a session without a user ID and roles. A preflight (Fetch §3.2.2) carries no credentials. It is
    answered without the path operation.

    Args:
        connection: The request or websocket.
        security_scopes: FastAPI passes them; a direct call does not.

    Raises:
        AuthenticationError: The application has no ``AuthMiddleware``.
    """
    visit_of(connection)
    session = cast("UserSession | None", connection.state.session)
    marks = security_scopes.scopes
    demanded = [mark.removeprefix(_DEMANDED) for mark in marks if mark.startswith(_DEMANDED)]
    return await _admit(connection, session, csrf=_ANY_SITE not in marks, scopes=demanded)


async def protect_from_csrf(connection: HTTPConnection) -> None:
    """Refuse requests that another site's page caused, for path operations without a guard.

    For example ``APIRouter(dependencies=[Depends(protect_from_csrf)])``. GET, HEAD and OPTIONS are accepted,
    and so are requests that a bearer token of a session authenticates. A websocket is not checked, because
    the middleware does that.

    Args:
        connection: The request or websocket.

    Raises:
        AuthenticationError: The application has no ``AuthMiddleware``.
    """
    if not is_own_route(connection):  # those check each POST themselves
        await _require(connection, require_own_or_bearer)


async def _admit(
    connection: HTTPConnection, session: UserSession | None, *, csrf: bool, scopes: Sequence[str] = ()
) -> UserSession:
    """Return the session, or refuse; an override of ``current_session`` may have found None."""
    if is_own_route(connection):
        return session or UserSession("", "", [])
    answer_preflight(connection)
    if csrf:
        await _require(connection, require_own_use_of_cookie)
    if session is None:
        signer = visit_of(connection).router.auth_routes.scopes.signer
        demand = signer.sign(LoginDemand(tuple(dict.fromkeys(scopes)))) if scopes else ""
        await refuse(connection, "No user is signed in.", partial(challenge, demand=demand))
    return session


async def require_session(connection: HTTPConnection, session: UserSession | None) -> None:
    """Refuse a request or websocket like :func:`current_session`, for the middleware.

    Args:
        connection: The request or websocket, with the endpoint that serves it.
        session: Its session.

    Raises:
        Refused: The request is refused, or is a preflight.
        RefusedWebSocket: The websocket is refused.
    """
    await _admit(connection, session, csrf=True)


async def _require(connection: HTTPConnection, rule: Callable[[Site, CurrentSessions], None]) -> None:
    visit = visit_of(connection)
    # Not the method of the visit: middleware of the application may have replaced it.
    if connection.scope["type"] == "websocket" or connection.scope["method"] in SAFE_METHODS:
        return
    try:
        rule(visit.site, visit.router.auth_routes.sessions)  # the middleware has looked up the session
    except AuthenticationError as error:
        again = visit.site.home
        await refuse(connection, str(error), partial(refusal_for, error=error, again=again))


_SIGNED_IN: Any = Depends(current_session)


@_guarding
async def access_token(connection: HTTPConnection, session: UserSession | None = _SIGNED_IN) -> str:
    """Return the signed-in user's access token: ``Depends(access_token)``.

    It is refreshed if necessary, in a thread, by one call for all requests, workers and machines. A token
    that expires within 60 s is returned and refreshed in the background. The dependency depends on
    :func:`current_session`: it needs no other guard, and an override of that applies here too.

    If the user must sign in again, a navigation leads to the login and back. Other requests get 401,
    and a websocket is refused. If the provider gives no token at the moment, the
    status is 502 or 503. On the routes of sign-in the token is empty.

    Args:
        connection: The request or websocket.
        session: The session; a direct call without it looks it up.

    Raises:
        LoginRequired: The user must sign in again (``reauth_required``).
        AuthenticationError: The access rules do not admit the user any more (``access_denied``), or the
            application has no ``AuthMiddleware``.
        TokenError: The token has expired, and the provider cannot be reached or refused for a reason that can
            be corrected.
        ProviderBusy: The token has expired, and too many requests wait for the provider.
        StoreUnavailable: The store is down.
    """
    if session is _SIGNED_IN:  # a direct call, without FastAPI
        session = await current_session(connection)
    admitted = await _admit(connection, session, csrf=True)
    if is_own_route(connection):
        return ""
    visit = visit_of(connection)
    notify = partial(emit, visit.site.mount.application)
    return await run_in_threadpool(visit.router.auth_routes.tokens_of(admitted, notify).get_access_token)


def require_role(*roles: str, csrf: bool = True) -> Callable[[HTTPConnection], Awaitable[UserSession]]:
    """Return a dependency that requires all of the roles.

    Users without them get 403. The dependency depends on :func:`current_session`, so an override of that
    applies here too.

    Args:
        roles: Names of roles; without one, any signed-in user is admitted.
        csrf: Whether to refuse requests that another site's page caused, see :func:`current_session`.
    """

    async def has_roles(connection: HTTPConnection, session: UserSession) -> bool:
        return set(roles) <= set(session.roles)

    return _guard(has_roles, csrf=csrf)


def require_any_role(*roles: str, csrf: bool = True) -> Callable[[HTTPConnection], Awaitable[UserSession]]:
    """Return a dependency that requires one of the roles.

    Users without any of them get 403. The dependency depends on :func:`current_session`, so an override of
    that applies here too.

    Args:
        roles: Names of roles, at least one.
        csrf: See :func:`require_role`.

    Raises:
        AuthenticationError: There is no role, or a role is not a text.
    """
    check_roles(roles, "require_any_role")

    async def has_a_role(connection: HTTPConnection, session: UserSession) -> bool:
        return not set(roles).isdisjoint(session.roles)

    return _guard(has_a_role, csrf=csrf)


def require_permission(
    permission: str, resource_type: str = "", resource_parameter: str = "", *, csrf: bool = True
) -> Callable[[HTTPConnection], Awaitable[UserSession]]:
    """Return a dependency that requires a permission.

    Users have permissions through their roles or through a grant on the resource. Other users get 403. It
    depends on :func:`current_session`, so an override of that applies here too.

    Args:
        permission: For example ``write``.
        resource_type: Kind of resource, for grants on single resources.
        resource_parameter: The path's parameter that holds the resource's ID.
        csrf: See :func:`require_role`.
    """

    async def has_permission(connection: HTTPConnection, session: UserSession) -> bool:
        resource = str(connection.path_params.get(resource_parameter, ""))
        store = visit_of(connection).router.auth_routes.sessions.store
        return await run_in_threadpool(store.allows, session, resource_type, resource, permission)

    return _guard(has_permission, csrf=csrf)


def require_scope(*scopes: str, csrf: bool = True) -> Callable[[HTTPConnection], Awaitable[UserSession]]:
    """Return a dependency that requires scopes of the user's OAuth tokens.

    A navigation to the page leads to the provider and back. The request has the provider's own scopes,
    those that the user has granted before, and these. Other requests get 403, with ``missing_scopes`` and
    the address ``login_url`` (RFC 6750 §3.1), and a websocket is refused. After a sign-in that did not
    bring the scopes, a page with a link follows in place of another redirect. It depends on
    :func:`current_session`, so an override of that applies here too.

    Args:
        scopes: Names of scopes at the provider.
        csrf: See :func:`require_role`.

    Raises:
        AuthenticationError: There is no scope, or a name is not valid (RFC 6749 §3.3).
    """
    demand = LoginDemand.of(scopes, "require_scope")

    async def has_scopes(connection: HTTPConnection, session: UserSession) -> bool:
        granted = visit_of(connection).router.auth_routes.scopes
        if await run_in_threadpool(granted.suffice, session, demand):
            return True
        respond = partial(granted.refuse, session=session, demand=demand)
        return await refuse(connection, "The user has not granted a scope.", respond)

    return _guard(has_scopes, csrf=csrf, demanded=demand.scopes)


def _guard(
    allows: Callable[[HTTPConnection, UserSession], Awaitable[bool]],
    *,
    csrf: bool,
    demanded: Sequence[str] = (),
) -> Callable[[HTTPConnection], Awaitable[UserSession]]:
    scopes = ([] if csrf else [_ANY_SITE]) + [_DEMANDED + scope for scope in demanded]
    signed_in: Any = Security(current_session, scopes=scopes)

    @_guarding
    async def session_that_may(
        connection: HTTPConnection, session: UserSession | None = signed_in
    ) -> UserSession:
        if session is signed_in:  # a direct call, without FastAPI
            session = await current_session(connection, SecurityScopes(scopes))
        # An override of current_session may have checked nothing.
        admitted = await _admit(connection, session, csrf=csrf, scopes=demanded)
        if not is_own_route(connection) and not await allows(connection, admitted):
            await refuse(connection, _FORBIDDEN, forbidden)
        return admitted

    return session_that_may
