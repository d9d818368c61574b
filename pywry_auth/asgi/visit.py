"""A request at the application with the middleware, and its refusal."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from inspect import isawaitable, iscoroutinefunction
from typing import TYPE_CHECKING, NoReturn, cast

from fastapi import HTTPException
from fastapi.exception_handlers import http_exception_handler
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.exceptions import WebSocketException
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from pywry_auth.asgi.bridge import mount_of
from pywry_auth.deploy.answers import VIEW_ERRORS, Refusal, kept_headers, view_failed
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.types import Receive, Scope
    from werkzeug.wrappers import Request as WSGIRequest
    from werkzeug.wrappers import Response as WSGIResponse

    from pywry_auth.asgi.router import AuthRouter
    from pywry_auth.deploy.site import Site

VISIT = "pywry_auth.visit"
"""Key in a request's scope under which the guards find the visit."""

POLICY_VIOLATION = 1008  # RFC 6455 §7.4.1

_logger = logging.getLogger("pywry_auth.asgi")
_HANDLERS = "starlette.exception_handlers"  # in a scope: the handlers of the innermost application
_Handler = Callable[[Request, Exception], object]
_REASON = "The session or its access token cannot be used at the moment."
_KEPT_HEADERS = ("Cache-Control", "Location", "Retry-After", "WWW-Authenticate")


class _Replaceable(Response):
    """An error that the application's own handler may answer instead.

    Args:
        refusal: The response in werkzeug's form, with the error.
    """

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.get_data(), refusal.status_code, dict(refusal.headers))
        self.error = refusal.error
        self.description = refusal.description
        self.reference = refusal.reference


@dataclass(frozen=True)
class _OfStatus:
    """The application's handler of a status, which Starlette prefers to that of ``Refused``.

    Args:
        handler: The handler.
    """

    handler: _Handler

    async def __call__(self, request: Request, error: Exception) -> Response:
        """Respond to an error of the application, or of a guard."""
        if isinstance(error, Refused):
            return await _answer(request, error)
        return await _call(self.handler, request, error)


@dataclass(frozen=True)
class Visit:
    """A request or websocket, as the application with the middleware received it.

    Mounts change the scope for the applications below them, so the guards there need the original one.

    Args:
        router: The routes of sign-in.
        scope: A copy of the scope from before the application changed it.
        receive: The messages of the request; the visit does not read them.
    """

    router: AuthRouter
    scope: Scope
    receive: Receive

    @cached_property
    def request(self) -> WSGIRequest:
        """The request in werkzeug's form; only the event loop may make it."""
        return self.router.bridge.request_of(self.scope, self.receive)

    @cached_property
    def site(self) -> Site:
        """The site for this request."""
        mount = mount_of(self.scope, self.request, self.router.prefix_in(self.scope["app"]))
        return self.router.auth_routes.site(self.request, mount)

    async def respond(self, make: Callable[[Site], WSGIResponse]) -> Response:
        """Return a response in Starlette's form.

        Args:
            make: Makes werkzeug's response. It runs in a thread, because the site's own pages may block.
        """
        response = await run_in_threadpool(make, self.site)
        if isinstance(response, Refusal):
            return _Replaceable(response)
        return Response(response.get_data(), response.status_code, dict(response.headers))


class Refused(HTTPException):
    """A guard responds in place of a path operation.

    Args:
        reason: A sentence for developers. ``detail`` is that for the visitor, if the response has one.
        response: The response, unless the application handles such errors itself.
    """

    def __init__(self, reason: str, response: Response) -> None:
        kept = {name: response.headers[name] for name in _KEPT_HEADERS if name in response.headers}
        # The reason is for developers; the application's own error page is for the visitor.
        text = response.description if isinstance(response, _Replaceable) else reason
        super().__init__(response.status_code, text, kept)
        self.response = response


class RefusedWebSocket(WebSocketException):
    """A guard refused a websocket."""


def visit_of(connection: HTTPConnection) -> Visit:
    """Return the visit of a request or websocket, for a guard.

    The application in which the guard stands can then answer for the guard, also if it is mounted.

    Args:
        connection: The request or websocket.

    Raises:
        AuthenticationError: The application has no ``AuthMiddleware``.
    """
    visit = connection.scope.get(VISIT)
    if visit is None:
        raise AuthenticationError(
            "This application has no AuthMiddleware, which looks up sessions: "
            "call app.add_middleware(AuthMiddleware, router=…).",
            error=ErrorCode.INVALID_CONFIGURATION,
        )
    _handle_in(connection.scope)
    return cast(Visit, visit)


