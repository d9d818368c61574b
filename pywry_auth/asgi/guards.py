"""Dependencies that guard path operations and websockets.

They require a signed-in user, a role, a permission, scopes or a recent sign-in.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

from fastapi import Depends, Security
from fastapi.security import SecurityScopes
from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection

from pywry_auth.asgi.visit import answer_preflight, is_own_route, refuse, visit_of
from pywry_auth.deploy.answers import challenge, forbidden, refusal_for
from pywry_auth.deploy.csrf import SAFE_METHODS, require_own_or_bearer, require_own_use_of_cookie
from pywry_auth.deploy.login_demand import LoginDemand, demand_of, mark_demand
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
# In front of each part of the demand on the sign-in of a visitor.
_SCOPE, _MAX_AGE, _ACR = "pywry_auth: scope ", "pywry_auth: max_age ", "pywry_auth: acr "


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
    return await _admit(connection, session, csrf=_ANY_SITE not in marks, demand=_demand_in(marks))


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
    connection: HTTPConnection,
    session: UserSession | None,
    *,
    csrf: bool,
    demand: LoginDemand | None = None,
) -> UserSession:
    """Return the session, or refuse; an override of ``current_session`` may have found None."""
    if is_own_route(connection):
        return session or UserSession("", "", [])
    answer_preflight(connection)
    if csrf:
        await _require(connection, require_own_use_of_cookie)
    if session is None:
        signer = visit_of(connection).router.auth_routes.scopes.signer
        whole = _whole(connection, demand)
        signed = "" if whole is None else signer.sign(whole)
        await refuse(connection, "No user is signed in.", partial(challenge, demand=signed))
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
    return _guard_of_demand(
        LoginDemand.of(scopes, "require_scope"), "The user has not granted a scope.", csrf=csrf
    )


def require_fresh_login(
    max_age: int | None = 300, acr: str | Sequence[str] | None = None, *, csrf: bool = True
) -> Callable[[HTTPConnection], Awaitable[UserSession]]:
    """Require a recent or a strong sign-in (RFC 9470).

    The time and the class of the user's sign-in at the provider count, not those of the session, and a
    refresh changes neither. A navigation to the page leads to the provider and back. The same user must sign
    in again there, and then gets a new session. Other requests get 401, with ``max_age``, ``acr_values`` and
    the address ``login_url``, and a websocket is refused. After a sign-in that is not recent or not strong
    enough, an error page follows in place of another redirect, and the old session stays. It depends on
    :func:`current_session`, so an override of that applies here too.

    A session that the application created, for an API client, never suffices. The provider must use OpenID
    Connect: without such a provider, the application is refused when it starts.

    Args:
        max_age: The most seconds since the user authenticated (``auth_time``); None for any time. The
            provider's ``CLOCK_SKEW_SECONDS`` are added.
        acr: The authentication context classes of which one suffices: a sequence of names, or a text with
            spaces between them. None for any.
        csrf: See :func:`require_role`.

    Raises:
        AuthenticationError: Both are None, ``max_age`` is no positive whole number, or a name is not valid
            (``invalid_configuration``).
    """
    demand = LoginDemand.step_up(max_age, acr, "require_fresh_login")
    return _guard_of_demand(demand, "The user's sign-in is not recent or not strong enough.", csrf=csrf)


def _guard_of_demand(
    demand: LoginDemand, reason: str, *, csrf: bool
) -> Callable[[HTTPConnection], Awaitable[UserSession]]:
    async def is_satisfied(connection: HTTPConnection, session: UserSession) -> bool:
        routes = visit_of(connection).router.auth_routes
        if await run_in_threadpool(routes.satisfied, session, demand):
            return True
        whole = _whole(connection, demand)
        respond = partial(routes.ask, session=session, demand=demand, whole=whole)
        return await refuse(connection, reason, respond)

    return _guard(is_satisfied, csrf=csrf, demand=demand)


def _guard(
    allows: Callable[[HTTPConnection, UserSession], Awaitable[bool]],
    *,
    csrf: bool,
    demand: LoginDemand | None = None,
) -> Callable[[HTTPConnection], Awaitable[UserSession]]:
    scopes = ([] if csrf else [_ANY_SITE]) + _marks_of(demand)
    signed_in: Any = Security(current_session, scopes=scopes)

    @_guarding
    async def session_that_may(
        connection: HTTPConnection, session: UserSession | None = signed_in
    ) -> UserSession:
        if session is signed_in:  # a direct call, without FastAPI
            session = await current_session(connection, SecurityScopes(scopes))
        # An override of current_session may have checked nothing.
        admitted = await _admit(connection, session, csrf=csrf, demand=demand)
        if not is_own_route(connection) and not await allows(connection, admitted):
            await refuse(connection, _FORBIDDEN, forbidden)
        return admitted

    mark_demand(session_that_may, demand)
    return session_that_may


def demands_of(route: object) -> Iterator[LoginDemand]:
    """Yield the demands of a path operation's guards.

    Args:
        route: A route of the application; one without dependencies has none.
    """
    waiting = [getattr(route, "dependant", None)]  # codespell:ignore dependant
    while waiting:
        needs = waiting.pop()
        found = demand_of(getattr(needs, "call", None))
        if found is not None:
            yield found
        waiting += getattr(needs, "dependencies", ())


def _whole(connection: HTTPConnection, demand: LoginDemand | None) -> LoginDemand | None:
    """Return the demand of all guards of a path operation.

    One sign-in then satisfies all of them.
    """
    for each in demands_of(connection.scope.get("route")):
        demand = each if demand is None else demand.merged_with(each)
    return demand


def _marks_of(demand: LoginDemand | None) -> list[str]:
    if demand is None:
        return []
    age = [] if demand.max_age is None else [f"{_MAX_AGE}{demand.max_age}"]
    return [_SCOPE + scope for scope in demand.scopes] + age + [_ACR + value for value in demand.acr]


def _demand_in(marks: Sequence[str]) -> LoginDemand | None:
    """Return the demand of :func:`_marks_of`; None without one."""
    scopes, ages, acr = (
        tuple(dict.fromkeys(mark.removeprefix(start) for mark in marks if mark.startswith(start)))
        for start in (_SCOPE, _MAX_AGE, _ACR)
    )
    if not scopes and not ages and not acr:
        return None
    return LoginDemand(scopes, min(map(int, ages), default=None), acr)
