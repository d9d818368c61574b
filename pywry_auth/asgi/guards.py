"""Dependencies that guard path operations and websockets.

They require a signed-in user, a role or a permission.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, cast

from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection

from pywry_auth.asgi.visit import refuse, visit_of
from pywry_auth.deploy.answers import challenge, forbidden, refusal_for
from pywry_auth.deploy.csrf import SAFE_METHODS, require_own_or_bearer, require_own_use_of_cookie
from pywry_auth.exceptions import AuthenticationError
from pywry_auth.models import UserSession

if TYPE_CHECKING:
    from pywry_auth.deploy.current import CurrentSessions
    from pywry_auth.deploy.site import Site

_FORBIDDEN = "The user's account may not do this."


async def current_session(connection: HTTPConnection) -> UserSession:
    """Return the session of the signed-in user: ``Depends(current_session)``.

    Without a session, a visitor who navigates to a page is sent to the login and then returned to the page.
    Other requests get 401, and a websocket is refused. A public path operation reads
    ``request.state.session`` instead.

    A request other than GET, HEAD and OPTIONS that another site's page caused gets 403, unless a bearer token
    authenticates it.

    Args:
        connection: The request or websocket.

    Raises:
        AuthenticationError: The application has no ``AuthMiddleware``.
    """
    return await _session(connection, csrf=True)


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
    await _require(connection, require_own_or_bearer)


async def _session(connection: HTTPConnection, *, csrf: bool) -> UserSession:
    visit_of(connection)
    if csrf:
        await _require(connection, require_own_use_of_cookie)
    session = cast("UserSession | None", connection.state.session)
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

    Users without them get 403.

    Args:
        roles: Names of roles; without one, any signed-in user is admitted.
        csrf: Whether to refuse requests that another site's page caused, see :func:`current_session`.
    """

    async def session_with_roles(connection: HTTPConnection) -> UserSession:
        session = await _session(connection, csrf=csrf)
        if not set(roles) <= set(session.roles):
            await refuse(connection, _FORBIDDEN, forbidden)
        return session

    return session_with_roles


def require_permission(
    permission: str, resource_type: str = "", resource_parameter: str = "", *, csrf: bool = True
) -> Callable[[HTTPConnection], Awaitable[UserSession]]:
    """Return a dependency that requires a permission.

    Users have permissions through their roles or through a grant on the resource. Other users get 403.

    Args:
        permission: For example ``write``.
        resource_type: Kind of resource, for grants on single resources.
        resource_parameter: The path's parameter that holds the resource's ID.
        csrf: See :func:`require_role`.
    """

    async def session_with_permission(connection: HTTPConnection) -> UserSession:
        session = await _session(connection, csrf=csrf)
        resource = str(connection.path_params.get(resource_parameter, ""))
        store = visit_of(connection).router.auth_routes.sessions.store
        if not await run_in_threadpool(store.allows, session, resource_type, resource, permission):
            await refuse(connection, _FORBIDDEN, forbidden)
        return session

    return session_with_permission
