"""Dependencies that guard path operations and websockets.

They require a signed-in user, a role or a permission.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import cast

from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection

from pywry_auth.asgi.visit import refuse, visit_of
from pywry_auth.deploy.answers import challenge, forbidden
from pywry_auth.models import UserSession

_FORBIDDEN = "The user's account may not do this."


async def current_session(connection: HTTPConnection) -> UserSession:
    """Return the session of the signed-in user: ``Depends(current_session)``.

    Without a session, a visitor who navigates to a page is sent to the login and then returned to the page.
    Other requests get 401, and a websocket is refused. A public path operation reads
    ``request.state.session`` instead.

    Args:
        connection: The request or websocket.

    Raises:
        AuthenticationError: The application has no ``AuthMiddleware``.
    """
    visit_of(connection)
    session = cast("UserSession | None", connection.state.session)
    if session is None:
        await refuse(connection, "No user is signed in.", challenge)
    return session


def require_role(*roles: str) -> Callable[[HTTPConnection], Awaitable[UserSession]]:
    """Return a dependency that requires all of the roles.

    Users without them get 403.

    Args:
        roles: Names of roles.
    """

    async def session_with_roles(connection: HTTPConnection) -> UserSession:
        session = await current_session(connection)
        if not set(roles) <= set(session.roles):
            await refuse(connection, _FORBIDDEN, forbidden)
        return session

    return session_with_roles


def require_permission(
    permission: str, resource_type: str = "", resource_parameter: str = ""
) -> Callable[[HTTPConnection], Awaitable[UserSession]]:
    """Return a dependency that requires a permission.

    Users have permissions through their roles or through a grant on the resource. Other users get 403.

    Args:
        permission: For example ``write``.
        resource_type: Kind of resource, for grants on single resources.
        resource_parameter: The path's parameter that holds the resource's ID.
    """

    async def session_with_permission(connection: HTTPConnection) -> UserSession:
        session = await current_session(connection)
        resource = str(connection.path_params.get(resource_parameter, ""))
        store = visit_of(connection).router.auth_routes.sessions.store
        if not await run_in_threadpool(store.allows, session, resource_type, resource, permission):
            await refuse(connection, _FORBIDDEN, forbidden)
        return session

    return session_with_permission
