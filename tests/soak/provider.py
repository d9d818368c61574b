"""The local identity provider with faults and a book of grants."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from werkzeug.wrappers import Response

from pywry_auth.testing.identity_provider import Client, IdentityProvider, User
from tests.soak.book import Book, Reuse
from tests.soak.journal import Journal

ACCESS_SECONDS = 4
"""The lifetime of an access token."""

REFRESH_SECONDS = 900
"""The lifetime of a refresh token. The provider keeps a bounded number of records, and drops expired ones."""

FAULTS = (
    *("slow", "slow", "slow"),
    *("hangs", "answers 500", "answers 429", "cuts connections", "refuses connections"),
)
"""A slow provider is the most frequent one, because requests under way meet the faults of the other parts."""

_FOR_PROGRAMS = ("/token", "/userinfo", "/revoke", "/jwks", "/.well-known/openid-configuration")
_SLOW_SECONDS = 1.0
_BACKLOG = 128


class Provider:
    """A provider whose endpoints for programs can fail. Its pages for users always work.

    Args:
        journal: Counts the calls.
        client: The site.
        users: The users.
        on_reuse: Is called when a refresh token is used again.
    """

    def __init__(
        self, journal: Journal, client: Client, users: Iterable[User], on_reuse: Callable[[Reuse], None]
    ) -> None:
        self._journal = journal
        self._mode = ""
        self._over = threading.Event()
        self.book = Book(journal, REFRESH_SECONDS, on_reuse)
        self.idp = IdentityProvider(
            clients=[client],
            users=users,
            signing_algorithm="ES256",
            access_token_lifetime=ACCESS_SECONDS,
            refresh_token_lifetime=REFRESH_SECONDS,
            port=_free_port(),  # a port that is named stays the listener's while it refuses connections
        )
        self.idp.wrap(self.book.around)
        self.idp.wrap(self._around)

    def begin(self, fault: str) -> None:
        """Begin one of the faults."""
        self._over = threading.Event()
        self._mode = fault
        if fault == "refuses connections":
            self._refuse(self._over)

    def end(self) -> None:
        """End the fault."""
        if self._mode == "refuses connections":
            self.idp._listener.socket.listen(_BACKLOG)
        self._mode = ""
        self._over.set()

    def _refuse(self, over: threading.Event) -> None:
        """Let the system refuse new connections, as it does for a port at which no program listens."""
        listener = self.idp._listener

        def wait() -> NoReturn:
            over.wait()
            del listener.get_request
            raise OSError("no connection")  # the listener goes on with the next one

        listener.get_request = wait  # type: ignore[method-assign]
        listener.socket.shutdown(socket.SHUT_RDWR)

    def _around(self, app: Any) -> Any:
        def serve(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
            if environ["PATH_INFO"] not in _FOR_PROGRAMS:
                return app(environ, start_response)  # type: ignore[no-any-return]
            environ["soak.arrived"] = time.monotonic()
            return self._serve(app, environ, start_response)

        return serve

    def _serve(self, app: Any, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        mode, over = self._mode, self._over
        if mode:
            self._journal.count(f"provider: requests while: {mode}")
        if mode == "hangs":
            over.wait()
        if mode in ("hangs", "cuts connections", "refuses connections"):
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            return Response("", 503)(environ, start_response)  # it reaches no client
        if mode == "answers 500":
            return Response("broken", 500)(environ, start_response)
        if mode == "answers 429":
            return Response("busy", 429, {"Retry-After": "2"})(environ, start_response)
        if mode == "slow":
            over.wait(_SLOW_SECONDS / 2)
            body = app(environ, start_response)
            over.wait(_SLOW_SECONDS / 2)
            return body  # type: ignore[no-any-return]
        return app(environ, start_response)  # type: ignore[no-any-return]


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port
