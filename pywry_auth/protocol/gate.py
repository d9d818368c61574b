"""A bound on the threads that an unresponsive provider can occupy."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pywry_auth.per_process import PerProcess
from pywry_auth.protocol.slots import Limits, Slots

SLOT_SECONDS = 2.0
"""Seconds for which a thread waits for a slot of a provider that does not answer."""
RUN_SECONDS = 5.0
"""Seconds for which a thread waits for the call of another thread."""

_logger = logging.getLogger("pywry_auth.protocol")


class CallGate:
    """Bounds the threads that calls to one provider occupy.

    Without limits, every call passes at once. With limits:

    - Only so many threads call the provider at the same time. While it answers, any number of threads may
      wait for a slot, up to 5 s, so that no login of a burst fails.
    - If it has answered no call for 2 s, a quarter of the worker's threads may wait, up to 2 s.
    - After repeated time-outs, no thread waits for a while (see :class:`Breaker`).

    A fork gets a gate of its own: the threads of the parent do not exist in the child.

    Args:
        name: The provider's name in logs and measurements. It is also an attribute: a site with several
            providers sets its own name.
        clock: Monotonic time in seconds.
    """

    def __init__(self, name: str = "", clock: Callable[[], float] = time.monotonic) -> None:
        self.name = name
        self._clock = clock
        self._here: PerProcess[Slots] | None = None

    @property
    def limited(self) -> bool:
        """Whether the gate has limits."""
        return self._here is not None

    def limit(self, at_once: Callable[[], int], threads: Callable[[], int]) -> None:
        """Set the limits.

        Args:
            at_once: Returns how many threads may call the provider at the same time.
            threads: Returns how many threads serve requests in this process.
        """
        limits = Limits(at_once, threads)
        self._here = PerProcess(lambda: Slots(limits, self._clock))

    @contextmanager
    def slot(self, wait: float = SLOT_SECONDS) -> Iterator[None]:
        """Hold a slot in the block; all calls of the block need only one.

        A block inside another one of the same thread uses the slot of the outer one.

        Args:
            wait: How many seconds to wait for a slot if the provider does not answer; 0 to fail at once in
                any case.

        Raises:
            ProviderBusy: There is no slot.
        """
        slots = self._slots()
        if slots is None or slots.slot is not None:
            yield
            return
        try:
            slots.enter(wait)
            yield
        finally:
            if slots.leave():
                _logger.warning("%s: the provider answers again", self.name)

    @contextmanager
    def spare_slot(self) -> Iterator[None]:
        """Hold a slot in the block for calls that may fail.

        The last slot stays free for other calls, unless it is the only one. A time-out does not count for the
        breaker, but then there is no such slot for 10 s.

        Raises:
            ProviderBusy: There was no slot within half a second.
        """
        slots = self._slots()
        if slots is None or slots.slot is not None:
            yield
            return
        slots.enter_spare()
        try:
            yield
        finally:
            slots.leave()

    @contextmanager
    def waiting(self, wait: float | None = RUN_SECONDS) -> Iterator[float | None]:
        """Wait in the block for the call of another thread, without a slot.

        At most half of the worker's threads may wait in such blocks, apart from the first moments.

        Args:
            wait: How many seconds the caller wants to wait at most; None for any time.

        Returns:
            The seconds that the caller may wait.

        Raises:
            ProviderBusy: Too many threads wait already.
        """
        slots = self._slots()
        if slots is None:
            yield wait
            return
        since, seconds = slots.begin_waiting(RUN_SECONDS if wait is None else wait)
        try:
            yield seconds
        finally:
            slots.end_waiting(since)

    def answered(self) -> None:
        """Note that the provider answered a call of this thread."""
        slots = self._slots()
        if slots is not None:
            slots.answer()

    def timed_out(self) -> None:
        """Note that a call of this thread timed out."""
        slots = self._slots()
        pause = 0.0 if slots is None else slots.time_out()
        if pause:
            _logger.warning("%s: repeated time-outs: no calls for %g s", self.name, pause)

    def _slots(self) -> Slots | None:
        return None if self._here is None else self._here()
