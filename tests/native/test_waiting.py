"""A wait that ends when its event comes, or when its time is over, and not before."""

from __future__ import annotations

import threading
import time

from pywry_auth.native.waiting import wait_for
from tests.native.sockets import PATIENCE, Running


def test_an_event_that_has_come_is_not_waited_for() -> None:
    event = threading.Event()
    event.set()
    assert wait_for(event, 0)
    assert wait_for(event, -1)


def test_an_event_ends_the_wait_whenever_it_comes() -> None:
    """However long the nap has become by then."""
    event = threading.Event()
    waiting = Running(lambda: wait_for(event, 10 * PATIENCE))
    assert not wait_for(threading.Event(), 0.8)
    started = time.monotonic()
    event.set()
    assert waiting.result()
    assert time.monotonic() - started < 0.5


def test_a_long_wait_is_a_few_naps() -> None:
    """S5.3, S12: no polling."""

    class Counting(threading.Event):
        naps = 0

        def wait(self, timeout: float | None = None) -> bool:
            self.naps += 1
            return super().wait(timeout)

    event = Counting()
    assert not wait_for(event, 1)
    assert event.naps < 8


def test_the_time_is_kept() -> None:
    started = time.monotonic()
    assert not wait_for(threading.Event(), 0.2)
    assert 0.2 <= time.monotonic() - started < 1


def test_a_wait_without_an_end_is_possible() -> None:
    event = threading.Event()
    waiting = Running(lambda: wait_for(event, float("inf")))
    event.set()
    assert waiting.result()
