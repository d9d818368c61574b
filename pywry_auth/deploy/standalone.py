"""The routes as a WSGI application of their own, for a site that is written for another framework."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

from flask import Flask, request

from pywry_auth.deploy.csrf import require_own_request
from pywry_auth.deploy.current import find_current
from pywry_auth.deploy.site import behind_proxies

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment
    from flask import Response

    from pywry_auth.deploy.blueprint import AuthRoutes
    from pywry_auth.models import UserSession
    from pywry_auth.state.sessions import SessionStore


class StandaloneRoutes:
    """Serves the routes, and knows of the other framework's requests who sent them and how to refuse them.

    Args:
        routes: The routes; they belong to no other application.
    """

    def __init__(self, routes: AuthRoutes) -> None:
        self._flask = Flask("pywry_auth", static_folder=None)
        self._flask.register_blueprint(routes.blueprint())
        self._routes = routes

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one of the routes."""
        return self._flask(environ, start_response)

    @property
    def several_providers(self) -> bool:
        """Whether each provider has a callback of its own."""
        return self._routes.providers.several

    @property
    def session_cookie(self) -> str:
        """Name of the cookie that carries a browser's session."""
        return self._routes.options.session_cookie

    @property
    def auth_header(self) -> str:
        """Name of the header that carries an API client's."""
        return self._routes.options.auth_header

    @property
    def session_store(self) -> SessionStore:
        """Where sessions are."""
        return self._routes.sessions.store

    def session_of(self, environ: WSGIEnvironment, *, own_site_only: bool = False) -> UserSession | None:
        """Return the session that a request belongs to, or None; the store is asked once.

        Args:
            environ: The request.
            own_site_only: Whether to refuse a signed-in browser that another site's page sent here.

        Raises:
            StoreUnavailable: The store is down: nobody is let in, and nobody is logged out.
            AuthenticationError: Another site sent it (``cross_site_request``).
        """
        with self._request(environ):
            session = find_current()
            if session is not None and own_site_only:
                require_own_request(request, self._routes.site.origin)
            return session

    def answer(
        self, environ: WSGIEnvironment, make: Callable[[], Response]
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        """Return status, headers and body of an answer that was made for a request.

        Args:
            environ: The request.
            make: Makes it.
        """
        with self._request(environ):
            response = make()
            return response.status_code, response.headers.to_wsgi_list(), response.get_data()

    @contextmanager
    def _request(self, environ: WSGIEnvironment) -> Iterator[None]:
        # What the proxies forwarded, the middleware writes into the environ itself.
        behind_proxies(_ignore, self._routes.options.trusted_proxy_hops)(environ, _start_nothing)
        with self._flask.request_context(environ):
            yield


def _ignore(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    return ()


def _start_nothing(status: str, headers: list[tuple[str, str]], exc_info: object = None, /) -> NoReturn:
    raise AssertionError("nothing is answered here")
