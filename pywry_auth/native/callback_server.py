"""The loopback redirect URI (RFC 8252 §7.3), which takes the one answer that belongs to a login."""

from __future__ import annotations

import errno
import sys
import threading
import time
from collections.abc import Callable, Sequence
from http import HTTPStatus
from types import TracebackType
from urllib.parse import parse_qsl

from pywry_auth.exceptions import (
    INVALID_CONFIGURATION,
    AuthenticationError,
    AuthFlowCancelled,
    AuthFlowTimeout,
)
from pywry_auth.native import pages
from pywry_auth.native.exchange import Request
from pywry_auth.native.loopback import LOOPBACK, LoopbackServer
from pywry_auth.native.pages import Page
from pywry_auth.protocol.authorization import ResponseParameters, same_state

CALLBACK_PATH = "/callback"
"""Path of the redirect URI."""

_SENT_WAIT = 1.0  # seconds
_FIRST_NAP = 0.05  # seconds
# Seconds; Windows cannot interrupt a wait at all before Python 3.14 (cpython#125541).
_LONGEST_NAP = 0.25 if sys.platform == "win32" else threading.TIMEOUT_MAX
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
        self._page: Page | None = None
        self._page_known = threading.Event()
        self._page_sent = threading.Event()
        self._server = _bind(
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
        _wait(self._wake, timeout)
        with self._lock:
            self._ended = True
            parameters = self._parameters
        self.raise_if_cancelled()
        if parameters is None:
            raise AuthFlowTimeout(
                f"Nobody signed in within {timeout:g} seconds: start a new login, or allow more time.",
                error="timeout",
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
            raise AuthFlowCancelled("The login was cancelled.", error="cancelled")

    def answer(self, page: Page) -> None:
        """Give the browser that is held its page and wait until it has gone out, a second at most.

        Args:
            page: How the login went.
        """
        self._page = page
        self._page_known.set()
        if self._parameters is not None:
            _wait(self._page_sent, _SENT_WAIT)

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

    def _respond(self, request: Request, send: Callable[[Page], None]) -> None:
        page = self._judge(request)
        if page is not None:
            send(page)
            return
        try:
            self._page_known.wait(self._hold_timeout)
            send(self._page or pages.unfinished())
        finally:
            self._page_sent.set()

    def _judge(self, request: Request) -> Page | None:
        """Return the page for a request that is not the answer, or None when it is and was taken."""
        # A page that resolves its own name to 127.0.0.1 still says its own name here.
        if len(request.hosts) != 1 or request.hosts[0] not in self._authorities():
            return pages.refused(HTTPStatus.MISDIRECTED_REQUEST if request.hosts else HTTPStatus.BAD_REQUEST)
        path, _, query = request.target.partition("?")
        if path not in (CALLBACK_PATH, "/favicon.ico"):
            return pages.refused(HTTPStatus.NOT_FOUND)
        if request.method not in ("GET", "HEAD"):
            return pages.refused(HTTPStatus.METHOD_NOT_ALLOWED)
        if request.method == "HEAD" or path != CALLBACK_PATH:
            return Page(HTTPStatus.NO_CONTENT)
        return self._take(query)

    def _authorities(self) -> tuple[str, ...]:
        port = self._server.server_port
        # Browsers leave out the port that http has anyway.
        return (f"{LOOPBACK}:{port}", LOOPBACK) if port == 80 else (f"{LOOPBACK}:{port}",)

    def _take(self, query: str) -> Page | None:
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


def _wait(event: threading.Event, seconds: float) -> None:
    """Wait for an event so that Ctrl-C ends the wait on every platform.

    A signal that comes just before Python falls asleep is only seen when it wakes up again. That is likely
    while threads and connections are starting, so the first naps are short, and each is twice as long as the
    one before: a dozen in the longest login, which is far from polling.
    """
    deadline = time.monotonic() + seconds
    nap = _FIRST_NAP
    while not event.is_set() and (left := deadline - time.monotonic()) > 0:
        event.wait(min(nap, left))
        nap = min(2 * nap, _LONGEST_NAP)


def _bind(ports: Sequence[int], make: Callable[[int], LoopbackServer]) -> LoopbackServer:
    for port in ports:
        try:
            return make(port)
        except OverflowError as error:
            raise AuthenticationError(
                f"{port} is no port: take one from 1 to 65535, or 0 for any.", error=INVALID_CONFIGURATION
            ) from error
        except OSError as error:
            # Windows reserves ranges for Hyper-V and says EACCES for them.
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise AuthenticationError(
                    f"No port can be opened on {LOOPBACK}: {error.strerror}.", error=INVALID_CONFIGURATION
                ) from error
    named = ", ".join(str(port) for port in ports[:10]) + (" …" if len(ports) > 10 else "")
    raise AuthenticationError(
        f"The login needs one of these ports on {LOOPBACK}, and all are in use or reserved: {named}. "
        "End the program that uses one, or allow another port and register it at the provider."
        if ports
        else "The login needs a port for its redirect URI. None was given: give 0 for any.",
        error=INVALID_CONFIGURATION,
    )
