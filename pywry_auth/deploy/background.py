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
    """The thread of one process; the lock guards the other attributes, except ``faults``."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.again = False
        self.running = False
        self.looked_at = 0.0
        self.faults: set[str] = set()  # the causes of the present failures; only the running thread uses it


class Retries:
    """A daemon thread that exists only while there is work.

    Each process has a thread of its own. No lock is held during the work. The thread ends when the object of
    ``work`` is garbage-collected. The log has one line for each cause of a failure, and one when the work
    succeeds again.

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
            due_at = self._attempt(thread)
            with thread.lock:
                if due_at is None and not thread.again:
                    thread.running = False
                    return
            if due_at is not None:
                # A pause in any case, so that much new work does not cause many attempts.
                time.sleep(min(max(due_at - time.time(), _SHORTEST_PAUSE), _LONGEST_PAUSE))

    def _attempt(self, thread: _Thread) -> float | None:
        work = self._work()
        if work is None:
            return None
        try:
            due_at = work()
        except AuthenticationError as error:
            _note(thread, logging.WARNING, str(error))
        except Exception as error:  # noqa: BLE001  # a provider class of the application may raise any error
            # Its text may quote a token, so that only its name is logged.
            _note(thread, logging.ERROR, f"an unexpected {type(error).__name__}")
        else:
            if thread.faults:
                thread.faults.clear()
                _logger.info("work in the background succeeds again")
            return due_at
        return time.time()


def _note(thread: _Thread, level: int, fault: str) -> None:
    """Log a failure, unless the log has the same one since the work last succeeded."""
    if fault not in thread.faults:
        thread.faults.add(fault)
        _logger.log(level, "work in the background failed and is tried again: %s", fault)
