"""Bounds: a login's time limit and cancellation, for every call that it makes.

A call to a provider or a store cannot be stopped from outside. A worker thread therefore makes it, and the
thread of the login waits for the worker only as long as the login lasts. A call that outlives its login goes
on within its own time limits, and then undoes its result.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import ContextVar, copy_context
from typing import Any, Generic, TypeVar

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError, AuthFlowCancelled, AuthFlowTimeout
from pywry_auth.native.waiting import SignalSafeEvent, wait_for
from pywry_auth.single_flight import WaitingCaller

_T = TypeVar("_T")
_logger = logging.getLogger("pywry_auth.native")
_CLOSING = 0.1  # seconds


class Bounds:
    """The time limit and the cancellation of one login.

    Any thread may cancel it, and a signal handler too, because it has no lock.

    Args:
        seconds: Seconds that the login has, counted from now. With 0 or less, it does not wait for the user,
            and its calls have only their own time limits.

    Attributes:
        seconds: The same.
        cancelled: Set when the login is cancelled.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.cancelled = SignalSafeEvent()
        self._began = time.monotonic()
        self._waiting: list[SignalSafeEvent] = []

    def left(self) -> float:
        """Return the seconds that the user still has, at least 0.0."""
        return max(self._began + self.seconds - time.monotonic(), 0.0)

    def extend(self, seconds: float) -> None:
        """Set the seconds that the login has, counted from its beginning."""
        self.seconds = seconds

    def cancel(self) -> None:
        """End the login, without waiting for its calls."""
        self.cancelled.set()
        for wake in self._waiting.copy():
            wake.set()

    def check(self) -> None:
        """Raise if the login has ended.

        Raises:
            AuthFlowCancelled: It was cancelled.
            AuthFlowTimeout: Its time has passed.
        """
        if self.cancelled.is_set():
            raise AuthFlowCancelled("The login was cancelled.", error=ErrorCode.CANCELLED)
        if self._left_for_calls() <= 0:
            raise timed_out(self.seconds)

    def run(self, work: Callable[[], _T], undo: Callable[[_T], object] | None = None) -> _T:
        """Return the result of ``work``, which a worker thread calls.

        The worker has the context variables of the caller. It is a daemon thread unless the work calls
        :func:`must_end`. Work of a login may call this method again.

        Args:
            work: Makes calls that may take long.
            undo: Receives a result that comes after the end of the login, in the worker thread.

        Raises:
            AuthFlowCancelled: The login was cancelled; the work may still be under way.
            AuthFlowTimeout: The time of the login has passed; the work may still be under way.
        """
        self.check()
        call = _Call(work, undo)
        self._waiting.append(call.wake)
        try:
            if call.start():
                self._await(call)
                return call.result()
        except BaseException as error:
            # After Ctrl-C, work that is waiting for other work must end too. A time-out is no cancellation:
            # that other work has the same time limit.
            if call.abandon() and not isinstance(error, AuthFlowTimeout):
                self.cancel()
            raise
        finally:
            self._waiting.remove(call.wake)
            call.leave()
        return call.run_here()

    def _left_for_calls(self) -> float:
        return self.left() if self.seconds > 0 else threading.TIMEOUT_MAX

    def _await(self, call: _Call[_T]) -> None:
        """Wait until the work is done.

        Work that just stores the result of the login has another moment.
        """
        if not self.cancelled.is_set():
            wait_for(call.wake, self._left_for_calls())
        if not call.is_done and call.closing:
            wait_for(call.done, _CLOSING)
        if not call.is_done:
            self.check()
            raise timed_out(self.seconds)


