"""Backends that several processes share."""

from __future__ import annotations

import os
from itertools import chain
from pathlib import Path

import pytest

from pywry_auth.backends.base import Backend, Terms
from pywry_auth.exceptions import StoreUnavailable
from tests.backends import worker
from tests.peers.postgres_server import PostgresServer
from tests.peers.redis_server import RedisServer

PROCESSES = 4


@pytest.fixture(params=["sqlite", "redis", "postgres"] if os.environ.get("SOAK") else ["sqlite", "redis"])
def place(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    redis_server: RedisServer,
    postgres_server: PostgresServer,
) -> tuple[str, str]:
    """The kind and place of a backend that nothing has opened."""
    redis_server.client.flushall()
    postgres_server.admin("DROP TABLE IF EXISTS pywry_auth_records")
    where = {
        "sqlite": str(tmp_path / "new" / "state.sqlite3"),
        "redis": redis_server.url,
        "postgres": postgres_server.url,
    }
    return request.param, where[request.param]


@pytest.fixture
def shared(place: tuple[str, str]) -> Backend:
    return worker.open_backend(*place)


def test_one_of_many_processes_stores_first(place: tuple[str, str]) -> None:
    """They also create the file or the table, or load scripts at once."""
    for wins in zip(*worker.together(PROCESSES, *place, "first"), strict=True):
        assert wins.count(True) == 1


def test_one_of_many_processes_takes_a_value(place: tuple[str, str], shared: Backend) -> None:
    """A value is taken once, however many processes take it. [T2]"""
    for key in worker.KEYS:
        shared.put(key, b"v", Terms(group="k:all"))
    for wins in zip(*worker.together(PROCESSES, *place, "take"), strict=True):
        assert wins.count(True) == 1
    assert shared.members("k:all") == []
    shared.close()


def test_processes_count_without_loss(place: tuple[str, str]) -> None:
    counts = chain.from_iterable(worker.together(PROCESSES, *place, "count"))
    assert sorted(counts) == list(range(1, PROCESSES * len(worker.KEYS) + 1))


def test_a_lock_is_held_by_one_process_at_a_time(place: tuple[str, str], shared: Backend) -> None:
    worker.together(PROCESSES, *place, "add")
    assert shared.get("k:sum") == b"%d" % (PROCESSES * 20)
    shared.close()


def test_no_update_is_lost_between_processes(place: tuple[str, str], shared: Backend) -> None:
    shared.put("k:sum", b"0")
    worker.together(PROCESSES, *place, "step")
    assert shared.get("k:sum") == b"%d" % (PROCESSES * 20)
    shared.close()


def test_a_lock_expires_after_its_holder_is_killed(place: tuple[str, str], shared: Backend) -> None:
    """The holder renews it beyond its lease of 0.5 s until then. [T65]"""
    holder = worker.start(*place, "hold")
    worker.begin(holder)
    assert holder.stdout
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(StoreUnavailable), shared.lock("lock:1", 0.8):
        pytest.fail("two processes hold the lock")
    holder.kill()
    holder.communicate()
    with shared.lock("lock:1", 30) as lease:
        assert lease.left() > 0
    shared.close()


def test_a_forked_process_can_use_its_parents_backend(place: tuple[str, str], shared: Backend) -> None:
    """With ``preload_app``, gunicorn forks its workers."""
    shared.put("k:1", b"parent")
    child = os.fork()
    if child == 0:
        done = shared.get("k:1") == b"parent" and shared.put("k:1", b"child") and shared.count("n:1", 60) == 1
        os._exit(0 if done else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert shared.get("k:1") == b"child"
    assert shared.count("n:1", 60) == 2
    shared.close()
