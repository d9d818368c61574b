"""Standard streams: whether a user reads them, and can type into them."""

from __future__ import annotations

import os
import stat
import sys


def is_interactive() -> bool:
    """Return whether this process has a terminal, a notebook or an interactive interpreter.

    Standard output does not count, because the address never goes there. With a terminal as standard input,
    standard error may be a pipe to a program that shows it, such as tee, but not a file.
    """
    return hasattr(sys, "ps1") or is_terminal(sys.stderr) or (is_terminal(sys.stdin) and is_pipe(sys.stderr))


def in_notebook() -> bool:
    """Return whether this process is the kernel of a notebook."""
    return hasattr(sys, "ps1") and "ipykernel" in sys.modules and not is_terminal(sys.stdin)


def in_terminal() -> bool:
    """Return whether a program in the terminal, such as a text browser, can take it over."""
    return is_terminal(sys.stdin) and is_terminal(sys.stdout)


def can_type() -> bool:
    """Return whether a user can type into standard input.

    A job in the background of its terminal cannot read: the system would stop it.
    """
    try:
        return is_terminal(sys.stdin) and in_foreground(sys.stdin.fileno())
    except (AttributeError, ValueError, OSError):  # a stream of the program's own
        return False


def in_foreground(descriptor: int) -> bool:
    """Return whether this process may read from its terminal.

    Args:
        descriptor: The terminal.
    """
    if sys.platform == "win32":
        return True
    try:
        return os.tcgetpgrp(descriptor) == os.getpgrp()
    except OSError:
        return True  # the terminal has no jobs, because it does not control this process


def is_terminal(stream: object) -> bool:
    """Return whether a stream is a terminal; one that is closed or missing is not.

    Args:
        stream: The stream.
    """
    try:
        return bool(stream.isatty())  # type: ignore[attr-defined]
    except (AttributeError, ValueError, OSError):
        return False


def is_pipe(stream: object) -> bool:
    """Return whether a stream leads to another program.

    Args:
        stream: The stream.
    """
    try:
        mode = os.fstat(stream.fileno()).st_mode  # type: ignore[attr-defined]
    except (AttributeError, ValueError, OSError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)
