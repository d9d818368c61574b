"""Which of the ports that a provider knows is to be had."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from typing import TypeVar

from pywry_auth.exceptions import AuthenticationError, ErrorCode

_MOST_NAMED = 10
_T = TypeVar("_T")


def first_free(ports: Sequence[int], bind: Callable[[int], _T]) -> _T:
    """Return what ``bind`` makes of the first port that can be had.

    Args:
        ports: Ports to try in order; 0 takes any free one. Another than these is never taken: a provider
            that wants a registered port would refuse it, later and less clearly.
        bind: Binds a port, or raises OSError.

    Raises:
        AuthenticationError: None can be had; the text names them.
    """
    for port in ports:
        try:
            return bind(port)
        except OverflowError as error:
            raise _misconfigured(f"{port} is no port: take one from 1 to 65535, or 0 for any.") from error
        except OSError as error:
            # EACCES: on Windows the port may be in a range reserved for Hyper-V.
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise _misconfigured(f"No port can be opened for the login: {error.strerror}.") from error
    if not ports:
        raise _misconfigured("The login needs a port for its redirect URI. None was given: give 0 for any.")
    named = ", ".join(str(port) for port in ports[:_MOST_NAMED]) + (" …" if len(ports) > _MOST_NAMED else "")
    raise _misconfigured(
        f"The login needs one of these ports, and all are in use or reserved: {named}. "
        "End the program that uses one, or allow another port and register it at the provider."
    )


def _misconfigured(text: str) -> AuthenticationError:
    return AuthenticationError(text, error=ErrorCode.INVALID_CONFIGURATION)
