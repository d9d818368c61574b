"""A process that uses a backend.

It is started as ``python -m tests.backends.worker kind place act``, and begins when it reads a line.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pywry_auth.backends.base import Backend, Terms, When
from pywry_auth.backends.postgres import PostgresBackend
from pywry_auth.backends.redis import RedisBackend
from pywry_auth.backends.sqlite import SQLiteBackend

KEYS = [f"k:{number}" for number in range(40)]


def first(backend: Backend) -> object:
    return [backend.put(key, b"", Terms(ttl=600, group="k:all", when=When.ABSENT)) for key in KEYS]


def take(backend: Backend) -> object:
    return [backend.pop(key, group="k:all") is not None for key in KEYS]


def count(backend: Backend) -> object:
    return [backend.count("n:1", 600) for _ in KEYS]


def add(backend: Backend) -> object:
    """Add in two steps that only a lock protects."""
    for _ in range(20):
        with backend.lock("lock:1", 30):
            number = int(backend.get("k:sum") or b"0")
            backend.put("k:sum", b"%d" % (number + 1))
    return None


def step(backend: Backend) -> object:
    """Add with a read and a compare-and-put."""
    added = 0
    while added < 20:
        value = backend.get("k:sum") or b""
        added += backend.put("k:sum", b"%d" % (int(value) + 1), Terms(expected=value))
    return None


def hold(backend: Backend) -> object:
    """Hold a lock until the process is killed."""
    with backend.lock("lock:1", 0, lease=0.5):
        print("held", flush=True)
        return sys.stdin.read()


ACTS: dict[str, Callable[[Backend], object]] = {f.__name__: f for f in (first, take, count, add, step, hold)}


def open_backend(kind: str, place: str) -> Backend:
    """Return the backend of a kind: ``sqlite``, ``redis`` or ``postgres``."""
    opened: dict[str, Callable[[str], Backend]] = {
        "sqlite": SQLiteBackend,
        "redis": RedisBackend,
        "postgres": PostgresBackend,
    }
    return opened[kind](place)


def main(kind: str, place: str, act: str) -> None:
    backend = open_backend(kind, place)
    print("ready", flush=True)
    sys.stdin.readline()
    print(json.dumps(ACTS[act](backend)), flush=True)
    backend.close()


def start(kind: str, place: str, act: str) -> subprocess.Popen[str]:
    """Return a process that is ready to begin."""
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "tests.backends.worker", kind, place, act],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    return process


def begin(process: subprocess.Popen[str]) -> None:
    assert process.stdin
    process.stdin.write("\n")
    process.stdin.flush()


def together(number: int, kind: str, place: str, act: str) -> list[Any]:
    """Run ``act`` at one moment in several processes.

    Returns the results of all processes.
    """
    processes = [start(kind, place, act) for _ in range(number)]
    for process in processes:
        begin(process)
    answers = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * number
    return [json.loads(answer) for answer in answers]


if __name__ == "__main__":
    main(*sys.argv[1:])
