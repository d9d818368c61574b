"""The routes as FastAPI path operations with their schema."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pydantic.dataclasses
from fastapi import APIRouter
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, NoMatchFound
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound
from werkzeug.routing import Map, Rule
from werkzeug.wrappers import Response as WSGIResponse

from pywry_auth.asgi.bridge import (
    BODY_SECONDS,
    LARGEST_BODY,
    PREFIX,
    THREADS,
    Bridge,
    BridgedResponse,
    body_of,
)
from pywry_auth.deploy.answers import answer
from pywry_auth.deploy.callback_path import aliases, usual_callback
from pywry_auth.deploy.capacity import Capacity
from pywry_auth.deploy.proxies import TrustedProxies
from pywry_auth.deploy.routes import ROUTES, Problem, Route, in_braces, parameters_of

if TYPE_CHECKING:
    from starlette.types import Scope
    from werkzeug.wrappers import Request as WSGIRequest

    from pywry_auth.deploy.auth_routes import AuthRoutes
    from pywry_auth.deploy.site import Mount as SiteMount

_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"]
_TEXT: dict[str, Any] = {"schema": {"type": "string"}}
_FORM = "application/x-www-form-urlencoded"
_OPTIONAL = {"in": "query", "required": False, **_TEXT}
_UNREAD = Problem(
    "invalid_request",
    f"The body of the request did not arrive within {BODY_SECONDS:g} s, or is larger than {LARGEST_BODY} "
    "bytes: send a smaller one, without a pause.",
)
_MODELS: dict[object, Any] = {
    kind: pydantic.dataclasses.dataclass(kind, frozen=True)
    for kind in (Problem, *(route.body for route in ROUTES if route.body))
}
"""The bodies as models, whose schemas are built once and not for each route."""
_IN_PATH = {"in": "path", "required": True, **_TEXT}


class AuthRouter(APIRouter):
    """The routes under ``/auth``, for ``app.include_router()``.

    The application can add any prefix and dependencies.

    Args:
        auth_routes: The routes. They are also an attribute, so that an application can set their ``render``
            to make its own pages.
    """

    def __init__(self, auth_routes: AuthRoutes) -> None:
        super().__init__(tags=["auth"])
        self.auth_routes = auth_routes
        options = auth_routes.options
        proxies = TrustedProxies(options.trusted_proxy_hops, options.trust_forwarded_prefix)
        self.bridge = Bridge(self._serve, proxies)
        auth_routes.limit_calls(Capacity(THREADS))
        rules = [
            Rule(auth_routes.path_of(route), endpoint=route.name, methods=[route.method, "OPTIONS"])
            for route in ROUTES
        ]
        self._paths = Map(rules, merge_slashes=False).bind("")
        # Each endpoint, and its path below the prefix. An application's own endpoint may have no hash.
        self._below: list[tuple[object, str]] = []
        for route in ROUTES:
            self._add(route)
        for name, at in aliases(options.callback_paths, PREFIX).items():
            endpoint = self._endpoint(usual_callback(name), at)
            self.add_api_route(at, endpoint, methods=_METHODS, include_in_schema=False)
        # The same code serves every other request below the prefix: 404, 405 and HEAD.
        self.add_api_route(
            PREFIX + "/{rest:path}", self._endpoint("/{rest}"), methods=_METHODS, include_in_schema=False
        )

    def serves(self, scope: Scope) -> bool:
        """Return whether one of the routes serves a request, with any method.

        The router also responds to other paths below its prefix, which are no routes.

        Args:
            scope: The request in its path operation, or a websocket.
        """
        served = scope.get("endpoint")
        path = next((path for endpoint, path in self._below if endpoint is served), None)
        if path is None:
            return False
        try:
            self._match(path.format(**scope["path_params"]), scope["method"])
        except HTTPException as fault:
            return isinstance(fault, MethodNotAllowed)
        return True

    def prefix_in(self, app: object) -> str:
        """Return the path of the routes in an application.

        Args:
            app: The application; any other object counts as one that does not include the routes.

        Returns:
            The path; ``/auth`` if the application does not include the routes.
        """
        if isinstance(app, Starlette):
            for name in _names(app.routes, f"pywry_auth_{ROUTES[0].name}"):
                with suppress(NoMatchFound):
                    return app.url_path_for(name).removesuffix(ROUTES[0].path)
        return PREFIX

    def end_user_sessions(self, user_id: str) -> int:
        """End all sessions of a user, and revoke the user's tokens.

        It does the same for another user as ``POST /auth/logout?everywhere=1`` for the own one. It also ends
        the sessions of API clients, and revokes tokens that ``delete_user_sessions`` of the session store has
        left. The user may sign in again.

        The call waits for the stores and the provider. Make it in a path operation with ``def``, or with
        ``run_in_threadpool``. Listeners of events receive this router as the sender.

        Args:
            user_id: The user's ID.

        Returns:
            How many sessions ended.

        Raises:
            UnreadableRecord: This process can read none of the user's sessions, which stay.
            StoreUnavailable: The store is down; a repeated call finishes the work.
        """
        return self.auth_routes.end_user(user_id, self)

    def _add(self, route: Route) -> None:
        inside = self.auth_routes.path_of(route)
        path = in_braces(inside)
        others: dict[int | str, dict[str, Any]] = {
            status: {"description": reason} | ({"model": _MODELS[Problem]} if status >= 400 else {})
            for status, reason in route.others.items()
        }
        if route.headers:
            headers = {name: {"description": text, **_TEXT} for name, text in route.headers.items()}
            others[route.status] = {"headers": headers}
        described = self.auth_routes.query_of(route).items()
        parameters = [{"name": name, **_IN_PATH} for name in parameters_of(inside)]
        parameters += [{"name": name, "description": text, **_OPTIONAL} for name, text in described]
        self.add_api_route(
            PREFIX + path,
            self._endpoint(path),
            methods=[route.method],
            name=f"pywry_auth_{route.name}",
            summary=route.summary,
            status_code=route.status,
            response_model=_MODELS.get(route.body),
            response_class=JSONResponse if route.body else Response,
            responses=others,
            openapi_extra=({"parameters": parameters} if parameters else {}) | _request_body(route),
        )

    def _endpoint(self, path: str, end: str = "") -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            body = await body_of(request)
            if body is None:
                return self._unread()
            return BridgedResponse(self.bridge, path.format(**request.path_params), end, body)

        self._below.append((endpoint, path))
        return endpoint

    def _unread(self) -> Response:
        """Return the response to a request with a body that is too large or not complete."""
        refused = self.auth_routes.private(answer(_UNREAD, 400))
        return Response(refused.get_data(), refused.status_code, dict(refused.headers))

    def _match(self, path: str, method: str) -> tuple[str, Mapping[str, str]]:
        """Return a route's name and parameters; otherwise raise the error 404 or 405."""
        if path.startswith("//"):  # otherwise the map drops a slash and finds a route
            raise NotFound
        name, parameters = self._paths.match(path, method)
        return name, parameters

    def _serve(self, path: str, request: WSGIRequest, mount: SiteMount) -> WSGIResponse:
        try:
            name, parameters = self._match(path, request.method)
        except HTTPException as fault:
            return self.auth_routes.handle_fault(fault, request, mount)
        try:
            return self.auth_routes.handle(name, request, mount, **parameters)
        except HTTPException as fault:  # werkzeug's abort() in the application's hook
            return self.auth_routes.private(WSGIResponse.force_type(fault.get_response(request.environ)))


def _request_body(route: Route) -> dict[str, Any]:
    """Return the schema's member for a form in the body."""
    if not route.form:
        return {}
    properties = {name: {"type": "string", "description": text} for name, text in route.form.items()}
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return {"requestBody": {"required": True, "content": {_FORM: {"schema": schema}}}}


def _names(routes: Sequence[BaseRoute], name: str) -> Iterator[str]:
    """Yield the names that a route has, depending on the mounted application that includes it."""
    yield name
    for route in routes:
        if isinstance(route, Mount):
            for inner in _names(route.routes or (), name):
                yield f"{route.name}:{inner}" if route.name else inner
