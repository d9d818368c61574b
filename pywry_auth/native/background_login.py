"""A login in a thread of its own, for programs with a window."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol, TypedDict

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthFlowCancelled

if TYPE_CHECKING:
    from pywry_auth.models import AuthFlowResult
    from pywry_auth.native.browser import Notify
    from pywry_auth.native.login import Mode
    from pywry_auth.native.window import CloseWindow, ShowWindow
    from pywry_auth.providers.base import OAuthProvider
    from pywry_auth.single_flight import Joins
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


class Cancels(Protocol):
    """A part of a login, or a whole one."""

    def cancel(self) -> None:
        """End it, without waiting."""


class Cancellation:
    """Cancels one call of ``login``, also before it begins, and the login that it joined.

    ``concern`` stores a part before it looks at the flag, and ``cancel`` sets the flag before it looks for
    the parts. So one of them cancels the part. There is no lock, so that a signal handler may cancel too.
    """

    def __init__(self) -> None:
        self._cancelled = False
        self._parts: list[Cancels] = []
        self._ended = threading.Event()
        self._before: Cancellation | None = None

    def concern(self, part: Cancels) -> None:
        """Cancel a part of the login too.

        Args:
            part: The part, which has not begun yet, or a login that this one joins.
        """
        self._parts.append(part)
        if self._cancelled:
            part.cancel()

    def cancel(self) -> None:
        """Cancel the login."""
        self._cancelled = True
        for part in self._parts.copy():
            part.cancel()

    def check(self) -> None:
        """Raise ``AuthFlowCancelled`` if the login was cancelled."""
        if self._cancelled:
            raise AuthFlowCancelled("The login was cancelled.", error=ErrorCode.CANCELLED)

    def joins(self, leader: Joins | None) -> bool:
        """Return whether to join a login; one that was cancelled is about to end.

        Args:
            leader: The login.
        """
        self.check()
        if not isinstance(leader, Cancellation):
            return True
        if leader._cancelled:
            self._before = leader
            return False
        self.concern(leader)
        return True

    def end(self) -> None:
        """Let the login that replaces this one begin."""
        self._ended.set()

    @property
    def follows(self) -> bool:
        """Whether this login replaces a cancelled one."""
        return self._before is not None

    def wait_for_turn(self) -> None:
        """Wait until the login that this one replaces has ended, because it may hold a port."""
        before = self._before
        if before is not None:
            before._ended.wait()
            before.wait_for_turn()
            self._before = None


class BackgroundLogin:
    """A login that runs in a thread (see ``PyWry.login_in_background``).

    The thread is a daemon: at the exit of the interpreter, no user is waited for. Another thread obtains the
    tokens, and ends first (see ``must_end``).

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
        If this login joined the login of another thread, that one ends too. After the end of the login, this
        does nothing.
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
