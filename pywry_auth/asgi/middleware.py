"""Sets ``request.state.session``, and responds when a guard refuses a request."""

from __future__ import annotations

import logging
from collections.abc import Collection
from functools import partial
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.websockets import WebSocketClose
from werkzeug.wrappers import Response as WSGIResponse

from pywry_auth.asgi.bridge import PROTECTED, ROOT
from pywry_auth.asgi.protection import demands_in, protection_of
from pywry_auth.asgi.schema import document_guards
from pywry_auth.asgi.visit import POLICY_VIOLATION, VISIT, Refused, RefusedWebSocket, Visit
from pywry_auth.deploy.answers import VIEW_ERRORS, view_failed
from pywry_auth.deploy.csrf import require_own_request
from pywry_auth.deploy.step_up import require_openid
from pywry_auth.exceptions import AuthenticationError, ProviderBusy, StoreUnavailable, TokenError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from pywry_auth.asgi.router import AuthRouter
    from pywry_auth.models import UserSession

_logger = logging.getLogger("pywry_auth.asgi")
_TRY_AGAIN_LATER = 1013  # IANA's registry of close codes (RFC 6455 §11.7)


class AuthMiddleware:
    """Sets the ``state.session`` of each request and websocket.

    The value is the signed-in user's session, or None. The look-up runs in a thread, and only for a request
    with a session cookie or bearer token. While the store is down, such a request gets 503; other requests
    are served. A websocket's handshake with a user's cookie is refused if a page of another site started it,
    because browsers send the cookie with any site's handshake.

    With ``protect=True`` every request without a session is refused as by :func:`current_session`: also those
    of mounted applications, of static files, of FastAPI's own pages, and for paths that do not exist.

    Args:
        app: The application, as ``add_middleware`` passes it.
        router: The return value of ``create_auth_router``.
        protect: Whether to guard the whole application, apart from the routes of sign-in.
        public: Names of routes that stay open with ``protect=True``. The name of a mount opens everything
            below it. Paths that are added after the first request are guarded.

    Raises:
        AuthenticationError: ``public`` has no effect without ``protect``, or is no collection of names.
    """

    def __init__(
        self, app: ASGIApp, router: AuthRouter, protect: bool = False, public: Collection[str] = ()
    ) -> None:
        self._app = app
        self._protection = protection_of(app, protect, public)
        self._is_first = True
        self._router = router
        self._routes = router.auth_routes
        options = self._routes.options
        self._cookie = options.session_cookie.encode()
        self._header = options.auth_header.lower().encode()
        self._vary = ("Cookie", options.auth_header)

    @property
    def router(self) -> AuthRouter:
        """The routes of sign-in."""
        return self._router

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, a websocket or the application's lifespan."""
        fault = self._look_at(scope) if self._is_first else None
        if scope["type"] not in ("http", "websocket"):
            if fault is not None:  # the server refuses to start
                raise fault
            await self._app(scope, receive, send)
            return
        answering = may_return = False

        async def vary(message: Message) -> None:
            nonlocal answering
            answering = answering or message["type"] in ("http.response.start", "websocket.close")
            if message["type"] == "http.response.start":
                _add_vary(message, self._vary)
                if may_return:
                    _settle_sign_out(message, visit)
            await send(message)

        scope[PROTECTED] = self._protection is not None
        visit = Visit(self._router, {"app": self._app, **scope}, receive)
        scope.update({VISIT: visit, ROOT: scope.get("root_path", "")})
        try:
            session = await self._find(visit, fault)
        except AuthenticationError as error:
            await _refuse(error, visit, vary, None)
            return
        scope.setdefault("state", {})["session"] = session
        may_return = self._may_return(scope)
        try:
            if self._protection is not None:
                await self._protection.require(scope, session)
            await self._app(scope, receive, vary)
        except Refused as error:  # no application below this one handled it
            if answering:
                raise
            await error.response(visit.scope, receive, vary)
        except (RefusedWebSocket, *VIEW_ERRORS) as error:
            if answering:
                raise
            await _refuse(error, visit, vary, session)

    def _look_at(self, scope: Scope) -> AuthenticationError | None:
        """Check the application's guards, and add them to its schema.

        Returns:
            The error if a guard needs what no provider reports: nothing is served then.

        Raises:
            AuthenticationError: The middleware stands at a place where it cannot protect the application.
        """
        protects = self._protection
        if protects is not None:
            protects.find(scope, self)
        app = scope.get("app", self._app)
        try:
            require_openid(self._routes.providers, demands_in(app))
        except AuthenticationError as error:
            return error
        self._is_first = False
        guards = protects.guards if protects is not None else lambda route: False
        document_guards(app, self._routes.options, guards)
        return None

    def _has_credentials(self, scope: Scope) -> bool:
        return any(
            name == self._header or (name == b"cookie" and self._cookie in value)
            for name, value in scope["headers"]
        )

    def _may_return(self, scope: Scope) -> bool:
        """Return whether a request may return from a sign-out."""
        if scope["type"] != "http":
            return False
        cookies = b";".join(value for name, value in scope["headers"] if name == b"cookie")
        states = self._routes.logout_states
        return states.may_concern(scope["method"], scope["query_string"], cookies.decode("latin-1"))

    async def _find(self, visit: Visit, fault: AuthenticationError | None) -> UserSession | None:
        if fault is not None:
            raise fault
        if not self._has_credentials(visit.scope) or self._routes.is_monitoring(visit.request):
            return None
        session = await run_in_threadpool(self._routes.session_of, visit.request, visit.scope["app"])
        if session is not None and visit.scope["type"] == "websocket":
            require_own_request(visit.site, trust_others=False)
        return session


async def _refuse(
    error: AuthenticationError | RefusedWebSocket, visit: Visit, send: Send, session: UserSession | None
) -> None:
    """Refuse a request or websocket in place of the application."""
    if visit.scope["type"] == "websocket":
        away = isinstance(error, (StoreUnavailable, TokenError, ProviderBusy))
        code = _TRY_AGAIN_LATER if away else POLICY_VIOLATION
        if isinstance(error, AuthenticationError):  # a guard logs its own refusals
            _logger.warning("refused a websocket: %s", error)
        await WebSocketClose(code)(visit.scope, visit.receive, send)
    elif isinstance(error, AuthenticationError):
        response = await visit.respond(partial(view_failed, error=error, session=session))
        await response(visit.scope, visit.receive, send)


def _settle_sign_out(message: Message, visit: Visit) -> None:
    """Accept a sign-out's state at a page of the application."""
    response = WSGIResponse()
    visit.router.auth_routes.logout_states.settle_page(visit.site, response)
    headers = MutableHeaders(scope=message)
    for value in response.headers.getlist("Set-Cookie"):
        headers.append("Set-Cookie", value)


def _add_vary(message: Message, names: tuple[str, ...]) -> None:
    headers = MutableHeaders(scope=message)
    present = {name.strip().lower() for name in headers.get("vary", "").split(",")}
    for name in names:
        if name.lower() not in present:
            headers.add_vary_header(name)