def is_own_route(connection: HTTPConnection) -> bool:
    """Return whether one of the library's routes serves a request.

    Args:
        connection: The request or websocket, in a dependency of its path operation.
    """
    return visit_of(connection).router.serves(connection.scope)


def answer_preflight(connection: HTTPConnection) -> None:
    """Respond to a preflight in place of a path operation, which does not run.

    Args:
        connection: The request or websocket, in a dependency of its path operation.

    Raises:
        Refused: The request is a preflight. The response names the methods of the operation.
    """
    if connection.scope["type"] != "websocket" and _is_preflight(connection):
        methods: set[str] = getattr(connection.scope.get("route"), "methods", None) or set()
        raise Refused("This is a preflight.", Response(None, 204, {"Allow": ", ".join(sorted(methods))}))


def _is_preflight(connection: HTTPConnection) -> bool:
    """Return whether a browser asks before another request (Fetch §3.3.2); it sends no credentials."""
    names = ("Origin", "Access-Control-Request-Method")
    return connection.scope["method"] == "OPTIONS" and all(name in connection.headers for name in names)


async def refuse(connection: HTTPConnection, reason: str, make: Callable[[Site], WSGIResponse]) -> NoReturn:
    """Refuse a request or a websocket.

    Args:
        connection: The request or websocket.
        reason: A sentence for the log.
        make: Makes the response to a request.

    Raises:
        Refused: In any case for a request.
        RefusedWebSocket: In any case for a websocket.
    """
    if connection.scope["type"] == "websocket":
        _logger.info("refused a websocket: %s", reason)
        raise RefusedWebSocket(POLICY_VIOLATION)
    raise Refused(reason, await visit_of(connection).respond(make))


def _handle_in(scope: Scope) -> None:
    """Let the innermost application handle the errors of guards, stores and tokens.

    Otherwise a mounted application would respond to them with status 500 before the middleware sees them.
    """
    handlers, of_status = scope.get(_HANDLERS, ({}, {}))
    if Refused in handlers:
        return
    handlers[Refused] = _answer
    of_status.update({status: _OfStatus(handler) for status, handler in of_status.items()})
    own = set(handlers)
    handlers.update({kind: _answer_failure for kind in VIEW_ERRORS if own.isdisjoint(kind.__mro__)})


async def answer_of(app: Starlette, request: Request, error: Refused) -> Response:
    """Return the response to a refusal before the application's own routing.

    Args:
        app: The application. Its handlers of the status and of HTTP errors may respond.
        request: The request.
        error: The refusal.
    """
    handlers = app.exception_handlers
    of_status = {key: _OfStatus(handler) for key, handler in handlers.items() if isinstance(key, int)}
    request.scope[_HANDLERS] = (handlers, of_status)
    return await _answer(request, error)


async def _answer(request: Request, error: Refused) -> Response:
    """Return the guard's response, or that of the application's own handler.

    A redirect to the login is no error page, and only the package's own page may stand in a frame.
    """
    response = error.response
    handler = _own_handler(request.scope, error.status_code) if isinstance(response, _Replaceable) else None
    if handler is None:
        return response
    own = await _call(handler, request, error)
    if isinstance(own, Response):  # Starlette accepts any ASGI application, and None
        for name in kept_headers(response.status_code, own.status_code):
            if name in response.headers:
                own.headers.setdefault(name, response.headers[name])
    return own


async def _call(handler: _Handler, request: Request, error: Exception) -> Response:
    if iscoroutinefunction(handler):
        return cast(Response, await handler(request, error))
    answer = await run_in_threadpool(handler, request, error)
    # The call shows whether the handler is asynchronous: it may also be an object or a partial of one.
    return cast(Response, await answer if isawaitable(answer) else answer)


async def _answer_failure(request: Request, error: AuthenticationError) -> Response:
    if request.scope["type"] == "websocket":
        raise error  # AuthMiddleware closes the websocket
    session = getattr(request.state, "session", None)
    make = partial(view_failed, error=error, session=session)
    response = await visit_of(request).respond(make)
    return await _answer(request, Refused(_REASON, response))


def _own_handler(scope: Scope, status: int) -> _Handler | None:
    """Return the application's handler of a status or of HTTP errors, or None for the default one."""
    handlers, of_status = scope[_HANDLERS]
    found = of_status.get(status)
    of_class = handlers.get(HTTPException) or handlers.get(StarletteHTTPException)
    handler = found.handler if isinstance(found, _OfStatus) else of_class
    default = getattr(handler, "__func__", handler) in (
        http_exception_handler,
        ExceptionMiddleware.http_exception,
    )
    return None if default else cast("_Handler | None", handler)
