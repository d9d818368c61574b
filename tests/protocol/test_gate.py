"""The gate: how many threads call a provider, and how many wait. [T44]"""

from __future__ import annotations

import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field

import pytest

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import ProviderBusy
from pywry_auth.protocol import slots
from pywry_auth.protocol.gate import CallGate
from tests.waiting import count_waiters_in

_SECONDS = 20
AT_ONCE, THREADS = 4, 8


@dataclass
class Site:
    """A gate with limits, threads that hold its slots, and a clock that the test may set.

    Args:
        now: The time of the clock; None for the real one.
    """

    now: float | None = None
    at_once: int = AT_ONCE
    gate: CallGate = field(init=False)
    entered: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    may_leave: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.gate = CallGate("provider", lambda: time.monotonic() if self.now is None else self.now)
        self.gate.limit(lambda: self.at_once, lambda: THREADS)

    def hold(self, outcome: Callable[[], None] = lambda: None) -> None:
        """Hold a slot until the test lets all holders go.

        Args:
            outcome: Called with the slot before the thread leaves.
        """
        with self.gate.slot():
            self.entered.release()
            assert self.may_leave.wait(_SECONDS)
            outcome()

    def call(self, outcome: Callable[[], None]) -> None:
        """Hold a slot for one call with an outcome."""
        with self.gate.slot(0):
            outcome()

    def answer(self) -> None:
        """Note an answer of a fast provider."""
        self.gate.answered()

    def time_out(self, times: int = 1) -> None:
        """Let calls time out one after the other."""
        for _ in range(times):
            self.call(self.gate.timed_out)


@contextmanager
def occupied(site: Site, slots: int = AT_ONCE) -> Iterator[list[Future[None]]]:
    """Hold slots in other threads during the block."""
    with ThreadPoolExecutor(slots) as pool:
        holders = [pool.submit(site.hold) for _ in range(slots)]
        try:
            for _ in holders:
                assert site.entered.acquire(timeout=_SECONDS)
            yield holders
        finally:
            site.may_leave.set()
    assert [holder.exception() for holder in holders] == [None] * slots


def test_a_gate_without_limits_lets_every_call_pass() -> None:
    """Programs of one user have no such limits."""
    gate = CallGate()
    gate.timed_out()
    gate.answered()
    with ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(gate.slot(0))
            gate.timed_out()
        assert stack.enter_context(gate.waiting(None)) is None
    assert not gate.limited


def test_only_so_many_threads_hold_a_slot() -> None:
    site = Site()
    assert site.gate.limited
    with occupied(site), pytest.raises(ProviderBusy) as caught, site.gate.slot(0):
        pytest.fail("there is no slot")
    assert (caught.value.error, caught.value.retry_after) == (ErrorCode.TEMPORARILY_UNAVAILABLE, 5)
    with site.gate.slot(0):
        pass


def test_a_block_inside_another_needs_no_slot_of_its_own() -> None:
    site = Site(at_once=1)
    with site.gate.slot(), site.gate.slot(0), site.gate.slot(0):
        pass
    with occupied(site, 1), pytest.raises(ProviderBusy), site.gate.slot(0):
        pytest.fail("the first block has returned the only slot")


@pytest.fixture
def waiters(monkeypatch: pytest.MonkeyPatch) -> threading.Semaphore:
    """Released whenever a thread waits for a slot, also when it waits again."""
    return count_waiters_in(monkeypatch, slots)


def test_threads_get_slots_in_the_order_of_their_arrival(waiters: threading.Semaphore) -> None:
    site, order = Site(at_once=1), []

    def wait(number: int) -> None:
        with site.gate.slot():
            order.append(number)

    with ThreadPoolExecutor(3) as pool, occupied(site, 1):
        for number in range(3):
            pool.submit(wait, number)
            assert waiters.acquire(timeout=_SECONDS)
    assert order == [0, 1, 2]


def test_a_burst_at_a_slow_provider_fails_nowhere() -> None:
    """Slots become free, so all threads may wait. [T44]"""
    site, inside, most = Site(), threading.Semaphore(AT_ONCE), []

    def call(_: int) -> None:
        with site.gate.slot():
            most.append(inside.acquire(blocking=False))
            site.may_leave.wait(0.03)  # the provider's time to answer
            site.gate.answered()
            inside.release()

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(call, range(100)))
    assert len(most) == 100
    assert all(most), "no more than four at the same time"


def _surplus(site: Site, threads: int) -> tuple[int, float]:
    """Let threads ask for a slot at a stuck provider.

    Returns:
        How many of them were refused early, and after how many seconds the last of these.
    """
    began, refused = time.monotonic(), []

    def ask(_: int) -> None:
        with suppress(ProviderBusy), site.gate.slot(2.5):
            pytest.fail("no slot became free")
        refused.append(time.monotonic() - began)

    with occupied(site), ThreadPoolExecutor(threads) as pool:
        list(pool.map(ask, range(threads)))
    early = [seconds for seconds in refused if seconds < 2.4]
    return len(early), max(early, default=0)


