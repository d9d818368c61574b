"""The reader of a terminal, with an end of the terminal in this process. [N3]"""

from __future__ import annotations

import os
import queue
import termios
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest

from pywry_auth.native.terminal_input import TerminalInput
from tests.native.sockets import PATIENCE

SHOWN = termios.ECHO | termios.ICANON


@dataclass
class User:
    """A user at a terminal, and the texts that the program has received."""

    keyboard: int
    descriptor: int
    heard: queue.Queue[str] = field(default_factory=queue.Queue)

    def reader(self) -> TerminalInput:
        """Return a reader that takes one text."""
        return TerminalInput(
            self.descriptor,
            self._text,
            on_end=lambda: self.heard.put("END"),
            on_interrupt=lambda: None,
            on_wait=lambda: self.heard.put("WAITS"),
            limit=100,
        )

    def _text(self, text: str) -> bool:
        self.heard.put(text)
        return False

    def press(self, keys: str) -> None:
        os.write(self.keyboard, keys.encode())

    def hears(self) -> str:
        return self.heard.get(timeout=PATIENCE)

    @property
    def modes(self) -> int:
        return int(termios.tcgetattr(self.descriptor)[3])

    def until_hidden(self) -> None:
        while self.modes & SHOWN:
            pass

    def unread(self) -> bytes:
        """Return the characters that a shell would read."""
        self.press("\x04")
        return os.read(self.descriptor, 100)


@pytest.fixture
def user() -> Iterator[User]:
    keyboard, descriptor = os.openpty()
    yield User(keyboard, descriptor)
    os.close(keyboard)
    os.close(descriptor)


@pytest.mark.parametrize(("keys", "heard"), [("address\n", "address\n"), ("\x04", "END")])
def test_nothing_is_shown_or_left_after_the_last_text(user: User, keys: str, heard: str) -> None:
    before = user.modes
    with user.reader():
        user.until_hidden()
        user.press(keys)
        assert user.hears() == heard
        user.press("rm -r x\n\x04")
        time.sleep(0.05)  # the terminal passes the characters on in another thread of the system
        assert not user.modes & SHOWN
    assert user.modes == before
    assert user.unread() == b""
    os.set_blocking(user.keyboard, False)
    with pytest.raises(BlockingIOError):
        os.read(user.keyboard, 100)


def test_a_second_reader_waits_for_the_first(user: User) -> None:
    before = user.modes
    with ExitStack() as first:
        first.enter_context(user.reader())
        user.until_hidden()
        with user.reader():
            assert user.hears() == "WAITS"
            first.close()
            user.until_hidden()
            user.press("second\n")
            assert user.hears() == "second\n"
        assert user.modes == before
        with user.reader():
            user.until_hidden()
            with user.reader():
                assert user.hears() == "WAITS"
    assert user.modes == before


def test_the_text_is_hidden_again_after_a_shell_has_shown_it(user: User) -> None:
    """A shell sets its own modes when the user stops the program with Ctrl-Z, and some keep them after fg."""
    before = termios.tcgetattr(user.descriptor)
    with user.reader():
        user.until_hidden()
        termios.tcsetattr(user.descriptor, termios.TCSANOW, before)
        user.until_hidden()
        user.press("address\n")
        assert user.hears() == "address\n"
    assert termios.tcgetattr(user.descriptor) == before
