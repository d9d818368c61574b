"""Writing to a terminal or pipe that is gone fails at once. [N2]"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from fcntl import ioctl
from termios import TIOCSWINSZ
from typing import TextIO

import pytest

from pywry_auth.native.terminal import wrapped, write_line


@contextmanager
def closed_pipe() -> Iterator[int]:
    reader, writer = os.pipe()
    os.close(reader)
    yield writer


@contextmanager
def closed_terminal() -> Iterator[int]:
    controller, terminal = os.openpty()
    os.close(controller)
    yield terminal


@contextmanager
def full_pipe() -> Iterator[int]:
    """Yield a pipe that no program reads: a further byte would block the writer."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writer, b"x" * 4096)
    os.set_blocking(writer, True)
    yield writer
    os.close(reader)


@contextmanager
def full_disk() -> Iterator[int]:
    yield os.open("/dev/full", os.O_WRONLY)


@pytest.mark.parametrize("make", [closed_pipe, closed_terminal, full_pipe, full_disk])
def test_an_output_that_is_gone_is_an_error_and_blocks_no_caller(make: Callable[[], Iterator[int]]) -> None:
    with make() as descriptor:  # type: ignore[attr-defined]
        stream = open(descriptor, "w", closefd=False)  # noqa: SIM115 - its buffer cannot be flushed
        with pytest.raises(OSError, match=r"terminal|No space left"):
            write_line(stream, "sign in", wait=0.05)
        with suppress(OSError):
            stream.close()
        os.close(descriptor)


def test_a_program_without_a_console_has_no_output() -> None:
    with pytest.raises(OSError, match="no terminal"):
        write_line(None, "sign in")


def test_a_stream_that_the_program_has_closed_is_an_error() -> None:
    stream = io.StringIO()
    stream.close()
    with pytest.raises(ValueError, match="closed"):
        write_line(stream, "sign in")


def test_characters_that_the_encoding_lacks_are_escaped() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, "ascii", errors="strict")
    write_line(stream, "Zoë ✅")
    assert raw.getvalue() == b"Zo\\xeb \\u2705\n"


def test_a_stream_of_the_programs_own_gets_the_line() -> None:
    stream: TextIO = io.StringIO()
    write_line(stream, "sign in")
    assert stream.getvalue() == "sign in\n"  # type: ignore[attr-defined]


def test_texts_are_wrapped_and_addresses_and_commands_stay_whole() -> None:
    address, command = f"https://id.example.com/{'a-b' * 40}", f"    ssh -L {'x ' * 60}"
    text = f"1. Paste the address that the browser shows: {address}\n\n{command}\n{'word ' * 40}"
    lines = wrapped(text, 40).split("\n")
    assert lines[:3] == ["1. Paste the address that the browser", "   shows:", f"   {address}"]
    assert lines[3:5] == ["", command]
    assert all(len(line) < 40 for line in lines[5:])
    assert max(map(len, wrapped("word " * 40, 300).split("\n"))) <= 100
    assert wrapped("a b c d e f g h i j k l", 3) == "a b c d e f g h i j\nk l"


def test_only_a_terminal_gets_wrapped_lines() -> None:
    """A pipe may lead to a program that wraps them itself."""
    text = "word " * 40 + "end"
    outside, inside = os.openpty()
    with open(inside, "w") as terminal:
        ioctl(inside, TIOCSWINSZ, struct.pack("HHHH", 24, 60, 0, 0))
        write_line(terminal, text)
        lines = os.read(outside, 4096).decode().splitlines()
    os.close(outside)
    assert len(lines) > 3
    assert max(map(len, lines)) < 60
    stream = io.StringIO()
    write_line(stream, text)
    assert stream.getvalue() == f"{text}\n"


def test_a_pipe_that_is_read_gets_the_line() -> None:
    reader, writer = os.pipe()
    with open(writer, "w") as stream, open(reader) as other_end:
        write_line(stream, "sign in")
        assert other_end.readline() == "sign in\n"
