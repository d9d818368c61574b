"""Calls back when a moment of the wall clock has come, whatever the machine did meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

_LONGEST_WAIT = 60.0  # seconds; timers count time awake, so the clock is looked at again after a sleep


class RefreshTimer:
    """One daemon ``threading.Timer`` at a time; the lock guards which.

    Args:
        action: Called in the timer's thread, with no lock held.
        clock: Unix time in seconds.
    """

    def __init__(self, action: Callable[[], None], clock: Callable[[], float] = time.time) -> None:
        self._action = action
        self._clock = clock
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None

    def set(self, moment: float) -> None:
        """Call back at ``moment`` (Unix time in seconds) instead of when it was set before."""
        wait = min(max(moment - self._clock(), 0.0), _LONGEST_WAIT)
        timer = threading.Timer(wait, self._look, (moment,))
        timer.daemon = True
        timer.name = "pywry-auth-refresh"
        with self._lock:
            previous, self._timer = self._timer, timer
            timer.start()
        if previous is not None:
            previous.cancel()

    def stop(self) -> None:
        """Do not call back until it is set again; an action that is running goes on."""
        with self._lock:
            timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _look(self, moment: float) -> None:
        with self._lock:
            if self._timer is not threading.current_thread():
                return  # it was stopped or set anew while this one woke up
        if self._clock() >= moment:
            self._action()
        else:
            self.set(moment)
