"""The application's own window in place of the browser, and how its callbacks are called."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

from pywry_auth.exceptions import AuthenticationError

WindowConfig = Mapping[str, Any]
"""Whatever the application wants to tell its own ``show_window``."""

ShowWindow = Callable[[str, WindowConfig], str]
"""Opens the application's own window on a URL, as configured, and returns its label."""

CloseWindow = Callable[[str], object]
"""Closes the window with a label."""

_P = ParamSpec("_P")
_T = TypeVar("_T")
_logger = logging.getLogger("pywry_auth.native")


class Window:
    """The application's own window, from when it is opened until it is closed.

    Args:
        show: Opens it.
        close: Closes it; None leaves it to the user.
        config: What ``show`` gets beside the URL.
    """

    def __init__(self, show: ShowWindow, close: CloseWindow | None, config: WindowConfig) -> None:
        self._show = show
        self._close = close
        self._config = config
        self._labels: list[str] = []

    def open(self, url: str) -> None:
        """Open it on a URL.

        Args:
            url: Where the user signs in.

        Raises:
            AuthenticationError: ``show`` failed.
        """
        self._labels.append(ask("show_window", self._show, url, self._config))

    def close(self) -> None:
        """Close it if it was opened; whether that works does not change how the login ended."""
        if self._close is None:
            return
        for label in self._labels:
            try:
                self._close(label)
            except Exception:
                _logger.exception("close_window failed")


def ask(name: str, callback: Callable[_P, _T], *arguments: _P.args, **named: _P.kwargs) -> _T:
    """Return what one of the application's callbacks returns; what it raises ends the login.

    Args:
        name: Of the callback, for the error.
        callback: The callback.
        arguments: For the callback.
        named: For the callback.

    Raises:
        AuthenticationError: The callback's own, or one that says what else it raised.
    """
    try:
        return callback(*arguments, **named)
    except AuthenticationError:
        raise
    except Exception as error:
        # Its own text may hold the URL that it was given.
        raise AuthenticationError(
            f"{name} raised {type(error).__name__}, so the user cannot be asked to sign in."
        ) from error
