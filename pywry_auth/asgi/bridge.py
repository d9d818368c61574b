"""From an ASGI request to a WSGI one: the same request, whatever the prefix, and a thread to serve it in."""

from __future__ import annotations

import asyncio
from string import punctuation
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

from a2wsgi import WSGIMiddleware
from a2wsgi.wsgi import Body, build_environ
from starlette.responses import Response

from pywry_auth.deploy.site import MOUNT, PATH

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment
    from starlette.types import Receive, Scope, Send

THREADS = 40
"""Requests that one process serves at a time; a login holds its thread while the provider answers."""

_HTTP = {"ws": "http", "wss": "https"}


class Bridge:
    """Serves a WSGI application in threads of its own, so that nothing else in the process waits for it.

    Args:
        app: What is served.
    """

    def __init__(self, app: WSGIApplication) -> None:
        self._app = app
        self._middleware = WSGIMiddleware(cast("Any", self._serve), workers=THREADS)

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request whose scope ``wsgi_scope`` made."""
        await self._middleware(cast("Any", scope), cast("Any", receive), cast("Any", send))

    def _serve(self, environ: WSGIEnvironment, start_response: StartResponse) -> Any:
        return self._app(_completed(environ), start_response)


class BridgedResponse(Response):
    """What a path operation returns: the answer that the WSGI application gives.

    Args:
        bridge: Serves it.
        own_path: What the application knows the request's path by, for example ``/auth/login``.
    """

    def __init__(self, bridge: Bridge, own_path: str) -> None:
        super().__init__()
        self._bridge = bridge
        self._own_path = own_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request."""
        mount = path_in_app(scope).removesuffix(self._own_path)
        await self._bridge.serve(wsgi_scope(scope, self._own_path, mount), receive, send)
        if self.background is not None:
            await self.background()


def path_in_app(scope: Scope) -> str:
    """Return a request's path without the root path of the application, decoded.

    Servers that follow the ASGI specification have the root in the path, others behind a proxy have not.
    """
    root, path = _root(scope), cast(str, scope["path"])
    return path.removeprefix(root) if f"{path}/".startswith(f"{root}/") else path


def wsgi_environ(scope: Scope, receive: Receive, mount: str) -> WSGIEnvironment:
    """Return the WSGI environment of a request that the WSGI application does not serve.

    Args:
        scope: The request, or a websocket's handshake.
        receive: Its messages; none is taken.
        mount: What stands before the routes in the application.
    """
    sent = wsgi_scope(scope, path_in_app(scope), mount)
    body = Body(asyncio.get_running_loop(), cast("Any", receive))
    return _completed(cast("WSGIEnvironment", build_environ(cast("Any", sent), body)))


def wsgi_scope(scope: Scope, own_path: str, mount: str) -> Scope:
    """Return a request's scope as the WSGI side can read it.

    Args:
        scope: The request, or a websocket's handshake.
        own_path: Its path as the WSGI application knows it.
        mount: What stands before the routes in the application.
    """
    scheme = scope.get("scheme", "http")
    return {
        **scope,
        "type": "http",
        "method": scope.get("method", "GET"),
        "scheme": _HTTP.get(scheme, scheme),
        "root_path": _root(scope),
        "path": _root(scope) + own_path,
        # Bytes that are no ASCII would break a2wsgi; escaped they mean the same (RFC 3986 §2.5).
        "query_string": quote(scope["query_string"], safe=punctuation).encode(),
        "headers": _headers(scope["headers"]),
        MOUNT: mount,
        PATH: path_in_app(scope),
    }


def _completed(environ: WSGIEnvironment) -> WSGIEnvironment:
    scope = environ["asgi.scope"]
    environ |= {MOUNT: scope[MOUNT], PATH: scope[PATH]}
    # a2wsgi prefers an environment variable of this name. PEP 3333: bytes, each a character.
    environ["SCRIPT_NAME"] = scope["root_path"].encode().decode("latin-1")
    return environ


def _root(scope: Scope) -> str:
    return cast(str, scope.get("root_path", "")).rstrip("/")


def _headers(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Return headers of which WSGI makes no others.

    It cannot tell ``X_Forwarded_For`` from ``X-Forwarded-For``, and only the latter is a proxy's own word.
    Cookies that HTTP/2 sent one by one are one header again (RFC 9113 §8.2.3).
    """
    kept = [(name, value) for name, value in headers if b"_" not in name and name != b"cookie"]
    cookies = [value for name, value in headers if name == b"cookie"]
    return [*kept, (b"cookie", b"; ".join(cookies))] if cookies else kept
