"""The callback server: receives the response at the loopback address."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Sequence
from http import HTTPStatus
from types import TracebackType
from urllib.parse import parse_qsl

from pywry_auth.digests import same_secret
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError, AuthFlowCancelled, AuthFlowTimeout
from pywry_auth.loopback import HOST, HOSTS, ICON, PATH, refused_host, refused_path
from pywry_auth.native.http_connection import Request
from pywry_auth.native.loopback_listener import LoopbackServer, first_free
from pywry_auth.native.peer import Address, can_identify_users, is_same_user
from pywry_auth.native.start_address import IsSameUser, StartAddress
from pywry_auth.native.stray_response import FORM, StrayResponse, stray_response
from pywry_auth.native.waiting import SignalSafeEvent, wait_for
from pywry_auth.pages import native as pages
from pywry_auth.pages.native import PageResponse
from pywry_auth.protocol.authorization_response import ResponseParameters

_HTTP_PORT = 80
_SENT_WAIT = 1.0  # seconds
_MAX_PARAMETERS = 64


class OAuthCallbackServer:
    """Receives a login's response on the loopback address (RFC 8252 §7.3).

    The constructor binds the port, so that the redirect URI is known and no other program can take it. The
    first request with the right state ends the wait. All others get a page and change nothing. The browser
    that sent the response is held until ``answer`` supplies its page. The lock guards the accepted response
    and the end of the wait. Use this as a context manager.

    Args:
        ports: Ports to try in order; 0 takes any free one.
        host: Host of the redirect URI: ``127.0.0.1``, ``[::1]``, or ``localhost``, which listens on both
            address families.
        path: Path of the redirect URI.
        head_timeout: Seconds that a client has to send the whole head of a request.
        hold_timeout: Seconds after which a held browser gets a page without the result.
        max_connections: Connections open at once.
        watch: Seconds for which a second use of a one-time address is noticed, even if a response has
            arrived. This applies only where the system does not show the users of connections.

    Raises:
        AuthenticationError: None of the ports is free, or the host or path is not valid.
    """

    def __init__(
        self,
        ports: Sequence[int] = (0,),
        *,
        host: str = HOST,
        path: str = PATH,
        head_timeout: float = 8.0,
        hold_timeout: float = 15.0,
        max_connections: int = 64,
        watch: float = 5.0,
    ) -> None:
        if refusal := refused_host(host) or refused_path(path):
            raise AuthenticationError(
                f"The redirect URI is not valid: {refusal}.", error=ErrorCode.INVALID_CONFIGURATION
            )
        self._host = host
        self._path = path
        self._literal = HOST if host == "localhost" else host
        self._hold_timeout = hold_timeout
        self._watch = watch
        self._watch_end = 0.0  # monotonic time
        self._lock = threading.Lock()
        self._state: str | None = None
        self._secrets: Collection[str] = ()
        self._stray: StrayResponse | None = None
        self._failure: AuthenticationError | None = None
        self._parameters: ResponseParameters | None = None
        self._holds_browser = False
        self._ended = False  # no response is accepted any more
        self._cancelled = False
        self._start: StartAddress | None = None
        self._opened_twice = False
        self._wake = SignalSafeEvent()
        self._alarm = SignalSafeEvent()  # cancelled, or opened twice
        self._page: PageResponse | None = None
        self._page_known = threading.Event()
        self._page_sent = threading.Event()
        self._server = first_free(
            ports,
            lambda port: LoopbackServer(
                HOSTS[host], port, self._respond, head_timeout=head_timeout, max_connections=max_connections
            ),
        )

    @property
    def redirect_uri(self) -> str:
        """The redirect URI, with the port that was bound."""
        return f"http://{self._host}:{self._server.server_port}{self._path}"

    def start(self) -> None:
        """Start to answer requests; all are refused until ``expect``."""
        self._server.start()

    def expect(self, state: str, secrets: Collection[str] = ()) -> None:
        """Accept the response with this state.

        Call this before the browser opens.

        Args:
            state: The state of the authorization request.
            secrets: Other values of the login that no error may show.
        """
        self._state, self._secrets = state, secrets

    def can_identify_users(self) -> bool:
        """Return whether this system shows the users of connections to this server."""
        return can_identify_users((self._literal.strip("[]"), self._server.server_port))

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
        return f"http://{self._literal}:{self._server.server_port}{self._start.path}"

    def receive(self, query: str) -> StrayResponse | None:
        """Accept the login's response from another source than a browser.

        The first response wins; one that comes later changes nothing.

        Args:
            query: The query of the redirect URI.

        Returns:
            The reason why the response does not belong to this login, or None. The text has no secret.
        """
        refusal = self._latch(query, in_browser=False)
        return refusal if isinstance(refusal, StrayResponse) else None

    def wait(self, timeout: float, allowed: float | None = None) -> ResponseParameters:
        """Wait for the response and return its parameters.

        Args:
            timeout: Seconds.
            allowed: Seconds that the whole login has, for the error; None means ``timeout``.

        Raises:
            AuthFlowTimeout: The response did not arrive in time.
            AuthFlowCancelled: ``cancel`` was called.
            AuthenticationError: Two browsers opened the one-time address, or ``fail`` was called.
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
            raise self._failure or self._timed_out(timeout if allowed is None else allowed)
        return parameters

    def fail(self, error: AuthenticationError) -> None:
        """End the current or next wait with an error, from any thread.

        A response that has arrived takes precedence.

        Args:
            error: The error.
        """
        self._failure = error
        self._wake.set()

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
        if self._holds_browser:
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

    def _timed_out(self, seconds: float) -> AuthFlowTimeout:
        text = f"No user signed in within {seconds:g} seconds: start a new login, or allow more time."
        if seconds <= 0:
            text = (
                f"A timeout of {seconds:g} seconds leaves no time to sign in: allow more, or use "
                'mode="silent" for stored tokens only.'
            )
        stray = self._stray
        return AuthFlowTimeout(
            text if stray is None else f"{text} {stray.text}",
            error=ErrorCode.TIMEOUT,
            error_description="" if stray is None else stray.error_description,
            timeout=seconds,
        )

    def _receive(self, request: Request) -> PageResponse | None:
        """Return a request's page; None for the accepted response."""
        start = self._start if self._start is not None and self._start.matches(request.target) else None
        # A site whose name resolves to 127.0.0.1 (DNS rebinding) still sends its own name.
        if list(request.hosts) not in self._hosts(start):
            return pages.refused(HTTPStatus.MISDIRECTED_REQUEST if request.hosts else HTTPStatus.BAD_REQUEST)
        if start is not None:
            return start.respond(request)
        path, _, query = request.target.partition("?")
        if path not in (self._path, ICON):
            return pages.refused(HTTPStatus.NOT_FOUND)
        if request.method == "POST" and path == self._path:
            return self._ignore(request, FORM, HTTPStatus.METHOD_NOT_ALLOWED)
        if request.method not in ("GET", "HEAD"):
            return pages.refused(HTTPStatus.METHOD_NOT_ALLOWED)
        if request.method == "HEAD" or path != self._path:
            return PageResponse(HTTPStatus.NO_CONTENT)
        return self._accept(request, query)

    def _hosts(self, start: StartAddress | None) -> list[list[str]]:
        # Remote development tools forward the port, and open the one-time address as localhost.
        names = (self._host,) if start is None else (self._literal, "localhost")
        port = self._server.server_port
        # A browser leaves out the usual port of http.
        return [[f"{name}:{port}"] for name in names] + [[name] for name in names if port == _HTTP_PORT]

    def _note_second_use(self) -> None:
        self._opened_twice = True

    def _ignore(
        self, request: Request, stray: StrayResponse, status: HTTPStatus = HTTPStatus.BAD_REQUEST
    ) -> PageResponse:
        """Remember a response for the error of a timeout, and return its page."""
        if request.header("Sec-Fetch-Dest") in ("", "document"):  # no image or script of another page
            self._stray = stray
        return pages.ignored(stray.page_text, status)

    def _accept(self, request: Request, query: str) -> PageResponse | None:
        refusal = self._latch(query, in_browser=True)
        return self._ignore(request, refusal) if isinstance(refusal, StrayResponse) else refusal

    def _latch(self, query: str, *, in_browser: bool) -> StrayResponse | PageResponse | None:
        """Accept the login's response and return None, or return the reason against it."""
        try:
            parameters = parse_qsl(query, keep_blank_values=True, max_num_fields=_MAX_PARAMETERS)
        except ValueError:
            return pages.refused(HTTPStatus.BAD_REQUEST)
        values = dict(parameters)
        # RFC 6749 §3.1: no parameter may appear twice. The state is checked before the error, so that only
        # the provider that received the request can end the login.
        if self._state is None:
            return pages.refused(HTTPStatus.BAD_REQUEST)
        if len(values) != len(parameters) or not same_secret(self._state, values.get("state")):
            return stray_response(parameters, self._state, self._secrets)
        with self._lock:
            if self._parameters is not None:
                return pages.already_answered()
            if self._ended or self._cancelled or self._opened_twice:
                return pages.ended()
            self._parameters, self._holds_browser = parameters, in_browser
        self._wake.set()
        return None


def _is_any_user(_client: Address, _server: Address) -> bool:
    return True
