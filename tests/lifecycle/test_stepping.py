"""The tools of these tests: operations stop where they should, and wait for each other's locks."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pywry_auth.backends.base import Terms, When
from pywry_auth.exceptions import StoreUnavailable
from tests.lifecycle.stepping import Actor, Deadlock, Outage, SteppedBackend, drive


@pytest.fixture
def backend() -> SteppedBackend:
    return SteppedBackend()


def _writes(backend: SteppedBackend, value: bytes) -> Callable[[], None]:
    def act() -> None:
        for number in range(3):
            backend.put(f"record:{number}", value)

    return act


def _takes(backend: SteppedBackend, *names: str) -> Callable[[], None]:
    def act() -> None:
        for name in names:
            while not backend.put(f"lock:{name}", b"owner", Terms(ttl=60, when=When.ABSENT)):
                pass
        backend.put("record:0", names[0].encode())
        for name in names:
            backend.pop(f"lock:{name}")

    return act


def test_an_operation_stops_before_a_step_and_goes_on(backend: SteppedBackend) -> None:
    first, second = Actor("first", _writes(backend, b"1")), Actor("second", _writes(backend, b"2"))
    drive(first, 1, second)
    assert [backend.get(f"record:{number}") for number in range(3)] == [b"1", None, None]
    drive(second, None, first)
    drive(first, None, second)
    assert [backend.get(f"record:{number}") for number in range(3)] == [b"2", b"1", b"1"]
    assert first.steps == ["put record:0", "put record:1", "put record:2"]


def test_an_operation_that_needs_a_lock_lets_its_holder_finish(backend: SteppedBackend) -> None:
    first, second = Actor("first", _takes(backend, "a")), Actor("second", _takes(backend, "a"))
    drive(first, 1, second)
    drive(second, None, first)
    assert first.finished
    assert second.finished
    assert backend.get("record:0") == b"a"


def test_two_operations_that_wait_for_each_other_are_a_deadlock(backend: SteppedBackend) -> None:
    first, second = Actor("first", _takes(backend, "a", "b")), Actor("second", _takes(backend, "b", "a"))
    drive(first, 1, second)
    with pytest.raises(Deadlock):
        drive(second, None, first)
    for name in ("a", "b"):
        backend.inner.pop(f"lock:{name}")
    first.run()
    second.run()


@pytest.mark.parametrize(
    ("outage", "stored", "failed"),
    [
        (Outage(1, done=False, more=0), [True, False, True, True], [1]),
        (Outage(1, done=True, more=0), [True, True, True, True], [1]),
        (Outage(1, done=True, more=1), [True, True, False, True], [1, 2]),
        (Outage(0, done=False, more=float("inf")), [False] * 4, [0, 1, 2, 3]),
    ],
)
def test_a_store_fails_before_or_after_a_call(
    backend: SteppedBackend, outage: Outage, stored: list[bool], failed: list[int]
) -> None:
    failures = []
    with backend.failing(outage):
        for number in range(4):
            try:
                backend.put(f"record:{number}", b"1")
            except StoreUnavailable:
                failures.append(number)
    assert failures == failed
    assert [backend.get(f"record:{number}") is not None for number in range(4)] == stored


def test_a_lock_whose_holder_failed_expires(backend: SteppedBackend) -> None:
    """The test need not wait for it."""
    backend.inner.put("lock:a", b"a dead holder")
    _takes(backend, "a")()
    assert backend.abandoned_locks == ["lock:a"]
