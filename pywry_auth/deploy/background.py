"""Work that is tried again in the background until it is done."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from weakref import WeakMethod

from pywry_auth.exceptions import AuthenticationError

_logger = logging.getLogger("pywry_auth.deploy")

_LOOK_SECONDS = 60.0
_SHORTEST_PAUSE = 1.0  # seconds
_LONGEST_PAUSE = 10.0  # seconds


class Retries:
    """A daemon thread that exists only while there is work.

    Each process has a thread of its own, made after a fork. The lock guards the thread and the time of the
    last look; it is not held during the work. The thread ends when the object of ``work`` is
    garbage-collected.

    Args:
        work: A method that does the work that is due. It returns the Unix time in seconds at which it must be
            called again, or None if no work is left.
    """

    def __init__(self, work: Callable[[], float | None]) -> None:
        self._work = WeakMethod(work)
        self._lock = threading.Lock()
        self._pid = 0
        self._again = False
        self._running = False
        self._looked_at = 0.0

    def look(self) -> None:
        """Look for work that another process left, at most once a minute."""
        with self._here():
            now = time.monotonic()
            due = not self._looked_at or now - self._looked_at >= _LOOK_SECONDS
            if due:
                self._looked_at = now
        if due:
            self.wake()

    def wake(self) -> None:
        """Do the work that is due soon, in the background."""
        with self._here():
            self._again = True
            if self._running:
                return
            self._running = True
        threading.Thread(target=self._run, name="pywry-auth-retries", daemon=True).start()

    def _here(self) -> threading.Lock:
        """Return the lock of this process; a fork copies neither its state nor the thread."""
        if self._pid != os.getpid():
            self._lock, self._pid = threading.Lock(), os.getpid()
            self._again, self._running, self._looked_at = False, False, 0.0
        return self._lock

    def _run(self) -> None:
        while True:
            with self._lock:
                self._again = False
            due_at = self._attempt()
            with self._lock:
                if due_at is None and not self._again:
                    self._running = False
                    return
            if due_at is not None:
                # A pause in any case, so that much new work does not cause many attempts.
                time.sleep(min(max(due_at - time.time(), _SHORTEST_PAUSE), _LONGEST_PAUSE))

    def _attempt(self) -> float | None:
        work = self._work()
        if work is None:
            return None
        try:
            return work()
        except AuthenticationError as error:
            _logger.warning("work in the background failed and is tried again: %s", error)
        except Exception as error:  # noqa: BLE001  # a provider class of the application may raise any error
            # Its text may quote a token, so that only its name is logged.
            name = type(error).__name__
            _logger.error("work in the background failed unexpectedly (%s) and is tried again", name)
        return time.time()
