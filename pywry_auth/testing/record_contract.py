"""The part of the backend contract that slow backends pass."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest

from pywry_auth.backends.base import Backend, Terms, When
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import StoreUnavailable

_T = TypeVar("_T")

SOON = 0.05
"""The short lifetime in these tests, in seconds."""


class RecordContract:
    """Tests of records, groups, conditions, lifetimes and locks.

    They are for slow backends. Every other backend must pass
    :class:`pywry_auth.testing.backend_contract.BackendContract`.
    """

    @pytest.fixture
    def elapse(self) -> Callable[[float], None]:
        """Return a function that lets seconds pass.

        Override it for a backend with its own clock.
        """
        return time.sleep

    def test_a_fresh_backend_holds_nothing(self, backend: Backend) -> None:
        """No key exists from the start."""
        for key in ("local", "admin", "unknown", "", "x" * 4096, "\0"):
            assert backend.get(key) is None
            assert backend.pop(key) is None
            assert backend.members(key) == []

    def test_any_bytes_are_returned_unchanged(self, backend: Backend) -> None:
        """A value is bytes of any content and length."""
        for value in (b"", b"\0", bytes(range(256)) * 5000):
            assert backend.put("k:1", value)
            assert backend.get("k:1") == value
        assert backend.pop("k:1") == value
        assert backend.get("k:1") is None

    def test_a_closed_backend_can_be_used_again(self, backend: Backend) -> None:
        """``close`` closes only connections."""
        backend.put("k:1", b"v")
        backend.close()
        assert backend.get("k:1") == b"v"

    def test_the_keys_of_a_kind_are_listed(self, backend: Backend) -> None:
        """Each live key is listed once.

        A backend that cannot list keys says so.
        """
        for key in ("k:1", "k:2", "k:3", "K:4", "kk:5", "j:6"):
            backend.put(key, b"v", Terms(group="k:all"))
        backend.pop("k:2", group="k:all")
        if backend.lists_keys:
            assert sorted(backend.keys("k:")) == ["k:1", "k:3"]
            assert list(backend.keys("missing:")) == []
        else:
            with pytest.raises(StoreUnavailable, match="name one user"):
                next(backend.keys("k:"))

    def test_many_values_are_returned_at_once(
        self, backend: Backend, elapse: Callable[[float], None]
    ) -> None:
        """``get_many`` returns the live values of the given keys."""
        backend.put("k:1", b"1", Terms(group="k:all"))
        backend.put("k:2", b"")
        backend.put("k:3", b"3", Terms(ttl=SOON))
        backend.put("k:4", b"4")
        elapse(SOON * 2)
        assert backend.get_many(["k:2", "k:1", "k:3", "k:1", "missing"]) == {"k:1": b"1", "k:2": b""}
        assert backend.get_many([]) == {}

    def test_a_popped_member_leaves_its_group(self, backend: Backend) -> None:
        """``members`` lists only existing keys."""
        backend.put("k:1", b"", Terms(group="k:all"))
        backend.put("k:2", b"", Terms(group="k:all"))
        backend.pop("k:1")
        assert backend.members("k:all") == ["k:2"]

    def test_a_full_group_loses_its_oldest_members(
        self, backend: Backend, elapse: Callable[[float], None]
    ) -> None:
        """The other members and other groups stay."""
        backend.put("k:other", b"", Terms(ttl=600, group="k:bob", limit=3))
        for number in range(10):
            elapse(0.001)
            terms = Terms(ttl=600 + number, group="k:alice", limit=3)
            assert backend.put(f"k:{number}", b"%d" % number, terms)
        assert sorted(backend.members("k:alice")) == ["k:7", "k:8", "k:9"]
        assert backend.get("k:6") is None
        assert backend.get("k:9") == b"9"
        assert backend.get("k:other") == b""

    @pytest.mark.parametrize("group", [None, "k:all"])
    def test_a_put_may_depend_on_the_presence_of_its_key(self, backend: Backend, group: str | None) -> None:
        """``when`` makes a put conditional."""
        absent, present = Terms(group=group, when=When.ABSENT), Terms(group=group, when=When.PRESENT)
        assert not backend.put("k:1", b"0", present)
        assert backend.get("k:1") is None
        assert backend.put("k:1", b"1", absent)
        assert not backend.put("k:1", b"2", absent)
        assert backend.get("k:1") == b"1"
        assert backend.put("k:1", b"3", present)
        assert backend.put("k:1", b"4", Terms(group=group))
        assert backend.get("k:1") == b"4"

    @pytest.mark.parametrize("group", [None, "k:all"])
    def test_a_put_replaces_only_the_value_that_it_expects(self, backend: Backend, group: str | None) -> None:
        """``expected`` compares the whole value."""
        assert not backend.put("k:1", b"new", Terms(group=group, expected=b""))
        assert backend.get("k:1") is None
        for old in (b"", b"\0", b"old", bytes(range(256)) * 20):
            backend.put("k:1", old, Terms(group=group))
            for other in (old + b"\0", old[:-1] or b"x", b"older"):
                assert not backend.put("k:1", b"new", Terms(group=group, expected=other))
            assert backend.get("k:1") == old
            assert backend.put("k:1", b"new", Terms(group=group, expected=old))
            assert backend.get("k:1") == b"new"
            assert backend.put("k:1", b"new", Terms(group=group, expected=b"new"))
        assert backend.pop("k:1", group=group) == b"new"
        assert not backend.put("k:1", b"back", Terms(group=group, expected=b"new"))
        assert backend.get("k:1") is None

    def test_a_refused_put_leaves_no_trace_in_the_group(self, backend: Backend) -> None:
        """Nothing is written."""
        assert not backend.put("k:1", b"", Terms(group="k:all", when=When.PRESENT))
        assert not backend.put("k:1", b"", Terms(group="k:all", expected=b""))
        assert backend.members("k:all") == []

    def test_a_replaced_value_stays_in_its_group(self, backend: Backend) -> None:
        """Compare and put keeps the membership, and the limit counts."""
        for number in range(3):
            backend.put(f"k:{number}", b"old", Terms(ttl=600, group="k:all"))
        assert backend.put("k:2", b"new", Terms(ttl=600, group="k:all", limit=3, expected=b"old"))
        assert sorted(backend.members("k:all")) == ["k:0", "k:1", "k:2"]

    def test_a_pop_that_expects_another_value_takes_nothing(self, backend: Backend) -> None:
        """A pop compares the whole value with the expected one."""
        backend.put("k:1", b"mine", Terms(group="k:all"))
        assert backend.pop("k:1", b"yours", group="k:all") is None
        assert backend.pop("k:1", b"", group="k:all") is None
        assert backend.members("k:all") == ["k:1"]
        assert backend.pop("k:1", b"mine", group="k:all") == b"mine"

    def test_an_expired_record_is_gone(self, backend: Backend, elapse: Callable[[float], None]) -> None:
        """An expired record can be neither read nor popped nor replaced."""
        backend.put("k:1", b"1", Terms(ttl=SOON, group="k:all"))
        backend.put("k:2", b"2", Terms(ttl=600, group="k:all"))
        backend.put("k:3", b"3", Terms(group="k:all"))
        elapse(2 * SOON)
        assert backend.get("k:1") is None
        assert backend.pop("k:1") is None
        assert not backend.put("k:1", b"", Terms(when=When.PRESENT))
        assert not backend.put("k:1", b"", Terms(expected=b"1"))
        assert sorted(backend.members("k:all")) == ["k:2", "k:3"]
        assert backend.put("k:1", b"4", Terms(when=When.ABSENT))
        assert [backend.get(f"k:{number}") for number in (1, 2, 3)] == [b"4", b"2", b"3"]

    def test_every_put_sets_the_lifetime(self, backend: Backend, elapse: Callable[[float], None]) -> None:
        """So does a conditional put."""
        for key in ("k:1", "k:2", "k:3"):
            backend.put(key, b"", Terms(ttl=600))
        backend.put("k:1", b"", Terms(ttl=SOON))
        backend.put("k:2", b"", Terms(ttl=SOON, when=When.PRESENT))
        backend.put("k:3", b"", Terms(ttl=SOON, expected=b""))
        backend.put("k:4", b"", Terms(ttl=SOON))
        backend.put("k:4", b"")
        elapse(2 * SOON)
        assert [backend.get(f"k:{number}") for number in (1, 2, 3, 4)] == [None, None, None, b""]

    @pytest.mark.parametrize("ttl", [0, -1, -math.inf, math.nan])
    def test_a_lifetime_that_is_not_positive_is_refused(self, backend: Backend, ttl: float) -> None:
        """A lifetime must be positive; nothing is written."""
        with pytest.raises(ValueError, match="lifetime"):
            backend.put("k:1", b"", Terms(ttl=ttl))
        with pytest.raises(ValueError, match="lifetime"):
            backend.count("k:1", ttl)
        assert backend.get("k:1") is None

    @pytest.mark.parametrize("ttl", [10**30, math.inf, 1e-9])
    def test_any_lifetime_can_be_stored(self, backend: Backend, ttl: float) -> None:
        """Lifetimes come from providers, which may send any number."""
        assert backend.put("k:1", b"", Terms(ttl=ttl, group="k:all"))
        assert backend.count("n:1", ttl) == 1

    def test_a_count_starts_again_after_its_window(
        self, backend: Backend, elapse: Callable[[float], None]
    ) -> None:
        """Each counter has its own window."""
        assert [backend.count("n:1", 600) for _ in range(3)] == [1, 2, 3]
        assert backend.count("n:2", SOON) == 1
        elapse(2 * SOON)
        assert backend.count("n:2", 600) == 1
        assert backend.count("n:1", 600) == 4

    def test_a_prune_removes_only_records_of_one_kind_close_to_expiry(self, backend: Backend) -> None:
        """Other kinds and longer lifetimes stay."""
        for key, ttl in (("k:1", 5), ("k:2", 600), ("j:1", 5)):
            backend.put(key, b"", Terms(ttl=ttl))
        assert backend.prune("k:", 60) == 1
        assert [backend.get(key) for key in ("k:1", "k:2", "j:1")] == [None, b"", b""]

    def test_a_lock_is_held_by_one_thread_at_a_time(self, backend: Backend) -> None:
        """The other threads wait."""
        inside, done = threading.Lock(), []

        def work(number: int) -> None:
            with backend.lock("lock:1", 30) as lease:
                assert lease.left() > 0
                assert inside.acquire(blocking=False)
                done.append(number)
                inside.release()

        together(16, work)
        assert sorted(done) == list(range(16))
        assert not is_held(backend, "lock:1")

    def test_waiting_for_a_held_lock_ends(self, backend: Backend) -> None:
        """The waiting caller gets ``StoreUnavailable``."""
        with (
            backend.lock("lock:1", 30),
            pytest.raises(StoreUnavailable) as caught,
            backend.lock("lock:1", 0.05),
        ):
            pytest.fail("two callers hold the lock")
        assert caught.value.error == ErrorCode.TEMPORARILY_UNAVAILABLE
        assert not is_held(backend, "lock:1")

    def test_a_lock_is_released_when_its_block_fails(self, backend: Backend) -> None:
        """Any exception releases it."""
        with pytest.raises(KeyError), backend.lock("lock:1", 30) as lease:
            raise KeyError
        assert lease.left() == 0
        assert not is_held(backend, "lock:1")


def is_held(backend: Backend, key: str) -> bool:
    """Return whether any caller holds a lock.

    Args:
        backend: The backend of the lock.
        key: The name of the lock.
    """
    try:
        with backend.lock(key, 0):
            return False
    except StoreUnavailable:
        return True


def together(number: int, act: Callable[[int], _T]) -> list[_T]:
    """Call a function in several threads at the same moment.

    Args:
        number: The number of threads.
        act: The function, which gets the index of its thread.

    Returns:
        The results, in the order of the threads.
    """
    barrier = threading.Barrier(number, timeout=30)

    def run(index: int) -> _T:
        barrier.wait()
        return act(index)

    with ThreadPoolExecutor(number) as pool:
        return list(pool.map(run, range(number)))
