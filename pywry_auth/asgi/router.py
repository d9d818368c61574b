"""The routes as path operations: FastAPI's dependencies and schema around the same WSGI code."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import NoMatchFound

from pywry_auth.asgi.bridge import Bridge, BridgedResponse
from pywry_auth.asgi.schema import OPERATIONS, Operation
from pywry_auth.deploy.standalone import StandaloneRoutes

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from pywry_auth.deploy.blueprint import AuthRoutes

_PREFIX = "/auth"
_LOGIN = "pywry_auth_login"


class AuthRouter(APIRouter):
    """The routes under ``/auth`` for ``include_router()``, with any prefix and dependencies.

    Args:
        routes: The routes; they belong to no other application.
    """

    def __init__(self, routes: AuthRoutes) -> None:
        super().__init__(prefix=_PREFIX, tags=["auth"])
        self.standalone = StandaloneRoutes(routes)
        self._bridge = Bridge(self.standalone)
        for name, operation in OPERATIONS.items():
            self._add(name, operation)
        # What else lies under the prefix is answered by the same code too: 404, 405, HEAD.
        self.add_api_route(
            "/{rest:path}",
            self._endpoint(f"{_PREFIX}/{{rest}}"),
            methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"],
            include_in_schema=False,
        )

    def mount_in(self, app: Starlette) -> str:
        """Return what stands before the routes in an application; nothing where they are not in it.

        Args:
            app: The application.
        """
        try:
            return app.url_path_for(_LOGIN).removesuffix(f"{_PREFIX}/login")
        except NoMatchFound:
            return ""

    def _add(self, name: str, operation: Operation) -> None:
        named = name == "callback" and self.standalone.several_providers
        path = operation.path + ("/{name}" if named else "")
        self.add_api_route(
            path,
            self._endpoint(_PREFIX + path),
            methods=[operation.method],
            name=f"pywry_auth_{name}",
            summary=operation.summary,
            status_code=operation.status,
            response_model=operation.model,
            response_class=JSONResponse if operation.model else Response,
            responses=operation.responses,
            openapi_extra={"parameters": operation.parameters} if operation.parameters else None,
        )

    def _endpoint(self, own_path: str) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            return BridgedResponse(self._bridge, own_path.format(**request.path_params))

        return endpoint
