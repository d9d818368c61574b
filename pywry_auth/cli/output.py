"""Output of commands: results on stdout, errors on stderr."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime

from pywry_auth.exceptions import AuthenticationError
from pywry_auth.native.terminal import write_line
from pywry_auth.strict_json import without_surrogates, write_json


def show(text: str) -> None:
    """Print a command's result.

    Characters that the encoding of standard output lacks are escaped. A closed pipe is not an error.

    Args:
        text: The result.

    Raises:
        AuthenticationError: Standard output cannot be written, for example because the disk is full.
    """
    if sys.stdout is None or sys.stdout.closed:
        return
    encoding = sys.stdout.encoding or "utf-8"
    try:
        print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)
    except OSError as error:
        # Otherwise the interpreter would flush again at its end, and report an error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            raise AuthenticationError(f"The result cannot be written: {error.strerror}.") from error


def complain(text: str) -> None:
    """Print a sentence to standard error, after the program's name.

    If standard error is gone, the exit code of the command still reports the failure.

    Args:
        text: The sentence.
    """
    with suppress(OSError, ValueError):
        write_line(sys.stderr, f"pywry-auth: {text}")


def add_json(parser: argparse._ActionsContainer) -> None:
    """Add ``--json``, with which a command prints one JSON object.

    Args:
        parser: The command's parser, or a group of it.
    """
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def add_account(parser: argparse.ArgumentParser) -> None:
    """Add ``--account``.

    Args:
        parser: The command's parser.
    """
    parser.add_argument("--account", metavar="ID", help="the user's ID; default: the current account")


def add_env_file(parser: argparse.ArgumentParser) -> None:
    """Add ``--env-file``.

    Args:
        parser: The command's parser.
    """
    parser.add_argument(
        "--env-file", metavar="FILE", help="a .env file with settings; the environment takes precedence"
    )


def show_json(members: Mapping[str, object]) -> None:
    """Print a command's result as one JSON object on one line.

    Args:
        members: The members of the object.

    Raises:
        AuthenticationError: Standard output cannot be written.
    """
    show(write_json(without_surrogates(dict(members))))


def report(code: str, text: str, options: argparse.Namespace) -> None:
    """Report the failure of a command, for people and, with ``--json``, for programs.

    Args:
        code: The error code.
        text: The sentence.
        options: The command line, as far as it was read.
    """
    complain(text)
    if getattr(options, "json", False):
        with suppress(AuthenticationError):  # the exit code still reports the failure
            show_json({"error": code, "error_description": text})


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Show warnings as sentences, without their place in the code; so too those of the log."""
    logger, complaints = logging.getLogger("pywry_auth"), _Complaints(logging.WARNING)
    logger.addHandler(complaints)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_where, **_more: complain(str(message))
            yield
    finally:
        logger.removeHandler(complaints)


class _Complaints(logging.Handler):
    """Shows what a log without handlers would show, after the program's name, and each sentence once."""

    def __init__(self, level: int) -> None:
        super().__init__(level)
        self._shown = set[str]()

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if not logging.getLogger().handlers and text not in self._shown:
            self._shown.add(text)
            complain(text)


def local_time(moment: float) -> str:
    """Return a time for people, in the time zone of this machine.

    Args:
        moment: Unix time in seconds.
    """
    try:
        return datetime.fromtimestamp(moment).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")
    except (OverflowError, ValueError, OSError):  # a damaged record
        return "unknown"