def test_a_quarter_of_the_threads_waits_at_a_stuck_provider() -> None:
    """After 2 s without progress, the others are refused at the same moment. [T44]"""
    site = Site()
    early, seconds = _surplus(site, 4)
    assert early == 4 - THREADS // 4
    assert 1.9 < seconds < 2.4


def test_a_new_arrival_at_a_stuck_provider_is_refused_at_once(waiters: threading.Semaphore) -> None:
    site = Site(now=0.0)
    with ThreadPoolExecutor(2) as pool, occupied(site):
        for _ in range(2):
            pool.submit(_wait_and_leave, site)
            assert waiters.acquire(timeout=_SECONDS)
        site.now = 2.0
        with pytest.raises(ProviderBusy), site.gate.slot(30):
            pytest.fail("the provider is stuck")


def _wait_and_leave(site: Site) -> None:
    with site.gate.slot(30):
        pass


def test_a_provider_is_stuck_after_two_seconds_without_progress(waiters: threading.Semaphore) -> None:
    """Until then, any number of threads may wait, so that no login of a burst fails. [T44]"""
    site = Site(now=0.0)
    assert not _is_refused(site, 1.95, waiters)
    assert _is_refused(site, 2.05, waiters)


def test_a_thread_waits_longer_while_the_provider_answers(waiters: threading.Semaphore) -> None:
    """Its slot becomes free later than after 2 s, but no later than after 5 s. [T44]"""
    site = Site(now=0.0)
    with ThreadPoolExecutor(1) as pool, occupied(site, AT_ONCE - 1), site.gate.slot():
        waiting = pool.submit(_wait_briefly_and_leave, site)
        assert waiters.acquire(timeout=_SECONDS)
        for now in (1.5, 3.0, 4.5):
            site.now = now
            site.gate.answered()
            assert waiters.acquire(timeout=_SECONDS), "the thread looks again, and waits on"
        site.now = 5.1
        site.gate.answered()
        assert isinstance(waiting.exception(_SECONDS), ProviderBusy)
        site.may_leave.set()


def _wait_briefly_and_leave(site: Site) -> None:
    with site.gate.slot(2):
        pass


def _is_refused(site: Site, now: float, waiters: threading.Semaphore) -> bool:
    """Return whether a third thread may not wait, if all slots were taken so many seconds ago."""
    site.now, site.may_leave = 0.0, threading.Event()
    with ThreadPoolExecutor(3) as pool, occupied(site):
        for _ in range(2):
            pool.submit(_wait_and_leave, site)
            assert waiters.acquire(timeout=_SECONDS)
        site.now = now
        third = pool.submit(_wait_and_leave, site)
        _first(third, waiters)
        return third.done() and isinstance(third.exception(), ProviderBusy)


def _first(future: Future[None], waiters: threading.Semaphore) -> None:
    """Wait until a thread ends or waits."""
    future.add_done_callback(lambda _: waiters.release())
    assert waiters.acquire(timeout=_SECONDS)


def test_an_answer_is_progress_before_the_slot_is_free(waiters: threading.Semaphore) -> None:
    """The operations of a slow provider consist of several calls. [T44]"""
    site = Site(now=0.0)
    with ThreadPoolExecutor(3) as pool, occupied(site, AT_ONCE - 1), site.gate.slot():
        for _ in range(2):
            pool.submit(_wait_and_leave, site)
            assert waiters.acquire(timeout=_SECONDS)
        site.now = 1.9
        site.gate.answered()
        site.now = 2.1
        third = pool.submit(_wait_and_leave, site)
        _first(third, waiters)
        assert not third.done()
        site.may_leave.set()


@pytest.mark.parametrize("timed_out", [True, False])
def test_a_slot_that_becomes_free_without_an_answer_is_no_progress(
    waiters: threading.Semaphore, timed_out: bool
) -> None:
    """Otherwise each time-out would let all threads wait again. [T44]"""
    site = Site(now=0.0)
    free = threading.Event()

    def hold() -> None:
        with site.gate.slot():
            site.entered.release()
            assert free.wait(_SECONDS)
            if timed_out:
                site.gate.timed_out()

    with ThreadPoolExecutor(4) as pool, occupied(site, AT_ONCE - 1):
        pool.submit(hold)
        assert site.entered.acquire(timeout=_SECONDS)
        next_holder = pool.submit(site.hold)
        assert waiters.acquire(timeout=_SECONDS)
        site.now = 10.0
        free.set()
        assert site.entered.acquire(timeout=_SECONDS), "the thread that waited has the slot now"
        for _ in range(2):
            pool.submit(_wait_and_leave, site)
            assert waiters.acquire(timeout=_SECONDS)
        with pytest.raises(ProviderBusy), site.gate.slot(30):
            pytest.fail("the provider is still stuck")
    assert next_holder.exception() is None


# Threads that wait for the call of another one


