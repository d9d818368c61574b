"""Work that is tried again in the background until it is done."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from weakref import WeakMethod

from pywry_auth.exceptions import AuthenticationError
from pywry_auth.per_process import PerProcess

_logger = logging.getLogger("pywry_auth.deploy")

_LOOK_SECONDS = 60.0
_SHORTEST_PAUSE = 1.0  # seconds
_LONGEST_PAUSE = 10.0  # seconds


class _Thread:
    """The thread of one process; the lock guards the other attributes."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.again = False
        self.running = False
        self.looked_at = 0.0


class Retries:
    """A daemon thread that exists only while there is work.

    Each process has a thread of its own. No lock is held during the work. The thread ends when the object of
    ``work`` is garbage-collected.

    Args:
        work: A method that does the work that is due. It returns the Unix time in seconds at which it must be
            called again, or None if no work is left.
    """

    def __init__(self, work: Callable[[], float | None]) -> None:
        self._work = WeakMethod(work)
        self._here = PerProcess(_Thread)

    def look(self) -> None:
        """Look for work that another process left, at most once a minute."""
        thread, now = self._here(), time.monotonic()
        with thread.lock:
            due = not thread.looked_at or now - thread.looked_at >= _LOOK_SECONDS
            if due:
                thread.looked_at = now
        if due:
            self.wake()

    def wake(self) -> None:
        """Do the work that is due soon, in the background."""
        thread = self._here()
        with thread.lock:
            thread.again = True
            if thread.running:
                return
            thread.running = True
        threading.Thread(target=self._run, args=(thread,), name="pywry-auth-retries", daemon=True).start()

    def _run(self, thread: _Thread) -> None:
        while True:
            with thread.lock:
                thread.again = False
            due_at = self._attempt()
            with thread.lock:
                if due_at is None and not thread.again:
                    thread.running = False
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
