"""Output of commands: results on stdout, errors on stderr."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime

from pywry_auth.exceptions import AuthenticationError, printable
from pywry_auth.models import AuthFlowResult
from pywry_auth.native.terminal import write_line


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


def describe(result: AuthFlowResult) -> str:
    """Return a readable description of a login's result.

    Args:
        result: The result of a login.
    """
    expires_at = result.tokens.expires_at
    expiry = "not stated by the provider" if expires_at is None else _local_time(expires_at)
    names = [result.user_info.get(name) for name in ("name", "email")]
    user = ", ".join([printable(str(name)) for name in names if name] or ["no name given"])
    return (
        f"Signed in:  {user} (user ID {printable(result.user_id)})\n"
        f"Scopes:     {printable(result.tokens.scope) or 'none'}\n"
        f"Expires:    {expiry}"
    )


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Show warnings as sentences, without their place in the code."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_where, **_more: complain(str(message))
        yield


def _local_time(moment: float) -> str:
    try:
        return datetime.fromtimestamp(moment).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")
    except (OverflowError, ValueError, OSError):  # a damaged record
        return "unknown"
