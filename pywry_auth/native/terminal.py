"""Writes to a terminal or pipe that may be gone."""

from __future__ import annotations

import os
import select
import shutil
import textwrap
from typing import TextIO

_WIDEST, _NARROWEST = 100, 20  # columns of a text


def write_line(stream: TextIO | None, text: str, *, wait: float = 1.0) -> None:
    """Write a line, and flush it.

    On a terminal, its text is wrapped (see :func:`wrapped`). Characters that the stream's encoding lacks are
    escaped. A full pipe that no program reads would block the caller forever, so nothing is written to it.

    Args:
        stream: Standard output or standard error; None for a program without a console.
        text: The line.
        wait: Seconds to wait until the stream has room.

    Raises:
        OSError: There is no such stream, its other end is closed or does not read, or the disk is full.
        ValueError: The program has closed the stream.
    """
    columns = columns_of(stream)
    write(stream, (wrapped(text, columns) if columns else text) + "\n", wait=wait)


def wrapped(text: str, columns: int) -> str:
    """Return a text with lines that fit a terminal.

    Lines with an indent are addresses and commands: they stay whole, as does every long word. The other lines
    of a numbered step are indented.

    Args:
        text: The text.
        columns: Columns of the terminal; at most 100 are used.
    """
    width = min(max(columns - 1, _NARROWEST), _WIDEST)  # some terminals add a line after a full one
    return "\n".join(
        line
        if line.startswith(" ")
        else textwrap.fill(
            line,
            width,
            subsequent_indent="   " if line[:1].isdigit() and line[1:3] == ". " else "",
            break_long_words=False,
            break_on_hyphens=False,
        )
        for line in text.split("\n")
    )


def columns_of(stream: TextIO | None) -> int:
    """Return the columns of a terminal, or 0 for another stream.

    Args:
        stream: The stream.
    """
    try:
        if stream is None or not stream.isatty():
            return 0
        return os.get_terminal_size(stream.fileno()).columns or shutil.get_terminal_size().columns
    except (OSError, ValueError, AttributeError):
        return 0


def write(stream: TextIO | None, text: str, *, wait: float = 1.0) -> None:
    """Write a text as ``write_line`` does, without a line break.

    Args:
        stream: As for ``write_line``.
        text: The text.
        wait: As for ``write_line``.

    Raises:
        OSError: As for ``write_line``.
        ValueError: As for ``write_line``.
    """
    # print() would take standard output for None.
    if stream is None or not _is_read(stream, wait):
        raise OSError("there is no terminal, or it does not accept output")
    encoding = getattr(stream, "encoding", None) or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding), end="", file=stream, flush=True)


def _is_read(stream: TextIO, wait: float) -> bool:
    """Return whether the stream has room, and its other end exists."""
    try:
        poll = select.poll()
        poll.register(stream.fileno(), select.POLLOUT)
        events = poll.poll(wait * 1000)
    except (AttributeError, OSError, ValueError):
        return True  # Windows has no poll(), and a stream of the program's own may have no descriptor
    return bool(events) and not events[0][1] & (select.POLLERR | select.POLLHUP)
