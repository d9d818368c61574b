"""Waits that Ctrl-C interrupts, for events that a signal handler may set."""

from __future__ import annotations

import queue
import sys
import threading
import time
from typing import Protocol

_FIRST_NAP = 0.05  # seconds
# Seconds; Windows cannot interrupt a wait at all before Python 3.14 (cpython#125541).
_LONGEST_NAP = 0.25 if sys.platform == "win32" else threading.TIMEOUT_MAX


class Waitable(Protocol):
    """An event of this module or of ``threading``."""

    def is_set(self) -> bool:
        """Return whether the event has happened."""

    def wait(self, timeout: float) -> bool:
        """Wait so many seconds at most, and return whether the event has happened."""


class SignalSafeEvent:
    """An event that a signal handler may set, also while its own thread waits for it.

    ``threading.Event`` has a lock. A handler that needs it would wait for the code that it interrupted. The
    queue has none (``SimpleQueue.put`` is reentrant).
    """

    def __init__(self) -> None:
        self._happened = False
        self._wakes: queue.SimpleQueue[None] = queue.SimpleQueue()

    def set(self) -> None:
        """Let the event happen."""
        self._happened = True
        self._wakes.put(None)

    def is_set(self) -> bool:
        """Return whether the event has happened."""
        return self._happened

    def wait(self, timeout: float) -> bool:
        """Wait for the event, and return whether it has happened.

        Args:
            timeout: Seconds to wait at most.
        """
        if not self._happened:
            try:
                self._wakes.get(timeout=timeout)
            except queue.Empty:
                return self._happened
            self._wakes.put(None)  # for other waiting threads
        return self._happened


def wait_for(event: Waitable, seconds: float) -> bool:
    """Wait for an event, and return whether it happened.

    Ctrl-C interrupts the wait. Python notices a signal that arrives just before a wait only when that wait
    ends. This is likely while threads and connections start, so the first naps are short. Each nap is twice
    as long as the one before: the longest login takes a dozen.

    Args:
        event: The event.
        seconds: The time limit.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed.
    """
    deadline = time.monotonic() + seconds
    nap = _FIRST_NAP
    while not event.is_set() and (left := deadline - time.monotonic()) > 0:
        event.wait(min(nap, left))
        nap = min(2 * nap, _LONGEST_NAP)
    return event.is_set()
