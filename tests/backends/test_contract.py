"""What holds on every backend, run against each for real."""

from __future__ import annotations

import math
import threading

import pytest

from pywry_auth.backends.base import Backend, When
from pywry_auth.exceptions import StoreUnavailable
from tests.backends.fixtures import Clock
from tests.backends.threads import together

HOSTILE = [
    "",
    "a",
    "A",
    "a:b",
    "a:b:c",
    "a\nb",
    "a b",
    "a\0b",
    "\0",
    "*",
    "a*",
    "[a-z]",
    "{a}",
    "'; DROP TABLE records; --",
    "%",
    "_",
    "\\",
    "é",
    "e\u0301",
    "ａ",  # noqa: RUF001 - full width
    "\u202e",
    "\ud800",
    "\U0001f511",
    "x" * 100_000,
    "x" * 100_001,
    "SET a b\r\nDEL c",
]


def test_a_fresh_backend_holds_nothing(backend: Backend) -> None:
    """T11."""
    for key in ("local", "admin", "unknown", "", "x" * 4096, "\0"):
        assert backend.get(key) is None
        assert backend.pop(key) is None
        assert backend.members(key) == []


def test_any_bytes_come_back_as_they_were(backend: Backend) -> None:
    for value in (b"", b"\0", bytes(range(256)) * 5000):
        assert backend.put("k:1", value)
        assert backend.get("k:1") == value
    assert backend.pop("k:1") == value
    assert backend.get("k:1") is None


def test_hostile_keys_neither_meet_nor_escape(backend: Backend) -> None:
    for number, key in enumerate(HOSTILE):
        assert backend.put(key, b"%d" % number, group="g:", when=When.ABSENT)
    assert [backend.get(key) for key in HOSTILE] == [b"%d" % number for number in range(len(HOSTILE))]
    assert sorted(backend.members("g:")) == sorted(HOSTILE)
    for number, key in enumerate(HOSTILE):
        assert backend.pop(key, group="g:") == b"%d" % number
    assert backend.members("g:") == []


def test_hostile_groups_do_not_meet(backend: Backend) -> None:
    for number, group in enumerate(HOSTILE):
        backend.put(f"k:{number}", b"", group=group)
    assert [backend.members(group) for group in HOSTILE] == [[f"k:{n}"] for n in range(len(HOSTILE))]


@pytest.mark.parametrize("group", [None, "k:all"])
def test_what_a_put_depends_on(backend: Backend, group: str | None) -> None:
    assert not backend.put("k:1", b"0", group=group, when=When.PRESENT)
    assert backend.get("k:1") is None
    assert backend.put("k:1", b"1", group=group, when=When.ABSENT)
    assert not backend.put("k:1", b"2", group=group, when=When.ABSENT)
    assert backend.get("k:1") == b"1"
    assert backend.put("k:1", b"3", group=group, when=When.PRESENT)
    assert backend.put("k:1", b"4", group=group)
    assert backend.get("k:1") == b"4"


def test_a_refused_put_leaves_no_trace_in_the_group(backend: Backend) -> None:
    backend.put("k:1", b"", group="k:all", when=When.PRESENT)
    assert backend.members("k:all") == []


def test_a_pop_that_expects_something_else_takes_nothing(backend: Backend) -> None:
    backend.put("k:1", b"mine", group="k:all")
    assert backend.pop("k:1", b"yours", group="k:all") is None
    assert backend.pop("k:1", b"", group="k:all") is None
    assert backend.members("k:all") == ["k:1"]
    assert backend.pop("k:1", b"mine", group="k:all") == b"mine"


def test_a_member_popped_without_its_group_is_no_member(backend: Backend) -> None:
    backend.put("k:1", b"", group="k:all")
    backend.put("k:2", b"", group="k:all")
    backend.pop("k:1")
    assert backend.members("k:all") == ["k:2"]


def test_a_large_group_is_listed_whole(backend: Backend) -> None:
    keys = {f"k:{number}" for number in range(1500)}
    for key in keys:
        backend.put(key, b"", ttl=600, group="k:all")
    members = backend.members("k:all")
    assert len(members) == 1500
    assert set(members) == keys


def test_the_oldest_of_a_full_group_go(backend: Backend, clock: Clock) -> None:
    """T3: the others of the group, and other groups, stay."""
    backend.put("k:other", b"", ttl=600, group="k:bob", limit=3)
    for number in range(10):
        clock.now += 0.001
        assert backend.put(f"k:{number}", b"%d" % number, ttl=600 + number, group="k:alice", limit=3)
    assert sorted(backend.members("k:alice")) == ["k:7", "k:8", "k:9"]
    assert backend.get("k:6") is None
    assert backend.get("k:9") == b"9"
    assert backend.get("k:other") == b""


