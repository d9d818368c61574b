"""A login in a thread of its own, for programs with a window."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from pywry_auth.models import AuthFlowResult
    from pywry_auth.native.browser import Notify
    from pywry_auth.native.login import Login, Mode
    from pywry_auth.native.window import CloseWindow, ShowWindow
    from pywry_auth.providers.base import OAuthProvider
    from pywry_auth.state.tokens import TokenStore

_logger = logging.getLogger("pywry_auth.native")

Done = Callable[["AuthFlowResult | None", "BaseException | None"], object]
"""Receives the result of a login and None, or None and the error."""


class LoginArguments(TypedDict, total=False):
    """The arguments of ``PyWry.login``."""

    provider: OAuthProvider | None
    token_store: TokenStore | None
    force: bool
    account: str | None
    mode: Mode
    login_hint: str | None
    prompt: str | None
    scopes: Sequence[str] | None
    timeout: float | None
    show_window: ShowWindow | None
    close_window: CloseWindow | None
    notify: Notify | None


class Cancellation:
    """Cancels a login, also before the login exists.

    ``begin`` stores the login before it looks at the flag, and ``cancel`` sets the flag before it looks for
    the login. So one of them cancels the login.
    """

    def __init__(self) -> None:
        self._cancelled = False
        self._login: Login | None = None

    def begin(self, login: Login) -> None:
        """Concern a login from now on.

        Args:
            login: The login, which has not run yet.
        """
        self._login = login
        if self._cancelled:
            login.cancel()

    def cancel(self) -> None:
        """Cancel the login."""
        self._cancelled = True
        if self._login is not None:
            self._login.cancel()


class BackgroundLogin:
    """A login that runs in a thread (see ``PyWry.login_in_background``).

    The thread is a daemon: at the exit of the interpreter, no user is waited for.

    Args:
        login: Runs the login.
        cancel: Cancels it.
        done: Called once, in the thread, with the result or the error.
    """

    def __init__(self, login: Callable[[], AuthFlowResult], cancel: Callable[[], None], done: Done) -> None:
        self._login = login
        self._cancel = cancel
        self._done = done
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="pywry_auth login", daemon=True)
        self._thread.start()

    def cancel(self) -> None:
        """Cancel the login, from any thread, and do not wait for its end.

        ``done`` is called with ``AuthFlowCancelled``, or with the result if the login had just finished.
        After the end of the login, this does nothing.
        """
        if not self._ended:
            self._cancel()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until ``done`` has returned.

        Do not call this in the thread of a window that ``done`` needs.

        Args:
            timeout: Seconds to wait at most; None waits for any time.

        Returns:
            Whether ``done`` has returned. Inside ``done``, this is False at once.
        """
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        result: AuthFlowResult | None = None
        failure: BaseException | None = None
        try:
            result = self._login()
        except BaseException as error:  # noqa: BLE001 - the program handles it; without it, a window would wait
            failure = error
        self._ended = True
        try:
            self._done(result, failure)
        except Exception:
            _logger.exception("the function done of login_in_background() failed")
