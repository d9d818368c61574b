"""The application's own window, and calls of its callbacks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

from pywry_auth.exceptions import AuthenticationError

WindowConfig = Mapping[str, Any]
"""Options that are passed to the application's ``show_window`` unchanged."""

ShowWindow = Callable[[str, WindowConfig], str]
"""Opens the application's window at a URL with these options, and returns its label.

Other users can read the arguments of a program that it starts, so the URL must not be one of them.
"""

CloseWindow = Callable[[str], object]
"""Closes the window with a label."""

_P = ParamSpec("_P")
_T = TypeVar("_T")
_logger = logging.getLogger("pywry_auth.native")


class Window:
    """The application's own window, from its opening to its closing.

    Args:
        show: Opens the window.
        close: Closes the window; None leaves that to the user.
        config: Options for ``show``.
    """

    def __init__(self, show: ShowWindow, close: CloseWindow | None, config: WindowConfig) -> None:
        self._show = show
        self._close = close
        self._config = config
        self._labels: list[str] = []

    def open(self, url: str) -> None:
        """Open the window at a URL.

        Args:
            url: URL of the authorization request.

        Raises:
            AuthenticationError: ``show`` failed.
        """
        self._labels.append(call_back("show_window", self._show, url, self._config))

    def close(self) -> None:
        """Close the window if it was opened.

        A failure is logged and does not change the result of the login.
        """
        if self._close is None:
            return
        for label in self._labels:
            try:
                self._close(label)
            except Exception:
                _logger.exception("close_window failed")


def call_back(name: str, callback: Callable[_P, _T], *arguments: _P.args, **named: _P.kwargs) -> _T:
    """Call a callback of the application, and return its result.

    An error of the callback ends the login.

    Args:
        name: Name of the callback, for the error.
        callback: The callback.
        arguments: Its arguments.
        named: Its keyword arguments.

    Raises:
        AuthenticationError: The callback raised it, or raised another error; the text names its type.
    """
    try:
        return callback(*arguments, **named)
    except AuthenticationError:
        raise
    except Exception as error:
        # The error's text may quote the URL.
        raise AuthenticationError(
            f"{name} raised {type(error).__name__}, so the user cannot be asked to sign in."
        ) from error


def tell(notify: Callable[[str], object], message: str) -> Exception | None:
    """Give the user a message, and return the error if that failed.

    The message is only a help, so a terminal that is gone does not end a login.

    Args:
        notify: Receives the message.
        message: The message.

    Raises:
        AuthenticationError: ``notify`` raised it to end the login.
    """
    try:
        notify(message)
    except AuthenticationError:
        raise
    except Exception as error:  # noqa: BLE001 - the program's own function may raise anything
        # A terminal that is gone is no warning: without a handler, logging would write to the same terminal.
        level = logging.INFO if isinstance(error, (OSError, ValueError)) else logging.WARNING
        _logger.log(level, "notify raised %s", type(error).__name__)  # its text may contain the URL
        return error
    return None