def test_half_of_the_threads_may_wait_for_a_long_call() -> None:
    """The others are refused once the call takes long. [T44]"""
    site = Site(now=0.0)
    with ExitStack() as stack:
        assert [stack.enter_context(site.gate.waiting()) for _ in range(4)] == [5.0] * 4
        site.now = 0.5
        with site.gate.waiting() as seconds:
            assert seconds == 1.5, "until the call takes as long as that of a stuck provider"
        site.now = 2.0
        with pytest.raises(ProviderBusy), site.gate.waiting():
            pytest.fail("half of the threads wait already")
    with site.gate.waiting(1.0) as seconds:
        assert seconds == 1.0


def test_a_quarter_of_the_threads_stays_free(waiters: threading.Semaphore) -> None:
    """Threads with slots and threads that wait are counted together. [T44]"""
    site = Site(now=0.0)
    with occupied(site), ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(site.gate.waiting())
        site.now = 2.0
        with pytest.raises(ProviderBusy), site.gate.waiting():
            pytest.fail("six of eight threads are occupied")
        with pytest.raises(ProviderBusy), site.gate.slot(30):
            pytest.fail("six of eight threads are occupied")


# Time-outs


def test_repeated_time_outs_refuse_all_calls_for_a_while(caplog: pytest.LogCaptureFixture) -> None:
    """No thread waits for a slot, and the error says for how long. [T44, T70]"""
    site = Site(now=100.0)
    site.time_out(2)
    site.call(site.answer)
    site.time_out(2)
    assert not caplog.messages
    site.time_out()
    assert caplog.messages == ["provider: repeated time-outs: no calls for 5 s"]
    site.now = 101.0
    with pytest.raises(ProviderBusy, match="does not answer") as caught, site.gate.slot(30):
        pytest.fail("the provider is paused")
    assert (caught.value.error, caught.value.retry_after) == ("temporarily_unavailable", 4)


def test_a_pause_releases_the_threads_that_wait(waiters: threading.Semaphore) -> None:
    site = Site(now=100.0)
    site.time_out(2)
    with ThreadPoolExecutor(2) as pool, occupied(site, AT_ONCE - 1), site.gate.slot():
        waiting = [pool.submit(_wait_and_leave, site) for _ in range(2)]
        for _ in waiting:
            assert waiters.acquire(timeout=_SECONDS)
        site.gate.timed_out()
        assert {type(thread.exception(_SECONDS)) for thread in waiting} == {ProviderBusy}


def test_one_probe_at_a_time_follows_a_pause() -> None:
    """A probe that fails doubles the pause once, and one that succeeds ends it."""
    site = Site(now=100.0)
    site.time_out(3)
    site.now = 105.0
    with site.gate.slot():
        with ThreadPoolExecutor(1) as pool:
            other = pool.submit(_wait_and_leave, site)
            assert isinstance(other.exception(_SECONDS), ProviderBusy)
        site.gate.timed_out()
        site.gate.timed_out()
    site.now = 114.9
    with pytest.raises(ProviderBusy), site.gate.slot():
        pytest.fail("the second pause takes 10 s")
    site.now = 115.0
    site.call(site.answer)
    with occupied(site):
        pass


def test_a_slot_with_an_answer_and_a_time_out_counts_as_timed_out() -> None:
    """A provider of which only some endpoints hang is paused too."""
    site = Site(now=100.0)

    def half() -> None:
        site.gate.answered()
        site.gate.timed_out()

    for _ in range(3):
        site.call(half)
    with pytest.raises(ProviderBusy), site.gate.slot():
        pytest.fail("the provider is paused")


# Processes


def test_a_forked_process_has_a_gate_of_its_own() -> None:
    """The parent's threads and locks do not exist there."""
    site = Site()
    with occupied(site):
        read, write = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns about forks with threads
            child = os.fork()
        if child == 0:
            try:
                with site.gate.slot(0):
                    os.write(write, b"passed")
            finally:
                os._exit(0)
        os.close(write)
        with os.fdopen(read, "rb") as answer:
            assert answer.read() == b"passed"
        os.waitpid(child, 0)


def test_a_call_that_may_be_left_out_takes_no_slot_that_another_needs() -> None:
    """Nor does its time-out end the calls of others. [S7]"""
    site = Site(now=0.0, at_once=2)
    with site.gate.spare_slot(), site.gate.spare_slot():
        site.answer()
    with occupied(site, 1), pytest.raises(ProviderBusy), site.gate.spare_slot():
        pytest.fail("the last slot is for others")
    for moment in (0.0, 10.0, 20.0, 30.0):
        site.now = moment
        with site.gate.spare_slot():
            site.gate.timed_out()
        site.now = moment + 9.9
        with pytest.raises(ProviderBusy), site.gate.spare_slot():
            pytest.fail("the last time-out was a moment ago")
        site.call(site.answer)
    site.now = 40.0
    site.time_out(3)
    site.now = 50.0
    with pytest.raises(ProviderBusy), site.gate.spare_slot():
        pytest.fail("the first call after a pause must count")


def test_the_only_slot_of_a_process_may_be_spare() -> None:
    site = Site(at_once=1)
    with ThreadPoolExecutor(1) as pool, site.gate.spare_slot(), pytest.raises(ProviderBusy):
        pool.submit(site.call, site.answer).result(_SECONDS)
