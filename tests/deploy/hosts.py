"""The web hosts of the routes; one contract holds for all."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from a2wsgi import ASGIMiddleware
from fastapi import APIRouter, Depends, FastAPI
from starlette.requests import Request
from starlette.responses import PlainTextResponse

from pywry_auth.asgi import (
    AuthMiddleware,
    current_session,
    protect_from_csrf,
    require_permission,
    require_role,
    require_scope,
)
from pywry_auth.deploy_routes import create_auth_router
from pywry_auth.models import UserSession

_QUERY = "tests.query_string"
PROTECTED = "for members only"
"""Stands in the body of every guarded view."""
CHANGING = ["POST", "PUT", "PATCH", "DELETE", "PROPFIND"]
"""The methods of the views that change something; the last one is no method of HTTP itself."""


@dataclass(frozen=True)
class Host:
    """One way to serve the routes.

    Args:
        name: The name in test IDs.
        mount: Prefix of the routes in the application.
        path: Path of the application at a proxy in front; a test can choose another.
        fastapi: Whether FastAPI serves the routes.
        strips: Whether the proxy removes its path.
    """

    name: str
    mount: str = ""
    path: str = ""
    fastapi: bool = True
    strips: bool = False


FLASK = Host("flask", fastapi=False)
HOSTS = (
    FLASK,
    Host("fastapi"),
    Host("fastapi-below-a-prefix", mount="/api/v1"),
    Host("fastapi-and-a-proxy-that-strips", path="/app", strips=True),
    Host("fastapi-and-a-proxy-that-keeps", path="/app"),
)


def fastapi_app(host: Host, **parts: Any) -> FastAPI:
    """Return a FastAPI application, set up as users do it.

    Args:
        host: Where the routes are.
        parts: The arguments of ``create_auth_router``.
    """
    router = create_auth_router(**parts)
    app = FastAPI()
    app.include_router(router, prefix=host.mount)
    app.include_router(_views())
    app.add_middleware(AuthMiddleware, router=router)
    return app


def served_by_wsgi(app: FastAPI, host: Host) -> Callable[..., Any]:
    """Return a FastAPI application as a WSGI application.

    The tests of Flask and FastAPI then use the same client.

    Args:
        app: The application.
        host: The host, which says whether the proxy removes its path.
    """

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        environ = scope["wsgi_environ"]
        if host.strips:
            scope["path"] = scope["path"].removeprefix(scope["root_path"])
        # The adapter loses an address without a port, and bytes of a query that are not ASCII.
        scope["client"] = (environ["REMOTE_ADDR"], 50000) if environ.get("REMOTE_ADDR") else None
        scope["query_string"] = environ[_QUERY].encode("latin-1")
        await app(scope, receive, send)

    adapted = ASGIMiddleware(serve, loop=_loop())

    def wsgi(environ: Any, start_response: Any) -> Any:
        query = environ.get("QUERY_STRING", "")
        # A response that no client reads to its end would leave the application waiting in the event loop.
        return list(adapted(environ | {_QUERY: query, "QUERY_STRING": ""}, start_response))

    return wsgi


@cache
def _loop() -> asyncio.AbstractEventLoop:
    """Return the one event loop of all applications, in a thread."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="tests-event-loop", daemon=True).start()
    return loop


def _views() -> APIRouter:
    """Return the same views as Flask's application."""
    views = APIRouter()

    @views.get("/public")
    async def public() -> str:
        return "for all visitors"

    @views.get("/members")
    @views.post("/members")
    async def members(session: UserSession = Depends(current_session)) -> dict[str, Any]:  # noqa: B008
        return {"page": PROTECTED, "user_id": session.user_id, "roles": session.roles}

    @views.get("/who")
    async def who(request: Request) -> dict[str, Any]:
        session = request.state.session
        return {"user_id": session.user_id if session else None, "again": bool(session)}

    @views.get("/admin", dependencies=[Depends(require_role("admin"))])
    async def admin() -> PlainTextResponse:
        return PlainTextResponse(PROTECTED)

    @views.get("/write", dependencies=[Depends(require_permission("write"))])
    async def write() -> PlainTextResponse:
        return PlainTextResponse(PROTECTED)

    @views.get(
        "/documents/{document}", dependencies=[Depends(require_permission("write", "document", "document"))]
    )
    async def edit(document: str) -> PlainTextResponse:
        return PlainTextResponse(f"{PROTECTED}: {document}")

    @views.get("/groups", dependencies=[Depends(require_scope("groups"))])
    @views.post("/groups", dependencies=[Depends(require_scope("groups"))])
    async def groups() -> PlainTextResponse:
        return PlainTextResponse(PROTECTED)

    @views.get("/away", dependencies=[Depends(require_scope("offline_access"))])
    async def away() -> PlainTextResponse:
        return PlainTextResponse(PROTECTED)

    @views.api_route("/change", methods=[*CHANGING, "GET", "HEAD", "OPTIONS"])
    async def change(session: UserSession = Depends(current_session)) -> dict[str, Any]:  # noqa: B008
        return {"changed_by": session.user_id}

    @views.post("/change/role", dependencies=[Depends(require_role("viewer"))])
    @views.post("/change/permission", dependencies=[Depends(require_permission("read"))])
    @views.post("/hook", dependencies=[Depends(require_role(csrf=False))])
    @views.post("/hook/role", dependencies=[Depends(require_role("viewer", csrf=False))])
    @views.post("/hook/permission", dependencies=[Depends(require_permission("read", csrf=False))])
    @views.api_route("/form", methods=[*CHANGING, "GET"], dependencies=[Depends(protect_from_csrf)])
    async def other() -> str:
        return "done"

    return views
