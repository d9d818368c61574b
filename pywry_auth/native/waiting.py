"""Waiting for an event in a thread that Ctrl-C may come to."""

from __future__ import annotations

import sys
import threading
import time

_FIRST_NAP = 0.05  # seconds
# Seconds; Windows cannot interrupt a wait at all before Python 3.14 (cpython#125541).
_LONGEST_NAP = 0.25 if sys.platform == "win32" else threading.TIMEOUT_MAX


def wait_for(event: threading.Event, seconds: float) -> bool:
    """Wait for an event, and return whether it has come.

    A signal that comes just before Python falls asleep is only seen when it wakes up again. That is likely
    while threads and connections are starting, so the first naps are short, and each is twice as long as the
    one before: a dozen in the longest login, which is far from polling.

    Args:
        event: What is waited for.
        seconds: How long at most.

    Raises:
        KeyboardInterrupt: Ctrl-C, as everywhere.
    """
    deadline = time.monotonic() + seconds
    nap = _FIRST_NAP
    while not event.is_set() and (left := deadline - time.monotonic()) > 0:
        event.wait(min(nap, left))
        nap = min(2 * nap, _LONGEST_NAP)
    return event.is_set()