class _Call(Generic[_T]):
    """A call in a worker thread.

    The lock guards the end of the work, and whether its caller has left by then.

    Args:
        work: The work.
        undo: Receives a result that no caller gets.
    """

    def __init__(self, work: Callable[[], _T], undo: Callable[[_T], object] | None) -> None:
        self._work = work
        self._undo = undo
        self._lock = threading.Lock()
        self._outcome: Future[_T] = Future()
        self._abandoned = False
        self._guard: threading.Thread | None = None
        self._thread = threading.Thread(
            target=copy_context().run, args=(self._run,), name="pywry-auth-call", daemon=True
        )
        self.closing = False
        self.done = threading.Event()
        self.wake = SignalSafeEvent()
        self._caller = WaitingCaller()

    @property
    def is_done(self) -> bool:
        return self.done.is_set()

    def start(self) -> bool:
        """Start the worker, and return whether the system permits another thread."""
        try:
            self._thread.start()
        except RuntimeError:  # the interpreter is ending, or there are too many threads
            return False
        return True

    def run_here(self) -> _T:
        """Return the result of the work, which this thread does itself."""
        context = copy_context()
        context.run(_current.set, self)
        return context.run(self._work)

    def result(self) -> _T:
        """Return the result of the finished work, or raise its error."""
        self._thread.join()
        if self._guard is not None:
            self._guard.join()
        return self._outcome.result()

    def abandon(self) -> bool:
        """Undo the result now or later, and return whether the work is still under way."""
        with self._lock:
            self._abandoned, under_way = True, not self.is_done
        if not under_way and self._undo is not None and self._outcome.exception() is None:
            # An interrupt came between the end of the work and its caller.
            undoing = threading.Thread(target=self._undo_result, name="pywry-auth-call", daemon=False)
            try:
                undoing.start()
            except RuntimeError:
                self._undo_result()
        return under_way

    def leave(self) -> None:
        """Note that no thread waits for this call any more."""
        self._caller.waits = False

    def must_end(self) -> None:
        """Keep the process alive until the worker has ended."""
        if self._thread.ident is None:
            if threading.current_thread().daemon:
                raise _process_ends()
        elif self._guard is None:
            guard = threading.Thread(target=self._thread.join, name="pywry-auth-guard", daemon=False)
            try:
                guard.start()
            except RuntimeError:
                raise _process_ends() from None
            self._guard = guard

    def _run(self) -> None:
        _current.set(self)
        self._caller.enter()
        try:
            self._outcome.set_result(self._work())
        except BaseException as error:  # noqa: BLE001  # the caller gets it
            self._outcome.set_exception(error)
        with self._lock:
            self.done.set()
            abandoned = self._abandoned
        self.wake.set()
        if abandoned:
            self._undo_result()

    def _undo_result(self) -> None:
        if self._undo is None or self._outcome.exception() is not None:
            return
        try:
            self._undo(self._outcome.result())
        except AuthenticationError as error:
            _logger.warning("the result of a login that had ended could not be undone: %s", error)


def _process_ends() -> AuthFlowCancelled:
    return AuthFlowCancelled("The process is ending.", error=ErrorCode.CANCELLED)


_current: ContextVar[_Call[Any] | None] = ContextVar("bounded_call", default=None)


def must_end() -> None:
    """Keep the process alive until the current work of a login has ended.

    Work calls this before it obtains tokens: a process that ended in between would lose them. Outside of
    such work this does nothing.

    Raises:
        AuthFlowCancelled: The process is ending already.
    """
    call = _current.get()
    if call is not None:
        call.must_end()


def closing() -> None:
    """Let the login wait another moment for its current work, which stores the result.

    A cancellation in this moment comes too late, unless the store takes more than 0.1 s. Outside of such work
    this does nothing.
    """
    call = _current.get()
    if call is not None:
        call.closing = True


def timed_out(seconds: float) -> AuthFlowTimeout:
    """Return the error of a login whose time has passed.

    Args:
        seconds: The time that it had.
    """
    return AuthFlowTimeout(
        f"The sign-in was not finished within {seconds:g} seconds: start a new login, or allow more time. If "
        "this happens again, check whether the provider and the token store answer.",
        error=ErrorCode.TIMEOUT,
        timeout=seconds,
    )
