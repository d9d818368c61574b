"""Assembles the characters of a terminal in raw mode into texts."""

from __future__ import annotations

_END = 0x04  # Ctrl-D
_ERASE = (0x08, 0x7F)
_CLEAR = 0x15  # Ctrl-U
_BREAKS = (0x0A, 0x0D)
_BRACKETS = (b"\x1b[200~", b"\x1b[201~")  # around a paste, if the terminal marks pastes


class TypedText:
    """The text that the user types or pastes.

    A paste may have several lines. Therefore a line break only makes the text ready: the reader takes it
    when no further characters follow at once.

    Args:
        limit: Bytes to keep; one more is kept, so that the reader notices a text that is too long.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._bytes = bytearray()
        self._last_break = False
        self.ended = False
        """Whether the user has pressed Ctrl-D."""

    @property
    def ready(self) -> bool:
        """Whether the text ends with a line break."""
        return self._last_break

    def feed(self, received: bytes) -> None:
        """Add characters.

        Args:
            received: The characters, as read from the terminal.
        """
        for value in received:
            self._last_break = value in _BREAKS
            if value == _END:
                # As in a terminal's usual mode: the first one ends the line, and the next one the input.
                self.ended = self.ended or not self._bytes.strip()
                self._last_break = True
            elif value in _ERASE:
                del self._bytes[-1:]
            elif value == _CLEAR:
                self._bytes.clear()
            elif len(self._bytes) <= self._limit:
                self._bytes.append(value)

    def take(self) -> str:
        """Return the text, and begin the next one."""
        text = bytes(self._bytes)
        self._bytes.clear()
        self._last_break = False
        for bracket in _BRACKETS:
            text = text.replace(bracket, b"")
        return text.decode("utf-8", "replace")
