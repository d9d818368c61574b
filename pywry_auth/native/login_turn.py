"""One browser window at a time, however many processes of a program want somebody to sign in."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pywry_auth.backends.file_locks import FileLocks, default_folder
from pywry_auth.exceptions import AuthFlowCancelled, AuthFlowTimeout, ErrorCode, StoreUnavailable

_PAUSE = 0.1  # seconds; no system calls back when a file is unlocked
_STILL_WAITING = "Another process of this program still waits for somebody to sign in: do that, or end it."


@contextmanager
def login_turn(
    name: str,
    seconds: float,
    notify: Callable[[str], object],
    cancelled: threading.Event,
    folder: Path | None = None,
) -> Iterator[float]:
    """Hold, for the ``with`` block, the turn of this machine's user to sign in somewhere.

    The turn of a process that ends, however it ends, is free at once.

    Args:
        name: Where; any text.
        seconds: How long to wait for the turn of another.
        notify: Hears that another is waited for.
        cancelled: Ends the wait when it is set.
        folder: Where the locks are; default: in the user's folder for state.

    Yields:
        Seconds spent waiting. 0: there was no other; else it may have signed in whom this one wants.

    Raises:
        AuthFlowTimeout: The other one still waits for the person.
        AuthFlowCancelled: ``cancelled`` was set meanwhile.
    """
    locks, handle = FileLocks(folder or default_folder()), None
    began = time.monotonic()
    waited = 0.0
    try:
        while (handle := locks.take(name, wait=False)) is None:
            if not waited:
                notify("Another process of this program waits for you to sign in: this one goes on after it.")
            if cancelled.wait(_PAUSE):
                raise AuthFlowCancelled("The login was cancelled.", error=ErrorCode.CANCELLED)
            waited = time.monotonic() - began
            if waited >= seconds:
                raise AuthFlowTimeout(_STILL_WAITING, error=ErrorCode.TIMEOUT, timeout=seconds)
    except StoreUnavailable:
        pass  # then two windows may open: no reason to let nobody sign in
    try:
        yield waited
    finally:
        if handle is not None:
            locks.free(handle)
