"""Reads texts from the terminal in the background, until it is closed.

The terminal shows no character in the meantime, and each text may be long. Without this, the terminal would
cut a line after 4,096 bytes, or after 1,024 on macOS, and keep the address on the screen.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import sys
import threading
from collections.abc import Callable, Iterator
from types import TracebackType

from pywry_auth.native.streams import in_foreground
from pywry_auth.native.typed_text import TypedText

_SETTLE = 0.3  # seconds without a character after a line break; the lines of a paste come at once
_SLICE = 0.1  # seconds; the console of Windows cannot be waited for together with an event
_IN_BACKGROUND = 0.5  # seconds
_JOIN = 2.0  # seconds; the thread has been woken before
_BLOCK = 4096  # bytes
_INTERRUPT = "\x03"


class TerminalInput:
    """Passes the user's texts on. Use this as a context manager, which restores the terminal.

    Args:
        descriptor: The terminal.
        on_text: Receives each text in a thread of its own, and returns whether another may follow.
        on_end: Called when the user ends the input (Ctrl-D, or Ctrl-Z on Windows).
        on_interrupt: Called on Ctrl-C where the system passes it on as a character.
        limit: Bytes of a text; a longer one is cut after one more.
    """

    def __init__(
        self,
        descriptor: int,
        on_text: Callable[[str], bool],
        *,
        on_end: Callable[[], object],
        on_interrupt: Callable[[], object],
        limit: int,
    ) -> None:
        self._descriptor = descriptor
        self._on_text = on_text
        self._on_end = on_end
        self._on_interrupt = on_interrupt
        self._text = TypedText(limit)
        self._closed = threading.Event()
        self._woken, self._waker = -1, -1
        self._thread = threading.Thread(target=self._run, name="pywry-auth-terminal", daemon=True)

    def __enter__(self) -> TerminalInput:
        """Start to read."""
        self._woken, self._waker = os.pipe()
        try:
            self._thread.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop to read, and wait until the terminal is as it was."""
        self._closed.set()
        os.write(self._waker, b"x")
        if self._thread.ident is not None:
            self._thread.join(_JOIN)
        if not self._thread.is_alive():  # otherwise the thread may still poll the pipe
            os.close(self._woken)
            os.close(self._waker)

    def _run(self) -> None:
        with contextlib.suppress(OSError, ValueError):  # the terminal was closed: the listener decides
            if sys.platform == "win32":
                self._pass_on(self._windows())
            else:
                with hidden(self._descriptor):
                    self._pass_on(self._posix())

    def _pass_on(self, blocks: Iterator[bytes]) -> None:
        """Pass texts on until the user or the program ends it; an empty block means a quiet terminal."""
        for block in blocks:
            self._text.feed(block)
            if self._text.ended:
                self._on_end()
                return
            if not block and self._text.ready and not self._on_text(self._text.take()):
                return

    def _posix(self) -> Iterator[bytes]:
        # On macOS, poll() does not work with terminals.
        selector = selectors.SelectSelector() if sys.platform == "darwin" else selectors.DefaultSelector()
        with selector:
            selector.register(self._woken, selectors.EVENT_READ)
            selector.register(self._descriptor, selectors.EVENT_READ)
            while True:
                ready = [key.fd for key, _ in selector.select(_SETTLE if self._text.ready else None)]
                if self._closed.is_set():
                    return
                if not ready:
                    yield b""
                elif not in_foreground(self._descriptor):
                    # The characters are meant for another program, and reading would stop this one.
                    self._closed.wait(_IN_BACKGROUND)
                else:
                    block = os.read(self._descriptor, _BLOCK)
                    if not block:
                        return  # the terminal is gone
                    yield block

    def _windows(self) -> Iterator[bytes]:
        import msvcrt

        characters: str
        while not self._closed.wait(_SETTLE if self._text.ready else _SLICE):
            characters = ""
            while msvcrt.kbhit():  # type: ignore[attr-defined, unused-ignore]
                characters += msvcrt.getwch()  # type: ignore[attr-defined, unused-ignore]
            if _INTERRUPT in characters:
                self._on_interrupt()
                return
            yield characters.replace("\x1a", "\x04").encode("utf-8", "replace")


@contextlib.contextmanager
def hidden(descriptor: int) -> Iterator[None]:
    """Let a terminal show no characters and cut no lines; Ctrl-C and Ctrl-Z still work.

    Args:
        descriptor: The terminal.

    Raises:
        OSError: It is no terminal.
    """
    import termios

    if not in_foreground(descriptor):  # a change would stop this program
        yield
        return
    try:
        before = termios.tcgetattr(descriptor)
        quiet = [*before[:6], list(before[6])]
        quiet[3] &= ~(termios.ICANON | termios.ECHO)
        quiet[6][termios.VMIN], quiet[6][termios.VTIME] = 1, 0
        termios.tcsetattr(descriptor, termios.TCSANOW, quiet)
    except termios.error as error:
        raise OSError("the terminal cannot be read") from error
    try:
        yield
    finally:
        # Unread characters are discarded: a shell would otherwise execute the rest of a pasted address.
        with contextlib.suppress(termios.error):
            if in_foreground(descriptor):
                termios.tcsetattr(descriptor, termios.TCSAFLUSH, before)
