"""Guards every request of an application, except those of its public routes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any, cast

import fastapi.routing
from starlette.applications import Starlette
from starlette.requests import HTTPConnection, Request
from starlette.routing import Host, Match, Mount

from pywry_auth.asgi.guards import demands_of, require_session
from pywry_auth.asgi.visit import Refused, answer_of
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Scope

    from pywry_auth.deploy.login_demand import LoginDemand
    from pywry_auth.models import UserSession

_logger = logging.getLogger("pywry_auth.asgi")
_PLAIN = frozenset({"fastapi.routing", "starlette.routing"})
# Newer versions of FastAPI keep included routers whole, and have this function to list their routes.
flat_routes: Callable[[Sequence[Any]], Iterable[Any]] = getattr(fastapi.routing, "iter_route_contexts", list)
"""Lists the routes of an application, with those of included routers."""


class Protection:
    """Requires a session for every request that no public route serves.

    The names of routes decide, as Starlette matches them. The spelling of a path and the headers have no
    effect of their own. A route that is added after the first request opens no further path.

    Args:
        app: The application around which the middleware stands.
        public: Names of routes, mounts and hosts of the application.
    """

    def __init__(self, app: ASGIApp, public: Collection[str]) -> None:
        self._inside = app
        self._names = frozenset(public)
        self._site: Starlette | None = None

    def find(self, scope: Scope, middleware: object) -> None:
        """Find the application whose routes decide.

        Args:
            scope: A request, a websocket or the application's lifespan.
            middleware: The middleware that this protection belongs to.

        Raises:
            AuthenticationError: The middleware stands inside the routes, or around no application of
                Starlette or FastAPI.
        """
        if self._site is not None:
            return
        inside, around = self._inside, scope.get("app")
        if isinstance(inside, Starlette):
            self._site = inside
        elif isinstance(around, Starlette) and _is_around(around, middleware, scope):
            self._site = around
        else:
            raise _configuration_error("protect=True needs app.add_middleware(AuthMiddleware, …)")

    def guards(self, route: Any) -> bool:
        """Return whether a route of the application is not public."""
        return _key(route) not in self._public

    async def require(self, scope: Scope, session: UserSession | None) -> None:
        """Refuse a request or websocket without a session, unless its route is public.

        Args:
            scope: The request or websocket.
            session: Its session.

        Raises:
            Refused: The request is refused. The response may be that of the application's own handler.
            RefusedWebSocket: The websocket is refused.
        """
        site, public = cast(Starlette, self._site), self._public
        route, below = _matched(site.routes, scope)
        if _key(route) in public:
            return
        while route is not None and getattr(route, "routes", None):
            route, below = _matched(route.routes, below)
        try:
            await require_session(HTTPConnection(below), session)
        except Refused as error:
            response = await answer_of(site, Request(dict(scope)), error)
            raise Refused(str(error.detail), response) from None

    @cached_property
    def _public(self) -> frozenset[tuple[str, str]]:
        """The names that exactly one path has at the first request, each with this path.

        Until then, the application's lifespan may add routes.
        """
        site = cast(Starlette, self._site)
        keys = {_key(route) for route in chain.from_iterable(map(_certain, site.routes))}
        paths = {name: [path for other, path in keys if other == name] for name in self._names}
        found = {name: path[0] for name, path in paths.items() if len(path) == 1}
        if ignored := sorted(self._names - found.keys()):
            _logger.warning(
                "public has names that no route of the application has, or several with different paths, or "
                "one in an included router that contains a matches() of its own: they stay guarded: %s",
                ", ".join(ignored),
            )
        return frozenset(found.items())


def demands_in(app: Any) -> Iterator[tuple[str, LoginDemand]]:
    """Yield the demands of an application's guards.

    The name of the route stands before each demand.

    Args:
        app: The application, with those that it mounts or serves for a host; any other object has none.
    """
    routes = getattr(app, "routes", None) or []
    for route in flat_routes(routes):
        yield from ((str(route.name), demand) for demand in demands_of(route))
    for mount in routes:
        if isinstance(mount, (Mount, Host)):
            yield from demands_in(mount)  # it lists the routes also from behind middleware of its own


def protection_of(app: ASGIApp, protect: bool, public: Collection[str]) -> Protection | None:
    """Return the protection of an application, or None without ``protect``.

    Args:
        app: See :class:`Protection`.
        protect: Whether to guard the application.
        public: See :class:`Protection`.

    Raises:
        AuthenticationError: ``public`` has no effect, or is no collection of names
            (``invalid_configuration``).
    """
    if isinstance(public, str) or not isinstance(public, Collection):
        raise _configuration_error('public is no collection: pass a tuple of names, such as ("home",)')
    if not all(isinstance(name, str) and name for name in public):
        raise _configuration_error('each name in public is the name of a route, such as "home"')
    if not protect and public:
        raise _configuration_error("public has no effect without protect=True")
    return Protection(app, public) if protect else None


def _is_around(app: Starlette, middleware: object, scope: Scope) -> bool:
    """Return whether an application's own middleware contains this one, and not one that it mounts."""
    layer: object = app.middleware_stack
    while layer is not None and layer is not app.router:
        if layer is middleware:
            return True
        layer = getattr(layer, "app", None) or getattr(layer, "_app", None)
    # Middleware may hide the application inside it. A mount has set its application as the endpoint.
    return layer is None and scope.get("endpoint") in (None, app)


def _matched(routes: Sequence[Any], scope: Scope) -> tuple[Any, Scope]:
    """Return the route that serves a request, and the scope below it.

    As in Starlette, the first full match counts, and otherwise the first with another method.
    """
    partial: tuple[Any, Scope] = (None, scope)
    for outer in routes:
        match, _ = outer.matches(dict(scope))
        if match is Match.FULL:
            return _served(outer, match, scope)
        if match is Match.PARTIAL and partial[0] is None:
            partial = _served(outer, match, scope)
    return partial


def _served(outer: Any, match: Match, scope: Scope) -> tuple[Any, Scope]:
    """Return the route of an included router that serves a request, or the router if that is uncertain."""
    for route in _certain(outer):
        found, child = route.matches(dict(scope))
        if found is match:
            return route, {**scope, "route": route, **child}
    return outer, {**scope, "route": outer}


def _certain(outer: Any) -> Iterable[Any]:
    """Return a route, or the routes of an included router if only paths and methods select them.

    FastAPI asks each route and router inside an included router, but lists copies that know path and method
    only.
    """
    is_included = hasattr(outer, "original_router")
    return () if is_included and not all(map(_is_plain, _inside(outer))) else flat_routes([outer])


def _inside(included: Any) -> Iterator[Any]:
    """Yield the routers and routes inside an included router, at any depth."""
    yield included.original_router
    for route in included.original_router.routes:
        if hasattr(route, "original_router"):
            yield from _inside(route)
        else:
            yield route


def _is_plain(part: Any) -> bool:
    """Return whether a router or route has the ``matches()`` of FastAPI or Starlette."""
    matches = getattr(type(part), "matches", None)
    return "matches" not in vars(part) and getattr(matches, "__module__", "") in _PLAIN


def _key(route: Any) -> tuple[str, str]:
    """Return name and path of a route, or of a mount; a host has its pattern in place of a path."""
    path = getattr(route, "path", None) or getattr(route, "host", "")
    return str(getattr(route, "name", "")), str(path)


def _configuration_error(text: str) -> AuthenticationError:
    return AuthenticationError(f"AuthMiddleware: {text}.", error=ErrorCode.INVALID_CONFIGURATION)
