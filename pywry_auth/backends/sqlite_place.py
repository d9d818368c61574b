"""The path of an SQLite file: its safety, its creation and its replacement."""

from __future__ import annotations

import logging
import os
import stat
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pywry_auth.exceptions import StoreUnavailable
from pywry_auth.private_files import CHECKED, file_fault, folder_fault

if sys.platform != "win32":
    import fcntl

_logger = logging.getLogger("pywry_auth.backends")

_LOG = ("-wal", "-shm")  # SQLite keeps these as long as a connection is open
_BESIDE = (*_LOG, "-journal")

Identity = tuple[int, int]
"""The device and the inode of a file."""


@dataclass(frozen=True)
class OpenFiles:
    """The files that a connection has open.

    As long as it has them open, no other file gets their inodes.

    Args:
        main: The database.
        beside: The files beside it that SQLite uses, by the ends of their names.
    """

    main: Identity
    beside: Mapping[str, Identity]


@dataclass(frozen=True)
class PreparedFiles(OpenFiles):
    """The files that a new connection must open.

    Args:
        new: Whether the database contained nothing yet.
    """

    new: bool


class SQLitePlace:
    """The path of a database that only its owner may reach.

    No file is opened for a check. A process that closes any descriptor of a database loses all its locks on
    it, and with them those of SQLite (fcntl(2), "record locks").

    Args:
        path: The absolute path of the database.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def check(self, *, starting: bool = False) -> None:
        """Refuse files and a folder that other users can reach.

        Args:
            starting: Whether the process may still become another user, as a server that root starts does.

        Raises:
            StoreUnavailable: A file or the folder is not safe; the text contains the remedy.
        """
        if CHECKED and (fault := self._fault(any_owner=starting and os.geteuid() == 0)):
            raise StoreUnavailable(f"The SQLite store is not safe: {fault}.")

    def may_be_for_another_user(self) -> bool:
        """Return whether root started this process, and the file is not one of root."""
        if not CHECKED or os.geteuid() != 0:
            return False
        try:
            return os.lstat(self._path).st_uid != 0
        except OSError:
            return True

    def nearest(self) -> Path:
        """Return the folder of the database, or the nearest path above it that exists."""
        return next(path for path in self._path.parents if path.exists())

    def prepare(self, *, make_folder: bool) -> PreparedFiles:
        """Create the database if it is missing, and check it.

        If other users can create files in the folder, the files of the log are created too. Otherwise
        another user could create one of them before SQLite does, and read and write the records in it.

        Args:
            make_folder: Whether to create a missing folder with mode 0700.

        Returns:
            The files to open. A new database has no log yet, because SQLite removes one that it finds.

        Raises:
            StoreUnavailable: See :meth:`check`; or the folder was removed.
            OSError: A file cannot be created.
        """
        folder = self._path.parent
        if make_folder:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        elif not folder.is_dir():
            raise StoreUnavailable(
                f"The folder {folder} of the SQLite store was removed: put it back, or restart the program."
            )
        self.check()
        if _status(self._path) is None:
            with suppress(FileExistsError):
                _create(self._path)
            self.check()
        status = os.lstat(self._path)
        if status.st_size == 0 or not self._has_other_writers():
            return PreparedFiles(_identity(status), {}, status.st_size == 0)
        for end in _LOG:
            with suppress(FileExistsError):
                _create(self._named(end))
        self.check()
        return PreparedFiles(_identity(status), self._beside(_LOG), new=False)

    def files_of(self, prepared: PreparedFiles, *, with_log: bool) -> OpenFiles | None:
        """Return the files that a new connection has opened, and check them.

        Args:
            prepared: The result of :meth:`prepare` before the connection was opened.
            with_log: Whether the connection uses a write-ahead log.

        Returns:
            The files; None if one of them was replaced or removed in the meantime.

        Raises:
            StoreUnavailable: See :meth:`check`.
        """
        self.check()
        beside = self._beside(_BESIDE)
        if self._identity_of("") != prepared.main or not beside.items() >= prepared.beside.items():
            return None
        if CHECKED and with_log and not beside.keys() >= set(_LOG):
            return None
        return OpenFiles(prepared.main, beside)

    def discard(self, prepared: PreparedFiles) -> None:
        """Remove a new database that SQLite may have opened with the log of another user.

        SQLite would copy that log into the database when the connection is closed. It does not do so if the
        database was removed. Call this before the connection is closed.

        Args:
            prepared: The result of :meth:`prepare` before the connection was opened.
        """
        if not CHECKED or not prepared.new:
            return
        with suppress(OSError):
            status = os.lstat(self._path)
            without_log = status.st_size > 0 and not self._beside(_LOG).keys() >= set(_LOG)
            if _identity(status) == prepared.main and (without_log or self._fault()):
                self._path.unlink()

    def is_current(self, files: OpenFiles) -> bool:
        """Return whether the path still leads to the database of a connection.

        Args:
            files: The files of the connection.

        Raises:
            StoreUnavailable: It does, but the log of the database was removed or replaced. A connection with
                another log would lose records or damage the database.
            OSError: The folder cannot be read at present.
        """
        if self._identity_of("") != files.main:
            return False
        if any(self._identity_of(end) != files.beside[end] for end in _LOG if end in files.beside):
            raise StoreUnavailable(
                f"The log (-wal, -shm) of the SQLite file {self._path} was removed while in use: stop all"
                " programs that use the file, without force, and start them again. The last one that stops"
                " saves the records."
            )
        return True

    def leave(self, files: OpenFiles) -> None:
        """Remove what a replaced database left beside the new one.

        SQLite would take the log of the old database for that of the new one. The connection to the old
        database must still be open, so that the identity of its files is certain.

        Args:
            files: The files of the connection.
        """
        _logger.warning(
            "the SQLite file %s was replaced or removed while it was in use, and is opened again: stop all"
            " processes before you replace it",
            self._path,
        )
        if not CHECKED:
            return  # Windows does not replace files that are open
        with suppress(OSError), _alone_in(self._path.parent):
            for end, identity in files.beside.items():
                if self._identity_of(end) == identity:
                    self._named(end).unlink()

    def unwritable(self) -> list[Path]:
        """Return the files of the database that exist and that this user cannot write."""
        return [path for path in self._files() if path.exists() and not os.access(path, os.W_OK)]

    def _fault(self, *, any_owner: bool = False) -> str:
        found = [(path, status) for path in self._files() if (status := _status(path)) is not None]
        if found and found[0][0] == self._path and stat.S_ISDIR(found[0][1].st_mode):
            return (
                f"{self._path} is a folder; write the name of a file in it to PYWRY_DEPLOY__SQLITE_PATH (in "
                f"code, path=), such as {self._path / 'state.sqlite3'}"
            )
        faults = [file_fault(path, status, any_owner=any_owner) for path, status in found]
        faults.append(folder_fault(self._path.parent, any_owner=any_owner))
        return "; and ".join(filter(None, faults))

    def _has_other_writers(self) -> bool:
        """Return whether other users can create files in the folder, as in ``/tmp``."""
        return CHECKED and bool(self._path.parent.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH))

    def _beside(self, ends: tuple[str, ...]) -> dict[str, Identity]:
        found = {end: self._identity_of(end) for end in ends}
        return {end: identity for end, identity in found.items() if identity}

    def _files(self) -> list[Path]:
        return [self._named(end) for end in ("", *_BESIDE)]

    def _named(self, end: str) -> Path:
        return self._path.with_name(self._path.name + end)

    def _identity_of(self, end: str) -> Identity | None:
        try:
            return _identity(os.lstat(self._named(end)))
        except (FileNotFoundError, NotADirectoryError):
            return None


def _create(path: Path) -> None:
    # SQLite would take the mode from the umask. The files that it creates beside this one copy its mode.
    if sys.platform == "linux":
        os.mknod(
            path, stat.S_IFREG | 0o600
        )  # opens nothing: another thread may have locks on the file by now
    else:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


def _status(path: Path) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except FileNotFoundError:
        return None


def _identity(status: os.stat_result) -> Identity:
    return status.st_dev, status.st_ino


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder, so that two processes do not remove files at the same time."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        if sys.platform != "win32":
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
