"""The threads of one process that call a provider or wait for it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from pywry_auth.exceptions import ProviderBusy
from pywry_auth.protocol.breaker import Breaker

_RETRY_SECONDS = 5.0
_LONGEST_WAIT = 5.0
_SPARE_WAIT = 0.5  # seconds to wait for a slot of calls that may be left out
_SPARE_PAUSE = 10.0  # seconds without such calls after a time-out
_STUCK_SECONDS = 2.0  # without progress; even a slow provider answers a call in this time


@dataclass(frozen=True)
class Limits:
    """How many threads may call a provider.

    Args:
        at_once: Returns how many threads may call the provider at the same time.
        threads: Returns how many threads serve requests in this process.
    """

    at_once: Callable[[], int]
    threads: Callable[[], int]


@dataclass
class Slot:
    """A thread's permission to call the provider.

    Args:
        probe: Whether its calls test a provider that timed out before.
        spare: Whether its calls may be left out.
        answered: Whether the provider answered a call.
        timed_out: Whether a call timed out.
    """

    probe: bool
    spare: bool = False
    answered: bool = False
    timed_out: bool = False


class Slots:
    """The threads of one process that call a provider or wait for it.

    The lock of ``_changed`` guards all other members except ``_own``, which belongs to each thread.
    """

    def __init__(self, limits: Limits, clock: Callable[[], float]) -> None:
        self._limits = limits
        self._clock = clock
        self._own = threading.local()
        self._changed = threading.Condition()
        self._breaker = Breaker()
        self._held = 0
        self._queue: list[object] = []  # the threads that wait for a slot, in order
        self._waiting: list[float] = []  # since when other threads wait for a call
        self._moved_at = clock()
        self._spare_from = self._moved_at  # no spare slot before this time

    @property
    def slot(self) -> Slot | None:
        """The slot of the current thread."""
        slot: Slot | None = getattr(self._own, "slot", None)
        return slot

    def enter(self, wait: float) -> None:
        """Take a slot for the current thread.

        Args:
            wait: How many seconds to wait for it.
        """
        with self._changed:
            ticket = object()
            self._queue.append(ticket)
            try:
                waited = self._await_turn(ticket, wait)
            finally:
                self._queue.remove(ticket)
                self._changed.notify_all()  # the next thread may have its turn too, or a longer wait
            if not waited:
                self._moved_at = self._clock()
            self._held += 1
            self._own.slot = Slot(self._breaker.begin())

    def enter_spare(self) -> None:
        """Take a slot for the current thread that no other call needs."""
        with self._changed:
            self._changed.wait_for(lambda: self._has_spare_slot() or self._spare_calls_pause(), _SPARE_WAIT)
            if self._spare_calls_pause() or not self._has_spare_slot():
                raise _busy()
            self._held += 1
            self._own.slot = Slot(probe=False, spare=True)

    def leave(self) -> bool:
        """Return the slot of the current thread.

        Returns:
            Whether the provider works again after a pause.
        """
        slot = self.slot
        if slot is None:
            return False
        with self._changed:
            self._own.slot = None
            self._held -= 1
            self._changed.notify_all()
            if slot.timed_out:
                return False
            if slot.answered:
                self._moved_at = self._clock()
            return self._breaker.ended(slot.answered, slot.probe)

    def answer(self) -> None:
        """Note an answer to a call."""
        slot = self.slot
        if slot is None:
            return
        with self._changed:
            slot.answered = True
            self._moved_at = self._clock()

    def time_out(self) -> float:
        """Note a time-out, and return the seconds of the pause that it causes."""
        slot = self.slot
        if slot is None:
            return 0.0
        with self._changed:
            probe, slot.timed_out = slot.probe and not slot.timed_out, True
            self._changed.notify_all()
            if slot.spare:
                self._spare_from = self._clock() + _SPARE_PAUSE
                return 0.0
            return self._breaker.timed_out(self._clock(), probe)

    def begin_waiting(self, wait: float) -> tuple[float, float]:
        """Note that the current thread waits for a call of another one.

        Returns:
            The current time, and the seconds that the thread may wait.
        """
        with self._changed:
            now = self._clock()
            room = min(self._limits.threads() // 2, self._spare() - len(self._queue))
            if len(self._waiting) >= room:
                wait = min(wait, min(self._waiting, default=now) + _STUCK_SECONDS - now)
                if self._held >= self._limits.at_once():
                    wait = min(wait, self._moved_at + _STUCK_SECONDS - now)
                if wait <= 0:
                    raise _busy()
            self._waiting.append(now)
            return now, wait

    def end_waiting(self, since: float) -> None:
        """Note that a thread waits no longer."""
        with self._changed:
            self._waiting.remove(since)
            self._changed.notify_all()

    def _await_turn(self, ticket: object, wait: float) -> bool:
        """Wait until the ticket is the first one and a slot is free.

        Returns:
            Whether the thread had to wait.
        """
        waited, arrived = False, self._clock()
        while True:
            now = self._clock()
            pause = self._breaker.pause(now)
            if pause > 0:
                raise _paused(pause)
            if self._queue[0] is ticket and self._held < self._limits.at_once():
                return waited
            room = min(self._limits.threads() // 4, self._spare() - len(self._waiting))
            # While the provider answers, a thread waits longer, so that no login of a burst fails.
            until = min(self._moved_at + _STUCK_SECONDS, arrived + _LONGEST_WAIT if wait else arrived)
            if self._queue.index(ticket) < room:
                until = max(until, arrived + wait)
            if until <= now:
                raise _busy()
            self._changed.wait(until - now)
            waited = True

    def _has_spare_slot(self) -> bool:
        return self._held < max(1, self._limits.at_once() - 1) and not self._queue

    def _spare_calls_pause(self) -> bool:
        return self._clock() < self._spare_from or self._breaker.paused

    def _spare(self) -> int:
        """Return how many threads may wait, so that a quarter of all stays free."""
        threads = self._limits.threads()
        return threads - threads // 4 - self._held


def _busy() -> ProviderBusy:
    return ProviderBusy(
        "The provider is slow at the moment, and too many requests wait for it: try again in a few seconds.",
        retry_after=_RETRY_SECONDS,
    )


def _paused(seconds: float) -> ProviderBusy:
    return ProviderBusy(
        "The provider does not answer at the moment: try again in a few seconds.", retry_after=seconds
    )
