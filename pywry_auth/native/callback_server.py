"""The callback server: receives the response at the loopback address."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Sequence
from http import HTTPStatus
from types import TracebackType
from urllib.parse import parse_qsl

from pywry_auth.digests import same_secret
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError, AuthFlowCancelled, AuthFlowTimeout
from pywry_auth.native.http_connection import Request
from pywry_auth.native.loopback_listener import LOOPBACK, LoopbackServer, first_free
from pywry_auth.native.peer import Address, can_identify_users, is_same_user
from pywry_auth.native.start_address import IsSameUser, StartAddress
from pywry_auth.pages import native as pages
from pywry_auth.pages.native import PageResponse
from pywry_auth.protocol.authorization_response import ResponseParameters

CALLBACK_PATH = "/callback"
"""Path of the redirect URI."""

_SENT_WAIT = 1.0  # seconds
_MAX_PARAMETERS = 64
_FIRST_NAP = 0.05  # seconds
# Seconds; Windows cannot interrupt a wait at all before Python 3.14 (cpython#125541).
_LONGEST_NAP = 0.25 if sys.platform == "win32" else threading.TIMEOUT_MAX


class OAuthCallbackServer:
    """Receives a login's response on 127.0.0.1 (RFC 8252 §7.3).

    The constructor binds the port, so that the redirect URI is known and no other program can take it. The
    first request with the right state ends the wait. All others get a page and change nothing. The browser
    that sent the response is held until ``answer`` supplies its page. The lock guards the accepted response
    and the end of the wait. Use this as a context manager.

    Args:
        ports: Ports to try in order; 0 takes any free one.
        head_timeout: Seconds that a client has to send the whole head of a request.
        hold_timeout: Seconds after which a held browser gets a page without the result.
        max_connections: Connections open at once.
        watch: Seconds for which a second use of a one-time address is noticed, even if a response has
            arrived. This applies only where the system does not show the users of connections.

    Raises:
        AuthenticationError: None of the ports is free.
    """

    def __init__(
        self,
        ports: Sequence[int] = (0,),
        *,
        head_timeout: float = 8.0,
        hold_timeout: float = 15.0,
        max_connections: int = 64,
        watch: float = 5.0,
    ) -> None:
        self._hold_timeout = hold_timeout
        self._watch = watch
        self._watch_end = 0.0  # monotonic time
        self._lock = threading.Lock()
        self._state: str | None = None
        self._parameters: ResponseParameters | None = None
        self._ended = False  # no response is accepted any more
        self._cancelled = False
        self._start: StartAddress | None = None
        self._opened_twice = False
        self._wake = threading.Event()
        self._alarm = threading.Event()  # cancelled, or opened twice
        self._page: PageResponse | None = None
        self._page_known = threading.Event()
        self._page_sent = threading.Event()
        self._server = first_free(
            ports,
            lambda port: LoopbackServer(
                port, self._respond, head_timeout=head_timeout, max_connections=max_connections
            ),
        )

    @property
    def redirect_uri(self) -> str:
        """The redirect URI, with the port that was bound."""
        return f"http://{LOOPBACK}:{self._server.server_port}{CALLBACK_PATH}"

    def start(self) -> None:
        """Start to answer requests; all are refused until ``expect``."""
        self._server.start()

    def expect(self, state: str) -> None:
        """Accept the response with this state.

        Call this before the browser opens.

        Args:
            state: The state of the authorization request.
        """
        self._state = state

    def can_identify_users(self) -> bool:
        """Return whether this system shows the users of connections to this server."""
        return can_identify_users((LOOPBACK, self._server.server_port))

    def offer(self, url: str) -> str:
        """Return a one-time address of this server that redirects to a URL.

        Only the user of this process can open it, if the system shows the users of connections. A second
        browser that opens it ends the login.

        Args:
            url: URL of the authorization request.
        """
        allowed: IsSameUser = is_same_user
        if not self.can_identify_users():
            allowed, self._watch_end = _is_any_user, time.monotonic() + self._watch
        self._start = StartAddress(url, self._note_second_use, allowed)
        return f"http://{LOOPBACK}:{self._server.server_port}{self._start.path}"

    def wait(self, timeout: float) -> ResponseParameters:
        """Wait for the response and return its parameters.

        Args:
            timeout: Seconds.

        Raises:
            AuthFlowTimeout: The response did not arrive in time.
            AuthFlowCancelled: ``cancel`` was called.
            AuthenticationError: Two browsers opened the one-time address.
        """
        wait_for(self._wake, timeout)
        with self._lock:
            self._ended = True
            parameters = self._parameters
        if parameters is not None:
            # Another user may have been faster than the user's browser, which then is the second one.
            wait_for(self._alarm, self._watch_end - time.monotonic())
        self.raise_if_cancelled()
        self.raise_if_opened_twice()
        if parameters is None:
            raise AuthFlowTimeout(
                f"No user signed in within {timeout:g} seconds: start a new login, or allow more time.",
                error=ErrorCode.TIMEOUT,
                timeout=timeout,
            )
        return parameters

    def cancel(self) -> None:
        """End the current or next wait, from any thread."""
        self._cancelled = True
        self._wake.set()
        self._alarm.set()

    def raise_if_cancelled(self) -> None:
        """Raise if ``cancel`` was called.

        Raises:
            AuthFlowCancelled: ``cancel`` was called.
        """
        if self._cancelled:
            raise AuthFlowCancelled("The login was cancelled.", error=ErrorCode.CANCELLED)

    def raise_if_opened_twice(self) -> None:
        """Raise if two browsers opened the one-time address.

        Another user of the machine may have read it, and may be signed in instead of the user.

        Raises:
            AuthenticationError: Two browsers opened the one-time address.
        """
        if self._opened_twice:
            raise AuthenticationError(
                "The login was ended, because its one-time address was opened in two browsers: another "
                "program may have read it. Sign in again. If this happens again, set "
                "PYWRY_OAUTH2__OPEN_BROWSER=false and open the printed address yourself.",
                error=ErrorCode.OTHER_BROWSER,
            )

    def answer(self, page: PageResponse) -> None:
        """Send the held browser its page.

        This waits at most one second until the page is sent.

        Args:
            page: The page with the result of the login.
        """
        self._page = page
        self._page_known.set()
        if self._parameters is not None:
            wait_for(self._page_sent, _SENT_WAIT)

    def close(self) -> None:
        """Close the port and all connections.

        A browser that is still held gets a page: the login has ended.
        """
        with self._lock:
            self._ended = True
        if not self._page_known.is_set():
            self.answer(pages.ended())
        self._server.server_close()

    def __enter__(self) -> OAuthCallbackServer:
        """Start, and close at the end of the block."""
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _respond(self, request: Request, send: Callable[[PageResponse], None]) -> None:
        page = self._receive(request)
        if page is not None:
            try:
                send(page)
            finally:
                if self._opened_twice:
                    # Not earlier, because the end of the login closes all connections.
                    self._wake.set()
                    self._alarm.set()
            return
        try:
            self._page_known.wait(self._hold_timeout)
            send(self._page or pages.unfinished())
        finally:
            self._page_sent.set()

    def _receive(self, request: Request) -> PageResponse | None:
        """Return a request's page; None for the accepted response."""
        start = self._start if self._start is not None and self._start.matches(request.target) else None
        # A site whose name resolves to 127.0.0.1 (DNS rebinding) still sends its own name.
        if list(request.hosts) not in self._hosts(start):
            return pages.refused(HTTPStatus.MISDIRECTED_REQUEST if request.hosts else HTTPStatus.BAD_REQUEST)
        if start is not None:
            return start.respond(request)
        path, _, query = request.target.partition("?")
        if path not in (CALLBACK_PATH, "/favicon.ico"):
            return pages.refused(HTTPStatus.NOT_FOUND)
        if request.method not in ("GET", "HEAD"):
            return pages.refused(HTTPStatus.METHOD_NOT_ALLOWED)
        if request.method == "HEAD" or path != CALLBACK_PATH:
            return PageResponse(HTTPStatus.NO_CONTENT)
        return self._accept(query)

    def _hosts(self, start: StartAddress | None) -> list[list[str]]:
        # Remote development tools forward the port, and open the one-time address as localhost.
        names = (LOOPBACK,) if start is None else (LOOPBACK, "localhost")
        return [[f"{name}:{self._server.server_port}"] for name in names]

    def _note_second_use(self) -> None:
        self._opened_twice = True

    def _accept(self, query: str) -> PageResponse | None:
        try:
            parameters = parse_qsl(query, keep_blank_values=True, max_num_fields=_MAX_PARAMETERS)
        except ValueError:
            return pages.refused(HTTPStatus.BAD_REQUEST)
        values = dict(parameters)
        # RFC 6749 §3.1: no parameter may appear twice. The state is checked before the error, so that only
        # the provider that received the request can end the login.
        if len(values) != len(parameters) or self._state is None:
            return pages.refused(HTTPStatus.BAD_REQUEST)
        if not same_secret(self._state, values.get("state")):
            return pages.refused(HTTPStatus.BAD_REQUEST)
        with self._lock:
            if self._parameters is not None:
                return pages.already_answered()
            if self._ended or self._cancelled or self._opened_twice:
                return pages.ended()
            self._parameters = parameters
        self._wake.set()
        return None


def _is_any_user(_client: Address, _server: Address) -> bool:
    return True


def wait_for(event: threading.Event, seconds: float) -> bool:
    """Wait for an event, and return whether it happened.

    Ctrl-C interrupts the wait. Python notices a signal that arrives just before a wait only when that wait
    ends. This is likely while threads and connections start, so the first naps are short. Each nap is twice
    as long as the one before: the longest login takes a dozen.

    Args:
        event: The event.
        seconds: The time limit.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed.
    """
    deadline = time.monotonic() + seconds
    nap = _FIRST_NAP
    while not event.is_set() and (left := deadline - time.monotonic()) > 0:
        event.wait(min(nap, left))
        nap = min(2 * nap, _LONGEST_NAP)
    return event.is_set()
