"""A timer that survives sleep and changes of the clock."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

_logger = logging.getLogger("pywry_auth.native")
_LONGEST_WAIT = 60.0  # seconds; a wait may stop during sleep, so the clock is read at least this often


class RefreshTimer:
    """Calls an action at a given time, in a thread.

    The time has come when the wall clock shows it: this clock continues while a laptop sleeps. The time has
    also come when the remaining seconds have passed: this holds even if the wall clock was set back. There is
    at most one ``threading.Timer``. The lock guards this timer, and whether one may be started.

    Args:
        action: Called in the timer's thread, with no lock held.
        clock: Unix time in seconds.
        awake: Monotonic time in seconds; it may stop during sleep.
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
        # Reentrant: garbage collection inside a locked block may stop the timer in the same thread.
        self._lock = threading.RLock()
        self._on = False
        self._timer: threading.Timer | None = None

    def start(self) -> None:
        """Allow the timer to be set."""
        with self._lock:
            self._on = True

    def set(self, moment: float | None) -> None:
        """Call back at ``moment`` instead of an earlier setting.

        This does nothing unless the timer was started.

        Args:
            moment: Unix time in seconds; None for never.
        """
        self._replace(None if moment is None else (moment, self._awake() + moment - self._clock()))

    def stop(self) -> None:
        """Call back no more until started and set again.

        A running action continues.
        """
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
                _logger.warning("tokens are not refreshed in the background: %s", error)

    def _left(self, end: tuple[float, float]) -> float:
        return min(end[0] - self._clock(), end[1] - self._awake())

    def _look(self, end: tuple[float, float]) -> None:
        with self._lock:
            if self._timer is not threading.current_thread():
                return None  # the timer was stopped or set again while this thread woke up
            if self._left(end) > 0:
                return self._replace(end)
            self._timer = None
        return self._action()
