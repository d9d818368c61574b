"""One SQLite file for many threads and processes.

This module handles its connections, transactions and faults.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pywry_auth.backends.sqlite_place import OpenFiles, PreparedFiles, SQLitePlace
from pywry_auth.exceptions import StoreUnavailable

_CAUSES = {
    "SQLITE_BUSY": "other processes kept it locked",
    "SQLITE_CANTOPEN": "it cannot be opened",
    "SQLITE_CORRUPT": "it is damaged; move it away, and a new one will be created",
    "SQLITE_FULL": "the disk is full",
    "SQLITE_NOTADB": "it is no SQLite database; move it away, and one will be created",
    "SQLITE_READONLY": "it cannot be written to",
}


_ATTEMPTS = 3  # to open a file that is replaced at the same moment


@dataclass(frozen=True)
class _Link:
    """A connection, and the files that it has open."""

    connection: sqlite3.Connection
    files: OpenFiles


class _Process:
    """The idle connections and the write lock of one process.

    The idle connections are closed when the file is no longer used or the interpreter exits.
    """

    def __init__(self, parent: _Process | None = None) -> None:
        self.pid = os.getpid()
        self.idle: list[_Link] = []
        self.writing = threading.Lock()
        # SQLite forbids a forked process to use or close its parent's connections: keep them untouched.
        self.parent = parent
        # From Python 3.13 on, a connection that is collected before it is closed raises a ResourceWarning.
        weakref.finalize(self, _close_idle, self.idle, self.pid)


class SQLiteFile:
    """A database file that only its owner can read.

    The file is opened at the first use. Each process opens its own connections. A connection serves one
    thread at a time and is kept for the next one.

    A file that other users can reach is refused: when this object is created, and each time that the file is
    opened. A file that was replaced or removed is noticed when an idle connection is taken. The path is then
    opened again.

    Args:
        path: The absolute path of the file. If it is missing, it is created with mode 0600, and its folder
            with mode 0700.
        schema: Statements that prepare an empty database.
        version: The version of the schema, more than 0. A file of another version is refused.
        patience: Seconds to wait for other writers.

    Raises:
        StoreUnavailable: Other users can reach the file; the text contains the command that corrects it.
    """

    def __init__(self, path: Path, schema: tuple[str, ...], version: int, patience: float = 5.0) -> None:
        self._path = path
        self._schema = schema
        self._version = version
        self._patience = patience
        self._process = _Process()
        self._place = SQLitePlace(path)
        self._opened = False
        with suppress(OSError):  # reported by the first use
            self._place.check(starting=True)

    @contextmanager
    def connection(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection for the ``with`` block.

        Raises:
            StoreUnavailable: SQLite, or the file system below it, found a fault.
        """
        idle = self._here().idle
        try:
            link = self._take(idle) or self._open()
            try:
                yield link.connection
            except BaseException:
                link.connection.close()  # this undoes uncommitted changes
                raise
            idle.append(link)
        except (sqlite3.Error, OSError) as error:
            raise self._unavailable(error) from error

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection for an exclusive write transaction.

        No other thread or process writes while the ``with`` block runs. Its end commits the changes.

        Raises:
            StoreUnavailable: SQLite, or the file system below it, found a fault; nothing was changed.
        """
        # Threads queue at a lock of their own, so that only processes have to poll the lock of SQLite.
        writing = self._here().writing
        if not writing.acquire(timeout=self._patience):
            raise StoreUnavailable("The SQLite store is too busy: try again, or use Redis instead.")
        try:
            with self.connection() as connection:
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                connection.execute("COMMIT")
        finally:
            writing.release()

    def close(self) -> None:
        """Close the idle connections; a later call opens new ones."""
        here = self._here()
        _close_idle(here.idle, here.pid)

    def _here(self) -> _Process:
        if self._process.pid != os.getpid():
            self._process = _Process(self._process)
        return self._process

    def _take(self, idle: list[_Link]) -> _Link | None:
        """Return an idle connection to the file at the path.

        Connections to a file that was replaced are closed.
        """
        while link := _pop(idle):
            if self._place.is_current(link.files):
                return link
            self._place.leave(link.files)
            link.connection.close()
        return None

    def _open(self) -> _Link:
        for _ in range(_ATTEMPTS):
            link = self._link(self._place.prepare(make_folder=not self._opened))
            if link is not None:
                self._opened = True
                return link
        raise StoreUnavailable(f"The SQLite file {self._path} was replaced while it was opened: try again.")

    def _link(self, prepared: PreparedFiles) -> _Link | None:
        """Open the prepared files; return None if one of them was replaced in the meantime."""
        connection = sqlite3.connect(
            self._path, timeout=self._patience, isolation_level=None, check_same_thread=False
        )
        files = None
        try:
            self._prepare(connection)
            (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
            # SQLite has opened its own files by now, and no record was written to them.
            files = self._place.files_of(prepared, with_log=mode == "wal")
        finally:
            if files is None:
                self._place.discard(prepared)
                connection.close()
        return _Link(connection, files) if files else None

    def _prepare(self, connection: sqlite3.Connection) -> None:
        # With a write-ahead log, this is safe against crashes and needs only an occasional fsync.
        connection.execute("PRAGMA synchronous = NORMAL")
        version = self._version_of(connection)
        if version == 0:
            self._write_ahead(connection)
            connection.execute("BEGIN IMMEDIATE")
            for statement in self._schema:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {self._version}")
            connection.execute("COMMIT")
        elif version != self._version:
            raise StoreUnavailable(f"{self._path} is from another version of this package: move it away.")

    def _write_ahead(self, connection: sqlite3.Connection) -> None:
        """Let readers and the writer work at the same time."""
        deadline = time.monotonic() + self._patience
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                # SQLite itself does not wait here while another process creates the same file.
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    @staticmethod
    def _version_of(connection: sqlite3.Connection) -> int:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        return int(version)

    def _unavailable(self, error: sqlite3.Error | OSError) -> StoreUnavailable:
        name = getattr(error, "sqlite_errorname", "") or type(error).__name__
        cause = next((text for code, text in _CAUSES.items() if name.startswith(code)), "it cannot be used")
        return StoreUnavailable(f"The SQLite store {self._path} failed: {cause} ({name}).")


def _pop(idle: list[_Link]) -> _Link | None:
    try:
        return idle.pop()  # without a check before it: another thread may take the last one in between
    except IndexError:
        return None


def _close_idle(idle: list[_Link], pid: int) -> None:
    if pid != os.getpid():
        return  # a forked process must not close the connections of its parent
    while link := _pop(idle):
        link.connection.close()
