"""One browser window at a time for all processes of a program."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pywry_auth.backends.file_locks import FileLocks, default_folder
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthFlowCancelled, AuthFlowTimeout, StoreUnavailable

_PAUSE = 0.1  # seconds; no system calls back when a file is unlocked
_STILL_WAITING = "Another process of this program still waits for the user: sign in there, or end it."


@contextmanager
def login_turn(
    name: str,
    seconds: float,
    notify: Callable[[str], object],
    cancelled: threading.Event,
    folder: Path | None = None,
) -> Iterator[float]:
    """Hold this machine's turn to sign in at one place, for the ``with`` block.

    The turn of a process that ends or crashes is free at once.

    Args:
        name: Name of the place; any text.
        seconds: How long to wait for another process.
        notify: Receives a message if another process holds the turn.
        cancelled: Ends the wait when it is set.
        folder: Folder of the locks; default: in the user's folder for state.

    Yields:
        Seconds spent waiting. 0 if no other process was signing in; otherwise it may already have signed in
        the user wanted here.

    Raises:
        AuthFlowTimeout: The other process still waits for the user.
        AuthFlowCancelled: ``cancelled`` was set.
    """
    locks, handle = FileLocks(folder or default_folder()), None
    began = time.monotonic()
    waited = 0.0
    try:
        while (handle := locks.take(name, wait=False)) is None:
            if not waited:
                notify("Another process of this program waits for you to sign in: this one continues then.")
            if cancelled.wait(_PAUSE):
                raise AuthFlowCancelled("The login was cancelled.", error=ErrorCode.CANCELLED)
            waited = time.monotonic() - began
            if waited >= seconds:
                raise AuthFlowTimeout(_STILL_WAITING, error=ErrorCode.TIMEOUT, timeout=seconds)
    except StoreUnavailable:
        pass  # without locks two windows may open, but the user can sign in
    try:
        yield waited
    finally:
        if handle is not None:
            locks.free(handle)
