"""Writing to a terminal or pipe that is gone fails at once. [N2]"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

import pytest

from pywry_auth.native.terminal import write_line


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


def test_a_pipe_that_is_read_gets_the_line() -> None:
    reader, writer = os.pipe()
    with open(writer, "w") as stream, open(reader) as other_end:
        write_line(stream, "sign in")
        assert other_end.readline() == "sign in\n"
