"""Dependencies for path operations and websockets: signed in, with a role, with a permission."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, cast

from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection

from pywry_auth.asgi.middleware import ROUTER
from pywry_auth.asgi.refused import Refused
from pywry_auth.deploy.guards import challenge, forbidden
from pywry_auth.exceptions import AuthenticationError, ErrorCode
from pywry_auth.models import UserSession

if TYPE_CHECKING:
    from pywry_auth.asgi.router import AuthRouter


async def current_session(connection: HTTPConnection) -> UserSession:
    """Return the session of the user who asks: ``Depends(current_session)``.

    Where nobody is signed in, a visitor who navigates is sent to the login and comes back, others get 401,
    and a websocket is refused. A path operation for everybody asks ``request.state.session``, or None there.

    Args:
        connection: The request or websocket.

    Raises:
        AuthenticationError: The application has no ``AuthMiddleware``.
    """
    _router_of(connection)
    session = cast("UserSession | None", connection.state.session)
    if session is None:
        raise Refused("nobody is signed in", challenge)
    return session


def require_role(*roles: str) -> Callable[[HTTPConnection], Awaitable[UserSession]]:
    """Return a dependency that lets in only users who have all of the roles; others get 403.

    Args:
        roles: Names of roles.
    """

    async def session_with_roles(connection: HTTPConnection) -> UserSession:
        session = await current_session(connection)
        if not set(roles) <= set(session.roles):
            raise Refused("the user lacks a role", forbidden)
        return session

    return session_with_roles


def require_permission(
    permission: str, resource_type: str = "", resource_parameter: str = ""
) -> Callable[[HTTPConnection], Awaitable[UserSession]]:
    """Return a dependency that lets in who may do something, by role or by a grant on the resource; else 403.

    Args:
        permission: For example ``write``.
        resource_type: Kind of resource, for grants on single ones.
        resource_parameter: The path's parameter that holds the resource's ID.
    """

    async def session_with_permission(connection: HTTPConnection) -> UserSession:
        session = await current_session(connection)
        resource = str(connection.path_params.get(resource_parameter, ""))
        store = _router_of(connection).standalone.session_store
        if not await run_in_threadpool(store.allows, session, resource_type, resource, permission):
            raise Refused("the user lacks a permission", forbidden)
        return session

    return session_with_permission


def _router_of(connection: HTTPConnection) -> AuthRouter:
    router = connection.scope.get(ROUTER)
    if router is None:
        raise AuthenticationError(
            "This application does not know who is signed in: app.add_middleware(AuthMiddleware, router=…).",
            error=ErrorCode.INVALID_CONFIGURATION,
        )
    return cast("AuthRouter", router)
