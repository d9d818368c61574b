"""Locks as leases: renewal, loss, and a store that fails in between."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

import pytest
import time_machine

from pywry_auth.backends.memory import MemoryBackend
from pywry_auth.exceptions import StoreUnavailable
from pywry_auth.testing.faulty_backend import FaultyBackend
from pywry_auth.testing.lease_contract import await_loss
from pywry_auth.testing.record_contract import is_held

_SECONDS = 30


@pytest.fixture
def backend() -> FaultyBackend:
    return FaultyBackend(MemoryBackend())


def _failing(operation: str, times: float = float("inf")) -> Callable[[str, str], None]:
    """Return a hook that lets the first calls of an operation fail."""
    failed = 0

    def hook(name: str, key: str) -> None:
        nonlocal failed
        if name == operation and failed < times:
            failed += 1
            raise StoreUnavailable("The store is away.")

    return hook


def _lease_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "pywry_auth lease"]


def test_a_short_hold_writes_nothing_but_the_lock(backend: FaultyBackend) -> None:
    operations: list[str] = []
    backend.before = lambda operation, key: operations.append(operation)
    with backend.lock("lock:1", 0):
        pass
    assert operations == ["put", "pop"]


def test_the_thread_that_renews_ends_with_the_block(backend: FaultyBackend) -> None:
    before = _lease_threads()
    with backend.lock("lock:1", 0):
        (thread,) = set(_lease_threads()) - set(before)
        assert thread.daemon
    assert _lease_threads() == before


def test_a_lock_works_without_renewals_if_no_thread_can_be_started(
    backend: FaultyBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python starts none while it exits. The lease then runs out. [T65]"""
    monkeypatch.setattr(threading.Thread, "start", lambda thread: _raise(RuntimeError("can't start")))
    with backend.lock("lock:1", 0, lease=0.05) as lease:
        assert lease.left() > 0
        await_loss(lease)
    assert not is_held(backend, "lock:1")


def test_a_lease_counts_from_before_its_acquisition(backend: FaultyBackend) -> None:
    """The store may have written the lock long before its response arrived. [T65]"""
    backend.after = lambda operation, key: time.sleep(0.1) if operation == "put" else None
    with backend.lock("lock:1", 0, lease=60) as lease:
        assert 0 < lease.left() <= 59.9


def test_a_failed_renewal_is_tried_again(backend: FaultyBackend) -> None:
    """The lease continues after a short outage. [T65]"""
    puts = threading.Semaphore(0)

    def note(operation: str, key: str) -> None:
        if operation == "put":
            puts.release()

    with backend.lock("lock:1", 0, lease=0.9) as lease:
        backend.before, backend.after = _failing("put", 3), note
        for _ in range(3):
            assert puts.acquire(timeout=_SECONDS)
        assert lease.left() > 0
        assert is_held(backend, "lock:1")


def test_a_lease_ends_if_no_renewal_succeeds(
    backend: FaultyBackend, caplog: pytest.LogCaptureFixture
) -> None:
    """The holder learns that another process may hold the lock. [T65]"""
    with backend.lock("lock:1", 0, lease=0.2) as lease:
        backend.before = _failing("put")
        await_loss(lease)
        deadline = time.monotonic() + _SECONDS
        while "lock was lost" not in caplog.text:
            assert time.monotonic() < deadline
            time.sleep(0.005)


def test_a_lease_runs_out_while_the_machine_sleeps(backend: FaultyBackend) -> None:
    """The wall clock advances, and the monotonic clock may stand still. [T65]"""
    with backend.lock("lock:1", 0) as lease:
        assert lease.left() > 9
        with time_machine.travel(time.time() + 11, tick=True):
            assert lease.left() == 0


def test_a_failed_acquisition_raises_even_if_its_removal_fails_too(backend: FaultyBackend) -> None:
    backend.before = lambda operation, key: _raise(StoreUnavailable(f"{operation} failed"))
    with pytest.raises(StoreUnavailable, match="put failed"), backend.lock("lock:1", 0):
        pytest.fail("no lock was acquired")


def _raise(error: Exception) -> None:
    raise error


def test_a_failed_release_is_tried_again(backend: FaultyBackend, caplog: pytest.LogCaptureFixture) -> None:
    """The next caller need not wait for the end of the lease. [T65]"""
    with backend.lock("lock:1", 0):
        backend.before = _failing("pop", 2)
    assert not is_held(backend, "lock:1")
    assert caplog.records == []


def test_a_lock_that_cannot_be_released_expires(
    backend: FaultyBackend, caplog: pytest.LogCaptureFixture
) -> None:
    """The result of the block counts, and the log says that the lock remains. [T65]"""
    began = time.monotonic()
    with caplog.at_level(logging.WARNING), backend.lock("lock:1", 0, lease=1.5):
        backend.before = _failing("pop")
    assert 1 <= time.monotonic() - began < _SECONDS
    assert "could not be released and will expire" in caplog.text
    backend.before = lambda operation, key: None
    with backend.lock("lock:1", _SECONDS):
        pass


def test_a_caller_waits_no_longer_than_it_allows(backend: FaultyBackend) -> None:
    """A held lock costs a waiting thread seconds, not the life of the lock. [T65]"""
    with backend.lock("lock:1", 0):
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match="did not finish"), backend.lock("lock:1", 0.1):
            pytest.fail("two callers hold the lock")
        assert 0.1 <= time.monotonic() - began < 5
