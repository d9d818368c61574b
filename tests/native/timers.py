"""Timers and a clock that a test controls."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

_SECONDS = 20


@dataclass
class Clock:
    """Unix time, and the time that the machine was awake."""

    now: float = 1_800_000_000.0
    awake: float = 5000.0

    def __call__(self) -> float:
        """Return the time of the wall clock, which users may set."""
        return self.now

    def monotonic(self) -> float:
        """Return the time that only moves forward, and stops during sleep."""
        return self.awake

    def pass_(self, seconds: float) -> None:
        """Let time pass as it usually does."""
        self.now += seconds
        self.awake += seconds


class HeldTimer(threading.Timer):
    """A timer that waits for ``ring()`` instead of for the time to pass."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._bell = threading.Event()

    def run(self) -> None:
        self._bell.wait()
        if not self.finished.is_set():
            self.function(*self.args, **self.kwargs)

    def cancel(self) -> None:
        super().cancel()
        self._bell.set()

    def ring(self) -> None:
        """Let the timer expire, and wait until its thread has ended."""
        self._bell.set()
        self.join(_SECONDS)
        assert not self.is_alive()


class HeldTimers(list[HeldTimer]):
    """All timers that were created, in order."""

    @property
    def live(self) -> list[HeldTimer]:
        """The timers that may still ring."""
        return [timer for timer in self if timer.is_alive() and not timer.finished.is_set()]

    @property
    def only(self) -> HeldTimer:
        """The only timer that may still ring."""
        (timer,) = self.live
        return timer


@contextmanager
def held_timers(monkeypatch: pytest.MonkeyPatch) -> Iterator[HeldTimers]:
    """Hold every timer that is created in the block, and end all of them afterwards."""
    timers = HeldTimers()
    for (
        thread
    ) in threading.enumerate():  # an object of an earlier test would set its next timer in this block
        if isinstance(thread, threading.Timer):
            thread.cancel()

    def make(*arguments: Any) -> HeldTimer:
        timers.append(HeldTimer(*arguments))
        return timers[-1]

    monkeypatch.setattr(threading, "Timer", make)
    try:
        yield timers
    finally:
        for timer in timers:
            timer.cancel()
            if timer.ident is not None:
                timer.join(_SECONDS)
