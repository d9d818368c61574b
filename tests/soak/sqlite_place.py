"""The SQLite file of the site, with its faults."""

from __future__ import annotations

import resource
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from tests.soak.places import Inject, repeat


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
        self.faults: Mapping[str, Inject] = {
            "locked": self._locked,
            "slow": self._slow,
            "read-only": self._read_only,
            "disk full": self._full,
        }

    @property
    def version(self) -> str:
        return f"SQLite {sqlite3.sqlite_version}"

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

    def _slow(self, over: threading.Event) -> None:
        """Let writers wait again and again, for less time than they are willing to wait."""

        def hold() -> None:
            subprocess.run([sys.executable, "-c", _BRIEF_HOLDER, self.where], check=True)

        repeat(over, hold)

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

_BRIEF_HOLDER = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], timeout=10, isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
time.sleep(0.3)
connection.execute("ROLLBACK")
"""
