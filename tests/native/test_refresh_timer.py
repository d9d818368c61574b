"""RefreshTimer calls back in time and once, even if the clocks change."""

from __future__ import annotations

import logging
import threading
import time

import pytest

from pywry_auth.native.refresh_timer import RefreshTimer
from tests.native.timers import Clock, HeldTimers

_SECONDS = 20
_HOUR = 3600.0


class Calls:
    """Counts the calls, and records the thread of the last one."""

    def __init__(self) -> None:
        self.came = threading.Semaphore(0)
        self.number = 0
        self.thread = threading.current_thread()

    def __call__(self) -> None:
        self.number += 1
        self.thread = threading.current_thread()
        self.came.release()


@pytest.fixture
def calls() -> Calls:
    return Calls()


@pytest.fixture
def timer(calls: Calls, clock: Clock) -> RefreshTimer:
    timer = RefreshTimer(calls, clock, clock.monotonic)
    timer.start()
    return timer


def test_it_calls_back_on_time_from_a_daemon_thread(calls: Calls) -> None:
    timer = RefreshTimer(calls)
    timer.start()
    moment = time.time() + 0.1
    timer.set(moment)
    assert calls.came.acquire(timeout=_SECONDS)
    assert time.time() >= moment
    assert calls.thread is not threading.current_thread()
    assert calls.thread.daemon
    calls.thread.join(_SECONDS)
    assert not calls.thread.is_alive()
    assert not calls.came.acquire(timeout=0.05), "it called back twice"


def test_nothing_happens_before_it_was_started(calls: Calls, clock: Clock, timers: HeldTimers) -> None:
    RefreshTimer(calls, clock, clock.monotonic).set(clock.now - 1)
    assert not timers


def test_a_new_setting_replaces_the_earlier_one(
    timer: RefreshTimer, calls: Calls, clock: Clock, timers: HeldTimers
) -> None:
    timer.set(clock.now + 5)
    timer.set(clock.now + 30)
    assert timers.only is timers[1]
    clock.pass_(30)
    timers[0].ring()
    assert calls.number == 0
    timers[1].ring()
    assert calls.number == 1


def test_setting_none_removes_the_earlier_setting(
    timer: RefreshTimer, clock: Clock, timers: HeldTimers
) -> None:
    timer.set(clock.now + 5)
    timer.set(None)
    assert not timers.live


def test_a_stopped_timer_stays_silent_until_it_is_started_again(
    timer: RefreshTimer, calls: Calls, clock: Clock, timers: HeldTimers
) -> None:
    timer.set(clock.now + 5)
    timer.stop()
    timer.stop()
    assert not timers.live
    timer.set(clock.now + 5)
    assert not timers.live
    timer.start()
    timer.set(clock.now + 5)
    clock.pass_(5)
    timers.only.ring()
    assert calls.number == 1


def test_a_timer_that_wakes_up_while_it_is_stopped_does_not_call_back(
    timer: RefreshTimer, calls: Calls, clock: Clock, monkeypatch: pytest.MonkeyPatch, timers: HeldTimers
) -> None:
    """The timer had rung already, so that its cancellation came too late."""
    timer.set(clock.now)
    monkeypatch.setattr(timers[0], "cancel", lambda: None)
    timer.stop()
    timers[0].ring()
    assert calls.number == 0


@pytest.mark.parametrize("seconds", [-_HOUR, 0.0])
def test_a_time_in_the_past_calls_back_at_once(
    timer: RefreshTimer, calls: Calls, clock: Clock, timers: HeldTimers, seconds: float
) -> None:
    timer.set(clock.now + seconds)
    assert timers.only.interval == 0
    timers.only.ring()
    assert calls.number == 1


@pytest.mark.parametrize("seconds", [150.0, 1e6, 1e12])
def test_it_looks_at_the_clock_once_a_minute(
    timer: RefreshTimer, calls: Calls, clock: Clock, timers: HeldTimers, seconds: float
) -> None:
    """No single wait is longer, and thus none exceeds TIMEOUT_MAX (49 days on Windows). [L]"""
    timer.set(clock.now + seconds)
    for _ in range(2):
        assert timers.only.interval == 60 < threading.TIMEOUT_MAX
        clock.pass_(60)
        timers.only.ring()
        assert calls.number == 0
    assert timers.only.interval == min(seconds - 120, 60)
    timer.stop()


def test_a_laptop_that_slept_catches_up_at_the_next_look(
    timer: RefreshTimer, calls: Calls, clock: Clock, timers: HeldTimers
) -> None:
    """On Linux, a sleep stops the monotonic clock and all waits. [L]"""
    timer.set(clock.now + _HOUR)
    clock.now += 8 * _HOUR
    clock.awake += 20
    timers.only.ring()
    assert calls.number == 1
    assert not timers.live


def test_a_clock_that_was_set_back_does_not_delay_the_call(
    timer: RefreshTimer, calls: Calls, clock: Clock, timers: HeldTimers
) -> None:
    timer.set(clock.now + 100)
    clock.now -= 24 * _HOUR
    clock.pass_(60)
    timers.only.ring()
    assert calls.number == 0
    assert timers.only.interval == pytest.approx(40)
    clock.pass_(40)
    timers.only.ring()
    assert calls.number == 1


def test_a_clock_that_was_set_forward_is_trusted(
    timer: RefreshTimer, calls: Calls, clock: Clock, timers: HeldTimers
) -> None:
    timer.set(clock.now + _HOUR)
    clock.now += 24 * _HOUR
    clock.awake += 60
    timers.only.ring()
    assert calls.number == 1


def test_a_timer_that_rings_early_waits_for_the_rest(
    timer: RefreshTimer, calls: Calls, clock: Clock, timers: HeldTimers
) -> None:
    timer.set(clock.now + 10)
    clock.pass_(9.75)
    timers.only.ring()
    assert calls.number == 0
    assert timers.only.interval == pytest.approx(0.25)


def test_the_action_may_set_the_timer_again_and_take_long(clock: Clock, timers: HeldTimers) -> None:
    """No lock is held: other threads may set the timer while the action runs."""
    timer: RefreshTimer

    def act() -> None:
        other = threading.Thread(target=timer.set, args=(clock.now + 7,))
        other.start()
        other.join(_SECONDS)
        assert not other.is_alive()

    timer = RefreshTimer(act, clock, clock.monotonic)
    timer.start()
    timer.set(clock.now)
    timers[0].ring()
    assert timers.only.interval == pytest.approx(7)
    timer.stop()


def test_it_can_be_stopped_from_within_its_own_lock(timers: HeldTimers) -> None:
    """Garbage collection may happen at any time, in any thread, and end the owner of the timer."""
    moments = iter([0.0, 0.0, 5.0])
    timer: RefreshTimer

    def clock() -> float:
        moment = next(moments)
        if moment == 5:
            timer.stop()
        return moment

    timer = RefreshTimer(lambda: None, clock, lambda: 0.0)
    timer.start()
    timer.set(10.0)
    timers[0].ring()
    timer.stop()
    assert not timers.live


def test_a_timer_that_cannot_start_a_thread_only_logs_a_warning(
    calls: Calls, clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Refreshes on demand work without the timer. Python starts no threads while it ends. [L]"""

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    timer = RefreshTimer(calls, clock, clock.monotonic)
    timer.start()
    monkeypatch.setattr(threading.Timer, "start", refuse)
    with caplog.at_level(logging.WARNING, "pywry_auth.native"):
        timer.set(clock.now)
    assert "tokens are not refreshed in the background" in caplog.text
    timer.stop()
    assert calls.number == 0
