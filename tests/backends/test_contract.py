"""The contract of backends, tested on each real backend."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import pytest

from pywry_auth.backends.base import Backend, Terms, When
from pywry_auth.testing.backend_contract import BackendContract
from pywry_auth.testing.record_contract import RecordContract, is_held
from tests.backends.fixtures import Clock

_KINDS = ["memory", "sqlite", "redis", "postgres", "keyring"]
_OTHER_REDIS = ["valkey", "sentinel", "cluster"]
_SOAK = bool(os.environ.get("SOAK"))


class TestContract(BackendContract):
    """The contract on all backends, with and without encryption."""

    @pytest.fixture(params=_KINDS + [f"encrypted_{inner}" for inner in _KINDS] + _OTHER_REDIS * _SOAK)
    def backend(self, request: pytest.FixtureRequest) -> Backend:
        found: Backend = request.getfixturevalue(request.param)
        return found

    @pytest.fixture
    def elapse(self, clock: Clock) -> Callable[[float], None]:
        def elapse(seconds: float) -> None:
            clock.now += seconds
            time.sleep(seconds)  # Redis and PostgreSQL have their own clock

        return elapse


class TestOtherRedis(RecordContract):
    """The contract of records on Valkey, under Sentinel and in a cluster."""

    @pytest.fixture(params=["valkey", "sentinel", "encrypted_cluster"])
    def backend(self, request: pytest.FixtureRequest) -> Backend:
        found: Backend = request.getfixturevalue(request.param)
        return found

    @pytest.fixture
    def elapse(self) -> Callable[[float], None]:
        return time.sleep


def test_an_expired_record_is_gone(clocked: Backend, clock: Clock) -> None:
    clocked.put("k:1", b"1", Terms(ttl=10, group="k:all"))
    clocked.put("k:2", b"2", Terms(ttl=20, group="k:all"))
    clocked.put("k:3", b"3", Terms(group="k:all"))
    clock.now += 10
    assert clocked.get("k:1") is None
    assert clocked.pop("k:1") is None
    assert not clocked.put("k:1", b"", Terms(when=When.PRESENT))
    assert sorted(clocked.members("k:all")) == ["k:2", "k:3"]
    assert clocked.put("k:1", b"4", Terms(when=When.ABSENT))
    clock.now += 10**9
    assert clocked.get("k:2") is None
    assert clocked.get("k:3") == b"3"
    assert clocked.get("k:1") == b"4"


def test_a_later_put_sets_a_new_lifetime(clocked: Backend, clock: Clock) -> None:
    clocked.put("k:1", b"", Terms(ttl=10))
    clocked.put("k:1", b"", Terms(ttl=100, when=When.PRESENT))
    clock.now += 99
    assert clocked.get("k:1") == b""
    clocked.put("k:1", b"")
    clock.now += 99
    assert clocked.get("k:1") == b""


def test_a_count_starts_again_after_its_window(clocked: Backend, clock: Clock) -> None:
    assert [clocked.count("n:1", 60) for _ in range(3)] == [1, 2, 3]
    clock.now += 59
    assert clocked.count("n:1", 60) == 4
    assert clocked.count("n:2", 60) == 1
    clock.now += 1
    assert clocked.count("n:1", 60) == 1


# The keyring is left out, because its file locks do not expire.
@pytest.mark.parametrize("clocked", ["memory", "sqlite", "encrypted"], indirect=True)
def test_an_expired_holder_does_not_release_the_next_lock(clocked: Backend, clock: Clock) -> None:
    with clocked.lock("lock:1", 0, lease=30):
        clock.now += 31
        other = clocked.lock("lock:1", 0)
        other.__enter__()
    assert is_held(clocked, "lock:1")
    other.__exit__(None, None, None)
    assert not is_held(clocked, "lock:1")
