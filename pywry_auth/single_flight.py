"""Shared calls: one caller works, and the others share its outcome."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError, own_copy
from pywry_auth.per_process import PerProcess

_T = TypeVar("_T")
_RETRY_SECONDS = 5.0


@dataclass
class WaitingCaller:
    """A thread that waits for the thread that works for it.

    Work that joined a run of the waiting thread would wait for itself.

    Args:
        thread: The waiting thread.
        waits: Whether it still waits.
        caller: The thread that waits for the waiting thread, if any.
    """

    thread: int = field(default_factory=lambda: threading.get_ident())
    waits: bool = True
    caller: WaitingCaller | None = field(default_factory=lambda: _caller.get())

    def enter(self) -> None:
        """Note in the context of the current thread that it works for the waiting thread."""
        _caller.set(self)


_caller: ContextVar[WaitingCaller | None] = ContextVar("waiting_caller", default=None)


def _waits_for_this_thread(thread: int) -> bool:
    caller = _caller.get()
    while caller is not None and caller.waits:
        if caller.thread == thread:
            return True
        caller = caller.caller
    return False


class Joins(Protocol):
    """A caller that chooses whether to join the run of another one."""

    def joins(self, leader: Joins | None) -> bool:
        """Return whether to join a run; otherwise a new one replaces it. A lock is held.

        Args:
            leader: The caller that began the run.
        """


@dataclass(frozen=True)
class _Run(Generic[_T]):
    """One run: the caller and the thread that do the work, and its outcome."""

    owner: Joins | None = None
    # gevent replaces the function, so it is looked up at the call.
    leader: int = field(default_factory=lambda: threading.get_ident())
    outcome: Future[_T] = field(default_factory=Future)


class _Runs(Generic[_T]):
    """The current runs of one process, by key, and the lock that guards them."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.by_key: dict[Hashable, _Run[_T]] = {}


class SingleFlight(Generic[_T]):
    """Runs work for one caller at a time, for each key.

    Callers that arrive while it runs wait and share its outcome.

    If the work fails, the waiting threads get the same error. If each tried again instead, the last of many
    threads would wait for every timeout of an unresponsive provider in turn. The lock guards the dictionary
    of current runs; it is not held while the work runs.

    Args:
        interrupted: The error for waiting threads if Ctrl-C ends the run, or if the run takes too long. The
            interrupt itself reaches only the thread that did the work.
        late: Returns the error for a thread whose ``wait``, in seconds, has passed; None for one of the class
            ``interrupted``.
    """

    def __init__(
        self,
        interrupted: type[AuthenticationError],
        late: Callable[[float], AuthenticationError] | None = None,
    ) -> None:
        self._interrupted = interrupted
        self._late = late
        self._here = PerProcess[_Runs[_T]](_Runs)

    def run(
        self,
        work: Callable[[], _T],
        at_hand: Callable[[], _T | None] = lambda: None,
        key: Hashable = None,
        wait: float | None = None,
        room: Callable[[float | None], AbstractContextManager[float | None]] = nullcontext,
        owner: Joins | None = None,
    ) -> _T:
        """Return the result of ``work`` or of the current run.

        Args:
            work: Called without the lock, at most once at a time for a key. If its result stays valid, the
                work stores it where ``at_hand`` finds it.
            at_hand: Returns a result that makes a new run unnecessary, or None. It is called with the lock
                held, so that a thread that arrives just after a run does not start a second one.
            key: Runs with different keys are independent of each other.
            wait: How many seconds to wait for the run of another caller; None for any time.
            room: Called with ``wait`` before the thread waits for the run of another caller. The context
                manager limits the number of threads that wait, and returns the seconds that this one may.
            owner: Chooses whether to join a current run; without one, the caller joins every run.

        Raises:
            AuthenticationError: The work called this method itself, and would wait forever. Or the run of
                another caller took too long (``temporarily_unavailable``), as an error of the class
                ``interrupted``.
        """
        mine, runs = _Run[_T](owner), self._here()
        try:
            with runs.lock:
                run, ready = self._claim(runs, key, mine, at_hand)
            if ready is not None:
                return ready
            if run is mine:
                result = work()
                mine.outcome.set_result(result)
                return result
        except BaseException as error:
            self._fail(mine, error)
            raise
        finally:
            self._land(runs, key, mine)
        with room(wait) as seconds:
            return self._outcome_of(run, seconds)

    def _claim(
        self, runs: _Runs[_T], key: Hashable, mine: _Run[_T], at_hand: Callable[[], _T | None]
    ) -> tuple[_Run[_T], _T | None]:
        """Return the current run, and the result at hand if there is no run."""
        running = runs.by_key.get(key)
        # A run that has an outcome is over, also if an interrupt has kept its entry in the dictionary.
        if running is None or running.outcome.done():
            ready = at_hand()
            if ready is None:
                runs.by_key[key] = mine
            return mine, ready
        if running.leader == mine.leader or _waits_for_this_thread(running.leader):
            raise AuthenticationError(
                "This call would wait for itself: do not call it from one of its own callbacks."
            )
        if mine.owner is not None and not mine.owner.joins(running.owner):
            runs.by_key[key] = mine
            return mine, None
        return running, None

    def _fail(self, mine: _Run[_T], error: BaseException) -> None:
        if mine.outcome.done():
            return
        interrupted = self._interrupted(
            "The operation was interrupted before it finished: try again.", error=ErrorCode.CANCELLED
        )
        mine.outcome.set_exception(error if isinstance(error, Exception) else interrupted)

    def _land(self, runs: _Runs[_T], key: Hashable, mine: _Run[_T]) -> None:
        with runs.lock:
            if runs.by_key.get(key) is mine:
                self._fail(mine, KeyboardInterrupt())  # if an interrupt cut the first attempt short
                del runs.by_key[key]

    def _outcome_of(self, run: _Run[_T], seconds: float | None) -> _T:
        try:
            return run.outcome.result(None if seconds is None else min(seconds, threading.TIMEOUT_MAX))
        except AuthenticationError as error:
            # Each thread needs an error of its own: an exception has one traceback, and callers add to it.
            raise own_copy(error) from error
        except TimeoutError:
            if run.outcome.done():  # the work itself failed with this error, or ended just now
                return run.outcome.result()
            raise self._too_long(seconds or 0.0) from None

    def _too_long(self, seconds: float) -> AuthenticationError:
        if self._late is not None:
            return self._late(seconds)
        error = self._interrupted(
            "Another request for the same result takes too long: try again in a moment.",
            error=ErrorCode.TEMPORARILY_UNAVAILABLE,
        )
        error.retry_after = _RETRY_SECONDS
        return error
