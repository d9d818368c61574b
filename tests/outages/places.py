"""The stores of a site, and how each of them fails."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from tests.peers.postgres_server import PostgresServer
from tests.peers.redis_server import RedisServer
from tests.peers.tcp_proxy import TCPProxy

_DURABLE = ("--appendonly", "yes", "--appendfsync", "always")
# root can write to any file, unless it lacks this capability
_OBEYS_MODES = ("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all")


@dataclass(frozen=True)
class Fault:
    """One way in which a store fails.

    Args:
        during: The fault lasts for the block.
        reads: Whether records can still be read.
        writes: Whether records can still be written.
        removes: Whether records can still be removed.
        log: A text in the log of the site; empty for any.
        seconds: The longest time until an answer.
        reloads: Whether only new workers notice the fault, because the others have opened the store before.
    """

    during: Callable[[], AbstractContextManager[object]]
    reads: bool = False
    writes: bool = False
    removes: bool = False
    log: str = ""
    seconds: float = 4.0  # 2.5, and time for a busy machine
    reloads: bool = False


class Place(Protocol):
    """A store with its faults, by name."""

    @property
    def settings(self) -> Mapping[str, str]:
        """The settings of a site that uses the store."""

    @property
    def prefix(self) -> tuple[str, ...]:
        """A program that starts gunicorn, with its options."""

    @property
    def faults(self) -> Mapping[str, Fault]:
        """The ways in which the store fails."""


class RedisPlace:
    """A durable Redis server behind a proxy.

    Args:
        folder: An empty folder with a short path.
    """

    prefix: tuple[str, ...] = ()

    def __init__(self, folder: Path) -> None:
        self._server = RedisServer(folder)
        self._proxy = TCPProxy(self._server.port)
        url = f"redis://127.0.0.1:{self._proxy.port}/0"
        self.settings: Mapping[str, str] = {"STATE_BACKEND": "redis", "REDIS_URL": url}
        self.faults: Mapping[str, Fault] = {
            "down": Fault(self._down, log="no server listens"),
            "silent": Fault(self._silent, log="does not answer"),
            "full": Fault(partial(self._config, maxmemory="1"), reads=True, removes=True, log="maxmemory"),
            "read-only": Fault(self._read_only, reads=True, log="READONLY"),
            "cut off in mid-answer": Fault(self._proxy.cutting),
            "slow, within the time limit": Fault(
                partial(self._proxy.slow, 0.3), reads=True, writes=True, removes=True, seconds=15
            ),
            "too slow": Fault(partial(self._proxy.slow, 3), log="does not answer"),
        }

    def __enter__(self) -> RedisPlace:
        self._server.start(*_DURABLE)
        return self

    def __exit__(self, *_: object) -> None:
        self._proxy.close()
        self._server.__exit__(None, None, None)

    @contextmanager
    def _down(self) -> Iterator[None]:
        """End the server, and start it again with its records."""
        self._server.stop()
        with self._proxy.closed():
            yield
            self._server.start(*_DURABLE)

    @contextmanager
    def _silent(self) -> Iterator[None]:
        with stopped(self._server.pid):
            yield

    @contextmanager
    def _config(self, **options: str) -> Iterator[None]:
        client = self._server.client
        before = {name: client.config_get(name)[name] for name in options}
        for name, value in options.items():
            client.config_set(name, value)
        yield
        for name, earlier in before.items():
            client.config_set(name, str(earlier))

    @contextmanager
    def _read_only(self) -> Iterator[None]:
        """Make the server a replica, as a failover does."""
        self._server.client.replicaof("127.0.0.1", "1")
        yield
        self._server.client.replicaof("NO", "ONE")


class PostgresPlace:
    """A PostgreSQL server behind a proxy."""

    prefix: tuple[str, ...] = ()

    def __init__(self) -> None:
        self._server = PostgresServer()
        self._proxy = TCPProxy(self._server.port)
        url = self._server.url.replace(f":{self._server.port}/", f":{self._proxy.port}/")
        self.settings: Mapping[str, str] = {"STATE_BACKEND": "postgres", "POSTGRES_URL": url}
        self.faults: Mapping[str, Fault] = {
            "down": Fault(self._down, log="PostgreSQL"),
            "silent": Fault(self._silent, log="does not answer"),
            "full": Fault(self._full, reads=True, removes=True, log="disk of PostgreSQL is full"),
            "read-only": Fault(self._read_only, reads=True, log="PostgreSQL refuses to write"),
            "cut off in mid-answer": Fault(self._proxy.cutting),
            "slow, within the time limit": Fault(
                partial(self._proxy.slow, 0.3), reads=True, writes=True, removes=True, seconds=15
            ),
            "too slow": Fault(partial(self._proxy.slow, 3), log="does not answer"),
        }

    def __enter__(self) -> PostgresPlace:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._proxy.close()
        self._server.__exit__(None, None, None)

    @contextmanager
    def _down(self) -> Iterator[None]:
        """Kill the server, and start it again with its records."""
        self._server.kill()
        with self._proxy.closed():
            yield
            self._server.start()

    @contextmanager
    def _silent(self) -> Iterator[None]:
        self._server.stop()
        yield
        self._server.go_on()

    @contextmanager
    def _full(self) -> Iterator[None]:
        """Let the server refuse to store records with the code of a full disk."""
        self._server.admin(_REFUSE)
        yield
        self._server.admin("DROP FUNCTION refuse() CASCADE")

    @contextmanager
    def _read_only(self) -> Iterator[None]:
        self._server.admin("ALTER SYSTEM SET default_transaction_read_only = on")
        self._server.admin("SELECT pg_reload_conf()")
        yield
        self._server.admin("ALTER SYSTEM RESET default_transaction_read_only")
        self._server.admin("SELECT pg_reload_conf()")


_REFUSE = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN RAISE EXCEPTION 'No space left on device' USING ERRCODE = '53100'; END $$;
CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON pywry_auth_records EXECUTE FUNCTION refuse()
"""


