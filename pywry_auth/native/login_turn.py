"""One browser window for all processes of a program."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pywry_auth.backends.file_locks import FileLocks
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthFlowCancelled, AuthFlowTimeout, StoreUnavailable
from pywry_auth.native.waiting import Waitable
from pywry_auth.native.window import tell

_PAUSE = 0.1  # seconds; no operating system reports that a file was unlocked
_WAITING = "Another process of this program waits for you to sign in. This one continues afterwards."
_STILL_WAITING = "Another process of this program still waits for the user: sign in there, or end it."


@contextmanager
def login_turn(
    name: str,
    seconds: float,
    notify: Callable[[str], object],
    cancelled: Waitable,
    folder: Path | None = None,
    *,
    allowed: float | None = None,
) -> Iterator[float]:
    """Hold the machine's turn to sign in during the block.

    If a process ends or crashes, its turn is free at once.

    Args:
        name: Any text; turns of different names are independent.
        seconds: Time limit for the wait for another process.
        notify: Receives a message if another process holds the turn.
        cancelled: Ends the wait when it is set.
        folder: Folder of the lock files; None uses the user's state folder.
        allowed: Seconds that the whole login has, for the error; None means ``seconds``.

    Yields:
        Seconds spent waiting. 0 if no other process was signing in; otherwise it may already have signed in
        the user wanted here.

    Raises:
        AuthFlowTimeout: The other process still waits for the user.
        AuthFlowCancelled: ``cancelled`` was set.
    """
    locks, handle = FileLocks(folder), None
    began = time.monotonic()
    waited = 0.0
    try:
        while (handle := locks.take(name, wait=False)) is None:
            if not waited:
                tell(notify, _WAITING)
            if cancelled.wait(_PAUSE):
                raise AuthFlowCancelled("The login was cancelled.", error=ErrorCode.CANCELLED)
            waited = time.monotonic() - began
            if waited >= seconds:
                raise AuthFlowTimeout(
                    _STILL_WAITING, error=ErrorCode.TIMEOUT, timeout=seconds if allowed is None else allowed
                )
    except StoreUnavailable:
        pass  # without locks two windows may open, but the user can sign in
    try:
        yield waited
    finally:
        if handle is not None:
            locks.free(handle)
