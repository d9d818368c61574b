"""The stores of the site, with the faults of each."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from redis import Redis
from redis.exceptions import RedisError

from tests.peers.redis_server import RedisServer

_DURABLE = ("--appendonly", "yes", "--appendfsync", "always")
_PATIENCE = 8.0  # seconds until replicas must be in step
_EVERY = 0.05  # seconds between two looks


class Place(Protocol):
    """A store for the site's records.

    ``faults`` maps the name of each fault to a function that injects it until the given event is set.
    """

    kind: str
    faults: Mapping[str, Callable[[threading.Event], None]]

    @property
    def where(self) -> str:
        """The path or URL."""

    @property
    def settings(self) -> dict[str, str]:
        """The settings of a site that uses the store."""


class RedisPlace:
    """A durable Redis server and its replica. The site knows the first one only.

    Args:
        folder: An empty folder with a short path.
    """

    kind = "redis"

    def __init__(self, folder: Path) -> None:
        self._servers = []
        for name in ("a", "b"):
            (folder / name).mkdir()
            self._servers.append(RedisServer(folder / name))
        self._primary, self._replica = self._servers
        self.faults: Mapping[str, Callable[[threading.Event], None]] = {
            "stopped": self._stopped,
            "killed and restarted": self._killed,
            "made a replica": self._demoted,
            "gets a new replica": self._followed,
            "out of memory": self._full,
            "drops connections": self._dropped,
        }

    @property
    def where(self) -> str:
        return self._primary.url

    @property
    def settings(self) -> dict[str, str]:
        return {"STATE_BACKEND": "redis", "REDIS_URL": self.where}

    def __enter__(self) -> RedisPlace:
        self._start(self._primary, *_DURABLE)
        self._start(self._replica)
        self._replica.client.replicaof("127.0.0.1", str(self._primary.port))
        self._wait_until(self._in_step)
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers:
            server.client.close()
            server.stop()

    def _start(self, server: RedisServer, *options: str) -> None:
        server.start(*options)
        server.client.config_set("loglevel", "warning")  # its output is not read, so it must stay small
        server.client.config_set("repl-diskless-sync-delay", "0")

    def _stopped(self, over: threading.Event) -> None:
        with stopped(self._primary.pid):
            over.wait()

    def _killed(self, over: threading.Event) -> None:
        self._primary.stop()
        over.wait()
        self._start(self._primary, *_DURABLE)

    def _demoted(self, over: threading.Event) -> None:
        """Exchange the roles without a loss: FAILOVER waits until both servers are in step."""
        self._wait_until(self._in_step)
        self._fail_over(self._primary, self._replica)
        over.wait()
        self._fail_over(self._replica, self._primary)

    def _fail_over(self, old: RedisServer, new: RedisServer) -> None:
        self._wait_until(lambda: _role(old.client) == b"master" and _has_replica(old.client))
        _ask(old.client, "FAILOVER", "TO", "127.0.0.1", str(new.port))
        self._wait_until(lambda: _role(old.client) == b"slave" and _role(new.client) == b"master")

    def _followed(self, over: threading.Event) -> None:
        """Let the replica load everything again, and read from it."""
        replica = self._replica.client
        replica.replicaof("NO", "ONE")
        replica.flushall()
        replica.replicaof("127.0.0.1", str(self._primary.port))
        while not over.wait(_EVERY):
            with suppress(RedisError):  # it is still loading
                replica.dbsize()
                replica.randomkey()
        self._wait_until(self._in_step)

    def _full(self, over: threading.Event) -> None:
        self._primary.client.config_set("maxmemory", "1")
        over.wait()
        self._primary.client.config_set("maxmemory", "0")

    def _dropped(self, over: threading.Event) -> None:
        while True:
            self._primary.client.client_kill_filter(_type="normal", skipme=True)
            if over.wait(_EVERY):
                return

    def _in_step(self) -> bool:
        return _role(self._primary.client) == b"master" and _has_replica(self._primary.client)

    def _wait_until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            with suppress(RedisError):  # it is loading, or changes its role
                if condition():
                    return
            time.sleep(_EVERY)  # redis offers no event for it
        raise RuntimeError("the Redis servers did not get in step")


class SQLitePlace:
    """A SQLite file.

    Args:
        folder: An empty folder.
        processes: Returns the IDs of the site's processes.
    """

    kind = "sqlite"

    def __init__(self, folder: Path, processes: Callable[[], list[int]]) -> None:
        self._folder = folder / "state"
        self._folder.mkdir(mode=0o700)
        self._file = self._folder / "state.sqlite3"
        self._processes = processes
        self.faults: Mapping[str, Callable[[threading.Event], None]] = {
            "locked": self._locked,
            "read-only": self._read_only,
            "disk full": self._full,
        }

    @property
    def where(self) -> str:
        return str(self._file)

    @property
    def settings(self) -> dict[str, str]:
        return {"STATE_BACKEND": "sqlite", "SQLITE_PATH": self.where}

    def __enter__(self) -> SQLitePlace:
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the file to the owner of the folder."""

    def _locked(self, over: threading.Event) -> None:
        """Let another process hold the lock for writers."""
        holder = subprocess.Popen([sys.executable, "-c", _HOLDER, self.where], stdin=subprocess.PIPE)
        over.wait()
        holder.communicate()

    def _read_only(self, over: threading.Event) -> None:
        """Forbid to write, for all connections that are opened in the meantime."""
        files = list(self._folder.iterdir())
        for file in files:
            file.chmod(0o400)
        self._folder.chmod(0o500)
        over.wait()
        self._folder.chmod(0o700)
        for file in self._folder.iterdir():
            file.chmod(0o600)

    def _full(self, over: threading.Event) -> None:
        """Let every write to a file fail, in all processes of the site."""
        self._limit_files(0)
        over.wait()
        self._limit_files(resource.RLIM_INFINITY)

    def _limit_files(self, size: int) -> None:
        for process in self._processes():
            with suppress(ProcessLookupError):
                resource.prlimit(process, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


_HOLDER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], timeout=10, isolation_level=None)
connection.execute("BEGIN EXCLUSIVE")
sys.stdin.read()
connection.execute("ROLLBACK")
"""


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Stop a process for the block."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def _ask(client: Redis, *command: str) -> Any:
    return client.execute_command(*command)  # type: ignore[no-untyped-call]


def _role(client: Redis) -> object:
    role, *_ = _ask(client, "ROLE")
    return role


def _has_replica(client: Redis) -> bool:
    replication = client.info("replication")
    offset = replication["master_repl_offset"]
    first = replication.get("slave0", {})
    return bool(first.get("state") == "online" and offset - first.get("offset", 0) < 100_000)
