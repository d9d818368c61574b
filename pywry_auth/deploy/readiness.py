"""Finds out whether a process can use the stores of its site."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from pywry_auth.backends.base import Backend
from pywry_auth.deploy.start_probe import StoreProbe, named_stores
from pywry_auth.exceptions import AuthenticationError, StoreUnavailable
from pywry_auth.per_process import PerProcess
from pywry_auth.single_flight import SingleFlight

_logger = logging.getLogger("pywry_auth.deploy")

_WAITING = 2  # requests that wait for the test of another request
_FIRST_WAIT = 0.25  # seconds that further requests wait for the first test of the process


class _Crowded(StoreUnavailable):
    """Enough requests wait for the same test."""


@dataclass(frozen=True)
class _Result:
    """The time of a test, and whether records can be stored."""

    at: float
    usable: bool


@dataclass
class _Tests:
    """The tests of one process.

    Only the request that runs the present test changes the first three members.

    Args:
        last: The last result; None before the first test.
        current: The last test of each store by its name. No second one begins before it ends.
        failed: The names of the stores that fail, with the faults of each that are in the log.
        places: The places of the requests that wait.
    """

    last: _Result | None = None
    current: dict[str, StoreProbe] = field(default_factory=dict)
    failed: dict[str, set[str]] = field(default_factory=dict)
    places: threading.BoundedSemaphore = field(default_factory=lambda: threading.BoundedSemaphore(_WAITING))

    @contextmanager
    def place(self, seconds: float | None) -> Iterator[float | None]:
        """Occupy one of the places in the block, and return the time that the request may wait."""
        if not self.places.acquire(timeout=0.0 if self.last else _FIRST_WAIT):
            raise _Crowded("Enough requests wait for the test of a store.")
        try:
            yield seconds
        finally:
            self.places.release()


class Readiness:
    """Tests the stores of a site, at most once in ``reuse`` seconds in each process.

    Requests that arrive during a test share its result. Two of them may wait for it, so that a store that
    does not answer occupies at most three threads of the server. Further requests get the last result, also
    an old one, until the test ends or its time has passed. Before the first result, they wait a moment. A
    test that does not end occupies one thread of its own, and its store is not tested again until then.

    The log has one line each time that a store fails, has another fault or works again; the same fault is
    logged once until then. Stores in the memory of the process always work.

    Args:
        sessions: The backend of the sessions and the pending logins.
        tokens: The backend of the tokens, often the same one.
        seconds: The time limit of a test.
        reuse: The seconds for which a result is used.
        clock: Seconds that never go back.
    """

    def __init__(
        self,
        sessions: Backend,
        tokens: Backend,
        seconds: float = 2.0,
        reuse: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stores = named_stores(sessions, tokens)
        self._seconds = seconds
        self._reuse = reuse
        self._clock = clock
        self._here = PerProcess(_Tests)
        self._flight = SingleFlight[_Result](AuthenticationError)

    def is_ready(self) -> bool:
        """Return whether all stores answer in time and store records."""
        if not self._stores:
            return True
        here = self._here()
        try:
            result = self._flight.run(
                lambda: self._test(here),
                lambda: self._recent(here),
                wait=self._seconds,
                room=here.place,
            )
        except _Crowded:
            return here.last is not None and here.last.usable
        except AuthenticationError:  # the test of another request takes too long
            return False
        return result.usable

    def _recent(self, here: _Tests) -> _Result | None:
        last = here.last
        return last if last is not None and self._clock() - last.at < self._reuse else None

    def _test(self, here: _Tests) -> _Result:
        end = time.monotonic() + self._seconds
        pending = {store for store, probe in here.current.items() if probe.is_alive()}
        for store, backend in self._stores:
            if store not in pending:
                here.current[store] = StoreProbe(store, backend, closes=False)
                here.current[store].begin()
        usable = True
        for store, probe in here.current.items():
            # A test that has not ended since its request gave up gets no second time limit.
            fault = probe.fault_by(0.0 if store in pending else end, self._seconds)
            _note(here.failed, store, fault)
            usable = usable and not fault
        here.last = _Result(self._clock(), usable)
        return here.last


def _note(failed: dict[str, set[str]], store: str, fault: str) -> None:
    """Log a store that fails, fails for another reason, or works again."""
    if fault and fault not in failed.setdefault(store, set()):
        failed[store].add(fault)
        _logger.error(
            "not ready: the %s cannot be used, and requests that it refuses get 503: %s", store, fault
        )
    elif not fault and store in failed:
        del failed[store]
        _logger.info("ready: the %s can be used again", store)
