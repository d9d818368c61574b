"""The loopback redirect URI (RFC 8252 §7.3), which takes the one answer that belongs to a login."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from http import HTTPStatus
from types import TracebackType
from urllib.parse import parse_qsl

from pywry_auth.exceptions import AuthFlowCancelled, AuthFlowTimeout, ErrorCode
from pywry_auth.native.http_connection import Request
from pywry_auth.native.loopback import LOOPBACK, LoopbackServer
from pywry_auth.native.ports import first_free
from pywry_auth.native.waiting import wait_for
from pywry_auth.pages import loopback as pages
from pywry_auth.pages.loopback import PageResponse
from pywry_auth.protocol.authorization import ResponseParameters, same_state

CALLBACK_PATH = "/callback"
"""Path of the redirect URI."""

_SENT_WAIT = 1.0  # seconds
_MAX_PARAMETERS = 64


class OAuthCallbackServer:
    """Waits on 127.0.0.1 for the browser that comes back from the provider.

    The port is bound when this is made, so that the redirect URI is known and nobody else can have it. The
    first request with the right state ends the wait (later ones, and everything else, get a page and change
    nothing), and its browser is held until ``answer`` says how the login went. The lock guards which answer
    that is. Use it as a context manager.

    Args:
        ports: Ports to try in order; 0 takes any free one.
        head_timeout: Seconds a client has in all to send the head of a request.
        hold_timeout: Seconds a browser is held before it is told that the login goes on without it.
        max_connections: Connections open at once.

    Raises:
        AuthenticationError: None of the ports can be had.
    """

    def __init__(
        self,
        ports: Sequence[int] = (0,),
        *,
        head_timeout: float = 8.0,
        hold_timeout: float = 15.0,
        max_connections: int = 64,
    ) -> None:
        self._hold_timeout = hold_timeout
        self._lock = threading.Lock()
        self._state: str | None = None
        self._parameters: ResponseParameters | None = None
        self._ended = False  # no answer is taken any more
        self._cancelled = False
        self._wake = threading.Event()
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
        """The URI to give to the provider, with the port that was bound."""
        return f"http://{LOOPBACK}:{self._server.server_port}{CALLBACK_PATH}"

    def start(self) -> None:
        """Answer requests from now on; until ``expect`` all of them are refused."""
        self._server.start()

    def expect(self, state: str) -> None:
        """Take the answer with this state; call it before the browser opens.

        Args:
            state: The authorization request's.
        """
        self._state = state

    def wait(self, timeout: float) -> ResponseParameters:
        """Return the parameters of the answer as soon as it is there, asleep until then.

        Args:
            timeout: Seconds.

        Raises:
            AuthFlowTimeout: The answer did not come in time.
            AuthFlowCancelled: ``cancel`` was called.
        """
        wait_for(self._wake, timeout)
        with self._lock:
            self._ended = True
            parameters = self._parameters
        self.raise_if_cancelled()
        if parameters is None:
            raise AuthFlowTimeout(
                f"Nobody signed in within {timeout:g} seconds: start a new login, or allow more time.",
                error=ErrorCode.TIMEOUT,
                timeout=timeout,
            )
        return parameters

    def cancel(self) -> None:
        """End the wait, now or when it begins, from any thread."""
        self._cancelled = True
        self._wake.set()

    def raise_if_cancelled(self) -> None:
        """Go on only as long as nobody called ``cancel``.

        Raises:
            AuthFlowCancelled: Somebody did.
        """
        if self._cancelled:
            raise AuthFlowCancelled("The login was cancelled.", error=ErrorCode.CANCELLED)

    def answer(self, page: PageResponse) -> None:
        """Give the browser that is held its page and wait until it has gone out, a second at most.

        Args:
            page: How the login went.
        """
        self._page = page
        self._page_known.set()
        if self._parameters is not None:
            wait_for(self._page_sent, _SENT_WAIT)

    def close(self) -> None:
        """Close the port and all connections; a browser still held is told that the login has ended."""
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
        page = self._judge(request)
        if page is not None:
            send(page)
            return
        try:
            self._page_known.wait(self._hold_timeout)
            send(self._page or pages.unfinished())
        finally:
            self._page_sent.set()

    def _judge(self, request: Request) -> PageResponse | None:
        """Return the page for a request that is not the answer, or None when it is and was taken."""
        # A page that resolves its own name to 127.0.0.1 still says its own name here.
        if list(request.hosts) != [f"{LOOPBACK}:{self._server.server_port}"]:
            return pages.refused(HTTPStatus.MISDIRECTED_REQUEST if request.hosts else HTTPStatus.BAD_REQUEST)
        path, _, query = request.target.partition("?")
        if path not in (CALLBACK_PATH, "/favicon.ico"):
            return pages.refused(HTTPStatus.NOT_FOUND)
        if request.method not in ("GET", "HEAD"):
            return pages.refused(HTTPStatus.METHOD_NOT_ALLOWED)
        if request.method == "HEAD" or path != CALLBACK_PATH:
            return PageResponse(HTTPStatus.NO_CONTENT)
        return self._take(query)

    def _take(self, query: str) -> PageResponse | None:
        try:
            parameters = parse_qsl(query, keep_blank_values=True, max_num_fields=_MAX_PARAMETERS)
        except ValueError:
            return pages.refused(HTTPStatus.BAD_REQUEST)
        values = dict(parameters)
        # RFC 6749 §3.1: no parameter comes twice. State is judged before error, so that only the provider
        # that was asked can end the login.
        if len(values) != len(parameters) or self._state is None:
            return pages.refused(HTTPStatus.BAD_REQUEST)
        if not same_state(self._state, values.get("state")):
            return pages.refused(HTTPStatus.BAD_REQUEST)
        with self._lock:
            if self._parameters is not None:
                return pages.already_answered()
            if self._ended or self._cancelled:
                return pages.ended()
            self._parameters = parameters
        self._wake.set()
        return None
