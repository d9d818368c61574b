"""AuthFlowManager: one native login from the listener to the stored tokens, as a state machine."""

from __future__ import annotations

import os
import secrets
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from pywry_auth.exceptions import AuthenticationError, AuthFlowCancelled, AuthFlowTimeout
from pywry_auth.flow.authorization_code import begin, complete
from pywry_auth.models import AuthFlowResult, AuthFlowState, AuthorizationRequest, OAuthTokenSet
from pywry_auth.native import browser
from pywry_auth.native.callback_server import OAuthCallbackServer
from pywry_auth.native.window import CloseWindow, ShowWindow, Window, WindowConfig, ask
from pywry_auth.pages import loopback as pages

if TYPE_CHECKING:
    from pywry_auth.providers.base import OAuthProvider

__all__ = ["AuthFlowManager", "CloseWindow", "KeepsTokensFresh", "SavesTokens", "ShowWindow", "WindowConfig"]


class SavesTokens(Protocol):
    """Where tokens are kept by user ID."""

    def save(self, key: str, tokens: OAuthTokenSet) -> object:
        """Store the token set of a user."""


class KeepsTokensFresh(Protocol):
    """Who takes over the tokens of a login."""

    def save_tokens(self, tokens: OAuthTokenSet) -> object:
        """Store and from now on refresh a token set."""


class AuthFlowManager:
    """Signs one user in with the system browser or the application's own window.

    One login at a time: the lock guards which one. After it ended another may run.

    Args:
        provider: Where the user signs in.
        token_store: Gets the tokens under the user's ID; None stores nothing.
        session_manager: Gets the tokens too; None for nobody.
        use_pkce: Whether to send a code challenge (RFC 7636).
        auth_timeout: Seconds the user has to sign in.
        open_browser: Whether to open the system browser; where there is none, the URL is told anyway.
        redirect_ports: Ports to try in order for the redirect URI; 0 takes any free one.
        extra_params: Further authorization parameters such as ``prompt`` or ``login_hint``.
        notify: Hears once where to sign in and what to do; None writes it to stderr.
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
        extra_params: Mapping[str, str] | None = None,
        notify: browser.Notify | None = None,
    ) -> None:
        self._provider = provider
        self._token_store = token_store
        self._session_manager = session_manager
        self._use_pkce = use_pkce
        self._timeout = auth_timeout
        self._open_browser = open_browser
        self._ports = redirect_ports
        self._extra_params = extra_params
        self._notify = notify or browser.print_to_stderr
        self._lock = threading.Lock()
        self._server: OAuthCallbackServer | None = None
        self._state = AuthFlowState.IDLE
        self._flow_id = ""

    @property
    def flow_state(self) -> AuthFlowState:
        """Where the login stands, or how the last one ended."""
        return self._state

    @property
    def flow_id(self) -> str:
        """Names the login in logs and errors, and is no secret; empty before the first one."""
        return self._flow_id

    def cancel(self) -> None:
        """End the login under way, from any thread; one that is being exchanged is thrown away."""
        with self._lock:
            if self._server is not None:
                self._server.cancel()

    def run_native(
        self,
        show_window: ShowWindow | None = None,
        close_window: CloseWindow | None = None,
        window_config: WindowConfig | None = None,
    ) -> AuthFlowResult:
        """Return who signed in, once the user has; nothing of the login is left running.

        Args:
            show_window: Opens the application's own window instead of the browser, and returns its label.
            close_window: Gets that label when the login is over, however it ended.
            window_config: Passed to ``show_window`` as it is.

        Raises:
            AuthFlowTimeout: Nobody signed in within ``auth_timeout`` seconds.
            AuthFlowCancelled: ``cancel`` was called.
            AuthenticationError: The provider refused, what it sent cannot be believed, no port can be had, a
                callback failed, or a login of this manager is already under way.
        """
        window = Window(show_window, close_window, window_config or {}) if show_window else None
        try:
            with self._claimed() as server:
                try:
                    return self._login(server, window)
                finally:
                    if window is not None:
                        window.close()
        except AuthenticationError as error:
            error.provider = error.provider or self._provider.name
            error.flow_id = error.flow_id or self._flow_id
            raise

    @contextmanager
    def _claimed(self) -> Iterator[OAuthCallbackServer]:
        """Lend this manager's one login and its bound server, and keep the state in step."""
        with self._lock:
            if self._server is not None:
                raise AuthenticationError(
                    "A login of this AuthFlowManager is already under way: wait for it."
                )
            self._flow_id = secrets.token_hex(8)
            self._state = AuthFlowState.FAILED  # as long as there is no port
            server = self._server = OAuthCallbackServer(self._ports)
            self._state = AuthFlowState.AWAITING_CALLBACK
        try:
            with server:
                yield server
        except BaseException as error:
            self._state = _state_after(error)
            raise
        finally:
            with self._lock:
                self._server = None

    def _login(self, server: OAuthCallbackServer, window: Window | None) -> AuthFlowResult:
        try:
            result = self._sign_in(server, window)
        except BaseException as error:
            server.answer(_page_about(error))
            raise
        self._state = AuthFlowState.COMPLETED
        server.answer(pages.complete())
        return result

    def _sign_in(self, server: OAuthCallbackServer, window: Window | None) -> AuthFlowResult:
        request = begin(
            self._provider, server.redirect_uri, use_pkce=self._use_pkce, extra_params=self._extra_params
        )
        server.expect(request.state)
        server.raise_if_cancelled()
        self._present(request, window)
        parameters = server.wait(self._timeout)
        self._state = AuthFlowState.EXCHANGING_CODE
        result = complete(self._provider, request, parameters)
        server.raise_if_cancelled()
        if self._token_store is not None:
            self._token_store.save(result.user_id, result.tokens)
        if self._session_manager is not None:
            self._session_manager.save_tokens(result.tokens)
        return result

    def _present(self, request: AuthorizationRequest, window: Window | None) -> None:
        opening = window is not None or (self._open_browser and browser.has_browser(os.environ, sys.platform))
        message = browser.instructions(
            request.url, request.redirect_uri, opening=opening, remote=browser.is_remote(os.environ)
        )
        ask("notify", self._notify, message)
        if window is not None:
            window.open(request.url)
        elif opening:
            browser.open_browser(request.url)


def _state_after(error: BaseException) -> AuthFlowState:
    if isinstance(error, AuthFlowTimeout):
        return AuthFlowState.TIMED_OUT
    if isinstance(error, (AuthFlowCancelled, KeyboardInterrupt)):
        return AuthFlowState.CANCELLED
    return AuthFlowState.FAILED


def _page_about(error: BaseException) -> pages.PageResponse:
    if isinstance(error, AuthenticationError):
        return pages.failed(str(error))
    if isinstance(error, Exception):
        return pages.failed(
            "You are known to the provider, but the application could not finish the sign-in."
        )
    return pages.ended()
