"""The part of the backend contract about locks that expire."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from pywry_auth.backends.base import Backend, Terms, When
from pywry_auth.backends.lease import Lease
from pywry_auth.exceptions import StoreUnavailable
from pywry_auth.testing.faulty_backend import FaultyBackend
from pywry_auth.testing.record_contract import SOON, is_held

_SECONDS = 30


class LeaseContract:
    """Tests of the locks that :class:`Backend` builds on ``put`` and ``pop``.

    They use these locks even if the backend has others of its own.
    """

    @pytest.fixture
    def leasing(self, backend: Backend) -> FaultyBackend:
        """Return the backend with the locks of :class:`Backend`."""
        return FaultyBackend(backend)

    def test_a_lock_is_renewed_while_its_block_runs(self, leasing: FaultyBackend) -> None:
        """The block takes longer than the lease."""
        puts = threading.Semaphore(0)
        leasing.after = lambda operation, key: puts.release() if operation == "put" else None
        with leasing.lock("lock:1", 0, lease=0.75) as lease:
            for _ in range(1 + 4):  # the acquisition, and renewals each third of the lease
                assert puts.acquire(timeout=_SECONDS)
            assert 0 < lease.left() <= 0.75
            assert is_held(leasing, "lock:1")
        assert lease.left() == 0
        assert not is_held(leasing, "lock:1")

    @pytest.mark.parametrize("other", [b"other", None])
    def test_a_lock_that_was_lost_is_noticed(self, leasing: FaultyBackend, other: bytes | None) -> None:
        """Another owner has it, or the store forgot it."""
        with leasing.lock("lock:1", 0, lease=0.3) as lease:
            assert lease.left() > 0
            leasing.pop("lock:1")
            if other is not None:
                leasing.put("lock:1", other)
            await_loss(lease)
        assert leasing.get("lock:1") == other

    def test_the_lock_of_a_dead_holder_expires(
        self, leasing: FaultyBackend, elapse: Callable[[float], None]
    ) -> None:
        """It is not renewed."""
        leasing.put("lock:1", b"dead", Terms(ttl=SOON, when=When.ABSENT))
        elapse(2 * SOON)
        with leasing.lock("lock:1", 0) as lease:
            assert lease.left() > 0

    def test_an_acquisition_without_a_response_leaves_no_lock(self, leasing: FaultyBackend) -> None:
        """The store wrote the lock, but the response was lost."""

        def lose(operation: str, key: str) -> None:
            if operation == "put":
                raise StoreUnavailable("The response was lost.")

        leasing.after = lose
        with pytest.raises(StoreUnavailable, match="lost"), leasing.lock("lock:1", 0):
            pytest.fail("no lock was acquired")
        leasing.after = lambda operation, key: None
        assert not is_held(leasing, "lock:1")


def await_loss(lease: Lease) -> None:
    """Wait until a lease notices that it was lost.

    Args:
        lease: The lease.
    """
    deadline = time.monotonic() + _SECONDS
    while lease.left() > 0:
        assert time.monotonic() < deadline, "the lease was not lost"
        time.sleep(0.005)
