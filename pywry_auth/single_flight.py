"""Shared calls: one caller works, and the others share its outcome."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError

_T = TypeVar("_T")


class SingleFlight(Generic[_T]):
    """Runs work for one caller at a time.

    Callers that arrive while it runs wait and share its outcome.

    If the work fails, the waiting threads get the same error. If each tried again instead, the last of many
    threads would wait for every timeout of an unresponsive provider in turn. The lock guards the current run
    and its thread; it is not held while the work runs.

    Args:
        interrupted: The error for waiting threads if Ctrl-C ends the run. The interrupt itself reaches only
            the thread that did the work.
    """

    def __init__(self, interrupted: type[AuthenticationError]) -> None:
        self._interrupted = interrupted
        self._lock = threading.Lock()
        self._running: Future[_T] | None = None
        self._leader: int | None = None

    def run(self, work: Callable[[], _T], at_hand: Callable[[], _T | None] = lambda: None) -> _T:
        """Return the result of ``work`` or of the current run.

        Args:
            work: Called without the lock, at most once at a time. If its result stays valid, the work stores
                it where ``at_hand`` finds it.
            at_hand: Returns a result that makes a new run unnecessary, or None. It is called with the lock
                held, so that a thread that arrives just after a run does not start a second one.

        Raises:
            AuthenticationError: The work called this method itself, and would wait forever.
        """
        with self._lock:
            running = self._running
            if running is None:
                ready = at_hand()
                if ready is not None:
                    return ready
                mine = self._running = Future()
                self._leader = threading.get_ident()
            elif self._leader == threading.get_ident():
                raise AuthenticationError(
                    "This call would wait for itself: do not call it from one of its own callbacks."
                )
        return self._lead(mine, work) if running is None else _outcome(running)

    def _lead(self, mine: Future[_T], work: Callable[[], _T]) -> _T:
        try:
            result = work()
        except BaseException as error:
            interrupted = self._interrupted(
                "The operation was interrupted before it finished: try again.", error=ErrorCode.CANCELLED
            )
            self._land()
            mine.set_exception(error if isinstance(error, Exception) else interrupted)
            raise
        self._land()
        mine.set_result(result)
        return result

    def _land(self) -> None:
        with self._lock:
            self._running = self._leader = None


def _outcome(running: Future[_T]) -> _T:
    try:
        return running.result()
    except AuthenticationError as error:
        # Each thread needs an error of its own: an exception has one traceback, and callers add to it.
        own = type(error).__new__(type(error), *error.args)  # its class may have another constructor
        vars(own).update(vars(error))
        raise own from error