class SQLitePlace:
    """A SQLite file that the workers of the site own.

    Args:
        processes: Returns the IDs of the site's processes.
    """

    def __init__(self, processes: Callable[[], list[int]]) -> None:
        self._folder = Path(tempfile.mkdtemp())
        self._file = self._folder / "state.sqlite3"
        self._processes = processes
        self.settings: Mapping[str, str] = {"STATE_BACKEND": "sqlite", "SQLITE_PATH": str(self._file)}
        self.prefix = _OBEYS_MODES if os.getuid() == 0 else ()
        self.faults: Mapping[str, Fault] = {
            "down": Fault(self._down, log="of the SQLite store was removed"),
            # Another process that writes for long does not disturb readers.
            "silent": Fault(self._locked, reads=True, log="kept it locked", seconds=9),
            "full": Fault(self._full, reads=True, log="would exceed the size limit of this process"),
            "read-only": Fault(
                self._read_only, reads=True, log="this user has no write access", reloads=True
            ),
            "damaged": Fault(self._damaged, log="it is no SQLite database"),
        }

    def __enter__(self) -> SQLitePlace:
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._folder)

    @contextmanager
    def _down(self) -> Iterator[None]:
        """Move the folder away, as an unmounted disk does."""
        away = self._folder.with_name(f"{self._folder.name}-away")
        self._folder.rename(away)
        yield
        away.rename(self._folder)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Let another process hold the lock for writers."""
        holder = subprocess.Popen(
            [sys.executable, "-c", _HOLDER, str(self._file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert holder.stdout
        holder.stdout.readline()
        yield
        holder.communicate()

    @contextmanager
    def _full(self) -> Iterator[None]:
        """Let every write to a file fail in the processes of the site."""
        self._limit_files(0)
        yield
        self._limit_files(resource.RLIM_INFINITY)

    def _limit_files(self, size: int) -> None:
        for process in self._processes():
            resource.prlimit(process, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    @contextmanager
    def _read_only(self) -> Iterator[None]:
        """Forbid to write, and to create a file beside it."""
        files = sorted(self._folder.iterdir())
        modes = [(path, path.stat().st_mode) for path in (*files, self._folder)]
        for path in files:
            path.chmod(0o400)
        self._folder.chmod(0o500)
        yield
        for path, mode in modes:
            if path.exists():
                path.chmod(mode)

    @contextmanager
    def _damaged(self) -> Iterator[None]:
        """Put a file of another kind in its place."""
        away = self._folder / "away"
        away.mkdir()
        kept = [path for path in self._folder.iterdir() if path.is_file()]
        for path in kept:
            path.rename(away / path.name)
        self._file.write_bytes(b"this is no database" * 100)
        self._file.chmod(0o600)
        yield
        self._file.unlink()
        for path in kept:
            (away / path.name).rename(path)
        away.rmdir()


_HOLDER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], timeout=10, isolation_level=None)
connection.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
sys.stdin.read()
connection.execute("ROLLBACK")
"""


@contextmanager
def stopped(*processes: int) -> Iterator[None]:
    """Stop processes for the block."""
    for process in processes:
        os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in reversed(processes):
            os.kill(process, signal.SIGCONT)
