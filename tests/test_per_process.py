"""Values of one process: locks and threads are made after a fork, and after gevent."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
from pathlib import Path

from pywry_auth.per_process import Living, OncePerProcess, PerProcess
from tests.backends.threads import together


def test_all_threads_get_the_same_value() -> None:
    value = PerProcess(threading.Lock)
    assert len({id(lock) for lock in together(8, lambda _: value())}) == 1


def test_a_forked_process_makes_its_own_value() -> None:
    """A thread of the parent may hold the lock at the moment of the fork. [L11]"""
    value, once = PerProcess(threading.Lock), OncePerProcess()
    assert once.is_first("a")
    with value():
        child = os.fork()
        if child == 0:
            os._exit(0 if value().acquire(blocking=False) and once.is_first("a") else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_one_call_of_a_process_and_a_key_is_the_first() -> None:
    once = OncePerProcess()
    assert sum(together(8, lambda _: once.is_first())) == 1
    assert [once.is_first("a"), once.is_first("a"), once.is_first("b")] == [True, False, True]


def test_threads_add_living_objects_and_read_them() -> None:
    """A set that grows while it is read would raise an error."""

    class Each:
        pass

    living: Living[Each] = Living()
    kept = [Each() for _ in range(400)]

    def add_and_read(number: int) -> int:
        for each in kept[number::8]:
            living.add(each)
            living.all()
        return len(living.all())

    together(8, add_and_read)
    assert len(living.all()) == 400
    kept.clear()
    gc.collect()
    assert living.all() == []


def test_an_application_from_before_the_fork_works_under_gevent() -> None:
    """Locks from before gevent would stop all requests of a worker, or fail them. [S8]"""
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.peers.late_gevent"],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    locks, memory, sqlite, https = ran.stdout.splitlines() or [ran.stderr]
    assert locks == "locks: []"
    assert memory == sqlite == "logins: [302, 302, 302, 302]"
    assert https.startswith("https: invalid_configuration")
    assert "preload_app = False" in https
