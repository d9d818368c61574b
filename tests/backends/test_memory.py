"""The memory backend: its size depends on the live records."""

from __future__ import annotations

import threading
import time

from pywry_auth.backends.base import Terms
from pywry_auth.backends.memory import MemoryBackend
from tests.backends.fixtures import Clock


def test_later_writes_remove_expired_records(memory: MemoryBackend, clock: Clock) -> None:
    for number in range(1000):
        memory.put(f"k:{number}", b"", Terms(ttl=10, group="k:all"))
        memory.count(f"n:{number}", 10)
    clock.now += 10
    assert len(memory) == 2000
    for _ in range(1000):
        memory.put("k:new", b"")
    assert len(memory) == 1


def test_memory_is_proportional_to_the_live_records(memory: MemoryBackend, clock: Clock) -> None:
    """Without pruning, 100 of 20,000 records are always live."""
    largest = 0
    for number in range(20_000):
        clock.now += 0.1
        memory.put(f"k:{number}", b"", Terms(ttl=10, group=f"k:{number % 7}"))
        largest = max(largest, len(memory))
    assert 100 <= largest <= 200


def test_records_without_a_lifetime_do_not_keep_expired_ones(memory: MemoryBackend, clock: Clock) -> None:
    for number in range(500):
        memory.put(f"forever:{number}", b"")
    for number in range(20_000):
        clock.now += 0.1
        memory.put(f"k:{number}", b"", Terms(ttl=10))
    assert len(memory) <= 1000


def test_a_caller_that_waits_for_a_lock_gets_it_as_soon_as_it_is_free(memory: MemoryBackend) -> None:
    waiting, acquired = threading.Event(), threading.Event()

    def wait() -> None:
        waiting.set()
        with memory.lock("lock:1", 30):
            acquired.set()

    with memory.lock("lock:1", 30):
        thread = threading.Thread(target=wait)
        thread.start()
        assert waiting.wait(10)
        assert not acquired.is_set()
    began = time.monotonic()
    assert acquired.wait(10)
    assert time.monotonic() - began < 5
    thread.join()
