"""AuthFlowManager: one native login, from request to stored tokens."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING

from pywry_auth.exceptions import AuthenticationError, AuthFlowCancelled, AuthFlowTimeout
from pywry_auth.flow.authorization_code import AuthorizationHandler, begin, complete, require_binding
from pywry_auth.flow.events import LoginSucceeded, emit, login_failures_emitted
from pywry_auth.loopback import HOST, PATH
from pywry_auth.models import AuthFlowResult, AuthFlowState
from pywry_auth.native.bounded_call import Bounds
from pywry_auth.native.browser import Notify, print_to_stderr
from pywry_auth.native.callback_server import OAuthCallbackServer
from pywry_auth.native.handlers import LoopbackHandler, browser_only, in_browser, in_window
from pywry_auth.native.handover import Handover
from pywry_auth.native.paste_reading import from_user
from pywry_auth.native.redemption import KeepsTokensFresh, Redemption, SavesTokens
from pywry_auth.native.window import CloseWindow, ShowWindow, Window, WindowConfig
from pywry_auth.pages import native as pages
from pywry_auth.pages.own_page import OwnPage
from pywry_auth.protocol.provider_errors import CANCELLED_AT_PROVIDER

if TYPE_CHECKING:
    from pywry_auth.providers.base import OAuthProvider

__all__ = ["AuthFlowManager", "CloseWindow", "KeepsTokensFresh", "SavesTokens", "ShowWindow", "WindowConfig"]


class AuthFlowManager:
    """Signs one user in with a browser or a window.

    It runs one login at a time. The lock guards whether a login is running, and its callback server.

    Args:
        provider: The provider that the user signs in at.
        token_store: Receives the tokens under the user's ID; None stores nothing.
        session_manager: Receives the tokens too, if given.
        use_pkce: Whether to send a code challenge (RFC 7636).
        auth_timeout: Seconds that a login has, with all calls to the provider and the store.
        open_browser: Whether to open the system browser; without one, the user still gets the URL.
        redirect_ports: Ports to try in order for the redirect URI; 0 takes any free one.
        redirect_host: Host of the redirect URI: ``127.0.0.1``, ``[::1]`` or ``localhost``.
        redirect_path: Path of the redirect URI.
        extra_params: Further authorization parameters such as ``prompt`` or ``login_hint``.
        notify: Receives the address and instructions once; None writes them to stderr.
        handler: Obtains the authorization response instead of a browser or window and a callback server.
        redirect_uri: The redirect URI of a ``handler``, registered at the provider.
        paste: Whether the user may also paste the address that the browser came back to, into the terminal
            or the notebook. No browser opens then, and a window is not used.
        bounds: The bounds of a login that began before; they replace ``auth_timeout``.
        completion_page: The design of the last page in the browser (see ``pywry_auth.pages.own_page``); None
            for the built-in one.

    Raises:
        AuthenticationError: ``use_pkce`` is false, and so is the provider's option ``use_nonce``. Or
            ``completion_page`` is not valid.
    """

    def __init__(
        self,
        provider: OAuthProvider,
        token_store: SavesTokens | None = None,
        session_manager: KeepsTokensFresh | None = None,
        use_pkce: bool = True,
        auth_timeout: float = 120.0,
        *,
        open_browser: bool = True,
        redirect_ports: Sequence[int] = (0,),
        redirect_host: str = HOST,
        redirect_path: str = PATH,
        extra_params: Mapping[str, str] | None = None,
        notify: Notify | None = None,
        handler: AuthorizationHandler | None = None,
        redirect_uri: str = "http://127.0.0.1/callback",
        paste: bool = False,
        bounds: Bounds | None = None,
        completion_page: str | None = None,
    ) -> None:
        require_binding(provider, use_pkce)
        self._provider = provider
        self._token_store = token_store
        self._session_manager = session_manager
        self._use_pkce = use_pkce
        self._timeout = auth_timeout
        self._open_browser = open_browser
        self._listener = partial(OAuthCallbackServer, redirect_ports, host=redirect_host, path=redirect_path)
        self._extra_params = extra_params
        self._notify = notify or print_to_stderr
        self._handler = handler
        self._redirect_uri = redirect_uri
        self._paste = paste
        self._own_page = None if completion_page is None else OwnPage(completion_page)
        self._lock = threading.RLock()  # a signal handler may call cancel() in a locked block
        self._running = False
        self._given = bounds
        self._bounds = bounds or Bounds(auth_timeout)
        self._server: OAuthCallbackServer | None = None
        self._state = AuthFlowState.IDLE
        self._flow_id = ""
        self._seconds: float | None = None

    @property
    def flow_state(self) -> AuthFlowState:
        """The state of the current or last login."""
        return self._state

    @property
    def flow_id(self) -> str:
        """The login's ID in logs and errors, not a secret.

        It is empty before the first login.
        """
        return self._flow_id

    @property
    def seconds(self) -> float | None:
        """Seconds that the last login took.

        They are counted from the authorization request until the tokens were stored.
        """
        return self._seconds

    def cancel(self) -> None:
        """Cancel the running login, from any thread, without waiting.

        The login ends at once. Tokens that are issued to it are revoked, in the background if the provider
        has not answered yet.
        """
        with self._lock:
            if self._running:
                self._bounds.cancel()
            if self._server is not None:
                self._server.cancel()

    def run_native(
        self,
        show_window: ShowWindow | None = None,
        close_window: CloseWindow | None = None,
        window_config: WindowConfig | None = None,
    ) -> AuthFlowResult:
        """Sign the user in, and wait for the result.

        No part of the login keeps running afterwards, with one exception: if it ends during a call to the
        provider or the store, a worker thread finishes that call, and revokes tokens that come too late. The
        time limits of the calls bound it. The callbacks run in the thread that called this.

        Args:
            show_window: Opens the application's own window instead of the browser, and returns its label.
            close_window: Receives that label when the login has ended, also after an error.
            window_config: Passed to ``show_window`` unchanged.

        Raises:
            AuthFlowTimeout: The login took longer than ``auth_timeout`` seconds, for any reason.
            AuthFlowCancelled: ``cancel`` was called.
            AuthenticationError: The provider refused, its response could not be validated, no port is free,
                a callback failed, or a login of this manager is already under way.
        """
        with login_failures_emitted(self, "native", self._provider.name):
            result = self.sign_in(show_window, close_window, window_config)
        provider, seconds = self._provider.name, self._seconds
        emit(self, LoginSucceeded(mode="native", user_id=result.user_id, provider=provider, seconds=seconds))
        return result

    def sign_in(
        self,
        show_window: ShowWindow | None = None,
        close_window: CloseWindow | None = None,
        window_config: WindowConfig | None = None,
    ) -> AuthFlowResult:
        """Sign in as ``run_native`` does, but emit no events.

        The caller emits its own.

        Args:
            show_window: See ``run_native``.
            close_window: See ``run_native``.
            window_config: See ``run_native``.
        """
        shows = show_window if not self._paste else None
        window = Window(shows, close_window, window_config or {}) if shows else None
        try:
            with self._claimed():
                if self._handler is not None:
                    return self._authorize(self._handler, self._redirect_uri)
                return self._listen(window)
        except AuthenticationError as error:
            error.provider = error.provider or self._provider.name
            error.flow_id = error.flow_id or self._flow_id
            raise

    @contextmanager
    def _claimed(self) -> Iterator[None]:
        """Reserve the manager for one login, and track its state."""
        with self._lock:
            if self._running:
                raise AuthenticationError(
                    "A login of this AuthFlowManager is already under way: wait for it."
                )
            self._running, self._bounds = True, self._given or Bounds(self._timeout)
            self._flow_id = secrets.token_hex(8)
            self._state = AuthFlowState.AWAITING_CALLBACK
        try:
            yield
        except BaseException as error:
            self._state = _state_after(error)
            raise
        finally:
            with self._lock:
                self._running, self._server = False, None

    def _listen(self, window: Window | None) -> AuthFlowResult:
        """Sign in with a callback server.

        The returning browser gets its page when the login has ended.
        """
        server = self._listener()
        with self._lock:
            self._server = server
        with server, Handover(server) as handover, ExitStack() as until_end:
            present = (
                in_window(self._notify, window)
                if window is not None
                else in_browser(
                    self._notify,
                    handover,
                    server.fail,
                    open_browser=self._open_browser,
                    pasting=self._paste,
                )
            )
            reading = from_user if self._paste else browser_only
            try:
                handler = LoopbackHandler(server, present, self._bounds, reading, until_end)
                result = self._authorize(handler, server.redirect_uri)
            except BaseException as error:
                server.answer(self._designed(_page_about(error)))
                raise
            else:
                server.answer(self._designed(pages.complete()))
                return result
            finally:
                if window is not None:
                    window.close()

    def _designed(self, page: pages.PageResponse) -> pages.PageResponse:
        return page if self._own_page is None else self._own_page.of(page)

    def _authorize(self, handler: AuthorizationHandler, redirect_uri: str) -> AuthFlowResult:
        began = time.monotonic()
        bounds, server, provider = self._bounds, self._server, self._provider
        use_pkce, extra_params = self._use_pkce, self._extra_params

        def check() -> None:
            bounds.check()
            if server is not None:
                server.raise_if_opened_twice()

        request = bounds.run(
            lambda: begin(provider, redirect_uri, use_pkce=use_pkce, extra_params=extra_params)
        )
        check()
        parameters = handler(request)
        check()
        self._state = AuthFlowState.EXCHANGING_CODE
        redemption = Redemption(provider, self._token_store, self._session_manager, bounds, check)
        result = redemption.redeem(
            lambda revocations, within: complete(provider, request, parameters, revocations, within=within)
        )
        self._seconds = time.monotonic() - began
        self._state = AuthFlowState.COMPLETED
        return result


def _state_after(error: BaseException) -> AuthFlowState:
    if isinstance(error, AuthFlowTimeout):
        return AuthFlowState.TIMED_OUT
    if isinstance(error, (AuthFlowCancelled, KeyboardInterrupt)):
        return AuthFlowState.CANCELLED
    return AuthFlowState.FAILED


def _page_about(error: BaseException) -> pages.PageResponse:
    if isinstance(error, AuthenticationError):
        cancelled = error.error in CANCELLED_AT_PROVIDER
        return (pages.cancelled if cancelled else pages.failed)(str(error))
    if isinstance(error, Exception):
        return pages.failed("The provider signed you in, but the application could not finish the sign-in.")
    return pages.ended()
