"""One piece of work for everybody who asks for it at the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

from pywry_auth.exceptions import AuthenticationError, ErrorCode

_T = TypeVar("_T")


class SingleFlight(Generic[_T]):
    """Runs work once at a time; whoever asks meanwhile waits for that run and shares its result or error.

    The lock guards which run is under way and is not held while it runs.

    Args:
        interrupted: What those who wait get when Ctrl-C ends the run: that itself is for its own thread.
    """

    def __init__(self, interrupted: type[AuthenticationError]) -> None:
        self._interrupted = interrupted
        self._lock = threading.Lock()
        self._running: Future[_T] | None = None
        self._leader: int | None = None

    def run(self, work: Callable[[], _T]) -> _T:
        """Return what ``work`` returns, or what the run that is under way returns.

        Args:
            work: Called without the lock, at most once at a time.

        Raises:
            AuthenticationError: The work itself asked for this, which would wait for ever.
        """
        with self._lock:
            running = self._running
            if running is None:
                mine = self._running = Future()
                self._leader = threading.get_ident()
            elif self._leader == threading.get_ident():
                raise AuthenticationError(
                    "This asks for itself from within: do not call it from its own callbacks."
                )
        return running.result() if running is not None else self._lead(mine, work)

    def _lead(self, mine: Future[_T], work: Callable[[], _T]) -> _T:
        try:
            result = work()
        except BaseException as error:
            off = self._interrupted(
                "This was interrupted before it ended: try again.", error=ErrorCode.CANCELLED
            )
            self._land()
            mine.set_exception(error if isinstance(error, Exception) else off)
            raise
        self._land()
        mine.set_result(result)
        return result

    def _land(self) -> None:
        with self._lock:
            self._running = self._leader = None
