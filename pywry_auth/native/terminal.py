"""Writes to a terminal or pipe that may be gone."""

from __future__ import annotations

import select
from typing import TextIO


def write_line(stream: TextIO | None, text: str, *, wait: float = 1.0) -> None:
    """Write a line, and flush it.

    Characters that the stream's encoding lacks are escaped. A full pipe that no program reads would block the
    caller forever, so nothing is written to it.

    Args:
        stream: Standard output or standard error; None for a program without a console.
        text: The line.
        wait: Seconds to wait until the stream has room.

    Raises:
        OSError: There is no such stream, its other end is closed or does not read, or the disk is full.
        ValueError: The program has closed the stream.
    """
    write(stream, text + "\n", wait=wait)


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