def test_what_has_ended_is_gone(clocked: Backend, clock: Clock) -> None:
    clocked.put("k:1", b"1", ttl=10, group="k:all")
    clocked.put("k:2", b"2", ttl=20, group="k:all")
    clocked.put("k:3", b"3", group="k:all")
    clock.now += 10
    assert clocked.get("k:1") is None
    assert clocked.pop("k:1") is None
    assert not clocked.put("k:1", b"", when=When.PRESENT)
    assert sorted(clocked.members("k:all")) == ["k:2", "k:3"]
    assert clocked.put("k:1", b"4", when=When.ABSENT)
    clock.now += 10**9
    assert clocked.get("k:2") is None
    assert clocked.get("k:3") == b"3"
    assert clocked.get("k:1") == b"4"


def test_a_later_put_sets_the_end_anew(clocked: Backend, clock: Clock) -> None:
    clocked.put("k:1", b"", ttl=10)
    clocked.put("k:1", b"", ttl=100, when=When.PRESENT)
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


@pytest.mark.parametrize("ttl", [0, -1, -math.inf, math.nan])
def test_a_lifetime_of_nothing_is_refused(backend: Backend, ttl: float) -> None:
    with pytest.raises(ValueError, match="lifetime"):
        backend.put("k:1", b"", ttl=ttl)
    with pytest.raises(ValueError, match="lifetime"):
        backend.count("k:1", ttl)
    assert backend.get("k:1") is None


@pytest.mark.parametrize("ttl", [10**30, math.inf, 1e-9])
def test_any_lifetime_can_be_stored(backend: Backend, ttl: float) -> None:
    """T41: a provider may say any number."""
    assert backend.put("k:1", b"", ttl=ttl, group="k:all")
    assert backend.count("n:1", ttl) == 1


def test_of_many_threads_one_takes(backend: Backend) -> None:
    """T2."""
    for number in range(5):
        backend.put(f"k:{number}", b"v")
        took = together(32, lambda _, key=f"k:{number}": backend.pop(key))
        assert took.count(b"v") == 1
        assert took.count(None) == 31


@pytest.mark.parametrize("group", [None, "k:all"])
def test_of_many_threads_one_is_first(backend: Backend, group: str | None) -> None:
    for number in range(5):
        key = f"k:{number}"
        first = together(32, lambda n, key=key: backend.put(key, b"%d" % n, group=group, when=When.ABSENT))
        assert first.count(True) == 1
        assert backend.get(key) == b"%d" % first.index(True)


def test_threads_count_without_loss(backend: Backend) -> None:
    assert sorted(together(32, lambda _: backend.count("n:1", 600))) == list(range(1, 33))


def _is_held(backend: Backend, key: str) -> bool:
    try:
        with backend.lock(key, 30, wait=0):
            return False
    except StoreUnavailable:
        return True


def test_a_lock_is_held_by_one_thread_at_a_time(backend: Backend, clock: Clock) -> None:
    inside = threading.Lock()
    done = []

    def work(number: int) -> None:
        with backend.lock("lock:1", 30):
            assert inside.acquire(blocking=False)
            done.append(number)
            inside.release()

    together(16, work)
    assert sorted(done) == list(range(16))
    assert not _is_held(backend, "lock:1")


def test_a_lock_that_stays_held_is_given_up(backend: Backend) -> None:
    with (
        backend.lock("lock:1", 30),
        pytest.raises(StoreUnavailable) as caught,
        backend.lock("lock:1", 30, wait=0.05),
    ):
        pytest.fail("two hold the lock")
    assert caught.value.error == "temporarily_unavailable"
    assert not _is_held(backend, "lock:1")


@pytest.mark.parametrize("clocked", ["memory", "sqlite", "encrypted"], indirect=True)  # others outlast theirs
def test_who_overran_the_lock_does_not_release_anothers(clocked: Backend, clock: Clock) -> None:
    with clocked.lock("lock:1", 30):
        clock.now += 31
        other = clocked.lock("lock:1", 30)
        other.__enter__()
    assert _is_held(clocked, "lock:1")
    other.__exit__(None, None, None)
    assert not _is_held(clocked, "lock:1")


def test_a_lock_is_released_when_its_block_fails(backend: Backend) -> None:
    with pytest.raises(KeyError), backend.lock("lock:1", 30):
        raise KeyError
    assert not _is_held(backend, "lock:1")


def test_a_closed_backend_can_be_used_again(backend: Backend) -> None:
    backend.put("k:1", b"v")
    backend.close()
    assert backend.get("k:1") == b"v"
