"""Leases: locks that expire unless their holders renew them."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

from pywry_auth.exceptions import StoreUnavailable

_logger = logging.getLogger("pywry_auth.backends")

LEASE = 10.0
"""The default length of a lease in seconds: the time for which a dead holder delays other callers."""

_RENEWALS = 3  # in the length of a lease
_RETRIES = 30  # of a failed renewal, in the length of a lease


class StillHeld(StoreUnavailable):
    """Another caller held a lock for longer than this one waits; the store works."""


class Lease(Protocol):
    """A lock while this process holds it."""

    def left(self) -> float:
        """Return the seconds for which the lock certainly stays held.

        Returns:
            0.0 if the lock was lost or released.
        """


class Moment:
    """The moment at which the object was created."""

    def __init__(self) -> None:
        self._monotonic, self._wall = time.monotonic(), time.time()

    def age(self) -> float:
        """Return the seconds since this moment.

        The monotonic clock may stop while the machine sleeps, and the wall clock can be set back. The one
        that advanced further decides.
        """
        return max(time.monotonic() - self._monotonic, time.time() - self._wall)


class RenewedLease:
    """A lease that a thread renews while the work lasts.

    A renewal is due after a third of the length. A failed renewal is tried again until the lease has run out.
    Only the thread changes the attributes, so that no lock is needed.

    Args:
        length: Seconds for which an acquisition or renewal lasts.
        acquired: The moment before the lock was acquired.
        renew: Renews the lock, and returns whether this process still owned it. It may raise
            ``StoreUnavailable``.
    """

    def __init__(self, length: float, acquired: Moment, renew: Callable[[], bool]) -> None:
        self._length = length
        self._renewed = acquired
        self._renew = renew
        self._lost = False
        self._released = threading.Event()

    def left(self) -> float:
        """Return the seconds for which the lock certainly stays held."""
        if self._lost or self._released.is_set():
            return 0.0
        return max(0.0, self._length - self._renewed.age())

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Renew the lock while the ``with`` block runs."""
        # The block may be inside one long call, so that only another thread notices that a renewal is due.
        thread = threading.Thread(target=self._keep, name="pywry_auth lease", daemon=True)
        # At the exit of the interpreter no thread starts, and the lease is not renewed.
        with suppress(RuntimeError):
            thread.start()
        try:
            yield
        finally:
            self._released.set()
            if thread.ident is not None:
                thread.join()

    def _keep(self) -> None:
        pause = self._length / _RENEWALS
        while not self._released.wait(pause):
            begun = Moment()
            try:
                owned = self._renew()
            except StoreUnavailable:
                owned = self.left() > 0
                pause = self._length / _RETRIES
            else:
                if owned:
                    self._renewed = begun
                pause = self._length / _RENEWALS
            if not owned:
                self._lost = True
                _logger.warning("a lock was lost before the work under it was done")
                return


class UnlimitedLease:
    """A lock that lasts until its holder releases it or exits."""

    def __init__(self) -> None:
        self._released = False

    def left(self) -> float:
        """Return infinity while the lock is held, and 0.0 afterwards."""
        return 0.0 if self._released else math.inf

    def end(self) -> None:
        """Note that the lock was released."""
        self._released = True
