"""Guards every request of an application, except those of its public routes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import fastapi.routing
from starlette.applications import Starlette
from starlette.requests import HTTPConnection, Request
from starlette.routing import Match

from pywry_auth.asgi.guards import require_session
from pywry_auth.asgi.visit import Refused, answer_of
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Scope

    from pywry_auth.models import UserSession

_logger = logging.getLogger("pywry_auth.asgi")
# Newer versions of FastAPI keep included routers whole, and have this function to list their routes.
flat_routes: Callable[[Sequence[Any]], Iterable[Any]] = getattr(fastapi.routing, "iter_route_contexts", list)
"""Lists the routes of an application, with those of included routers."""


class Protection:
    """Requires a session for every request that no public route serves.

    The names of routes decide, as Starlette matches them. The spelling of a path and the headers have no
    effect of their own.

    Args:
        app: The application around which the middleware stands.
        public: Names of routes, mounts and hosts of the application.
        middleware: The class of the middleware.

    Raises:
        AuthenticationError: ``public`` is one text in place of several (``invalid_configuration``).
    """

    def __init__(self, app: ASGIApp, public: Iterable[str], middleware: type) -> None:
        if isinstance(public, str):
            raise _configuration_error('public is one text: pass a tuple of names, such as ("home",)')
        self._inside = app
        self._middleware = middleware
        self._names = frozenset(public)
        self._site: Starlette | None = None

    def find(self, scope: Scope) -> None:
        """Find the application whose routes decide.

        Args:
            scope: A request, a websocket or the application's lifespan.

        Raises:
            AuthenticationError: The middleware stands inside the routes, or around no application of
                Starlette or FastAPI.
        """
        if self._site is not None:
            return
        app = scope.get("app")
        if not (isinstance(app, Starlette) and self._is_in(app)):
            app = self._inside
        if not isinstance(app, Starlette):
            raise _configuration_error("protect=True needs app.add_middleware(AuthMiddleware, …)")
        self._site = app
        if ignored := sorted(self._names - self._public):
            _logger.warning(
                "public has names that no route of the application has, or several with different paths: "
                "they stay guarded: %s",
                ", ".join(ignored),
            )

    def guards(self, route: Any) -> bool:
        """Return whether a route of the application is not public."""
        return route.name not in self._public

    async def require(self, scope: Scope, session: UserSession | None) -> None:
        """Refuse a request or websocket without a session, unless its route is public.

        Args:
            scope: The request or websocket.
            session: Its session.

        Raises:
            Refused: The request is refused. The response may be that of the application's own handler.
            RefusedWebSocket: The websocket is refused.
        """
        site = cast(Starlette, self._site)
        route, below = _matched(site.routes, scope)
        if route is not None and not self.guards(route):
            return
        while route is not None and getattr(route, "routes", None):
            route, below = _matched(route.routes, below)
        try:
            await require_session(HTTPConnection(below), session)
        except Refused as error:
            response = await answer_of(site, Request(dict(scope)), error)
            raise Refused(str(error.detail), response) from None

    def _is_in(self, app: Starlette) -> bool:
        added: list[object] = [each.cls for each in app.user_middleware]
        return self._middleware in added

    @cached_property
    def _public(self) -> frozenset[str]:
        """The names that exactly one path has."""
        paths: dict[str, set[str]] = {}
        for route in flat_routes(cast(Starlette, self._site).routes):
            name = getattr(route, "name", None)
            if name in self._names:
                path = getattr(route, "path", None) or getattr(route, "host", "")
                paths.setdefault(name, set()).add(str(path))
        return frozenset(name for name, found in paths.items() if name and len(found) == 1)


def protection_of(app: ASGIApp, protect: bool, public: Iterable[str], middleware: type) -> Protection | None:
    """Return the protection of an application, or None without ``protect``.

    Args:
        app: See :class:`Protection`.
        protect: Whether to guard the application.
        public: See :class:`Protection`.
        middleware: See :class:`Protection`.

    Raises:
        AuthenticationError: ``public`` has no effect, or is one text (``invalid_configuration``).
    """
    if not protect and public:
        raise _configuration_error("public has no effect without protect=True")
    return Protection(app, public, middleware) if protect else None


def _matched(routes: Sequence[Any], scope: Scope) -> tuple[Any, Scope]:
    """Return the route that serves a request, and the scope below it.

    As in Starlette, the first full match counts, and otherwise the first with another method.
    """
    partial: tuple[Any, Scope] = (None, scope)
    for route in flat_routes(routes):
        match, child = route.matches(dict(scope))
        below = {**scope, "route": route, **child}
        if match is Match.FULL:
            return route, below
        if match is Match.PARTIAL and partial[0] is None:
            partial = (route, below)
    return partial


def _configuration_error(text: str) -> AuthenticationError:
    return AuthenticationError(f"AuthMiddleware: {text}.", error=ErrorCode.INVALID_CONFIGURATION)
