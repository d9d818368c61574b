"""One SQLite file for many threads and processes.

This module handles its connections, transactions and faults.
"""

from __future__ import annotations

import os
import shlex
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
from pywry_auth.per_process import PerProcess
from pywry_auth.private_files import cause_of, place_fault

_CAUSES = {
    "SQLITE_BUSY": "other processes kept it locked",
    "SQLITE_CANTOPEN": "it cannot be opened",
    "SQLITE_CORRUPT": "it is damaged; move it away, and a new one will be created",
    "SQLITE_FULL": "the disk is full",
    **dict.fromkeys(("SQLITE_IOERR_SHMSIZE", "SQLITE_IOERR_WRITE"), "the disk or a quota is full"),
    **dict.fromkeys(("SQLITE_IOERR_SHM", "SQLITE_PROTOCOL"), "its file system cannot share memory or locks"),
    **dict.fromkeys(("SQLITE_IOERR_LOCK", "SQLITE_IOERR_RDLOCK"), "its file system has no locks"),
    "SQLITE_IOERR": "its disk or its network file system failed",
    "SQLITE_NOTADB": "it is no SQLite database; move it away, and a new one will be created",
    "SQLITE_READONLY": "it cannot be written to",
}
_OF_ACCESS = ("SQLITE_READONLY", "SQLITE_CANTOPEN")
_OF_THE_FILE = ("SQLITE_CORRUPT", "SQLITE_NOTADB")  # another place would not help
_NAME_ANOTHER = (
    "Set PYWRY_DEPLOY__SQLITE_PATH (in code, path=) to the whole path of a file on a local disk that this"
    " user can write"
)
_REMEDIES = {
    **dict.fromkeys(("(ENOSPC)", "(EDQUOT)"), "Make room there"),
    "(EFBIG)": "Raise the limit, for example with ulimit -f or LimitFSIZE= of systemd",
    **dict.fromkeys(("(EMFILE)", "(ENFILE)"), "Raise the limit of open files"),
}
"""The remedies for causes that another place does not help against, by the end of the cause."""

_ATTEMPTS = 3  # to open a file that is replaced at the same moment


@dataclass(eq=False)
class _Link:
    """A connection, and the files that it has open."""

    connection: sqlite3.Connection
    files: OpenFiles
    lasting: bool = True  # whether it can write; another one is opened as soon as the files are writable
    left: bool = False  # whether its files were replaced, and the rest of them was removed


class _Links:
    """The connections of one process to a file."""

    def __init__(self) -> None:
        self._idle: list[_Link] = []
        self._open: list[_Link] = []
        self._lock = threading.Lock()  # guards the open ones: a connection in this list is not closed yet

    def add(self, link: _Link) -> None:
        """Add a new connection, which is not idle."""
        with self._lock:
            self._open.append(link)

    def take(self) -> _Link | None:
        """Return an idle connection, which is not idle any more."""
        try:
            return self._idle.pop()  # without a check before it: another thread may take the last one
        except IndexError:
            return None

    def give_back(self, link: _Link) -> None:
        """Make a connection idle."""
        self._idle.append(link)

    def close(self, link: _Link) -> None:
        """Close a connection that is not idle."""
        with self._lock:
            self._open.remove(link)
            link.connection.close()

    def close_idle(self, pid: int) -> None:
        """Close the idle connections of a process."""
        if pid != os.getpid():
            return  # a forked process must not close the connections of its parent
        while link := self.take():
            self.close(link)

    def leave_replaced(self, place: SQLitePlace) -> None:
        """Remove what replaced databases left beside the new one, also those that threads still use."""
        with self._lock:
            for link in self._open:
                if not link.left and not place.is_current(link.files):
                    place.leave(link.files)
                    link.left = True


class _Process:
    """The connections and the write lock of one process.

    The idle connections are closed when the file is no longer used or the interpreter exits.
    """

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.links = _Links()
        self.writing = threading.Lock()
        # From Python 3.13 on, a connection that is collected before it is closed raises a ResourceWarning.
        weakref.finalize(self, self.links.close_idle, self.pid)


