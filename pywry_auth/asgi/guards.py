"""Dependencies that guard path operations and websockets.

They require a signed-in user, a role or a permission.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from fastapi import Security
from fastapi.security import SecurityScopes
from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection

from pywry_auth.asgi.visit import answer_preflight, is_own_route, refuse, visit_of
from pywry_auth.deploy.answers import challenge, forbidden, refusal_for
from pywry_auth.deploy.csrf import SAFE_METHODS, require_own_or_bearer, require_own_use_of_cookie
from pywry_auth.exceptions import AuthenticationError
from pywry_auth.models import UserSession

if TYPE_CHECKING:
    from pywry_auth.deploy.current import CurrentSessions
    from pywry_auth.deploy.site import Site

_FORBIDDEN = "The user's account may not do this."
_NO_SCOPES = SecurityScopes()
# FastAPI calls a dependency once per request and set of scopes. Without a scope of its own, a guard with
# csrf=False would find the session also for a guard that checks the request.
_ANY_SITE = "pywry_auth: from any site"


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
    return await _admit(connection, session, csrf=_ANY_SITE not in security_scopes.scopes)


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


async def _admit(connection: HTTPConnection, session: UserSession | None, *, csrf: bool) -> UserSession:
    """Return the session, or refuse; an override of ``current_session`` may have found None."""
    if is_own_route(connection):
        return session or UserSession("", "", [])
    answer_preflight(connection)
    if csrf:
        await _require(connection, require_own_use_of_cookie)
    if session is None:
        await refuse(connection, "No user is signed in.", challenge)
    return session


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


def _guard(
    allows: Callable[[HTTPConnection, UserSession], Awaitable[bool]], *, csrf: bool
) -> Callable[[HTTPConnection], Awaitable[UserSession]]:
    scopes = [] if csrf else [_ANY_SITE]
    signed_in: Any = Security(current_session, scopes=scopes)

    async def session_that_may(
        connection: HTTPConnection, session: UserSession | None = signed_in
    ) -> UserSession:
        if session is signed_in:  # a direct call, without FastAPI
            session = await current_session(connection, SecurityScopes(scopes))
        # An override of current_session may have checked nothing.
        admitted = await _admit(connection, session, csrf=csrf)
        if not is_own_route(connection) and not await allows(connection, admitted):
            await refuse(connection, _FORBIDDEN, forbidden)
        return admitted

    return session_that_may
