"""Fills ``request.state.session`` before the application sees a request, and answers what a guard refused."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.websockets import WebSocketClose

from pywry_auth.asgi.bridge import wsgi_environ
from pywry_auth.asgi.refused import Refused
from pywry_auth.deploy.answers import refusal_for, store_down
from pywry_auth.exceptions import AuthenticationError, StoreUnavailable

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from pywry_auth.asgi.router import AuthRouter
    from pywry_auth.models import UserSession

ROUTER = "pywry_auth.router"
"""Where a request's scope has the router, for the guards."""

_logger = logging.getLogger("pywry_auth.asgi")
_POLICY_VIOLATION, _TRY_AGAIN_LATER = 1008, 1013  # RFC 6455 §7.4.1 and its registry


class AuthMiddleware:
    """Gives each request and websocket its ``state.session``: who is signed in, or None.

    The store is asked in a thread, and only for a request that carries a session's cookie or bearer token.
    While it is down such a request is answered with 503; the others are served. A websocket's handshake that
    a page of another site began with a user's cookie is refused: browsers do not ask before they send it.

    Args:
        app: The application, as ``add_middleware`` hands it over.
        router: What ``create_auth_router`` returned.
    """

    def __init__(self, app: ASGIApp, router: AuthRouter) -> None:
        self._app = app
        self._router = router
        self._cookie = router.standalone.session_cookie.encode()
        self._header = router.standalone.auth_header.lower().encode()
        self._vary = ("Cookie", router.standalone.auth_header)

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
        environ = wsgi_environ(scope, receive, "")
        handshake = scope["type"] == "websocket"
        find = partial(self._router.standalone.session_of, environ, own_site_only=handshake)
        try:
            return await run_in_threadpool(find)
        except StoreUnavailable:
            raise
        except AuthenticationError as error:
            raise Refused(str(error), partial(refusal_for, error)) from error

    async def _refuse(
        self, error: Refused | StoreUnavailable, scope: Scope, receive: Receive, send: Send
    ) -> None:
        if scope["type"] == "websocket":
            _logger.warning("a websocket was refused: %s", error)
            code = _TRY_AGAIN_LATER if isinstance(error, StoreUnavailable) else _POLICY_VIOLATION
            await WebSocketClose(code)(scope, receive, send)
            return
        environ = wsgi_environ(scope, receive, self._router.mount_in(scope["app"]))
        make = error.answer if isinstance(error, Refused) else partial(store_down, error)
        status, headers, body = self._router.standalone.answer(environ, make)
        await Response(body, status, dict(headers))(scope, receive, send)


def _add_vary(message: Message, names: tuple[str, ...]) -> None:
    headers = MutableHeaders(scope=message)
    told = {name.strip().lower() for name in headers.get("vary", "").split(",")}
    for name in names:
        if name.lower() not in told:
            headers.add_vary_header(name)
