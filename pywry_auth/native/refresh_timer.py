"""Calls back when a moment has come, whatever the machine and its clock did meanwhile."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

_logger = logging.getLogger("pywry_auth.native")
_LONGEST_WAIT = 60.0  # seconds; timers count time awake, so the clock is looked at again after a sleep


class RefreshTimer:
    """One daemon ``threading.Timer`` at a time; the lock guards which, and whether there may be one.

    A moment has come when the wall clock says so, which goes on while a laptop sleeps, or when as much time
    has passed as was left, which holds though somebody sets the clock back.

    Args:
        action: Called in the timer's thread, with no lock held.
        clock: Unix time in seconds.
        awake: Seconds that only go forward, and need not count those asleep.
    """

    def __init__(
        self,
        action: Callable[[], None],
        clock: Callable[[], float] = time.time,
        awake: Callable[[], float] = time.monotonic,
    ) -> None:
        self._action = action
        self._clock = clock
        self._awake = awake
        # Of one thread many times over: a collection of garbage inside may stop the timer from within.
        self._lock = threading.RLock()
        self._on = False
        self._timer: threading.Timer | None = None

    def start(self) -> None:
        """From now on it can be set."""
        with self._lock:
            self._on = True

    def set(self, moment: float | None) -> None:
        """Call back at ``moment`` instead of when it was set before; nothing happens unless it was started.

        Args:
            moment: Unix time in seconds; None for never.
        """
        self._replace(None if moment is None else (moment, self._awake() + moment - self._clock()))

    def stop(self) -> None:
        """Do not call back until it is started and set again; an action that is running goes on."""
        with self._lock:
            self._on = False
            self._replace(None)

    def _replace(self, end: tuple[float, float] | None) -> None:
        with self._lock:
            previous, self._timer = self._timer, None
            if previous is not None:
                previous.cancel()
            if end is None or not self._on:
                return
            timer = threading.Timer(min(max(self._left(end), 0.0), _LONGEST_WAIT), self._look, (end,))
            timer.daemon = True
            timer.name = "pywry-auth-refresh"
            self._timer = timer
            try:
                timer.start()
            except RuntimeError as error:  # the interpreter is ending, or there are too many threads
                self._timer = None
                _logger.warning("nothing is refreshed in the background: %s", error)

    def _left(self, end: tuple[float, float]) -> float:
        return min(end[0] - self._clock(), end[1] - self._awake())

    def _look(self, end: tuple[float, float]) -> None:
        with self._lock:
            if self._timer is not threading.current_thread():
                return None  # it was stopped or set anew while this one woke up
            if self._left(end) > 0:
                return self._replace(end)
            self._timer = None
        return self._action()
