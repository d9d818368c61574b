"""Sets ``request.state.session``, and responds when a guard refuses a request."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.websockets import WebSocketClose

from pywry_auth.asgi.bridge import mount_of
from pywry_auth.deploy.answers import refusal_for, store_down
from pywry_auth.deploy.csrf import require_own_request
from pywry_auth.exceptions import AuthenticationError, StoreUnavailable

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send
    from werkzeug.wrappers import Request
    from werkzeug.wrappers import Response as WSGIResponse

    from pywry_auth.asgi.router import AuthRouter
    from pywry_auth.deploy.site import Site
    from pywry_auth.models import UserSession

ROUTER = "pywry_auth.router"
"""Key in a request's scope under which the guards find the router."""

_logger = logging.getLogger("pywry_auth.asgi")
_POLICY_VIOLATION, _TRY_AGAIN_LATER = 1008, 1013  # RFC 6455 §7.4.1 and its registry


class Refused(Exception):
    """A guard refused a request.

    ``AuthMiddleware`` responds in place of the application.

    Args:
        reason: A sentence for the log.
        answer: Makes the response.
    """

    def __init__(self, reason: str, answer: Callable[[Site], WSGIResponse]) -> None:
        super().__init__(reason)
        self.answer = answer


class AuthMiddleware:
    """Sets the ``state.session`` of each request and websocket.

    The value is the signed-in user's session, or None. The look-up runs in a thread, and only for a request
    with a session cookie or bearer token. While the store is down, such a request gets 503; other requests
    are served. A websocket's handshake with a user's cookie is refused if a page of another site started it,
    because browsers send the cookie with any site's handshake.

    Args:
        app: The application, as ``add_middleware`` passes it.
        router: The return value of ``create_auth_router``.
    """

    def __init__(self, app: ASGIApp, router: AuthRouter) -> None:
        self._app = app
        self._router = router
        self._routes = router.auth_routes
        options = self._routes.options
        self._cookie = options.session_cookie.encode()
        self._header = options.auth_header.lower().encode()
        self._vary = ("Cookie", options.auth_header)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, a websocket or the application's lifespan."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        answering = False

        async def vary(message: Message) -> None:
            nonlocal answering
            if message["type"] == "http.response.start":
                answering = True
                _add_vary(message, self._vary)
            await send(message)

        scope[ROUTER] = self._router
        try:
            scope.setdefault("state", {})["session"] = await self._find(scope, receive)
            await self._app(scope, receive, vary)
        except (Refused, StoreUnavailable) as error:
            if answering:
                raise
            await self._refuse(error, scope, receive, vary)

    def _has_credentials(self, scope: Scope) -> bool:
        return any(
            name == self._header or (name == b"cookie" and self._cookie in value)
            for name, value in scope["headers"]
        )

    async def _find(self, scope: Scope, receive: Receive) -> UserSession | None:
        if not self._has_credentials(scope):
            return None
        request = self._router.bridge.request_of(scope, receive)
        try:
            return await run_in_threadpool(self._session_of, scope, request)
        except StoreUnavailable:
            raise
        except AuthenticationError as error:
            raise Refused(str(error), partial(refusal_for, error=error)) from error

    def _session_of(self, scope: Scope, request: Request) -> UserSession | None:
        session = self._routes.session_of(request)
        if session is not None and scope["type"] == "websocket":
            site = self._routes.site(request, mount_of(scope, request, ""))
            require_own_request(request, site.origin)
        return session

    async def _refuse(
        self, error: Refused | StoreUnavailable, scope: Scope, receive: Receive, send: Send
    ) -> None:
        if scope["type"] == "websocket":
            _logger.warning("refused a websocket: %s", error)
            code = _TRY_AGAIN_LATER if isinstance(error, StoreUnavailable) else _POLICY_VIOLATION
            await WebSocketClose(code)(scope, receive, send)
            return
        request = self._router.bridge.request_of(scope, receive)
        site = self._routes.site(request, mount_of(scope, request, self._router.prefix_in(scope["app"])))
        make = error.answer if isinstance(error, Refused) else partial(store_down, error=error)
        response = await run_in_threadpool(make, site)
        body = response.get_data()
        await Response(body, response.status_code, dict(response.headers))(scope, receive, send)


def _add_vary(message: Message, names: tuple[str, ...]) -> None:
    headers = MutableHeaders(scope=message)
    present = {name.strip().lower() for name in headers.get("vary", "").split(",")}
    for name in names:
        if name.lower() not in present:
            headers.add_vary_header(name)
