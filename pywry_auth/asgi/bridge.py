"""Turns ASGI requests into werkzeug's and serves them in threads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from string import punctuation
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

from a2wsgi import WSGIMiddleware
from a2wsgi.wsgi import Body, build_environ
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from werkzeug.wrappers import Request
from werkzeug.wrappers import Response as WSGIResponse

from pywry_auth.deploy.proxies import TrustedProxies
from pywry_auth.deploy.site import Mount

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment
    from starlette.requests import Request as ASGIRequest
    from starlette.types import Message, Receive, Scope, Send

THREADS = 40
"""How many requests one process serves at a time.

A login occupies its thread while it waits for the provider.
"""

LARGEST_BODY = 1 << 20
"""The largest body of a request to the routes in bytes."""

BODY_SECONDS = 5.0
"""How long a client may take to send the body of its request."""

ROOT = "pywry_auth.root"
"""Key in a scope for the root path of the application with the middleware, if there is one.

That application is the site, also for routes in an application that it mounts.
"""

PROTECTED = "pywry_auth.protected"
"""Key in a scope that tells whether the application with the middleware guards every page."""

PREFIX = "/auth"
"""Prefix of the routes where the application includes the router."""

_PATH = "pywry_auth.path"  # in a scope: the request's path below the prefix of the routes
_END = "pywry_auth.end"  # in a scope: the end of the request's path that names the route
_HTTP = {"ws": "http", "wss": "https"}


class Bridge:
    """Serves requests in threads; the event loop never waits.

    Args:
        serve: Makes the response from the path below the routes' prefix, the request and the mount.
        proxies: The proxies in front whose forwarded headers are trusted; None trusts no forwarded header.
    """

    def __init__(
        self, serve: Callable[[str, Request, Mount], WSGIResponse], proxies: TrustedProxies | None = None
    ) -> None:
        self._serve = serve
        self._proxies = proxies or TrustedProxies(0)
        self._middleware = WSGIMiddleware(cast("Any", self._application), workers=THREADS)

    async def serve(self, path: str, end: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond to a request.

        Args:
            path: The path of a route below the prefix.
            end: The request's own path, from where the application includes the router.
            scope: The request.
            receive: Its messages.
            send: Takes the messages of the response.
        """
        site = {**scope, "root_path": scope.get(ROOT, scope.get("root_path", ""))}
        sent = {**_wsgi_scope(site), _PATH: path, _END: end}
        await self._middleware(cast("Any", sent), cast("Any", receive), cast("Any", send))

    def request_of(self, scope: Scope, receive: Receive) -> Request:
        """Return werkzeug's form of a request without consuming it.

        Another part of the application serves the request.

        Args:
            scope: The request, or a websocket's handshake.
            receive: Its messages; this method does not read them.
        """
        body = Body(asyncio.get_running_loop(), cast("Any", receive))
        return self._request(cast("WSGIEnvironment", build_environ(cast("Any", _wsgi_scope(scope)), body)))

    def _application(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        scope, request = environ["asgi.scope"], self._request(environ)
        prefix = _path_in_app(scope).removesuffix(scope[_END]) + PREFIX
        mount = mount_of(scope, request, prefix)
        return self._serve(scope[_PATH], request, mount)(environ, start_response)

    def _request(self, environ: WSGIEnvironment) -> Request:
        # a2wsgi prefers an environment variable of this name. PEP 3333: each byte becomes one character.
        environ["SCRIPT_NAME"] = environ["asgi.scope"]["root_path"].encode().decode("latin-1")
        environ["wsgi.input_terminated"] = True  # the body ends by itself, also without a Content-Length
        self._proxies.apply(environ)
        return Request(environ)


class BridgedResponse(Response):
    """The bridge's response, for a path operation to return.

    Args:
        bridge: Serves the request.
        path: The path of a route below the prefix, for example ``/login``.
        end: The request's own path, if it is another one.
        body: The request's body, as :func:`body_of` returns it.
    """

    def __init__(self, bridge: Bridge, path: str, end: str = "", body: bytes = b"") -> None:
        super().__init__()
        self._body = body
        self._bridge = bridge
        self._path = path
        self._end = end or PREFIX + path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond to the request."""

        async def whole() -> Message:
            return {"type": "http.request", "body": self._body, "more_body": False}

        await self._bridge.serve(self._path, self._end, scope, whole, send)
        if self.background is not None:
            await self.background()


async def body_of(request: ASGIRequest) -> bytes | None:
    """Return a request's whole body, which the event loop reads.

    A client that stops within its body must not occupy a thread.

    Args:
        request: The request as the path operation and its dependencies have it.

    Returns:
        None if the body is larger than :data:`LARGEST_BODY`, or not complete after :data:`BODY_SECONDS`. If a
        dependency of the application has parsed the body already, it is empty.
    """
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in request.stream():
                body += part
                if len(body) > LARGEST_BODY:
                    return None
    except (TimeoutError, ClientDisconnect):
        return None
    except RuntimeError:  # Starlette's error for a body that a dependency has read
        return b""
    return bytes(body)


def mount_of(scope: Scope, request: Request, prefix: str) -> Mount:
    """Return where a request's application mounts the routes.

    Args:
        scope: The request or a websocket's handshake.
        request: The same request in werkzeug's form.
        prefix: Decoded path of the routes in the application.
    """
    base = quote(prefix.removesuffix(PREFIX))
    root, path = request.script_root, _path_in_app(scope)
    protected = scope.get(PROTECTED, False)
    return Mount(scope.get("app"), root, quote(prefix), path, base=base, protected=protected)


def _path_in_app(scope: Scope) -> str:
    """Return a request's decoded path without the application's root path.

    Servers that follow the ASGI specification include the root path. Other servers behind a proxy do not.
    """
    root, path = _root(scope), cast(str, scope["path"])
    return path.removeprefix(root) if f"{path}/".startswith(f"{root}/") else path


def _wsgi_scope(scope: Scope) -> Scope:
    """Return a request's scope in a form that a2wsgi accepts."""
    scheme = scope.get("scheme", "http")
    return {
        **scope,
        "type": "http",
        "method": scope.get("method", "GET"),
        "scheme": _HTTP.get(scheme, scheme),
        "root_path": _root(scope),
        "path": _root(scope) + _path_in_app(scope),
        # a2wsgi fails on bytes that are not ASCII. Their escaped form is equivalent (RFC 3986 §2.5).
        "query_string": quote(scope["query_string"], safe=punctuation).encode(),
        "headers": _headers(scope["headers"]),
    }


def _root(scope: Scope) -> str:
    return cast(str, scope.get("root_path", "")).rstrip("/")


def _headers(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Return the headers that WSGI cannot confuse with others.

    WSGI cannot distinguish ``X_Forwarded_For`` from ``X-Forwarded-For``, and only the proxy's own header may
    be trusted. HTTP/2 can split cookies into several headers; they become one again (RFC 9113 §8.2.3).
    """
    kept = [(name, value) for name, value in headers if b"_" not in name and name != b"cookie"]
    cookies = [value for name, value in headers if name == b"cookie"]
    return [*kept, (b"cookie", b"; ".join(cookies))] if cookies else kept
