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

from pywry_auth.native.hidden_input import HiddenInput
from pywry_auth.native.streams import in_foreground
from pywry_auth.native.typed_text import TypedText
from pywry_auth.per_process import PerProcess

_SETTLE = 0.3  # seconds without a character after a line break; the lines of a paste come at once
_SLICE = 0.1  # seconds; the console of Windows cannot be waited for together with an event
_CHECK = 0.2  # seconds between two looks at the modes of the terminal, or at another login that reads it
_IN_BACKGROUND = 0.5  # seconds
_JOIN = 2.0  # seconds; the thread has been woken before
_BLOCK = 4096  # bytes
_INTERRUPT = "\x03"

# Two readers would get arbitrary parts of a paste, and restore the modes of each other.
_reading = PerProcess(threading.Lock)


class TerminalInput:
    """Passes the user's texts on. Use this as a context manager, which restores the terminal.

    After the last text, characters are discarded until the end: a shell would execute a second paste. If
    another login of the process reads the terminal, this one waits until that has ended.

    Args:
        descriptor: The terminal.
        on_text: Receives each text in a thread of its own, and returns whether another may follow.
        on_end: Called when the user ends the input (Ctrl-D, or Ctrl-Z on Windows).
        on_interrupt: Called on Ctrl-C where the system passes it on as a character.
        on_wait: Called once if another login reads the terminal.
        limit: Bytes of a text; a longer one is cut after one more.
    """

    def __init__(
        self,
        descriptor: int,
        on_text: Callable[[str], bool],
        *,
        on_end: Callable[[], object],
        on_interrupt: Callable[[], object],
        on_wait: Callable[[], object],
        limit: int,
    ) -> None:
        self._descriptor = descriptor
        self._on_text = on_text
        self._on_end = on_end
        self._on_interrupt = on_interrupt
        self._on_wait = on_wait
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
        if not self._has_turn():
            return
        try:
            with contextlib.suppress(OSError, ValueError):  # the terminal was closed: the listener decides
                if sys.platform == "win32":
                    self._pass_on(self._windows())
                else:
                    with HiddenInput(self._descriptor) as hidden:
                        self._pass_on(self._posix(hidden))
        finally:
            _reading().release()

    def _has_turn(self) -> bool:
        """Wait until no other login reads the terminal; False if this one has ended before."""
        if _reading().acquire(blocking=False):
            return True
        self._on_wait()
        while not self._closed.is_set():
            if _reading().acquire(timeout=_CHECK):
                return True
        return False

    def _pass_on(self, blocks: Iterator[bytes]) -> None:
        """Pass texts on until the user or the program ends it; an empty block means a quiet terminal."""
        reads = True
        for block in blocks:
            if not reads:
                continue
            self._text.feed(block)
            if self._text.ended:
                self._on_end()
                reads = False
            elif not block and self._text.ready:
                reads = self._on_text(self._text.take())
            if not reads:
                self._text.take()

    def _posix(self, hidden: HiddenInput) -> Iterator[bytes]:
        # On macOS, poll() does not work with terminals.
        selector = selectors.SelectSelector() if sys.platform == "darwin" else selectors.DefaultSelector()
        with selector:
            selector.register(self._woken, selectors.EVENT_READ)
            selector.register(self._descriptor, selectors.EVENT_READ)
            while True:
                settling = self._text.ready
                ready = selector.select(_SETTLE if settling else _CHECK)
                if self._closed.is_set():
                    return
                hidden.hide()
                if not ready:
                    if settling:
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