class SQLiteFile:
    """A database file that only its owner can read.

    The file is opened at the first use. Each process opens its own connections. A connection serves one
    thread at a time and is kept for the next one.

    A file that other users can reach is refused: when this object is created, and each time that the file is
    opened. A file or a log that was replaced or removed is noticed when an idle connection is taken. The
    path is then opened again. Files that cannot be written can still be read.

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
        # SQLite forbids a forked process to use or close its parent's connections: they stay untouched.
        self._here = PerProcess(_Process)
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
        links = self._here().links
        try:
            link = self._take(links) or self._open(links)
            try:
                yield link.connection
            except BaseException:
                links.close(link)  # this undoes uncommitted changes
                raise
            links.give_back(link) if link.lasting else links.close(link)
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
            raise StoreUnavailable(
                "The SQLite store is too busy: try again, or use Redis or PostgreSQL instead."
            )
        try:
            with self.connection() as connection:
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                connection.execute("COMMIT")
        finally:
            writing.release()

    def may_be_for_another_user(self) -> bool:
        """Return whether this process may become the user of the file only later.

        A process that has opened the file is its user already.
        """
        return not self._opened and self._place.may_be_for_another_user()

    def check_place(self) -> None:
        """Check that files can be created in the folder; create none that stays.

        Raises:
            StoreUnavailable: The folder cannot be used, or a file is not safe.
        """
        try:
            self._place.check(starting=True)
        except OSError as error:
            raise self._unavailable(error) from error
        if fault := place_fault(self._place.nearest()):
            raise self._misplaced(fault)

    def close(self) -> None:
        """Close the idle connections; a later call opens new ones."""
        here = self._here()
        here.links.close_idle(here.pid)

    def _take(self, links: _Links) -> _Link | None:
        """Return an idle connection to the file at the path.

        Connections to a file that was replaced are closed.
        """
        while link := links.take():
            try:
                current = self._place.is_current(link.files)
            except (OSError, StoreUnavailable):
                links.give_back(link)
                raise
            if current:
                return link
            links.leave_replaced(self._place)
            links.close(link)
        return None

    def _open(self, links: _Links) -> _Link:
        for _ in range(_ATTEMPTS):
            links.leave_replaced(self._place)
            link = self._link(self._place.prepare(make_folder=not self._opened))
            if link is not None:
                self._opened = True
                links.add(link)
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
        return _Link(connection, files, not self._place.unwritable()) if files else None

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
        if isinstance(error, OSError):
            return self._misplaced(cause_of(error))
        name = getattr(error, "sqlite_errorname", "") or type(error).__name__
        if not name.startswith(_OF_THE_FILE) and (fault := place_fault(self._path.parent)):
            return self._misplaced(fault)  # SQLite reports a file system without locks as a busy database
        if name.startswith(_OF_ACCESS) and (paths := self._place.unwritable()):
            return self._closed(paths, name)
        cause = next((text for code, text in _CAUSES.items() if name.startswith(code)), "it cannot be used")
        if name.startswith(("SQLITE_IOERR", "SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PROTOCOL")):
            return self._misplaced(f"{cause} ({name})")
        remedy = " Make room there." if name == "SQLITE_FULL" else ""
        return StoreUnavailable(f"The SQLite store {self._path} failed: {cause} ({name}).{remedy}")

    def _closed(self, paths: list[Path], name: str) -> StoreUnavailable:
        command = f"chmod 600 {' '.join(shlex.quote(str(path)) for path in paths)}"
        return StoreUnavailable(
            f"The SQLite store {self._path} failed: this user cannot write all of its files ({name}). Mount"
            f" their file system for writing, or permit it: {command}."
        )

    def _misplaced(self, cause: str) -> StoreUnavailable:
        remedy = next((text for end, text in _REMEDIES.items() if cause.endswith(end)), _NAME_ANOTHER)
        return StoreUnavailable(f"The SQLite store {self._path} failed: {cause}. {remedy}.")
