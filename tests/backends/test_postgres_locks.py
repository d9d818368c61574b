"""PostgreSQL: locks that end with the connection of their process."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import nullcontext

import pytest

from pywry_auth.backends.postgres import PostgresBackend
from pywry_auth.backends.postgres_connections import DeadlinePassed
from pywry_auth.backends.postgres_locks import lock_number
from pywry_auth.exceptions import StoreUnavailable
from pywry_auth.testing.lease_contract import await_loss
from pywry_auth.testing.record_contract import is_held
from tests.backends import worker
from tests.backends.threads import together
from tests.peers.postgres_pooler import Pooler
from tests.peers.postgres_server import PostgresServer

_SESSIONS = "SELECT pid FROM pg_locks WHERE locktype = 'advisory'"
_END = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


@pytest.fixture
def other(postgres_server: PostgresServer) -> Iterator[PostgresBackend]:
    """A backend with connections of its own, as in another process."""
    backend = PostgresBackend(postgres_server.url)
    yield backend
    backend.close()


def test_the_lock_of_a_killed_process_is_free_at_once(
    postgres: PostgresBackend, postgres_server: PostgresServer
) -> None:
    """No lease has to run out. [T65]"""
    holder = worker.start("postgres", postgres_server.url, "hold")
    worker.begin(holder)
    assert holder.stdout
    assert holder.stdout.readline() == "held\n"
    assert is_held(postgres, "lock:1")
    holder.kill()
    holder.communicate()
    with postgres.lock("lock:1", 5) as lease:
        assert lease.left() > 0


def test_two_backends_exclude_each_other(postgres: PostgresBackend, other: PostgresBackend) -> None:
    """So do the threads of each: the server lets one session lock twice. [T65]"""
    inside, count = threading.Lock(), []

    def work(number: int) -> None:
        with (postgres, other)[number % 2].lock("lock:1", 30) as lease:
            assert inside.acquire(blocking=False)
            count.append(number)
            assert lease.left() > 0
            inside.release()

    together(12, work)
    assert len(count) == 12
    assert not is_held(postgres, "lock:1")


def test_the_locks_of_a_process_need_one_connection(
    postgres_server: PostgresServer, other: PostgresBackend
) -> None:
    """Threads that hold or await locks do not keep others from the operations. [T65]"""
    backend = PostgresBackend(f"{postgres_server.url}?max_connections=2")
    held, done = threading.Barrier(13, timeout=30), threading.Event()

    def act(number: int) -> int:
        if number == 12:  # all locks are held now, and some threads wait for them
            held.wait()
            began = time.monotonic()
            for turn in range(50):
                assert backend.put(f"k:{turn}", b"v")
            done.set()
            return int(time.monotonic() - began)
        with backend.lock(f"lock:{number}", 30):
            held.wait()
            assert done.wait(30)
        return 0

    def wait_for_all(number: int) -> int:
        if number < 13:
            return act(number)
        with backend.lock(f"lock:{number % 12}", 30):
            return 0

    assert max(together(24, wait_for_all)) < 10
    sessions = {pid for (pid,) in postgres_server.admin(_SESSIONS)}
    assert len(sessions) <= 1
    assert not is_held(other, "lock:1")
    backend.close()


def test_a_lock_whose_session_ended_is_noticed(
    postgres: PostgresBackend, other: PostgresBackend, postgres_server: PostgresServer
) -> None:
    """Before the step that only the holder may do, and although another process has the lock now. [T65]"""
    with postgres.lock("lock:1", 0) as lease, postgres.lock("lock:2", 0) as second:
        assert lease.left() > 0
        postgres_server.admin(_END)
        with other.lock("lock:1", 5):
            await_loss(lease)
            await_loss(second)
        with postgres.lock("lock:3", 0) as fresh:
            assert fresh.left() > 0
            assert lease.left() == 0
    assert not is_held(other, "lock:1")


def test_a_lock_is_lost_if_the_server_is_silent(server: PostgresServer) -> None:
    """A standby may have taken its place, with all locks free. [T65]"""
    backend = PostgresBackend(server.url)
    with backend.lock("lock:1", 0, lease=0.6) as lease:
        assert lease.left() > 0
        server.stop()
        await_loss(lease)
        server.go_on()
    with backend.lock("lock:1", 5) as lease:
        assert lease.left() > 0
    backend.close()


def test_a_lock_is_kept_for_longer_than_a_lease(postgres: PostgresBackend, other: PostgresBackend) -> None:
    with postgres.lock("lock:1", 0, lease=0.3) as lease:
        ends = time.monotonic() + 1
        while time.monotonic() < ends:
            assert lease.left() > 0
            assert is_held(other, "lock:1")


def test_an_interrupted_wait_leaves_no_lock(postgres: PostgresBackend, other: PostgresBackend) -> None:
    """Control-C arrives while the lock is awaited."""
    with other.lock("lock:1", 0):
        waiting = postgres.lock("lock:1", 30)
        postgres._pause = _interrupt  # type: ignore[method-assign]
        with pytest.raises(KeyboardInterrupt):
            waiting.__enter__()
        del postgres._pause
    with postgres.lock("lock:1", 5) as lease:
        assert lease.left() > 0


@pytest.mark.parametrize("ended", [True, False])
def test_a_release_waits_for_other_threads_no_longer_than_the_limit(
    postgres: PostgresBackend, other: PostgresBackend, ended: bool
) -> None:
    """They wait for a silent server, one after the other. The lock is free soon afterwards. [T65, P15]"""
    locks, number = postgres._locks(), lock_number(b"lock\0pywry:lock:1")
    held = locks.acquire(number)
    assert held
    with locks._turn:  # as a thread that waits for an answer
        if ended:
            locks._drop()
        began = time.monotonic()
        with nullcontext() if ended else pytest.raises(DeadlinePassed):
            locks.release(held)
        assert time.monotonic() - began < 0.5 + (not ended) * 5
    fresh = locks.acquire(number + 1)
    assert fresh
    locks.release(fresh)
    with other.lock("lock:1", 5) as lease:
        assert lease.left() > 0


def _interrupt(seconds: float) -> None:
    raise KeyboardInterrupt


def test_a_pooler_gets_leases_instead(postgres_server: PostgresServer, other: PostgresBackend) -> None:
    """It gives a session to several clients, with the locks of all. [T65]"""
    with Pooler(postgres_server.port) as pooler:
        backend = PostgresBackend(postgres_server.url.replace(str(postgres_server.port), str(pooler.port)))
        with backend.lock("lock:1", 0) as lease:
            assert lease.left() > 0
            assert postgres_server.admin(_SESSIONS) == []
            assert postgres_server.contents().keys() >= {b"pywry:lock:1"}
            with pytest.raises(StoreUnavailable), backend.lock("lock:1", 0.05):
                pytest.fail("two callers hold the lock")
        assert b"pywry:lock:1" not in postgres_server.contents()
        backend.close()
    assert not is_held(other, "lock:1")
