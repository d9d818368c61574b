"""The modes of a terminal while a secret is pasted into it."""

from __future__ import annotations

from contextlib import suppress
from types import TracebackType
from typing import Any

from pywry_auth.native.streams import in_foreground


class HiddenInput:
    """Lets a terminal show no characters and cut no lines; Ctrl-C and Ctrl-Z still work.

    Use this as a context manager, which restores the terminal. If the program is killed, the terminal stays
    hidden: without a signal handler, which belongs to the whole program, this cannot be avoided. The other
    choice would be to show the secret.

    Args:
        descriptor: The terminal.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._before: list[Any] | None = None

    def __enter__(self) -> HiddenInput:
        """Hide the input.

        Raises:
            OSError: The descriptor is no terminal.
        """
        self.hide()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        import termios

        # Unread characters are discarded: a shell would otherwise execute the rest of a pasted address.
        if self._before is not None and in_foreground(self._descriptor):
            with suppress(termios.error):  # the terminal is gone
                termios.tcsetattr(self._descriptor, termios.TCSAFLUSH, self._before)

    def hide(self) -> None:
        """Hide the input, unless another program uses the terminal.

        Call this repeatedly: a shell sets its own modes when it stops a program, and some shells keep them
        when the program goes on.

        Raises:
            OSError: The descriptor is no terminal.
        """
        import termios

        if not in_foreground(self._descriptor):  # a change would stop this program
            return
        try:
            modes = termios.tcgetattr(self._descriptor)
            shown = modes[3] & (termios.ICANON | termios.ECHO)
            if self._before is None or shown:
                quiet = [*modes[:6], list(modes[6])]
                quiet[3] &= ~(termios.ICANON | termios.ECHO)
                quiet[6][termios.VMIN], quiet[6][termios.VTIME] = 1, 0
                termios.tcsetattr(self._descriptor, termios.TCSANOW, quiet)
                self._before = modes
        except termios.error as error:
            raise OSError("the terminal cannot be read") from error
